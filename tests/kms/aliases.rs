//! Aliases: pointers that move, and names that are refused.

use envol::kms::{EncryptionContext, KeyName, Kms};

use crate::world::{World, caller, named, refusal};

#[test]
fn a_moved_alias_seals_with_the_new_key_and_old_blobs_still_open() {
    let world = World::new();
    let kms = world.open();
    let none = EncryptionContext::default();
    let old = kms.create_key(&caller(), "", Some("alias/a")).expect("made");
    let new = kms.create_key(&caller(), "", None).expect("made");
    let before = kms.generate_data_key_without_plaintext(&caller(), &named("alias/a"), &none).expect("made");
    let moved = kms.update_alias(&caller(), "alias/a", &new.arn.clone().into()).expect("moved");
    assert_eq!(moved.target_key_id, new.key_id);
    assert_eq!(moved.arn, "arn:aws:kms:us-east-1:000000000000:alias/a");
    let after = kms.generate_data_key_without_plaintext(&caller(), &named(&moved.arn), &none).expect("made");
    assert_eq!((before.key, after.key), (old.arn.clone(), new.arn.clone()));
    kms.decrypt(&caller(), &old.arn, &before.wrapped, &none).expect("opened");
    kms.delete_alias(&caller(), "alias/a").expect("deleted");
    assert_eq!(kms.list_aliases(&caller()).expect("listed"), []);
    kms.decrypt(&caller(), &new.arn, &after.wrapped, &none).expect("opened");
}

#[test]
fn names_that_no_alias_may_have_are_refused_in_the_words_of_aws() {
    let world = World::new();
    let kms = world.open();
    let key: KeyName = kms.create_key(&caller(), "", Some("alias/taken")).expect("made").arn.into();
    let prefix = "ValidationException: Alias must start with the prefix \"alias/\". Please see \
                  https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html";
    let pattern = "ValidationException: 1 validation error detected: Value 'alias/a b' at 'aliasName' failed to satisfy \
                   constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$";
    let long = format!("alias/{}", "a".repeat(251));
    let length = "ValidationException: 1 validation error detected: Value at 'aliasName' failed to satisfy constraint: \
                  Member must have length less than or equal to 256";
    let taken =
        "AlreadyExistsException: An alias with the name arn:aws:kms:us-east-1:000000000000:alias/taken already exists";
    let cases = [
        ("name", prefix),
        ("alias/a b", pattern),
        (&long, length),
        ("alias/aws/mine", "NotAuthorizedException: "),
        ("alias/", "InvalidAliasNameException: The alias name is empty behind the prefix \"alias/\"."),
        ("alias/taken", taken),
        ("alias/a:b", "ValidationException: alias/a:b contains invalid characters for an alias"),
    ];
    for (name, expected) in cases {
        assert_eq!(refusal(kms.create_alias(&caller(), name, &key)), expected);
    }
    let absent = "NotFoundException: Alias arn:aws:kms:us-east-1:000000000000:alias/none is not found.";
    assert_eq!(refusal(kms.update_alias(&caller(), "alias/none", &key)), absent);
    assert_eq!(refusal(kms.delete_alias(&caller(), "alias/none")), absent);
}

#[test]
fn an_alias_names_its_key_in_every_operation() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "", Some("alias/a")).expect("made");
    let alias = named("alias/a");
    kms.disable_key(&caller(), &alias).expect("disabled");
    kms.enable_key(&caller(), &alias).expect("enabled");
    kms.rotate_key_on_demand(&caller(), &alias).expect("rotated");
    let second = kms.create_alias(&caller(), "alias/b", &alias).expect("made");
    assert_eq!(second.target_key_id, key.key_id, "it points to the key, not to the other alias");
    kms.schedule_key_deletion(&caller(), &alias, 7).expect("scheduled");
    kms.cancel_key_deletion(&caller(), &alias).expect("cancelled");
    assert_eq!(kms.describe_key(&caller(), &alias).expect("found").rotations, 1);
}

#[test]
fn a_key_has_fifty_aliases_at_the_most() {
    let world = World::new();
    let kms = world.open();
    let key: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    for number in 0..50 {
        kms.create_alias(&caller(), &format!("alias/{number}"), &key).expect("made");
    }
    assert!(refusal(kms.create_alias(&caller(), "alias/50", &key)).starts_with("LimitExceededException: "));
    let other: KeyName = kms.create_key(&caller(), "", Some("alias/other")).expect("made").arn.into();
    assert!(refusal(kms.update_alias(&caller(), "alias/other", &key)).starts_with("LimitExceededException: "));
    kms.update_alias(&caller(), "alias/0", &key).expect("it was this key's before");
    kms.update_alias(&caller(), "alias/0", &other).expect("moved");
}
