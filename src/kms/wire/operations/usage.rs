//! Operations that use a key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::kms::embedded::{Embedded, ReEncryption, Sealed, SignedRequest};
use crate::kms::wire::input::Input;
use crate::kms::wire::refusal::invalid;
use crate::kms::{KeyName, KmsError};

use super::pairs;

const ALGORITHM: &str = "SYMMETRIC_DEFAULT";

type Answer = Result<Value, KmsError>;

pub(super) fn encrypt(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    judge_common(input)?;
    if let Some(oaep) = pairs::oaep(input, "EncryptionAlgorithm") {
        return pairs::encrypt(kms, caller, input, oaep);
    }
    let plaintext = input.blob("Plaintext").unwrap_or_default();
    let sealed = kms.encrypt(caller, &input.key(), &plaintext, &input.context("EncryptionContext"))?;
    Ok(
        json!({ "CiphertextBlob": base64(sealed.wrapped.bytes()), "KeyId": sealed.key, "EncryptionAlgorithm": ALGORITHM }),
    )
}

pub(super) fn decrypt(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    judge_common(input)?;
    if let Some(oaep) = pairs::oaep(input, "EncryptionAlgorithm") {
        return pairs::decrypt(kms, caller, input, oaep);
    }
    let key = input.text("KeyId").map(KeyName::new);
    let opened = kms.decrypt_bytes(caller, key.as_ref(), &input.ciphertext()?, &input.context("EncryptionContext"))?;
    Ok(json!({
        "KeyId": opened.key,
        "Plaintext": base64(opened.plaintext.expose()),
        "EncryptionAlgorithm": ALGORITHM,
        "KeyMaterialId": opened.material,
    }))
}

pub(super) fn re_encrypt(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    judge_common(input)?;
    if let Some(ways) = pairs::ways(input)? {
        return pairs::re_encrypt(kms, caller, input, ways);
    }
    let from = input.text("SourceKeyId").map(KeyName::new);
    let done = kms.re_encrypt(
        caller,
        &ReEncryption {
            blob: &input.ciphertext()?,
            from: from.as_ref(),
            context: &input.context("SourceEncryptionContext"),
            to: &KeyName::new(input.needed("DestinationKeyId")),
            to_context: &input.context("DestinationEncryptionContext"),
        },
    )?;
    Ok(json!({
        "CiphertextBlob": base64(done.sealed.wrapped.bytes()),
        "SourceKeyId": done.source,
        "KeyId": done.sealed.key,
        "SourceEncryptionAlgorithm": ALGORITHM,
        "DestinationEncryptionAlgorithm": ALGORITHM,
        "SourceKeyMaterialId": done.source_material,
        "DestinationKeyMaterialId": done.sealed.material,
    }))
}

pub(super) fn generate_data_key(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    judge_common(input)?;
    let context = input.context("EncryptionContext");
    let made = kms.generate_data_key(caller, &input.key(), data_key_bytes(input)?, &context)?;
    Ok(json!({
        "CiphertextBlob": base64(made.wrapped.bytes()),
        "Plaintext": base64(made.plaintext.expose()),
        "KeyId": made.key,
        "KeyMaterialId": made.material,
    }))
}

pub(super) fn generate_data_key_without_plaintext(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    judge_common(input)?;
    let context = input.context("EncryptionContext");
    let Sealed { wrapped, key, material } =
        kms.generate_sealed_data_key(caller, &input.key(), data_key_bytes(input)?, &context)?;
    Ok(json!({ "CiphertextBlob": base64(wrapped.bytes()), "KeyId": key, "KeyMaterialId": material }))
}

pub(super) fn generate_random(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    input.without(&["CustomKeyStoreId", "Recipient"])?;
    let bytes = number_of_bytes(input).ok_or_else(|| invalid("NumberOfBytes is required."))?;
    let random = kms.generate_random(caller, bytes)?;
    Ok(json!({ "Plaintext": base64(random.expose()) }))
}

pub(super) fn generate_mac(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    judge_common(input)?;
    let (algorithm, message) = (input.needed("MacAlgorithm"), input.blob("Message").unwrap_or_default());
    let (mac, key) = kms.generate_mac(caller, &input.key(), algorithm, &message)?;
    Ok(json!({ "Mac": base64(&mac), "MacAlgorithm": algorithm, "KeyId": key }))
}

pub(super) fn verify_mac(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    judge_common(input)?;
    let algorithm = input.needed("MacAlgorithm");
    let (message, mac) = (input.blob("Message").unwrap_or_default(), input.blob("Mac").unwrap_or_default());
    let key = kms.verify_mac(caller, &input.key(), algorithm, (&message, &mac))?;
    Ok(json!({ "KeyId": key, "MacValid": true, "MacAlgorithm": algorithm }))
}

/// What no operation here can do: answer to an enclave, or look away from a ciphertext.
pub(super) fn judge_common(input: &Input) -> Result<(), KmsError> {
    input.without(&["Recipient", "DryRunModifiers"])
}

fn number_of_bytes(input: &Input) -> Option<u16> {
    input.number("NumberOfBytes").and_then(|bytes| u16::try_from(bytes).ok())
}

fn data_key_bytes(input: &Input) -> Result<u16, KmsError> {
    match (input.text("KeySpec"), number_of_bytes(input)) {
        (Some("AES_128"), None) => Ok(16),
        (Some(_), None) => Ok(32),
        (None, Some(bytes)) => Ok(bytes),
        _ => Err(invalid("Please specify either number of bytes or key spec.")),
    }
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
