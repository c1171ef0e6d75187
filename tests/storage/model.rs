//! Random operations at any alignment against a plain vector of bytes, on every kind of device.

use std::path::Path;

use envol::block::file::{Access, FileDevice, Space};
use envol::block::memory::MemoryDevice;
use envol::block::poison::Poison;
use envol::block::{Allocation, BlockDevice, BlockDeviceExt, BlockError, Durability, Effort, Op, Zeroing};
use envol::units::{ByteCount, ByteOffset};

use crate::places::{Loop, count, extent, in_memory, on_disk, open, skip};

const SIZE: u64 = 1 << 20;
const STEPS: u32 = 600;

/// A small generator, the same sequence on every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound
    }

    fn choose<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).expect("short")]
    }

    /// A range of the device: half of them aligned to 512, one in eight long.
    fn range(&mut self) -> (u64, u64) {
        let longest = self.choose(&[600, 5_000, 5_000, 20_000, 20_000, 20_000, 20_000, 300_000]);
        let unit = self.choose(&[1, 512]);
        let start = self.below(SIZE) / unit * unit;
        let length = (1 + self.below(longest)).next_multiple_of(unit).min(SIZE - start);
        (start, length)
    }
}

pub(crate) fn play(device: &dyn BlockDevice) {
    let mut model = vec![0; usize::try_from(SIZE).expect("small")];
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for step in 0..STEPS {
        let (start, length) = dice.range();
        let range = usize::try_from(start).expect("small")..usize::try_from(start + length).expect("small");
        let durability = dice.choose(&[Durability::Cached, Durability::Cached, Durability::Durable]);
        match dice.below(5) {
            0 | 1 => {
                let byte = u8::try_from(1 + dice.below(255)).expect("a byte");
                model[range.clone()].fill(byte);
                device.write_at(ByteOffset::new(start), &mut model[range].to_vec(), durability).expect("writes");
            }
            2 => zero(device, &mut dice, (start, length), durability, &mut model[range]),
            3 => {
                device.perform(Op::Discard { extent: extent(start, length), durability }).expect("discards");
                let mut now = vec![9; range.len()];
                device.read_at(ByteOffset::new(start), &mut now).expect("reads");
                let kept = |(now, was): (&u8, &u8)| now == was || *now == 0;
                assert!(now.iter().zip(&model[range.clone()]).all(kept), "step {step}: zeros or unchanged");
                model[range].copy_from_slice(&now);
            }
            _ => check_extents(device, (start, length), &model[range]),
        }
        if step % 20 == 0 {
            check(device, &model);
        }
    }
    check(device, &model);
}

fn zero(device: &dyn BlockDevice, dice: &mut Dice, range: (u64, u64), durability: Durability, model: &mut [u8]) {
    let zeroing = dice.choose(&[Zeroing::MayPunch, Zeroing::KeepAllocated]);
    let effort = dice.choose(&[Effort::Any, Effort::FastOnly]);
    let outcome = device.perform(Op::Zero { extent: extent(range.0, range.1), zeroing, effort, durability });
    match outcome {
        Err(BlockError::NotFast) => assert_eq!(effort, Effort::FastOnly),
        other => {
            other.expect("zeroes");
            model.fill(0);
        }
    }
}

/// All bytes, read in pieces that follow no alignment.
fn check(device: &dyn BlockDevice, model: &[u8]) {
    let mut at = 0;
    for expected in model.chunks(77_777) {
        let mut bytes = vec![9; expected.len()];
        device.read_at(ByteOffset::new(at), &mut bytes).expect("reads");
        assert!(bytes == expected, "the bytes from {at} on are as the model has them");
        at += expected.len() as u64;
    }
}

/// The runs cover the extent, and whatever is not data is zeros.
fn check_extents(device: &dyn BlockDevice, range: (u64, u64), model: &[u8]) {
    let runs = device.extents(extent(range.0, range.1)).expect("described");
    let mut rest = model;
    for pair in runs.windows(2) {
        assert_ne!(pair[0].allocation, pair[1].allocation, "adjacent runs of one kind are joined");
    }
    for run in runs {
        let (part, after) = rest.split_at(run.length.in_memory());
        let zeros = part.iter().all(|byte| *byte == 0);
        assert!(!part.is_empty() && (run.allocation == Allocation::Data || zeros), "{run:?} is no data");
        rest = after;
    }
    assert!(rest.is_empty(), "all of the extent is described");
}

#[test]
fn memory_behaves_like_a_vector() {
    play(&Poison::new(MemoryDevice::new(count(SIZE))));
}

#[test]
fn a_file_on_a_disk_behaves_like_a_vector() {
    let place = on_disk();
    let path = place.path().join("backing");
    play(&Poison::new(FileDevice::create(&path, count(SIZE), Space::Thin).expect("made")));
    let reopened = open(&path, Access::ReadOnly);
    assert_eq!(reopened.geometry().size, ByteCount::new(SIZE));
}

#[test]
fn a_file_in_memory_behaves_like_a_vector() {
    let Some(place) = in_memory() else { return skip("no /dev/shm") };
    play(&FileDevice::create(&place.path().join("backing"), count(SIZE), Space::Thick).expect("made"));
}

#[test]
fn a_block_device_behaves_like_a_vector() {
    let place = on_disk();
    play_on_loop_devices_in(place.path());
}

/// A loop device over a file in memory claims to make zeros, and finds out that it cannot when it is asked to keep them
/// allocated.
#[test]
fn a_block_device_that_stops_making_zeros_behaves_like_a_vector() {
    let Some(place) = in_memory() else { return skip("no /dev/shm") };
    play_on_loop_devices_in(place.path());
}

fn play_on_loop_devices_in(place: &Path) {
    let path = place.join("disk");
    drop(FileDevice::create(&path, count(SIZE), Space::Thin).expect("made"));
    for options in [&[][..], &["--sector-size", "4096"]] {
        let Some(disk) = Loop::over(&path, options) else { return skip("no loop devices") };
        let device = open(disk.path(), Access::ReadWrite);
        assert!(device.is_block_device());
        assert_eq!(device.geometry().size, ByteCount::new(SIZE));
        let whole = extent(0, SIZE);
        device.zero(whole).expect("zeroes");
        play(&device);
    }
}
