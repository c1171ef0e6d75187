//! Keys of one region are not those of another.

use std::sync::Arc;

use envol::kms::{EncryptionContext, KeyName};

use crate::world::{World, caller, refusal};

#[test]
fn a_region_has_keys_of_its_own_and_they_outlive_a_reopening() {
    let world = World::new();
    let home = Arc::new(world.open());
    let abroad = home.in_region("eu-west-1").expect("opens").expect("a region");
    assert!(Arc::ptr_eq(&abroad, &home.in_region("eu-west-1").expect("opens").expect("a region")));
    assert!(Arc::ptr_eq(&home, &home.in_region("us-east-1").expect("opens").expect("a region")));
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
    let abroad = home.in_region("eu-west-1").expect("opens").expect("a region");
    let opened = abroad.decrypt_bytes(&caller(), None, &sealed.wrapped, &none).expect("opened");
    assert_eq!(opened.plaintext.expose(), b"text");
    let regions: Vec<String> = world.audit().iter().map(|line| line["awsRegion"].to_string()).collect();
    assert!(regions.contains(&"\"eu-west-1\"".to_owned()) && regions.contains(&"\"us-east-1\"".to_owned()));
}

#[test]
fn what_cannot_be_a_region_is_none_and_makes_nothing() {
    let world = World::new();
    let home = Arc::new(world.open());
    for name in ["", "..", "../x", "US-EAST-1", "a/b", "a_b", "\u{e9}", &"a".repeat(33)] {
        assert!(home.in_region(name).expect("judged").is_none(), "{name}");
    }
    assert!(!world.dir().join("regions").exists());
    for number in 0..64 {
        home.in_region(&format!("xx-region-{number}")).expect("opens").expect("a region");
    }
    assert!(refusal(home.in_region("xx-region-64")).starts_with("LimitExceededException: "));
}
