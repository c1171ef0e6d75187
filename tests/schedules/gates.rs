//! The gate alone: whoever entered before it was closed has left when it is empty, and whoever waits for that is woken.

use envol::sync::Gate;
use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;

use crate::{break_down, hold};

/// A gate, as the scenario sees it.
trait Door: Send + Sync + 'static {
    fn enter(&self) -> bool;
    fn leave(&self);
    fn close(&self);
    fn wait_empty(&self);
}

impl Door for Gate {
    fn enter(&self) -> bool {
        self.try_count()
    }

    fn leave(&self) {
        Self::leave(self);
    }

    fn close(&self) {
        Self::close(self);
    }

    fn wait_empty(&self) {
        Self::wait_empty(self, None);
    }
}

/// Three requests, and one who closes the gate and takes the room down.
fn requests_and_a_closer(gate: &Arc<impl Door>) {
    let gone = Arc::new(AtomicBool::new(false));
    let requests: Vec<_> = (0..3)
        .map(|_| {
            let (gate, gone) = (Arc::clone(gate), Arc::clone(&gone));
            thread::spawn(move || {
                if gate.enter() {
                    assert!(!gone.load(Ordering::SeqCst), "somebody is inside whom nobody waited for");
                    gate.leave();
                }
            })
        })
        .collect();
    gate.close();
    gate.wait_empty();
    gone.store(true, Ordering::SeqCst);
    assert!(!gate.enter(), "closed");
    requests.into_iter().for_each(|request| request.join().expect("no panic"));
}

#[test]
fn nobody_is_inside_a_gate_that_was_closed_and_is_empty() {
    hold(|| requests_and_a_closer(&Arc::new(Gate::new())));
}

/// Looks whether it is open, and counts afterwards.
#[derive(Default)]
struct LooksFirst {
    closed: AtomicBool,
    inside: AtomicU64,
}

impl Door for LooksFirst {
    fn enter(&self) -> bool {
        let open = !self.closed.load(Ordering::SeqCst);
        if open {
            self.inside.fetch_add(1, Ordering::SeqCst);
        }
        open
    }

    fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    fn wait_empty(&self) {
        while self.inside.load(Ordering::SeqCst) != 0 {
            thread::yield_now();
        }
    }
}

#[test]
fn a_gate_that_looks_first_and_counts_afterwards_is_found() {
    break_down(&["somebody is inside whom nobody waited for"], || {
        requests_and_a_closer(&Arc::new(LooksFirst::default()))
    });
}

/// The product's gate, but the last one out rings without the lock.
#[derive(Default)]
struct RingsTooEarly {
    state: AtomicU64,
    waiting: Mutex<()>,
    emptied: Condvar,
}

const CLOSED: u64 = 1 << 63;

impl Door for RingsTooEarly {
    fn enter(&self) -> bool {
        let open = self.state.fetch_add(1, Ordering::SeqCst) & CLOSED == 0;
        if !open {
            self.leave();
        }
        open
    }

    fn leave(&self) {
        if self.state.fetch_sub(1, Ordering::SeqCst) == CLOSED + 1 {
            self.emptied.notify_all();
        }
    }

    fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::SeqCst);
    }

    fn wait_empty(&self) {
        let guard = self.waiting.lock().expect("no panic");
        let inside = |_: &mut ()| self.state.load(Ordering::SeqCst) & !CLOSED != 0;
        drop(self.emptied.wait_while(guard, inside).expect("no panic"));
    }
}

#[test]
fn a_gate_whose_last_one_out_rings_too_early_is_found() {
    break_down(&["deadlock!"], || requests_and_a_closer(&Arc::new(RingsTooEarly::default())));
}
