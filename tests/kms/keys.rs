//! Keys: their states against every operation, their names, what they seal.

use std::sync::atomic::{AtomicBool, Ordering};

use envol::kms::embedded::{Embedded, KeyState, Manager};
use envol::kms::{EncryptionContext, KeyArn, KeyName, Kms, WrappedKey};

use crate::world::{World, caller, context, named, refusal};

#[test]
fn a_data_key_made_without_plaintext_is_opened_by_decrypt() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "for tests", Some("alias/test")).expect("made");
    let context = context(&[("aws:ebs:id", "vol-1")]);
    let made = kms.generate_data_key_without_plaintext(&caller(), &named("alias/test"), &context).expect("made");
    assert_eq!(made.key, key.arn);
    assert_eq!(made.wrapped.bytes().len(), 157);
    let one = kms.decrypt(&caller(), &key.arn, &made.wrapped, &context).expect("opened");
    let again = kms.decrypt(&caller(), &key.arn, &made.wrapped, &context).expect("opened");
    assert_eq!(one.key, key.arn);
    assert_eq!(one.data_key.expose(), again.data_key.expose());
    assert_ne!(one.data_key.expose(), &[0; 64]);
}

/// What an operation is called, and how it is done to a key.
type Attempt = (&'static str, fn(&Embedded, &Subject) -> String);

struct Subject {
    name: KeyName,
    arn: KeyArn,
    blob: WrappedKey,
}

fn outcome<T>(result: Result<T, envol::kms::KmsError>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn none() -> EncryptionContext {
    EncryptionContext::default()
}

const ATTEMPTS: [Attempt; 13] = [
    ("CancelKeyDeletion", |kms, key| outcome(kms.cancel_key_deletion(&caller(), &key.name))),
    ("CreateAlias", |kms, key| outcome(kms.create_alias(&caller(), "alias/new", &key.name))),
    ("Encrypt", |kms, key| outcome(kms.encrypt(&caller(), &key.name, b"text", &none()))),
    ("Decrypt", |kms, key| outcome(kms.decrypt_bytes(&caller(), Some(&key.name), &key.blob, &none()))),
    ("GenerateDataKey", |kms, key| outcome(kms.generate_data_key(&caller(), &key.name, 64, &none()))),
    ("GenerateDataKeyWithoutPlaintext", |kms, key| {
        outcome(kms.generate_data_key_without_plaintext(&caller(), &key.name, &none()))
    }),
    ("DeleteAlias", |kms, _| outcome(kms.delete_alias(&caller(), "alias/subject"))),
    ("DescribeKey", |kms, key| outcome(kms.describe_key(&caller(), &key.name))),
    ("DisableKey", |kms, key| outcome(kms.disable_key(&caller(), &key.name))),
    ("EnableKey", |kms, key| outcome(kms.enable_key(&caller(), &key.name))),
    ("RotateKeyOnDemand", |kms, key| outcome(kms.rotate_key_on_demand(&caller(), &key.name))),
    ("ScheduleKeyDeletion", |kms, key| outcome(kms.schedule_key_deletion(&caller(), &key.name, 7))),
    ("UpdateAlias", |kms, key| outcome(kms.update_alias(&caller(), "alias/other", &key.name))),
];

/// Operation, then its outcome on a key that is Enabled, Disabled, PendingDeletion; `*` stands for the key's ARN.
const OK: &str = "ok";
const DISABLED: &str = "DisabledException: * is disabled.";
const PENDING: &str = "KMSInvalidStateException: * is pending deletion.";
const NOT_PENDING: &str = "KMSInvalidStateException: * is not pending deletion.";
const TABLE: [(&str, [&str; 3]); 13] = [
    ("CancelKeyDeletion", [NOT_PENDING, NOT_PENDING, OK]),
    ("CreateAlias", [OK, OK, PENDING]),
    ("Encrypt", [OK, DISABLED, PENDING]),
    ("Decrypt", [OK, DISABLED, PENDING]),
    ("GenerateDataKey", [OK, DISABLED, PENDING]),
    ("GenerateDataKeyWithoutPlaintext", [OK, DISABLED, PENDING]),
    ("DeleteAlias", [OK, OK, OK]),
    ("DescribeKey", [OK, OK, OK]),
    ("DisableKey", [OK, OK, PENDING]),
    ("EnableKey", [OK, OK, PENDING]),
    ("RotateKeyOnDemand", [OK, DISABLED, PENDING]),
    ("ScheduleKeyDeletion", [OK, OK, PENDING]),
    ("UpdateAlias", [OK, OK, PENDING]),
];

#[test]
fn every_operation_on_a_key_in_every_state_does_what_the_table_says() {
    let world = World::new();
    let kms = world.open();
    let other = kms.create_key(&caller(), "", None).expect("made");
    kms.create_alias(&caller(), "alias/other", &other.arn.into()).expect("made");
    for ((operation, expected), (attempted, attempt)) in TABLE.iter().zip(ATTEMPTS) {
        assert_eq!(*operation, attempted, "the two tables have one order");
        for (state, expected) in ["Enabled", "Disabled", "PendingDeletion"].iter().zip(expected) {
            let subject = subject(&kms, state);
            let found = attempt(&kms, &subject);
            assert_eq!(found, expected.replace('*', subject.arn.as_str()), "{operation} of a key that is {state}");
            let _ = kms.delete_alias(&caller(), "alias/new");
            let _ = kms.delete_alias(&caller(), "alias/subject");
        }
    }
}

/// A new key with an alias, a blob of its own, and that state.
fn subject(kms: &Embedded, state: &str) -> Subject {
    let made = kms.create_key(&caller(), "", Some("alias/subject")).expect("made");
    let name = named(&made.key_id);
    let blob = kms.encrypt(&caller(), &name, b"text", &none()).expect("sealed").wrapped;
    match state {
        "Disabled" => drop(kms.disable_key(&caller(), &name).expect("disabled")),
        "PendingDeletion" => drop(kms.schedule_key_deletion(&caller(), &name, 7).expect("scheduled")),
        _ => {}
    }
    Subject { name, arn: made.arn, blob }
}

#[test]
fn states_follow_the_calls_and_outlive_a_reopening() {
    let world = World::new();
    let kms = world.open();
    let made = kms.create_key(&caller(), "words", Some("alias/a")).expect("made");
    assert_eq!((made.state, made.manager, made.rotations), (KeyState::Enabled, Manager::Customer, 0));
    assert_eq!((made.description.as_str(), made.aliases.clone()), ("words", vec!["alias/a".to_owned()]));
    let name = named(&made.key_id);
    let states = [
        kms.disable_key(&caller(), &name).expect("disabled"),
        kms.enable_key(&caller(), &name).expect("enabled"),
        kms.schedule_key_deletion(&caller(), &name, 7).expect("scheduled"),
        kms.cancel_key_deletion(&caller(), &name).expect("cancelled"),
    ]
    .map(|key| key.state);
    assert_eq!(states, [KeyState::Disabled, KeyState::Enabled, KeyState::PendingDeletion, KeyState::Disabled]);
    drop(kms);
    let found = world.open().describe_key(&caller(), &named("alias/a")).expect("found");
    assert_eq!(found.state, KeyState::Disabled);
    assert_eq!(found.created, made.created);
}

#[test]
fn a_disabled_key_is_refused_in_the_words_that_the_client_will_read() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "", None).expect("made");
    kms.disable_key(&caller(), &key.arn.clone().into()).expect("disabled");
    let refused = refusal(kms.generate_data_key_without_plaintext(&caller(), &key.arn.clone().into(), &none()));
    assert_eq!(refused, format!("DisabledException: {} is disabled.", key.arn));
}

