//! One value from a thread that may be left behind: the receiver waits until a deadline and not longer.
//!
//! Exactly one side ends up with the value. Where the receiver has given up, [`Sender::deliver`] hands it back, and the
//! sending thread undoes what it did by dropping it.

use std::time::Instant;

use crate::sync::{Arc, Condvar, Mutex};

enum Slot<T> {
    Waiting,
    Here(T),
    Abandoned,
    Lost,
}

struct Shared<T> {
    slot: Mutex<Slot<T>>,
    news: Condvar,
}

/// The side of the thread that works.
pub(super) struct Sender<T>(Arc<Shared<T>>);

/// The side that waits.
pub(super) struct Receiver<T>(Arc<Shared<T>>);

/// Why nothing came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undelivered {
    /// Not by the deadline; the sender will find that out.
    TimedOut,
    /// The sender went without a word: it panicked.
    Lost,
}

pub(super) fn pair<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared { slot: Mutex::new(Slot::Waiting), news: Condvar::new() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Hands `value` over, or back where nobody waits for it any more.
    pub(super) fn deliver(self, value: T) -> Result<(), T> {
        let mut slot = self.0.slot.lock();
        if matches!(*slot, Slot::Abandoned) {
            return Err(value);
        }
        *slot = Slot::Here(value);
        drop(slot);
        self.0.news.notify_all();
        Ok(())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut slot = self.0.slot.lock();
        if matches!(*slot, Slot::Waiting) {
            *slot = Slot::Lost;
            self.0.news.notify_all();
        }
    }
}

impl<T> Receiver<T> {
    /// The value, if it comes by `deadline`.
    pub(super) fn wait(self, deadline: Instant) -> Result<T, Undelivered> {
        let waiting = |slot: &mut Slot<T>| matches!(slot, Slot::Waiting);
        let mut slot = self.0.news.wait_while_until(self.0.slot.lock(), deadline, waiting);
        match std::mem::replace(&mut *slot, Slot::Abandoned) {
            Slot::Here(value) => Ok(value),
            Slot::Lost => Err(Undelivered::Lost),
            Slot::Waiting | Slot::Abandoned => Err(Undelivered::TimedOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_value_reaches_exactly_one_side() {
        let soon = || Instant::now() + Duration::from_millis(5);
        let (sender, receiver) = pair();
        sender.deliver(1).expect("somebody waits");
        assert_eq!(receiver.wait(soon()), Ok(1));
        let (sender, receiver) = pair::<i32>();
        assert_eq!(receiver.wait(soon()), Err(Undelivered::TimedOut));
        assert_eq!(sender.deliver(2), Err(2));
        let (sender, receiver) = pair::<i32>();
        drop(sender);
        assert_eq!(receiver.wait(soon()), Err(Undelivered::Lost));
    }
}
