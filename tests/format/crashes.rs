//! Crashes at every point of a header's making and updating: every subset of torn 512-byte sectors of what was not synced.

use envol::block::memory::MemoryDevice;
use envol::block::{BlockDevice, BlockDeviceExt, BlockError, Durability, Geometry, Io, Op, Patience};
use envol::sync::Mutex;
use envol::units::ByteOffset;
use envol::volume::{self, Record, Rollback, Standing, VolumeError};

use crate::support::{FakeKms, ID, caller, copy, device_for, make, open_device, spec, used};

#[derive(Clone)]
enum Logged {
    Write(usize, Vec<u8>),
    Sync,
}

/// A device that keeps a log of what was written and synced.
struct Recorder {
    device: MemoryDevice,
    log: Mutex<Vec<Logged>>,
}

impl Recorder {
    fn new(device: MemoryDevice) -> Self {
        Self { device, log: Mutex::new(Vec::new()) }
    }
}

impl BlockDevice for Recorder {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        for io in batch.iter() {
            match &io.op {
                Op::Write { at, from, .. } => {
                    self.log.lock().push(Logged::Write(at.get() as usize, from.to_vec()));
                }
                Op::Flush => self.log.lock().push(Logged::Sync),
                _ => (),
            }
        }
        self.device.submit(batch, patience, done);
    }
}

/// Calls `check` with every image that a crash may leave, garbage in a torn sector among them.
fn each_crash(before: &[u8], log: &[Logged], mut check: impl FnMut(&[u8])) -> usize {
    let mut durable = before.to_vec();
    let mut pending: Option<(usize, &[u8])> = None;
    let mut states = 0;
    for entry in log {
        match entry {
            Logged::Sync => {
                if let Some((at, bytes)) = pending.take() {
                    durable[at..at + bytes.len()].copy_from_slice(bytes);
                }
            }
            Logged::Write(at, bytes) => {
                assert!(pending.is_none(), "one write between two syncs");
                pending = Some((*at, bytes));
                let sectors = bytes.len().div_ceil(512);
                // In base three: a sector is old, new, or garbage.
                for tear in 0..3usize.pow(sectors as u32) {
                    let mut image = durable.clone();
                    for sector in 0..sectors {
                        let range = 512 * sector..bytes.len().min(512 * (sector + 1));
                        let place = at + range.start..at + range.end;
                        match tear / 3usize.pow(sector as u32) % 3 {
                            0 => (),
                            1 => image[place].copy_from_slice(&bytes[range]),
                            _ => image[place].fill(0xe5),
                        }
                    }
                    check(&image);
                    states += 1;
                }
            }
        }
    }
    states
}

fn begin(image: &[u8], record: &Record) -> (Standing, u64, Vec<Logged>) {
    let recorder = Recorder::new(MemoryDevice::holding(image, false));
    let opened = open_device(&recorder, &FakeKms::HONEST, Some(record), Rollback::Refuse);
    let (mut verified, _) = opened.unwrap_or_else(|error| panic!("lost: {error}"));
    let (standing, generation) = (verified.standing(), verified.identity().1);
    verified.begin_generation(&recorder).expect("writes");
    (standing, generation, recorder.log.into_inner())
}

#[test]
fn a_crash_at_any_point_of_an_update_leaves_the_old_or_the_new_generation() {
    let (record, image) = used(ID, 3);
    let (_, generation, log) = begin(&image, &record);
    let mut seen = std::collections::BTreeSet::new();
    let states = each_crash(&image, &log, |crashed| {
        let (standing, found, second_log) = begin(crashed, &record);
        assert!(matches!((standing, found - generation), (Standing::Same, 0) | (Standing::Ahead, 1)));
        seen.insert(found);
        // And a crash of the update that follows the crash.
        each_crash(crashed, &second_log, |again| {
            let device = MemoryDevice::holding(again, true);
            let opened = open_device(&device, &FakeKms::HONEST, Some(&record), Rollback::Refuse);
            let again = opened.unwrap_or_else(|error| panic!("lost in the second crash: {error}")).0.identity().1;
            assert!(again == found || again == found + 1);
        });
    });
    assert!(states >= 2 * 9, "{states}");
    assert_eq!(seen.len(), 2, "crashes before and after were among them");
}

