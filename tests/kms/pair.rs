//! Keys that are pairs: what they are for, what they refuse, what of them is where.

use std::fs;

use envol::crypto::pair::{Oaep, PairSpec};
use envol::kms::embedded::{
    Embedded, KeySpec, KeyUsage, MessageType, NewDataKeyPair, NewKey, Origin, ReEncryption, Signed, Ways,
};
use envol::kms::{EncryptionContext, KeyArn, KeyName, WrappedKey};
use openssl::hash::{MessageDigest, hash};
use openssl::pkey::PKey;
use openssl::rsa::Padding;
use openssl::sign::Verifier;
use serde_json::json;

use crate::world::{World, caller, context, refusal};

/// A key of each usage whose making takes no time.
const QUICK: [(KeySpec, KeyUsage); 7] = [
    (KeySpec::P256, KeyUsage::Signing),
    (KeySpec::P384, KeyUsage::Signing),
    (KeySpec::P521, KeyUsage::Signing),
    (KeySpec::Secp256k1, KeyUsage::Signing),
    (KeySpec::Ed25519, KeyUsage::Signing),
    (KeySpec::P256, KeyUsage::Agreement),
    (KeySpec::P521, KeyUsage::Agreement),
];

fn made(kms: &Embedded, spec: KeySpec, usage: KeyUsage) -> (KeyArn, KeyName) {
    let key = kms.create(&caller(), &NewKey { spec, usage: Some(usage), ..NewKey::default() }).expect("made");
    assert_eq!((key.spec, key.usage, key.current_key_material_id.as_str()), (spec, usage, ""));
    (key.arn.clone(), key.arn.into())
}

fn raw<'a>(algorithm: &'a str, message: &'a [u8]) -> Signed<'a> {
    Signed { algorithm, kind: MessageType::Raw, message }
}

#[test]
fn a_signature_is_verified_by_its_key_for_its_message_and_no_other() {
    let world = World::new();
    let kms = world.open();
    for (spec, usage) in QUICK.into_iter().filter(|(_, usage)| *usage == KeyUsage::Signing) {
        let (arn, key) = made(&kms, spec, usage);
        let (_, other) = made(&kms, spec, usage);
        let algorithm = *spec.algorithms(usage).last().expect("one at least");
        let signed = raw(algorithm, b"message");
        let (signature, by) = kms.sign(&caller(), &key, &signed).expect("signed");
        assert_eq!(by, arn);
        assert_eq!(kms.verify(&caller(), &key, &signed, &signature), Ok(arn));
        for (key, message, signature) in [
            (&key, b"messagf".as_slice(), signature.as_slice()),
            (&key, b"message", &signature[1..]),
            (&key, b"message", &[0; 64]),
            (&other, b"message", &signature),
        ] {
            let said = refusal(kms.verify(&caller(), key, &raw(algorithm, message), signature));
            assert_eq!(said, "KMSInvalidSignatureException: ", "{spec:?}");
        }
    }
}

#[test]
fn a_digest_is_as_long_as_its_algorithm_makes_it_and_a_message_up_to_4096_bytes() {
    let world = World::new();
    let kms = world.open();
    let (_, key) = made(&kms, KeySpec::P256, KeyUsage::Signing);
    let digest = hash(MessageDigest::sha256(), b"message").expect("hashed").to_vec();
    let of_digest = |message| Signed { algorithm: "ECDSA_SHA_256", kind: MessageType::Digest, message };
    let (signature, _) = kms.sign(&caller(), &key, &of_digest(&digest)).expect("signed");
    kms.verify(&caller(), &key, &raw("ECDSA_SHA_256", b"message"), &signature).expect("it is of the message");
    let longer = [1; 64];
    for length in [1, 31, 33, 64] {
        let wrong = of_digest(&longer[..length]);
        let said = refusal(kms.sign(&caller(), &key, &wrong));
        assert_eq!(said, "ValidationException: Digest is invalid length for algorithm ECDSA_SHA_256.");
        let said = refusal(kms.verify(&caller(), &key, &wrong, &signature));
        assert_eq!(said, "ValidationException: Digest is invalid length for algorithm ECDSA_SHA_256.");
    }
    kms.sign(&caller(), &key, &raw("ECDSA_SHA_256", &[1; 4096])).expect("signed");
    for length in [0, 4097] {
        let said = refusal(kms.sign(&caller(), &key, &raw("ECDSA_SHA_256", &vec![0; length])));
        assert!(said.starts_with("ValidationException: 1 validation error detected: Value at 'message'"), "{said}");
    }
}

