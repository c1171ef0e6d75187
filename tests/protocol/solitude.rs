//! Clients that wait for each answer, and what becomes of one that no longer does.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

use envol::block::Op;

use crate::support::*;

/// A disk whose syncs tell which thread they are on, and wait for a word while they are held.
struct Disk {
    fixture: Fixture,
    /// The name of the thread of each sync.
    syncing: Receiver<String>,
    held: Arc<Mutex<()>>,
}

impl Disk {
    fn new() -> Self {
        let (told, syncing): (Sender<String>, _) = mpsc::channel();
        let held = Arc::new(Mutex::new(()));
        let hold = Arc::clone(&held);
        let fixture = Fixture::over(Wrapped::new(SIZE, move |io, _| {
            if matches!(io.op, Op::Flush) {
                told.send(std::thread::current().name().unwrap_or_default().to_owned()).expect("the test listens");
                drop(hold.lock().expect("nobody panics"));
            }
            true
        }));
        Self { fixture, syncing, held }
    }

    fn next_sync(&self) -> String {
        self.syncing.recv_timeout(HANG).expect("a sync")
    }
}

const WORKER: &str = "nbd-worker";

#[test]
fn who_waits_for_each_answer_is_served_by_one_thread() {
    let disk = Disk::new();
    let mut raw = disk.fixture.simple();
    let threads: Vec<String> = (0..20)
        .map(|_| {
            assert_eq!(raw.error_of(FLUSH, 0, 0, 0), 0);
            disk.next_sync()
        })
        .collect();
    assert_eq!(threads[0], WORKER, "nothing is known of a new client");
    assert!(threads[10..].iter().all(|thread| thread != WORKER), "{threads:?}");
}

#[test]
fn who_no_longer_waits_is_kept_waiting_once() {
    let disk = Disk::new();
    let mut raw = disk.fixture.simple();
    for _ in 0..20 {
        assert_eq!(raw.error_of(FLUSH, 0, 0, 0), 0);
        disk.next_sync();
    }
    let held = disk.held.lock().expect("nobody panics");
    raw.request(FLUSH, 0, 1, 0, 0, &[]);
    assert_ne!(disk.next_sync(), WORKER);
    raw.request(READ, 0, 2, 0, 16, &[]);
    drop(held);
    assert_eq!(raw.simple_reply(0).1, 1);
    assert_eq!(raw.simple_reply(16).1, 2);

    let held = disk.held.lock().expect("nobody panics");
    raw.request(FLUSH, 0, 3, 0, 0, &[]);
    assert_eq!(disk.next_sync(), WORKER);
    raw.request(READ, 0, 4, 0, 16, &[]);
    assert_eq!(raw.simple_reply(16).1, 4, "the READ does not wait for the sync");
    drop(held);
    assert_eq!(raw.simple_reply(0).1, 3);
}
