//! The NBD server: fixed newstyle over unix and TCP sockets (PROTOCOL.md). The guest's door.
//!
//! It knows exports only through [`Exports`] and [`Export`], which `daemon` implements over attachments; so it neither
//! knows the KMS nor can call it. `wire`, `handshake`, `request`, `reply` and `errno` do no I/O.

mod batch;
mod buffer;
pub mod client;
mod connection;
mod dispatch;
mod errno;
mod handshake;
mod link;
mod listener;
mod memory;
#[doc(hidden)]
pub mod micro;
mod misses;
mod options;
mod processors;
mod reply;
mod request;
mod server;
mod solitude;
mod waits;
mod wire;
mod workers;

pub use listener::{Admission, ListenError, Listener};
pub use server::{Bounds, Server};

use std::net::SocketAddr;

use crate::block::BlockDevice;
use crate::sync::Arc;

/// Why an export cannot be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No such export, or not attached: `NBD_REP_ERR_UNKNOWN`.
    Unknown,
    /// It is being detached or the server is stopping: `NBD_REP_ERR_SHUTDOWN`.
    ShuttingDown,
    /// Its last attach was refused: `NBD_REP_ERR_POLICY` with this text (the reason and its time, one line).
    Policy(String),
    /// Say nothing and close, so that a client that lost us over a restart tries again (the dead-connection window).
    CloseSilently,
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A unix socket: who SO_PEERCRED says.
    Unix {
        /// Process id, for messages only, never for decisions.
        pid: i32,
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// A TCP socket.
    Tcp(SocketAddr),
}

/// One name in a list of exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The export's name.
    pub name: String,
    /// What `NBD_INFO_DESCRIPTION` says.
    pub description: String,
}

/// Closes a session from outside: what a forced detach holds of each client.
pub trait Session: Send + Sync {
    /// Who is connected.
    fn peer(&self) -> &Peer;
    /// Ends the connection; returns at once. Requests in flight end on their own.
    fn close(&self);
}

/// Where exports are looked up. Answers from memory: it never calls a KMS and never opens a backing.
pub trait Exports: Send + Sync {
    /// The exports that can be used now.
    fn list(&self) -> Vec<Listing>;
    /// The export called `name`.
    ///
    /// # Errors
    /// Why it cannot be used.
    fn find(&self, name: &str) -> Result<Arc<dyn Export>, Refusal>;
}

/// A volume that can be used now. Kept by a connection for as long as that lasts.
pub trait Export: Send + Sync {
    /// Name and description.
    fn listing(&self) -> Listing;
    /// Counts a request in, or a batch of them that are carried out together; `false` once draining (they are answered ESHUTDOWN).
    /// Each `true` is owed one [`Export::leave`].
    fn enter(&self) -> bool;
    /// The request has been carried out.
    fn leave(&self);
    /// The device. Used only between [`Export::enter`] and [`Export::leave`], and for its geometry.
    fn device(&self) -> &dyn BlockDevice;
    /// Notes a client that has reached the transmission phase; dropping what is returned says that it has gone.
    ///
    /// # Errors
    /// Where a detach has begun.
    fn connected(&self, session: Arc<dyn Session>) -> Result<Box<dyn Send>, Refusal>;
}