#[test]
fn names_that_mean_no_key_are_refused_in_the_words_of_aws() {
    let world = World::new();
    let kms = world.open();
    let absent = "11111111-2222-3333-4444-555555555555";
    let arn = format!("arn:aws:kms:us-east-1:000000000000:key/{absent}");
    let cases = [
        ("fake-key-id", "NotFoundException: Invalid keyId 'fake-key-id'".to_owned()),
        (absent, format!("NotFoundException: Key '{arn}' does not exist")),
        (&arn, format!("NotFoundException: Key '{arn}' does not exist")),
        ("arn:aws:kms:eu-west-1:000000000000:key/x", "NotFoundException: Invalid arn eu-west-1".to_owned()),
        (
            "alias/none",
            "NotFoundException: Alias arn:aws:kms:us-east-1:000000000000:alias/none is not found.".to_owned(),
        ),
    ];
    for (name, expected) in cases {
        assert_eq!(refusal(kms.describe_key(&caller(), &named(name))), expected);
    }
}

#[test]
fn numbers_and_texts_out_of_bounds_are_refused_in_the_words_of_aws() {
    let world = World::new();
    let kms = world.open();
    let key: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    let says = |at: &str, constraint: &str| {
        format!(
            "ValidationException: 1 validation error detected: Value{at} failed to satisfy constraint: Member must {constraint}"
        )
    };
    let cases = [
        (
            refusal(kms.schedule_key_deletion(&caller(), &key, 6)),
            says(" '6' at 'pendingWindowInDays'", "have value greater than or equal to 7"),
        ),
        (
            refusal(kms.schedule_key_deletion(&caller(), &key, 31)),
            says(" '31' at 'pendingWindowInDays'", "have value less than or equal to 30"),
        ),
        (
            refusal(kms.generate_data_key(&caller(), &key, 0, &none())),
            says(" '0' at 'numberOfBytes'", "have value greater than or equal to 1"),
        ),
        (
            refusal(kms.generate_data_key(&caller(), &key, 1025, &none())),
            says(" '1025' at 'numberOfBytes'", "have value less than or equal to 1024"),
        ),
        (
            refusal(kms.encrypt(&caller(), &key, &[], &none())),
            says(" at 'plaintext'", "have length greater than or equal to 1"),
        ),
        (
            refusal(kms.encrypt(&caller(), &key, &[0; 4097], &none())),
            says(" at 'plaintext'", "have length less than or equal to 4096"),
        ),
        (
            refusal(kms.create_key(&caller(), &"x".repeat(8193), None)),
            says(" at 'description'", "have length less than or equal to 8192"),
        ),
        (
            refusal(kms.encrypt(&caller(), &key, b"x", &context(&[("k", &"v".repeat(8192))]))),
            says(" at 'encryptionContext'", "have length less than or equal to 8192"),
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
}

#[test]
fn a_key_is_gone_with_its_aliases_when_its_date_has_come() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "", Some("alias/a")).expect("made");
    let name: KeyName = key.arn.clone().into();
    let blob = kms.encrypt(&caller(), &name, b"text", &none()).expect("sealed").wrapped;
    let later = kms.create_key(&caller(), "", None).expect("made");
    kms.schedule_key_deletion(&caller(), &later.arn.clone().into(), 30).expect("scheduled");
    kms.schedule_key_deletion(&caller(), &name, 7).expect("scheduled");
    world.pass_days(6);
    kms.describe_key(&caller(), &name).expect("still there");
    world.pass_days(1);
    let gone = format!("NotFoundException: Key '{}' does not exist", key.arn);
    assert_eq!(refusal(kms.describe_key(&caller(), &name)), gone);
    assert_eq!(refusal(kms.decrypt_bytes(&caller(), Some(&name), &blob, &none())), gone);
    let unnamed = refusal(kms.decrypt_bytes(&caller(), None, &blob, &none()));
    assert!(unnamed.starts_with("AccessDeniedException: The ciphertext refers to a customer master key"), "{unnamed}");
    assert_eq!(kms.list_aliases(&caller()).expect("listed"), []);
    kms.create_key(&caller(), "", Some("alias/a")).expect("the name is free again");
    drop(kms);
    world.pass_days(23);
    let left = world.open().list_keys(&caller()).expect("listed");
    assert!(left.iter().all(|key| key.arn != later.arn), "the date passed while the KMS was closed");
    assert_eq!(left.len(), 1);
}

