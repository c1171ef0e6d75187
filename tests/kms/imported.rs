//! Imported key material, wrapped by OpenSSL.

use envol::crypto::wrapping::Wrapping;
use envol::kms::embedded::{
    Embedded, ImportParameters, ImportType, KeyMaterial, KeySpec, KeyState, KeyUsage, NewKey, Origin, PageOf,
};
use envol::kms::{EncryptionContext, KeyName, KmsError};
use jiff::Timestamp;
use openssl::cipher::Cipher;
use openssl::cipher_ctx::{CipherCtx, CipherCtxFlags};
use openssl::encrypt::Encrypter;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Padding;
use openssl::sign::Signer;

use crate::world::{World, caller, refusal};

const SMALL: u16 = 2048;

fn external(spec: KeySpec) -> NewKey<'static> {
    NewKey { spec, origin: Origin::External, ..NewKey::default() }
}

/// `material`, as somebody who has OpenSSL wraps it.
fn wrapped(given: &ImportParameters, wrapping: Wrapping, material: &[u8]) -> Vec<u8> {
    let public = PKey::public_key_from_der(&given.public_key).expect("a public key");
    let digest = match wrapping {
        Wrapping::OaepSha1 | Wrapping::AesSha1 => MessageDigest::sha1(),
        Wrapping::OaepSha256 | Wrapping::AesSha256 => MessageDigest::sha256(),
    };
    let oaep = |bytes: &[u8]| {
        let mut encrypter = Encrypter::new(&public).expect("an encrypter");
        encrypter.set_rsa_padding(Padding::PKCS1_OAEP).expect("padding");
        encrypter.set_rsa_oaep_md(digest).expect("a digest");
        encrypter.set_rsa_mgf1_md(digest).expect("a digest");
        let mut out = vec![0; encrypter.encrypt_len(bytes).expect("a length")];
        let length = encrypter.encrypt(bytes, &mut out).expect("encrypted");
        out.truncate(length);
        out
    };
    match wrapping {
        Wrapping::OaepSha1 | Wrapping::OaepSha256 => oaep(material),
        Wrapping::AesSha1 | Wrapping::AesSha256 => {
            let key = [0x5a; 32];
            let cipher = Cipher::fetch(None, "id-aes256-wrap-pad", None).expect("OpenSSL has it");
            let mut context = CipherCtx::new().expect("a context");
            context.set_flags(CipherCtxFlags::FLAG_WRAP_ALLOW);
            context.encrypt_init(Some(&cipher), Some(&key), None).expect("a key");
            let mut out = Vec::new();
            context.cipher_update_vec(material, &mut out).expect("wrapped");
            [oaep(&key), out].concat()
        }
    }
}

fn bringing<'a>(token: &'a [u8], wrapped: &'a [u8]) -> KeyMaterial<'a> {
    KeyMaterial { token, wrapped, valid_to: None, kind: None, description: None, id: None }
}

