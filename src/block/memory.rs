//! A device in memory: for tests, models and anything that must not outlive the process.
//!
//! It is sparse: what was never written, and what was punched, takes no memory and is a hole in 4096-byte pages, as it
//! would be in a file. One lock covers a whole operation, so readers never see half a write. Durability means nothing
//! here: everything is as durable as the process.

use std::collections::BTreeMap;

use super::{Allocation, BlockDevice, BlockError, Geometry, Io, Op, Patience, Run, Zeroing, carry_out};
use crate::sync::RwLock;
use crate::units::{ByteCount, ByteOffset, Extent};

/// The unit in which space is allocated.
const PAGE: usize = 4096;
const PAGE_BYTES: u64 = PAGE as u64;

type Pages = BTreeMap<u64, Box<[u8; PAGE]>>;

/// A sparse device in memory.
#[derive(Debug)]
pub struct MemoryDevice {
    geometry: Geometry,
    /// The allocated pages by number; what is not here reads as zeros.
    pages: RwLock<Pages>,
}

/// The part of one page that an operation covers.
struct Part {
    page: u64,
    within: std::ops::Range<usize>,
}

impl MemoryDevice {
    /// `size` bytes, all of them a hole.
    pub fn new(size: ByteCount) -> Self {
        let geometry = Geometry {
            size,
            read_only: false,
            preferred: ByteCount::new(PAGE_BYTES),
            punches: true,
            writes_wait: false,
        };
        Self { geometry, pages: RwLock::new(Pages::new()) }
    }

    /// `contents`, and refusing mutations from now on where `read_only`.
    pub fn holding(contents: &[u8], read_only: bool) -> Self {
        let mut device = Self::new(ByteCount::of(contents));
        write(&mut device.pages.write(), ByteOffset::ZERO, contents);
        device.geometry.read_only = read_only;
        device
    }

    /// All bytes, holes as zeros.
    pub fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.geometry.size.in_memory()];
        read(&self.pages.read(), ByteOffset::ZERO, &mut bytes);
        bytes
    }

    /// How much space is allocated, in whole pages.
    pub fn allocated(&self) -> ByteCount {
        ByteCount::new(self.pages.read().len() as u64 * PAGE_BYTES)
    }

    fn perform(&self, op: &mut Op<'_>) -> Result<(), BlockError> {
        match op {
            Op::Read { at, into } => read(&self.pages.read(), *at, into),
            Op::Write { at, from, .. } => write(&mut self.pages.write(), *at, from),
            Op::Flush => (),
            Op::Zero { extent, zeroing, .. } => zero(&mut self.pages.write(), *extent, *zeroing),
            Op::Discard { extent, .. } => zero(&mut self.pages.write(), *extent, Zeroing::MayPunch),
            Op::Extents { extent, into, most } => describe(&self.pages.read(), *extent, into, *most),
        }
        Ok(())
    }
}

impl BlockDevice for MemoryDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], _patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        carry_out(self.geometry, batch, done, |op| Some(self.perform(op)));
    }
}

/// The pages under `length` bytes from `at`, each with the part of it that is meant.
fn parts(at: ByteOffset, length: u64) -> impl Iterator<Item = Part> {
    let end = at.get() + length;
    let first = at.get() / PAGE_BYTES;
    (first..end.div_ceil(PAGE_BYTES).max(first)).map(move |page| {
        let base = page * PAGE_BYTES;
        let index = |place: u64| usize::try_from(place.clamp(base, base + PAGE_BYTES) - base).expect("within a page");
        Part { page, within: index(at.get())..index(end) }
    })
}

fn read(pages: &Pages, at: ByteOffset, mut into: &mut [u8]) {
    for part in parts(at, into.len() as u64) {
        let (piece, rest) = into.split_at_mut(part.within.len());
        match pages.get(&part.page) {
            Some(page) => piece.copy_from_slice(&page[part.within]),
            None => piece.fill(0),
        }
        into = rest;
    }
}

fn write(pages: &mut Pages, at: ByteOffset, mut from: &[u8]) {
    for part in parts(at, from.len() as u64) {
        let (piece, rest) = from.split_at(part.within.len());
        let page = pages.entry(part.page).or_insert_with(|| Box::new([0; PAGE]));
        page[part.within].copy_from_slice(piece);
        from = rest;
    }
}

fn zero(pages: &mut Pages, extent: Extent, zeroing: Zeroing) {
    match zeroing {
        Zeroing::KeepAllocated => {
            for part in parts(extent.start(), extent.length().get()) {
                pages.entry(part.page).or_insert_with(|| Box::new([0; PAGE]))[part.within].fill(0);
            }
        }
        Zeroing::MayPunch => punch(pages, extent),
    }
}

