//! What the record is for: nobody who can write a backing makes us open anything but the volume that we remember.

use std::path::Path;

use envol::attach::{AttachError, AttachOptions};
use envol::block::fault::{Rule, Target};
use envol::block::file::{Access, FileDevice};
use envol::crypto::digest::sha256;
use envol::kms::KeyName;
use envol::volume::{self, CreateSpec, Rollback};
use nix::errno::Errno;

use crate::script::Act;
use crate::world::{WRITABLE, World, caller, volume as named};

const HEADER_AREA: usize = 1 << 20;
const COPIES: [usize; 2] = [0, 512 << 10];

fn header_area(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("readable")[..HEADER_AREA].to_vec()
}

fn put_header_area(path: &Path, area: &[u8]) {
    let mut bytes = std::fs::read(path).expect("readable");
    bytes[..HEADER_AREA].copy_from_slice(area);
    std::fs::write(path, bytes).expect("writable");
}

/// The `wrapped_key` text in the body of the header copy at `at`.
fn wrapped_key(area: &[u8], at: usize) -> std::ops::Range<usize> {
    let label = b"\"wrapped_key\": \"";
    let found = area[at..].windows(label.len()).position(|window| window == label).expect("a body names it");
    let start = at + found + label.len();
    let length = area[start..].iter().position(|byte| *byte == b'"').expect("a text ends");
    start..start + length
}

/// Makes the checksum of the copy at `at` hold again, as anybody can.
fn mend_checksum(area: &mut [u8], at: usize) {
    let length = area[at + 12..at + 16].try_into().map(u32::from_le_bytes).expect("four bytes");
    let end = at + 112 + usize::try_from(length).expect("small");
    let sum = sha256(&[&area[at..at + 80], &area[at + 112..end]]);
    area[at + 80..at + 112].copy_from_slice(&sum);
}

#[test]
fn a_header_of_another_volume_is_refused_before_any_kms_is_asked() {
    let world = World::new();
    world.create("one");
    world.create("other");
    let (one, other) = (world.backing("one"), world.backing("other"));
    let own = header_area(&one);
    put_header_area(&one, &header_area(&other));
    let before = world.kms.decrypts();
    let error = world.attach("one").expect_err("another volume's header");
    assert_eq!((error.exit_code(), error.code()), (7, "volume.another"));
    assert_eq!(world.kms.decrypts(), before);
    put_header_area(&one, &own);
    world.attach("one").expect("its own header opens");
}

#[test]
fn wrapped_keys_swapped_between_two_volumes_are_refused_by_the_kms() {
    let world = World::new();
    world.create("one");
    world.create("other");
    let (one, other) = (world.backing("one"), world.backing("other"));
    let (mut area, donor) = (header_area(&one), header_area(&other));
    for at in COPIES {
        let (into, from) = (wrapped_key(&area, at), wrapped_key(&donor, at));
        area[into].copy_from_slice(&donor[from]);
        mend_checksum(&mut area, at);
    }
    put_header_area(&one, &area);
    let error = world.attach("one").expect_err("the context does not fit");
    assert_eq!((error.exit_code(), error.code()), (5, "attach.kms.invalid_ciphertext"));
}

#[test]
fn a_valid_header_under_somebody_elses_key_is_refused_by_the_record() {
    let world = World::new();
    let record = world.create("db").record;
    let path = world.backing("db");
    put_header_area(&path, &vec![0; HEADER_AREA]);
    let forged = CreateSpec {
        id: record.id.clone(),
        name: record.name.clone(),
        size: record.size,
        sector_size: record.sector_size,
        scope: envol::units::ByteCount::new(1 << 40),
        thick: false,
        kms: "other".into(),
        key: KeyName::new("alias/attacker"),
    };
    let device = FileDevice::open(&path, Access::ReadWrite).expect("opens");
    volume::create(&device, &*world.other, &caller(), &forged, &mut |_, _| true).expect("forged");
    drop(device);
    let error = world.attach("db").expect_err("not the key that is remembered");
    assert_eq!((error.exit_code(), error.code()), (7, "volume.foreign_key"));
    let rollback = AttachOptions { rollback: Rollback::Accept, ..WRITABLE };
    let error = world.registry().attach(&caller(), &named("db"), rollback).expect_err("nor with --accept-rollback");
    assert_eq!(error.code(), "volume.foreign_key");
}