#[test]
fn rotation_changes_the_material_and_keeps_the_old_for_old_blobs() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "", None).expect("made");
    let name: KeyName = key.arn.clone().into();
    let mut blobs = Vec::new();
    let mut materials = vec![key.current_key_material_id.clone()];
    for rotation in 1..=25 {
        blobs.push(kms.encrypt(&caller(), &name, b"text", &none()).expect("sealed").wrapped);
        let rotated = kms.rotate_key_on_demand(&caller(), &name).expect("rotated");
        assert_eq!(rotated.rotations, rotation);
        materials.push(rotated.current_key_material_id);
    }
    materials.sort();
    materials.dedup();
    assert_eq!(materials.len(), 26);
    assert_eq!(
        refusal(kms.rotate_key_on_demand(&caller(), &name)),
        format!(
            "LimitExceededException: The on-demand rotations limit has been reached for the given keyId. \
             No more on-demand rotations can be performed for this key: {}",
            key.arn
        )
    );
    drop(kms);
    let kms = world.open();
    for blob in blobs {
        let opened = kms.decrypt_bytes(&caller(), None, &blob, &none()).expect("opened");
        assert_eq!(opened.plaintext.expose(), b"text");
    }
}

#[test]
fn a_key_with_a_refused_alias_is_not_made() {
    let world = World::new();
    let kms = world.open();
    kms.create_key(&caller(), "", Some("alias/a")).expect("made");
    let exists = refusal(kms.create_key(&caller(), "", Some("alias/a")));
    let arn = "arn:aws:kms:us-east-1:000000000000:alias/a";
    assert_eq!(exists, format!("AlreadyExistsException: An alias with the name {arn} already exists"));
    assert_eq!(kms.list_keys(&caller()).expect("listed").len(), 1);
    let refused: Vec<_> = world.audit().into_iter().filter(|line| line["errorCode"].is_string()).collect();
    assert_eq!(refused.len(), 2, "one line for CreateKey, one for CreateAlias");
    assert!(refused.iter().all(|line| line["resources"] == serde_json::json!([])), "no key was made: {refused:?}");
}

