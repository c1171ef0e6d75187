//! The memory of large requests in flight, over all connections of a server: bounded, and shared out fairly.
//!
//! Whoever wants more than there is waits, which stops the reading from its socket. Three rules keep a client that takes
//! no answers from starving the others:
//! - a connection that has nothing may always take [`GUARANTEED`], whatever the others have;
//! - a connection that has something may have no more than what is then left for all others;
//! - while a connection that has nothing waits, none that has something gets more.
//!
//! No deadlock: whoever waits keeps nothing in reserve meanwhile (see [`Share::take`]), and what is in flight ends
//! without needing more, at the latest when the deadline for taking an answer passes.

use std::time::{Duration, Instant};

use super::buffer::Buffer;
use crate::limits;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex};
use crate::units::ByteCount;

/// The smallest buffer of a request: few sizes exist, so that most requests find one that was used before.
pub(super) const SMALLEST: usize = 64 << 10;
/// What a connection that has nothing can always take, beyond the bound if need be: one smallest buffer.
const GUARANTEED: usize = Buffer::footprint(SMALLEST);
/// How often whoever waits looks whether it still has to.
const LOOK_UP: Duration = Duration::from_secs(1);

/// The memory of a server.
pub(super) struct Budget {
    bound: usize,
    state: Mutex<State>,
    /// Something was given back.
    freed: Condvar,
    /// Whether somebody waits: what is not in use is given back then.
    short: AtomicBool,
    /// Connections that receive and answer through large buffers of their own.
    roomy: AtomicUsize,
}

#[derive(Default)]
struct State {
    taken: usize,
    waiting: usize,
    /// Of those, how many have nothing.
    empty_handed: usize,
}

/// What one connection has of it.
pub(super) struct Share {
    budget: Arc<Budget>,
    /// Changes under the lock of the budget only.
    taken: AtomicUsize,
}

/// Memory that was taken; given back when it is dropped.
struct Charge {
    share: Arc<Share>,
    bytes: usize,
}

/// A buffer and what it was charged: wiped and unmapped before that is given back.
pub(super) struct Charged {
    buffer: Buffer,
    _charge: Charge,
}

/// The right to large buffers beside the requests'; given back when it is dropped.
pub(super) struct Roomy(Arc<Budget>);

impl Budget {
    /// At most `bound` bytes, but for what each connection is guaranteed.
    pub(super) fn new(bound: ByteCount) -> Arc<Self> {
        let (state, freed) = (Mutex::default(), Condvar::new());
        let (short, roomy) = (AtomicBool::new(false), AtomicUsize::new(0));
        Arc::new(Self { bound: bound.in_memory(), state, freed, short, roomy })
    }

    /// The share of a new connection.
    pub(super) fn share(self: &Arc<Self>) -> Arc<Share> {
        Arc::new(Share { budget: Arc::clone(self), taken: AtomicUsize::new(0) })
    }

    /// A place among the connections with large buffers of their own; `None` where there are enough of those.
    pub(super) fn roomy(self: &Arc<Self>) -> Option<Roomy> {
        let room = Roomy(Arc::clone(self));
        (self.roomy.fetch_add(1, Ordering::Relaxed) < limits::ROOMY_CONNECTIONS).then_some(room)
    }

    /// Whether a connection that has `held` may have `more`.
    fn admits(&self, state: &State, held: usize, more: usize) -> bool {
        if held == 0 && more <= GUARANTEED {
            return true;
        }
        // What is guaranteed may have been taken beyond the bound.
        let left = self.bound.saturating_sub(state.taken).checked_sub(more);
        left.is_some_and(|left| held == 0 || state.empty_handed == 0 && held + more <= left)
    }
}

impl Share {
    /// A buffer for `capacity` bytes of data. Before it waits, `make_room` gives back what the connection keeps for later;
    /// from then on [`Share::is_short`] says that nothing is to be kept. `None` once `given_up` says so, which is asked
    /// now and then.
    pub(super) fn take(
        self: &Arc<Self>,
        capacity: usize,
        make_room: impl FnOnce(),
        given_up: impl FnMut() -> bool,
    ) -> Option<Charged> {
        self.take_now(capacity).or_else(|| {
            self.announce();
            make_room();
            self.wait(Buffer::footprint(capacity), given_up).then(|| self.charged(capacity))
        })
    }

    /// A buffer for `capacity` bytes of data, where there is memory for it now.
    pub(super) fn take_now(self: &Arc<Self>, capacity: usize) -> Option<Charged> {
        self.try_take(Buffer::footprint(capacity)).then(|| self.charged(capacity))
    }

    /// A buffer for memory that was taken.
    fn charged(self: &Arc<Self>, capacity: usize) -> Charged {
        let charge = Charge { share: Arc::clone(self), bytes: Buffer::footprint(capacity) };
        Charged { buffer: Buffer::new(capacity), _charge: charge }
    }

    /// Whether somebody waits for memory.
    pub(super) fn is_short(&self) -> bool {
        self.budget.short.load(Ordering::SeqCst)
    }

