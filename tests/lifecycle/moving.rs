//! A volume that goes from one KMS to another and back: attached or not, and what either of them may do wrong.

use std::time::Duration;

use envol::attach::{AttachError, NewSeal};
use envol::kms::{KeyName, KmsError};

use crate::script::{Act, refusal, unreachable};
use crate::world::{World, caller, volume};

fn rewrap(world: &World, kms: &str, key: &str) -> Result<(), AttachError> {
    let to = NewSeal { kms: Some(kms.to_owned()), key: KeyName::new(key) };
    world.registry().rewrap(&caller(), &volume("db"), &to).map(drop)
}

#[test]
fn a_volume_goes_to_another_kms_and_back_attached_or_not_and_reads_as_before() {
    for attached in [false, true] {
        let mut world = World::new();
        world.create("db");
        world.attach("db").expect("attached");
        world.write("db", 7);
        if !attached {
            world.detach("db").expect("detached");
        }
        let before = world.show("db").record;
        for (round, kms) in (1..).zip(["other", "embedded", "other"]) {
            rewrap(&world, kms, "alias/there").expect("sealed there");
            let after = world.show("db").record;
            assert_eq!((after.kms.as_str(), after.generation), (kms, before.generation + round));
            assert_eq!(after.fingerprint, before.fingerprint, "the data key is the same");
        }
        if attached {
            assert_eq!(world.read("db"), vec![7; 8192]);
            world.detach("db").expect("detached");
        }
        world.restart();
        // What it came from has no part in it any more.
        world.kms.always(unreachable());
        world.attach("db").expect("it opens there");
        assert_eq!(world.read("db"), vec![7; 8192]);
    }
}

#[test]
fn the_context_goes_along_so_that_the_seal_opens_nothing_else_there() {
    let world = World::new();
    world.create("db");
    world.create("twin");
    rewrap(&world, "other", "alias/there").expect("sealed there");
    let to = NewSeal { kms: Some("other".to_owned()), key: KeyName::new("alias/there") };
    world.registry().rewrap(&caller(), &volume("twin"), &to).expect("sealed there");
    // The headers change places: each names its own volume and is refused, or holds the other's sealed key and is.
    let (one, two) = (world.backing("db"), world.backing("twin"));
    let (first, second) = (std::fs::read(&one).expect("readable"), std::fs::read(&two).expect("readable"));
    std::fs::write(&one, second).expect("writable");
    std::fs::write(&two, first).expect("writable");
    for name in ["db", "twin"] {
        assert_eq!(world.attach(name).expect_err("another volume").code(), "volume.another");
    }
}

#[test]
fn nothing_is_written_where_either_kms_refuses_or_lies() {
    let world = World::new();
    world.create("db");
    let before = std::fs::read(world.backing("db")).expect("readable");
    let rewrapped = |expected: (u8, &str)| {
        let error = rewrap(&world, "other", "alias/there").expect_err("refused");
        assert_eq!((error.exit_code(), error.code()), expected, "{error:?}");
        assert_eq!(std::fs::read(world.backing("db")).expect("readable"), before);
        error
    };
    world.kms.next([refusal("DisabledException", "the old key is disabled.")]);
    rewrapped((5, "attach.kms.disabled"));
    // Whatever else the one KMS gives is not handed to the other.
    world.kms.next([Act::Give([9; 64])]);
    rewrapped((7, "attach.kms.bad_answer"));
    world.kms.next([Act::WrongKey]);
    rewrapped((7, "attach.kms.bad_answer"));
    assert!(world.other.data_keys().is_empty(), "the other KMS was shown no key but the volume's");

    world.other.next([refusal("DisabledException", "the new key is disabled.")]);
    let error = rewrapped((5, "attach.kms.disabled"));
    assert!(error.remedy().contains("aws kms enable-key"), "another KMS has other commands: {}", error.remedy());
    world.other.next([refusal("NotFoundException", "Alias is not found.")]);
    let error = rewrapped((3, "kms.not_found"));
    assert!(error.remedy().contains("of that KMS"), "{}", error.remedy());
    world.other.next([Act::Give([9; 64])]);
    rewrapped((7, "attach.kms.bad_answer"));
    world.other.next([Act::Answer, Act::Give([9; 64])]);
    rewrapped((7, "attach.kms.bad_answer"));
    world.other.next([Act::Answer, Act::WrongKey]);
    rewrapped((7, "attach.kms.bad_answer"));
    world.other.next([Act::Fail(KmsError::BadAnswer("nonsense".into()))]);
    rewrapped((7, "attach.kms.bad_answer"));
    let error = rewrap(&world, "nowhere", "alias/there").expect_err("there is no such KMS");
    assert_eq!((error.exit_code(), error.code()), (2, "kms.not_configured"));
    world.attach("db").expect("as before");
}

