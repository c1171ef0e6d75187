//! No allocation for a request on the path of a READ or WRITE: every allocation of the server's threads is counted while one client
//! reads and writes through the NBD server, the cipher and a file. One test alone, since the allocator is the process's.
#![allow(unsafe_code, reason = "an allocator is an unsafe trait; this one counts, and leaves the rest to the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use envol::block::BlockDevice;
use envol::block::file::{FileDevice, Space};
use envol::nbd::client::Client;
use envol::nbd::{Admission, Export, Exports, Listener, Listing, Refusal, Server, Session};
use envol::units::{ByteCount, SectorSize};
use envol::volume::EncryptedDevice;

#[allow(dead_code, reason = "of what the model test shares, one KMS and one way to open are used here")]
#[allow(clippy::cast_possible_truncation, reason = "as there: its patterns are bytes")]
#[path = "../model/support.rs"]
mod support;

const SIZE: u64 = 8 << 20;
const ROUNDS: usize = 50;
const BATCHES: usize = 20;

/// Where is read and written, and how much: sizes that clients send, some of them crooked.
const PLACES: [(u64, usize); 6] =
    [(0, 4096), (4096, 512), (700, 1000), (1 << 20, 65_536), (3 << 20, 131_072), (5_000_001, 77)];

struct Counting;

static COUNTED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread is the test's own.
    static IS_CLIENT: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if !IS_CLIENT.try_with(Cell::get).unwrap_or(true) {
        COUNTED.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One export, whatever is asked for.
#[derive(Clone)]
struct Only(Arc<EncryptedDevice>);

impl Exports for Only {
    fn list(&self) -> Vec<Listing> {
        Vec::new()
    }

    fn find(&self, _name: &str) -> Result<Arc<dyn Export>, Refusal> {
        Ok(Arc::new(self.clone()))
    }
}

impl Export for Only {
    fn listing(&self) -> Listing {
        Listing { name: "vol".into(), description: String::new() }
    }

    fn enter(&self) -> bool {
        true
    }

    fn leave(&self) {}

    fn device(&self) -> &dyn BlockDevice {
        &*self.0
    }

    fn connected(&self, _session: Arc<dyn Session>) -> Result<Box<dyn Send>, Refusal> {
        Ok(Box::new(()))
    }
}

/// Two requests for each place.
fn exercise(client: &mut Client, buffer: &mut [u8]) {
    for (at, length) in PLACES {
        client.write(at, &buffer[..length]).expect("written");
        client.read(at, &mut buffer[..length]).expect("read");
    }
}

fn exercise_often(client: &mut Client, buffer: &mut [u8]) {
    (0..ROUNDS).for_each(|_| exercise(client, buffer));
}

/// What the server's threads allocate meanwhile.
fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = COUNTED.load(Ordering::Relaxed);
    work();
    COUNTED.load(Ordering::Relaxed) - before
}

#[test]
fn reads_and_writes_allocate_nothing_once_under_way() {
    IS_CLIENT.set(true);
    let directory = tempfile::tempdir().expect("a directory");
    let shape =
        support::Shape { size: SIZE, sectors: SectorSize::try_from(4096).expect("one of the two"), thick: false };
    let size = envol::volume::backing_size(ByteCount::new(SIZE)).expect("small");
    let file = FileDevice::create(&directory.path().join("backing"), size, Space::Thin).expect("made");
    shape.make_on(&file);
    let exports = Only(Arc::new(support::open(Arc::new(file))));
    let admission = Admission { uids: vec![nix::unistd::getuid().as_raw()], gids: Vec::new() };
    let socket = directory.path().join("nbd.sock");
    let server = Server::start(vec![Listener::unix(&socket, admission).expect("listens")], Arc::new(exports));
    let _server = server.expect("starts");

    let mut client = Client::connect(&socket, "vol").expect("connects");
    let mut buffer = vec![0x5a; 131_072];
    exercise_often(&mut client, &mut buffer);
    assert!(COUNTED.load(Ordering::Relaxed) > 0, "the server's threads are counted");
    let counted: Vec<u64> = (0..BATCHES).map(|_| allocations_of(|| exercise_often(&mut client, &mut buffer))).collect();
    // A thread that happens to start meanwhile shows in one batch; a request that allocates shows in every one.
    assert_eq!(counted.iter().min(), Some(&0), "allocations in each batch of requests: {counted:?}");
}
