//! Small NBD clients: fixed newstyle, simple replies. [`Client`] has one request under way, for the demo and the tests;
//! [`pipeline`] has many, for measurements.

pub mod pipeline;
mod stream;
mod uri;

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

pub use uri::{Address, BadUri, NbdUri};

use self::stream::{Offer, Stream, receive};
use super::wire::{self, RequestHeader, SimpleReply, command, command_flag};
use crate::block::Zeroing;
use crate::limits;

/// Why the server, or the connection, said no.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused the export in the handshake.
    #[error("server said: {text}")]
    Refused {
        /// The option reply type, such as `NBD_REP_ERR_POLICY`.
        reply: u32,
        /// The server's text.
        text: String,
    },
    /// A request was answered with an NBD errno.
    #[error("the server answered error {0}")]
    Errno(u32),
    /// The connection failed or ended.
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
    /// The server broke the protocol.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
}

/// A connection in the transmission phase.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    offer: Offer,
    /// The next request's cookie, counted up so that a reply to an earlier request is noticed.
    cookie: u64,
}

impl Client {
    /// Connects to the unix socket at `socket` and goes to `export`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect(socket: &Path, export: &str) -> Result<Self, ClientError> {
        Self::enter(&NbdUri::unix(socket, export), None)
    }

    /// Connects to the export of `uri`; with `patience`, a server that does not move for so long has failed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn enter(uri: &NbdUri, patience: Option<Duration>) -> Result<Self, ClientError> {
        let (stream, offer) = Stream::enter(uri, patience)?;
        Ok(Self { stream, offer, cookie: 0 })
    }

    /// Bytes in the export.
    pub fn size(&self) -> u64 {
        self.offer.size
    }

    /// Whether the export refuses writes.
    pub fn is_read_only(&self) -> bool {
        self.offer.read_only
    }

    /// READ.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ClientError> {
        let mut at = offset;
        for piece in into.chunks_mut(limits::REQUEST_MAX as usize) {
            self.request(command::READ, 0, Span::of(at, piece), &[])?;
            self.stream.read_exact(piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// WRITE, answered once the server's kernel has it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), ClientError> {
        self.write_with(0, offset, from)
    }

    /// WRITE with FUA, answered once the server's disk has it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn write_durably(&mut self, offset: u64, from: &[u8]) -> Result<(), ClientError> {
        self.write_with(command_flag::FUA, offset, from)
    }

    fn write_with(&mut self, flags: u16, offset: u64, from: &[u8]) -> Result<(), ClientError> {
        let mut at = offset;
        for piece in from.chunks(limits::REQUEST_MAX as usize) {
            self.request(command::WRITE, flags, Span::of(at, piece), piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// FLUSH.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.request(command::FLUSH, 0, Span::NONE, &[])
    }

    /// TRIM of `length` bytes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn trim(&mut self, offset: u64, length: u32) -> Result<(), ClientError> {
        self.request(command::TRIM, 0, Span { offset, length }, &[])
    }

    /// WRITE_ZEROES of `length` bytes, by a hole or not.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn zero(&mut self, offset: u64, length: u32, zeroing: Zeroing) -> Result<(), ClientError> {
        let flags = if zeroing == Zeroing::KeepAllocated { command_flag::NO_HOLE } else { 0 };
        self.request(command::WRITE_ZEROES, flags, Span { offset, length }, &[])
    }

    /// DISC, and wait for the server to close.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn disconnect(mut self) -> Result<(), ClientError> {
        self.send(command::DISC, 0, Span::NONE, &[])?;
        match self.stream.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(ClientError::Protocol("data after the disconnect")),
        }
    }

    /// Sends a request and waits for its reply's header.
    fn request(&mut self, command: u16, flags: u16, span: Span, payload: &[u8]) -> Result<(), ClientError> {
        self.send(command, flags, span, payload)?;
        let reply = SimpleReply::decode(&receive(&mut self.stream)?);
        if reply.magic != wire::SIMPLE_REPLY_MAGIC {
            return Err(ClientError::Protocol("a reply without its magic"));
        }
        if reply.cookie != self.cookie {
            return Err(ClientError::Protocol("a reply to another request"));
        }
        if reply.error == 0 { Ok(()) } else { Err(ClientError::Errno(reply.error)) }
    }

    fn send(&mut self, command: u16, flags: u16, span: Span, payload: &[u8]) -> Result<(), ClientError> {
        self.cookie += 1;
        let (magic, cookie, Span { offset, length }) = (wire::REQUEST_MAGIC, self.cookie, span);
        self.stream.write_all(&RequestHeader { magic, flags, command, cookie, offset, length }.encode())?;
        self.stream.write_all(payload)?;
        Ok(())
    }
}

/// The bytes that a request is about.
#[derive(Debug, Clone, Copy)]
struct Span {
    offset: u64,
    length: u32,
}

impl Span {
    const NONE: Self = Self { offset: 0, length: 0 };

    /// As many bytes at `offset` as `piece` holds.
    fn of(offset: u64, piece: &[u8]) -> Self {
        let length = u32::try_from(piece.len()).expect("requests are cut to what one may carry");
        Self { offset, length }
    }
}
