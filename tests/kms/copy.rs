//! A copy of the store, made while it is in use.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use envol::kms::embedded::{Embedded, Region, SignedRequest};
use envol::kms::{EncryptionContext, KeyName, Principal};

use crate::world::{World, caller, named, refusal};

fn root() -> Principal {
    Principal::root("000000000000")
}

fn abroad(home: &Arc<Embedded>) -> Arc<Embedded> {
    let request = SignedRequest::new(root(), "AKID".to_owned());
    home.in_region(&Region::named("eu-west-1").expect("a region"), &request, "ListKeys").expect("opens")
}

/// A KMS whose store takes long to copy.
fn large(world: &World) -> Embedded {
    let kms = world.open();
    let words = "w".repeat(8000);
    for number in 0..400 {
        kms.create_key(&caller(), &words, Some(&format!("alias/{number}"))).expect("made");
    }
    kms
}

#[test]
fn calls_are_answered_while_a_large_store_is_copied() {
    let world = World::new();
    let kms = large(&world);
    let key: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    let (done, to) = (AtomicBool::new(false), world.place.path().join("copy"));
    let answered = std::thread::scope(|scope| {
        let copying = scope.spawn(|| {
            let copied = kms.copy_store(&root(), &to);
            done.store(true, Ordering::SeqCst);
            copied
        });
        let begun = || to.exists();
        let mut answered = Vec::new();
        while !done.load(Ordering::SeqCst) {
            let began_within = begun();
            // A change and a use of a key, both of which are written to the log.
            kms.create_key(&caller(), "", None).expect("made");
            kms.encrypt(&caller(), &key, b"text", &EncryptionContext::default()).expect("sealed");
            answered.push(began_within && !done.load(Ordering::SeqCst));
        }
        copying.join().expect("no panic").expect("copied");
        answered
    });
    let within = answered.iter().filter(|within| **within).count();
    assert!(within >= 1, "{within} of {} calls began and ended while the copy was made", answered.len());
}

#[test]
fn a_copy_has_every_region_and_the_keys_of_aws_though_nobody_has_asked_for_them_since_the_start() {
    let world = World::new();
    let home = Arc::new(world.open());
    let key = abroad(&home).create_key(&caller(), "", Some("alias/abroad")).expect("made");
    home.owned().expect("opens");
    drop(home);
    let home = Arc::new(world.open());
    let to = world.place.path().join("copied");
    home.copy_store(&root(), &to).expect("copied");
    home.copy_store(&caller(), &world.place.path().join("refused")).expect_err("who is not root may not");
    assert!(!world.place.path().join("refused").exists());
    for store in ["keys.redb", "regions/eu-west-1/keys.redb", "owned/keys.redb"] {
        assert!(to.join(store).exists(), "{store}");
    }
    drop(home);
    fs::remove_dir_all(world.dir()).expect("there");
    fs::rename(&to, world.dir()).expect("moved");
    let home = Arc::new(world.open());
    let found = abroad(&home).describe_key(&caller(), &named("alias/abroad")).expect("it is there");
    assert_eq!(found.key_id, key.key_id);
}

#[test]
fn a_copy_that_fails_leaves_nothing() {
    let world = World::new();
    let kms = world.open();
    kms.create_key(&caller(), "", None).expect("made");
    // So long a path that the directory can be made, and no file in it.
    let mut place: PathBuf = world.place.path().to_owned();
    while place.as_os_str().len() < 4090 {
        let left = 4090 - place.as_os_str().len();
        place.push("d".repeat(if left <= 250 { left - 1 } else { 200 }));
    }
    fs::create_dir_all(place.parent().expect("it has one")).expect("made");
    let refused = kms.copy_store(&root(), &place).expect_err("the name of a file in it is too long");
    assert!(refused.to_string().contains("too long"), "{refused}");
    assert!(!place.exists());
    let taken = world.place.path().join("taken");
    fs::create_dir(&taken).expect("made");
    kms.copy_store(&root(), &taken).expect_err("somebody's");
    assert!(taken.exists(), "what was there stays");
    let listed = refusal(kms.describe_key(&caller(), &named("alias/none")));
    assert!(listed.contains("not found"), "it goes on: {listed}");
}
