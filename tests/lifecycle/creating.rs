//! Volumes made, and refused to be made: whatever fails, nothing is left behind.

use std::path::PathBuf;

use envol::attach::CreateRequest;
use envol::block::fault::{Rule, Target};
use envol::units::{ByteCount, SectorSize};
use nix::errno::Errno;

use crate::script::{refusal, unreachable};
use crate::world::{SIZE, World, caller, request, volume};

fn on(name: &str, backing: PathBuf) -> CreateRequest {
    CreateRequest { backing: Some(backing), ..request(name) }
}

#[test]
fn a_volume_that_cannot_be_made_leaves_nothing() {
    let world = World::new();
    world.kms.next([refusal("DisabledException", "it is disabled.")]);
    let error = world.create_as(request("db")).expect_err("refused");
    assert_eq!((error.exit_code(), error.code()), (5, "attach.kms.disabled"));
    assert_eq!(world.last_event(), ("createVolume".into(), "failed".into(), "it is disabled.".into()));
    let stopped = world.registry().create(&caller(), CreateRequest { thick: true, ..request("db") }, &mut |_, _| false);
    assert_eq!(stopped.expect_err("stopped").code(), "volume.stopped");
    for file in ["volumes", "records"] {
        let left = std::fs::read_dir(world.settings.state_dir.join(file)).expect("readable").count();
        assert_eq!(left, 0, "{file}");
    }
    world.create("db");
}

#[test]
fn a_name_is_taken_once() {
    let world = World::new();
    world.create("db");
    let before = world.kms.generates();
    let error = world.create_as(request("db")).expect_err("taken");
    assert_eq!((error.exit_code(), error.code()), (4, "volume.exists"));
    assert_eq!(world.kms.generates(), before, "no KMS is asked");
}

#[test]
fn what_cannot_be_is_refused_before_a_file_is_made() {
    let world = World::new();
    let cases = [
        (CreateRequest { size: None, ..request("db") }, 2, "volume.size_missing"),
        (CreateRequest { size: Some(ByteCount::ZERO), ..request("db") }, 2, "volume.shape"),
        (CreateRequest { size: Some(ByteCount::new(u64::MAX)), ..request("db") }, 2, "volume.shape"),
        (CreateRequest { size: Some(ByteCount::new(4097)), ..request("db") }, 2, "volume.shape"),
        (CreateRequest { scope: ByteCount::new(12345), ..request("db") }, 2, "volume.shape"),
        (CreateRequest { kms: Some("nowhere".into()), ..request("db") }, 2, "kms.not_configured"),
        (on("db", PathBuf::from("/etc/envol-test-volume")), 9, "backing.outside"),
        (on("db", world.dir.path().join("state/kms")), 9, "backing.outside"),
        (on("db", PathBuf::from("relative")), 2, "backing.bad_path"),
    ];
    for (request, exit_code, code) in cases {
        let what = format!("{request:?}");
        let error = world.create_as(request).expect_err(&what);
        assert_eq!((error.exit_code(), error.code()), (exit_code, code), "{what}");
    }
    let outside = world.create_as(on("db", "/etc/envol-test-volume".into())).expect_err("outside");
    assert!(outside.remedy().contains("volume_dirs"));
    assert_eq!(std::fs::read_dir(world.settings.state_dir.join("volumes")).expect("readable").count(), 0);
    assert_eq!(world.kms.generates(), 0);
}

#[test]
fn a_file_is_made_where_it_is_asked_for_and_removed_with_the_volume() {
    let world = World::new();
    let path = world.dir.path().join("disks/new");
    let view = world.create_as(on("db", path.clone())).expect("created");
    assert!(view.record.made_by_envol);
    assert_eq!(path.metadata().expect("made").len(), SIZE + (1 << 20));
    world.registry().delete(&caller(), &volume("db")).expect("deleted");
    assert!(!path.exists());
}

#[test]
fn an_existing_file_is_emptied_and_outlives_the_volume() {
    let world = World::new();
    let path = world.dir.path().join("disks/old");
    std::fs::write(&path, vec![7; 3 << 20]).expect("made");
    let error = world.create_as(on("db", path.clone())).expect_err("it holds data");
    assert_eq!((error.exit_code(), error.code()), (4, "backing.holds_data"));
    assert_eq!(std::fs::read(&path).expect("readable"), vec![7; 3 << 20], "and is left as it was");
    let forced = CreateRequest { size: None, force: true, ..on("db", path.clone()) };
    let view = world.create_as(forced).expect("forced");
    assert_eq!(view.record.size.get(), 2 << 20, "all that the file holds");
    world.attach("db").expect("attached");
    assert_eq!(world.read("db"), [0; 8192], "old bytes do not shine through");
    world.detach("db").expect("detached");
    let error = world.create_as(CreateRequest { force: true, ..on("second", path.clone()) }).expect_err("a volume");
    assert_eq!((error.exit_code(), error.code()), (4, "backing.holds_volume"));
    world.registry().delete(&caller(), &volume("db")).expect("deleted");
    assert!(path.exists(), "envol did not make it");
    world.create_as(CreateRequest { force: true, ..on("third", path) }).expect("the old volume is gone from it");
}

