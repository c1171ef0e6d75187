//! No READ and no WRITE allocates, from the socket to the file, once lists and buffers have found their size.

use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use envol::block::file::{FileDevice, Space};
use envol::block::poison::Poison;
use envol::block::{BlockDevice, BlockDeviceExt, Durability, Geometry, Io, Patience};
use envol::units::{ByteCount, ByteOffset};
use envol::volume::{CreateSpec, EncryptedDevice, Rollback};

use crate::support::*;
use crate::volumes::{FakeKms, ID, make, open_device, spec};
use crate::{allocations, alone};

const VOLUME: u64 = 4 << 20;
/// Requests that are sent together.
const AT_ONCE: usize = 20;

/// A volume over a file, put together as an attachment does it.
fn volume(directory: &tempfile::TempDir) -> EncryptedDevice {
    let spec = CreateSpec { size: ByteCount::new(VOLUME), ..spec(ID) };
    let mut image = make(&spec);
    let size = ByteCount::new(image.len() as u64);
    let file = FileDevice::create(&directory.path().join("backing"), size, Space::Thin).expect("made");
    file.write_at(ByteOffset::ZERO, &mut image, Durability::Cached).expect("written");
    let (verified, keys) = open_device(&file, &FakeKms::HONEST, None, Rollback::Refuse).expect("opens");
    let backing: Arc<dyn BlockDevice> = Arc::new(Poison::new(file));
    EncryptedDevice::new(backing, &verified, keys)
}

/// So many READs or WRITEs in one message, spread over the volume; and how long the answer is.
fn message(command: u16, flags: u16, length: usize, crooked: u64) -> (Vec<u8>, usize) {
    let mut message = Vec::new();
    for number in 0..AT_ONCE as u64 {
        message.extend(request(command, flags, number, number * 64 * 1024 + crooked, length as u32));
        if command == WRITE {
            message.extend(vec![number as u8; length]);
        }
    }
    let answer = if command == READ { 16 + length } else { 16 };
    (message, AT_ONCE * answer)
}

/// How many allocations `rounds` of `message` cost, after a round to get warm.
fn cost(raw: &mut Raw, (message, answer): &(Vec<u8>, usize), rounds: usize) -> u64 {
    let mut received = vec![0; *answer];
    let mut before = 0;
    for round in 0..=rounds {
        if round == 1 {
            before = allocations();
        }
        raw.stream.write_all(message).expect("sent");
        raw.stream.read_exact(&mut received).expect("received");
    }
    allocations() - before
}

#[test]
fn ten_thousand_requests_allocate_nothing() {
    let _alone = alone();
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let fixture = Fixture::over(volume(&directory));
    let mut raw = fixture.simple();
    for (command, length) in [(WRITE, 4096), (READ, 4096), (WRITE, 512), (READ, 512), (READ, 64 << 10)] {
        let spent = cost(&mut raw, &message(command, 0, length, 0), 10_000 / AT_ONCE);
        assert_eq!(spent, 0, "command {command}, {length} bytes");
    }
}

/// How many threads a connection has at the most for what cannot be done at once.
const WORKERS: usize = 16;
/// A thread that had nothing to do for so long ends; its successor allocates.
const WORKER_IDLE: Duration = Duration::from_secs(10);

/// A device that holds up whatever may wait, for as long as it is told to.
struct Held {
    inner: EncryptedDevice,
    held: Arc<(Mutex<bool>, Condvar)>,
}

impl BlockDevice for Held {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        if patience == Patience::MayBlock {
            let held = self.held.0.lock().unwrap();
            drop(self.held.1.wait_while(held, |held| *held).unwrap());
        }
        self.inner.submit(batch, patience, done);
    }
}

/// Has every worker started, and more requests of `length` bytes in flight than later, so that lists and pools find their size.
fn muster(raw: &mut Raw, fixture: &Fixture, (held, changed): &(Mutex<bool>, Condvar), length: usize) {
    const REQUESTS: u64 = 64;
    *held.lock().unwrap() = true;
    for number in 0..REQUESTS {
        raw.request(WRITE, FUA, number, number % 32 * 64 * 1024, length as u32, &vec![1; length]);
    }
    // Who receives refuses at once. The second of two refusals leaves behind the batch in which the first came, so all of the
    // WRITEs are queued then.
    for number in 0..2 {
        raw.request(READ, 0, REQUESTS + number, VOLUME, 512, &[]);
        assert_eq!(raw.simple_reply(0).1, REQUESTS + number);
    }
    wait_for("all workers", || fixture.vol.gate.inside() == WORKERS as u64);
    *held.lock().unwrap() = false;
    changed.notify_all();
    for _ in 0..REQUESTS {
        assert_eq!(raw.simple_reply(0).0, 0);
    }
}

/// What the workers carry out is queued, and threads come and go: only their coming allocates.
#[test]
fn five_thousand_requests_for_the_workers_allocate_nothing() {
    let _alone = alone();
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let held = Arc::new((Mutex::new(false), Condvar::new()));
    let fixture = Fixture::over(Held { inner: volume(&directory), held: Arc::clone(&held) });
    let mut raw = fixture.simple();
    let large = [(WRITE, 0, 256 << 10, 0), (READ, 0, 256 << 10, 0)];
    for (command, flags, length, crooked) in
        [(WRITE, FUA, 4096, 0), (WRITE, 0, 700, 3), (READ, 0, 700, 3)].into_iter().chain(large)
    {
        let message = message(command, flags, length, crooked);
        let (mut parts, mut tries) = (0, 0);
        while parts < 5 {
            tries += 1;
            assert!(tries <= 25, "this machine never carries 1,000 requests out while a worker waits for more");
            muster(&mut raw, &fixture, &held, length);
            let start = Instant::now();
            let spent = cost(&mut raw, &message, 1_000 / AT_ONCE);
            // On a machine so slow that a worker may have ended meanwhile this shows nothing, and is done again.
            if start.elapsed() < WORKER_IDLE {
                assert_eq!(spent, 0, "command {command}, flags {flags}, {length} bytes");
                parts += 1;
            }
        }
    }
}
