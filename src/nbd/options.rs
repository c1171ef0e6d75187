//! What the data of handshake options says, and the texts with which options are refused. No I/O.
//!
//! Every length inside an option is checked against what is there before it is used; data that is left over is a fault
//! too. Texts stay short, hold one line and repeat little of what the client sent.

use super::Refusal;
use super::wire::{self, Reader, info, option_reply};
use crate::limits;

/// Why the data of an option is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The lengths do not add up, or a name is not text.
    Malformed,
    /// A name or a query longer than the protocol allows.
    TooLong,
}

/// The data of INFO and GO.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExportRequest<'d> {
    /// The export asked for.
    pub(super) name: &'d str,
    /// What the client wants to know beside the size and flags.
    pub(super) wanted: Wanted,
}

/// The information that was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: bool,
    pub(super) description: bool,
    pub(super) block_size: bool,
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ContextRequest<'d> {
    /// The export asked about.
    pub(super) name: &'d str,
    /// Whether there was no query at all.
    pub(super) no_query: bool,
    /// Whether a query names `base:allocation` itself.
    pub(super) names_allocation: bool,
    /// Whether a query asks for all contexts of `base:`.
    pub(super) names_base: bool,
}

/// An error reply: its type and its text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ErrorReply {
    pub(super) reply: u32,
    pub(super) text: String,
}

impl<'d> ExportRequest<'d> {
    /// Reads the data of the option.
    pub(super) fn parse(data: &'d [u8]) -> Result<Self, Fault> {
        let mut from = Reader::new(data);
        let name = string(&mut from)?;
        let count = from.u16().ok_or(Fault::Malformed)?;
        let mut wanted = Wanted::default();
        for _ in 0..count {
            match from.u16().ok_or(Fault::Malformed)? {
                info::NAME => wanted.name = true,
                info::DESCRIPTION => wanted.description = true,
                info::BLOCK_SIZE => wanted.block_size = true,
                // EXPORT is sent in any case; what we do not know is left out, as the protocol wants it.
                _ => {}
            }
        }
        if from.is_empty() { Ok(Self { name, wanted }) } else { Err(Fault::Malformed) }
    }
}

impl<'d> ContextRequest<'d> {
    /// Reads the data of the option.
    pub(super) fn parse(data: &'d [u8]) -> Result<Self, Fault> {
        let mut from = Reader::new(data);
        let name = string(&mut from)?;
        let count = from.u32().ok_or(Fault::Malformed)?;
        let mut request = Self { name, no_query: count == 0, names_allocation: false, names_base: false };
        // A query takes at least four bytes, so a count that is a lie ends with the data.
        for _ in 0..count {
            match string(&mut from)? {
                wire::BASE_ALLOCATION => request.names_allocation = true,
                "base:" => request.names_base = true,
                _ => {}
            }
        }
        if from.is_empty() { Ok(request) } else { Err(Fault::Malformed) }
    }
}

/// The whole of `data` as the name of an export.
pub(super) fn name(data: &[u8]) -> Result<&str, Fault> {
    if data.len() > limits::EXPORT_NAME_MAX {
        return Err(Fault::TooLong);
    }
    std::str::from_utf8(data).map_err(|_| Fault::Malformed)
}

/// A string with its length before it. A name that is too long is told from one that is cut short.
fn string<'d>(from: &mut Reader<'d>) -> Result<&'d str, Fault> {
    let length = from.u32().ok_or(Fault::Malformed)?;
    let length = usize::try_from(length).map_err(|_| Fault::Malformed)?;
    name(from.bytes(length).ok_or(Fault::Malformed)?)
}

impl ErrorReply {
    /// An error of `reply` type with `text`, cut to what clients bear.
    pub(super) fn new(reply: u32, text: &str) -> Self {
        // nbd-client drops the last character: a space that nobody misses is put there. It also keeps qemu's and
        // libnbd's messages on their line, which a line break would not. It also expands `%m` in what it shows, into a
        // buffer that may be too small: no percent sign is sent.
        let room = limits::OPTION_ERROR_TEXT_MAX - 2;
        let text: String = text.chars().map(|c| if c.is_control() || c == '%' { ' ' } else { c }).collect();
        Self { reply, text: format!("{} ", prefix(&text, room)) }
    }

