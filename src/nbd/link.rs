//! The socket of one connection: receiving, sending whole replies, and being closed from outside.
//!
//! Invariants: a reply is sent whole under the reply lock, so replies of several threads never mix; a reply that cannot
//! be sent whole closes the link, so a client never sees half of one followed by something else. SIGPIPE is never raised.

use std::io::IoSlice;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, sendmsg, setsockopt, shutdown, sockopt};
use nix::sys::time::TimeVal;

use super::processors::{Habit, Processors, WATCH};
use super::{Peer, Session};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex};

/// A connected socket.
pub(super) struct Link {
    socket: OwnedFd,
    peer: Peer,
    replying: Mutex<()>,
    /// Where there is one, it says who may watch the socket for a moment before sleeping on it.
    processors: Option<Arc<Processors>>,
    /// Set once the server stops: what arrives from now on is answered ESHUTDOWN.
    stopping: AtomicBool,
}

/// Why nothing more can be said.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The peer has closed, or the link was closed here.
    #[error("the connection has ended")]
    Ended,
    /// The peer took too long.
    #[error("the client did not move in time")]
    TimedOut,
    /// The system said no.
    #[error("the socket failed: {0}")]
    System(#[from] Errno),
}

impl Link {
    /// Takes a unix socket over.
    pub(super) fn unix(stream: UnixStream, peer: Peer) -> Self {
        Self::new(stream.into(), peer)
    }

    /// Takes a TCP socket over.
    pub(super) fn tcp(stream: TcpStream, peer: Peer) -> Result<Self, LinkError> {
        setsockopt(&stream, sockopt::TcpNoDelay, &true)?;
        // A client that vanished without a word is noticed in the end, however long it has been silent.
        setsockopt(&stream, sockopt::KeepAlive, &true)?;
        Ok(Self::new(stream.into(), peer))
    }

    fn new(socket: OwnedFd, peer: Peer) -> Self {
        Self { socket, peer, replying: Mutex::new(()), processors: None, stopping: AtomicBool::new(false) }
    }

    /// As this, with the processors of a server to watch on.
    pub(super) fn watched_on(self, processors: &Arc<Processors>) -> Self {
        Self { processors: Some(Arc::clone(processors)), ..self }
    }

    /// From now on, a reply may wait this long for a client that does not read.
    pub(super) fn set_send_deadline(&self, deadline: Duration) -> Result<(), LinkError> {
        Ok(setsockopt(&self.socket, sockopt::SendTimeout, &timeval(deadline))?)
    }

    /// From now on, [`Link::receive`] gives up after `patience`, or never.
    pub(super) fn set_receive_patience(&self, patience: Option<Duration>) -> Result<(), LinkError> {
        Ok(setsockopt(&self.socket, sockopt::ReceiveTimeout, &timeval(patience.unwrap_or_default()))?)
    }

