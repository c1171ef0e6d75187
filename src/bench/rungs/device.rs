//! A block device of this process, called as the NBD server calls it: all requests under way in one batch, on one thread.

use std::time::{Duration, Instant};

use super::{Done, Rung};
use crate::bench::job::{DEPTH_MAX, Direction, LENGTH_MAX};
use crate::bench::{BenchError, Job, Latencies, Places};
use crate::block::{BlockDevice, BlockError, Durability, Io, Op, Patience};
use crate::sync::Arc;
use crate::sys::pages::Pages;
use crate::units::{ByteCount, ByteOffset};

/// A device, or the part of it behind some bytes.
pub struct DeviceRung {
    name: &'static str,
    device: Arc<dyn BlockDevice>,
    base: ByteCount,
    size: ByteCount,
    memory: Pages,
}

impl DeviceRung {
    /// The `size` bytes of `device` behind the first `base`.
    pub fn new(name: &'static str, device: Arc<dyn BlockDevice>, base: ByteCount, size: ByteCount) -> Self {
        let mut memory = Pages::allocate(DEPTH_MAX * LENGTH_MAX as usize);
        fastrand::Rng::new().fill(memory.bytes_mut());
        Self { name, device, base, size, memory }
    }
}

impl Rung for DeviceRung {
    fn size(&self) -> ByteCount {
        self.size
    }

    /// The latency of each request is that of its batch.
    fn run(
        &mut self,
        job: &Job,
        places: &mut Places,
        length: Duration,
        latencies: &mut Latencies,
    ) -> Result<Done, BenchError> {
        let base = self.base;
        let mut place = || places.next_place().checked_add(base).expect("the device holds it");
        let buffers = self.memory.bytes_mut()[..job.length as usize * job.depth].chunks_exact_mut(job.length as usize);
        let mut batch: Vec<Io<'_>> = buffers.map(|buffer| Io::new(operation(job.direction, buffer), 0)).collect();
        let start = Instant::now();
        let (mut now, mut requests) = (start, 0);
        while now - start < length {
            for io in &mut batch {
                move_to(io, place());
            }
            self.device.submit(&mut batch, Patience::MayBlock, &mut |_| ());
            succeed(&batch).map_err(|source| BenchError::Block { rung: self.name, source })?;
            let before = std::mem::replace(&mut now, Instant::now());
            requests += batch.len() as u64;
            latencies.note_many(now - before, batch.len() as u64);
        }
        Ok(Done { requests, took: now - start })
    }
}

fn operation(direction: Direction, buffer: &mut [u8]) -> Op<'_> {
    match direction {
        Direction::Read => Op::Read { at: ByteOffset::ZERO, into: buffer },
        Direction::Write => Op::Write { at: ByteOffset::ZERO, from: buffer, durability: Durability::Cached },
    }
}

/// The same operation, yet to be carried out, elsewhere.
fn move_to(io: &mut Io<'_>, place: ByteOffset) {
    let mut op = std::mem::replace(&mut io.op, Op::Flush);
    if let Op::Read { at, .. } | Op::Write { at, .. } = &mut op {
        *at = place;
    }
    *io = Io::new(op, 0);
}

fn succeed(batch: &[Io<'_>]) -> Result<(), BlockError> {
    batch.iter().try_for_each(|io| io.outcome().expect("a device completes every Io of a batch that may block"))
}