    fn held(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn try_take(&self, bytes: usize) -> bool {
        let mut state = self.budget.state.lock();
        let admitted = self.budget.admits(&state, self.held(), bytes);
        if admitted {
            self.note_taken(&mut state, bytes);
        }
        admitted
    }

    fn note_taken(&self, state: &mut State, bytes: usize) {
        state.taken += bytes;
        self.taken.store(self.held() + bytes, Ordering::Relaxed);
    }

    /// From here on this counts as waiting, so that what is given back is not kept by anybody.
    fn announce(&self) {
        let mut state = self.budget.state.lock();
        state.waiting += 1;
        self.budget.short.store(true, Ordering::SeqCst);
    }

    /// Waits until `bytes` may be taken; after [`Share::announce`].
    fn wait(&self, bytes: usize, mut given_up: impl FnMut() -> bool) -> bool {
        let budget = &*self.budget;
        let mut state = budget.state.lock();
        let mut empty_handed = false;
        let admitted = loop {
            let mut refused = |state: &mut State| {
                let held = self.held();
                if held == 0 && !empty_handed {
                    empty_handed = true;
                    state.empty_handed += 1;
                }
                !budget.admits(state, held, bytes)
            };
            if !refused(&mut state) {
                break true;
            }
            if given_up() {
                break false;
            }
            state = budget.freed.wait_while_until(state, Instant::now() + LOOK_UP, refused);
        };
        if admitted {
            self.note_taken(&mut state, bytes);
        }
        state.empty_handed -= usize::from(empty_handed);
        state.waiting -= 1;
        budget.short.store(state.waiting > 0, Ordering::SeqCst);
        // Those that have something may have waited for one that had nothing.
        let others = state.waiting > 0;
        drop(state);
        if others {
            budget.freed.notify_all();
        }
        admitted
    }
}

impl Charged {
    /// The buffer.
    pub(super) fn buffer(&mut self) -> &mut Buffer {
        &mut self.buffer
    }

    /// How many bytes of data it can hold.
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let budget = &*self.share.budget;
        let mut state = budget.state.lock();
        state.taken -= self.bytes;
        self.share.taken.store(self.share.held() - self.bytes, Ordering::Relaxed);
        let awaited = state.waiting > 0;
        drop(state);
        if awaited {
            budget.freed.notify_all();
        }
    }
}

impl Drop for Roomy {
    fn drop(&mut self) {
        self.0.roomy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const MIB: usize = 1 << 20;

    fn budget(mib: u64) -> Arc<Budget> {
        Budget::new(ByteCount::new(mib << 20))
    }

    fn at_once(share: &Arc<Share>, capacity: usize) -> Option<Charged> {
        share.take(capacity, || (), || true)
    }

    /// As many buffers as the share is given without waiting.
    fn all(share: &Arc<Share>, capacity: usize) -> Vec<Charged> {
        std::iter::from_fn(|| share.take_now(capacity)).collect()
    }

    fn wait_until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "what is waited for comes");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn each_greedy_connection_leaves_as_much_as_it_has() {
        let budget = budget(64);
        let shares: Vec<_> = (0..8).map(|_| budget.share()).collect();
        let held: Vec<_> = shares.iter().map(|share| all(share, MIB)).collect();
        assert_eq!(held[0].len(), 31, "half");
        assert!(held.windows(2).all(|two| two[1].len() >= two[0].len() / 2), "half of what is left");
        assert!(budget.state.lock().taken <= 64 * MIB);
        drop(held);
        assert_eq!(budget.state.lock().taken, 0);
    }

    #[test]
    fn what_is_guaranteed_is_there_when_nothing_else_is() {
        let budget = budget(64);
        let hogs: Vec<_> = (0..64).map(|_| budget.share()).collect();
        let _held: Vec<_> = hogs.iter().map(|share| (all(share, MIB), all(share, SMALLEST))).collect();
        let late = budget.share();
        assert!(at_once(&late, MIB).is_none());
        let own = at_once(&late, SMALLEST).expect("guaranteed");
        assert!(!late.try_take(GUARANTEED), "once");
        drop(own);
        assert!(at_once(&late, SMALLEST).is_some(), "and again");
    }

    #[test]
    fn who_has_nothing_goes_before_who_has_something() {
        let budget = budget(64);
        let (busy, late) = (budget.share(), budget.share());
        let mut held = all(&busy, MIB);
        let waiter = thread::spawn(move || late.take(40 * MIB, || (), || false).expect("comes").capacity());
        wait_until(|| budget.state.lock().empty_handed == 1);
        assert!(busy.is_short());
        held.pop();
        assert!(!busy.try_take(Buffer::footprint(MIB)), "there would be room, were nobody waiting");
        held.clear();
        assert_eq!(waiter.join().expect("no panic"), 40 * MIB);
        assert!(!busy.is_short());
    }

    #[test]
    fn who_gives_up_leaves_no_trace() {
        let budget = budget(64);
        let (busy, late) = (budget.share(), budget.share());
        let held = all(&busy, MIB);
        assert!(at_once(&late, 60 * MIB).is_none());
        let state = budget.state.lock();
        assert_eq!((state.waiting, state.empty_handed), (0, 0));
        assert_eq!(state.taken, held.len() * Buffer::footprint(MIB));
    }

    #[test]
    fn only_so_many_connections_have_large_buffers() {
        let budget = budget(64);
        let mut roomy: Vec<_> = (0..limits::ROOMY_CONNECTIONS).filter_map(|_| budget.roomy()).collect();
        assert_eq!(roomy.len(), limits::ROOMY_CONNECTIONS);
        assert!(budget.roomy().is_none());
        roomy.pop();
        assert!(budget.roomy().is_some());
    }
}
