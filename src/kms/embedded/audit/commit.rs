//! Group commit: one thread appends the lines of all calls that are waiting, and syncs once for all of them.
//!
//! Whoever adds lines gets a [`Ticket`] and waits on it: it is settled when the sync behind these lines has returned. Lines
//! that arrive while a sync is under way are the next batch, so however many callers there are, at most one sync runs and
//! one is waited for. Order in the file is the order of [`Committer::add`].
//!
//! A batch that cannot be written whole is cut off again, and its tickets tell; the next one may succeed (there may be
//! room again). Should the thread end by a panic, whoever waits or comes later is told that the lines are lost. After a failed sync
//! nothing is accepted until the log is opened again: the kernel reports a lost page once, and what a later sync says of it is
//! not to be believed.
//!
//! Lines get their links to one another in [`Tail::append`], the only code that sees them in their order, and their keys are
//! replaced there once they are durable. When nothing has come for a while, the last of them is overwritten on the disk, too,
//! and the thread sleeps until something comes.

use std::fs::File;
use std::io::{self, Write};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::limits;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};

use super::chained::Chained;

/// Why there is nobody to append any more.
const ENDED: &str = "the thread that appends to the audit log has ended";

/// Lines that could not be made durable: the calls that they tell of get no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the audit log cannot be written, and no call is answered without its record; this one may have taken effect")]
pub(in crate::kms::embedded) struct Lost(#[source] Arc<io::Error>);

/// The claim of a caller on the sync of its lines.
#[must_use = "a call is answered when its record is durable"]
pub(in crate::kms::embedded) struct Ticket(Arc<Batch>);

/// Lines that become durable together. Those who wait for one batch are not woken by another.
#[derive(Default)]
struct Batch {
    outcome: OnceLock<Result<(), Lost>>,
    settled: Condvar,
}

/// The thread that appends, and the way to it.
pub(super) struct Committer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// How far the log is durable.
    durable: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Lines of the next batch, and what its tickets hold.
    lines: Vec<u8>,
    batch: Arc<Batch>,
    /// What the tickets of the batch before hold.
    under_way: Arc<Batch>,
    closing: bool,
    /// Nobody appends any more, and what is not settled will never be.
    ended: bool,
}

/// Says that the thread has ended, however that came about.
struct Ending<'a>(&'a Shared);

/// The end of the file.
struct Tail {
    file: File,
    chained: Arc<Mutex<Chained>>,
    /// Where the last durable line ends.
    length: u64,
    /// Why nothing is accepted any more.
    broken: Option<Lost>,
}

impl Committer {
    /// Appends to `file` behind its first `length` bytes, which are whole, durable lines and all that there is; `chained` is
    /// their end.
    pub(super) fn start(file: File, length: u64, chained: Arc<Mutex<Chained>>) -> io::Result<Self> {
        let shared =
            Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), durable: AtomicU64::new(length) });
        let tail = Tail { file, chained, length, broken: None };
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("audit".to_owned()).spawn(move || theirs.serve(tail))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Has `lines` appended, one behind the other: objects, each with a line end.
    pub(super) fn add(&self, lines: &[u8]) -> Ticket {
        let mut state = self.shared.state.lock();
        if !state.ended {
            state.lines.extend_from_slice(lines);
        }
        let ticket = Ticket(Arc::clone(&state.batch));
        drop(state);
        self.shared.work.notify_one();
        ticket
    }

    /// Waits until the lines of `ticket` are durable, or are known not to be.
    pub(super) fn wait(&self, ticket: &Ticket) -> Result<(), Lost> {
        let state = self.shared.state.lock();
        let Batch { outcome, settled } = &*ticket.0;
        drop(settled.wait_while(state, |state| outcome.get().is_none() && !state.ended));
        outcome.get().cloned().unwrap_or_else(|| Err(Lost(Arc::new(io::Error::other(ENDED)))))
    }

    /// How far the log is durable.
    pub(super) fn durable(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // Of a panic its tickets have told.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Appends batch after batch until the log is closed.
    fn serve(&self, mut tail: Tail) {
        let _ending = Ending(self);
        loop {
            let mut state = self.wait_for_work(&tail);
            if state.lines.is_empty() {
                drop(state);
                tail.chained.lock().rest();
                return;
            }
            let (lines, batch) = (std::mem::take(&mut state.lines), std::mem::take(&mut state.batch));
            state.under_way = Arc::clone(&batch);
            drop(state);
            let outcome = tail.append(&lines);
            self.durable.store(tail.length, Ordering::Release);
            // Settled under the lock, or a caller between its look and its wait would miss it.
            let state = self.state.lock();
            let settled = batch.outcome.set(outcome);
            drop(state);
            assert!(settled.is_ok(), "a batch is settled once");
            batch.settled.notify_all();
        }
    }

    /// Waits until there are lines or the log is closed. Where keys of old are left on the disk, that is once interrupted to
    /// overwrite them; should it fail, the next batch is followed by the next attempt.
    fn wait_for_work(&self, tail: &Tail) -> MutexGuard<'_, State> {
        let idle = |state: &mut State| state.lines.is_empty() && !state.closing;
        // Asked before, since that lock may be held over a sync.
        let settled = tail.chained.lock().is_settled();
        let mut state = self.state.lock();
        if !settled {
            let deadline = Instant::now() + limits::AUDIT_KEY_SETTLED_AFTER;
            state = self.work.wait_while_until(state, deadline, idle);
            if idle(&mut state) {
                // Whoever comes meanwhile does not wait for the disk to add a line.
                drop(state);
                tail.chained.lock().rest();
                state = self.state.lock();
            }
        }
        self.work.wait_while(state, idle)
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.ended = true;
        [&state.under_way, &state.batch].into_iter().for_each(|batch| batch.settled.notify_all());
    }
}