#[test]
fn ed25519_signs_messages_and_digests_each_by_its_own_algorithm() {
    let world = World::new();
    let kms = world.open();
    let (_, key) = made(&kms, KeySpec::Ed25519, KeyUsage::Signing);
    let sign = |algorithm, kind, message| kms.sign(&caller(), &key, &Signed { algorithm, kind, message });
    let (pure, _) = sign("ED25519_SHA_512", MessageType::Raw, &[7; 64]).expect("signed");
    let (hashed, _) = sign("ED25519_PH_SHA_512", MessageType::Digest, &[7; 64]).expect("signed");
    assert_ne!(pure, hashed);
    for (algorithm, kind) in [
        ("ED25519_SHA_512", MessageType::Digest),
        ("ED25519_PH_SHA_512", MessageType::Raw),
        ("ED25519_SHA_512", MessageType::ExternalMu),
    ] {
        let said = refusal(sign(algorithm, kind, &[7; 64]));
        let text = format!("MessageType {} is not valid for algorithm {algorithm}.", kind.name());
        assert_eq!(said, format!("ValidationException: {text}"));
    }
    let said = refusal(sign("ED25519_PH_SHA_512", MessageType::Digest, &[7; 32]));
    assert_eq!(said, "ValidationException: Digest is invalid length for algorithm ED25519_PH_SHA_512.");
}

#[test]
fn rsa_keys_encrypt_and_decrypt_or_sign_and_verify_and_never_both() {
    let world = World::new();
    let kms = world.open();
    let none = EncryptionContext::default();
    let (arn, key) = made(&kms, KeySpec::Rsa2048, KeyUsage::Encryption);
    for (oaep, most) in [(Oaep::Sha1, 214), (Oaep::Sha256, 190)] {
        let plaintext = vec![7; most];
        let (blob, by) = kms.encrypt_oaep(&caller(), &key, (oaep, &none), &plaintext).expect("encrypted");
        assert_eq!((blob.bytes().len(), &by), (256, &arn));
        let (opened, by) = kms.decrypt_oaep(&caller(), &key, (oaep, &none), &blob).expect("decrypted");
        assert_eq!((opened.expose(), &by), (plaintext.as_slice(), &arn));
        let said = refusal(kms.encrypt_oaep(&caller(), &key, (oaep, &none), &vec![7; most + 1]));
        let name = oaep.name();
        let text = format!("Algorithm {name} and key spec RSA_2048 cannot encrypt data larger than {most} bytes.");
        assert_eq!(said, format!("ValidationException: {text}"));
    }
    // What was encrypted elsewhere, with the public key that is given out.
    let public = kms.public_key(&caller(), &key).expect("given");
    assert_eq!((public.key, public.spec, public.usage), (arn.clone(), KeySpec::Rsa2048, KeyUsage::Encryption));
    let theirs = PKey::public_key_from_der(&public.der).expect("read").rsa().expect("RSA");
    let mut sealed = vec![0; 256];
    theirs.public_encrypt(b"text", &mut sealed, Padding::PKCS1_OAEP).expect("encrypted");
    let sealed = WrappedKey::new(sealed).expect("short");
    let (opened, _) = kms.decrypt_oaep(&caller(), &key, (Oaep::Sha1, &none), &sealed).expect("decrypted");
    assert_eq!(opened.expose(), b"text");
    let said = refusal(kms.decrypt_oaep(&caller(), &key, (Oaep::Sha256, &none), &sealed).map(|_| ()));
    assert_eq!(said, "InvalidCiphertextException: ");

    let pairs = context(&[("a", "b")]);
    let said = refusal(kms.encrypt_oaep(&caller(), &key, (Oaep::Sha1, &pairs), b"p"));
    let text = "EncryptionContext is not supported when encrypting/decrypting with asymmetric CMKs.";
    assert_eq!(said, format!("ValidationException: {text}"));
    let said = refusal(kms.sign(&caller(), &key, &raw("RSASSA_PSS_SHA_256", b"m")));
    let text = "key usage is ENCRYPT_DECRYPT which is not valid for Sign.";
    assert_eq!(said, format!("InvalidKeyUsageException: {arn} {text}"));
    let said = refusal(kms.encrypt(&caller(), &key, b"p", &none).map(|_| ()));
    let text = "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048.";
    assert_eq!(said, format!("InvalidKeyUsageException: {text}"));
    let said = refusal(kms.decrypt_bytes(&caller(), Some(&key), &sealed, &none).map(|_| ()));
    assert_eq!(said, "InvalidCiphertextException: ", "as AWS: the blob is read first");
    let said = refusal(kms.generate_data_key(&caller(), &key, 32, &none).map(|_| ()));
    let text = "key KeySpec is RSA_2048 which is not valid for GenerateDataKey.";
    assert_eq!(said, format!("InvalidKeyUsageException: {arn} {text}"));
}

