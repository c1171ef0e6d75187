//! The key that is managed for EBS: made on first use, used by all, changed by nobody.

use envol::kms::embedded::{KeyState, Manager, ReEncryption, SignedRequest};
use envol::kms::{EncryptionContext, KeyName, Kms, Principal};

use crate::world::{World, caller, named, refusal};

#[test]
fn the_managed_key_is_made_on_first_use_and_once() {
    let world = World::new();
    let kms = world.open();
    let none = EncryptionContext::default();
    assert_eq!(kms.list_keys(&caller()).expect("listed"), []);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                kms.generate_data_key_without_plaintext(&caller(), &named("alias/aws/ebs"), &none).expect("made")
            });
        }
    });
    let keys = kms.list_keys(&caller()).expect("listed");
    assert_eq!(keys.len(), 1);
    assert_eq!((keys[0].manager, keys[0].state), (Manager::Aws, KeyState::Enabled));
    assert_eq!(keys[0].aliases, ["alias/aws/ebs"]);
    let arn = "arn:aws:kms:us-east-1:000000000000:alias/aws/ebs";
    assert_eq!(kms.describe_key(&caller(), &named(arn)).expect("found").arn, keys[0].arn);
}

#[test]
fn nobody_changes_the_managed_key_or_its_alias() {
    let world = World::new();
    let kms = world.open();
    let key: KeyName = kms.describe_key(&caller(), &named("alias/aws/ebs")).expect("made").arn.into();
    let own: KeyName = kms.create_key(&caller(), "", Some("alias/own")).expect("made").arn.into();
    let refusals = [
        ("DisableKey", refusal(kms.disable_key(&caller(), &key))),
        ("EnableKey", refusal(kms.enable_key(&caller(), &key))),
        ("ScheduleKeyDeletion", refusal(kms.schedule_key_deletion(&caller(), &key, 7))),
        ("CancelKeyDeletion", refusal(kms.cancel_key_deletion(&caller(), &key))),
        ("RotateKeyOnDemand", refusal(kms.rotate_key_on_demand(&caller(), &key))),
        ("CreateAlias", refusal(kms.create_alias(&caller(), "alias/new", &key))),
        ("UpdateAlias", refusal(kms.update_alias(&caller(), "alias/own", &key))),
    ];
    for (operation, refused) in refusals {
        let expected = format!(
            "AccessDeniedException: User: {} is not authorized to perform: kms:{operation} on this resource because the \
             resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy \
             explicitly denies access",
            caller()
        );
        assert_eq!(refused, expected);
    }
    assert_eq!(refusal(kms.update_alias(&caller(), "alias/aws/ebs", &own)), "NotAuthorizedException: ");
    assert_eq!(refusal(kms.delete_alias(&caller(), "alias/aws/ebs")), "NotAuthorizedException: ");
    let found = kms.describe_key(&caller(), &key).expect("found");
    assert_eq!((found.state, found.rotations), (KeyState::Enabled, 0));
}

#[test]
fn who_signs_requests_cannot_use_the_managed_key_nor_have_it_made_by_trying() {
    let world = World::new();
    let kms = world.open();
    let none = EncryptionContext::default();
    let request = |user: Principal| SignedRequest::new(user, "AKID".to_owned());
    let (root, other) = (request(Principal::root("000000000000")), request(caller()));
    let own = kms.create_key(&caller(), "", Some("alias/own")).expect("made");
    let blob = kms.encrypt(&caller(), &named("alias/own"), b"text", &none).expect("sealed").wrapped;
    let managed = named("alias/aws/ebs");
    let (context, to_context) = (&none, &none);
    let anew = ReEncryption { blob: &blob, from: None, context, to: &managed, to_context };
    for (user, action, refused) in [
        (&root, "Encrypt", refusal(kms.encrypt(&root, &managed, b"text", &none))),
        (&root, "GenerateDataKey", refusal(kms.generate_data_key(&root, &managed, 32, &none))),
        (&root, "ReEncryptTo", refusal(kms.re_encrypt(&root, &anew))),
        (&other, "DescribeKey", refusal(kms.describe_key(&other, &managed))),
        (&other, "Encrypt", refusal(kms.encrypt(&other, &managed, b"text", &none))),
    ] {
        let denied =
            format!("AccessDeniedException: User: {} is not authorized to perform: kms:{action} on ", user.principal);
        assert!(refused.starts_with(&denied), "{refused}");
    }
    assert_eq!(kms.list_keys(&caller()).expect("listed"), [own], "nobody made the managed key");
    kms.describe_key(&root, &managed).expect("made, by who may look at it");
}

#[test]
fn a_blob_does_not_tell_who_may_not_use_its_key_that_there_is_one() {
    let world = World::new();
    let kms = world.open();
    let none = EncryptionContext::default();
    let root = SignedRequest::new(Principal::root("000000000000"), "AKID".to_owned());
    let other = SignedRequest::new(caller(), "AKID".to_owned());
    let key = kms.create_key(&caller(), "", None).expect("made").arn;
    let blob = kms.encrypt(&caller(), &key.clone().into(), b"text", &none).expect("sealed").wrapped;
    let volumes = kms.generate_data_key_without_plaintext(&caller(), &named("alias/aws/ebs"), &none).expect("made");
    let unknown = "AccessDeniedException: The ciphertext refers to a customer master key that does not exist, does not exist \
                   in this region, or you are not allowed to access.";
    assert_eq!(refusal(kms.decrypt_bytes(&other, None, &blob, &none)), unknown);
    assert_eq!(refusal(kms.decrypt_bytes(&root, None, &volumes.wrapped, &none)), unknown);
    let line = world.audit().pop().expect("a line");
    assert_eq!(line["resources"][0]["ARN"], volumes.key.as_str(), "the log knows");
    let named = refusal(kms.decrypt_bytes(&other, Some(&key.into()), &blob, &none));
    assert!(named.starts_with("AccessDeniedException: User: "), "{named}");
    kms.decrypt_bytes(&root, None, &blob, &none).expect("who may use it opens it");
}
