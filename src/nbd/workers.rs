//! The threads that carry out what a connection cannot do at once: what waits for a disk, and what takes long.
//!
//! One small pool a connection, so no lock is shared between connections. Threads start when there is work for them
//! and end when there has been none for a while; meanwhile they sleep. Requests and bytes in flight are bounded by
//! `limits`; past the bound, whoever submits waits, which stops the reading from the socket.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use super::buffer::Buffer;
use super::link::{Link, LinkError};
use super::memory::{Charged, SMALLEST, Share};
use super::processors::Working;
use super::reply::Pending;
use super::request::Work;
use super::{Export, Session, waits};
use crate::limits;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};
use crate::units::ByteCount;

/// Threads of one connection: as many requests may wait for the disk at once.
const WORKERS_MAX: usize = 16;
/// A thread without work ends after this.
const WORKER_IDLE: Duration = Duration::from_secs(10);
/// Room for the cipher's and the backing's frames; the system provides it as it is used.
const WORKER_STACK: usize = 512 << 10;
/// Bytes of buffers kept for reuse.
const POOL_MAX: usize = 8 << 20;
/// How much is read at a time in answer to CACHE.
pub(super) const CACHE_STEP: u64 = 256 << 10;

/// The place of one request among those in flight, with its buffer; both are given back when it is dropped.
pub(super) struct Room {
    shared: Arc<Shared>,
    length: usize,
    buffer: Option<Charged>,
}

/// A request with all that it needs.
pub(super) struct Job {
    /// The answer owed.
    pub(super) pending: Pending,
    /// What to do.
    pub(super) work: Work,
    /// Holds a WRITE's payload, or takes what is read.
    pub(super) room: Room,
    /// Where it counts as work for a processor.
    pub(super) working: Option<Working>,
}

/// The pool of one connection.
pub(super) struct Workers {
    shared: Arc<Shared>,
}

struct Shared {
    link: Arc<Link>,
    export: Arc<dyn Export>,
    share: Arc<Share>,
    state: Mutex<State>,
    /// There is work, or the end has come.
    work: Condvar,
    /// Something has been finished, or a thread has ended.
    finished: Condvar,
    /// Jobs whose answer has not been begun.
    unanswered: AtomicUsize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// Requests that are queued, being carried out, or about to be submitted.
    requests: usize,
    bytes: usize,
    /// Who waits for `finished`: waking nobody would be a system call all the same.
    waiting: usize,
    threads: usize,
    idle: usize,
    closing: bool,
    /// Whether buffers that are given back are kept for reuse.
    keeping: bool,
    pool: Vec<Charged>,
    pooled: usize,
}

impl Room {
    /// The buffer, which is there for all work that has a payload or reads.
    pub(super) fn buffer(&mut self) -> &mut Buffer {
        self.buffer.as_mut().expect("work that moves data has a buffer").buffer()
    }

    /// How large a buffer it should have and has not.
    fn lacks(&self) -> Option<usize> {
        (self.length > 0 && self.buffer.is_none()).then(|| capacity_for(self.length))
    }

    /// Whether there is a buffer.
    pub(super) fn has_buffer(&self) -> bool {
        self.buffer.is_some()
    }

    /// The first `length` bytes of the buffer.
    pub(super) fn data(&mut self, length: ByteCount) -> &mut [u8] {
        self.buffer().data(length.in_memory())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.requests -= 1;
        state.bytes -= self.length;
        // Where memory is short, what lies unused here would be missed elsewhere.
        let short = self.shared.share.is_short();
        let unused = if short { state.empty_pool() } else { Vec::new() };
        let unwanted = self.buffer.take().and_then(|buffer| if short { Some(buffer) } else { state.keep(buffer) });
        let awaited = state.waiting > 0;
        drop(state);
        if awaited {
            self.shared.finished.notify_all();
        }
        // Wiping takes its time, so it comes last and under no lock.
        drop((unwanted, unused));
    }
}

impl Workers {
    /// A pool without threads, with this share of the memory.
    pub(super) fn new(link: Arc<Link>, export: Arc<dyn Export>, share: Arc<Share>) -> Self {
        let (state, work, finished) = (Mutex::default(), Condvar::new(), Condvar::new());
        Self {
            shared: Arc::new(Shared { link, export, share, state, work, finished, unanswered: AtomicUsize::new(0) }),
        }
    }

