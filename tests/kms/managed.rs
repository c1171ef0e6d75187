//! The key that is managed for EBS: made on first use, used by all, changed by nobody.

use envol::kms::embedded::{KeyState, Manager};
use envol::kms::{EncryptionContext, KeyName, Kms};

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
