//! The sharing of syncs: no flush is acknowledged that a sync did not cover, and none after one has failed.

use std::sync::atomic::{AtomicU64, Ordering};

use envol::block::BlockError;
use envol::block::flush::SharedSync;
use nix::errno::Errno;
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;

use crate::{break_down, hold};

/// A disk with a cache: counts of writes, and how many of them a sync has brought down.
#[derive(Default)]
struct Disk {
    written: AtomicU64,
    durable: AtomicU64,
    syncs: AtomicU64,
    /// The sync of this number fails, and brings nothing down; 0 for none.
    fails: u64,
}

impl Disk {
    /// Takes what was written when it began.
    fn sync(&self) -> Result<(), Errno> {
        let number = self.syncs.fetch_add(1, Ordering::SeqCst) + 1;
        let covered = self.written.load(Ordering::SeqCst);
        thread::yield_now();
        if number == self.fails {
            return Err(Errno::EIO);
        }
        self.durable.fetch_max(covered, Ordering::SeqCst);
        Ok(())
    }
}

/// What shares the syncs of a disk.
trait Sharing: Default + Send + Sync + 'static {
    fn flush(&self, disk: &Disk) -> Result<(), BlockError>;
}

impl Sharing for SharedSync {
    fn flush(&self, disk: &Disk) -> Result<(), BlockError> {
        Self::flush(self, || disk.sync())
    }
}

/// Clients that write and flush.
fn clients<S: Sharing>(fails: u64) {
    let (disk, sharing) = (Arc::new(Disk { fails, ..Disk::default() }), Arc::new(S::default()));
    let failed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (disk, sharing, failed) = (Arc::clone(&disk), Arc::clone(&sharing), Arc::clone(&failed));
            thread::spawn(move || {
                for _ in 0..2 {
                    client(&*sharing, &disk, &failed);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("no panic"));
}

fn client(sharing: &impl Sharing, disk: &Disk, failed: &std::sync::atomic::AtomicBool) {
    let had_failed = failed.load(Ordering::SeqCst);
    let mine = disk.written.fetch_add(1, Ordering::SeqCst) + 1;
    thread::yield_now();
    match sharing.flush(disk) {
        Ok(()) => {
            assert!(disk.durable.load(Ordering::SeqCst) >= mine, "acknowledged, and not on the disk");
            assert!(!had_failed, "acknowledged after a sync had failed");
        }
        Err(_) => failed.store(true, Ordering::SeqCst),
    }
}

#[test]
fn no_flush_is_acknowledged_that_no_sync_has_covered() {
    hold(|| clients::<SharedSync>(0));
}

#[test]
fn no_flush_is_acknowledged_after_a_sync_has_failed() {
    hold(|| (1..4).for_each(clients::<SharedSync>));
}

/// Lets a flush join a sync that runs already.
#[derive(Default)]
struct Joining {
    /// Whether one runs, and how many have ended.
    state: Mutex<(bool, u64)>,
    ended: Condvar,
}

impl Sharing for Joining {
    fn flush(&self, disk: &Disk) -> Result<(), BlockError> {
        let mut state = self.state.lock().expect("no panic");
        if state.0 {
            let seen = state.1;
            drop(self.ended.wait_while(state, |state| state.1 == seen).expect("no panic"));
            return Ok(());
        }
        state.0 = true;
        drop(state);
        let outcome = disk.sync().map_err(BlockError::System);
        let mut state = self.state.lock().expect("no panic");
        *state = (false, state.1 + 1);
        self.ended.notify_all();
        outcome
    }
}

#[test]
fn a_flush_that_joins_a_sync_that_runs_already_is_found() {
    break_down(&["acknowledged, and not on the disk"], || clients::<Joining>(0));
}

/// Each flush syncs by itself, and forgets that another's failed.
#[derive(Default)]
struct Forgetful(Mutex<()>);

impl Sharing for Forgetful {
    fn flush(&self, disk: &Disk) -> Result<(), BlockError> {
        let _one_at_a_time = self.0.lock().expect("no panic");
        disk.sync().map_err(BlockError::System)
    }
}

#[test]
fn a_failed_sync_that_is_forgotten_is_found() {
    break_down(&["acknowledged after a sync had failed"], || (1..4).for_each(clients::<Forgetful>));
}
