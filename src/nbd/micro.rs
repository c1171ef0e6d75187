//! What `benches/requests.rs` may reach of the requests' way, and the fuzz targets of the handshake: their numbers and
//! layouts stay private to the server.
//!
//! Nothing here is part of the library's interface; nothing else uses it.

use super::Exports;
use super::errno::Errno;
use super::handshake::{Handshake, Step};
use super::reply::Pending;
use super::request::{self, Terms, Verdict};
use super::wire::{self, RequestHeader, command, command_flag};
use crate::sync::Arc;
use crate::units::ByteCount;

/// Bytes of a request's header.
pub const HEADER: usize = wire::REQUEST_HEADER;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// READ.
    Read,
    /// WRITE.
    Write,
    /// WRITE with FUA.
    DurableWrite,
    /// A command that does not exist.
    Nonsense,
}

/// What was agreed on in the handshake.
#[derive(Debug, Clone, Copy)]
pub struct Agreed(Terms);

impl Agreed {
    /// A writable export of `size`; `structured` replies or simple ones.
    pub fn new(size: ByteCount, structured: bool) -> Self {
        Self(Terms { size, read_only: false, structured, base_allocation: structured })
    }
}

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It did not: more is waited for.
    Open,
    /// The server closes.
    Closed,
    /// With an export.
    Entered,
}

/// What a client that sends `pieces`, one after the other, is answered behind the greeting, how much of what it sent was
/// taken, and how it ends: with the loop of a connection, without its socket.
pub fn handshake(exports: Arc<dyn Exports>, pieces: &[&[u8]]) -> (Vec<u8>, usize, Ended) {
    let mut handshake = Handshake::new(exports, false);
    let (mut input, mut answered, mut taken) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let before = answered.len();
            let (length, step) = handshake.advance(&input, &mut answered);
            input.drain(..length);
            taken += length;
            match step {
                Step::More if answered.len() > before => {}
                Step::More => break,
                Step::Close => return (answered, taken, Ended::Closed),
                Step::Enter(entry) => {
                    handshake.admit(&entry, &mut answered);
                    return (answered, taken, Ended::Entered);
                }
            }
        }
    }
    (answered, taken, Ended::Open)
}

/// The header of a request for `length` bytes at `offset`.
pub fn header(asked: Asked, cookie: u64, offset: u64, length: u32) -> [u8; HEADER] {
    let (command, flags) = match asked {
        Asked::Read => (command::READ, 0),
        Asked::Write => (command::WRITE, 0),
        Asked::DurableWrite => (command::WRITE, command_flag::FUA),
        Asked::Nonsense => (u16::MAX, 0),
    };
    RequestHeader { magic: wire::REQUEST_MAGIC, flags, command, cookie, offset, length }.encode()
}

/// Decodes `headers` and does nothing with them; a sum of what they say.
pub fn decode(headers: &[[u8; HEADER]]) -> u64 {
    headers.iter().map(RequestHeader::decode).fold(0, |sum, header| sum ^ header.offset ^ header.cookie)
}

/// Decodes and judges `headers`; how many are to be served.
pub fn judge(headers: &[[u8; HEADER]], agreed: &Agreed) -> usize {
    let verdicts = headers.iter().map(|header| request::judge(&RequestHeader::decode(header), &agreed.0));
    verdicts.filter(|verdict| matches!(verdict, Verdict::Serve(_))).count()
}

/// Decodes, judges and answers `headers`, as if each had succeeded at once: the headers of the replies are written to the
/// front of `output`; how long they are.
pub fn answer(headers: &[[u8; HEADER]], agreed: &Agreed, output: &mut [u8]) -> usize {
    let mut end = 0;
    for header in headers {
        let header = RequestHeader::decode(header);
        let pending = Pending::new(&header, &agreed.0);
        let outcome = match request::judge(&header, &agreed.0) {
            Verdict::Serve(request::Work::Read(extent)) => {
                let length = pending.data_header_length();
                pending.data(&mut output[end..end + length], extent.length());
                end += length;
                continue;
            }
            Verdict::Refuse { errno, .. } => Err(errno),
            Verdict::Serve(_) | Verdict::Succeed => Ok(()),
            Verdict::Leave | Verdict::Disconnect(_) => Err(Errno::Inval),
        };
        let reply = pending.answer(outcome);
        output[end..end + reply.bytes().len()].copy_from_slice(reply.bytes());
        end += reply.bytes().len();
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_does_what_it_says() {
        let agreed = Agreed::new(ByteCount::new(1 << 20), false);
        let asked = [Asked::Read, Asked::Write, Asked::DurableWrite, Asked::Nonsense];
        let headers = asked.map(|asked| header(asked, 1, 4096, 4096));
        assert_eq!(judge(&headers, &agreed), 3);
        let mut output = [0; 4 * wire::SIMPLE_REPLY];
        assert_eq!(answer(&headers, &agreed, &mut output), output.len());
        let refused = wire::SimpleReply::decode(output.last_chunk().expect("a reply"));
        assert_eq!((refused.cookie, refused.error), (1, 22));
        assert_eq!(decode(&headers[..1]), 4096 ^ 1);
    }
}
