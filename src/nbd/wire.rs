//! The numbers and layouts of the NBD protocol, as its text gives them: all integers big-endian.
//!
//! Encodes and decodes, judges nothing: an unknown command or flag decodes as well as a known one. What is allowed is
//! said in `handshake` and `request`.

/// What a server sends first.
pub(super) const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// What a newstyle server sends second, and what starts each option.
pub(super) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// What starts each reply to an option.
pub(super) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// What starts each request.
pub(super) const REQUEST_MAGIC: u32 = 0x2560_9513;
/// What starts each simple reply.
pub(super) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// What starts each chunk of a structured reply.
pub(super) const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Handshake flags, as the server offers them and the client takes them up.
pub(super) mod handshake_flag {
    pub(in crate::nbd) const FIXED_NEWSTYLE: u16 = 1 << 0;
    pub(in crate::nbd) const NO_ZEROES: u16 = 1 << 1;
}

/// Options that a client may send.
pub(super) mod option {
    pub(in crate::nbd) const EXPORT_NAME: u32 = 1;
    pub(in crate::nbd) const ABORT: u32 = 2;
    pub(in crate::nbd) const LIST: u32 = 3;
    pub(in crate::nbd) const INFO: u32 = 6;
    pub(in crate::nbd) const GO: u32 = 7;
    pub(in crate::nbd) const STRUCTURED_REPLY: u32 = 8;
    pub(in crate::nbd) const LIST_META_CONTEXT: u32 = 9;
    pub(in crate::nbd) const SET_META_CONTEXT: u32 = 10;
}

/// Types of replies to options.
pub(super) mod option_reply {
    const ERROR: u32 = 1 << 31;
    pub(in crate::nbd) const ACK: u32 = 1;
    pub(in crate::nbd) const SERVER: u32 = 2;
    pub(in crate::nbd) const INFO: u32 = 3;
    pub(in crate::nbd) const META_CONTEXT: u32 = 4;
    pub(in crate::nbd) const ERR_UNSUP: u32 = ERROR + 1;
    pub(in crate::nbd) const ERR_POLICY: u32 = ERROR + 2;
    pub(in crate::nbd) const ERR_INVALID: u32 = ERROR + 3;
    pub(in crate::nbd) const ERR_UNKNOWN: u32 = ERROR + 6;
    pub(in crate::nbd) const ERR_SHUTDOWN: u32 = ERROR + 7;
    pub(in crate::nbd) const ERR_TOO_BIG: u32 = ERROR + 9;

    /// Whether a reply type says that the option failed.
    pub(in crate::nbd) const fn is_error(reply: u32) -> bool {
        reply & ERROR != 0
    }
}

/// Kinds of information about an export.
pub(super) mod info {
    pub(in crate::nbd) const EXPORT: u16 = 0;
    pub(in crate::nbd) const NAME: u16 = 1;
    pub(in crate::nbd) const DESCRIPTION: u16 = 2;
    pub(in crate::nbd) const BLOCK_SIZE: u16 = 3;
}

