//! One copy of a header as bytes: `prefix | body | mac`. Pure; FORMAT.md is its text.
//!
//! ```text
//!   0  8  magic "ENVOLVOL"            40   8  generation
//!   8  4  format version, 1           48  32  salt, random for each copy at each write
//!  12  4  length of the body          80  32  SHA-256 over bytes 0..80 and the body
//!  16  8  compatible features        112   n  body, JSON
//!  24  8  read-only compatible ones  112+n 64 HMAC-SHA-512 over everything before it
//!  32  8  incompatible ones
//! ```
//! All numbers little-endian. The checksum finds damage without a key, the MAC finds intent. A body is kept as it was
//! read, byte for byte, so that a rewrite never loses what a later version put there.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::crypto::digest;
use crate::kms::{KeyArn, WrappedKey};
use crate::limits::HEADER_COPY_MAX;
use crate::names::{VolumeId, VolumeName};
use crate::units::{ByteCount, ByteOffset, SectorSize};

use super::error::CopyFault;
use super::header::{BadShape, Features, Fingerprint, Header, fingerprint_from_hex};
use super::keys::HeaderKey;

/// What every copy of every version starts with.
pub(super) const MAGIC: [u8; 8] = *b"ENVOLVOL";
/// The format version.
const VERSION: u32 = 1;
/// Bytes of the checksum's input that lie in the prefix.
const CHECKED: usize = 80;
/// Bytes before the body.
const PREFIX: usize = 112;
/// Bytes behind the body.
const MAC: usize = 64;
/// The longest body.
const BODY_MAX: usize = HEADER_COPY_MAX - PREFIX - MAC;
/// No volume is attached so often; so the next generation is always a number.
const GENERATION_MAX: u64 = 1 << 62;

/// The random part of a copy, which makes two copies differ in a store that would merge equal blocks.
pub(super) type Salt = [u8; 32];

/// What both copies of a header have in common.
#[derive(Debug, Clone)]
pub(super) struct Contents {
    pub(super) features: Features,
    pub(super) generation: u64,
    pub(super) header: Header,
    pub(super) fingerprint: Fingerprint,
    pub(super) wrapped_key: WrappedKey,
    /// The JSON that the three before were read from, as stored.
    body: Vec<u8>,
}

/// A copy that was read: whole by its checksum, sensible in what it says, not yet known to be genuine.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) contents: Contents,
    prefix: [u8; PREFIX],
    mac: [u8; MAC],
}

/// The body, field by field. The cipher is from a closed list that has no "none".
#[derive(Serialize, Deserialize)]
struct Body {
    id: VolumeId,
    name: VolumeName,
    size: ByteCount,
    cipher: Cipher,
    sector_size: SectorSize,
    data_offset: ByteOffset,
    scope: ByteCount,
    zeros: Zeros,
    kms: String,
    key: KeyArn,
    wrapped_key: String,
    fingerprint: String,
    /// What only a writer with more feature bits puts there.
    #[serde(flatten)]
    unknown: BTreeMap<String, serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
enum Cipher {
    #[serde(rename = "aes-256-xts")]
    Aes256Xts,
}

/// What a piece of zero ciphertext is.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Zeros {
    /// Plaintext zeros, perhaps with no space allocated.
    Hole,
    /// Ciphertext like any other.
    Ciphertext,
}

impl Contents {
    /// Those of a new volume.
    pub(super) fn of_new(header: Header, fingerprint: Fingerprint, wrapped_key: WrappedKey) -> Self {
        let body = Body::of(&header, fingerprint, &wrapped_key);
        let body = serde_json::to_vec_pretty(&body).expect("a body is made of text and numbers");
        Self { features: Features::default(), generation: 1, header, fingerprint, wrapped_key, body }
    }

    /// The same, a generation on.
    pub(super) fn next_generation(&self) -> Self {
        self.after(self.generation)
    }

    /// The same, a generation after `generation`.
    pub(super) fn after(&self, generation: u64) -> Self {
        Self { generation: generation + 1, ..self.clone() }
    }

    /// The same data key under another seal, of the same KMS or another, a generation on. Members that only a later version knows stay.
    ///
    /// # Errors
    /// Where the header would be longer than a copy may be.
    pub(super) fn sealed_anew(&self, kms: String, key: KeyArn, wrapped_key: WrappedKey) -> Result<Self, BadShape> {
        let mut body: Body = serde_json::from_slice(&self.body).expect("it was read, or made, from such a body");
        body.kms = kms.clone();
        body.key = key.clone();
        body.wrapped_key = BASE64_STANDARD.encode(wrapped_key.bytes());
        let body = serde_json::to_vec_pretty(&body).expect("a body is made of text and numbers");
        if body.len() > BODY_MAX {
            return Err(BadShape::TooLong(body.len()));
        }
        let header = Header { kms, key, ..self.header.clone() };
        Ok(Self { header, wrapped_key, body, ..self.next_generation() })
    }

    /// One copy's bytes.
    pub(super) fn encode(&self, salt: &Salt, key: &HeaderKey) -> Vec<u8> {
        let mut bytes = self.prefix(salt).to_vec();
        bytes.extend_from_slice(&self.body);
        let mac = key.mac(&[&bytes]);
        bytes.extend_from_slice(&mac);
        assert!(bytes.len() <= HEADER_COPY_MAX, "the bounds on a header's fields leave room in a copy");
        bytes
    }

