//! Reads of files through io_uring, waited for together with a socket: one system call hands over what was begun and
//! returns when something has ended or the socket is ready, to be read or to take something.
//!
//! Invariants, on which the soundness of everything here rests: a read owns its file and its memory from [`Ring::read`]
//! until the kernel has said that it ended; a ring that is dropped, on whatever way, waits for all of them first, and
//! where it cannot it leaks the memory instead of giving it back. A ring stays on the thread that made it.

use std::fs::File;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use io_uring::{IoUring, opcode, types};
use nix::errno::Errno;

use super::pages::Pages;

/// What tells the completions of the socket from those of reads, which have the index of their place.
const READABLE: u64 = u64::MAX;
const WRITABLE: u64 = u64::MAX - 1;

/// What a socket may be ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It has something to read.
    ToRead,
    /// It takes something.
    ToWrite,
}

/// A ring, and what is under way in it.
pub(crate) struct Ring {
    kernel: IoUring,
    /// The reads under way, each in its place.
    flights: Vec<Option<Flight>>,
    /// Places that are free.
    free: Vec<usize>,
    /// Whether the kernel is watching the socket, for each [`Readiness`].
    watching: [bool; 2],
    /// The kernel lets one thread use it.
    here: PhantomData<*const ()>,
}

/// A read that the kernel carries out.
struct Flight {
    file: Arc<File>,
    /// Declared behind the file and never touched while the kernel may write to it.
    memory: Pages,
    /// What is still to be filled.
    left: Range<usize>,
    /// Where the bytes for it lie in the file.
    at: u64,
}

/// A read that has ended.
pub(crate) struct Landed {
    /// What [`Ring::read`] answered.
    pub(crate) place: usize,
    /// The memory that was given.
    pub(crate) memory: Pages,
    /// All of it was filled, or why not; EIO where the file ends before.
    pub(crate) outcome: Result<(), Errno>,
}

/// Whether this process may use io_uring, as far as it is needed here.
///
/// # Errors
/// What the kernel said: ENOSYS where it has none, EPERM where it is forbidden.
pub(crate) fn probe() -> Result<(), Errno> {
    Ring::new(1).map(drop)
}

