//! The link that a record's line ends with.

use std::fmt;
use std::str::FromStr;

use super::{LinkKey, hex, unhex};
use crate::crypto::digest;

const RECORD: &[u8] = b"envol audit 1 record";
const BEGINNING: &[u8] = b"envol audit 1 beginning";

/// What a link's text is made of, between its number, hash and MAC.
const PARTS: [&str; 4] = [",\"chain\":{\"number\":", ",\"hash\":\"", "\",\"mac\":\"", "\"}}"];

/// A record's place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// From 1 on; 0 before the first record.
    pub number: u64,
    /// Over the record and all before it.
    pub hash: [u8; 32],
    /// Over the hash, by the key of this record.
    pub mac: [u8; 32],
}

/// The number and the hash of a record, to be kept elsewhere: no record up to it can be cut off unseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The record's number.
    pub number: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// A text that is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a head as `envol audit verify` prints it: a number, a colon and 64 hexadecimal digits")]
pub struct BadHead;

impl Link {
    /// Before the first record of a file whose bytes so far have this SHA-256.
    pub fn beginning(before: &[u8; 32]) -> Self {
        Self { number: 0, hash: digest::sha256(&[BEGINNING, before]), mac: [0; 32] }
    }

    /// The link of the record behind this one: an object, with its braces.
    pub fn next(&self, object: &[u8], key: &LinkKey) -> Self {
        let hash = self.next_hash(object);
        Self { number: self.number + 1, hash, mac: key.mac(&hash) }
    }

    /// The hash of the record behind this one.
    pub fn next_hash(&self, object: &[u8]) -> [u8; 32] {
        digest::sha256(&[RECORD, &(self.number + 1).to_be_bytes(), &self.hash, &self.mac, object])
    }

    /// Adds `object` with this link to `lines`, as a line.
    ///
    /// # Panics
    /// Where it does not end as an object does.
    pub fn write(&self, object: &[u8], lines: &mut Vec<u8>) {
        let open = object.strip_suffix(b"}").expect("a record is an object");
        lines.extend_from_slice(open);
        lines.extend_from_slice(self.text().as_bytes());
        lines.push(b'\n');
    }

    fn text(&self) -> String {
        let [before, hash, mac, after] = PARTS;
        format!("{before}{}{hash}{}{mac}{}{after}", self.number, hex(&self.hash), hex(&self.mac))
    }

    /// The object in `line`, which has no line end, and its link; nothing where the line does not end in one.
    pub fn read(line: &[u8]) -> Option<(Vec<u8>, Self)> {
        let [before, between_hash, between_mac, after] = PARTS.map(str::as_bytes);
        let (rest, mac) = line.strip_suffix(after)?.split_last_chunk::<64>()?;
        let (rest, hash) = rest.strip_suffix(between_mac)?.split_last_chunk::<64>()?;
        let rest = rest.strip_suffix(between_hash)?;
        let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let (rest, digits) = rest.split_at(rest.len() - digits);
        let object = [rest.strip_suffix(before)?, b"}"].concat();
        let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let link = Self { number, hash: unhex(hash)?, mac: unhex(mac)? };
        // One spelling of each number.
        (digits.first() != Some(&b'0') && number > 0).then_some((object, link))
    }

    /// What of it is kept elsewhere.
    pub fn head(&self) -> Head {
        Head { number: self.number, hash: self.hash }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, hex(&self.hash))
    }
}

impl FromStr for Head {
    type Err = BadHead;

    fn from_str(text: &str) -> Result<Self, BadHead> {
        let (number, hash) = text.split_once(':').ok_or(BadHead)?;
        let number = number.parse().map_err(|_| BadHead)?;
        Ok(Self { number, hash: unhex(hash.as_bytes()).ok_or(BadHead)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let key = LinkKey::new(&[3; 32]).expect("locks");
        let start = Link::beginning(&[0; 32]);
        let link = start.next(br#"{"a":"}"}"#, &key);
        let mut line = Vec::new();
        link.write(br#"{"a":"}"}"#, &mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        assert_eq!(Link::read(&line), Some((br#"{"a":"}"}"#.to_vec(), link)));
        let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!((&value["a"], &value["chain"]["number"]), (&"}".into(), &1.into()));
        for cut in 0..line.len() {
            assert_eq!(Link::read(&line[..cut]), None, "cut at {cut}");
        }
        let zero = String::from_utf8(line).expect("text").replace("\"number\":1", "\"number\":01");
        assert_eq!(Link::read(zero.as_bytes()), None);
    }

    #[test]
    fn a_hash_depends_on_everything_before_it() {
        let key = LinkKey::new(&[3; 32]).expect("locks");
        let start = Link::beginning(&[0; 32]);
        let one = start.next(b"{}", &key);
        let others = [
            Link::beginning(&[1; 32]),
            Link { number: 1, ..start },
            Link { mac: [1; 32], ..start },
            Link { hash: [1; 32], ..start },
        ];
        for other in others {
            assert_ne!(other.next_hash(b"{}"), one.hash);
        }
        assert_ne!(start.next_hash(b"{ }"), one.hash);
    }

    #[test]
    fn a_head_is_read_as_it_is_shown() {
        let head = Head { number: 42, hash: [0xab; 32] };
        assert_eq!(head.to_string().parse(), Ok(head));
        for bad in ["", "42", "42:", ":ab", "x:abab", &head.to_string()[..60]] {
            assert_eq!(bad.parse::<Head>(), Err(BadHead), "{bad}");
        }
    }
}
