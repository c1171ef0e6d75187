//! A log in which no record can be changed, dropped, moved or put in unseen: what its lines look like, and how they are
//! verified. Writing them is `kms::embedded::audit`'s matter.
//!
//! A line is a JSON object whose last member is its link:
//! ```text
//! {PAYLOAD,"chain":{"number":N,"hash":"HASH","mac":"MAC"}}\n
//!
//! HASH(N) = SHA-256("envol audit 1 record" | N as 8 bytes | HASH(N-1) | MAC(N-1) | {PAYLOAD})
//! MAC(N)  = HMAC-SHA-256(KEY(N), "envol audit 1 mac" | HASH(N))
//! KEY(N+1) = HMAC-SHA-256(KEY(N), "envol audit 1 next key")
//! HASH(0) = SHA-256("envol audit 1 beginning" | SHA-256 of what the file held before), MAC(0) = zeros
//! ```
//! The hashes show anybody that something was changed by whoever did not compute them anew. The MACs show it of whoever
//! did: a key makes one MAC and is then replaced by its successor, from which it does not follow. Whoever comes to have a key
//! can change nothing that was written before. `KEY(1)`, the verify key, is kept elsewhere; all others follow from it.
//! What both cannot show is that records were cut off at the end: for that somebody keeps a [`Head`] elsewhere.
//!
//! Damage that was there when the log was opened is followed by a record that says so, called [`GAP_EVENT`].

mod key;
mod link;
mod verify;

pub use key::{BadVerifyKey, LinkKey, VerifyKey};
pub use link::{BadHead, Head, Link};
pub use verify::{Finding, Gap, PassedOver, Report, Verifier, verify};

/// The name of a record that marks a gap.
pub const GAP_EVENT: &str = "AuditLogGap";

/// Bytes of a line, above which it is no record: a context and parameters of a request that is as long as may be fit well
/// within.
pub const LINE_MAX: usize = 4 << 20;

/// `bytes` in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text takes all");
        text
    })
}

/// The 32 bytes that 64 lower-case hexadecimal digits stand for; nothing for any other text.
fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let text: &[u8; 64] = text.try_into().ok()?;
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_as_they_were_written_and_no_other_spelling_is() {
        let bytes = std::array::from_fn(|at| u8::try_from(at * 7 % 256).expect("a byte"));
        let text = hex(&bytes);
        assert_eq!(unhex(text.as_bytes()), Some(bytes));
        assert_eq!(unhex(text.to_uppercase().as_bytes()), None);
        assert_eq!(unhex(&text.as_bytes()[1..]), None);
        assert_eq!(unhex(text.replace('0', "g").as_bytes()), None);
    }
}