    /// Waits until there is room for `work` in flight, and memory.
    ///
    /// # Errors
    /// Where the client has gone meanwhile.
    pub(super) fn reserve(&self, work: &Work) -> Result<Room, LinkError> {
        let length = buffer_length(work);
        let mut room = self.take_room(self.shared.wait_while(|state| state.is_full(length)), length);
        if let Some(capacity) = room.lacks() {
            let shared = &self.shared;
            let taken = shared.share.take(capacity, || shared.empty_pool(), || shared.link.is_gone());
            room.buffer = Some(taken.ok_or(LinkError::Ended)?);
        }
        Ok(room)
    }

    /// Room for `work` in flight, where there is some now, and memory.
    pub(super) fn try_reserve(&self, work: &Work) -> Option<Room> {
        let length = buffer_length(work);
        let state = self.shared.state.lock();
        let mut room = (!state.is_full(length)).then(|| self.take_room(state, length))?;
        if let Some(capacity) = room.lacks() {
            room.buffer = Some(self.shared.share.take_now(capacity)?);
        }
        Some(room)
    }

    /// Room with a pooled buffer, if there is one that fits.
    fn take_room(&self, mut state: MutexGuard<'_, State>, length: usize) -> Room {
        state.requests += 1;
        state.bytes += length;
        state.keeping = true;
        let buffer = if length > 0 { state.pooled(capacity_for(length)) } else { None };
        Room { shared: Arc::clone(&self.shared), length, buffer }
    }

    /// Has `job` carried out and answered.
    pub(super) fn submit(&self, job: Job) {
        self.shared.unanswered.fetch_add(1, Ordering::Relaxed);
        let mut state = self.shared.state.lock();
        state.queue.push_back(job);
        if state.queue.len() <= state.idle {
            drop(state);
            self.shared.work.notify_one();
        } else if state.threads < WORKERS_MAX {
            state.threads += 1;
            drop(state);
            self.start_thread();
        }
    }

    /// Whether the client was sent, or is about to be, every answer that is owed by the workers.
    pub(super) fn owe_nothing(&self) -> bool {
        self.shared.unanswered.load(Ordering::Relaxed) == 0
    }

    fn start_thread(&self) {
        let shared = Arc::clone(&self.shared);
        let builder = thread::Builder::new().name("nbd-worker".into()).stack_size(WORKER_STACK);
        if let Err(error) = builder.spawn(move || shared.run()) {
            let mut state = self.shared.state.lock();
            state.threads -= 1;
            if state.threads == 0 {
                // Nobody would ever answer; the client is better off with an end.
                tracing::error!(%error, "cannot start a thread for an NBD connection; closing it");
                let unanswered = std::mem::take(&mut state.queue);
                drop(state);
                drop(unanswered);
                self.shared.link.close();
            }
        }
    }

    /// Wipes and gives back the buffers that are not in use, and those that are in use now once they are not.
    pub(super) fn trim(&self) {
        self.shared.state.lock().keeping = false;
        self.shared.empty_pool();
    }
}

impl Drop for Workers {
    /// Waits until everything submitted has been carried out and answered, and the threads have ended.
    fn drop(&mut self) {
        let mut state = self.shared.wait_while(|state| state.requests > 0);
        state.closing = true;
        drop(state);
        self.shared.work.notify_all();
        drop(self.shared.wait_while(|state| state.threads > 0));
    }
}

impl State {
    fn is_full(&self, length: usize) -> bool {
        let bytes_full = self.bytes > 0 && self.bytes + length > limits::IN_FLIGHT_BYTES_PER_CONNECTION;
        bytes_full || self.requests >= limits::IN_FLIGHT_REQUESTS_PER_CONNECTION
    }

    /// Keeps `buffer` for reuse, or gives it back to be dropped.
    fn keep(&mut self, buffer: Charged) -> Option<Charged> {
        if !self.keeping || self.pooled + buffer.capacity() > POOL_MAX {
            return Some(buffer);
        }
        self.pooled += buffer.capacity();
        self.pool.push(buffer);
        None
    }

    /// A pooled buffer of this capacity.
    fn pooled(&mut self, wanted: usize) -> Option<Charged> {
        let at = self.pool.iter().position(|buffer| buffer.capacity() == wanted)?;
        self.pooled -= wanted;
        Some(self.pool.swap_remove(at))
    }

    /// The pooled buffers, to be dropped under no lock.
    fn empty_pool(&mut self) -> Vec<Charged> {
        self.pooled = 0;
        std::mem::take(&mut self.pool)
    }
}

