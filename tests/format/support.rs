//! Volumes in memory, a KMS whose data keys follow from the context, and headers taken apart by hand.

#[path = "../support/soft_kms.rs"]
mod soft_kms;

use std::ops::Range;

use envol::block::memory::MemoryDevice;
use envol::block::{BlockDevice, Caching};
use envol::kms::{
    DataKey, DecryptedKey, EncryptionContext, GeneratedKey, KeyArn, KeyName, Kms, KmsError, Principal, WrappedKey,
};
use envol::secret::Secret;
use envol::units::{ByteCount, SectorSize};
use envol::volume::{
    self, Condition, CreateSpec, Record, Rollback, SectorKeys, Unverified, Verified, VolumeError, Wanted,
};
use openssl::hash::MessageDigest;
use openssl::md::Md;
use openssl::pkey::{Id, PKey};
use openssl::pkey_ctx::{HkdfMode, PkeyCtx};
use openssl::sign::Signer;
use serde_json::Value;
use soft_kms::SoftKms;

pub(crate) const ID: &str = "vol-0123456789abcdef0";
pub(crate) const OTHER_ID: &str = "vol-0123456789abcdef1";
pub(crate) const ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/1";
/// Where the copies lie.
pub(crate) const PLACES: [usize; 2] = [0, 512 << 10];
const PREFIX: usize = 112;
const MAC: usize = 64;

/// What the KMS does instead of what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    OtherKeyId,
    OtherDataKey,
    ZeroKey,
    EqualHalves,
    Refusal,
}

/// A [`SoftKms`] that may lie.
pub(crate) struct FakeKms {
    pub(crate) secret: u8,
    pub(crate) lie: Lie,
}

impl FakeKms {
    pub(crate) const HONEST: Self = Self { secret: 0, lie: Lie::None };

    pub(crate) fn lying(lie: Lie) -> Self {
        Self { lie, ..Self::HONEST }
    }

    fn honest(&self) -> SoftKms {
        SoftKms(self.secret)
    }

    /// What it gives in place of the data key.
    fn other_data_key(&self) -> Option<[u8; 64]> {
        match self.lie {
            Lie::OtherDataKey => Some(openssl::sha::sha512(b"another")),
            Lie::ZeroKey => Some([0; 64]),
            Lie::EqualHalves => Some(std::array::from_fn(|i| i as u8 % 32)),
            _ => None,
        }
    }
}

impl Kms for FakeKms {
    fn generate_data_key_without_plaintext(
        &self,
        caller: &Principal,
        key: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        self.honest().generate_data_key_without_plaintext(caller, key, context)
    }

