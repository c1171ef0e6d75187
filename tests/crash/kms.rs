//! A KMS in memory, honest and without a thread of its own: what it seals it opens, under the same key and context. What
//! another one of another name has sealed comes out as something else.

use std::sync::{Arc, Mutex};

use envol::kms::{
    DataKey, DecryptedKey, EncryptionContext, GeneratedKey, KeyArn, KeyName, Kms, KmsError, Principal, WrappedKey,
};
use envol::secret::Secret;

/// How long its blobs are, by which the length of a header is chosen, and how many it has sealed.
pub struct MemoryKms {
    name: &'static str,
    blob: usize,
    sealed: Mutex<u64>,
}

impl MemoryKms {
    pub fn sealing(name: &'static str, blob: usize) -> Self {
        Self { name, blob, sealed: Mutex::new(0) }
    }

    /// `number | key | pad over (data key)`, the pad from key and context.
    fn seal(&self, key: &str, context: &EncryptionContext, data_key: &[u8; 64]) -> WrappedKey {
        let mut sealed = self.sealed.lock().expect("no panic");
        *sealed += 1;
        let mut blob = sealed.to_le_bytes().to_vec();
        blob.extend(self.pad(key, context).iter().zip(data_key).map(|(pad, byte)| pad ^ byte));
        // Not to be squeezed: the rest is noise.
        while blob.len() < self.blob {
            blob.extend_from_slice(&openssl::sha::sha512(&blob));
        }
        blob.truncate(self.blob.max(72));
        WrappedKey::new(blob).expect("short")
    }

    fn pad(&self, key: &str, context: &EncryptionContext) -> [u8; 64] {
        let pairs: Vec<String> = context.pairs().map(|(name, value)| format!("{name}={value}")).collect();
        openssl::sha::sha512(format!("pad of {} {key} for {}", self.name, pairs.join(",")).as_bytes())
    }

    fn open(&self, key: &str, context: &EncryptionContext, wrapped: &WrappedKey) -> [u8; 64] {
        let pad = self.pad(key, context);
        std::array::from_fn(|index| wrapped.bytes()[8 + index] ^ pad[index])
    }
}

impl Kms for MemoryKms {
    fn generate_data_key_without_plaintext(
        &self,
        _caller: &Principal,
        key: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let mut data_key = [0; 64];
        openssl::rand::rand_bytes(&mut data_key).expect("random bytes");
        let wrapped = self.seal(key.as_str(), context, &data_key);
        Ok(GeneratedKey { wrapped, key: KeyArn::new(key.as_str()) })
    }

    fn decrypt(
        &self,
        _caller: &Principal,
        key: &KeyArn,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<DecryptedKey, KmsError> {
        let clear = self.open(key.as_str(), context, wrapped);
        let data_key = DataKey::new(Secret::filled_by(|bytes| *bytes = clear)?);
        Ok(DecryptedKey { data_key, key: key.clone() })
    }

    fn re_encrypt(
        &self,
        _caller: &Principal,
        (from, wrapped): (&KeyArn, &WrappedKey),
        to: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let data_key = self.open(from.as_str(), context, wrapped);
        Ok(GeneratedKey { wrapped: self.seal(to.as_str(), context, &data_key), key: KeyArn::new(to.as_str()) })
    }

    fn encrypt(
        &self,
        _caller: &Principal,
        key: &KeyName,
        data_key: &Arc<DataKey>,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let wrapped = self.seal(key.as_str(), context, data_key.expose());
        Ok(GeneratedKey { wrapped, key: KeyArn::new(key.as_str()) })
    }
}