/// A kill loses nothing that the kernel has: the next process reads what a power cut may still take or tear.
#[test]
fn a_header_that_a_killed_process_wrote_is_synced_before_its_other_copy_is_written() {
    let (record, image) = used(ID, 3);
    let (_, generation, log) = begin(&image, &record);
    let mut cached = image.clone();
    let mut states = 0;
    for (number, entry) in log.iter().enumerate() {
        let Logged::Write(at, bytes) = entry else { continue };
        cached[*at..at + bytes.len()].copy_from_slice(bytes);
        let (_, found, second) = begin(&cached, &record);
        assert_eq!(found, generation + 1, "it was read from the page cache");
        let both = [&log[..=number], &second].concat();
        states += each_crash(&image, &both, |crashed| {
            let (_, left, _) = begin(crashed, &record);
            assert!((generation..=found + 1).contains(&left), "{left}");
        });
    }
    // Each of the two writes is torn in every way, and both of the second process after it.
    assert!(states >= 2 * 3 * 9, "{states}");
}

#[test]
fn a_crash_at_any_point_of_making_leaves_a_volume_or_none() {
    let recorder = Recorder::new(device_for(&spec(ID)));
    volume::create(&recorder, &FakeKms::HONEST, &caller(), &spec(ID), &mut |_, _| true).expect("made");
    let before = device_for(&spec(ID)).contents();
    let (mut made, mut none) = (0, 0);
    each_crash(&before, &recorder.log.into_inner(), |crashed| {
        let device = MemoryDevice::holding(crashed, true);
        match open_device(&device, &FakeKms::HONEST, None, Rollback::Refuse) {
            Ok(_) => made += 1,
            Err(VolumeError::NotAVolume | VolumeError::Damaged { .. }) => none += 1,
            // A torn MAC of the only copy: the checksum does not cover it.
            Err(VolumeError::MacMismatch) => none += 1,
            Err(error) => panic!("{error}"),
        }
    });
    assert!(made > 0 && none > 0);
}

/// A device whose writes or syncs fail from the `spare`th on.
struct Failing {
    device: MemoryDevice,
    spare: Mutex<u64>,
}

impl BlockDevice for Failing {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        for io in batch.iter_mut() {
            let counts = matches!(io.op, Op::Write { .. } | Op::Flush);
            let mut spare = self.spare.lock();
            if counts && *spare == 0 {
                io.complete(Err(BlockError::Poisoned));
                done(io);
                continue;
            }
            *spare -= u64::from(counts);
            self.device.submit(std::slice::from_mut(io), patience, done);
        }
    }
}

#[test]
fn an_update_that_fails_at_any_point_leaves_a_volume_that_opens() {
    let (record, image) = used(ID, 2);
    for spare in 0..5 {
        let device = Failing { device: MemoryDevice::holding(&image, false), spare: Mutex::new(u64::MAX) };
        let (mut verified, _) = open_device(&device, &FakeKms::HONEST, Some(&record), Rollback::Refuse).expect("opens");
        *device.spare.lock() = spare;
        assert!(verified.begin_generation(&device).is_err());
        assert_eq!(verified.identity().1, record.generation, "what failed does not count");
        let again = open_device(&device.device, &FakeKms::HONEST, Some(&record), Rollback::Refuse);
        assert!(again.is_ok());
    }
}

#[test]
fn a_write_that_lands_on_neither_copy_leaves_both_alone() {
    let image = make(&spec(ID));
    let device = MemoryDevice::holding(&image, false);
    device.write_at(ByteOffset::new(20_000), &mut [1; 512], Durability::Cached).expect("writes");
    let contents = device.contents();
    assert_eq!(contents[copy(&image, 0)], image[copy(&image, 0)]);
    assert!(open_device(&device, &FakeKms::HONEST, None, Rollback::Refuse).is_ok());
}
