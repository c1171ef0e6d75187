//! A device that fails on demand: what a disk may do to the layers above it, by script.
//!
//! Rules are tried in the order in which they were added; the first that applies to an operation decides, is used up by
//! one, and is dropped when its count is spent. An operation that a rule fails does not reach the device below.
//! Operations are passed on one at a time, so a batch is judged one by one too.

use std::time::Duration;

use nix::errno::Errno;

use super::{BlockDevice, BlockError, Durability, Geometry, Io, Op, Patience};
use crate::sync::{Condvar, Mutex};

/// Which operations a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Reads.
    Read,
    /// Writes, durable or not.
    Write,
    /// Flushes.
    Flush,
    /// Flushes, and mutations that are to be durable.
    Sync,
    /// Zeroing.
    Zero,
    /// Discards.
    Discard,
    /// Descriptions of extents.
    Extents,
    /// All of them.
    Any,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The operation fails and never reaches the device below.
    Fail(BlockError),
    /// The operation is carried out, and reported as failed all the same.
    FailAfterwards(BlockError),
    /// The operation is carried out so much later.
    Delay(Duration),
    /// The operation waits until [`Fault::release`].
    Hold,
}

/// One line of the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Which operations.
    pub target: Target,
    /// How many of them are spared first.
    pub spare: u64,
    /// How many of them it then applies to.
    pub count: u64,
    /// What happens to those.
    pub action: Action,
}

/// A device that follows a script of faults.
#[derive(Debug)]
pub struct Fault<D> {
    inner: D,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    /// How many operations are being held.
    held: usize,
    /// Counts releases, so that a held operation knows its own.
    releases: u64,
}

impl Target {
    fn covers(self, op: &Op<'_>) -> bool {
        match self {
            Self::Read => matches!(op, Op::Read { .. }),
            Self::Write => matches!(op, Op::Write { .. }),
            Self::Flush => matches!(op, Op::Flush),
            Self::Sync => matches!(op, Op::Flush) || op.durability() == Some(Durability::Durable),
            Self::Zero => matches!(op, Op::Zero { .. }),
            Self::Discard => matches!(op, Op::Discard { .. }),
            Self::Extents => matches!(op, Op::Extents { .. }),
            Self::Any => true,
        }
    }
}

impl Rule {
    /// Every such operation fails with `errno` from now on.
    pub const fn always(target: Target, errno: Errno) -> Self {
        Self { target, spare: 0, count: u64::MAX, action: Action::Fail(BlockError::System(errno)) }
    }

    /// The `nth` such operation from now fails with `errno`, once; the first is 1.
    pub const fn nth(target: Target, nth: u64, errno: Errno) -> Self {
        Self { target, spare: nth.saturating_sub(1), count: 1, action: Action::Fail(BlockError::System(errno)) }
    }

    /// Every such operation waits until [`Fault::release`].
    pub const fn hold(target: Target) -> Self {
        Self { target, spare: 0, count: u64::MAX, action: Action::Hold }
    }
}

impl State {
    /// What is to happen to `op`, the rule used up by one.
    fn decide(&mut self, op: &Op<'_>) -> Option<Action> {
        let mut decided = None;
        for rule in self.rules.iter_mut().filter(|rule| rule.target.covers(op)) {
            if rule.spare > 0 {
                rule.spare -= 1;
            } else if decided.is_none() {
                rule.count -= 1;
                decided = Some(rule.action);
            }
        }
        self.rules.retain(|rule| rule.count > 0);
        decided
    }
}

impl<D: BlockDevice> Fault<D> {
    /// `inner`, without a fault so far.
    pub fn new(inner: D) -> Self {
        Self { inner, state: Mutex::new(State::default()), changed: Condvar::new() }
    }

    /// Adds a rule.
    pub fn add(&self, rule: Rule) {
        self.state.lock().rules.push(rule);
    }

    /// Drops all rules; what is being held stays so until [`Fault::release`].
    pub fn clear(&self) {
        self.state.lock().rules.clear();
    }

    /// Drops the rules that hold and lets go of what they hold.
    pub fn release(&self) {
        let mut state = self.state.lock();
        state.rules.retain(|rule| rule.action != Action::Hold);
        state.releases += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until `count` operations are being held.
    pub fn wait_held(&self, count: usize) {
        drop(self.changed.wait_while(self.state.lock(), |state| state.held < count));
    }

    /// The device below.
    pub const fn inner(&self) -> &D {
        &self.inner
    }

    fn hold(&self) {
        let mut state = self.state.lock();
        let mine = state.releases;
        state.held += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.releases == mine);
        state.held -= 1;
    }

