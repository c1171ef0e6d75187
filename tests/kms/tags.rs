//! Tags: kept with the key, and refused in the words of AWS.

use envol::kms::KeyName;
use envol::kms::embedded::{Embedded, NewKey, PageOf, Tag};

use crate::world::{World, caller, refusal};

fn tag(key: &str, value: &str) -> Tag {
    Tag { key: key.to_owned(), value: value.to_owned() }
}

fn tags(kms: &Embedded, key: &KeyName) -> Vec<Tag> {
    kms.page_of_tags(&caller(), key, &PageOf { limit: 50, marker: None }).expect("listed").items
}

#[test]
fn tags_are_put_over_those_that_are_there_and_taken_away_by_key() {
    let world = World::new();
    let kms = world.open();
    let made = kms
        .create(&caller(), &NewKey { tags: &[tag("Env", "Test"), tag("Owner", "")], ..NewKey::default() })
        .expect("made");
    let key: KeyName = made.arn.into();
    kms.tag_resource(&caller(), &key, &[tag("Env", "Prod"), tag("env", "other")]).expect("tagged");
    drop(kms);
    let kms = world.open();
    assert_eq!(tags(&kms, &key), [tag("Env", "Prod"), tag("Owner", ""), tag("env", "other")]);
    kms.untag_resource(&caller(), &key, &["Owner".to_owned(), "absent".to_owned()]).expect("untagged");
    assert_eq!(tags(&kms, &key), [tag("Env", "Prod"), tag("env", "other")]);
}

#[test]
fn tags_that_no_key_may_have_are_refused() {
    let world = World::new();
    let kms = world.open();
    let key: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    let many: Vec<Tag> = (0..51).map(|number| tag(&number.to_string(), "")).collect();
    let attempt = |tags: &[Tag]| refusal(kms.tag_resource(&caller(), &key, tags));
    assert_eq!(attempt(&[tag("aws:a", "")]), "TagException: Tags beginning with aws: are reserved");
    assert_eq!(attempt(&[tag("AWS:a", "")]), "TagException: Tags beginning with aws: are reserved");
    assert_eq!(attempt(&[tag("a", "1"), tag("a", "2")]), "TagException: Duplicate tag keys");
    assert_eq!(attempt(&many), "TagException: Too many tags");
    let failed = |member: &str, constraint: &str| {
        format!(
            "ValidationException: 1 validation error detected: Value at '{member}' failed to satisfy constraint: Member must \
             have length {constraint}"
        )
    };
    assert_eq!(attempt(&[tag("", "")]), failed("tagKey", "greater than or equal to 1"));
    assert_eq!(attempt(&[tag(&"ä".repeat(129), "")]), failed("tagKey", "less than or equal to 128"));
    assert_eq!(attempt(&[tag("a", &"ä".repeat(257))]), failed("tagValue", "less than or equal to 256"));
    let refused = kms.untag_resource(&caller(), &key, &["aws:a".to_owned()]);
    assert_eq!(refusal(refused), "TagException: Tags beginning with aws: are reserved");
    assert_eq!(tags(&kms, &key), []);
    let longest = [tag(&"ä".repeat(128), &"ä".repeat(256))];
    kms.tag_resource(&caller(), &key, &longest).expect("as long as may be");
    kms.untag_resource(&caller(), &key, &[longest[0].key.clone()]).expect("untagged");
    kms.tag_resource(&caller(), &key, &many[..50]).expect("tagged");
    assert_eq!(attempt(&[tag("one more", "")]), "TagException: Too many tags");
    kms.tag_resource(&caller(), &key, &[tag("0", "anew")]).expect("it was there before");
}
