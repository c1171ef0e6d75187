//! The server: one accepting thread a listener, one thread a connection, and an end that is bounded.
//!
//! Connections are counted by listener, and those in the handshake apart, also by peer: what is half open never crowds
//! out what is live. A client past a bound is closed at once. Stopping closes the listeners, answers ESHUTDOWN to what
//! arrives, lets what is in flight end, and closes hard what is still there at the deadline.

use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::connection::{self, Common, End};
use super::link::{Link, LinkError};
use super::listener::{AcceptError, Listener};
use super::memory::Budget;
use super::processors::Processors;
use super::{Exports, Peer, Session};
use crate::limits;
use crate::sync::{Arc, Condvar, Mutex};
use crate::units::ByteCount;

/// Room for the cipher's and the backing's frames; the system provides it as it is used.
const CONNECTION_STACK: usize = 512 << 10;
/// How long accepting rests when the system is out of descriptors or memory.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How long clients may take, and how much.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For the whole handshake.
    pub handshake: Duration,
    /// For taking a reply.
    pub send: Duration,
    /// For going on with the payload of a large WRITE.
    pub payload: Duration,
    /// Buffers of requests in flight, over all connections; [`limits::IN_FLIGHT_BYTES_LEAST`] at the least.
    pub in_flight: ByteCount,
}

/// A running server. Dropping it stops it without waiting.
pub struct Server {
    shared: Arc<Shared>,
    /// Closing it ends the accepting threads.
    running: Option<PipeWriter>,
    accepting: Vec<JoinHandle<()>>,
}

struct Shared {
    exports: Arc<dyn Exports>,
    common: Common,
    table: Mutex<Table>,
    /// A connection has ended.
    ended: Condvar,
}

#[derive(Default)]
struct Table {
    stopping: bool,
    next: u64,
    connections: HashMap<u64, Seat>,
    handshakes_by_peer: HashMap<PeerKey, usize>,
}

/// One connection.
struct Seat {
    link: Arc<Link>,
    listener: usize,
    in_handshake: bool,
}

/// What counts as one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum PeerKey {
    User(u32),
    Address(IpAddr),
}

/// Why a client that was accepted is closed again.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum Full {
    #[error("the server is stopping")]
    Stopping,
    #[error("the listener has as many connections as it may have")]
    Connections,
    #[error("too many connections are still in the handshake")]
    Handshakes,
    #[error("the peer has too many connections still in the handshake")]
    PeerHandshakes,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            handshake: limits::HANDSHAKE_DEADLINE,
            send: limits::SEND_DEADLINE,
            payload: limits::PAYLOAD_DEADLINE,
            in_flight: ByteCount::new(limits::IN_FLIGHT_BYTES),
        }
    }
}

impl Server {
    /// Serves `exports` on `listeners`.
    ///
    /// # Errors
    /// Where a thread cannot be started; nothing is served then.
    pub fn start(listeners: Vec<Listener>, exports: Arc<dyn Exports>) -> io::Result<Self> {
        Self::start_with(listeners, exports, Bounds::default())
    }

    /// As [`Server::start`], with other bounds than those of `limits`.
    ///
    /// # Errors
    /// Where a thread cannot be started; nothing is served then.
    pub fn start_with(listeners: Vec<Listener>, exports: Arc<dyn Exports>, bounds: Bounds) -> io::Result<Self> {
        let (stopped, running) = io::pipe()?;
        let (table, ended) = (Mutex::default(), Condvar::new());
        let common = Common { bounds, memory: Budget::new(bounds.in_flight), processors: Processors::new() };
        let shared = Arc::new(Shared { exports, common, table, ended });
        let mut server = Self { shared, running: Some(running), accepting: Vec::new() };
        for (number, listener) in listeners.into_iter().enumerate() {
            let (shared, stopped) = (Arc::clone(&server.shared), stopped.try_clone()?);
            let accept = move || accept_clients(&shared, &listener, number, &stopped);
            server.accepting.push(thread::Builder::new().name("nbd-accept".into()).spawn(accept)?);
        }
        Ok(server)
    }

    /// How many clients are connected, those in the handshake included.
    pub fn connections(&self) -> usize {
        self.shared.table.lock().connections.len()
    }

    /// Stops: see the module. Answers how many connections had not ended by `deadline`; they were closed hard, and end
    /// when the storage answers.
    pub fn stop(mut self, deadline: Instant) -> usize {
        self.begin_stop();
        let busy = |table: &mut Table| !table.connections.is_empty();
        let table = self.shared.ended.wait_while_until(self.shared.table.lock(), deadline, busy);
        for seat in table.connections.values() {
            seat.link.close();
        }
        table.connections.len()
    }