#[test]
fn an_empty_file_grows_to_its_volume() {
    let world = World::new();
    let path = world.dir.path().join("disks/empty");
    std::fs::write(&path, b"").expect("made");
    let view = world.create_as(on("db", path.clone())).expect("created");
    assert!(!view.record.made_by_envol);
    assert_eq!(path.metadata().expect("there").len(), SIZE + (1 << 20));
    world.attach("db").expect("attached");
}

#[test]
fn a_disk_that_fails_at_create_leaves_no_volume() {
    let world = World::new();
    let path = world.dir.path().join("disks/disk");
    std::fs::write(&path, b"").expect("made");
    world.kms.next([unreachable(), unreachable()]);
    let disks = world.disks.clone();
    std::thread::scope(|scope| {
        let create = scope.spawn(|| world.create_as(on("db", path.clone())));
        crate::world::eventually("the disk is open", || {
            disks.lock().expect("no panic").last().is_some_and(|disk| disk.strong_count() > 0)
        });
        world.disk().add(Rule::always(Target::Write, Errno::EIO));
        let error = create.join().expect("no panic").expect_err("the disk fails");
        assert_eq!((error.exit_code(), error.code()), (8, "storage.failed"));
    });
    assert!(world.registry().list().is_empty());
    world.create_as(on("db", path)).expect("a disk that works holds no header");
}

#[test]
fn a_volume_that_cannot_be_recorded_leaves_no_header_on_an_existing_backing() {
    let world = World::new();
    let path = world.dir.path().join("disks/disk");
    std::fs::write(&path, b"").expect("made");
    let records = world.settings.state_dir.join("records");
    std::fs::remove_dir(&records).expect("it is empty");
    let error = world.create_as(on("db", path.clone())).expect_err("no record can be written");
    assert_eq!((error.exit_code(), error.code()), (8, "state.failed"));
    std::fs::create_dir(&records).expect("made");
    world.create_as(on("db", path)).expect("as if nothing had been");
}

#[test]
fn both_sector_sizes_and_thick_volumes_read_as_zeros_at_birth_and_keep_what_is_written() {
    let world = World::new();
    for (name, sector_size, thick) in
        [("a", SectorSize::B512, false), ("b", SectorSize::B512, true), ("c", SectorSize::B4096, true)]
    {
        let mut steps = 0;
        let request = CreateRequest { sector_size, thick, ..request(name) };
        let mut progress = |_, _| {
            steps += 1;
            true
        };
        let view = world.registry().create(&caller(), request, &mut progress).expect("created");
        assert_eq!(view.header.expect("readable").thick, thick);
        assert_eq!(steps > 0, thick, "only a thick one takes long");
        world.attach(name).expect("attached");
        assert_eq!(world.read(name), [0; 8192]);
        world.write(name, 2);
        world.detach(name).expect("detached");
        world.attach(name).expect("attached");
        assert_eq!(world.read(name), [2; 8192]);
    }
}

#[test]
fn a_filled_volume_has_no_holes_and_reads_as_before() {
    let world = World::new();
    world.create("db");
    world.attach("db").expect("attached");
    world.write("db", 5);
    world.detach("db").expect("detached");
    let stopped = world.registry().fill(&caller(), &volume("db"), &mut |_, _| false);
    assert_eq!(stopped.expect_err("stopped").code(), "volume.stopped");
    let filled = world.registry().fill(&caller(), &volume("db"), &mut |_, _| true).expect("filled");
    assert!(filled.allocated.expect("a file").get() >= SIZE);
    let bytes = std::fs::read(world.backing("db")).expect("readable");
    assert!(bytes[1 << 20..].chunks(512).all(|piece| piece.iter().any(|byte| *byte != 0)));
    world.attach("db").expect("attached");
    assert_eq!(world.read("db"), [5; 8192]);
}

#[test]
fn delete_leaves_alone_what_is_not_the_volume() {
    let world = World::new();
    world.create("db");
    world.create("other");
    std::fs::copy(world.backing("other"), world.backing("db")).expect("replaced");
    let error = world.registry().delete(&caller(), &volume("db")).expect_err("another volume lies there");
    assert_eq!((error.exit_code(), error.code()), (7, "volume.another"));
    let (event, result, cause) = world.last_event();
    assert_eq!((event.as_str(), result.as_str(), cause), ("deleteVolume", "failed", error.cause()));
    assert!(world.backing("db").exists());
    world.registry().forget(&volume("db")).expect("forgotten");
}

#[test]
fn one_volume_too_many_is_refused_before_the_kms_is_asked() {
    let mut world = World::new();
    let record = world.create("first").record;
    world.crash();
    let records = world.settings.state_dir.join("records");
    let text = std::fs::read_to_string(records.join(format!("{}.json", record.id))).expect("readable");
    for number in 1..envol::limits::VOLUMES_MAX {
        let id = format!("vol-{number:017x}");
        let copy = text.replace(record.id.as_str(), &id).replace("\"first\"", &format!("\"v{number}\""));
        std::fs::write(records.join(format!("{id}.json")), copy).expect("writable");
    }
    world.start();
    let before = world.kms.generates();
    let error = world.create_as(request("last")).expect_err("too many");
    assert_eq!((error.exit_code(), error.code()), (4, "volume.too_many"));
    assert_eq!(world.kms.generates(), before);
    world.registry().forget(&volume("v1")).expect("forgotten");
    world.create("last");
}
