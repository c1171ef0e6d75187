//! Keys that make MACs, and the last use of keys.

use envol::kms::embedded::{KeySpec, KeyUsage, NewKey};
use envol::kms::{EncryptionContext, KeyName};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use crate::world::{World, caller, refusal};

const ALL: [(KeySpec, &str, usize); 4] = [
    (KeySpec::Hmac224, "HMAC_SHA_224", 28),
    (KeySpec::Hmac256, "HMAC_SHA_256", 32),
    (KeySpec::Hmac384, "HMAC_SHA_384", 48),
    (KeySpec::Hmac512, "HMAC_SHA_512", 64),
];

fn made(spec: KeySpec) -> NewKey<'static> {
    NewKey { spec, ..NewKey::default() }
}

#[test]
fn a_mac_is_verified_by_its_key_for_its_message_and_no_other() {
    let world = World::new();
    let kms = world.open();
    for (spec, algorithm, bytes) in ALL {
        let key = kms.create(&caller(), &made(spec)).expect("made");
        assert_eq!((key.spec, key.usage), (spec, KeyUsage::Mac));
        let (name, other): (KeyName, KeyName) =
            (key.arn.clone().into(), kms.create(&caller(), &made(spec)).expect("made").arn.into());
        let (mac, by) = kms.generate_mac(&caller(), &name, algorithm, b"message").expect("made");
        assert_eq!((mac.len(), &by), (bytes, &key.arn));
        assert_eq!(kms.verify_mac(&caller(), &name, algorithm, (b"message", &mac)), Ok(key.arn.clone()));
        let wrong = [(b"messagf".as_slice(), mac.as_slice()), (b"message", &mac[1..]), (b"message", &[0; 64])];
        for wrong in wrong {
            let said = refusal(kms.verify_mac(&caller(), &name, algorithm, wrong));
            assert_eq!(said, "KMSInvalidMacException: ");
        }
        let said = refusal(kms.verify_mac(&caller(), &other, algorithm, (b"message", &mac)));
        assert_eq!(said, "KMSInvalidMacException: ");
    }
}

#[test]
fn a_key_does_what_it_is_for_and_nothing_else() {
    let world = World::new();
    let kms = world.open();
    let mac = kms.create(&caller(), &made(KeySpec::Hmac224)).expect("made").arn;
    let cipher = kms.create_key(&caller(), "", None).expect("made").arn;
    let (mac_name, cipher_name): (KeyName, KeyName) = (mac.clone().into(), cipher.clone().into());
    let said = refusal(kms.generate_mac(&caller(), &cipher_name, "HMAC_SHA_256", b"m"));
    let text = "key usage is ENCRYPT_DECRYPT which is not valid for GenerateMac.";
    assert_eq!(said, format!("InvalidKeyUsageException: {cipher} {text}"));
    let none = EncryptionContext::default();
    let said = refusal(kms.encrypt(&caller(), &mac_name, b"p", &none).map(|_| ()));
    let text = "key usage is GENERATE_VERIFY_MAC which is not valid for Encrypt.";
    assert_eq!(said, format!("InvalidKeyUsageException: {mac} {text}"));
    let said = refusal(kms.generate_mac(&caller(), &mac_name, "HMAC_SHA_256", b"m"));
    let text = "Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_224.";
    assert_eq!(said, format!("InvalidKeyUsageException: {text}"));
    for length in [0, 4097] {
        let said = refusal(kms.generate_mac(&caller(), &mac_name, "HMAC_SHA_224", &vec![0; length]));
        assert!(said.starts_with("ValidationException: 1 validation error detected: Value at 'message'"), "{said}");
    }
    assert_eq!(refusal(kms.rotate_key_on_demand(&caller(), &mac_name)), "UnsupportedOperationException: ");
    assert_eq!(refusal(kms.enable_key_rotation(&caller(), &mac_name, None)), "UnsupportedOperationException: ");
    assert_eq!(refusal(kms.key_rotation_status(&caller(), &mac_name)), "UnsupportedOperationException: ");
    kms.create_alias(&caller(), "alias/a", &mac_name).expect("made");
    assert!(refusal(kms.update_alias(&caller(), "alias/a", &cipher_name)).starts_with("ValidationException: Alias"));
    kms.disable_key(&caller(), &mac_name).expect("disabled");
    let said = refusal(kms.generate_mac(&caller(), &mac_name, "HMAC_SHA_256", b"m"));
    assert_eq!(said, format!("DisabledException: {mac} is disabled."), "the state comes before the algorithm");
}

#[test]
fn macs_outlive_the_program_and_their_keys_are_nowhere_in_clear() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create(&caller(), &made(KeySpec::Hmac512)).expect("made");
    let name: KeyName = key.arn.into();
    let (mac, _) = kms.generate_mac(&caller(), &name, "HMAC_SHA_512", b"message").expect("made");
    drop(kms);
    let kms = world.open();
    kms.verify_mac(&caller(), &name, "HMAC_SHA_512", (b"message", &mac)).expect("the same key");
    // The MAC under the all-zero key would be what a store that lost the material gives.
    let zero = PKey::hmac(&[0; 64]).expect("a key");
    let mut signer = Signer::new(MessageDigest::sha512(), &zero).expect("a signer");
    assert_ne!(signer.sign_oneshot_to_vec(b"message").expect("signed"), mac);
}

#[test]
fn the_last_use_of_a_key_is_known_and_is_still_known_after_a_restart() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "", None).expect("made");
    let other = kms.create_key(&caller(), "", None).expect("made");
    let (name, none): (KeyName, _) = (key.arn.clone().into(), EncryptionContext::default());
    let usage = kms.key_last_usage(&caller(), &name).expect("told");
    assert_eq!((usage.key_id.as_str(), usage.created, usage.last), (key.key_id.as_str(), key.created, None));
    let blob = kms.encrypt(&caller(), &name, b"p", &none).expect("sealed").wrapped;
    world.pass_seconds(5);
    kms.decrypt_bytes(&caller(), None, &blob, &none).expect("opened");
    refusal(kms.decrypt_bytes(&caller(), None, &blob, &EncryptionContext::new([("a", "b")])).map(|_| ()));
    kms.describe_key(&caller(), &name).expect("told");
    let decrypt = world.audit().into_iter().find(|line| line["eventName"] == "Decrypt").expect("recorded");
    let last = kms.key_last_usage(&caller(), &name).expect("told").last.expect("used");
    assert_eq!((last.operation.as_str(), last.time.to_string()), ("Decrypt", "2027-01-15T08:00:05Z".to_owned()));
    assert_eq!(decrypt["eventID"], last.event.to_string());
    assert_eq!(decrypt["requestID"], last.request.to_string());
    assert_eq!(kms.key_last_usage(&caller(), &other.arn.clone().into()).expect("told").last, None);
    drop(kms);
    let kms = world.open();
    assert_eq!(kms.key_last_usage(&caller(), &name).expect("told").last, Some(last));
    assert_eq!(kms.key_last_usage(&caller(), &other.arn.into()).expect("told").last, None);
}