/// Transmission flags: what an export can do.
pub(super) mod transmission_flag {
    pub(in crate::nbd) const HAS_FLAGS: u16 = 1 << 0;
    pub(in crate::nbd) const READ_ONLY: u16 = 1 << 1;
    pub(in crate::nbd) const SEND_FLUSH: u16 = 1 << 2;
    pub(in crate::nbd) const SEND_FUA: u16 = 1 << 3;
    pub(in crate::nbd) const SEND_TRIM: u16 = 1 << 5;
    pub(in crate::nbd) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub(in crate::nbd) const SEND_DF: u16 = 1 << 7;
    pub(in crate::nbd) const CAN_MULTI_CONN: u16 = 1 << 8;
    pub(in crate::nbd) const SEND_CACHE: u16 = 1 << 10;
    pub(in crate::nbd) const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Request types.
pub(super) mod command {
    pub(in crate::nbd) const READ: u16 = 0;
    pub(in crate::nbd) const WRITE: u16 = 1;
    pub(in crate::nbd) const DISC: u16 = 2;
    pub(in crate::nbd) const FLUSH: u16 = 3;
    pub(in crate::nbd) const TRIM: u16 = 4;
    pub(in crate::nbd) const CACHE: u16 = 5;
    pub(in crate::nbd) const WRITE_ZEROES: u16 = 6;
    pub(in crate::nbd) const BLOCK_STATUS: u16 = 7;
}

/// Flags of requests.
pub(super) mod command_flag {
    pub(in crate::nbd) const FUA: u16 = 1 << 0;
    pub(in crate::nbd) const NO_HOLE: u16 = 1 << 1;
    pub(in crate::nbd) const DF: u16 = 1 << 2;
    pub(in crate::nbd) const REQ_ONE: u16 = 1 << 3;
    pub(in crate::nbd) const FAST_ZERO: u16 = 1 << 4;
}

/// Types of structured reply chunks, and the flag on the last of a reply.
pub(super) mod chunk {
    pub(in crate::nbd) const DONE: u16 = 1 << 0;
    pub(in crate::nbd) const NONE: u16 = 0;
    pub(in crate::nbd) const OFFSET_DATA: u16 = 1;
    pub(in crate::nbd) const BLOCK_STATUS: u16 = 5;
    pub(in crate::nbd) const ERROR: u16 = (1 << 15) + 1;
}

/// Status flags of the context `base:allocation`.
pub(super) mod state {
    pub(in crate::nbd) const HOLE: u32 = 1 << 0;
    pub(in crate::nbd) const ZERO: u32 = 1 << 1;
}

/// The name of the one metadata context that exists, and what it is called in its replies.
pub(super) const BASE_ALLOCATION: &str = "base:allocation";
/// See [`BASE_ALLOCATION`].
pub(super) const BASE_ALLOCATION_ID: u32 = 1;

/// Bytes of an option's header.
pub(super) const OPTION_HEADER: usize = 16;
/// Bytes of the header of a reply to an option.
pub(super) const OPTION_REPLY_HEADER: usize = 20;
/// Bytes of a request's header.
pub(super) const REQUEST_HEADER: usize = 28;
/// Bytes of a simple reply.
pub(super) const SIMPLE_REPLY: usize = 16;
/// Bytes of a structured reply chunk's header.
pub(super) const CHUNK_HEADER: usize = 20;

/// An option's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OptionHeader {
    pub(super) magic: u64,
    pub(super) option: u32,
    pub(super) length: u32,
}

/// The header of a reply to an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OptionReplyHeader {
    pub(super) magic: u64,
    pub(super) option: u32,
    pub(super) reply: u32,
    pub(super) length: u32,
}

/// A request's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestHeader {
    pub(super) magic: u32,
    pub(super) flags: u16,
    pub(super) command: u16,
    pub(super) cookie: u64,
    pub(super) offset: u64,
    pub(super) length: u32,
}

/// A simple reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SimpleReply {
    pub(super) magic: u32,
    pub(super) error: u32,
    pub(super) cookie: u64,
}

/// The header of a chunk of a structured reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkHeader {
    pub(super) magic: u32,
    pub(super) flags: u16,
    pub(super) kind: u16,
    pub(super) cookie: u64,
    pub(super) length: u32,
}

/// Takes integers off the front of bytes whose length the caller has made sure of or wants checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    /// A reader at the front of `bytes`.
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    /// The next `length` bytes, or `None` where fewer are left.
    pub(super) fn bytes(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next 16-bit integer.
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next 32-bit integer.
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next 64-bit integer.
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }
}

impl OptionHeader {
    /// Reads a header.
    pub(super) fn decode(bytes: &[u8; OPTION_HEADER]) -> Self {
        let mut from = Reader::new(bytes);
        let header = || Some(Self { magic: from.u64()?, option: from.u32()?, length: from.u32()? });
        full(header)
    }

