//! Rotation by the calendar and by hand.

use envol::kms::embedded::{Embedded, PageOf};
use envol::kms::{EncryptionContext, KeyName};

use crate::world::{World, caller, refusal};

fn materials(kms: &Embedded, key: &KeyName, first: bool) -> Vec<(bool, Option<bool>)> {
    let page = PageOf { limit: 100, marker: None };
    let (_, page) = kms.list_key_rotations(&caller(), key, first, &page).expect("listed");
    page.items.into_iter().map(|entry| (entry.current, entry.rotated.map(|(_, automatic)| automatic))).collect()
}

fn next_in_days(kms: &Embedded, key: &KeyName) -> Option<(u32, u64)> {
    let status = kms.key_rotation_status(&caller(), key).expect("told");
    status.automatic.map(|(period, next)| (period, next.duration_since(kms.time()).expect("ahead").as_secs() / 86_400))
}

#[test]
fn a_key_is_rotated_when_its_date_comes_and_opens_what_it_sealed_before() {
    let world = World::new();
    let kms = world.open();
    let none = EncryptionContext::default();
    let key: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    let sealed = kms.encrypt(&caller(), &key, b"text", &none).expect("sealed");
    assert_eq!(next_in_days(&kms, &key), None);
    kms.enable_key_rotation(&caller(), &key, Some(90)).expect("enabled");
    assert_eq!(next_in_days(&kms, &key), Some((90, 90)));
    kms.rotate_key_on_demand(&caller(), &key).expect("rotated");
    assert_eq!(next_in_days(&kms, &key), Some((90, 90)), "a rotation by hand leaves the calendar alone");
    world.pass_days(91);
    assert_eq!(next_in_days(&kms, &key), Some((90, 89)));
    assert_eq!(materials(&kms, &key, false), [(true, Some(true)), (false, Some(false))]);
    assert_eq!(materials(&kms, &key, true), [(true, Some(true)), (false, Some(false)), (false, None)]);
    let again = kms.encrypt(&caller(), &key, b"text", &none).expect("sealed");
    assert_ne!(again.material, sealed.material);
    let opened = kms.decrypt_bytes(&caller(), None, &sealed.wrapped, &none).expect("opened");
    assert_eq!((opened.plaintext.expose(), opened.material), (&b"text"[..], sealed.material));
    let rotations = world.audit().iter().filter(|line| line["eventName"] == "RotateKey").count();
    assert_eq!(rotations, 1);
    kms.disable_key_rotation(&caller(), &key).expect("disabled");
    world.pass_days(1000);
    assert_eq!(materials(&kms, &key, false).len(), 2);
}

#[test]
fn a_disabled_key_catches_up_and_a_doomed_one_is_left_alone() {
    let world = World::new();
    let kms = world.open();
    let key: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    kms.enable_key_rotation(&caller(), &key, None).expect("enabled");
    kms.disable_key(&caller(), &key).expect("disabled");
    world.pass_days(800);
    assert_eq!(materials(&kms, &key, false), []);
    kms.enable_key(&caller(), &key).expect("enabled");
    assert_eq!(materials(&kms, &key, false), [(true, Some(true))], "once, however often it was due");
    assert_eq!(next_in_days(&kms, &key), Some((365, 3 * 365 - 800)));
    kms.schedule_key_deletion(&caller(), &key, 7).expect("scheduled");
    assert_eq!(next_in_days(&kms, &key), None);
    kms.cancel_key_deletion(&caller(), &key).expect("cancelled");
    assert!(next_in_days(&kms, &key).is_some());
    drop(kms);
    let kms = world.open();
    kms.enable_key(&caller(), &key).expect("enabled");
    world.pass_days(400);
    assert_eq!(materials(&kms, &key, false).len(), 2, "the calendar outlives a reopening");
}

#[test]
fn by_hand_25_times_and_not_shortly_before_the_calendar() {
    let world = World::new();
    let kms = world.open();
    let made = kms.create_key(&caller(), "", None).expect("made");
    let key: KeyName = made.arn.clone().into();
    for _ in 0..25 {
        kms.rotate_key_on_demand(&caller(), &key).expect("rotated");
    }
    let refused = refusal(kms.rotate_key_on_demand(&caller(), &key));
    assert!(refused.starts_with("LimitExceededException: The on-demand rotations limit has been reached"), "{refused}");
    let other = kms.create_key(&caller(), "", None).expect("made");
    let name: KeyName = other.arn.clone().into();
    kms.enable_key_rotation(&caller(), &name, Some(90)).expect("enabled");
    world.pass_days(89);
    kms.rotate_key_on_demand(&caller(), &name).expect("a day before");
    world.pass_seconds(86_400 - 600);
    let refused = refusal(kms.rotate_key_on_demand(&caller(), &name));
    assert_eq!(refused, format!("ConflictException: {} is about to be rotated automatically.", other.arn));
}

#[test]
fn the_managed_key_is_rotated_every_year() {
    let world = World::new();
    let kms = world.open();
    let key: KeyName = kms.describe_key(&caller(), &KeyName::new("alias/aws/ebs")).expect("made").arn.into();
    assert_eq!(next_in_days(&kms, &key), Some((365, 365)));
    world.pass_days(366);
    assert_eq!(materials(&kms, &key, false), [(true, Some(true))]);
}
