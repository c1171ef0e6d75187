//! Encodes replies, simple and in chunks. No I/O.
//!
//! A [`Pending`] is the answer that a client is owed. Every method that answers consumes it, so that no request is
//! answered twice; and the header of READ data is only made once the data is there, so that no reply is ever cut short.

use super::errno::Errno;
use super::request::Terms;
use super::wire::{self, RequestHeader, chunk, state};
use crate::block::{Allocation, Run};
use crate::units::ByteCount;

/// The longest reply that carries neither data nor block status: an error chunk without a text.
pub(super) const SMALL_REPLY_MAX: usize = wire::CHUNK_HEADER + ERROR_PAYLOAD;
/// The longest header of READ data: a chunk's and the offset.
pub(super) const DATA_HEADER_MAX: usize = wire::CHUNK_HEADER + OFFSET;

const ERROR_PAYLOAD: usize = 6;
const OFFSET: usize = 8;

/// An answer that is owed.
#[derive(Debug)]
#[must_use = "the client waits for an answer"]
pub(super) struct Pending {
    cookie: u64,
    form: Form,
}

/// How the answer is to look.
#[derive(Debug, Clone, Copy)]
enum Form {
    Simple,
    /// In chunks; READ data says its offset.
    Chunks {
        offset: u64,
    },
}

/// A short reply, in place.
#[derive(Debug)]
pub(super) struct SmallReply {
    bytes: [u8; SMALL_REPLY_MAX],
    length: usize,
}

impl Pending {
    /// The answer owed to the request under `header`.
    pub(super) fn new(header: &RequestHeader, terms: &Terms) -> Self {
        let offset = header.offset;
        let form = if terms.in_chunks(header.command) { Form::Chunks { offset } } else { Form::Simple };
        Self { cookie: header.cookie, form }
    }

    /// How long the header of READ data will be.
    pub(super) fn data_header_length(&self) -> usize {
        match self.form {
            Form::Simple => wire::SIMPLE_REPLY,
            Form::Chunks { .. } => DATA_HEADER_MAX,
        }
    }

    /// How long an answer without data can be.
    pub(super) fn small_length_max(&self) -> usize {
        match self.form {
            Form::Simple => wire::SIMPLE_REPLY,
            Form::Chunks { .. } => SMALL_REPLY_MAX,
        }
    }

    /// Succeeded, with `length` bytes of READ data to follow: fills `header`, which is as long as
    /// [`Pending::data_header_length`] says.
    pub(super) fn data(self, header: &mut [u8], length: ByteCount) {
        match self.form {
            Form::Simple => header.copy_from_slice(&self.simple(0)),
            Form::Chunks { offset } => {
                let length = length.checked_add(ByteCount::new(OFFSET as u64)).expect("a READ is short");
                let (start, rest) = header.split_at_mut(wire::CHUNK_HEADER);
                start.copy_from_slice(&self.chunk(chunk::OFFSET_DATA, wire_length(length)));
                rest.copy_from_slice(&offset.to_be_bytes());
            }
        }
    }

    /// Ended in this way, with nothing more to say.
    pub(super) fn answer(self, outcome: Result<(), Errno>) -> SmallReply {
        match outcome {
            Ok(()) => self.success(),
            Err(errno) => self.failure(errno),
        }
    }

    fn success(self) -> SmallReply {
        match self.form {
            Form::Simple => SmallReply::of(&[&self.simple(0)]),
            Form::Chunks { .. } => SmallReply::of(&[&self.chunk(chunk::NONE, 0)]),
        }
    }

    /// Failed.
    pub(super) fn failure(self, errno: Errno) -> SmallReply {
        match self.form {
            Form::Simple => SmallReply::of(&[&self.simple(errno.code())]),
            Form::Chunks { .. } => {
                let header = self.chunk(chunk::ERROR, wire_length(ByteCount::new(ERROR_PAYLOAD as u64)));
                SmallReply::of(&[&header, &errno.code().to_be_bytes(), &0_u16.to_be_bytes()])
            }
        }
    }