#[test]
fn what_is_encrypted_anew_is_never_seen_whatever_the_keys_are() {
    let world = World::new();
    let kms = world.open();
    let none = EncryptionContext::default();
    let (_, rsa) = made(&kms, KeySpec::Rsa2048, KeyUsage::Encryption);
    let cipher: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    let (context, sealed) = (context(&[("a", "b")]), kms.encrypt(&caller(), &cipher, b"text", &none).expect("sealed"));
    let again = |blob: &WrappedKey, from: (&KeyName, Option<Oaep>), to: (&KeyName, Option<Oaep>), to_context| {
        let asked = ReEncryption { blob, from: Some(from.0), context: &none, to: to.0, to_context };
        kms.re_encrypt_pairs(&caller(), &asked, Ways { from: from.1, to: to.1 })
    };
    let one = again(&sealed.wrapped, (&cipher, None), (&rsa, Some(Oaep::Sha1)), &none).expect("sealed anew");
    assert_eq!((one.source.1, one.key.1), (Some(sealed.material), None));
    let two = again(&one.wrapped, (&rsa, Some(Oaep::Sha1)), (&rsa, Some(Oaep::Sha256)), &none).expect("sealed anew");
    let three = again(&two.wrapped, (&rsa, Some(Oaep::Sha256)), (&cipher, None), &context).expect("sealed anew");
    let opened = kms.decrypt_bytes(&caller(), None, &three.wrapped, &context).expect("opened");
    assert_eq!(opened.plaintext.expose(), b"text");
    let said = refusal(again(&two.wrapped, (&rsa, Some(Oaep::Sha1)), (&cipher, None), &none).map(|_| ()));
    assert_eq!(said, "InvalidCiphertextException: ");
    for (length, allowed) in [(190, true), (191, false)] {
        let long = kms.encrypt(&caller(), &cipher, &vec![7; length], &none).expect("sealed").wrapped;
        let outcome = again(&long, (&cipher, None), (&rsa, Some(Oaep::Sha256)), &none).map(|_| ());
        assert_eq!(outcome.is_ok(), allowed, "{length}: {outcome:?}");
    }
    let log = world.audit();
    let text = format!("{log:?}");
    assert!(log.iter().filter(|record| record["eventName"] == "ReEncrypt").count() == 6 && !text.contains("dGV4dA"));
}

#[test]
fn rsa_signs_in_six_ways_and_openssl_verifies_them() {
    let world = World::new();
    let kms = world.open();
    let (arn, key) = made(&kms, KeySpec::Rsa2048, KeyUsage::Signing);
    let public = kms.public_key(&caller(), &key).expect("given");
    let theirs = PKey::public_key_from_der(&public.der).expect("read");
    let algorithms = KeySpec::Rsa2048.algorithms(KeyUsage::Signing);
    assert_eq!(algorithms.len(), 6);
    for algorithm in algorithms {
        let (signature, _) = kms.sign(&caller(), &key, &raw(algorithm, b"message")).expect("signed");
        kms.verify(&caller(), &key, &raw(algorithm, b"message"), &signature).expect("verified");
        let digest = MessageDigest::from_name(&format!("sha{}", &algorithm[algorithm.len() - 3..])).expect("known");
        let mut verifier = Verifier::new(digest, &theirs).expect("a verifier");
        if algorithm.contains("PSS") {
            verifier.set_rsa_padding(Padding::PKCS1_PSS).expect("set");
        }
        assert!(verifier.verify_oneshot(&signature, b"message").expect("a verdict"), "{algorithm}");
    }
    let none = EncryptionContext::default();
    let said = refusal(kms.encrypt_oaep(&caller(), &key, (Oaep::Sha256, &none), b"p"));
    let text = "key usage is SIGN_VERIFY which is not valid for Encrypt.";
    assert_eq!(said, format!("InvalidKeyUsageException: {arn} {text}"));
}