/// Imports `material`; its id.
fn import(
    kms: &Embedded,
    key: &KeyName,
    material: &[u8],
    more: impl FnOnce(&mut KeyMaterial<'_>),
) -> Result<String, KmsError> {
    let given = kms.parameters_for_import(&caller(), key, Wrapping::OaepSha256, SMALL)?;
    let wrapped = wrapped(&given, Wrapping::OaepSha256, material);
    let mut brought = bringing(&given.token, &wrapped);
    more(&mut brought);
    kms.import_key_material(&caller(), key, &brought).map(|(_, id)| id)
}

fn state(kms: &Embedded, key: &KeyName) -> KeyState {
    kms.describe_key(&caller(), key).expect("there").state
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
}

#[test]
fn material_comes_in_by_every_wrapping_and_no_byte_of_it_is_kept_in_clear() {
    let world = World::new();
    let kms = world.open();
    let material: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 5 + 3).expect("small"));
    for (wrapping, bits) in Wrapping::ALL.into_iter().zip([2048, 3072, 4096, 2048]) {
        let key: KeyName = kms.create(&caller(), &external(KeySpec::Symmetric)).expect("made").arn.into();
        assert_eq!(state(&kms, &key), KeyState::PendingImport);
        let given = kms.parameters_for_import(&caller(), &key, wrapping, bits).expect("given");
        assert_eq!(PKey::public_key_from_der(&given.public_key).expect("a key").bits(), u32::from(bits));
        assert!(given.token.len() <= 6144, "{}", given.token.len());
        let wrapped = wrapped(&given, wrapping, &material);
        kms.import_key_material(&caller(), &key, &bringing(&given.token, &wrapped)).expect("imported");
        assert_eq!(state(&kms, &key), KeyState::Enabled);
        let none = EncryptionContext::default();
        let sealed = kms.encrypt(&caller(), &key, b"text", &none).expect("sealed").wrapped;
        assert_eq!(kms.decrypt_bytes(&caller(), None, &sealed, &none).expect("opened").plaintext.expose(), b"text");
        // The other wrappings of this token, and other bytes, are nothing.
        let mut changed = wrapped.clone();
        *changed.last_mut().expect("there") ^= 1;
        let said = refusal(kms.import_key_material(&caller(), &key, &bringing(&given.token, &changed)));
        assert_eq!(said, "InvalidCiphertextException: ");
    }
    drop(kms);
    for file in ["audit.ndjson", "keys.redb"] {
        let bytes = std::fs::read(world.dir().join(file)).expect("there");
        assert!(!bytes.windows(16).any(|window| window == &material[..16]), "{file}");
    }
}

#[test]
fn a_mac_by_an_imported_key_is_the_one_that_openssl_makes() {
    let world = World::new();
    let kms = world.open();
    let cases = [
        (KeySpec::Hmac224, MessageDigest::sha224(), 28, 64),
        (KeySpec::Hmac256, MessageDigest::sha256(), 32, 64),
        (KeySpec::Hmac384, MessageDigest::sha384(), 48, 128),
        (KeySpec::Hmac512, MessageDigest::sha512(), 64, 128),
    ];
    for (spec, digest, least, most) in cases {
        for length in [least, most] {
            let key: KeyName = kms.create(&caller(), &external(spec)).expect("made").arn.into();
            let material = vec![0xa7; length];
            import(&kms, &key, &material, |_| {}).expect("imported");
            let (mac, _) =
                kms.generate_mac(&caller(), &key, spec.algorithms(KeyUsage::Mac)[0], b"message").expect("made");
            let secret = PKey::hmac(&material).expect("a key");
            let mut signer = Signer::new(digest, &secret).expect("a signer");
            assert_eq!(signer.sign_oneshot_to_vec(b"message").expect("signed"), mac, "{spec:?} {length}");
            let said = refusal(import(&kms, &key, &vec![0xa8; length], |brought| brought.kind = Some(ImportType::New)));
            assert_eq!(said, "IncorrectKeyMaterialException: ", "such a key has one material for ever");
        }
        let key: KeyName = kms.create(&caller(), &external(spec)).expect("made").arn.into();
        for length in [least - 1, most + 1] {
            assert_eq!(refusal(import(&kms, &key, &vec![1; length], |_| {})), "IncorrectKeyMaterialException: ");
        }
    }
}

#[test]
fn a_token_is_of_one_key_for_a_day_and_cannot_be_changed() {
    let world = World::new();
    let kms = world.open();
    let make = || -> KeyName { kms.create(&caller(), &external(KeySpec::Symmetric)).expect("made").arn.into() };
    let (key, other) = (make(), make());
    let given = kms.parameters_for_import(&caller(), &key, Wrapping::OaepSha1, SMALL).expect("given");
    let wrapped = wrapped(&given, Wrapping::OaepSha1, &[7; 32]);
    let try_it =
        |key: &KeyName, token: &[u8]| refusal(kms.import_key_material(&caller(), key, &bringing(token, &wrapped)));
    assert_eq!(try_it(&other, &given.token), "InvalidImportTokenException: ");
    for place in [0, 1, 8, 9, 10, 40, given.token.len() - 1] {
        let mut changed = given.token.clone();
        changed[place] ^= 1;
        assert_eq!(try_it(&key, &changed), "InvalidImportTokenException: ", "byte {place}");
    }
    for token in [&given.token[..9], &given.token[..200], b"x"] {
        assert_eq!(try_it(&key, token), "InvalidImportTokenException: ");
    }
    world.pass_days(1);
    assert_eq!(try_it(&key, &given.token), "ExpiredImportTokenException: ");
    assert_eq!(refusal(import(&kms, &key, &[7; 31], |_| {})), "IncorrectKeyMaterialException: ");
    let own: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    let said = refusal(kms.parameters_for_import(&caller(), &own, Wrapping::OaepSha1, SMALL));
    let text = "origin is AWS_KMS which is not valid for this operation.";
    assert_eq!(said, format!("UnsupportedOperationException: {own} {text}"));
}

