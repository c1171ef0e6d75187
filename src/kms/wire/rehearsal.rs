//! What a KMS under load does to its clients, to be rehearsed: answers that take their time, and requests that are refused
//! because there are too many. Off unless configured.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::sync::atomic::{AtomicU64, Ordering};

/// What is rehearsed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// How long every request waits before it is looked at.
    pub delay: Duration,
    /// Which of the requests is refused: every second, third, ... one.
    pub throttle_every: Option<NonZeroU64>,
}

/// How many requests there were.
#[derive(Default)]
pub(super) struct Counted(AtomicU64);

impl Counted {
    /// Counts a request; whether it is one that `rehearsal` has refused.
    pub(super) fn is_throttled(&self, rehearsal: &Rehearsal) -> bool {
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        rehearsal.throttle_every.is_some_and(|every| number.is_multiple_of(every.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_requests_are_refused_as_is_said() {
        let refused = |every| {
            let (counted, every) = (Counted::default(), NonZeroU64::new(every));
            let rehearsal = Rehearsal { throttle_every: every, ..Rehearsal::default() };
            (0..12).filter(|_| counted.is_throttled(&rehearsal)).count()
        };
        assert_eq!([0, 1, 2, 3, 5].map(refused), [0, 12, 6, 4, 2]);
    }
}