impl Tail {
    /// Makes `lines` durable behind what there is, or leaves nothing of them.
    fn append(&mut self, lines: &[u8]) -> Result<(), Lost> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        // The end as it is: whoever has shortened the file is not to find it filled up with zeros.
        let start = self.file.metadata().map_err(|error| Lost(Arc::new(error)))?.len();
        let lines = self.chained.lock().chain(lines);
        if let Err(error) = self.file.write_all(&lines) {
            return Err(self.cut_off(start, error, false));
        }
        if let Err(error) = self.file.sync_data() {
            return Err(self.cut_off(start, error, true));
        }
        let lines = u64::try_from(lines.len()).expect("a batch is in memory");
        self.length = start.checked_add(lines).expect("no file is so long");
        self.chained.lock().keep(self.length);
        Ok(())
    }

    /// Takes back what may have been written of a batch behind `start`; for good where that cannot be done or `broken`.
    fn cut_off(&mut self, start: u64, error: io::Error, broken: bool) -> Lost {
        let lost = Lost(Arc::new(error));
        if self.file.set_len(start).is_err() || broken {
            self.broken = Some(lost.clone());
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Link;
    use crate::kms::embedded::Identity;
    use crate::kms::embedded::audit::opening;

    fn log() -> (tempfile::TempDir, std::path::PathBuf, Committer) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let opened = opened(&path);
        let committer = Committer::start(opened.file, 0, Arc::new(Mutex::new(opened.chained))).expect("starts");
        (dir, path, committer)
    }

    fn opened(path: &std::path::Path) -> opening::Opened {
        let identity = Identity { account: "1".to_owned(), region: "r".to_owned() };
        opening::open(path, &identity, jiff::Timestamp::UNIX_EPOCH).expect("opens")
    }

    /// What the lines told before they were chained.
    fn told(path: &std::path::Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).expect("text");
        let object = |line: &str| String::from_utf8(Link::read(line.as_bytes()).expect("chained").0).expect("text");
        text.lines().map(object).collect()
    }

    #[test]
    fn lines_of_many_callers_are_all_there_each_whole_and_a_callers_own_in_order() {
        let (_dir, path, committer) = log();
        thread::scope(|scope| {
            for caller in 0..8 {
                let committer = &committer;
                scope.spawn(move || {
                    for number in 0..50 {
                        let ticket = committer.add(format!("{{\"{caller}\":{number}}}\n").as_bytes());
                        committer.wait(&ticket).expect("durable");
                    }
                });
            }
        });
        assert_eq!(committer.durable(), std::fs::metadata(&path).expect("there").len());
        let told = told(&path);
        for caller in 0..8 {
            let mine: Vec<&String> = told.iter().filter(|line| line.starts_with(&format!("{{\"{caller}\""))).collect();
            assert_eq!(
                mine,
                (0..50)
                    .map(|number| format!("{{\"{caller}\":{number}}}"))
                    .collect::<Vec<_>>()
                    .iter()
                    .collect::<Vec<_>>()
            );
        }
        assert_eq!(told.len(), 400);
    }

    #[test]
    fn what_is_added_is_written_before_the_log_closes() {
        let (_dir, path, committer) = log();
        let _unclaimed = committer.add(b"{}\n");
        drop(committer);
        assert_eq!(told(&path), ["{}"]);
    }

    #[test]
    fn a_thread_that_panicked_leaves_nobody_waiting() {
        let (_dir, _path, committer) = log();
        // A batch that is settled already: what the thread never expects.
        let batch = Arc::clone(&committer.shared.state.lock().batch);
        batch.outcome.set(Ok(())).expect("it is new");
        let _unclaimed = committer.add(b"{}\n");
        drop(batch.settled.wait_while(committer.shared.state.lock(), |state| !state.ended));
        for _ in 0..2 {
            let ticket = committer.add(b"{}\n");
            assert_eq!(committer.wait(&ticket).expect_err("nobody appends").0.kind(), io::ErrorKind::Other);
        }
        assert!(committer.shared.state.lock().lines.is_empty(), "nothing is heaped up");
    }

    #[test]
    fn a_file_that_somebody_else_shortened_goes_on_where_it_ends() {
        let (_dir, path, committer) = log();
        committer.wait(&committer.add(b"{\"first\":1}\n")).expect("durable");
        File::options().write(true).open(&path).expect("there").set_len(0).expect("cut");
        committer.wait(&committer.add(b"{\"next\":1}\n")).expect("durable");
        assert_eq!(committer.durable(), std::fs::metadata(&path).expect("there").len());
        assert_eq!(told(&path), ["{\"next\":1}"]);
    }

    #[test]
    fn a_file_that_takes_no_bytes_loses_the_call_and_says_why() {
        let full = File::options().write(true).open("/dev/full").expect("there");
        let dir = tempfile::tempdir().expect("a directory");
        let chained = opened(&dir.path().join("log")).chained;
        let committer = Committer::start(full, 0, Arc::new(Mutex::new(chained))).expect("starts");
        for _ in 0..2 {
            let ticket = committer.add(b"{}\n");
            let lost = committer.wait(&ticket).expect_err("no room");
            assert_eq!(lost.0.kind(), io::ErrorKind::StorageFull, "the first cause stays");
        }
        assert_eq!(committer.durable(), 0);
    }
}