#[test]
fn material_expires_on_its_date_and_only_the_same_brings_the_key_back() {
    let world = World::new();
    let kms = world.open();
    let key: KeyName = kms.create(&caller(), &external(KeySpec::Symmetric)).expect("made").arn.into();
    for date in [at(0), at(-5), at(366 * 86_400)] {
        let said = refusal(import(&kms, &key, &[1; 32], |brought| brought.valid_to = Some(date)));
        assert!(said.starts_with("ValidationException: The validTo date"), "{said}");
    }
    let id = import(&kms, &key, &[1; 32], |brought| brought.valid_to = Some(at(100))).expect("imported");
    let none = EncryptionContext::default();
    let sealed = kms.encrypt(&caller(), &key, b"text", &none).expect("sealed").wrapped;
    kms.disable_key(&caller(), &key).expect("disabled");
    world.pass_seconds(99);
    assert_eq!(state(&kms, &key), KeyState::Disabled);
    world.pass_seconds(1);
    assert_eq!(state(&kms, &key), KeyState::PendingImport);
    let expired = world.audit().into_iter().find(|line| line["eventName"] == "DeleteExpiredKeyMaterial");
    assert_eq!(expired.expect("recorded")["eventType"], "AwsServiceEvent");
    drop(kms);
    let kms = world.open();
    let said = refusal(kms.decrypt_bytes(&caller(), None, &sealed, &none).map(|_| ()));
    assert_eq!(said, format!("KMSInvalidStateException: {key} is pending import."));
    assert_eq!(refusal(import(&kms, &key, &[2; 32], |_| {})), "IncorrectKeyMaterialException: ");
    assert_eq!(import(&kms, &key, &[1; 32], |_| {}), Ok(id.clone()), "the same material has the same id");
    assert_eq!(state(&kms, &key), KeyState::Enabled);
    assert_eq!(kms.decrypt_bytes(&caller(), None, &sealed, &none).expect("opened").plaintext.expose(), b"text");
    // While it waits to be deleted a key loses its material too, and is then in want of it.
    kms.schedule_key_deletion(&caller(), &key, 7).expect("scheduled");
    let (_, gone) = kms.delete_imported_key_material(&caller(), &key, Some(&id)).expect("deleted");
    assert_eq!((gone, state(&kms, &key)), (Some(id), KeyState::PendingDeletion));
    kms.cancel_key_deletion(&caller(), &key).expect("cancelled");
    assert_eq!(state(&kms, &key), KeyState::PendingImport);
    let other: KeyName = kms.create(&caller(), &external(KeySpec::Symmetric)).expect("made").arn.into();
    import(&kms, &other, &[1; 32], |_| {}).expect("imported");
    let forged = kms.decrypt_bytes(&caller(), Some(&other), &sealed, &none).map(|_| ());
    assert!(refusal(forged).starts_with("IncorrectKeyException"), "the same material under another key opens nothing");
}