    /// Receives what is there, at least a byte.
    pub(super) fn receive(&self, into: &mut [u8]) -> Result<usize, LinkError> {
        loop {
            match recv(self.socket.as_raw_fd(), into, MsgFlags::empty()) {
                Ok(0) | Err(Errno::ECONNRESET) => return Err(LinkError::Ended),
                Ok(length) => return Ok(length),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(LinkError::TimedOut),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Receives what is there; `None` where nothing is.
    pub(super) fn receive_now(&self, into: &mut [u8]) -> Result<Option<usize>, LinkError> {
        loop {
            match recv(self.socket.as_raw_fd(), into, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::ECONNRESET) => return Err(LinkError::Ended),
                Ok(length) => return Ok(Some(length)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The socket itself, to be waited for.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// As [`Link::receive`], but watches the socket for a moment before it sleeps, where that is the habit.
    pub(super) fn receive_watching(&self, into: &mut [u8], habit: &mut Habit) -> Result<usize, LinkError> {
        if habit.watches() {
            let arrived = self.watch(|| self.receive_now(into))?;
            habit.watched(arrived.is_some());
            if let Some(length) = arrived {
                return Ok(length);
            }
        }
        let start = Instant::now();
        let received = self.receive(into);
        habit.slept(start.elapsed());
        received
    }

    /// Asks `ready` again and again for a moment, if the calling thread may; `None` where it was not in that time.
    fn watch<T>(&self, mut ready: impl FnMut() -> Result<Option<T>, LinkError>) -> Result<Option<T>, LinkError> {
        let Some(_watching) = self.processors.as_ref().and_then(|processors| processors.watch()) else {
            return Ok(None);
        };
        let mut end = None;
        loop {
            if let Some(what) = ready()? {
                return Ok(Some(what));
            }
            let now = Instant::now();
            if now > *end.get_or_insert(now + WATCH) {
                return Ok(None);
            }
            // Whoever else wants this processor goes first.
            thread::yield_now();
        }
    }

    /// Whether there is something to receive now.
    pub(super) fn has_more(&self) -> bool {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
        recv(self.socket.as_raw_fd(), &mut [0], flags).is_ok_and(|length| length > 0)
    }

    /// Whether nobody would take an answer any more.
    pub(super) fn is_gone(&self) -> bool {
        let mut state = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        let polled = poll(&mut state, PollTimeout::ZERO);
        polled.is_ok_and(|count| count > 0) && state[0].any().unwrap_or(true)
    }

    /// Receives what is there, at least a byte, before `deadline`.
    pub(super) fn receive_until(&self, into: &mut [u8], deadline: Instant) -> Result<usize, LinkError> {
        self.wait(PollFlags::POLLIN, deadline)?;
        self.receive(into)
    }

    /// Sends all of `bytes`, before `deadline`. For the handshake, which only one thread takes part in.
    pub(super) fn send_until(&self, mut bytes: &[u8], deadline: Instant) -> Result<(), LinkError> {
        while !bytes.is_empty() {
            match self.send(bytes, MsgFlags::MSG_DONTWAIT)? {
                Some(length) => bytes = &bytes[length..],
                None => self.wait(PollFlags::POLLOUT, deadline)?,
            }
        }
        Ok(())
    }

    /// Sends replies whole. Where that fails the link is closed, which the receiving thread notices.
    pub(super) fn reply(&self, bytes: &[u8]) -> Result<(), LinkError> {
        let lock = self.replying.lock();
        let sent = self.send_all(bytes);
        if sent.is_err() {
            self.close();
        }
        drop(lock);
        sent
    }

    /// As [`Link::reply`], for replies that lie in several places. Before the client is waited for, `meanwhile` is called:
    /// again and again as long as it answers that it has waited itself.
    pub(super) fn reply_in_parts(
        &self,
        mut parts: &mut [IoSlice<'_>],
        mut meanwhile: impl FnMut() -> bool,
    ) -> Result<(), LinkError> {
        let lock = loop {
            match self.replying.try_lock() {
                Some(lock) => break lock,
                None if meanwhile() => {}
                None => break self.replying.lock(),
            }
        };
        let mut sent = self.send_parts(&mut parts, MsgFlags::MSG_DONTWAIT);
        while matches!(sent, Err(LinkError::TimedOut)) && meanwhile() {
            sent = self.send_parts(&mut parts, MsgFlags::MSG_DONTWAIT);
        }
        if matches!(sent, Err(LinkError::TimedOut)) {
            sent = self.send_parts(&mut parts, MsgFlags::empty());
        }
        if sent.is_err() {
            self.close();
        }
        drop(lock);
        sent
    }

    fn send_parts(&self, parts: &mut &mut [IoSlice<'_>], flags: MsgFlags) -> Result<(), LinkError> {
        while !parts.is_empty() {
            match sendmsg::<()>(self.socket.as_raw_fd(), parts, &[], MsgFlags::MSG_NOSIGNAL | flags, None) {
                Ok(length) => IoSlice::advance_slices(parts, length),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(LinkError::TimedOut),
                Err(errno) => return Err(sending_failed(errno)),
            }
        }
        Ok(())
    }

    fn send_all(&self, mut bytes: &[u8]) -> Result<(), LinkError> {
        while !bytes.is_empty() {
            // A client that takes what it is sent makes room before a thread has fallen asleep and woken up again.
            let sent = match self.send(bytes, MsgFlags::MSG_DONTWAIT)? {
                None => self.watch(|| self.send(bytes, MsgFlags::MSG_DONTWAIT))?,
                sent => sent,
            };
            let sent = match sent {
                None => self.send(bytes, MsgFlags::empty())?.ok_or(LinkError::TimedOut)?,
                Some(length) => length,
            };
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    /// Sends some of `bytes`; `None` where there was no room, as long as that was waited for.
    fn send(&self, bytes: &[u8], how: MsgFlags) -> Result<Option<usize>, LinkError> {
        loop {
            match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL | how) {
                Ok(length) => return Ok(Some(length)),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(sending_failed(errno)),
            }
        }
    }

    /// Waits until the socket is ready for `what`.
    fn wait(&self, what: PollFlags, deadline: Instant) -> Result<(), LinkError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LinkError::TimedOut);
            }
            // Rounded up, so that the last fraction of a millisecond is slept and not spun away.
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.socket.as_fd(), what)], timeout) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The server stops: nothing new is received, what has arrived is answered ESHUTDOWN, replies still go out.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.shut(Shutdown::Read);
    }

    /// Whether [`Link::stop`] was called.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn shut(&self, how: Shutdown) {
        // A socket whose peer has gone is as good as shut down.
        let _gone = shutdown(self.socket.as_raw_fd(), how);
    }
}

impl Session for Link {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn close(&self) {
        self.shut(Shutdown::Both);
    }
}

fn sending_failed(errno: Errno) -> LinkError {
    match errno {
        Errno::EPIPE | Errno::ECONNRESET => LinkError::Ended,
        other => LinkError::System(other),
    }
}

fn timeval(duration: Duration) -> TimeVal {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    TimeVal::new(seconds, duration.subsec_micros().into())
}