#[test]
fn an_older_header_is_refused_until_the_operator_accepts_it() {
    let world = World::new();
    world.create("db");
    let path = world.backing("db");
    let older = header_area(&path);
    world.attach("db").expect("attached");
    world.write("db", 5);
    world.detach("db").expect("detached");
    put_header_area(&path, &older);
    let error = world.attach("db").expect_err("older than remembered");
    assert_eq!((error.exit_code(), error.code()), (7, "volume.rollback"));
    assert!(error.remedy().contains("--accept-rollback"));
    let accepting = AttachOptions { rollback: Rollback::Accept, ..WRITABLE };
    world.registry().attach(&caller(), &named("db"), accepting).expect("accepted");
    assert_eq!(world.read("db"), [5; 8192]);
    world.detach("db").expect("detached");
    world.attach("db").expect("what was accepted is remembered");
}

#[test]
fn a_header_ahead_of_its_record_is_accepted() {
    let world = World::new();
    let record = world.create("db").record;
    let file = world.settings.state_dir.join("records").join(format!("{}.json", record.id));
    let before = std::fs::read(&file).expect("readable");
    let mut world = world;
    world.attach("db").expect("attached");
    world.detach("db").expect("detached");
    world.crash();
    std::fs::write(&file, before).expect("writable");
    world.start();
    world.attach("db").expect("the crash came between header and record");
}

/// Attaches or adds with a disk whose syncs fail; the error.
fn while_no_sync_succeeds(world: &World, ask: impl FnOnce() -> AttachError + Send) -> AttachError {
    world.kms.next([Act::Hang]);
    std::thread::scope(|scope| {
        let asking = scope.spawn(ask);
        world.kms.wait_inside(1);
        world.disk().add(Rule::always(Target::Flush, Errno::EIO));
        world.kms.release();
        asking.join().expect("no panic")
    })
}

#[test]
fn a_header_is_recorded_only_once_it_is_synced_whoever_wrote_it() {
    let mut world = World::new();
    let record = world.create("db").record;
    let file = world.settings.state_dir.join("records").join(format!("{}.json", record.id));
    let before = std::fs::read(&file).expect("readable");
    world.attach("db").expect("attached");
    world.crash();
    std::fs::write(&file, &before).expect("writable");
    world.start();
    let read_only = AttachOptions { read_only: true, ..WRITABLE };
    let attach = || world.registry().attach(&caller(), &named("db"), read_only);
    let error = while_no_sync_succeeds(&world, || attach().expect_err("a disk that does not sync"));
    assert_eq!((error.exit_code(), error.code()), (8, "storage.failed"));
    assert_eq!(world.show("db").record.generation, record.generation, "nothing is remembered of it");
    attach().expect("now it is synced");
    assert_eq!(world.show("db").record.generation, record.generation + 1);
    world.detach("db").expect("detached");

    world.registry().forget(&named("db")).expect("forgotten");
    let add = || world.registry().add(&caller(), record.backing.clone());
    let error = while_no_sync_succeeds(&world, || add().expect_err("a disk that does not sync"));
    assert_eq!((error.exit_code(), error.code()), (8, "storage.failed"));
    world.registry().show(&named("db")).expect_err("it was not taken in");
    add().expect("now it is synced");
}

#[test]
fn a_volume_is_taken_in_elsewhere_by_its_own_header() {
    let world = World::new();
    let record = world.create("db").record;
    world.registry().forget(&named("db")).expect("forgotten");
    world.registry().show(&named("db")).expect_err("unknown now");
    let seen = world.registry().inspect(record.backing.clone()).expect("a header");
    assert_eq!((&seen.id, &seen.key), (&record.id, &record.key));
    let added = world.registry().add(&caller(), record.backing.clone()).expect("taken in");
    assert_eq!(added.record.fingerprint, record.fingerprint);
    let again = world.registry().add(&caller(), record.backing).expect_err("known already");
    assert_eq!((again.exit_code(), again.code()), (4, "volume.exists"));
    world.attach("db").expect("attached");
}