#[test]
fn a_secret_is_agreed_on_with_whoever_has_the_other_key() {
    let world = World::new();
    let kms = world.open();
    for spec in [KeySpec::P256, KeySpec::P384, KeySpec::P521] {
        let ((arn, one), (_, other)) = (made(&kms, spec, KeyUsage::Agreement), made(&kms, spec, KeyUsage::Agreement));
        let public = |key| kms.public_key(&caller(), key).expect("given").der;
        let (secret, by, origin) = kms.derive_shared_secret(&caller(), &one, &public(&other)).expect("derived");
        assert_eq!((by, origin), (arn, Origin::Kms));
        let (same, ..) = kms.derive_shared_secret(&caller(), &other, &public(&one)).expect("derived");
        assert_eq!(secret.expose(), same.expose());
    }
    let (_, key) = made(&kms, KeySpec::P256, KeyUsage::Agreement);
    let (_, other) = made(&kms, KeySpec::P384, KeyUsage::Agreement);
    for wrong in [kms.public_key(&caller(), &other).expect("given").der, b"no key".to_vec(), Vec::new()] {
        let said = refusal(kms.derive_shared_secret(&caller(), &key, &wrong).map(|_| ()));
        assert!(said.starts_with("ValidationException: PublicKey is no DER-encoded"), "{said}");
    }
    let said = refusal(kms.sign(&caller(), &key, &raw("ECDSA_SHA_256", b"m")));
    assert!(said.ends_with("key usage is KEY_AGREEMENT which is not valid for Sign."), "{said}");
}

#[test]
fn a_data_key_pair_is_sealed_like_a_data_key_and_used_elsewhere() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "", None).expect("made");
    let (name, context) = (KeyName::from(key.arn.clone()), context(&[("purpose", "test")]));
    for spec in KeySpec::ALL.into_iter().filter(|spec| spec.pair().is_some()) {
        // A larger one takes seconds, and is made in tests/crypto.
        if matches!(spec, KeySpec::Rsa3072 | KeySpec::Rsa4096) {
            continue;
        }
        let asked = NewDataKeyPair { spec, context: &context, clear: true };
        let made = kms.generate_data_key_pair(&caller(), &name, &asked).expect("made");
        assert_eq!((&made.key, &made.material), (&key.arn, &key.current_key_material_id));
        let private = made.private.expect("asked for");
        let opened = kms.decrypt_bytes(&caller(), None, &made.wrapped, &context).expect("opened");
        assert_eq!(opened.plaintext.expose(), private.expose());
        let whole = PKey::private_key_from_pkcs8(private.expose()).expect("read");
        assert!(PKey::public_key_from_der(&made.public).expect("read").public_eq(&whole), "{spec:?}");
    }
    let asked = NewDataKeyPair { spec: KeySpec::P256, context: &context, clear: false };
    let made = kms.generate_data_key_pair(&caller(), &name, &asked).expect("made");
    assert!(made.private.is_none());
    let opened = kms.decrypt_bytes(&caller(), None, &made.wrapped, &context).expect("opened");
    let whole = PKey::private_key_from_pkcs8(opened.plaintext.expose()).expect("read");
    assert!(PKey::public_key_from_der(&made.public).expect("read").public_eq(&whole));
    let (arn, pair) = self::made(&kms, KeySpec::P256, KeyUsage::Signing);
    let said = refusal(kms.generate_data_key_pair(&caller(), &pair, &asked).map(|_| ()));
    let text = "key usage is SIGN_VERIFY which is not valid for GenerateDataKeyPairWithoutPlaintext.";
    assert_eq!(said, format!("InvalidKeyUsageException: {arn} {text}"));
}

