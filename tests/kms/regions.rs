//! Keys of one region are not those of another.

use std::sync::Arc;

use envol::kms::embedded::{Embedded, Region, SignedRequest};
use envol::kms::{EncryptionContext, KeyName, KmsError, Principal};

use crate::world::{World, caller, refusal};

/// The KMS of a region, for a request of `principal`.
fn asked(home: &Arc<Embedded>, region: &str, principal: Principal) -> Result<Arc<Embedded>, KmsError> {
    let request = SignedRequest::new(principal, "AKID".to_owned());
    home.in_region(&Region::named(region).expect("a region"), &request, "ListKeys")
}

fn region(home: &Arc<Embedded>, region: &str) -> Arc<Embedded> {
    asked(home, region, Principal::root("000000000000")).expect("opens")
}

#[test]
fn a_region_has_keys_of_its_own_and_they_outlive_a_reopening() {
    let world = World::new();
    let home = Arc::new(world.open());
    let abroad = region(&home, "eu-west-1");
    assert!(Arc::ptr_eq(&abroad, &region(&home, "eu-west-1")));
    assert!(Arc::ptr_eq(&home, &region(&home, "us-east-1")));
    let none = EncryptionContext::default();
    let key = abroad.create_key(&caller(), "", Some("alias/a")).expect("made");
    assert!(key.arn.as_str().starts_with("arn:aws:kms:eu-west-1:000000000000:key/"));
    let sealed = abroad.encrypt(&caller(), &KeyName::new("alias/a"), b"text", &none).expect("sealed");
    let arn: KeyName = key.arn.clone().into();
    assert_eq!(refusal(home.describe_key(&caller(), &arn)), "NotFoundException: Invalid arn eu-west-1");
    let there =
        format!("NotFoundException: Key 'arn:aws:kms:us-east-1:000000000000:key/{}' does not exist", key.key_id);
    assert_eq!(refusal(home.describe_key(&caller(), &KeyName::new(&key.key_id))), there);
    let refused = refusal(home.decrypt_bytes(&caller(), None, &sealed.wrapped, &none));
    assert!(refused.starts_with("AccessDeniedException: The ciphertext refers to"), "{refused}");
    assert_eq!(home.list_keys(&caller()).expect("listed"), []);
    drop((home, abroad));
    let home = Arc::new(world.open());
    let abroad = region(&home, "eu-west-1");
    let opened = abroad.decrypt_bytes(&caller(), None, &sealed.wrapped, &none).expect("opened");
    assert_eq!(opened.plaintext.expose(), b"text");
    let regions: Vec<String> = world.audit().iter().map(|line| line["awsRegion"].to_string()).collect();
    assert!(regions.contains(&"\"eu-west-1\"".to_owned()) && regions.contains(&"\"us-east-1\"".to_owned()));
}

#[test]
fn what_cannot_be_a_region_is_none() {
    for name in ["", "..", "../x", "US-EAST-1", "a/b", "a_b", "\u{e9}", &"a".repeat(33)] {
        assert!(Region::named(name).is_none(), "{name}");
    }
}

#[test]
fn a_region_is_made_by_those_who_have_the_right_alone() {
    let world = World::new();
    let home = Arc::new(world.open());
    let denied = refusal(asked(&home, "eu-west-1", caller()));
    assert!(denied.starts_with("AccessDeniedException: "), "{denied}");
    assert!(!world.dir().join("regions").exists());
    let made = region(&home, "eu-west-1");
    assert!(Arc::ptr_eq(&made, &asked(&home, "eu-west-1", caller()).expect("it is there, and judges them itself")));
}

#[test]
fn regions_are_counted_on_disk_and_those_that_are_there_stay_within_reach() {
    let world = World::new();
    let home = Arc::new(world.open());
    let name = |number| format!("xx-region-{number}");
    for number in 0..64 {
        region(&home, &name(number));
    }
    drop(home);
    let home = Arc::new(world.open());
    let one_more = asked(&home, &name(64), Principal::root("000000000000"));
    assert!(refusal(one_more).starts_with("LimitExceededException: "));
    region(&home, &name(63));
}
