//! What a failed sync means for everything after it.
//!
//! When a sync fails, the kernel may have dropped what it could not write, and says so once. So from the first failure on,
//! [`Poison`] refuses every mutation and flush with [`BlockError::Poisoned`]; reads go on. Only opening the backing again,
//! after the kernel was made to forget what it could not write, ends that.
//!
//! A sync has failed when a flush fails, or a durable mutation fails in any way but for want of space (a device answers
//! [`BlockError::NoSpace`] only for what it refused before it synced).
//! Invariant: no flush succeeds that ends after a failure was seen.

use super::{BlockDevice, BlockError, Company, Durability, Fetch, Geometry, Io, Op, Patience, Witness};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::units::{ByteOffset, Extent};

/// Called once, with the failure.
type Alarm = Box<dyn Fn(BlockError) + Send + Sync>;

/// A device that refuses to go on after a failed sync.
pub struct Poison<D> {
    inner: D,
    poisoned: AtomicBool,
    alarm: Alarm,
}

impl<D: BlockDevice> Poison<D> {
    /// `inner`, so far unharmed.
    pub fn new(inner: D) -> Self {
        Self::with_alarm(inner, |_| ())
    }

    /// `inner`, so far unharmed; `alarm` is called with the first failure, on the thread that met it and before that
    /// failure is reported.
    pub fn with_alarm(inner: D, alarm: impl Fn(BlockError) + Send + Sync + 'static) -> Self {
        Self { inner, poisoned: AtomicBool::new(false), alarm: Box::new(alarm) }
    }

    /// Whether a sync has failed.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::SeqCst)
    }

    /// The device below.
    pub const fn inner(&self) -> &D {
        &self.inner
    }

    /// Judges an outcome on its way up.
    fn judge(&self, io: &mut Io<'_>) {
        if !promises_durability(&io.op) {
            return;
        }
        match io.outcome() {
            Some(Ok(())) if self.is_poisoned() => io.complete(Err(BlockError::Poisoned)),
            Some(Err(error)) if is_failed_sync(&io.op, error) && !self.poisoned.swap(true, Ordering::SeqCst) => {
                (self.alarm)(error);
            }
            _ => (),
        }
    }
}

impl<D: BlockDevice> BlockDevice for Poison<D> {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        if self.is_poisoned() {
            let refused = |io: &&mut Io<'b>| io.outcome().is_none() && is_refused_once_poisoned(&io.op);
            for io in batch.iter_mut().filter(refused) {
                io.complete(Err(BlockError::Poisoned));
                done(io);
            }
        }
        self.inner.submit(batch, patience, &mut |io| {
            self.judge(io);
            done(io);
        });
    }

    fn fetch(&self, extent: Extent, company: Company) -> Option<Fetch> {
        self.inner.fetch(extent, company)
    }

    fn fetched(
        &self,
        at: ByteOffset,
        bytes: &mut [u8],
        witness: Witness,
        read: Result<(), BlockError>,
    ) -> Option<Result<(), BlockError>> {
        self.inner.fetched(at, bytes, witness, read)
    }
}

fn is_refused_once_poisoned(op: &Op<'_>) -> bool {
    op.is_mutation() || matches!(op, Op::Flush)
}

fn promises_durability(op: &Op<'_>) -> bool {
    matches!(op, Op::Flush) || op.durability() == Some(Durability::Durable)
}