impl Shared {
    /// Waits while `condition` holds.
    fn wait_while(&self, condition: impl FnMut(&mut State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        state.waiting += 1;
        state = self.finished.wait_while(state, condition);
        state.waiting -= 1;
        state
    }

    /// Wipes and gives back the buffers that are not in use.
    fn empty_pool(&self) {
        let pool = self.state.lock().empty_pool();
        drop(pool);
    }

    /// A thread's life.
    fn run(&self) {
        let _guard = PanicGuard(self);
        while let Some(job) = self.next() {
            waits::carry_out(job, &self.link, &self.export, || {
                self.unanswered.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    /// The next job; `None` where the thread is to end, which is not counted any more then.
    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        if state.queue.is_empty() {
            state.idle += 1;
            state = self.wait_for_work(state);
            state.idle -= 1;
        }
        let job = state.queue.pop_front();
        if job.is_none() {
            // Under the same lock: a thread that will not look at the queue again is not counted on by `submit`.
            state.threads -= 1;
            self.finished.notify_all();
        }
        job
    }

    fn wait_for_work<'s>(&'s self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let nothing = |state: &mut State| state.queue.is_empty() && !state.closing;
        self.work.wait_while_until(state, Instant::now() + WORKER_IDLE, nothing)
    }
}

/// What a panic that unwinds through a thread leaves behind: the connection closed, the count in order.
struct PanicGuard<'s>(&'s Shared);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.state.lock().threads -= 1;
            self.0.link.close();
            self.0.finished.notify_all();
        }
    }
}

/// The capacity of a buffer for `length` bytes: few sizes exist.
fn capacity_for(length: usize) -> usize {
    length.max(SMALLEST).next_power_of_two()
}

/// How much of a buffer `work` needs.
fn buffer_length(work: &Work) -> usize {
    match work {
        Work::Read(extent) | Work::Write(extent, _) => extent.length().in_memory(),
        Work::Cache(extent) => extent.length().min(ByteCount::new(CACHE_STEP)).in_memory(),
        Work::Flush | Work::Discard(..) | Work::Zero(..) | Work::Status(..) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::block::BlockDevice;
    use crate::block::memory::MemoryDevice;
    use crate::nbd::memory::Budget;
    use crate::nbd::{Listing, Peer, Refusal};
    use crate::units::Extent;

    struct Memory(MemoryDevice);

    impl Export for Memory {
        fn listing(&self) -> Listing {
            Listing { name: String::new(), description: String::new() }
        }

        fn enter(&self) -> bool {
            true
        }

        fn leave(&self) {}

        fn device(&self) -> &dyn BlockDevice {
            &self.0
        }

        fn connected(&self, _session: Arc<dyn Session>) -> Result<Box<dyn Send>, Refusal> {
            Ok(Box::new(()))
        }
    }

    fn workers() -> Workers {
        let (ours, _theirs) = UnixStream::pair().expect("sockets");
        let link = Link::unix(ours, Peer::Unix { pid: 0, uid: 0, gid: 0 });
        let share = Budget::new(ByteCount::new(64 << 20)).share();
        Workers::new(Arc::new(link), Arc::new(Memory(MemoryDevice::new(ByteCount::new(4096)))), share)
    }

    #[test]
    fn a_thread_that_will_not_look_again_is_not_counted_on() {
        let workers = workers();
        {
            let mut state = workers.shared.state.lock();
            (state.threads, state.closing) = (WORKERS_MAX, true);
        }
        assert!(workers.shared.next().is_none());
        let mut state = workers.shared.state.lock();
        assert_eq!(state.threads, WORKERS_MAX - 1, "the next request starts a thread");
        state.threads = 0;
    }

    #[test]
    fn buffers_are_kept_until_it_is_quiet_even_those_in_use_then() {
        let workers = workers();
        let work = Work::Cache(Extent::new(crate::units::ByteOffset::ZERO, ByteCount::new(4096)).expect("small"));
        let pooled = |workers: &Workers| workers.shared.state.lock().pool.len();
        drop(workers.reserve(&work).expect("room"));
        assert_eq!(pooled(&workers), 1);
        let in_use = workers.reserve(&work).expect("room");
        workers.trim();
        drop(in_use);
        assert_eq!(pooled(&workers), 0);
        drop(workers.reserve(&work).expect("room"));
        assert_eq!(pooled(&workers), 1);
    }
}