    /// Ends accepting, and has every connection end on its own.
    fn begin_stop(&mut self) {
        drop(self.running.take());
        for accepting in self.accepting.drain(..) {
            // A thread that panicked has said so, and accepts nothing any more either.
            let _ended = accepting.join();
        }
        let mut table = self.shared.table.lock();
        table.stopping = true;
        for seat in table.connections.values() {
            if seat.in_handshake { seat.link.close() } else { seat.link.stop() }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.begin_stop();
    }
}

/// An accepting thread's life.
fn accept_clients(shared: &Arc<Shared>, listener: &Listener, number: usize, stopped: &PipeReader) {
    while wait_for_client(listener, stopped) {
        match listener.accept() {
            Ok(link) => {
                let link = Arc::new(link.watched_on(&shared.common.processors));
                welcome(shared, link, number, listener.is_insecure());
            }
            Err(AcceptError::Nobody) => {}
            Err(AcceptError::System(error)) => {
                tracing::warn!(%error, "cannot accept NBD clients now");
                thread::sleep(ACCEPT_REST);
            }
            Err(refused) => tracing::warn!(reason = %refused, "an NBD client was not admitted"),
        }
    }
}

/// Waits until a client knocks; `false` once the server stops.
fn wait_for_client(listener: &Listener, stopped: &PipeReader) -> bool {
    loop {
        let mut ready =
            [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::empty())];
        match poll(&mut ready, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            // Polling two valid descriptors fails for want of memory only.
            Err(_) => thread::sleep(ACCEPT_REST),
            Ok(_) => return !ready[1].any().unwrap_or(true),
        }
    }
}

/// Starts a client's thread, if there is room.
fn welcome(shared: &Arc<Shared>, link: Arc<Link>, listener: usize, insecure: bool) {
    let peer = link.peer().clone();
    let seated = match Seated::new(shared, &link, listener) {
        Ok(seated) => seated,
        Err(full) => return tracing::warn!(?peer, reason = %full, "an NBD client was turned away"),
    };
    let builder = thread::Builder::new().name("nbd-client".into()).stack_size(CONNECTION_STACK);
    let spawned = builder.spawn(move || {
        let end = seated.serve(&link, insecure);
        log_end(link.peer(), &end);
        // The session may be held elsewhere still, so that dropping the link would not close the socket.
        link.close();
    });
    if let Err(error) = spawned {
        tracing::error!(%error, ?peer, "cannot start a thread for an NBD client");
    }
}

/// A place in the table; given up when it is dropped.
struct Seated {
    shared: Arc<Shared>,
    number: u64,
    key: PeerKey,
    in_handshake: bool,
}

impl Seated {
    fn new(shared: &Arc<Shared>, link: &Arc<Link>, listener: usize) -> Result<Self, Full> {
        let key = PeerKey::of(link.peer());
        let mut table = shared.table.lock();
        table.check_room(listener, key)?;
        let number = table.next;
        table.next += 1;
        table.connections.insert(number, Seat { link: Arc::clone(link), listener, in_handshake: true });
        *table.handshakes_by_peer.entry(key).or_default() += 1;
        drop(table);
        Ok(Self { shared: Arc::clone(shared), number, key, in_handshake: true })
    }

    fn serve(mut self, link: &Arc<Link>, insecure: bool) -> End {
        let deadline = Instant::now() + self.shared.common.bounds.handshake;
        let exports = Arc::clone(&self.shared.exports);
        match connection::handshake(link, exports, insecure, deadline) {
            Err(end) => end,
            Ok(entered) => {
                self.leave_handshake();
                entered.serve(link, &self.shared.common)
            }
        }
    }

    /// From now on, the connection counts as a live one.
    fn leave_handshake(&mut self) {
        let mut table = self.shared.table.lock();
        self.in_handshake = false;
        table.forget_handshake(self.key);
        let stopping = table.stopping;
        if let Some(seat) = table.connections.get_mut(&self.number) {
            seat.in_handshake = false;
            if stopping {
                seat.link.stop();
            }
        }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock();
        if self.in_handshake {
            table.forget_handshake(self.key);
        }
        if let Some(seat) = table.connections.remove(&self.number) {
            seat.link.close();
        }
        drop(table);
        self.shared.ended.notify_all();
    }
}

impl Table {
    fn check_room(&self, listener: usize, key: PeerKey) -> Result<(), Full> {
        if self.stopping {
            return Err(Full::Stopping);
        }
        let here = || self.connections.values().filter(|seat| seat.listener == listener);
        if here().count() >= limits::CONNECTIONS_PER_LISTENER {
            return Err(Full::Connections);
        }
        if here().filter(|seat| seat.in_handshake).count() >= limits::HANDSHAKES_PER_LISTENER {
            return Err(Full::Handshakes);
        }
        match self.handshakes_by_peer.get(&key) {
            Some(count) if *count >= limits::HANDSHAKES_PER_PEER => Err(Full::PeerHandshakes),
            _ => Ok(()),
        }
    }

    fn forget_handshake(&mut self, key: PeerKey) {
        if let Some(count) = self.handshakes_by_peer.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.handshakes_by_peer.remove(&key);
            }
        }
    }
}

impl PeerKey {
    fn of(peer: &Peer) -> Self {
        match peer {
            Peer::Unix { uid, .. } => Self::User(*uid),
            Peer::Tcp(address) => Self::Address(address.ip()),
        }
    }
}

fn log_end(peer: &Peer, end: &End) {
    match end {
        End::Left | End::NotEntered | End::Link(LinkError::Ended) => tracing::debug!(?peer, %end, "NBD client gone"),
        End::Breach(_) | End::Link(_) => tracing::warn!(?peer, reason = %end, "NBD connection closed"),
    }
}
