//! A header that is sealed anew, kept elsewhere and put back: attached or not, by whom it may be, and what is recorded.

use envol::attach::NewSeal;
use envol::kms::{KeyName, KmsError};
use envol::volume::Rollback;

use crate::script::Act;
use crate::world::{WRITABLE, World, caller, volume};

const NEW: &str = "alias/new";

fn rewrap(world: &World) -> Result<(), envol::attach::AttachError> {
    let to = NewSeal { kms: None, key: KeyName::new(NEW) };
    world.registry().rewrap(&caller(), &volume("db"), &to).map(drop)
}

fn back_up(world: &World) -> Vec<u8> {
    world.registry().back_up_header(&volume("db")).expect("there is one").bytes
}

fn restore(world: &World, backup: &[u8], rollback: Rollback) -> Result<(), envol::attach::AttachError> {
    world.registry().restore_header(&caller(), &volume("db"), backup, rollback).map(drop)
}

fn damage(world: &World) {
    let path = world.backing("db");
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[200..240].fill(0xe5);
    bytes[(512 << 10) + 200..][..40].fill(0xe5);
    std::fs::write(path, bytes).expect("writable");
}

#[test]
fn a_volume_is_put_under_another_key_attached_or_not_and_reads_as_before() {
    for attached in [false, true] {
        let mut world = World::new();
        world.create("db");
        world.attach("db").expect("attached");
        world.write("db", 7);
        if !attached {
            world.detach("db").expect("detached");
        }
        let before = world.show("db").record;
        rewrap(&world).expect("sealed anew");
        let after = world.show("db").record;
        assert!(after.key.as_str().ends_with("alias-new"), "{}", after.key);
        assert_eq!((after.fingerprint, after.generation), (before.fingerprint, before.generation + 1));
        assert_eq!(world.last_event(), ("rewrapVolume".into(), "rewrapped".into(), String::new()));
        if attached {
            world.write("db", 8);
            world.detach("db").expect("detached");
            let told = world.events().pop().expect("an event")["resources"].to_string();
            assert!(told.contains(after.key.as_str()), "{told}");
        }
        world.restart();
        world.attach("db").expect("it opens under the new key");
        assert_eq!(world.read("db"), vec![if attached { 8 } else { 7 }; 8192]);
    }
}

#[test]
fn a_new_seal_that_does_not_hold_the_volumes_data_key_is_never_written() {
    let world = World::new();
    world.create("db");
    let before = std::fs::read(world.backing("db")).expect("readable");
    world.kms.next([Act::Answer, Act::Give([9; 64])]);
    assert_eq!(rewrap(&world).expect_err("another data key").code(), "attach.kms.bad_answer");
    world.kms.next([Act::Answer, Act::WrongKey]);
    assert_eq!(rewrap(&world).expect_err("another key answered").exit_code(), 7);
    let error = |exception: &str| KmsError::Refused { exception: exception.into(), message: "there is none".into() };
    world.kms.next([Act::Fail(error("NotFoundException"))]);
    assert_eq!(rewrap(&world).expect_err("no such key").exit_code(), 3);
    world.kms.next([Act::Fail(error("DisabledException"))]);
    assert_eq!(rewrap(&world).expect_err("the key is disabled").exit_code(), 5);
    assert_eq!(world.last_event(), ("rewrapVolume".into(), "failed".into(), "there is none".into()));
    assert_eq!(std::fs::read(world.backing("db")).expect("readable"), before);
    world.attach("db").expect("as before");
}

#[test]
fn a_volume_that_is_attached_read_only_is_not_sealed_anew() {
    let world = World::new();
    world.create("db");
    let options = envol::attach::AttachOptions { read_only: true, ..WRITABLE };
    world.registry().attach(&caller(), &volume("db"), options).expect("attached");
    assert_eq!(rewrap(&world).expect_err("it is read-only").exit_code(), 8);
}

#[test]
fn a_header_that_was_kept_opens_a_volume_whose_copies_are_both_damaged() {
    let world = World::new();
    world.create("db");
    world.attach("db").expect("attached");
    let backup = back_up(&world);
    world.write("db", 7);
    world.detach("db").expect("detached");
    damage(&world);
    let refused = world.attach("db").expect_err("no copy is whole");
    assert_eq!((refused.exit_code(), refused.code()), (7, "volume.damaged"));
    assert!(refused.remedy().contains("volume header restore db"), "{}", refused.remedy());
    restore(&world, &backup, Rollback::Refuse).expect("it is the newest there was");
    assert_eq!(world.last_event(), ("restoreHeader".into(), "restored".into(), String::new()));
    world.attach("db").expect("opens");
    assert_eq!(world.read("db"), vec![7; 8192]);
}

#[test]
fn an_older_header_is_a_rollback_and_one_of_another_volume_or_key_is_refused_whatever_is_accepted() {
    let world = World::new();
    world.create("db");
    world.create("other");
    let backup = back_up(&world);
    world.attach("db").expect("attached");
    assert_eq!(restore(&world, &backup, Rollback::Refuse).expect_err("attached").exit_code(), 4);
    world.detach("db").expect("detached");
    let older = restore(&world, &backup, Rollback::Refuse).expect_err("older than recorded");
    assert_eq!((older.exit_code(), older.code()), (7, "volume.rollback"));
    restore(&world, &backup, Rollback::Accept).expect("accepted");
    let told = |event: &serde_json::Value| event["detail"]["event"] == "acceptRollback";
    assert!(world.events().iter().any(told), "what is accepted is recorded");
    world.attach("db").expect("no alarm afterwards");
    world.detach("db").expect("detached");

    let others = world.registry().back_up_header(&volume("other")).expect("there is one").bytes;
    assert_eq!(restore(&world, &others, Rollback::Accept).expect_err("another's").code(), "volume.another");
    let noise = restore(&world, b"noise", Rollback::Accept).expect_err("no header");
    assert_eq!((noise.exit_code(), noise.code()), (7, "volume.bad_backup"));
    let mut forged = backup.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert_eq!(restore(&world, &forged, Rollback::Accept).expect_err("its MAC is wrong").code(), "volume.damaged");

    rewrap(&world).expect("sealed anew");
    let old_key = restore(&world, &backup, Rollback::Accept).expect_err("it names the old key");
    assert_eq!(old_key.code(), "volume.foreign_key");
    world.attach("db").expect("as it was");
}

#[test]
fn a_rewrap_that_did_not_come_to_the_record_is_accepted_and_told() {
    let mut world = World::new();
    world.create("db");
    let records = world.settings.state_dir.join("records");
    let path = std::fs::read_dir(records).expect("readable").next().expect("one").expect("an entry").path();
    let before = std::fs::read(&path).expect("readable");
    rewrap(&world).expect("sealed anew");
    std::fs::write(&path, before).expect("writable");
    world.restart();
    world.attach("db").expect("the header is ahead");
    let events = world.events();
    let told = |event: &serde_json::Value| event["detail"]["event"] == "acceptRewrap";
    assert!(events.iter().any(told), "{events:?}");
}
