//! A small NBD client, for the demo and the tests: fixed newstyle, simple replies, one request at a time.
//!
//! It believes no length that the server sends: what is read into memory is bounded by `limits`.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::wire::{self, OptionHeader, OptionReplyHeader, RequestHeader, SimpleReply};
use super::wire::{command, command_flag, handshake_flag, info, option, option_reply};
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
    stream: UnixStream,
    size: u64,
    /// The next request's cookie, counted up so that a reply to an earlier request is noticed.
    cookie: u64,
}

impl Client {
    /// Connects to the unix socket at `socket` and goes to `export`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect(socket: &Path, export: &str) -> Result<Self, ClientError> {
        let mut stream = UnixStream::connect(socket)?;
        greet(&mut stream)?;
        let size = go(&mut stream, export)?;
        Ok(Self { stream, size, cookie: 0 })
    }

    /// Bytes in the export.
    pub fn size(&self) -> u64 {
        self.size
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

/// Reads the greeting and answers it.
fn greet(stream: &mut UnixStream) -> Result<(), ClientError> {
    let magics: [u8; 16] = receive(stream)?;
    let (first, second) = (wire::NBD_MAGIC.to_be_bytes(), wire::OPTION_MAGIC.to_be_bytes());
    if magics[..8] != first || magics[8..] != second {
        return Err(ClientError::Protocol("not a newstyle NBD server"));
    }
    let offered = u16::from_be_bytes(receive(stream)?);
    if offered & handshake_flag::FIXED_NEWSTYLE == 0 {
        return Err(ClientError::Protocol("the server does not speak fixed newstyle"));
    }
    let taken = offered & (handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES);
    stream.write_all(&u32::from(taken).to_be_bytes())?;
    Ok(())
}

/// Sends GO without any information request; answers the size of the export.
fn go(stream: &mut UnixStream, export: &str) -> Result<u64, ClientError> {
    let name = u32::try_from(export.len()).map_err(|_| ClientError::Protocol("the name is too long to be sent"))?;
    let length = name.checked_add(6).ok_or(ClientError::Protocol("the name is too long to be sent"))?;
    let mut message = OptionHeader { magic: wire::OPTION_MAGIC, option: option::GO, length }.encode().to_vec();
    message.extend(name.to_be_bytes());
    message.extend(export.as_bytes());
    message.extend(0_u16.to_be_bytes());
    stream.write_all(&message)?;
    let mut size = None;
    loop {
        let (reply, data) = option_reply(stream)?;
        match reply {
            option_reply::ACK => return size.ok_or(ClientError::Protocol("no size was sent")),
            option_reply::INFO => size = export_size(&data).or(size),
            error if option_reply::is_error(error) => {
                let text = String::from_utf8_lossy(&data).trim_end().to_owned();
                return Err(ClientError::Refused { reply, text });
            }
            _ => return Err(ClientError::Protocol("an unexpected reply to an option")),
        }
    }
}

/// The size in an information reply, if that is what the reply is about.
fn export_size(data: &[u8]) -> Option<u64> {
    let mut from = wire::Reader::new(data);
    if from.u16()? == info::EXPORT { from.u64() } else { None }
}

/// One reply to GO: its type and its data.
fn option_reply(stream: &mut UnixStream) -> Result<(u32, Vec<u8>), ClientError> {
    let header = OptionReplyHeader::decode(&receive(stream)?);
    if header.magic != wire::OPTION_REPLY_MAGIC || header.option != option::GO {
        return Err(ClientError::Protocol("a reply to another option"));
    }
    if header.length > limits::OPTION_DATA_MAX {
        return Err(ClientError::Protocol("an option reply too long to be true"));
    }
    let mut data = vec![0; header.length as usize];
    stream.read_exact(&mut data)?;
    Ok((header.reply, data))
}

fn receive<const N: usize>(stream: &mut UnixStream) -> Result<[u8; N], ClientError> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