fn is_failed_sync(op: &Op<'_>, error: BlockError) -> bool {
    match error {
        BlockError::System(_) | BlockError::Poisoned => true,
        BlockError::NoSpace(_) => matches!(op, Op::Flush),
        BlockError::OutOfRange | BlockError::ReadOnly | BlockError::NotFast | BlockError::Detached => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::BlockDeviceExt;
    use super::super::fault::{Fault, Rule, Target};
    use super::super::memory::MemoryDevice;
    use super::*;
    use crate::sync::{Arc, Mutex};
    use crate::units::ByteCount;
    use nix::errno::Errno;

    const EIO: BlockError = BlockError::System(Errno::EIO);

    type Failures = Arc<Mutex<Vec<BlockError>>>;

    fn device() -> (Poison<Fault<MemoryDevice>>, Failures) {
        let failures = Failures::default();
        let seen = Arc::clone(&failures);
        let inner = Fault::new(MemoryDevice::new(ByteCount::new(8192)));
        (Poison::with_alarm(inner, move |error| seen.lock().push(error)), failures)
    }

    fn write(device: &impl BlockDevice, durability: Durability) -> Result<(), BlockError> {
        device.write_at(ByteOffset::ZERO, &mut [1; 8], durability)
    }

    #[test]
    fn after_a_failed_flush_only_reads_go_on() {
        let (device, failures) = device();
        write(&device, Durability::Durable).expect("nothing is wrong yet");
        device.inner().add(Rule::nth(Target::Flush, 1, Errno::EIO));
        assert_eq!(device.flush(), Err(EIO));
        assert!(device.is_poisoned());
        let extent = Extent::new(ByteOffset::ZERO, ByteCount::new(8)).expect("small");
        assert_eq!(write(&device, Durability::Cached), Err(BlockError::Poisoned));
        assert_eq!(write(&device, Durability::Durable), Err(BlockError::Poisoned));
        assert_eq!(device.zero(extent), Err(BlockError::Poisoned));
        let discard = Op::Discard { extent, durability: Durability::Cached };
        assert_eq!(device.perform(discard), Err(BlockError::Poisoned));
        assert_eq!(device.flush(), Err(BlockError::Poisoned));
        let mut bytes = [0; 8];
        assert_eq!(device.read_at(ByteOffset::ZERO, &mut bytes), Ok(()));
        assert_eq!(bytes, [1; 8]);
        assert!(device.extents(extent).is_ok());
        assert_eq!(*failures.lock(), [EIO], "the alarm is raised once");
    }

    #[test]
    fn a_failed_durable_mutation_poisons() {
        let (device, failures) = device();
        device.inner().add(Rule::nth(Target::Sync, 1, Errno::EIO));
        assert_eq!(write(&device, Durability::Durable), Err(EIO));
        assert_eq!(write(&device, Durability::Cached), Err(BlockError::Poisoned));
        assert_eq!(*failures.lock(), [EIO]);
    }

    #[test]
    fn failures_that_lost_nothing_do_not_poison() {
        let (device, failures) = device();
        device.inner().add(Rule::nth(Target::Read, 1, Errno::EIO));
        device.inner().add(Rule::nth(Target::Write, 1, Errno::EIO));
        let full = BlockError::NoSpace(Errno::ENOSPC);
        let action = super::super::fault::Action::Fail(full);
        device.inner().add(Rule { target: Target::Sync, spare: 0, count: 1, action });
        assert_eq!(device.read_at(ByteOffset::ZERO, &mut [0]), Err(EIO));
        assert_eq!(write(&device, Durability::Cached), Err(EIO));
        assert_eq!(write(&device, Durability::Durable), Err(full));
        assert_eq!(write(&device, Durability::Durable), Ok(()));
        assert_eq!(device.flush(), Ok(()));
        assert!(failures.lock().is_empty());
    }

    #[test]
    fn a_flush_that_ends_after_a_failure_does_not_succeed() {
        let (device, _) = device();
        device.inner().add(Rule { count: 1, ..Rule::hold(Target::Flush) });
        std::thread::scope(|scope| {
            let slow = scope.spawn(|| device.flush());
            device.inner().wait_held(1);
            device.inner().add(Rule::nth(Target::Flush, 1, Errno::EIO));
            assert_eq!(device.flush(), Err(EIO));
            device.inner().release();
            assert_eq!(slow.join().expect("no panic"), Err(BlockError::Poisoned));
        });
    }

    #[test]
    fn each_io_of_a_batch_is_reported_once() {
        let (device, _) = device();
        device.inner().add(Rule::nth(Target::Flush, 1, Errno::EIO));
        assert_eq!(device.flush(), Err(EIO));
        let mut into = [0; 4];
        let mut batch = [Io::new(Op::Flush, 0), Io::new(Op::Read { at: ByteOffset::ZERO, into: &mut into }, 1)];
        let mut tags = Vec::new();
        device.submit(&mut batch, Patience::MayBlock, &mut |io| tags.push((io.tag, io.outcome().is_some())));
        assert_eq!(tags, [(0, true), (1, true)]);
    }
}
