//! The way down: seal, drain, close sessions, flush, wipe, unlock.
//!
//! Two threads share it. The *closer* does the steps in order and may be held up by the disk for ever; whoever waits for
//! the detach ([`Ending::wait`]) wipes the keys and closes the sessions at the deadline, whatever the disk does. The
//! volume stays `detaching` until the closer is through, since a write that hangs in the kernel may still land. No KMS
//! is called on this way.

use std::io;
use std::time::{Duration, Instant};

use super::attachment::{Attachment, Sealing};
use super::events::{Event, Happening};
use super::state::{Conflict, Phase, Step, Work};
use super::{AttachError, Force, Registry, VolumeRef, VolumeView};
use crate::block::BlockError;
use crate::names::VolumeId;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Condvar, Mutex, thread};
use crate::volume::{Condition, Wanted};

/// Where the end of a detach is told, to all who wait for it.
pub(super) struct Ending {
    attachment: Arc<Attachment>,
    outcome: Mutex<Option<Outcome>>,
    told: Condvar,
    /// An event has said that it was stuck.
    missed: AtomicBool,
}

/// How a detach ended.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// In order.
    Done,
    /// Keys wiped, sessions closed, but the backing has not answered yet.
    Stuck,
    /// Detached; what the last flush should have made durable may be lost.
    FlushFailed(BlockError),
    /// Detached; that could not be written down.
    Unrecorded(Arc<io::Error>),
}

/// Whether the volume is wanted attached after this detach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Afterwards {
    /// Somebody detached it.
    Unwanted,
    /// The daemon stops; the next one attaches it again.
    AsBefore,
}

impl Ending {
    pub(super) const fn new(attachment: Arc<Attachment>) -> Self {
        Self { attachment, outcome: Mutex::new(None), told: Condvar::new(), missed: AtomicBool::new(false) }
    }

    /// How it ends; at `deadline` the keys are wiped and the sessions closed, and the answer is [`Outcome::Stuck`].
    pub(super) fn wait(&self, deadline: Instant) -> Outcome {
        let unknown = |outcome: &mut Option<Outcome>| outcome.is_none();
        let outcome = self.told.wait_while_until(self.outcome.lock(), deadline, unknown);
        if let Some(outcome) = &*outcome {
            return outcome.clone();
        }
        drop(outcome);
        self.attachment.cut();
        self.tell(Outcome::Stuck)
    }

    /// Whether this caller is the first to say that the end has not come in time.
    fn first_to_miss(&self) -> bool {
        !self.missed.swap(true, Ordering::Relaxed)
    }

    /// Tells how it ended, unless that was told before; answers what stands.
    fn tell(&self, outcome: Outcome) -> Outcome {
        let told = self.outcome.lock().get_or_insert(outcome).clone();
        self.told.notify_all();
        told
    }
}

impl Outcome {
    fn into_result(self, attachment: &Attachment) -> Result<(), AttachError> {
        let name = attachment.parts.record.name.clone();
        match self {
            Self::Done => Ok(()),
            Self::Stuck => Err(AttachError::StillDetaching(name)),
            Self::FlushFailed(source) => Err(AttachError::FlushFailed { name, source }),
            Self::Unrecorded(source) => Err(AttachError::Unrecorded { name, source }),
        }
    }
}

impl Registry {
    /// Detaches: drains, flushes, wipes. One that comes while another is under way reports the other's result. Of a
    /// volume that is waiting to be attached again after a restart, it withdraws the wish.
    ///
    /// # Errors
    /// A connected client ([`Force::No`]), a volume that is not attached, a backing that does not answer, a failed flush.
    pub fn detach(&self, volume: &VolumeRef, force: Force) -> Result<VolumeView, AttachError> {
        let id = self.resolve(volume)?;
        let deadline = Instant::now() + self.settings.drain_deadline;
        let grace = Instant::now() + self.settings.detach_grace;
        let ending = loop {
            match self.begin_detach(&id, force, Afterwards::Unwanted)? {
                Begun::Ending(ending) => break ending,
                Begun::Withdrawn => return self.view_of(&id),
                Begun::InUse(attachment, clients) => {
                    if !attachment.wait_unused(grace) {
                        let name = attachment.parts.record.name.clone();
                        return Err(AttachError::Connected { name, clients });
                    }
                }
            }
        };
        self.wait_for(&ending, deadline).into_result(&ending.attachment)?;
        self.view_of(&id)
    }

    /// Drains, flushes and wipes everything; what was wanted attached stays wanted. Ends by `deadline`.
    pub fn shut_down(&self, deadline: Instant) {
        self.stop.set();
        let endings: Vec<Arc<Ending>> = self
            .attached()
            .iter()
            .filter_map(|attachment| {
                match self.begin_detach(&attachment.parts.record.id, Force::Yes, Afterwards::AsBefore) {
                    Ok(Begun::Ending(ending)) => Some(ending),
                    Ok(Begun::Withdrawn | Begun::InUse(..)) | Err(_) => None,
                }
            })
            .chain(self.endings())
            .collect();
        // The keys go first, the process after them.
        let wipe_by = deadline.checked_sub(Duration::from_millis(250)).unwrap_or(deadline);
        for ending in endings {
            let outcome = self.wait_for(&ending, wipe_by);
            if !matches!(outcome, Outcome::Done) {
                let volume = &ending.attachment.parts.record.name;
                tracing::error!(%volume, ?outcome, "a volume was not detached in order");
            }
        }
    }

    /// As [`Ending::wait`]; a detach that is stuck is an event, once.
    fn wait_for(&self, ending: &Ending, deadline: Instant) -> Outcome {
        let outcome = ending.wait(deadline);
        if matches!(outcome, Outcome::Stuck) && ending.first_to_miss() {
            self.report_detached(&ending.attachment, &outcome);
        }
        outcome
    }

