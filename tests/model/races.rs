//! What races may do: two writers of parts of one piece lose nothing, and noise stays in the bytes that race.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use envol::block::fault::{Action, Fault, Rule, Target};
use envol::block::memory::MemoryDevice;
use envol::block::{BlockDevice, BlockDeviceExt, BlockError, Durability, Geometry, Io, Op, Patience};
use envol::units::{ByteCount, ByteOffset, Extent, SectorSize};
use envol::volume::EncryptedDevice;

use crate::support::{Shape, open};

const SIZE: u64 = 1 << 20;
const ROUNDS: u8 = 40;

/// A disk that moves a few bytes at a time, reads forwards and writes backwards, so that what may cross does.
struct Torn(Arc<MemoryDevice>);

impl BlockDevice for Torn {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], _patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        for io in batch {
            let outcome = self.perform_torn(&mut io.op);
            io.complete(outcome);
            done(io);
        }
    }
}

impl Torn {
    fn perform_torn(&self, op: &mut Op<'_>) -> Result<(), BlockError> {
        let place = |at: ByteOffset, index: usize| at.checked_add(ByteCount::new(24 * index as u64)).expect("small");
        match op {
            Op::Read { at, into } => into.chunks_mut(24).enumerate().try_for_each(|(index, part)| {
                linger();
                self.0.read_at(place(*at, index), part)
            }),
            Op::Write { at, from, durability } => {
                from.chunks_mut(24).enumerate().rev().try_for_each(|(index, part)| {
                    linger();
                    self.0.write_at(place(*at, index), part, *durability)
                })
            }
            Op::Zero { extent, .. } => {
                linger();
                self.0.zero(*extent)
            }
            _ => Ok(()),
        }
    }
}

/// Long enough for another thread to come between.
fn linger() {
    thread::sleep(Duration::from_micros(1));
}

fn volume() -> EncryptedDevice {
    open(Arc::new(Torn(Shape { size: SIZE, sectors: SectorSize::B4096, thick: false }.make())))
}

fn write(device: &EncryptedDevice, at: u64, bytes: &[u8]) {
    device.write_at(ByteOffset::new(at), &mut bytes.to_vec(), Durability::Cached).expect("writes");
}

fn read(device: &EncryptedDevice, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    device.read_at(ByteOffset::new(at), &mut bytes).expect("reads");
    bytes
}

#[test]
fn writers_of_parts_of_one_piece_lose_nothing() {
    let device = volume();
    thread::scope(|scope| {
        for part in 0..4u64 {
            let device = &device;
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    // Off the 16-byte blocks, so that the blocks at the seams are shared.
                    let (start, end) = (part * 125, part * 125 + 125);
                    write(device, start, &[round; 125]);
                    assert_eq!(read(device, start, (end - start) as usize), vec![round; 125]);
                }
            });
        }
    });
    assert_eq!(read(&device, 0, 512), [vec![ROUNDS; 500], vec![0; 12]].concat());
}

#[test]
fn what_a_writer_of_a_whole_piece_wrote_is_not_lost_to_a_writer_of_part_of_it() {
    let device = volume();
    for round in 1..=ROUNDS {
        thread::scope(|scope| {
            scope.spawn(|| write(&device, 0, &[round; 512]));
            scope.spawn(|| write(&device, 100, &[round; 50]));
        });
        assert_eq!(read(&device, 0, 512), [round; 512], "a write-back put older bytes over newer ones");
    }
}

#[test]
fn zeros_made_of_a_whole_piece_are_not_lost_to_a_writer_of_part_of_it() {
    let device = volume();
    let piece = Extent::new(ByteOffset::ZERO, ByteCount::new(512)).expect("small");
    for round in 1..=ROUNDS {
        write(&device, 0, &[9; 512]);
        thread::scope(|scope| {
            scope.spawn(|| device.zero(piece).expect("zeroes"));
            scope.spawn(|| write(&device, 100, &[round; 50]));
        });
        let bytes = read(&device, 0, 512);
        assert!(bytes[..100].iter().chain(&bytes[150..]).all(|byte| *byte == 0), "a write-back undid the zeros");
    }
}

#[test]
fn a_reader_sees_no_noise_in_bytes_that_nobody_writes() {
    let device = volume();
    // Each piece starts as a hole: the sharpest change of its ciphertext.
    let pieces = 100;
    let current = AtomicU64::new(0);
    thread::scope(|scope| {
        let (device, current) = (&device, &current);
        scope.spawn(move || {
            for piece in 0..pieces {
                current.store(piece, Ordering::Release);
                write(device, piece * 512 + 200, &[7; 100]);
            }
            current.store(pieces, Ordering::Release);
        });
        loop {
            let piece = current.load(Ordering::Acquire);
            // By turns the whole piece, and one byte less than it.
            let skipped = piece % 2;
            let bytes = read(device, piece * 512 + skipped, 512 - skipped as usize);
            let written = 200 - skipped as usize..300 - skipped as usize;
            assert!(bytes[..written.start].iter().chain(&bytes[written.end..]).all(|byte| *byte == 0));
            if piece == pieces {
                break;
            }
        }
    });
}

#[test]
fn wiping_the_keys_waits_for_no_disk_and_refuses_what_comes_later() {
    let shape = Shape { size: SIZE, sectors: SectorSize::B4096, thick: false };
    let disk = Arc::new(Fault::new(shape.make()));
    let device = open(disk.clone());
    write(&device, 0, &[1; 512]);
    disk.add(Rule { target: Target::Any, spare: 0, count: 2, action: Action::Hold });
    thread::scope(|scope| {
        let reads = scope.spawn(|| device.read_at(ByteOffset::ZERO, &mut [0; 512]));
        let writes = scope.spawn(|| device.write_at(ByteOffset::ZERO, &mut [2; 512], Durability::Cached));
        disk.wait_held(2);
        // With both stuck on the disk: were it waited for, this would never return.
        device.wipe_keys();
        disk.release();
        assert_eq!(reads.join().expect("no panic"), Err(BlockError::Detached));
        assert_eq!(writes.join().expect("no panic"), Ok(()), "what was encrypted may still land");
    });
    let mut bytes = [0; 512];
    assert_eq!(device.read_at(ByteOffset::ZERO, &mut bytes), Err(BlockError::Detached));
    assert_eq!(device.write_at(ByteOffset::new(1), &mut bytes, Durability::Cached), Err(BlockError::Detached));
    assert_eq!(device.flush(), Err(BlockError::Detached));
}
