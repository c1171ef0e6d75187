//! Tags: kept with the key, and refused in the words of AWS.

use envol::kms::embedded::{Embedded, NewKey, PageOf, Tag};
use envol::kms::KeyName;

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
    let refused = kms.untag_resource(&caller(), &key, &["aws:a".to_owned()]);
    assert_eq!(refusal(refused), "TagException: Tags beginning with aws: are reserved");
    assert_eq!(tags(&kms, &key), []);
    kms.tag_resource(&caller(), &key, &many[..50]).expect("tagged");
    assert_eq!(attempt(&[tag("one more", "")]), "TagException: Too many tags");
    kms.tag_resource(&caller(), &key, &[tag("0", "anew")]).expect("it was there before");
}