#[test]
fn whichever_kms_fails_is_named_with_its_own_key_and_remedy() {
    let world = World::with(|settings| settings.attach_deadline = Duration::from_millis(300));
    let here = world.create("db").record.key;
    let failed = |kms: &str, key: &str| rewrap(&world, kms, key).expect_err("it fails");
    let remedy = |error: &AttachError, expected: &str| assert!(error.remedy().contains(expected), "{}", error.remedy());
    let disabled = || [refusal("DisabledException", "it is disabled.")];
    let silent = |error: &AttachError, section: &str, asked: &str| match error {
        AttachError::KmsTimeout { kms, key, .. } => assert_eq!((kms.as_str(), key.as_str()), (section, asked)),
        other => panic!("{other:?}"),
    };

    world.kms.next(disabled());
    remedy(&failed("other", "alias/there"), &format!("envol key enable {here}"));
    world.other.next(disabled());
    remedy(&failed("other", "alias/there"), "aws kms enable-key --key-id alias/there");
    world.kms.next([Act::Hang]);
    silent(&failed("other", "alias/there"), "embedded", here.as_str());
    world.kms.release();
    world.other.next([Act::Hang]);
    silent(&failed("other", "alias/there"), "other", "alias/there");
    world.other.release();

    rewrap(&world, "other", "alias/there").expect("sealed there");
    let there = world.show("db").record.key;
    world.other.next(disabled());
    remedy(&failed("embedded", "alias/here"), &format!("aws kms enable-key --key-id {there}"));
    world.kms.next(disabled());
    remedy(&failed("embedded", "alias/here"), "envol key enable alias/here");
    world.other.next([Act::Hang]);
    silent(&failed("embedded", "alias/here"), "other", there.as_str());
    world.other.release();
    world.kms.next([Act::Hang]);
    silent(&failed("embedded", "alias/here"), "embedded", "alias/here");
    world.kms.release();
}

#[test]
fn a_crash_between_header_and_record_is_told_and_opens() {
    let mut world = World::new();
    world.create("db");
    let record = world.settings.state_dir.clone();
    let kept = copy_of(&record);
    rewrap(&world, "other", "alias/there").expect("sealed there");
    world.crash();
    put_back(&record, &kept);
    world.start();
    world.attach("db").expect("the header is ahead of its record");
    let told = |event: &serde_json::Value| event["detail"]["event"] == "acceptRewrap";
    assert!(world.events().iter().any(told), "{:?}", world.events());
    assert_eq!(world.show("db").record.kms, "other");
}

/// The records as they are: name and content.
fn copy_of(state_dir: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let records = std::fs::read_dir(state_dir.join("records")).expect("there are records");
    let paths = records.map(|entry| entry.expect("an entry").path());
    paths.map(|path| (path.clone(), std::fs::read(path).expect("readable"))).collect()
}

fn put_back(_: &std::path::Path, kept: &[(std::path::PathBuf, Vec<u8>)]) {
    for (path, content) in kept {
        std::fs::write(path, content).expect("writable");
    }
}