    /// Seals the volume and starts its closer, in one step as others see it.
    fn begin_detach(&self, id: &VolumeId, force: Force, afterwards: Afterwards) -> Result<Begun, AttachError> {
        let mut table = self.table.lock();
        let entry = table.entry_mut(id)?;
        let attachment = match &entry.phase {
            Phase::Attached(attachment) => Arc::clone(attachment),
            Phase::Detaching { ending, .. } => return Ok(Begun::Ending(Arc::clone(ending))),
            Phase::Idle { .. } if entry.record.wanted != Wanted::Detached => {
                let claim = self.claim_in(&mut table, id, Work::LettingGo)?;
                drop(table);
                self.withdraw(id)?;
                drop(claim);
                return Ok(Begun::Withdrawn);
            }
            Phase::Busy { work: Work::Reattaching, .. } => {
                let step = entry.phase.step(Step::LetGo);
                step.expect("a re-attach can be let go, and the table was locked since it was seen");
                drop(table);
                return self.withdraw(id).map(|()| Begun::Withdrawn);
            }
            Phase::Idle { .. } | Phase::Busy { work: Work::LettingGo, .. } => {
                return Err(entry.conflict(Conflict::NotAttached));
            }
            Phase::Busy { work, .. } => return Err(entry.conflict(Conflict::Busy(*work))),
        };
        let sealing = if force == Force::Yes { Sealing::Anyway } else { Sealing::IfUnused };
        if let Err(clients) = attachment.seal(sealing) {
            return Ok(Begun::InUse(attachment, clients));
        }
        let ending = Arc::new(Ending::new(attachment));
        let step = entry.phase.step(Step::Drain(Arc::clone(&ending)));
        step.expect("an attached volume can be drained, and the table was locked since it was seen attached");
        drop(table);
        self.start_closer(Arc::clone(&ending), afterwards);
        Ok(Begun::Ending(ending))
    }

    fn start_closer(&self, ending: Arc<Ending>, afterwards: Afterwards) {
        let (registry, for_thread) = (self.myself(), Arc::clone(&ending));
        let closer = thread::Builder::new().name("envol-detach".into());
        let closing = closer.spawn(move || registry.close(&for_thread, afterwards));
        if let Err(error) = closing {
            // Without a thread the caller's own does it: late is better than never.
            tracing::warn!(%error, "no thread to detach on");
            self.close(&ending, afterwards);
        }
    }

    /// The closer: every step of the way down, in order.
    fn close(&self, ending: &Ending, afterwards: Afterwards) {
        let attachment = &*ending.attachment;
        attachment.wait_drained();
        attachment.close_sessions();
        let flushed = if attachment.parts.read_only { Ok(()) } else { attachment.flush() };
        attachment.cut();
        attachment.parts.claim.close();
        let recorded = self.record_detached(attachment, flushed.is_ok() && !attachment.has_failed(), afterwards);
        let outcome = match (flushed, recorded) {
            (Err(error), _) => Outcome::FlushFailed(error),
            (Ok(()), Err(error)) => Outcome::Unrecorded(Arc::new(error)),
            (Ok(()), Ok(())) => Outcome::Done,
        };
        // Told before the volume is free, so that nothing which happens to it next is told earlier.
        self.report_detached(attachment, &outcome);
        let id = &attachment.parts.record.id;
        let closed = self.table.lock().entry_mut(id).map(|entry| entry.phase.step(Step::Close));
        debug_assert!(matches!(closed, Ok(Ok(()))), "a volume stays detaching until its closer is through");
        ending.tell(outcome);
    }

    fn record_detached(&self, attachment: &Attachment, in_order: bool, afterwards: Afterwards) -> io::Result<()> {
        self.update_record(&attachment.parts.record.id, |record| {
            if !attachment.parts.read_only {
                record.condition = if in_order { Condition::Clean } else { Condition::Failed };
            }
            if afterwards == Afterwards::Unwanted {
                record.wanted = Wanted::Detached;
            }
        })
    }

    fn report_detached(&self, attachment: &Attachment, outcome: &Outcome) {
        let record = &attachment.parts.record;
        let failure = match outcome {
            Outcome::Done => None,
            Outcome::Stuck => Some(AttachError::StillDetaching(record.name.clone()).to_string()),
            Outcome::FlushFailed(error) => Some(error.to_string()),
            Outcome::Unrecorded(error) => Some(error.to_string()),
        };
        match &failure {
            None => tracing::info!(volume = %record.name, id = %record.id, "detached; its keys are wiped"),
            Some(error) => {
                tracing::error!(volume = %record.name, id = %record.id, %error, "its keys are wiped, but it is not detached in order")
            }
        }
        let (happening, failure) = (Happening::DetachVolume, failure.as_deref());
        // The key may be another one than at the attach: a rewrap does not wait for a detach.
        let key = self.record_of(&record.id).map_or_else(|_| record.key.clone(), |now| now.key);
        self.events.record(&Event { happening, volume: &record.id, key: Some(&key), failure });
    }

    /// The wish to see it attached again after a restart is no more. The volume is being let go, so no re-attach that
    /// is under way becomes an attachment behind our back.
    fn withdraw(&self, id: &VolumeId) -> Result<(), AttachError> {
        self.update_record(id, |record| record.wanted = Wanted::Detached).map_err(|source| self.state_error(source))?;
        if let Ok(entry) = self.table.lock().entry_mut(id) {
            entry.awaited = false;
        }
        Ok(())
    }
}

/// What [`Registry::begin_detach`] found.
enum Begun {
    Ending(Arc<Ending>),
    Withdrawn,
    InUse(Arc<Attachment>, Vec<String>),
}
