//! One request carried out to its end, the disk waited for, and answered: by a worker, or by the thread that received it
//! where its client waits for each answer.

use super::Export;
use super::buffer::Buffer;
use super::errno::{self, Errno};
use super::link::{Link, LinkError};
use super::reply::Pending;
use super::request::Work;
use super::workers::{CACHE_STEP, Job, Room};
use crate::block::{BlockDevice, BlockDeviceExt, BlockError, Durability, Effort, Op, Run, Zeroing};
use crate::limits;
use crate::sync::Arc;
use crate::units::{ByteCount, Extent};

/// One use of an export, counted by its gate; leaving is dropping it.
pub(super) struct Permit(Arc<dyn Export>);

impl Permit {
    /// Enters the export; `None` once it is draining.
    pub(super) fn enter(export: &Arc<dyn Export>) -> Option<Self> {
        export.enter().then(|| Self(Arc::clone(export)))
    }

    /// The plaintext of the export that was entered.
    pub(super) fn device(&self) -> &dyn BlockDevice {
        self.0.device()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Carries a job out and answers it; calls `answering` between the two. The export is entered only now, since what is queued
/// may lie behind answers that nobody takes, and left before the answer is sent: a client which does not read holds no detach up.
pub(super) fn carry_out(job: Job, link: &Link, export: &Arc<dyn Export>, answering: impl FnOnce()) {
    let Job { pending, work, mut room, working } = job;
    let Some(permit) = Permit::enter(export) else {
        answering();
        // A link that fails is closed by whoever notices; the receiving thread then ends the connection.
        let _sent = link.reply(pending.failure(Errno::Shutdown).bytes());
        return;
    };
    let done = || {
        drop((permit, working));
        answering();
    };
    let device = export.device();
    // As above.
    let _sent = match work {
        Work::Read(extent) => {
            let read = device.read_at(extent.start(), room.data(extent.length()));
            done();
            answer_read(link, pending, extent.length(), room.buffer(), read)
        }
        Work::Status(extent, most) => {
            let mut runs = Vec::new();
            let asked = device.perform(Op::Extents { extent, into: &mut runs, most });
            done();
            answer_status(link, pending, extent.length(), &runs, asked)
        }
        silent => {
            let outcome = carry_out_silent(device, silent, &mut room);
            done();
            link.reply(pending.answer(outcome.map_err(errno::of)).bytes())
        }
    };
}

fn answer_status(
    link: &Link,
    pending: Pending,
    within: ByteCount,
    runs: &[Run],
    asked: Result<(), BlockError>,
) -> Result<(), LinkError> {
    match asked {
        Ok(()) if !runs.is_empty() => link.reply(&pending.status(runs, within)),
        Ok(()) => link.reply(pending.failure(Errno::Io).bytes()),
        Err(error) => link.reply(pending.failure(errno::of(error)).bytes()),
    }
}

/// Answers a READ from the buffer that it was read into.
pub(super) fn answer_read(
    link: &Link,
    pending: Pending,
    length: ByteCount,
    buffer: &mut Buffer,
    read: Result<(), BlockError>,
) -> Result<(), LinkError> {
    if let Err(error) = read {
        return link.reply(pending.failure(errno::of(error)).bytes());
    }
    let header = pending.data_header_length();
    let whole = buffer.with_header(header, length.in_memory());
    pending.data(&mut whole[..header], length);
    link.reply(whole)
}

/// Carries out what is answered with success or failure alone.
fn carry_out_silent(device: &dyn BlockDevice, work: Work, room: &mut Room) -> Result<(), BlockError> {
    match work {
        Work::Write(extent, durability) => device.write_at(extent.start(), room.data(extent.length()), durability),
        Work::Flush => device.flush(),
        Work::Discard(extent, durability) => {
            in_steps(device, extent, durability, |extent, durability| Op::Discard { extent, durability })
        }
        Work::Zero(extent, zeroing, effort, durability) => zero(device, extent, (zeroing, effort), durability),
        Work::Cache(extent) => {
            steps(extent, CACHE_STEP).try_for_each(|step| device.read_at(step.start(), room.data(step.length())))
        }
        Work::Read(_) | Work::Status(..) => unreachable!("answered with more than success"),
    }
}

fn zero(
    device: &dyn BlockDevice,
    extent: Extent,
    (zeroing, effort): (Zeroing, Effort),
    durability: Durability,
) -> Result<(), BlockError> {
    in_steps(device, extent, durability, |extent, durability| Op::Zero { extent, zeroing, effort, durability })
}

/// Carries a long operation out step by step; several steps are made durable by one flush behind the last.
fn in_steps(
    device: &dyn BlockDevice,
    extent: Extent,
    durability: Durability,
    op: impl Fn(Extent, Durability) -> Op<'static>,
) -> Result<(), BlockError> {
    if extent.length().get() <= limits::ZERO_STEP {
        return device.perform(op(extent, durability));
    }
    steps(extent, limits::ZERO_STEP).try_for_each(|step| device.perform(op(step, Durability::Cached)))?;
    match durability {
        Durability::Cached => Ok(()),
        Durability::Durable => device.flush(),
    }
}

/// `extent` cut at the multiples of `unit`.
fn steps(extent: Extent, unit: u64) -> impl Iterator<Item = Extent> {
    let mut at = extent.start();
    std::iter::from_fn(move || {
        let left = extent.end().since(at).expect("a step ends within the extent");
        let to_boundary = ByteCount::new(unit - at.get() % unit);
        let step = Extent::new(at, left.min(to_boundary)).expect("a step ends within the extent");
        at = step.end();
        (!step.is_empty()).then_some(step)
    })
}
