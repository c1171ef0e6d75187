//! Sharing of syncs: many flushes, one fdatasync, without ever acknowledging what the sync did not cover.
//!
//! A sync covers what was completed before it *started*. So a flush never joins a sync that runs already: it waits for
//! the next one, which whoever is awake first carries out for all that wait by then. Syncs are numbered as they start.
//!
//! Invariant: after one failed sync none succeeds any more. The kernel reports a lost write once; a later success would
//! cover it up, so whatever is synced after that answers [`BlockError::Poisoned`].

use nix::errno::Errno;

use super::BlockError;
use crate::sync::{Condvar, Mutex};

/// The syncs of one descriptor.
#[derive(Debug, Default)]
pub struct SharedSync {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last sync that started; the first is 1.
    started: u64,
    /// The number of the last sync that ended.
    ended: u64,
    /// How many flushes wait.
    waiting: usize,
    /// The sync that failed, and how.
    failed: Option<(u64, Errno)>,
}

impl State {
    fn running(&self) -> bool {
        self.ended < self.started
    }

    /// How the sync numbered `mine` or a later one ended, for one that waited for `mine`.
    fn outcome(&self, mine: u64) -> Result<(), BlockError> {
        match self.failed {
            // Whatever the errno: what a sync reports is lost, and more space will not bring it back.
            Some((number, errno)) if number <= mine => {
                Err(if number == mine { BlockError::System(errno) } else { BlockError::Poisoned })
            }
            _ => Ok(()),
        }
    }
}

impl SharedSync {
    /// Nothing synced yet.
    pub const fn new() -> Self {
        let state = State { started: 0, ended: 0, waiting: 0, failed: None };
        Self { state: Mutex::new(state), ended: Condvar::new() }
    }

    /// Returns once a sync that started after this call has ended; calls `sync` where it falls to this caller.
    ///
    /// # Errors
    /// [`BlockError::System`] where that sync failed, [`BlockError::Poisoned`] where an earlier one had.
    pub fn flush(&self, sync: impl FnOnce() -> Result<(), Errno>) -> Result<(), BlockError> {
        let mut state = self.state.lock();
        let mine = state.started + 1;
        state.waiting += 1;
        state = self.ended.wait_while(state, |state| state.running() && state.ended < mine);
        state.waiting -= 1;
        if state.ended >= mine || state.failed.is_some() {
            return state.outcome(mine);
        }
        state.started = mine;
        drop(state);
        let outcome = sync();
        let mut state = self.state.lock();
        state.ended = mine;
        if let Err(errno) = outcome {
            state.failed = Some((mine, errno));
        }
        let outcome = state.outcome(mine);
        if state.waiting > 0 {
            drop(state);
            self.ended.notify_all();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Arc;
    use crate::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    /// A sync whose end the test decides: counts starts, and remembers what had been written when each started.
    struct SlowDisk {
        shared: SharedSync,
        written: AtomicU64,
        starts: Mutex<Vec<u64>>,
        release: Mutex<mpsc::Receiver<Result<(), Errno>>>,
    }

    impl SlowDisk {
        fn new() -> (Arc<Self>, mpsc::Sender<Result<(), Errno>>) {
            let (sender, receiver) = mpsc::channel();
            let (written, starts) = (AtomicU64::new(0), Mutex::new(Vec::new()));
            let disk = Self { shared: SharedSync::new(), written, starts, release: Mutex::new(receiver) };
            (Arc::new(disk), sender)
        }

        fn flush(&self) -> Result<(), BlockError> {
            self.shared.flush(|| {
                self.starts.lock().push(self.written.load(Ordering::SeqCst));
                let end = self.release.lock().recv_timeout(2 * PATIENCE);
                end.expect("the test says how each sync ends")
            })
        }

        fn starts(&self) -> Vec<u64> {
            self.starts.lock().clone()
        }
    }

    /// Only a broken build waits so long.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn wait_until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "what is waited for comes");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_flush_that_arrives_during_a_sync_waits_for_the_next() {
        let (disk, release) = SlowDisk::new();
        thread::scope(|scope| {
            scope.spawn(|| disk.flush().expect("the first sync ends well"));
            wait_until(|| disk.starts() == [0]);
            disk.written.store(1, Ordering::SeqCst);
            let late = scope.spawn(|| {
                disk.flush().expect("the second sync ends well");
                assert_eq!(disk.starts().last(), Some(&1), "the sync that answers started after the write");
            });
            release.send(Ok(())).expect("the disk listens");
            wait_until(|| disk.starts() == [0, 1]);
            assert!(!late.is_finished(), "the running sync did not answer the late flush");
            release.send(Ok(())).expect("the disk listens");
        });
        assert_eq!(disk.starts().len(), 2);
    }

    #[test]
    fn flushes_that_wait_together_share_one_sync() {
        let (disk, release) = SlowDisk::new();
        thread::scope(|scope| {
            scope.spawn(|| disk.flush().expect("ends well"));
            wait_until(|| disk.starts().len() == 1);
            for _ in 0..8 {
                scope.spawn(|| disk.flush().expect("ends well"));
            }
            wait_until(|| disk.shared.state.lock().waiting == 8);
            for _ in 0..2 {
                release.send(Ok(())).expect("the disk listens");
            }
        });
        assert_eq!(disk.starts().len(), 2, "one sync for the first flush, one for the eight");
    }

    #[test]
    fn a_failed_sync_fails_all_that_shared_it_and_everything_after() {
        let (disk, release) = SlowDisk::new();
        let outcomes = thread::scope(|scope| {
            let first = scope.spawn(|| disk.flush());
            wait_until(|| disk.starts().len() == 1);
            let second = scope.spawn(|| disk.flush());
            wait_until(|| disk.shared.state.lock().waiting == 1);
            release.send(Err(Errno::EIO)).expect("the disk listens");
            [first, second].map(|thread| thread.join().expect("no panic"))
        });
        assert_eq!(outcomes, [Err(BlockError::System(Errno::EIO)), Err(BlockError::Poisoned)]);
        release.send(Ok(())).expect("the disk listens");
        assert_eq!(disk.flush(), Err(BlockError::Poisoned));
        assert_eq!(disk.starts().len(), 1, "no sync is tried after the failed one");
    }

    #[test]
    fn every_flush_is_covered_by_a_sync_that_started_after_it_under_load() {
        let shared = SharedSync::new();
        let (written, durable) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let mine = written.fetch_add(1, Ordering::SeqCst) + 1;
                        let sync = || {
                            let covered = written.load(Ordering::SeqCst);
                            durable.fetch_max(covered, Ordering::SeqCst);
                            Ok(())
                        };
                        shared.flush(sync).expect("syncs");
                        assert!(durable.load(Ordering::SeqCst) >= mine);
                    }
                });
            }
        });
    }
}