#[test]
fn a_pair_is_for_one_thing_is_not_rotated_and_not_imported() {
    let world = World::new();
    let kms = world.open();
    let asked = |spec, usage, origin| kms.create(&caller(), &NewKey { spec, usage, origin, ..NewKey::default() });
    for spec in [KeySpec::Rsa2048, KeySpec::P384] {
        let said = refusal(asked(spec, None, Origin::Kms));
        let text = "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.";
        assert_eq!(said, format!("ValidationException: {text}"));
    }
    let said = refusal(asked(KeySpec::Ed25519, Some(KeyUsage::Agreement), Origin::Kms));
    let text = "KeyUsage KEY_AGREEMENT is not compatible with KeySpec ECC_NIST_EDWARDS25519";
    assert_eq!(said, format!("ValidationException: {text}"));
    let said = refusal(asked(KeySpec::Symmetric, Some(KeyUsage::Signing), Origin::Kms));
    assert_eq!(said, "ValidationException: KeyUsage SIGN_VERIFY is not compatible with KeySpec SYMMETRIC_DEFAULT");
    let said = refusal(asked(KeySpec::P256, Some(KeyUsage::Signing), Origin::External));
    let text = "Origin EXTERNAL with KeySpec ECC_NIST_P256 is not supported by this KMS.";
    assert_eq!(said, format!("UnsupportedOperationException: {text}"));
    for (spec, usage) in QUICK {
        let (_, key) = made(&kms, spec, usage);
        let refusals = [
            refusal(kms.rotate_key_on_demand(&caller(), &key).map(|_| ())),
            refusal(kms.enable_key_rotation(&caller(), &key, None).map(|_| ())),
            refusal(kms.key_rotation_status(&caller(), &key).map(|_| ())),
        ];
        assert_eq!(refusals, ["UnsupportedOperationException: "; 3], "{spec:?}");
    }
    let (_, one) = made(&kms, KeySpec::P256, KeyUsage::Signing);
    let (_, other) = made(&kms, KeySpec::P384, KeyUsage::Agreement);
    kms.create_alias(&caller(), "alias/a", &one).expect("made");
    assert!(refusal(kms.update_alias(&caller(), "alias/a", &other)).starts_with("ValidationException: Alias"));
    let cipher: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    assert_eq!(refusal(kms.public_key(&caller(), &cipher)), "UnsupportedOperationException: ");
}

#[test]
fn pairs_outlive_the_program_and_their_private_keys_are_nowhere_in_clear() {
    let world = World::new();
    let kms = world.open();
    let (_, key) = made(&kms, KeySpec::P256, KeyUsage::Agreement);
    let (_, other) = made(&kms, KeySpec::P256, KeyUsage::Agreement);
    let public = kms.public_key(&caller(), &other).expect("given");
    let secret = kms.derive_shared_secret(&caller(), &key, &public.der).expect("derived").0.expose().to_vec();
    drop(kms);
    let kms = world.open();
    assert_eq!(kms.public_key(&caller(), &other), Ok(public.clone()));
    let (again, ..) = kms.derive_shared_secret(&caller(), &key, &public.der).expect("derived");
    assert_eq!(again.expose(), secret);
    drop(kms);
    let store = fs::read(world.dir().join("keys.redb")).expect("there");
    let holds = |bytes: &[u8]| store.windows(bytes.len()).any(|window| window == bytes);
    assert!(holds(&public.der), "the public key is in clear");
    // What every private key of this curve has in front of its number.
    let private = PairSpec::P256.generate().expect("made").private;
    assert!(!holds(&private.bytes()[3..36]), "no private key is");
}

#[test]
fn what_is_done_with_a_pair_is_told_by_the_log_without_the_message_or_the_signature() {
    let world = World::new();
    let kms = world.open();
    let (arn, key) = made(&kms, KeySpec::P256, KeyUsage::Signing);
    let (signature, _) = kms.sign(&caller(), &key, &raw("ECDSA_SHA_256", b"the words")).expect("signed");
    refusal(kms.verify(&caller(), &key, &raw("ECDSA_SHA_256", b"other words"), &signature));
    kms.public_key(&caller(), &key).expect("given");
    let last = kms.key_last_usage(&caller(), &key).expect("told").last.expect("used");
    assert_eq!(last.operation, "Sign", "giving out the public key is no use");
    let log = world.audit();
    let record = |name: &str| log.iter().find(|record| record["eventName"] == name).expect("recorded").clone();
    let shown = &record("CreateKey")["responseElements"]["keyMetadata"];
    assert_eq!((&shown["keyUsage"], &shown["signingAlgorithms"]), (&json!("SIGN_VERIFY"), &json!(["ECDSA_SHA_256"])));
    let sign = record("Sign");
    let parameters = json!({ "keyId": arn, "messageType": "RAW", "signingAlgorithm": "ECDSA_SHA_256" });
    assert_eq!((&sign["requestParameters"], &sign["readOnly"]), (&parameters, &json!(true)));
    assert_eq!((&sign["responseElements"], &sign["additionalEventData"]), (&json!(null), &json!(null)));
    assert_eq!(sign["resources"][0]["ARN"], json!(arn));
    assert_eq!(record("Verify")["errorCode"], "KMSInvalidSignatureException");
    assert_eq!(record("GetPublicKey")["requestParameters"], json!({ "keyId": arn }));
    let text = fs::read_to_string(world.dir().join("audit.ndjson")).expect("there");
    assert!(!text.contains("words") && text.matches("PublicKey").count() == 1, "{text}");
}
