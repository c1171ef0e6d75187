//! Access keys: made by root, kept sealed, gone when deleted.

use std::fs;

use envol::kms::Principal;

use crate::world::{World, caller, refusal};

fn root() -> Principal {
    Principal::root("000000000000")
}

#[test]
fn a_secret_is_found_again_and_is_nowhere_in_clear() {
    let world = World::new();
    let kms = world.open();
    let made = kms.create_access_key(&root(), "root").expect("made");
    let other = kms.create_access_key(&root(), "alice").expect("made");
    assert!(made.key.id.starts_with("AKIA") && made.key.id.len() == 20 && made.secret.expose().len() == 40);
    assert_ne!(made.secret.expose(), other.secret.expose());
    drop(kms);
    for file in ["keys.redb", "audit.ndjson"] {
        let bytes = fs::read(world.dir().join(file)).expect("there");
        assert!(!bytes.windows(40).any(|window| window == made.secret.expose()), "{file}");
    }
    let kms = world.open();
    let (principal, secret) = kms.access_key(&made.key.id).expect("read").expect("there");
    assert_eq!((principal, secret.expose()), (root(), made.secret.expose()));
    let (principal, _) = kms.access_key(&other.key.id).expect("read").expect("there");
    assert_eq!(principal.as_str(), "arn:aws:iam::000000000000:user/alice");
    assert_eq!(kms.list_access_keys(&root()).expect("listed").len(), 2);
    kms.delete_access_key(&root(), &made.key.id).expect("deleted");
    assert!(kms.access_key(&made.key.id).expect("read").is_none());
    assert!(refusal(kms.delete_access_key(&root(), &made.key.id)).starts_with("NoSuchEntityException: "));
    let events: Vec<_> =
        world.audit().iter().map(|line| (line["eventName"].clone(), line["eventSource"].clone())).collect();
    assert!(events.contains(&("DeleteAccessKey".into(), "iam.amazonaws.com".into())), "{events:?}");
}

#[test]
fn only_root_makes_access_keys_and_two_for_one_user() {
    let world = World::new();
    let kms = world.open();
    let denied = format!("AccessDeniedException: User: {} is not authorized to perform: iam:", caller());
    assert!(refusal(kms.create_access_key(&caller(), "root")).starts_with(&denied));
    assert!(refusal(kms.list_access_keys(&caller())).starts_with(&denied));
    assert!(refusal(kms.delete_access_key(&caller(), "AKIA")).starts_with(&denied));
    for _ in 0..2 {
        kms.create_access_key(&root(), "alice").expect("made");
    }
    let refused = refusal(kms.create_access_key(&root(), "alice"));
    assert_eq!(refused, "LimitExceededException: Cannot exceed quota for AccessKeysPerUser: 2");
    kms.create_access_key(&root(), "bob").expect("made");
    for name in ["", "a b", "a/b", "a:root", &"a".repeat(65)] {
        assert!(refusal(kms.create_access_key(&root(), name)).starts_with("ValidationException: "), "{name}");
    }
}