impl Ring {
    /// A ring for `reads` at once.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn new(reads: usize) -> Result<Self, Errno> {
        // Every read may be submitted once between two calls, and the socket beside them, for either readiness.
        let entries = u32::try_from(reads + 2).map_err(|_| Errno::EINVAL)?;
        let mut tuned = IoUring::builder();
        tuned.setup_single_issuer().setup_defer_taskrun().setup_clamp();
        // Kernels before 6.1 know neither of the two.
        let kernel = tuned.build(entries).or_else(|_| IoUring::new(entries)).map_err(|error| of(&error))?;
        let flights = (0..reads).map(|_| None).collect();
        let free = (0..reads).rev().collect();
        Ok(Self { kernel, flights, free, watching: [false; 2], here: PhantomData })
    }

    /// How many reads are under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len() - self.free.len()
    }

    /// Whether there is a place for one more.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Begins to fill `range` of `memory` from `at` of `file`, once the ring is waited for; answers its place.
    ///
    /// # Panics
    /// Where there is no room, or `range` does not lie within the memory.
    pub(crate) fn read(&mut self, file: Arc<File>, mut memory: Pages, range: Range<usize>, at: u64) -> usize {
        let place = self.free.pop().expect("asked for only where there is room");
        assert!(range.start <= range.end && range.end <= memory.bytes_mut().len(), "within the memory");
        self.flights[place] = Some(Flight { file, memory, left: range, at });
        self.push_read(place);
        place
    }

    fn push_read(&mut self, place: usize) {
        let flight = self.flights[place].as_mut().expect("a read that is under way");
        let length = u32::try_from(flight.left.len()).unwrap_or(1 << 30);
        let into = flight.memory.bytes_mut()[flight.left.clone()].as_mut_ptr();
        let read = opcode::Read::new(types::Fd(flight.file.as_raw_fd()), into, length);
        let entry = read.offset(flight.at).build().user_data(place as u64);
        // SAFETY: file and memory belong to the flight, which stays in its place until the kernel has answered; the
        // memory is a mapping, so it stays where it is when the flight moves; nobody else can reach it meanwhile.
        let pushed = unsafe { self.kernel.submission().push(&entry) };
        pushed.expect("the queue has an entry for each place");
    }

    /// Has the kernel watch `socket`, if it does not already.
    pub(crate) fn watch(&mut self, socket: BorrowedFd<'_>, readiness: Readiness) {
        if self.watching[readiness as usize] {
            return;
        }
        let (events, tag) = match readiness {
            Readiness::ToRead => (libc::POLLIN, READABLE),
            Readiness::ToWrite => (libc::POLLOUT, WRITABLE),
        };
        let poll = opcode::PollAdd::new(types::Fd(socket.as_raw_fd()), u32::from(events.unsigned_abs()));
        // SAFETY: the operation has no memory; the kernel takes its own hold of the socket when it is submitted.
        let pushed = unsafe { self.kernel.submission().push(&poll.build().user_data(tag)) };
        pushed.expect("the queue has an entry for the socket");
        self.watching[readiness as usize] = true;
    }

    /// Hands over what was begun, and waits until a read has ended or the watched socket is ready.
    ///
    /// # Errors
    /// What the kernel said, where trying again is of no use.
    pub(crate) fn wait(&mut self) -> Result<(), Errno> {
        match self.kernel.submit_and_wait(1).map_err(|error| of(&error)) {
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN | Errno::EBUSY) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Hands over what was begun, so that the disk has something to do meanwhile.
    ///
    /// # Errors
    /// As [`Ring::wait`].
    pub(crate) fn hand_over(&mut self) -> Result<(), Errno> {
        match self.kernel.submit().map_err(|error| of(&error)) {
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN | Errno::EBUSY) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Whether the socket is being watched: from [`Ring::watch`] until it was ready.
    pub(crate) fn is_watching(&self, readiness: Readiness) -> bool {
        self.watching[readiness as usize]
    }

    /// The next read that has ended, without waiting.
    pub(crate) fn landed(&mut self) -> Option<Landed> {
        loop {
            let entry = self.kernel.completion().next()?;
            let ready = match entry.user_data() {
                READABLE => Some(Readiness::ToRead),
                WRITABLE => Some(Readiness::ToWrite),
                _ => None,
            };
            if let Some(readiness) = ready {
                self.watching[readiness as usize] = false;
                continue;
            }
            let place = usize::try_from(entry.user_data()).expect("the index of a place");
            if let Some(outcome) = self.judge(place, entry.result()) {
                let flight = self.flights[place].take().expect("the kernel answers each read once");
                self.free.push(place);
                return Some(Landed { place, memory: flight.memory, outcome });
            }
        }
    }

    /// How the read at `place` ended; `None` where it goes on.
    fn judge(&mut self, place: usize, result: i32) -> Option<Result<(), Errno>> {
        let flight = self.flights[place].as_mut().expect("the kernel answers each read once");
        let more = match usize::try_from(result) {
            Ok(0) if !flight.left.is_empty() => return Some(Err(Errno::EIO)),
            Ok(count) => {
                flight.left.start += count;
                flight.at += count as u64;
                !flight.left.is_empty()
            }
            Err(_) => match Errno::from_raw(-result) {
                Errno::EINTR | Errno::EAGAIN => true,
                errno => return Some(Err(errno)),
            },
        };
        if more {
            self.push_read(place);
            return None;
        }
        Some(Ok(()))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while self.in_flight() > 0 {
            if self.wait().is_err() {
                // The kernel may still write to it. This does not happen to a ring that worked so far.
                self.flights.drain(..).flatten().for_each(|flight| {
                    Box::leak(Box::new(flight.memory));
                });
                return;
            }
            while self.landed().is_some() {}
        }
    }
}

fn of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    /// `None`, and a word about it, where the machine forbids rings.
    fn ring(reads: usize) -> Option<Ring> {
        let made = Ring::new(reads);
        if let Err(errno) = &made {
            assert!(std::env::var_os("REQUIRE_ALL").is_none(), "io_uring is refused: {errno}");
        }
        made.ok()
    }

    fn file(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("writes");
        Arc::new(file)
    }

    fn all_landed(ring: &mut Ring) -> Vec<Landed> {
        let mut landed = Vec::new();
        while ring.in_flight() > 0 {
            ring.wait().expect("waits");
            while let Some(one) = ring.landed() {
                landed.push(one);
            }
        }
        landed
    }

    #[test]
    fn reads_end_with_their_bytes_each_in_its_place() {
        let Some(mut ring) = ring(8) else { return };
        let file = file(&(0..=255).cycle().take(80_000).collect::<Vec<u8>>());
        let places: Vec<usize> =
            (0..8).map(|n| ring.read(Arc::clone(&file), Pages::allocate(8192), 96..8192, n * 1000)).collect();
        assert!(!ring.has_room());
        let landed = all_landed(&mut ring);
        assert_eq!(landed.len(), 8);
        for one in landed {
            assert_eq!(one.outcome, Ok(()));
            let first = places.iter().position(|place| *place == one.place).expect("one of these") * 1000;
            let right =
                one.memory.bytes()[96..].iter().enumerate().all(|(n, byte)| usize::from(*byte) == (first + n) % 256);
            assert!(right && one.memory.bytes()[..96].iter().all(|byte| *byte == 0));
        }
        assert!(ring.has_room());
    }

    #[test]
    fn the_end_of_a_file_is_an_error_and_so_is_a_place_that_there_is_not() {
        let Some(mut ring) = ring(2) else { return };
        let file = file(&[7; 6000]);
        let short = ring.read(Arc::clone(&file), Pages::allocate(8192), 0..8192, 0);
        ring.read(file, Pages::allocate(512), 0..512, u64::MAX - 1);
        for one in all_landed(&mut ring) {
            let expected = if one.place == short { Errno::EIO } else { Errno::EINVAL };
            assert_eq!(one.outcome, Err(expected));
        }
    }

    #[test]
    fn a_closed_file_is_an_error() {
        let Some(mut ring) = ring(1) else { return };
        let file = file(&[7; 600]);
        super::super::closing::close_in_place(&file).expect("closes");
        ring.read(file, Pages::allocate(512), 0..512, 0);
        assert_eq!(all_landed(&mut ring)[0].outcome, Err(Errno::EBADF));
    }

    #[test]
    fn a_socket_with_something_to_read_ends_the_wait_and_is_watched_once() {
        let Some(mut ring) = ring(1) else { return };
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        ring.watch(ours.as_fd(), Readiness::ToRead);
        ring.watch(ours.as_fd(), Readiness::ToRead);
        theirs.write_all(b"x").expect("sent");
        ring.wait().expect("waits");
        assert!(ring.landed().is_none() && !ring.is_watching(Readiness::ToRead));
        // Nothing was received, so it ends the next wait as well.
        ring.watch(ours.as_fd(), Readiness::ToRead);
        ring.wait().expect("waits");
        assert!(ring.landed().is_none());
    }

    #[test]
    fn a_ring_that_is_dropped_waits_for_what_is_under_way() {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let reader = Arc::new(File::from(std::os::fd::OwnedFd::from(reader)));
        let Some(mut ring) = ring(1) else { return };
        ring.read(Arc::clone(&reader), Pages::allocate(512), 0..4, 0);
        let late = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            writer.write_all(b"late").expect("written");
        });
        drop(ring);
        assert!(late.is_finished() || Arc::strong_count(&reader) == 1, "the read has ended");
        late.join().expect("no panic");
        assert_eq!(Arc::strong_count(&reader), 1);
    }
}