    /// A MAC over what the copies have in common, for the record: that over a copy with salt and checksum zero, which
    /// no stored copy has.
    pub(super) fn identity(&self, key: &HeaderKey) -> [u8; MAC] {
        let mut prefix = self.prefix(&[0; 32]);
        prefix[CHECKED..].fill(0);
        key.mac(&[&prefix, &self.body])
    }

    fn prefix(&self, salt: &Salt) -> [u8; PREFIX] {
        let length = u32::try_from(self.body.len()).expect("a body is at most 16 KiB");
        let mut prefix = [0; PREFIX];
        prefix[0..8].copy_from_slice(&MAGIC);
        prefix[8..12].copy_from_slice(&VERSION.to_le_bytes());
        prefix[12..16].copy_from_slice(&length.to_le_bytes());
        prefix[16..24].copy_from_slice(&self.features.compatible.to_le_bytes());
        prefix[24..32].copy_from_slice(&self.features.read_only_compatible.to_le_bytes());
        prefix[32..40].copy_from_slice(&self.features.incompatible.to_le_bytes());
        prefix[40..48].copy_from_slice(&self.generation.to_le_bytes());
        prefix[48..CHECKED].copy_from_slice(salt);
        let checksum = digest::sha256(&[&prefix[..CHECKED], &self.body]);
        prefix[CHECKED..].copy_from_slice(&checksum);
        prefix
    }
}

impl Copy {
    /// Takes the copy apart that `bytes` start with; what lies behind it does not matter.
    ///
    /// # Errors
    /// What is wrong with it; any bytes may be given.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CopyFault> {
        if !bytes.starts_with(&MAGIC) {
            return Err(CopyFault::NoMagic);
        }
        let (prefix, rest) = bytes.split_first_chunk::<PREFIX>().ok_or(CopyFault::CutShort)?;
        match u32_at(prefix, 8) {
            VERSION => (),
            other => return Err(CopyFault::Version(other)),
        }
        let length = u32_at(prefix, 12);
        let body_length = usize::try_from(length).ok().filter(|length| (1..=BODY_MAX).contains(length));
        let body_length = body_length.ok_or(CopyFault::BodyLength(length))?;
        let (body, rest) = rest.split_at_checked(body_length).ok_or(CopyFault::CutShort)?;
        let mac = *rest.first_chunk::<MAC>().ok_or(CopyFault::CutShort)?;
        if digest::sha256(&[&prefix[..CHECKED], body]) != prefix[CHECKED..] {
            return Err(CopyFault::Checksum);
        }
        Ok(Self { contents: contents(prefix, body)?, prefix: *prefix, mac })
    }

    /// It as it was stored.
    pub(super) fn bytes(&self) -> Vec<u8> {
        [&self.prefix[..], &self.contents.body, &self.mac].concat()
    }

    /// Whether the MAC holds over the bytes as they were stored.
    pub(super) fn is_sealed_by(&self, key: &HeaderKey) -> bool {
        digest::equal(&key.mac(&[&self.prefix, &self.contents.body]), &self.mac)
    }
}

fn contents(prefix: &[u8; PREFIX], body: &[u8]) -> Result<Contents, CopyFault> {
    let generation = u64_at(prefix, 40);
    let features = Features {
        compatible: u64_at(prefix, 16),
        read_only_compatible: u64_at(prefix, 24),
        incompatible: u64_at(prefix, 32),
    };
    if features.incompatible != 0 {
        return Err(CopyFault::Features { unknown: features.incompatible, generation });
    }
    if !(1..=GENERATION_MAX).contains(&generation) {
        return Err(CopyFault::Generation(generation));
    }
    let parsed: Body = serde_json::from_slice(body)?;
    if !parsed.unknown.is_empty() && features == Features::default() {
        return Err(CopyFault::UnknownField);
    }
    let wrapped_key = WrappedKey::new(BASE64_STANDARD.decode(&parsed.wrapped_key)?)?;
    let fingerprint = fingerprint_from_hex(&parsed.fingerprint).ok_or(CopyFault::Fingerprint)?;
    let header = parsed.into_header();
    header.check()?;
    Ok(Contents { features, generation, header, fingerprint, wrapped_key, body: body.to_vec() })
}

impl Body {
    fn of(header: &Header, fingerprint: Fingerprint, wrapped_key: &WrappedKey) -> Self {
        Self {
            id: header.id.clone(),
            name: header.name.clone(),
            size: header.size,
            cipher: Cipher::Aes256Xts,
            sector_size: header.sector_size,
            data_offset: header.data_offset,
            scope: header.scope,
            zeros: if header.thick { Zeros::Ciphertext } else { Zeros::Hole },
            kms: header.kms.clone(),
            key: header.key.clone(),
            wrapped_key: BASE64_STANDARD.encode(wrapped_key.bytes()),
            fingerprint: fingerprint.to_string(),
            unknown: BTreeMap::new(),
        }
    }

    fn into_header(self) -> Header {
        let Cipher::Aes256Xts = self.cipher;
        Header {
            id: self.id,
            name: self.name,
            size: self.size,
            sector_size: self.sector_size,
            data_offset: self.data_offset,
            scope: self.scope,
            thick: matches!(self.zeros, Zeros::Ciphertext),
            kms: self.kms,
            key: self.key,
        }
    }
}

fn u32_at(prefix: &[u8; PREFIX], at: usize) -> u32 {
    u32::from_le_bytes(*prefix[at..].first_chunk().expect("fields lie within the prefix"))
}

fn u64_at(prefix: &[u8; PREFIX], at: usize) -> u64 {
    u64::from_le_bytes(*prefix[at..].first_chunk().expect("fields lie within the prefix"))
}
