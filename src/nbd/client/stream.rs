//! The socket of a client, and the handshake on it.
//!
//! It believes no length that the server sends: what is read into memory is bounded by `limits`.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::ClientError;
use super::uri::{Address, NbdUri};
use crate::limits;
use crate::nbd::wire::transmission_flag;
use crate::nbd::wire::{self, OptionHeader, OptionReplyHeader, handshake_flag, info, option, option_reply};

/// What the server said of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    /// Bytes in the export.
    pub(super) size: u64,
    /// Whether it refuses every mutation.
    pub(super) read_only: bool,
}

/// A connected socket.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// Connects to the server of `uri` and goes to its export; nothing may take longer than `patience`, if given.
    pub(super) fn enter(uri: &NbdUri, patience: Option<Duration>) -> Result<(Self, Offer), ClientError> {
        let mut stream = match uri.address() {
            Address::Unix(path) => Self::Unix(UnixStream::connect(path)?),
            Address::Tcp(host, port) => Self::Tcp(TcpStream::connect((host.as_str(), *port))?),
        };
        stream.prepare(patience)?;
        greet(&mut stream)?;
        let offer = go(&mut stream, uri.export())?;
        Ok((stream, offer))
    }

    fn prepare(&self, patience: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Unix(stream) => {
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)
            }
            Self::Tcp(stream) => {
                // A request is not worth waiting for the next.
                stream.set_nodelay(true)?;
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(into),
            Self::Tcp(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(from),
            Self::Tcp(stream) => stream.write(from),
        }
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write_vectored(from),
            Self::Tcp(stream) => stream.write_vectored(from),
        }
    }

    /// Nothing is kept back.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the greeting and answers it.
fn greet(stream: &mut Stream) -> Result<(), ClientError> {
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

/// Sends GO without any information request; answers what the server said of the export.
fn go(stream: &mut Stream, export: &str) -> Result<Offer, ClientError> {
    let name = u32::try_from(export.len()).map_err(|_| ClientError::Protocol("the name is too long to be sent"))?;
    let length = name.checked_add(6).ok_or(ClientError::Protocol("the name is too long to be sent"))?;
    let mut message = OptionHeader { magic: wire::OPTION_MAGIC, option: option::GO, length }.encode().to_vec();
    message.extend(name.to_be_bytes());
    message.extend(export.as_bytes());
    message.extend(0_u16.to_be_bytes());
    stream.write_all(&message)?;
    let mut offer = None;
    loop {
        let (reply, data) = reply_to_go(stream)?;
        match reply {
            option_reply::ACK => return offer.ok_or(ClientError::Protocol("no size was sent")),
            option_reply::INFO => offer = offer_in(&data).or(offer),
            error if option_reply::is_error(error) => {
                let text = String::from_utf8_lossy(&data).trim_end().to_owned();
                return Err(ClientError::Refused { reply, text });
            }
            _ => return Err(ClientError::Protocol("an unexpected reply to an option")),
        }
    }
}

/// What an information reply says of the export, if that is what the reply is about.
fn offer_in(data: &[u8]) -> Option<Offer> {
    let mut from = wire::Reader::new(data);
    if from.u16()? != info::EXPORT {
        return None;
    }
    let size = from.u64()?;
    let read_only = from.u16()? & transmission_flag::READ_ONLY != 0;
    Some(Offer { size, read_only })
}

/// One reply to GO: its type and its data.
fn reply_to_go(stream: &mut Stream) -> Result<(u32, Vec<u8>), ClientError> {
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

/// Exactly `N` bytes.
pub(super) fn receive<const N: usize>(stream: &mut Stream) -> Result<[u8; N], ClientError> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
