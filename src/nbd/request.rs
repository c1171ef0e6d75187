//! Judges a request, once: known command, flags, read-only, length and range.
//!
//! Below this, facts are asserted: a [`Work`] holds an [`Extent`] that lies within the export. What is advertised and
//! what is accepted are both said here, so that they cannot differ. No I/O.

use super::errno::Errno;
use super::wire::{self, RequestHeader, command, command_flag, transmission_flag};
use crate::block::{Durability, Effort, Zeroing};
use crate::limits;
use crate::units::{ByteCount, ByteOffset, Extent};

/// What the handshake agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// Bytes in the export.
    pub(super) size: ByteCount,
    /// Whether mutations are refused.
    pub(super) read_only: bool,
    /// Whether READ and BLOCK_STATUS are answered in chunks.
    pub(super) structured: bool,
    /// Whether `base:allocation` was selected for this export.
    pub(super) base_allocation: bool,
}

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Carry it out.
    Serve(Work),
    /// Nothing is to be done: it covers no byte.
    Succeed,
    /// Answer with this error, once `payload` bytes behind the header have been thrown away.
    Refuse {
        /// The answer.
        errno: Errno,
        /// How long the payload is.
        payload: u32,
    },
    /// The client takes its leave.
    Leave,
    /// The client broke the protocol in a way that leaves the stream out of step or would cost too much.
    Disconnect(Breach),
}

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Breach {
    /// Not a request where one should start.
    #[error("a request without its magic")]
    BadMagic,
    /// A payload beyond what clients may count on.
    #[error("a write of {0} bytes")]
    WriteTooLong(u32),
}

/// A request that can be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Bytes are sent back.
    Read(Extent),
    /// The payload is written.
    Write(Extent, Durability),
    /// All that was completed is made durable.
    Flush,
    /// The bytes are not needed.
    Discard(Extent, Durability),
    /// The bytes become zeros.
    Zero(Extent, Zeroing, Effort, Durability),
    /// The bytes will soon be read.
    Cache(Extent),
    /// The allocation of the bytes is described, in so many runs at the most.
    Status(Extent, usize),
}

impl Terms {
    /// The transmission flags that the client is told.
    pub(super) fn transmission_flags(&self) -> u16 {
        use transmission_flag as flag;
        let mut flags = flag::HAS_FLAGS | flag::SEND_FLUSH | flag::SEND_FUA | flag::CAN_MULTI_CONN | flag::SEND_CACHE;
        if self.read_only {
            flags |= flag::READ_ONLY;
        } else {
            flags |= flag::SEND_TRIM | flag::SEND_WRITE_ZEROES | flag::SEND_FAST_ZERO;
        }
        if self.structured {
            flags |= flag::SEND_DF;
        }
        flags
    }

    /// Whether the answer to `command` goes in chunks.
    pub(super) fn in_chunks(&self, command: u16) -> bool {
        self.structured && matches!(command, command::READ | command::BLOCK_STATUS)
    }
}

/// What is to be done with the request under `header`.
pub(super) fn judge(header: &RequestHeader, terms: &Terms) -> Verdict {
    if header.magic != wire::REQUEST_MAGIC {
        return Verdict::Disconnect(Breach::BadMagic);
    }
    if header.command == command::DISC {
        return Verdict::Leave;
    }
    let payload = if header.command == command::WRITE { header.length } else { 0 };
    if payload > limits::REQUEST_MAX {
        return Verdict::Disconnect(Breach::WriteTooLong(payload));
    }
    match judge_command(header, terms) {
        Ok(Some(work)) => Verdict::Serve(work),
        Ok(None) => Verdict::Succeed,
        Err(errno) => Verdict::Refuse { errno, payload },
    }
}

/// The work asked for, `None` where it covers no byte.
fn judge_command(header: &RequestHeader, terms: &Terms) -> Result<Option<Work>, Errno> {
    judge_flags(header, terms)?;
    let mutates = matches!(header.command, command::WRITE | command::TRIM | command::WRITE_ZEROES);
    if mutates && terms.read_only {
        return Err(Errno::Perm);
    }
    if header.command == command::FLUSH {
        let unused = header.offset == 0 && header.length == 0;
        return if unused { Ok(Some(Work::Flush)) } else { Err(Errno::Inval) };
    }
    let extent = judge_range(header, terms)?;
    if header.command == command::BLOCK_STATUS && (extent.is_empty() || !terms.base_allocation) {
        return Err(Errno::Inval);
    }
    if extent.is_empty() {
        return Ok(None);
    }
    Ok(Some(work(header, extent)))
}

