//! Random operations, one after the other and in batches, on thick and thin volumes of both sector sizes.

use std::sync::Arc;

use envol::block::memory::MemoryDevice;
use envol::block::{
    Allocation, BlockDevice, BlockDeviceExt, BlockError, Durability, Effort, Geometry, Io, Op, Patience, Zeroing,
};
use envol::units::{ByteCount, ByteOffset, Extent, SectorSize};
use envol::volume::EncryptedDevice;
use proptest::prelude::*;

use crate::support::{Shape, open};

/// Two scopes and a part, so that operations near the middle cross a boundary of keys.
const SIZE: u64 = (2 << 20) + 64 * 1024;

#[derive(Debug, Clone)]
enum Step {
    Read(Extent),
    Write(Extent, u8, Durability),
    Zero(Extent, Zeroing, Effort, Durability),
    Discard(Extent),
    Extents(Extent, usize),
    /// Writes and a read side by side in one batch, first without waiting.
    Batch(Vec<Extent>, u8),
    Flush,
    Reopen,
    Fill,
}

/// Places huddle around the start, the end and the scope boundaries; half the ends are whole pieces.
fn extent() -> impl Strategy<Value = Extent> {
    let around = prop_oneof![Just(0), Just(1 << 20), Just(2 << 20), Just(SIZE - 9000), 0..SIZE];
    let length = prop_oneof![8 => 0..1500u64, 4 => 1500..20_000u64, 1 => 20_000..1_200_000u64];
    (around, -6000..6000i64, length, any::<[bool; 2]>()).prop_map(
        |(around, shift, length, [start_whole, end_whole])| {
            let start = around.saturating_add_signed(shift).min(SIZE);
            let start = if start_whole { start - start % 512 } else { start };
            let end = (start + length).min(SIZE);
            let end = if end_whole { (end - end % 512).max(start) } else { end };
            Extent::new(ByteOffset::new(start), ByteCount::new(end - start)).expect("small")
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let durability = prop_oneof![Just(Durability::Cached), Just(Durability::Durable)];
    let zeroing = prop_oneof![Just(Zeroing::MayPunch), Just(Zeroing::KeepAllocated)];
    let effort = prop_oneof![Just(Effort::Any), Just(Effort::FastOnly)];
    prop_oneof![
        6 => extent().prop_map(Step::Read),
        10 => (extent(), any::<u8>(), durability.clone()).prop_map(|(e, b, d)| Step::Write(e, b, d)),
        4 => (extent(), zeroing, effort, durability).prop_map(|(e, z, f, d)| Step::Zero(e, z, f, d)),
        4 => extent().prop_map(Step::Discard),
        3 => (extent(), 1..5usize).prop_map(|(e, most)| Step::Extents(e, most)),
        3 => (prop::collection::vec(extent(), 0..6), any::<u8>()).prop_map(|(e, b)| Step::Batch(e, b)),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => Just(Step::Fill),
    ]
}

/// A device that does only every other thing without waiting.
struct Reluctant(Arc<MemoryDevice>);

impl BlockDevice for Reluctant {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        for io in batch.iter_mut().filter(|io| patience == Patience::MayBlock || io.tag % 2 == 0) {
            self.0.submit(std::slice::from_mut(io), patience, done);
        }
    }
}

struct Model {
    thick: bool,
    backing: Arc<MemoryDevice>,
    device: EncryptedDevice,
    plain: Vec<u8>,
}

fn range(extent: Extent) -> std::ops::Range<usize> {
    extent.start().get() as usize..extent.end().get() as usize
}

/// Bytes that differ from place to place, and are zeros where `seed` is small: zeros that were written are data too.
fn pattern(extent: Extent, seed: u8) -> Vec<u8> {
    let byte = |place: u64| (place as u8).wrapping_mul(31) ^ (place >> 9) as u8 ^ seed;
    range(extent).map(|place| if seed < 30 { 0 } else { byte(place as u64) }).collect()
}

impl Model {
    fn new(shape: Shape) -> Self {
        let backing = shape.make();
        let device = open(Arc::new(Reluctant(backing.clone())));
        Self { thick: shape.thick, backing, device, plain: vec![0; shape.size as usize] }
    }

    fn carry_out(&mut self, step: &Step) {
        match step {
            Step::Read(extent) => self.read(*extent),
            Step::Write(extent, seed, durability) => {
                let mut bytes = pattern(*extent, *seed);
                self.plain[range(*extent)].copy_from_slice(&bytes);
                self.device.write_at(extent.start(), &mut bytes, *durability).expect("writes");
            }
            Step::Zero(extent, zeroing, effort, durability) => self.zero(*extent, *zeroing, *effort, *durability),
            Step::Discard(extent) => self.discard(*extent),
            Step::Extents(extent, most) => self.describe(*extent, *most),
            Step::Batch(extents, seed) => self.batch(extents, *seed),
            Step::Flush => self.device.flush().expect("flushes"),
            Step::Reopen => self.device = open(Arc::new(Reluctant(self.backing.clone()))),
            Step::Fill => self.device.fill(&mut |_, _| true).expect("fills"),
        }
    }

    fn read(&self, extent: Extent) {
        let mut bytes = vec![0xa5; range(extent).len()];
        self.device.read_at(extent.start(), &mut bytes).expect("reads");
        assert!(bytes == self.plain[range(extent)], "{extent:?}");
    }

    fn zero(&mut self, extent: Extent, zeroing: Zeroing, effort: Effort, durability: Durability) {
        let whole_pieces = extent.start().get().div_ceil(512) < extent.end().get() / 512;
        let refused = self.thick && effort == Effort::FastOnly && whole_pieces;
        let outcome = self.device.perform(Op::Zero { extent, zeroing, effort, durability });
        assert_eq!(outcome, if refused { Err(BlockError::NotFast) } else { Ok(()) });
        if !refused {
            self.plain[range(extent)].fill(0);
        }
    }

    /// Whole pieces read as zeros, parts of pieces are unchanged; in a thick volume nothing is.
    fn discard(&mut self, extent: Extent) {
        self.device.perform(Op::Discard { extent, durability: Durability::Cached }).expect("discards");
        let first = range(extent).start.next_multiple_of(512);
        let last = range(extent).end / 512 * 512;
        if !self.thick && first < last {
            self.plain[first..last].fill(0);
        }
    }

    /// What is said to be zeros is; the runs cover the extent unless there are too many.
    fn describe(&self, extent: Extent, most: usize) {
        let mut runs = Vec::new();
        self.device.perform(Op::Extents { extent, into: &mut runs, most }).expect("described");
        let mut at = range(extent).start;
        for run in &runs {
            let end = at + run.length.get() as usize;
            assert!(run.allocation == Allocation::Data || self.plain[at..end].iter().all(|byte| *byte == 0));
            assert!(run.allocation == Allocation::Data || !self.thick);
            at = end;
        }
        assert!(at == range(extent).end || runs.len() == most && at < range(extent).end, "{extent:?} {runs:?}");
        assert!(runs.windows(2).all(|pair| pair[0].allocation != pair[1].allocation), "adjacent runs are joined");
    }

    /// Submits without waiting first: what is left must be untouched, and goes through when it may wait.
    fn batch(&mut self, extents: &[Extent], seed: u8) {
        let apart = extents.iter().enumerate().filter(|(i, e)| extents[..*i].iter().all(|other| !touch(**e, *other)));
        let apart: Vec<Extent> = apart.map(|(_, extent)| *extent).collect();
        let mut written: Vec<Vec<u8>> = apart.iter().map(|extent| pattern(*extent, seed)).collect();
        let mut read: Vec<Vec<u8>> = apart.iter().map(|extent| vec![0; range(*extent).len()]).collect();
        let mut answered = vec![0; 2 * apart.len()];
        for (round, reading) in [false, true].into_iter().enumerate() {
            let buffers = if reading { &mut read } else { &mut written };
            let mut ios: Vec<Io<'_>> = Vec::new();
            for (index, (extent, bytes)) in apart.iter().zip(buffers).enumerate() {
                let (at, durability) = (extent.start(), Durability::Cached);
                let op = if reading { Op::Read { at, into: bytes } } else { Op::Write { at, from: bytes, durability } };
                ios.push(Io::new(op, (round * apart.len() + index) as u64));
            }
            self.device.submit(&mut ios, Patience::TryNow, &mut |io| answered[io.tag as usize] += 1);
            for (io, extent) in ios.iter().zip(&apart).filter(|(io, _)| io.outcome().is_none()) {
                let Op::Write { at, from, .. } = &io.op else { continue };
                assert!(*at == extent.start() && **from == pattern(*extent, seed), "what was left is untouched");
            }
            self.device.submit(&mut ios, Patience::MayBlock, &mut |io| answered[io.tag as usize] += 1);
            assert!(ios.iter().all(|io| io.outcome() == Some(Ok(()))));
        }
        assert!(answered.iter().all(|count| *count == 1), "each is completed exactly once");
        for (extent, bytes) in apart.iter().zip(read) {
            assert!(bytes == pattern(*extent, seed), "{extent:?}");
            self.plain[range(*extent)].copy_from_slice(&bytes);
        }
    }
}

fn touch(one: Extent, other: Extent) -> bool {
    one.start() < other.end() && other.start() < one.end()
}

fn run(sectors: SectorSize, thick: bool, steps: &[Step]) {
    let mut model = Model::new(Shape { size: SIZE, sectors, thick });
    for step in steps {
        model.carry_out(step);
    }
    model.read(Extent::new(ByteOffset::ZERO, ByteCount::new(SIZE)).expect("small"));
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_thin_volume_of_4096_byte_sectors_is_a_vector_of_bytes(steps in steps()) {
        run(SectorSize::B4096, false, &steps);
    }

    #[test]
    fn a_thin_volume_of_512_byte_sectors_is_a_vector_of_bytes(steps in steps()) {
        run(SectorSize::B512, false, &steps);
    }

    #[test]
    fn a_thick_volume_of_4096_byte_sectors_is_a_vector_of_bytes(steps in steps()) {
        run(SectorSize::B4096, true, &steps);
    }

    #[test]
    fn a_thick_volume_of_512_byte_sectors_is_a_vector_of_bytes(steps in steps()) {
        run(SectorSize::B512, true, &steps);
    }
}
