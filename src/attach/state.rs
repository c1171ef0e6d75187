//! The states of a volume, each with its data, and the one table of the ways between them (LIFECYCLE.md).

use super::attachment::Attachment;
use super::detach::Ending;
use super::{LastRefusal, State};
use crate::sync::Arc;

/// Where a volume is in its life.
pub(super) enum Phase {
    /// Nobody holds it.
    Idle {
        /// Why the last attach failed, if it did.
        refusal: Option<LastRefusal>,
    },
    /// One caller has it to itself and has not made it usable (yet).
    Busy {
        /// What for.
        work: Work,
        /// As in `Idle`, kept while a re-attach is tried again.
        refusal: Option<LastRefusal>,
    },
    /// Its keys are in memory and its export can be used.
    Attached(Arc<Attachment>),
    /// No new request is let in; ends when the last system call has returned.
    Detaching {
        /// What is being closed.
        attachment: Arc<Attachment>,
        /// Where its end is told.
        ending: Arc<Ending>,
    },
}

/// What a caller has a volume to itself for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Creating,
    Adding,
    Attaching,
    Reattaching,
    /// A re-attach whose wish was withdrawn while it was under way, or the withdrawing itself.
    LettingGo,
    Examining,
    Filling,
    Rewrapping,
    Restoring,
    Deleting,
    Forgetting,
}

/// A step from one phase to the next.
pub(super) enum Step {
    /// Somebody wants it to himself.
    Begin(Work),
    /// What was begun has ended without an attachment.
    Release,
    /// An attach was refused; the volume stays with whoever has it.
    Refuse(LastRefusal),
    /// An attach has succeeded.
    Open(Arc<Attachment>),
    /// A detach has begun.
    Drain(Arc<Ending>),
    /// The last system call has returned, the backing is unlocked.
    Close,
    /// A re-attach that is under way is not wanted any more: it ends without an attachment.
    LetGo,
}

/// Why a step cannot be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conflict {
    Busy(Work),
    Attached,
    Detaching,
    NotAttached,
}

impl Phase {
    /// A volume known from its record.
    pub(super) const fn idle() -> Self {
        Self::Idle { refusal: None }
    }

    /// The transition table. On a conflict nothing changes.
    pub(super) fn step(&mut self, step: Step) -> Result<(), Conflict> {
        let next = match (&*self, step) {
            (Self::Idle { refusal }, Step::Begin(work)) => Self::Busy { work, refusal: work.keeps(refusal.as_ref()) },
            (Self::Idle { .. }, Step::Refuse(refusal)) => Self::Idle { refusal: Some(refusal) },
            (Self::Busy { refusal, .. }, Step::Release) => Self::Idle { refusal: refusal.clone() },
            (Self::Busy { work: Work::Reattaching, .. }, Step::LetGo) => {
                Self::Busy { work: Work::LettingGo, refusal: None }
            }
            (Self::Busy { work, .. }, Step::Refuse(refusal)) if *work != Work::LettingGo => {
                Self::Busy { work: *work, refusal: Some(refusal) }
            }
            (Self::Busy { work: Work::Attaching | Work::Reattaching, .. }, Step::Open(it)) => Self::Attached(it),
            (Self::Attached(it), Step::Drain(ending)) => Self::Detaching { attachment: Arc::clone(it), ending },
            (Self::Detaching { .. }, Step::Close) => Self::idle(),
            (here, _) => return Err(here.conflict()),
        };
        *self = next;
        Ok(())
    }

    fn conflict(&self) -> Conflict {
        match self {
            Self::Idle { .. } => Conflict::NotAttached,
            Self::Busy { work, .. } => Conflict::Busy(*work),
            Self::Attached(_) => Conflict::Attached,
            Self::Detaching { .. } => Conflict::Detaching,
        }
    }

    /// The attachment, also while it is being closed.
    pub(super) fn attachment(&self) -> Option<&Arc<Attachment>> {
        match self {
            Self::Attached(attachment) | Self::Detaching { attachment, .. } => Some(attachment),
            Self::Idle { .. } | Self::Busy { .. } => None,
        }
    }

    /// Why the last attach failed; `None` while an operator's attach is under way, which clears it.
    pub(super) fn refusal(&self) -> Option<&LastRefusal> {
        match self {
            Self::Idle { refusal } | Self::Busy { refusal, .. } => refusal.as_ref(),
            Self::Attached(_) | Self::Detaching { .. } => None,
        }
    }

