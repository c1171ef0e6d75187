//! A gate that counts who is inside and can be closed: one atomic addition to enter, one to leave.
//!
//! Invariants: after [`Gate::close`] nobody enters; [`Gate::wait_empty`] returns once everybody who had entered before
//! the close has left. What the last one inside wrote is visible to whoever saw the gate empty.

use std::time::Instant;

use super::atomic::{AtomicU64, Ordering};
use super::{Condvar, Mutex};

const CLOSED: u64 = 1 << 63;

/// Counts entries; refuses them once closed.
#[derive(Debug, Default)]
pub struct Gate {
    /// The top bit says closed, the rest is how many are inside.
    state: AtomicU64,
    waiting: Mutex<()>,
    emptied: Condvar,
}

/// One entry; leaving is dropping it.
#[derive(Debug)]
pub struct Permit<'g>(&'g Gate);

impl Gate {
    /// An open gate with nobody inside.
    pub const fn new() -> Self {
        Self { state: AtomicU64::new(0), waiting: Mutex::new(()), emptied: Condvar::new() }
    }

    /// Enters, or `None` where the gate is closed.
    pub fn enter(&self) -> Option<Permit<'_>> {
        self.try_count().then(|| Permit(self))
    }

    /// Enters without a guard: the caller owes one [`Gate::leave`] for each `true`. For requests whose place outlives a borrow.
    pub fn try_count(&self) -> bool {
        let before = self.state.fetch_add(1, Ordering::Acquire);
        if before & CLOSED == 0 {
            return true;
        }
        self.leave();
        false
    }

    /// Leaves after a [`Gate::try_count`] that answered `true`.
    pub fn leave(&self) {
        let before = self.state.fetch_sub(1, Ordering::AcqRel);
        if before == CLOSED + 1 {
            // Under the lock, so that a waiter between its check and its sleep is not missed.
            drop(self.waiting.lock());
            self.emptied.notify_all();
        }
    }

    /// Lets nobody in any more.
    pub fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Whether [`Gate::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) & CLOSED != 0
    }

    /// How many are inside.
    pub fn inside(&self) -> u64 {
        self.state.load(Ordering::Acquire) & !CLOSED
    }

    /// Waits until nobody is inside, or until `deadline`; answers whether it is empty. Meaningful after [`Gate::close`].
    pub fn wait_empty(&self, deadline: Option<Instant>) -> bool {
        let guard = self.waiting.lock();
        let inside = |_: &mut ()| self.inside() != 0;
        drop(match deadline {
            Some(at) => self.emptied.wait_while_until(guard, at, inside),
            None => self.emptied.wait_while(guard, inside),
        });
        self.inside() == 0
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_closed_gate_refuses_and_empties() {
        let gate = Gate::new();
        let permit = gate.enter().expect("open");
        gate.close();
        assert!(gate.enter().is_none());
        assert!(!gate.wait_empty(Some(Instant::now() + Duration::from_millis(5))));
        drop(permit);
        assert!(gate.wait_empty(None));
    }

    #[test]
    fn the_waiter_is_woken_by_the_last_to_leave() {
        let gate = Gate::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let permit = gate.enter().expect("open");
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(2));
                    drop(permit);
                });
            }
            gate.close();
            assert!(gate.wait_empty(Some(Instant::now() + Duration::from_secs(10))));
        });
    }
}