/// Refuses unknown commands, and flags that do not go with the command.
fn judge_flags(header: &RequestHeader, terms: &Terms) -> Result<(), Errno> {
    let own = match header.command {
        command::READ if terms.structured => command_flag::DF,
        command::READ | command::WRITE | command::FLUSH | command::TRIM | command::CACHE => 0,
        command::WRITE_ZEROES => command_flag::NO_HOLE | command_flag::FAST_ZERO,
        command::BLOCK_STATUS => command_flag::REQ_ONE,
        _ => return Err(Errno::Inval),
    };
    // FUA is to be accepted on every command, whether it writes or not.
    if header.flags & !(own | command_flag::FUA) == 0 { Ok(()) } else { Err(Errno::Inval) }
}

/// The range asked for, which lies within the export.
fn judge_range(header: &RequestHeader, terms: &Terms) -> Result<Extent, Errno> {
    if header.command == command::READ && header.length > limits::REQUEST_MAX {
        let whole = header.flags & command_flag::DF != 0;
        return Err(if whole { Errno::Overflow } else { Errno::Inval });
    }
    let beyond = match header.command {
        command::WRITE | command::WRITE_ZEROES => Errno::NoSpace,
        _ => Errno::Inval,
    };
    Extent::new(ByteOffset::new(header.offset), ByteCount::new(header.length.into()))
        .filter(|extent| extent.fits(terms.size))
        .ok_or(beyond)
}

/// The work of a command that was judged and covers at least a byte.
fn work(header: &RequestHeader, extent: Extent) -> Work {
    let has = |flag| header.flags & flag != 0;
    let durability = if has(command_flag::FUA) { Durability::Durable } else { Durability::Cached };
    match header.command {
        command::READ => Work::Read(extent),
        command::WRITE => Work::Write(extent, durability),
        command::TRIM => Work::Discard(extent, durability),
        command::WRITE_ZEROES => {
            let zeroing = if has(command_flag::NO_HOLE) { Zeroing::KeepAllocated } else { Zeroing::MayPunch };
            let effort = if has(command_flag::FAST_ZERO) { Effort::FastOnly } else { Effort::Any };
            Work::Zero(extent, zeroing, effort, durability)
        }
        command::CACHE => Work::Cache(extent),
        command::BLOCK_STATUS => {
            Work::Status(extent, if has(command_flag::REQ_ONE) { 1 } else { limits::STATUS_RUNS_MAX })
        }
        _ => unreachable!("judge_flags refuses every other command"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TERMS: Terms =
        Terms { size: ByteCount::new(1 << 20), read_only: false, structured: true, base_allocation: true };

    fn header(command: u16, flags: u16, offset: u64, length: u32) -> RequestHeader {
        RequestHeader { magic: wire::REQUEST_MAGIC, flags, command, cookie: 7, offset, length }
    }

    #[test]
    fn an_empty_range_may_lie_at_the_end_and_not_behind_it() {
        assert_eq!(judge(&header(command::READ, 0, 1 << 20, 0), &TERMS), Verdict::Succeed);
        let refused = Verdict::Refuse { errno: Errno::Inval, payload: 0 };
        assert_eq!(judge(&header(command::READ, 0, (1 << 20) + 1, 0), &TERMS), refused);
    }

    #[test]
    fn fua_goes_with_every_command_but_asks_only_writers_for_durability() {
        for known in 0..=7 {
            let verdict = judge(&header(known, command_flag::FUA, 0, 0), &TERMS);
            let flags_refused = known != command::BLOCK_STATUS && matches!(verdict, Verdict::Refuse { .. });
            assert!(!flags_refused, "command {known}: {verdict:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_served_lies_within_the_export(
            command in 0_u16..10,
            flags in 0_u16..64,
            offset in prop_oneof![0_u64..(2 << 20), any::<u64>()],
            length in prop_oneof![0_u32..(2 << 20), any::<u32>()],
            read_only: bool,
        ) {
            let terms = Terms { read_only, ..TERMS };
            if let Verdict::Serve(work) = judge(&header(command, flags, offset, length), &terms) {
                let (extent, mutates) = match work {
                    Work::Flush => return Ok(()),
                    Work::Read(extent) | Work::Cache(extent) | Work::Status(extent, _) => (extent, false),
                    Work::Write(extent, _) | Work::Discard(extent, _) | Work::Zero(extent, ..) => (extent, true),
                };
                prop_assert!(extent.fits(terms.size) && !extent.is_empty());
                prop_assert!(!(mutates && read_only));
            }
        }
    }
}