    fn decrypt(
        &self,
        caller: &Principal,
        key: &KeyArn,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<DecryptedKey, KmsError> {
        if self.lie == Lie::Refusal {
            let exception = "InvalidCiphertextException".to_owned();
            return Err(KmsError::Refused { exception, message: String::new() });
        }
        let mut answer = self.honest().decrypt(caller, key, wrapped, context)?;
        if let Some(other) = self.other_data_key() {
            answer.data_key = DataKey::new(Secret::filled_by(|bytes| *bytes = other)?);
        }
        if self.lie == Lie::OtherKeyId {
            answer.key = KeyArn::new("arn:another");
        }
        Ok(answer)
    }

    fn re_encrypt(
        &self,
        caller: &Principal,
        sealed: (&KeyArn, &WrappedKey),
        to: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        self.honest().re_encrypt(caller, sealed, to, context)
    }

    fn encrypt(
        &self,
        caller: &Principal,
        key: &KeyName,
        data_key: &std::sync::Arc<DataKey>,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        self.honest().encrypt(caller, key, data_key, context)
    }
}

pub(crate) fn caller() -> Principal {
    Principal::new("arn:aws:iam::000000000000:root")
}

/// A thin volume of 64 KiB with one scope.
pub(crate) fn spec(id: &str) -> CreateSpec {
    CreateSpec {
        id: id.parse().expect("an id"),
        name: "disk".parse().expect("a name"),
        size: ByteCount::new(64 << 10),
        sector_size: SectorSize::B4096,
        scope: ByteCount::new(1 << 40),
        thick: false,
        kms: "embedded".to_owned(),
        key: KeyName::new(ARN),
    }
}

pub(crate) fn device_for(spec: &CreateSpec) -> MemoryDevice {
    MemoryDevice::new(volume::backing_size(spec.size).expect("small"))
}

/// The backing of a new volume.
pub(crate) fn make(spec: &CreateSpec) -> Vec<u8> {
    let device = device_for(spec);
    volume::create(&device, &FakeKms::HONEST, &caller(), spec, &mut |_, _| true).expect("made");
    device.contents()
}

/// Reads, unwraps and verifies.
pub(crate) fn open_device(
    device: &dyn BlockDevice,
    kms: &FakeKms,
    record: Option<&Record>,
    rollback: Rollback,
) -> Result<(Verified, SectorKeys), VolumeError> {
    let unverified = Unverified::read(device)?;
    let data_key = unverified.unwrap_key(kms, &caller())?;
    unverified.verify(data_key, record, rollback)
}

pub(crate) fn open(image: &[u8]) -> Result<(Verified, SectorKeys), VolumeError> {
    open_device(&MemoryDevice::holding(image, true), &FakeKms::HONEST, None, Rollback::Refuse)
}

/// Why it does not open.
pub(crate) fn refusal(image: &[u8]) -> VolumeError {
    match open(image) {
        Ok(_) => panic!("it opens"),
        Err(error) => error,
    }
}

/// What would be remembered of a volume that verified.
pub(crate) fn record_of(verified: &Verified) -> Record {
    let (fingerprint, generation, mac) = verified.identity();
    let header = verified.header();
    Record {
        id: header.id.clone(),
        name: header.name.clone(),
        backing: "/disk".into(),
        made_by_envol: true,
        kms: header.kms.clone(),
        key: header.key.clone(),
        fingerprint,
        generation,
        mac,
        condition: Condition::Clean,
        wanted: Wanted::Detached,
        caching: Caching::PageCache,
        size: header.size,
        sector_size: header.sector_size,
    }
}

/// The record and the backing of a volume whose generation was begun so often.
pub(crate) fn used(id: &str, times: u64) -> (Record, Vec<u8>) {
    let device = MemoryDevice::holding(&make(&spec(id)), false);
    let (mut verified, _) = open_device(&device, &FakeKms::HONEST, None, Rollback::Refuse).expect("opens");
    for _ in 0..times {
        verified.begin_generation(&device).expect("writes");
    }
    (record_of(&verified), device.contents())
}

/// Where copy `which` lies, at its used length.
pub(crate) fn copy(image: &[u8], which: usize) -> Range<usize> {
    let start = PLACES[which];
    let length = u32::from_le_bytes(image[start + 12..start + 16].try_into().expect("four")) as usize;
    start..start + PREFIX + length + MAC
}

/// Changes one copy's prefix and puts its checksum right, as an attacker without the data key can.
pub(crate) fn edit_prefix(image: &mut [u8], which: usize, edit: impl FnOnce(&mut [u8])) {
    let range = copy(image, which);
    edit(&mut image[range.start..range.start + 80]);
    put_checksum_right(&mut image[range]);
}

/// Changes one copy's body and puts length and checksum right.
pub(crate) fn edit_body(image: &mut [u8], which: usize, edit: impl FnOnce(&mut Value)) {
    let range = copy(image, which);
    let old = image[range.clone()].to_vec();
    let mut body = serde_json::from_slice(&old[PREFIX..old.len() - MAC]).expect("JSON");
    edit(&mut body);
    put_body(image, which, &serde_json::to_vec(&body).expect("JSON"));
}

/// Gives one copy any body, with length and checksum right, and the MAC that it had.
pub(crate) fn put_body(image: &mut [u8], which: usize, body: &[u8]) {
    let range = copy(image, which);
    let old = image[range.clone()].to_vec();
    let mut new = [&old[..PREFIX], body, &old[old.len() - MAC..]].concat();
    new[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
    put_checksum_right(&mut new);
    image[range.start..range.start + 16384].fill(0);
    image[range.start..range.start + new.len()].copy_from_slice(&new);
}

fn put_checksum_right(copy: &mut [u8]) {
    let checked = [&copy[..80], &copy[PREFIX..copy.len() - MAC]].concat();
    copy[80..PREFIX].copy_from_slice(&openssl::sha::sha256(&checked));
}

/// Puts one copy's MAC right, as only whoever holds the data key can.
pub(crate) fn put_mac_right(image: &mut [u8], which: usize) {
    let range = copy(image, which);
    let copy = &mut image[range];
    let end = copy.len() - MAC;
    let body: Value = serde_json::from_slice(&copy[PREFIX..end]).expect("JSON");
    let wrapped = body["wrapped_key"].as_str().expect("text");
    let wrapped = openssl::base64::decode_block(wrapped).expect("base64");
    let key = derive(&openssl::sha::sha512(&wrapped), b"envol 1 header mac", 64);
    let mac = hmac(&key, &copy[..end]);
    copy[end..].copy_from_slice(&mac);
}

pub(crate) fn derive(key: &[u8], label: &[u8], length: usize) -> Vec<u8> {
    let mut context = PkeyCtx::new_id(Id::HKDF).expect("a context");
    context.derive_init().expect("starts");
    context.set_hkdf_mode(HkdfMode::EXPAND_ONLY).expect("a mode");
    context.set_hkdf_md(Md::sha512()).expect("a digest");
    context.set_hkdf_key(key).expect("a key");
    context.add_hkdf_info(label).expect("a label");
    let mut out = vec![0; length];
    context.derive(Some(&mut out)).expect("derives");
    out
}

pub(crate) fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).expect("a key");
    Signer::new(MessageDigest::sha512(), &key).expect("a signer").sign_oneshot_to_vec(message).expect("signs")
}