    /// The option is not known here.
    pub(super) fn unsupported() -> Self {
        Self::new(option_reply::ERR_UNSUP, "this server does not know the option")
    }

    /// The option carries data it must not carry.
    pub(super) fn data_not_expected() -> Self {
        Self::new(option_reply::ERR_INVALID, "the option takes no data")
    }

    /// The option needs structured replies.
    pub(super) fn structured_replies_first() -> Self {
        Self::new(option_reply::ERR_INVALID, "metadata contexts need structured replies to be negotiated first")
    }

    /// Exports are not listed for strangers.
    pub(super) fn not_listed() -> Self {
        Self::new(option_reply::ERR_POLICY, "exports are not listed on this address")
    }

    /// Why `name` cannot be used; `None` where the connection is to be closed without a word. Peers on an insecure
    /// listener are not told why.
    pub(super) fn refusal(refusal: &Refusal, name: &str, insecure: bool) -> Option<Self> {
        match refusal {
            Refusal::CloseSilently => None,
            Refusal::Unknown => {
                let escaped = name.escape_debug().to_string();
                let shown = prefix(&escaped, limits::ECHOED_NAME_MAX);
                let dots = if shown.len() < escaped.len() { "..." } else { "" };
                let text = format!("no export called \"{shown}{dots}\" is attached");
                Some(Self::new(option_reply::ERR_UNKNOWN, &text))
            }
            Refusal::ShuttingDown => Some(Self::new(option_reply::ERR_SHUTDOWN, "the export is being shut down")),
            Refusal::Policy(_) if insecure => {
                Some(Self::new(option_reply::ERR_POLICY, "the export cannot be used now"))
            }
            Refusal::Policy(text) => Some(Self::new(option_reply::ERR_POLICY, text)),
        }
    }
}

impl From<Fault> for ErrorReply {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed => Self::new(option_reply::ERR_INVALID, "the option's data is malformed"),
            Fault::TooLong => Self::new(option_reply::ERR_TOO_BIG, "a name may be 4096 bytes long at the most"),
        }
    }
}

/// The longest start of `text` that takes no more than `most` bytes.
fn prefix(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.expect("zero is a boundary")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_are_one_line_short_and_end_with_a_character_to_spare() {
        for text in ["short", "two\nlines\r\n", "100%m", &"x".repeat(5000), &"\u{e9}".repeat(3000)] {
            let reply = ErrorReply::new(option_reply::ERR_POLICY, text);
            assert!(reply.text.len() < limits::OPTION_ERROR_TEXT_MAX);
            assert!(reply.text.ends_with(' ') && !reply.text.contains(['\n', '%']));
        }
    }

    #[test]
    fn an_unknown_name_is_repeated_in_80_bytes_at_the_most() {
        for name in ["a".repeat(4096), "\u{1f600}".repeat(1000), "\u{0}\n\"".repeat(1000)] {
            let reply = ErrorReply::refusal(&Refusal::Unknown, &name, false).expect("a reply");
            let echoed = reply.text.strip_prefix("no export called \"").expect("the text");
            let echoed = echoed.strip_suffix("...\" is attached ").expect("cut");
            assert!(echoed.len() <= limits::ECHOED_NAME_MAX);
        }
    }

    #[test]
    fn a_reason_is_kept_from_peers_on_an_insecure_listener() {
        let refusal = Refusal::Policy("the KMS key is disabled".into());
        let shown = ErrorReply::refusal(&refusal, "v", false).expect("a reply").text;
        let hidden = ErrorReply::refusal(&refusal, "v", true).expect("a reply").text;
        assert!(shown.contains("KMS") && !hidden.contains("KMS"));
    }
}
