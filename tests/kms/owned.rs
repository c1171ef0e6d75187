//! The key that AWS owns, beside the one that it manages: invisible, unaudited for the customer, rotated, controlled by
//! nobody here.

use std::sync::Arc;

use envol::kms::embedded::{Manager, Owned, PageOf, SignedRequest};
use envol::kms::{EncryptionContext, KeyName, Kms, Principal};

use crate::world::{World, caller, context, named, refusal};

#[test]
fn an_owned_key_is_in_no_list_no_name_reaches_it_and_the_customers_log_does_not_tell_of_it() {
    let world = World::new();
    let kms = Arc::new(world.open());
    let owned = Owned::beside(Arc::clone(&kms));
    let bound = context(&[("aws:ebs:id", "vol-1")]);
    let made = owned.generate_data_key_without_plaintext(&caller(), &named("alias/aws/ebs"), &bound).expect("made");
    let opened = owned.decrypt(&caller(), &made.key, &made.wrapped, &bound).expect("opened");
    assert_eq!(opened.key, made.key);
    assert!(made.key.as_str().starts_with("arn:aws:kms:us-east-1:aws:key/"), "{}", made.key);

    let name = KeyName::from(made.key.clone());
    let id = named(made.key.as_str().rsplit('/').next().expect("an id"));
    let root = SignedRequest::new(Principal::root("000000000000"), "AKID".to_owned());
    for key in [&name, &id] {
        let unknown = |refused: String| assert!(refused.starts_with("NotFoundException: "), "{refused}");
        unknown(refusal(kms.describe_key(&caller(), key)));
        unknown(refusal(kms.describe_key(&root, key)));
        unknown(refusal(kms.disable_key(&root, key)));
        unknown(refusal(kms.schedule_key_deletion(&root, key, 7)));
        unknown(refusal(kms.encrypt(&root, key, b"text", &bound)));
    }
    refusal(kms.decrypt_bytes(&root, None, &made.wrapped, &bound));
    let page = PageOf { limit: 100, marker: None };
    assert_eq!(kms.list_keys(&caller()).expect("listed"), []);
    assert_eq!(kms.all_keys().expect("listed"), []);
    assert_eq!(kms.page_of_aliases(&root, None, &page).expect("listed").items, []);

    let tells = |line: &&serde_json::Value| line.to_string().contains("vol-1") && line["errorCode"].is_null();
    assert_eq!(world.audit().iter().filter(tells).count(), 0, "the customer is told of no use");
    let service = std::fs::read_to_string(world.dir().join("owned/audit.ndjson")).expect("the service has a log");
    assert!(service.contains("GenerateDataKeyWithoutPlaintext") && service.contains("vol-1"), "{service}");
}

#[test]
fn the_three_kinds_of_keys_differ_in_who_sees_and_who_controls_them() {
    let world = World::new();
    let kms = Arc::new(world.open());
    let (owned, none) = (Owned::beside(Arc::clone(&kms)), EncryptionContext::default());
    let customer = kms.create_key(&caller(), "", None).expect("made");
    let managed = kms.describe_key(&caller(), &named("alias/aws/ebs")).expect("made");
    let hidden = owned.generate_data_key_without_plaintext(&caller(), &named("alias/aws/ebs"), &none).expect("made");
    assert_eq!((customer.manager, managed.manager), (Manager::Customer, Manager::Aws));
    let listed: Vec<_> = kms.list_keys(&caller()).expect("listed").into_iter().map(|key| key.arn).collect();
    assert!(listed.contains(&customer.arn) && listed.contains(&managed.arn) && !listed.contains(&hidden.key));

    // Rotation: the customer's choice; every year; the owner's affair.
    assert_eq!(customer.automatic_rotation, None);
    assert_eq!(managed.automatic_rotation.map(|(period, _)| period), Some(365));
    let blob = hidden.wrapped;
    world.pass_days(366);
    owned.decrypt(&caller(), &hidden.key, &blob, &none).expect("what was sealed before a rotation opens");
    let service = std::fs::read_to_string(world.dir().join("owned/audit.ndjson")).expect("there");
    assert!(service.contains("RotateKey"), "{service}");
    let described = kms.describe_key(&caller(), &named("alias/aws/ebs")).expect("there");
    assert_eq!((described.rotations, kms.list_keys(&caller()).expect("listed").len()), (1, 2));

    // Control: the customer disables theirs, and nobody the other two.
    kms.disable_key(&caller(), &customer.arn.into()).expect("theirs");
    refusal(kms.disable_key(&caller(), &managed.arn.into()));
    refusal(kms.disable_key(&caller(), &hidden.key.clone().into()));
    owned.decrypt(&caller(), &hidden.key, &blob, &none).expect("as before");
}

#[test]
fn it_is_one_key_over_restarts() {
    let world = World::new();
    let none = EncryptionContext::default();
    let make = || {
        let owned = Owned::beside(Arc::new(world.open()));
        owned.generate_data_key_without_plaintext(&caller(), &named("alias/aws/ebs"), &none).expect("made")
    };
    let (first, second) = (make(), make());
    assert_eq!(first.key, second.key);
    let owned = Owned::beside(Arc::new(world.open()));
    owned.decrypt(&caller(), &first.key, &first.wrapped, &none).expect("opens");
}
