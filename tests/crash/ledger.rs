//! What a client knows: for each piece of the volume every version that it wrote, and which of them it was promised.

use envol::block::record::Moment;

use crate::image::{Content, PIECE, bytes_of};

const NEVER: Moment = Moment::MAX;

#[derive(Debug, Clone)]
struct Version {
    content: Content,
    issued: Moment,
    /// When it was answered; never, where that was a failure.
    acked: Moment,
    /// When a sync was answered that covers it.
    covered: Moment,
}

/// The versions of each piece, in the order in which they took each other's place.
#[derive(Debug, Clone)]
pub struct Ledger(Vec<Vec<Version>>);

/// A piece that holds what it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Older than what was promised.
    Lost { piece: u64 },
    /// Nothing that was ever there.
    Outside { piece: u64 },
}

/// How an operation was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Cached(Moment),
    Durable(Moment),
    Failed,
}

impl Ledger {
    /// A new volume of `pieces`, all zeros.
    pub fn new(pieces: u64) -> Self {
        let zeros = Version { content: None, issued: 0, acked: 0, covered: 0 };
        Self(vec![vec![zeros]; pieces as usize])
    }

    /// What the client knew at `at`.
    pub fn until(&self, at: Moment) -> Self {
        let known = |when: Moment| if when <= at { when } else { NEVER };
        let version = |version: &Version| Version {
            acked: known(version.acked),
            covered: known(version.covered),
            ..version.clone()
        };
        let begun =
            |versions: &Vec<Version>| versions.iter().filter(|version| version.issued <= at).map(version).collect();
        Self(self.0.iter().map(begun).collect())
    }

    /// What the piece holds now.
    pub fn latest(&self, piece: u64) -> &Content {
        &self.0[piece as usize].last().expect("there is a first version").content
    }

    pub fn wrote(&mut self, piece: u64, content: Content, issued: Moment, answer: Answer) {
        let (acked, covered) = match answer {
            Answer::Cached(at) => (at, NEVER),
            Answer::Durable(at) => (at, at),
            Answer::Failed => (NEVER, NEVER),
        };
        self.0[piece as usize].push(Version { content, issued, acked, covered });
    }

    /// A sync was issued and answered well: it covers what had been answered when it was issued.
    pub fn synced(&mut self, issued: Moment, answered: Moment) {
        let all = self.0.iter_mut().flatten();
        all.filter(|version| version.acked < issued)
            .for_each(|version| version.covered = version.covered.min(answered));
    }

    /// Whether the volume may read as `plain` after a cut at `at`. Pieces that `excused` names may hold anything.
    pub fn judge(&self, at: Moment, plain: &[u8], excused: impl Fn(u64) -> bool) -> Result<(), Broken> {
        for (versions, (number, bytes)) in self.0.iter().zip(plain.chunks(PIECE).enumerate()) {
            let piece = number as u64;
            if excused(piece) {
                continue;
            }
            let floor = versions.iter().rposition(|version| version.covered <= at).expect("the first is covered");
            let is_it = |version: &&Version| version.issued <= at && bytes_of(&version.content) == bytes;
            if !versions[floor..].iter().any(|version| is_it(&version)) {
                let was_once = versions[..floor].iter().any(|version| is_it(&version));
                return Err(if was_once { Broken::Lost { piece } } else { Broken::Outside { piece } });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::content;

    #[test]
    fn what_was_promised_must_be_there_and_what_was_tried_may_be() {
        let mut ledger = Ledger::new(1);
        let piece = |byte| content(&[byte; PIECE]);
        ledger.wrote(0, piece(1), 1, Answer::Cached(2));
        ledger.synced(3, 4);
        ledger.wrote(0, piece(2), 5, Answer::Cached(6));
        let judged = |at, byte| ledger.judge(at, &[byte; PIECE], |_| false);
        assert_eq!(judged(3, 0), Ok(()), "the sync has not been answered");
        assert_eq!(judged(4, 0), Err(Broken::Lost { piece: 0 }));
        assert_eq!([judged(4, 1), judged(6, 1), judged(6, 2)], [Ok(()); 3]);
        assert_eq!(judged(4, 2), Err(Broken::Outside { piece: 0 }), "it had not been issued");
        assert_eq!(judged(6, 3), Err(Broken::Outside { piece: 0 }));
        assert_eq!(ledger.judge(6, &[3; PIECE], |_| true), Ok(()));
    }
}