    /// The word of the API; a volume that only one caller looks at stays available to read about.
    pub(super) fn word(&self) -> State {
        match self {
            Self::Idle { .. } => State::Available,
            Self::Busy { work, .. } => match work {
                Work::Creating | Work::Adding => State::Creating,
                Work::Attaching | Work::Reattaching => State::Attaching,
                Work::LettingGo => State::Detaching,
                Work::Filling => State::InUse,
                Work::Examining | Work::Rewrapping | Work::Restoring | Work::Deleting | Work::Forgetting => {
                    State::Available
                }
            },
            Self::Attached(attachment) if attachment.has_failed() => State::Error,
            Self::Attached(_) => State::InUse,
            Self::Detaching { .. } => State::Detaching,
        }
    }
}

impl Work {
    /// What is left of the last refusal when this begins: an operator's attach clears it, and so does letting go.
    fn keeps(self, refusal: Option<&LastRefusal>) -> Option<LastRefusal> {
        refusal.filter(|_| !matches!(self, Self::Attaching | Self::LettingGo)).cloned()
    }

    /// As a message says it: "the volume is ...".
    pub(super) const fn doing(self) -> &'static str {
        match self {
            Self::Creating => "being created",
            Self::Adding => "being added",
            Self::Attaching => "being attached",
            Self::Reattaching => "being attached again",
            Self::LettingGo => "being let go",
            Self::Examining => "being examined",
            Self::Filling => "being filled",
            Self::Rewrapping => "being put under another key",
            Self::Restoring => "having its header restored",
            Self::Deleting => "being deleted",
            Self::Forgetting => "being forgotten",
        }
    }

    /// Whether the volume is not known here unless this succeeds.
    pub(super) const fn is_birth(self) -> bool {
        matches!(self, Self::Creating | Self::Adding)
    }
}

#[cfg(test)]
mod tests {
    use super::super::attachment::tests::an_attachment;
    use super::*;

    fn refusal() -> LastRefusal {
        let cause = "it is disabled.".to_owned();
        LastRefusal { time: std::time::SystemTime::UNIX_EPOCH, cause, kms_exception: None, retrying: false }
    }

    fn phases() -> [(&'static str, Phase); 5] {
        let attachment = an_attachment();
        let ending = Arc::new(Ending::new(Arc::clone(&attachment)));
        [
            ("idle", Phase::Idle { refusal: None }),
            ("attaching", Phase::Busy { work: Work::Attaching, refusal: None }),
            ("deleting", Phase::Busy { work: Work::Deleting, refusal: None }),
            ("attached", Phase::Attached(Arc::clone(&attachment))),
            ("detaching", Phase::Detaching { attachment, ending }),
        ]
    }

    fn steps() -> [(&'static str, Step); 6] {
        let attachment = an_attachment();
        let ending = Arc::new(Ending::new(Arc::clone(&attachment)));
        [
            ("begin", Step::Begin(Work::Deleting)),
            ("release", Step::Release),
            ("refuse", Step::Refuse(refusal())),
            ("open", Step::Open(attachment)),
            ("drain", Step::Drain(ending)),
            ("close", Step::Close),
        ]
    }

    #[test]
    fn every_step_that_is_not_in_the_table_is_a_conflict_and_changes_nothing() {
        let allowed = [
            ("idle", "begin"),
            ("idle", "refuse"),
            ("attaching", "release"),
            ("attaching", "refuse"),
            ("attaching", "open"),
            ("deleting", "release"),
            ("deleting", "refuse"),
            ("attached", "drain"),
            ("detaching", "close"),
        ];
        for (step_name, _) in steps() {
            for (name, mut phase) in phases() {
                let (_, step) = steps().into_iter().find(|(other, _)| *other == step_name).expect("listed");
                let before = phase.conflict();
                let outcome = phase.step(step);
                assert_eq!(outcome.is_ok(), allowed.contains(&(name, step_name)), "{step_name} of {name}");
                if let Err(conflict) = outcome {
                    assert_eq!(conflict, before);
                    assert_eq!(phase.conflict(), before);
                }
            }
        }
    }

    #[test]
    fn an_operators_attach_clears_the_last_refusal_and_a_retry_keeps_it() {
        for (work, kept) in [(Work::Attaching, false), (Work::Reattaching, true), (Work::Examining, true)] {
            let mut phase = Phase::Idle { refusal: Some(refusal()) };
            phase.step(Step::Begin(work)).expect("idle");
            assert_eq!(phase.refusal().is_some(), kept, "{work:?}");
            phase.step(Step::Release).expect("busy");
            assert_eq!(phase.refusal().is_some(), kept, "{work:?}");
        }
    }
}
