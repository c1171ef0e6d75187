//! Blobs: bound to a key, a material and a context.

use envol::kms::embedded::Embedded;
use envol::kms::{EncryptionContext, KeyArn, KmsError, WrappedKey};

use crate::world::{World, caller, context, refusal};

const INVALID: &str = "InvalidCiphertextException: ";

fn open_with(kms: &Embedded, blob: &WrappedKey, pairs: &[(&str, &str)]) -> Result<Vec<u8>, KmsError> {
    let opened = kms.decrypt_bytes(&caller(), None, blob, &context(pairs))?;
    Ok(opened.plaintext.expose().to_vec())
}

#[test]
fn a_context_matches_in_any_order_and_in_no_other_spelling() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "", None).expect("made").arn;
    let sealed = kms.encrypt(&caller(), &key.into(), b"text", &context(&[("a", "1"), ("b", "2")])).expect("sealed");
    assert_eq!(open_with(&kms, &sealed.wrapped, &[("b", "2"), ("a", "1")]), Ok(b"text".to_vec()));
    let others: [&[(&str, &str)]; 7] = [
        &[],
        &[("a", "1")],
        &[("A", "1"), ("b", "2")],
        &[("a", "1"), ("b", "2"), ("c", "3")],
        &[("a", "2"), ("b", "1")],
        &[("a", "1"), ("b", "2 ")],
        &[("a", "1b"), ("", "2")],
    ];
    for other in others {
        assert_eq!(refusal(open_with(&kms, &sealed.wrapped, other)), INVALID, "{other:?}");
    }
}

#[test]
fn a_blob_with_any_bit_changed_is_not_opened() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "", None).expect("made").arn;
    let blob = kms.encrypt(&caller(), &key.clone().into(), b"text", &context(&[])).expect("sealed").wrapped;
    for at in 0..blob.bytes().len() {
        let mut bytes = blob.bytes().to_vec();
        bytes[at] ^= 1 << (at % 8);
        let changed = WrappedKey::new(bytes).expect("as long as before");
        let expected = match at {
            // The key's id: another key, which the KMS does not have.
            1..17 => {
                "IncorrectKeyException: The key ID in the request does not identify a CMK that can perform this operation."
            }
            _ => INVALID,
        };
        let refused = kms.decrypt_bytes(&caller(), Some(&key.clone().into()), &changed, &context(&[]));
        assert_eq!(refusal(refused), expected, "byte {at}");
    }
    for length in 1..blob.bytes().len() {
        let cut = WrappedKey::new(blob.bytes()[..length].to_vec()).expect("not empty");
        assert_eq!(refusal(open_with(&kms, &cut, &[])), INVALID, "cut to {length}");
    }
}

#[test]
fn a_blob_is_opened_by_its_own_key_only() {
    let world = World::new();
    let kms = world.open();
    let one = kms.create_key(&caller(), "", None).expect("made").arn;
    let other = kms.create_key(&caller(), "", None).expect("made").arn;
    let blob = kms.encrypt(&caller(), &one.clone().into(), b"text", &context(&[])).expect("sealed").wrapped;
    let opened_by = |key: &KeyArn, blob: &WrappedKey| {
        kms.decrypt_bytes(&caller(), Some(&key.clone().into()), blob, &EncryptionContext::default())
    };
    opened_by(&one, &blob).expect("opened");
    let incorrect =
        "IncorrectKeyException: The key ID in the request does not identify a CMK that can perform this operation.";
    assert_eq!(refusal(opened_by(&other, &blob)), incorrect);
    // The header rewritten to name the other key and its material.
    let others = kms.encrypt(&caller(), &other.clone().into(), b"text", &context(&[])).expect("sealed").wrapped;
    let forged = [&others.bytes()[..49], &blob.bytes()[49..]].concat();
    let forged = WrappedKey::new(forged).expect("as long as before");
    assert_eq!(refusal(opened_by(&other, &forged)), INVALID);
}

#[test]
fn a_blob_of_a_kms_elsewhere_is_refused_as_aws_refuses_it() {
    let (here, elsewhere) = (World::new(), World::new());
    let theirs = elsewhere.open();
    let key = theirs.create_key(&caller(), "", None).expect("made").arn;
    let blob = theirs.encrypt(&caller(), &key.into(), b"text", &context(&[])).expect("sealed").wrapped;
    let refused = refusal(open_with(&here.open(), &blob, &[]));
    assert_eq!(
        refused,
        "AccessDeniedException: The ciphertext refers to a customer master key that does not exist, does not exist in this \
         region, or you are not allowed to access."
    );
}

#[test]
fn data_keys_of_every_length_open_to_what_was_shown() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "", None).expect("made").arn;
    for bytes in [1, 32, 64, 1024] {
        let made = kms.generate_data_key(&caller(), &key.clone().into(), bytes, &context(&[("k", "v")])).expect("made");
        assert_eq!(made.plaintext.expose().len(), usize::from(bytes));
        assert_eq!(open_with(&kms, &made.wrapped, &[("k", "v")]), Ok(made.plaintext.expose().to_vec()));
    }
}

#[test]
fn a_plaintext_that_is_no_volume_key_is_a_bad_answer_to_a_volume() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "", None).expect("made").arn;
    for length in [32, 128] {
        let plaintext = vec![7; length];
        let blob = kms.encrypt(&caller(), &key.clone().into(), &plaintext, &context(&[])).expect("sealed").wrapped;
        let opened = envol::kms::Kms::decrypt(&kms, &caller(), &key, &blob, &context(&[]));
        assert!(matches!(opened, Err(KmsError::BadAnswer(_))), "{length} bytes");
    }
}