    /// Succeeded, with the block status of `within` bytes. `runs` is not empty; what reaches beyond `within` is cut off.
    pub(super) fn status(self, runs: &[Run], within: ByteCount) -> Vec<u8> {
        let mut payload = wire::BASE_ALLOCATION_ID.to_be_bytes().to_vec();
        let mut left = within;
        for run in runs {
            let length = run.length.min(left);
            left = left.checked_sub(length).expect("cut to what is left");
            if length != ByteCount::ZERO {
                payload.extend(wire_length(length).to_be_bytes());
                payload.extend(state_of(run.allocation).to_be_bytes());
            }
        }
        let mut reply = self.chunk(chunk::BLOCK_STATUS, wire_length(ByteCount::of(&payload))).to_vec();
        reply.append(&mut payload);
        reply
    }

    fn simple(&self, error: u32) -> [u8; wire::SIMPLE_REPLY] {
        wire::SimpleReply { magic: wire::SIMPLE_REPLY_MAGIC, error, cookie: self.cookie }.encode()
    }

    /// The header of the only chunk of a reply.
    fn chunk(&self, kind: u16, length: u32) -> [u8; wire::CHUNK_HEADER] {
        let (magic, flags) = (wire::STRUCTURED_REPLY_MAGIC, chunk::DONE);
        wire::ChunkHeader { magic, flags, kind, cookie: self.cookie, length }.encode()
    }
}

impl SmallReply {
    /// The reply.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn of(parts: &[&[u8]]) -> Self {
        let mut reply = Self { bytes: [0; SMALL_REPLY_MAX], length: 0 };
        for part in parts {
            reply.bytes[reply.length..reply.length + part.len()].copy_from_slice(part);
            reply.length += part.len();
        }
        reply
    }
}

fn state_of(allocation: Allocation) -> u32 {
    match allocation {
        Allocation::Data => 0,
        Allocation::Zero => state::ZERO,
        Allocation::Hole => state::HOLE | state::ZERO,
    }
}

fn wire_length(length: ByteCount) -> u32 {
    u32::try_from(length.get()).expect("no reply is longer than its request could ask for")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nbd::wire::command;

    fn pending(structured: bool) -> Pending {
        let terms = Terms { size: ByteCount::new(1 << 30), read_only: false, structured, base_allocation: true };
        let (magic, command) = (wire::REQUEST_MAGIC, command::READ);
        Pending::new(&RequestHeader { magic, flags: 0, command, cookie: 0x0102, offset: 0x77, length: 9 }, &terms)
    }

    #[test]
    fn data_headers_have_the_length_that_was_foretold() {
        for structured in [false, true] {
            let pending = pending(structured);
            let mut header = vec![0; pending.data_header_length()];
            pending.data(&mut header, ByteCount::new(9));
            assert_eq!(header.len(), if structured { 28 } else { 16 });
        }
    }

    #[test]
    fn an_error_in_chunks_is_one_final_error_chunk() {
        let reply = pending(true).failure(Errno::Io);
        let expected = [0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 1, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 6, 0, 0, 0, 5, 0, 0];
        assert_eq!(reply.bytes(), expected);
    }

    #[test]
    fn block_status_never_reaches_beyond_the_request() {
        let run = |length, allocation| Run { length: ByteCount::new(length), allocation };
        let runs = [run(10, Allocation::Hole), run(100, Allocation::Data), run(5, Allocation::Zero)];
        let reply = pending(true).status(&runs, ByteCount::new(50));
        assert_eq!(reply[16..20], 20_u32.to_be_bytes());
        assert_eq!(reply[20..], [0, 0, 0, 1, 0, 0, 0, 10, 0, 0, 0, 3, 0, 0, 0, 40, 0, 0, 0, 0]);
    }
}
