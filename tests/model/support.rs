//! A KMS that keeps no promise but the one that volumes need, and volumes made with it.

use std::sync::Arc;

use envol::block::BlockDevice;
use envol::block::memory::MemoryDevice;
use envol::kms::{
    DataKey, DecryptedKey, EncryptionContext, GeneratedKey, KeyArn, KeyName, Kms, KmsError, Principal, WrappedKey,
};
use envol::secret::Secret;
use envol::units::{ByteCount, SectorSize};
use envol::volume::{self, CreateSpec, EncryptedDevice, Rollback, Unverified};

/// Every data key is this one.
pub(crate) const DATA_KEY: [u8; 64] = {
    let mut key = [0; 64];
    let mut i = 0;
    while i < 64 {
        key[i] = (i as u8).wrapping_mul(37).wrapping_add(11);
        i += 1;
    }
    key
};

pub(crate) struct OneKey;

impl Kms for OneKey {
    fn generate_data_key_without_plaintext(
        &self,
        _caller: &Principal,
        key: &KeyName,
        _context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let wrapped = WrappedKey::new(b"sealed".to_vec()).expect("short");
        Ok(GeneratedKey { wrapped, key: KeyArn::new(key.as_str()) })
    }

    fn decrypt(
        &self,
        _caller: &Principal,
        key: &KeyArn,
        _wrapped: &WrappedKey,
        _context: &EncryptionContext,
    ) -> Result<DecryptedKey, KmsError> {
        let data_key = DataKey::new(Secret::filled_by(|bytes| *bytes = DATA_KEY)?);
        Ok(DecryptedKey { data_key, key: key.clone() })
    }

    fn re_encrypt(
        &self,
        caller: &Principal,
        _sealed: (&KeyArn, &WrappedKey),
        to: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        self.generate_data_key_without_plaintext(caller, to, context)
    }

    fn encrypt(
        &self,
        caller: &Principal,
        key: &KeyName,
        _data_key: &Arc<DataKey>,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        self.generate_data_key_without_plaintext(caller, key, context)
    }
}

/// What a volume is made like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) size: u64,
    pub(crate) sectors: SectorSize,
    pub(crate) thick: bool,
}

impl Shape {
    /// A new volume of this shape, with scopes of 1 MiB.
    pub(crate) fn make(self) -> Arc<MemoryDevice> {
        let size = ByteCount::new(self.size);
        let device = MemoryDevice::new(volume::backing_size(size).expect("small"));
        let spec = CreateSpec {
            id: "vol-0123456789abcdef0".parse().expect("an id"),
            name: "model".parse().expect("a name"),
            size,
            sector_size: self.sectors,
            scope: ByteCount::new(1 << 20),
            thick: self.thick,
            kms: "one".to_owned(),
            key: KeyName::new("arn:one"),
        };
        volume::create(&device, &OneKey, &Principal::new("me"), &spec, &mut |_, _| true).expect("made");
        Arc::new(device)
    }
}

/// Opens the volume on `device`.
pub(crate) fn open(device: Arc<dyn BlockDevice>) -> EncryptedDevice {
    let unverified = Unverified::read(&*device).expect("a volume");
    let data_key = unverified.unwrap_key(&OneKey, &Principal::new("me")).expect("opens");
    let (verified, keys) = unverified.verify(data_key, None, Rollback::Refuse).expect("genuine");
    EncryptedDevice::new(device, &verified, keys)
}