#[test]
fn threads_side_by_side_lose_nothing_and_no_decrypt_succeeds_once_disabled() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "", None).expect("made");
    let name: KeyName = key.arn.clone().into();
    let blob = kms.encrypt(&caller(), &name, b"text", &none()).expect("sealed").wrapped;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..40 {
                kms.create_alias(&caller(), &format!("alias/a{number}"), &name).expect("made");
                kms.disable_key(&caller(), &name).expect("disabled");
                let refused = refusal(kms.decrypt_bytes(&caller(), Some(&name), &blob, &none()));
                assert_eq!(refused, format!("DisabledException: {} is disabled.", key.arn));
                kms.enable_key(&caller(), &name).expect("enabled");
            }
            done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let _either = kms.decrypt_bytes(&caller(), Some(&name), &blob, &none());
            }
        });
        scope.spawn(|| {
            for _ in 0..40 {
                kms.create_key(&caller(), "", None).expect("made");
            }
        });
    });
    assert_eq!(kms.list_keys(&caller()).expect("listed").len(), 41);
    assert_eq!(kms.describe_key(&caller(), &name).expect("found").aliases.len(), 40);
    // The log has the order of effect: between DisableKey and EnableKey no Decrypt succeeded.
    let mut disabled = false;
    for line in world.audit() {
        match line["eventName"].as_str() {
            Some("DisableKey") => disabled = true,
            Some("EnableKey") => disabled = false,
            Some("Decrypt") => assert_eq!(line["errorCode"].is_string(), disabled, "{line}"),
            _ => {}
        }
    }
}
