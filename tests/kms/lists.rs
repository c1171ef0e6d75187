//! Lists a page at a time, and their markers.

use envol::kms::KeyName;
use envol::kms::embedded::{Embedded, Page, PageOf};

use crate::world::{World, caller, refusal};

fn key(kms: &Embedded) -> KeyName {
    kms.create_key(&caller(), "", None).expect("made").arn.into()
}

fn all<T>(limit: usize, list: impl Fn(&PageOf<'_>) -> Page<T>) -> Vec<T> {
    let (mut items, mut marker) = (Vec::new(), None);
    loop {
        let page = list(&PageOf { limit, marker: marker.as_deref() });
        assert!(page.items.len() <= limit && (page.next.is_none() || page.items.len() == limit));
        items.extend(page.items);
        marker = page.next;
        if marker.is_none() {
            return items;
        }
    }
}

#[test]
fn pages_hold_every_item_once_whatever_their_size() {
    let world = World::new();
    let kms = world.open();
    let first = key(&kms);
    for number in 0..7 {
        kms.create_alias(&caller(), &format!("alias/{number}"), &first).expect("made");
        let other = key(&kms);
        kms.create_alias(&caller(), &format!("alias/other-{number}"), &other).expect("made");
    }
    let whole = all(100, |page| kms.page_of_keys(&caller(), page).expect("listed"));
    assert_eq!(whole.len(), 8);
    for limit in 1..9 {
        assert_eq!(all(limit, |page| kms.page_of_keys(&caller(), page).expect("listed")), whole);
        let aliases = all(limit, |page| kms.page_of_aliases(&caller(), None, page).expect("listed"));
        assert_eq!(aliases.len(), 14);
        let own = all(limit, |page| kms.page_of_aliases(&caller(), Some(&first), page).expect("listed"));
        let names: Vec<&str> = own.iter().map(|alias| alias.name.as_str()).collect();
        assert_eq!(names, ["alias/0", "alias/1", "alias/2", "alias/3", "alias/4", "alias/5", "alias/6"]);
    }
}

#[test]
fn a_marker_serves_its_own_list_unchanged_and_no_other() {
    let world = World::new();
    let kms = world.open();
    let (one, other) = (key(&kms), key(&kms));
    for number in 0..2 {
        kms.create_alias(&caller(), &format!("alias/one-{number}"), &one).expect("made");
        kms.create_alias(&caller(), &format!("alias/other-{number}"), &other).expect("made");
    }
    let first = PageOf { limit: 1, marker: None };
    let marker = kms.page_of_aliases(&caller(), Some(&one), &first).expect("listed").next.expect("there is more");
    let invalid = "InvalidMarkerException: The marker was not given out by this list.";
    let mut changed = marker.clone().into_bytes();
    changed[30] ^= 1;
    let changed = String::from_utf8(changed).expect("letters");
    for wrong in [changed.as_str(), "none", "", "%%%"] {
        let page = PageOf { limit: 1, marker: Some(wrong) };
        assert_eq!(refusal(kms.page_of_aliases(&caller(), Some(&one), &page)), invalid);
    }
    let page = PageOf { limit: 1, marker: Some(&marker) };
    assert_eq!(refusal(kms.page_of_aliases(&caller(), Some(&other), &page)), invalid);
    assert_eq!(refusal(kms.page_of_aliases(&caller(), None, &page)), invalid);
    assert_eq!(refusal(kms.page_of_keys(&caller(), &page)), invalid);
    drop(kms);
    let kms = world.open();
    let rest = kms.page_of_aliases(&caller(), Some(&one), &page).expect("a marker outlives a reopening");
    assert_eq!((rest.items[0].name.as_str(), rest.next), ("alias/one-1", None));
}

#[test]
fn every_key_has_the_policy_that_gives_its_account_all_rights() {
    let world = World::new();
    let kms = world.open();
    let key = key(&kms);
    let (name, text) = kms.key_policy(&caller(), &key, None).expect("told");
    let policy: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((name, &policy["Id"]), ("default", &"key-default-1".into()));
    assert_eq!(policy["Statement"][0]["Principal"]["AWS"], "arn:aws:iam::000000000000:root");
    assert_eq!(refusal(kms.key_policy(&caller(), &key, Some("other"))), "NotFoundException: No such policy exists");
    let managed = KeyName::new("alias/aws/ebs");
    kms.describe_key(&caller(), &managed).expect("made");
    let (_, text) = kms.key_policy(&caller(), &managed, Some("default")).expect("told");
    assert!(text.contains("ec2.us-east-1.amazonaws.com"), "{text}");
}