#[test]
fn new_material_waits_for_a_rotation_and_the_old_one_stays() {
    let world = World::new();
    let kms = world.open();
    let key: KeyName = kms.create(&caller(), &external(KeySpec::Symmetric)).expect("made").arn.into();
    let new = |brought: &mut KeyMaterial<'_>| brought.kind = Some(ImportType::New);
    let first = import(&kms, &key, &[1; 32], |_| {}).expect("imported");
    let waits = format!("KMSInvalidStateException: No available key material pending rotation for the key: {key}.");
    assert_eq!(refusal(kms.rotate_key_on_demand(&caller(), &key)), waits);
    assert_eq!(
        refusal(import(&kms, &key, &[2; 32], |_| {})),
        "IncorrectKeyMaterialException: ",
        "not without saying so"
    );
    assert_eq!(refusal(import(&kms, &key, &[1; 32], new)), "IncorrectKeyMaterialException: ", "it is not new");
    let none = EncryptionContext::default();
    let old = kms.encrypt(&caller(), &key, b"old", &none).expect("sealed").wrapped;
    let second = import(&kms, &key, &[2; 32], new).expect("imported");
    let said = refusal(import(&kms, &key, &[3; 32], new));
    assert!(said.starts_with("KMSInvalidStateException: There is key material pending rotation"), "{said}");
    assert_eq!(kms.encrypt(&caller(), &key, b"x", &none).expect("sealed").material, first);
    let all = || kms.list_key_rotations(&caller(), &key, true, &PageOf { limit: 9, marker: None }).expect("listed").1;
    let pending: Vec<bool> =
        all().items.iter().map(|entry| entry.import.as_ref().is_some_and(|import| import.pending)).collect();
    assert_eq!(pending, [true, false]);
    world.pass_seconds(10);
    kms.rotate_key_on_demand(&caller(), &key).expect("rotated");
    let ids: Vec<String> = all().items.into_iter().map(|entry| entry.material).collect();
    assert_eq!(ids, [second.clone(), first.clone()]);
    assert_eq!(kms.encrypt(&caller(), &key, b"x", &none).expect("sealed").material, second);
    assert_eq!(kms.decrypt_bytes(&caller(), None, &old, &none).expect("opened").material, first);
    // One that is missing is enough to stop the key; both must be there again.
    kms.delete_imported_key_material(&caller(), &key, Some(&first)).expect("deleted");
    assert_eq!(state(&kms, &key), KeyState::PendingImport);
    assert!(refusal(kms.delete_imported_key_material(&caller(), &key, Some("none"))).starts_with("NotFoundException"));
    let said = refusal(import(&kms, &key, &[1; 32], |brought| brought.id = Some("another")));
    assert_eq!(said, "IncorrectKeyMaterialException: ");
    import(&kms, &key, &[1; 32], |_| {}).expect("imported");
    assert_eq!(state(&kms, &key), KeyState::Enabled);
    assert_eq!(kms.decrypt_bytes(&caller(), None, &old, &none).expect("opened").plaintext.expose(), b"old");
}

#[test]
fn waiting_material_that_expired_makes_room_for_another() {
    let world = World::new();
    let kms = world.open();
    let key: KeyName = kms.create(&caller(), &external(KeySpec::Symmetric)).expect("made").arn.into();
    let new = |brought: &mut KeyMaterial<'_>| brought.kind = Some(ImportType::New);
    import(&kms, &key, &[1; 32], |_| {}).expect("imported");
    let passing = |brought: &mut KeyMaterial<'_>| {
        new(brought);
        brought.valid_to = Some(at(100));
    };
    import(&kms, &key, &[2; 32], passing).expect("imported");
    world.pass_seconds(99);
    let waits = format!("KMSInvalidStateException: There is key material pending rotation for the key: {key}.");
    assert_eq!(refusal(import(&kms, &key, &[3; 32], new)), waits);
    world.pass_seconds(1);
    assert_eq!(state(&kms, &key), KeyState::Enabled, "what only waited is not missed");
    let none = format!("KMSInvalidStateException: No available key material pending rotation for the key: {key}.");
    assert_eq!(refusal(kms.rotate_key_on_demand(&caller(), &key)), none);
    let third = import(&kms, &key, &[3; 32], new).expect("imported");
    kms.rotate_key_on_demand(&caller(), &key).expect("rotated");
    let sealed = kms.encrypt(&caller(), &key, b"text", &EncryptionContext::default()).expect("sealed");
    assert_eq!(sealed.material, third);
}