    fn submit_one<'b>(&self, io: &mut Io<'b>, patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        let action = self.state.lock().decide(&io.op);
        let alone = std::slice::from_mut(io);
        match action {
            None => return self.inner.submit(alone, patience, done),
            Some(Action::Fail(error)) => {
                alone[0].complete(Err(error));
                return done(&mut alone[0]);
            }
            Some(Action::FailAfterwards(error)) => {
                return self.inner.submit(alone, Patience::MayBlock, &mut |io| {
                    io.complete(Err(error));
                    done(io);
                });
            }
            Some(Action::Delay(time)) => std::thread::sleep(time),
            Some(Action::Hold) => self.hold(),
        }
        self.inner.submit(alone, Patience::MayBlock, done);
    }

    /// Whether `op` would be made to wait: a caller that cannot gets it back untouched, and no rule is used up.
    fn would_wait(&self, op: &Op<'_>) -> bool {
        let state = self.state.lock();
        let first = state.rules.iter().find(|rule| rule.target.covers(op) && rule.spare == 0);
        first.is_some_and(|rule| !matches!(rule.action, Action::Fail(_)))
    }
}

impl<D: BlockDevice> BlockDevice for Fault<D> {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        for io in batch.iter_mut().filter(|io| io.outcome().is_none()) {
            if patience == Patience::MayBlock || !self.would_wait(&io.op) {
                self.submit_one(io, patience, done);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::BlockDeviceExt;
    use super::super::memory::MemoryDevice;
    use super::*;
    use crate::units::{ByteCount, ByteOffset};

    const EIO: Result<(), BlockError> = Err(BlockError::System(Errno::EIO));

    fn device() -> Fault<MemoryDevice> {
        Fault::new(MemoryDevice::new(ByteCount::new(4096)))
    }

    fn write(device: &impl BlockDevice) -> Result<(), BlockError> {
        device.write_at(ByteOffset::ZERO, &mut [1], Durability::Cached)
    }

    #[test]
    fn the_nth_operation_fails_and_does_not_reach_the_device() {
        let device = device();
        device.add(Rule::nth(Target::Write, 2, Errno::EIO));
        let third = |device: &Fault<_>| [write(device), device.flush(), write(device), write(device)];
        assert_eq!(third(&device), [Ok(()), Ok(()), EIO, Ok(())]);
        device.add(Rule::always(Target::Any, Errno::EIO));
        assert_eq!(third(&device), [EIO; 4]);
        device.clear();
        assert_eq!(third(&device), [Ok(()); 4]);
    }

    #[test]
    fn an_operation_may_be_carried_out_and_fail_all_the_same() {
        let device = device();
        let action = Action::FailAfterwards(BlockError::System(Errno::EIO));
        device.add(Rule { target: Target::Write, spare: 0, count: 1, action });
        assert_eq!(write(&device), EIO);
        assert_eq!(device.inner().contents()[0], 1);
        device.add(Rule::always(Target::Write, Errno::EIO));
        assert_eq!(device.write_at(ByteOffset::new(1), &mut [1], Durability::Cached), EIO);
        assert_eq!(device.inner().contents()[1], 0);
    }

    #[test]
    fn a_held_operation_waits_for_its_release() {
        let device = device();
        device.add(Rule::hold(Target::Flush));
        std::thread::scope(|scope| {
            let held = scope.spawn(|| device.flush());
            device.wait_held(1);
            assert_eq!(write(&device), Ok(()), "others go on");
            assert!(!held.is_finished());
            device.release();
            assert_eq!(held.join().expect("no panic"), Ok(()));
        });
        assert_eq!(device.flush(), Ok(()), "the rule is gone");
    }

    #[test]
    fn a_caller_that_cannot_wait_is_not_held_and_uses_up_no_rule() {
        let device = device();
        let action = Action::Delay(Duration::from_millis(1));
        device.add(Rule { target: Target::Read, spare: 0, count: 1, action });
        let mut into = [9; 4];
        let mut batch = [Io::new(Op::Read { at: ByteOffset::ZERO, into: &mut into }, 0)];
        device.submit(&mut batch, Patience::TryNow, &mut |_| panic!("nothing is completed"));
        assert!(batch[0].outcome().is_none());
        device.submit(&mut batch, Patience::MayBlock, &mut |_| ());
        assert_eq!(batch[0].outcome(), Some(Ok(())));
        assert!(device.state.lock().rules.is_empty());
    }
}