/// Goes by the pages that exist: a hole as large as the device takes no time.
fn punch(pages: &mut Pages, extent: Extent) {
    let (start, end) = (extent.start().get(), extent.end().get());
    let touched = start / PAGE_BYTES..end.div_ceil(PAGE_BYTES).max(start / PAGE_BYTES);
    let touched: Vec<u64> = pages.range(touched).map(|(number, _)| *number).collect();
    for number in touched {
        let base = number * PAGE_BYTES;
        if start <= base && base + PAGE_BYTES <= end {
            pages.remove(&number);
        } else if let Some(page) = pages.get_mut(&number) {
            let index = |place: u64| usize::try_from(place.clamp(base, base + PAGE_BYTES) - base).expect("in a page");
            page[index(start)..index(end)].fill(0);
        }
    }
}

fn describe(pages: &Pages, extent: Extent, into: &mut Vec<Run>, most: usize) {
    let end = extent.end().get();
    let mut at = extent.start().get();
    while at < end {
        let page = at / PAGE_BYTES;
        let (allocation, next) = if pages.contains_key(&page) {
            (Allocation::Data, (page + 1) * PAGE_BYTES)
        } else {
            (Allocation::Hole, pages.range(page..).next().map_or(end, |(number, _)| number * PAGE_BYTES))
        };
        let next = next.min(end);
        if !(Run { length: ByteCount::new(next - at), allocation }).append(into, most) {
            break;
        }
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BlockDeviceExt, Durability, Effort};
    use super::*;

    fn extent(start: u64, length: u64) -> Extent {
        Extent::new(ByteOffset::new(start), ByteCount::new(length)).expect("small")
    }

    fn device() -> MemoryDevice {
        MemoryDevice::new(ByteCount::new(40_000))
    }

    fn write(device: &MemoryDevice, at: u64, length: usize) {
        device.write_at(ByteOffset::new(at), &mut vec![7; length], Durability::Cached).expect("writes");
    }

    #[test]
    fn what_is_written_at_any_alignment_is_read_back() {
        let device = device();
        write(&device, 4095, 4098);
        let mut expected = vec![0; 40_000];
        expected[4095..8193].fill(7);
        assert_eq!(device.contents(), expected);
        let mut part = [1; 3];
        device.read_at(ByteOffset::new(4094), &mut part).expect("reads");
        assert_eq!(part, [0, 7, 7]);
    }

    #[test]
    fn whole_pages_zeroed_become_holes_and_partly_zeroed_ones_stay() {
        let device = device();
        write(&device, 0, 16_384);
        device.zero(extent(100, 8_092)).expect("zeroes");
        assert_eq!(device.allocated(), ByteCount::new(3 * 4096));
        let mut expected = vec![0; 40_000];
        expected[..100].fill(7);
        expected[8192..16_384].fill(7);
        assert_eq!(device.contents(), expected);
    }

    #[test]
    fn zeros_can_be_kept_allocated() {
        let device = device();
        let (zeroing, effort, durability) = (Zeroing::KeepAllocated, Effort::FastOnly, Durability::Cached);
        device.perform(&mut Op::Zero { extent: extent(0, 8192), zeroing, effort, durability }).expect("zeroes");
        assert_eq!(device.allocated(), ByteCount::new(8192));
    }

    #[test]
    fn extents_are_joined_clipped_and_bounded() {
        let device = device();
        write(&device, 4096, 8192);
        write(&device, 20_480, 1);
        let run = |length, allocation| Run { length: ByteCount::new(length), allocation };
        let (data, hole) = (Allocation::Data, Allocation::Hole);
        let all = [run(4096, hole), run(8192, data), run(8192, hole), run(4096, data), run(15_424, hole)];
        assert_eq!(device.extents(extent(0, 40_000)).expect("described"), all);
        assert_eq!(device.extents(extent(5000, 100)).expect("described"), [run(100, data)]);
        let mut runs = Vec::new();
        device.perform(&mut Op::Extents { extent: extent(0, 40_000), into: &mut runs, most: 2 }).expect("described");
        assert_eq!(runs, all[..2]);
    }

    #[test]
    fn a_range_past_the_end_is_refused_and_touches_nothing() {
        let device = device();
        let refused = device.write_at(ByteOffset::new(39_999), &mut [1, 2], Durability::Cached);
        assert_eq!(refused, Err(BlockError::OutOfRange));
        assert_eq!(device.allocated(), ByteCount::ZERO);
    }

    #[test]
    fn a_read_only_device_refuses_mutations_and_still_flushes() {
        let device = MemoryDevice::holding(&[5; 10], true);
        let refused = device.write_at(ByteOffset::ZERO, &mut [1], Durability::Cached);
        assert_eq!(refused, Err(BlockError::ReadOnly));
        assert_eq!(device.flush(), Ok(()));
        assert_eq!(device.contents(), [5; 10]);
    }

    #[test]
    fn an_io_that_has_an_outcome_is_passed_over() {
        let device = device();
        let mut bytes = [1];
        let write = Op::Write { at: ByteOffset::ZERO, from: &mut bytes, durability: Durability::Cached };
        let mut batch = [Io::new(write, 0), Io::new(Op::Flush, 1)];
        batch[0].complete(Err(BlockError::Poisoned));
        let mut tags = Vec::new();
        device.submit(&mut batch, Patience::MayBlock, &mut |io| tags.push(io.tag));
        assert_eq!(tags, [1]);
        assert_eq!(device.allocated(), ByteCount::ZERO);
    }
}
