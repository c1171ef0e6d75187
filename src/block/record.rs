//! A device that keeps a journal: what was asked of it, in which order, and when each was done.
//!
//! From the journal it can be worked out what a power cut at any moment may have left (the crash tests do). Everything of
//! one batch is issued before any of it is carried out, since a batch promises no order; then it is carried out one by
//! one. No lock is held meanwhile, so what the device below does may come back here.

use super::{BlockDevice, BlockError, Durability, Geometry, Io, Op, Patience};
use crate::sync::{Arc, Mutex};
use crate::units::{ByteOffset, Extent};

/// A moment: later ones are larger, and no two things happen at one.
pub type Moment = u64;

/// What was asked of a device. Reads are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A write.
    Write {
        /// Where.
        at: ByteOffset,
        /// What.
        bytes: Arc<[u8]>,
        /// When its outcome may be reported.
        durability: Durability,
    },
    /// Zeros, made or had by a discard.
    Zero {
        /// Which bytes.
        extent: Extent,
        /// When its outcome may be reported.
        durability: Durability,
    },
    /// A flush.
    Flush,
}

/// One operation in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was asked.
    pub asked: Asked,
    /// When it came.
    pub issued: Moment,
    /// When it was done, and how it ended; `None` as long as it is under way.
    pub completed: Option<(Moment, Result<(), BlockError>)>,
}

/// The operations of a device (or of several that share it), in the order in which they were issued.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    now: Moment,
    steps: Vec<Step>,
}

/// A device that writes down what is asked of it, and carries it out on the one below.
#[derive(Debug)]
pub struct Recorder<D> {
    inner: D,
    journal: Arc<Journal>,
}

impl Journal {
    /// One that goes on from `steps`, with moments after `now`.
    pub fn from_steps(now: Moment, steps: Vec<Step>) -> Self {
        Self(Mutex::new(Kept { now, steps }))
    }

    /// The next moment: for whoever keeps another journal in the same time.
    pub fn tick(&self) -> Moment {
        self.0.lock().tick()
    }

    /// What was asked so far.
    pub fn steps(&self) -> Vec<Step> {
        self.0.lock().steps.clone()
    }

    /// Writes down that `op` is issued; answers the number of its step.
    fn issue(&self, op: &Op<'_>) -> Option<usize> {
        let asked = match op {
            Op::Write { at, from, durability } => {
                Asked::Write { at: *at, bytes: Arc::from(&**from), durability: *durability }
            }
            Op::Zero { extent, durability, .. } | Op::Discard { extent, durability } => {
                Asked::Zero { extent: *extent, durability: *durability }
            }
            Op::Flush => Asked::Flush,
            Op::Read { .. } | Op::Extents { .. } => return None,
        };
        let mut kept = self.0.lock();
        let issued = kept.tick();
        kept.steps.push(Step { asked, issued, completed: None });
        Some(kept.steps.len() - 1)
    }

    fn complete(&self, step: usize, outcome: Result<(), BlockError>) {
        let mut kept = self.0.lock();
        let now = kept.tick();
        kept.steps[step].completed = Some((now, outcome));
    }
}

impl Kept {
    fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }
}

impl<D: BlockDevice> Recorder<D> {
    /// `inner`, with what is asked of it written to `journal`.
    pub const fn new(inner: D, journal: Arc<Journal>) -> Self {
        Self { inner, journal }
    }

    /// The device below.
    pub const fn inner(&self) -> &D {
        &self.inner
    }
}

impl<D: BlockDevice> BlockDevice for Recorder<D> {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    /// Waits even where it may not: what was issued cannot be taken back from the journal.
    fn submit<'b>(&self, batch: &mut [Io<'b>], _patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        let geometry = self.geometry();
        let issue = |io: &Io<'b>| {
            let carried_out = io.outcome().is_none() && geometry.admits(&io.op).is_ok();
            if carried_out { self.journal.issue(&io.op) } else { None }
        };
        let steps: Vec<Option<usize>> = batch.iter().map(issue).collect();
        for (io, step) in batch.iter_mut().zip(steps).filter(|(io, _)| io.outcome().is_none()) {
            self.inner.submit(std::slice::from_mut(io), Patience::MayBlock, &mut |_| ());
            if let (Some(step), Some(outcome)) = (step, io.outcome()) {
                self.journal.complete(step, outcome);
            }
            done(io);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::BlockDeviceExt;
    use super::super::fault::{Fault, Rule, Target};
    use super::super::memory::MemoryDevice;
    use super::*;
    use crate::units::ByteCount;
    use nix::errno::Errno;

    fn recorder() -> (Recorder<Fault<MemoryDevice>>, Arc<Journal>) {
        let journal = Arc::new(Journal::default());
        (Recorder::new(Fault::new(MemoryDevice::new(ByteCount::new(4096))), Arc::clone(&journal)), journal)
    }

    #[test]
    fn what_is_asked_is_written_down_in_order_and_with_its_outcome() {
        let (device, journal) = recorder();
        let extent = Extent::new(ByteOffset::new(8), ByteCount::new(4)).expect("small");
        device.write_at(ByteOffset::ZERO, &mut [7; 16], Durability::Durable).expect("writes");
        device.zero(extent).expect("zeroes");
        device.read_at(ByteOffset::ZERO, &mut [0; 16]).expect("reads");
        device.inner().add(Rule::nth(Target::Flush, 1, Errno::EIO));
        let failed = device.flush();
        let bytes: Arc<[u8]> = Arc::from([7; 16]);
        let asked = [
            Asked::Write { at: ByteOffset::ZERO, bytes, durability: Durability::Durable },
            Asked::Zero { extent, durability: Durability::Cached },
            Asked::Flush,
        ];
        let steps = journal.steps();
        assert_eq!(steps.iter().map(|step| &step.asked).collect::<Vec<_>>(), asked.each_ref());
        let times: Vec<_> = steps.iter().map(|step| (step.issued, step.completed)).collect();
        assert_eq!(times, [(1, Some((2, Ok(())))), (3, Some((4, Ok(())))), (5, Some((6, failed)))]);
        assert_eq!(journal.tick(), 7);
        assert_eq!(device.inner().inner().contents()[..16], [7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0, 0, 7, 7, 7, 7]);
    }

    #[test]
    fn all_of_a_batch_is_issued_before_any_of_it_is_done() {
        let (device, journal) = recorder();
        let mut bytes = [1; 8];
        let write = Op::Write { at: ByteOffset::ZERO, from: &mut bytes, durability: Durability::Cached };
        let mut batch = [Io::new(write, 0), Io::new(Op::Flush, 1)];
        let mut tags = Vec::new();
        device.submit(&mut batch, Patience::TryNow, &mut |io| tags.push(io.tag));
        assert_eq!(tags, [0, 1]);
        let times: Vec<_> = journal.steps().iter().map(|step| (step.issued, step.completed)).collect();
        assert_eq!(times, [(1, Some((3, Ok(())))), (2, Some((4, Ok(()))))]);
    }

    #[test]
    fn what_is_refused_or_answered_already_is_not_written_down() {
        let (device, journal) = recorder();
        assert!(device.write_at(ByteOffset::new(4095), &mut [1, 2], Durability::Cached).is_err());
        let mut batch = [Io::new(Op::Flush, 0)];
        batch[0].complete(Err(BlockError::Poisoned));
        device.submit(&mut batch, Patience::MayBlock, &mut |_| panic!("it was answered"));
        assert_eq!(journal.steps(), []);
    }
}