    /// Writes the header.
    pub(super) fn encode(self) -> [u8; OPTION_HEADER] {
        let mut bytes = [0; OPTION_HEADER];
        bytes[..8].copy_from_slice(&self.magic.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.option.to_be_bytes());
        bytes[12..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }
}

impl OptionReplyHeader {
    /// Reads a header.
    pub(super) fn decode(bytes: &[u8; OPTION_REPLY_HEADER]) -> Self {
        let mut from = Reader::new(bytes);
        full(|| Some(Self { magic: from.u64()?, option: from.u32()?, reply: from.u32()?, length: from.u32()? }))
    }

    /// Writes the header.
    pub(super) fn encode(self) -> [u8; OPTION_REPLY_HEADER] {
        let mut bytes = [0; OPTION_REPLY_HEADER];
        bytes[..8].copy_from_slice(&self.magic.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.option.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.reply.to_be_bytes());
        bytes[16..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }
}

impl RequestHeader {
    /// Reads a header.
    pub(super) fn decode(bytes: &[u8; REQUEST_HEADER]) -> Self {
        let mut from = Reader::new(bytes);
        full(|| {
            Some(Self {
                magic: from.u32()?,
                flags: from.u16()?,
                command: from.u16()?,
                cookie: from.u64()?,
                offset: from.u64()?,
                length: from.u32()?,
            })
        })
    }

    /// Writes the header.
    pub(super) fn encode(self) -> [u8; REQUEST_HEADER] {
        let mut bytes = [0; REQUEST_HEADER];
        bytes[..4].copy_from_slice(&self.magic.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.command.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }
}

impl SimpleReply {
    /// Writes the reply.
    pub(super) fn encode(self) -> [u8; SIMPLE_REPLY] {
        let mut bytes = [0; SIMPLE_REPLY];
        bytes[..4].copy_from_slice(&self.magic.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.error.to_be_bytes());
        bytes[8..].copy_from_slice(&self.cookie.to_be_bytes());
        bytes
    }

    /// Reads a reply.
    pub(super) fn decode(bytes: &[u8; SIMPLE_REPLY]) -> Self {
        let mut from = Reader::new(bytes);
        full(|| Some(Self { magic: from.u32()?, error: from.u32()?, cookie: from.u64()? }))
    }
}

impl ChunkHeader {
    /// Writes the header.
    pub(super) fn encode(self) -> [u8; CHUNK_HEADER] {
        let mut bytes = [0; CHUNK_HEADER];
        bytes[..4].copy_from_slice(&self.magic.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.kind.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[16..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }
}

/// What `decode` reads, where the type of its input says that the bytes are all there.
fn full<T>(decode: impl FnOnce() -> Option<T>) -> T {
    decode().expect("the array holds the whole header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_are_written() {
        let request =
            RequestHeader { magic: 1, flags: 2, command: 0xffff, cookie: u64::MAX - 4, offset: 5 << 40, length: 6 };
        assert_eq!(RequestHeader::decode(&request.encode()), request);
        let option = OptionHeader { magic: OPTION_MAGIC, option: 0xdead, length: u32::MAX };
        assert_eq!(OptionHeader::decode(&option.encode()), option);
        let reply = OptionReplyHeader { magic: OPTION_REPLY_MAGIC, option: 3, reply: option_reply::ACK, length: 9 };
        assert_eq!(OptionReplyHeader::decode(&reply.encode()), reply);
    }

    #[test]
    fn a_reader_never_reads_past_its_end() {
        let mut reader = Reader::new(&[0, 1, 2]);
        assert_eq!(reader.u32(), None);
        assert_eq!(reader.u16(), Some(1));
        assert_eq!(reader.bytes(2), None);
        assert_eq!(reader.bytes(1), Some(&[2][..]));
        assert!(reader.is_empty());
    }
}
