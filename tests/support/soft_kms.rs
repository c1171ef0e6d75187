//! A KMS that seals by writing down what for: its data keys follow from its secret and from key and context, so that golden
//! images and forgeries need no state.

use std::sync::Arc;

use envol::kms::{
    DataKey, DecryptedKey, EncryptionContext, GeneratedKey, KeyArn, KeyName, Kms, KmsError, Principal, WrappedKey,
};
use envol::secret::Secret;

/// The KMS with this secret.
pub(crate) struct SoftKms(pub(crate) u8);

impl SoftKms {
    fn seal(&self, key: &str, context: &EncryptionContext) -> Vec<u8> {
        let context = serde_json::to_string(context).expect("pairs of text");
        format!("sealed by {} under {key}: {context}", self.0).into_bytes()
    }
}

impl Kms for SoftKms {
    fn generate_data_key_without_plaintext(
        &self,
        _caller: &Principal,
        key: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let wrapped = WrappedKey::new(self.seal(key.as_str(), context)).expect("short");
        Ok(GeneratedKey { wrapped, key: KeyArn::new(key.as_str()) })
    }

    fn decrypt(
        &self,
        _caller: &Principal,
        key: &KeyArn,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<DecryptedKey, KmsError> {
        if wrapped.bytes() != self.seal(key.as_str(), context) {
            let exception = "InvalidCiphertextException".to_owned();
            return Err(KmsError::Refused { exception, message: String::new() });
        }
        let data_key = DataKey::new(Secret::filled_by(|bytes| *bytes = openssl::sha::sha512(wrapped.bytes()))?);
        Ok(DecryptedKey { data_key, key: key.clone() })
    }

    /// A lie: another seal is another data key here.
    fn re_encrypt(
        &self,
        caller: &Principal,
        _sealed: (&KeyArn, &WrappedKey),
        to: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        self.generate_data_key_without_plaintext(caller, to, context)
    }

    /// A lie for the same reason.
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
