//! The last use of keys over restarts: from the store as far as that goes, and from the log behind it.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use envol::kms::embedded::{Embedded, KeyMetadata, LastUse, Region, SignedRequest};
use envol::kms::{EncryptionContext, KeyName, Principal};
use envol::limits;

use crate::kill::strace_is_there;
use crate::world::{World, caller};

/// The test that carries the script out where [`PLACE`] is set.
const SCRIPT: &str = "last_use::a_store_that_takes_no_last_uses_fails_no_call_whose_record_says_that_it_succeeded";
const PLACE: &str = "ENVOL_TEST_LAST_USE_PLACE";

fn used(kms: &Embedded) -> KeyName {
    let key: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    kms.encrypt(&caller(), &key, b"text", &EncryptionContext::default()).expect("sealed");
    key
}

fn last(kms: &Embedded, key: &KeyName) -> Option<LastUse> {
    kms.key_last_usage(&caller(), key).expect("told").last
}

/// Has the log grow by as much as is read at an opening: by its last line, again and again.
fn grow(world: &World) {
    let path = world.dir().join("audit.ndjson");
    let log = fs::read_to_string(&path).expect("there");
    let line = format!("{}\n", log.lines().last().expect("a line"));
    let times = usize::try_from(limits::AUDIT_LOG_REREAD_MAX).expect("small") / line.len() + 1;
    let mut log = OpenOptions::new().append(true).open(path).expect("there");
    log.write_all(line.repeat(times).as_bytes()).expect("written");
}

/// Makes the log so far unreadable, in its place.
fn blot_out(world: &World) {
    let path = world.dir().join("audit.ndjson");
    let length = fs::metadata(&path).expect("there").len();
    let mut blank = vec![b' '; usize::try_from(length).expect("small")];
    *blank.last_mut().expect("not empty") = b'\n';
    fs::write(path, blank).expect("written");
}

fn abroad(home: &Arc<Embedded>) -> Arc<Embedded> {
    let request = SignedRequest::new(Principal::root("000000000000"), "AKID".to_owned());
    home.in_region(&Region::named("eu-west-1").expect("a region"), &request, "ListKeys").expect("opens")
}

#[test]
fn when_the_log_has_grown_the_last_uses_are_in_the_store_those_of_other_regions_too() {
    let world = World::new();
    let home = Arc::new(world.open());
    let (here, there) = (used(&home), used(&abroad(&home)));
    home.list_keys(&caller()).expect("listed");
    let expected = (last(&home, &here), last(&abroad(&home), &there));
    assert!(expected.0.is_some() && expected.1.is_some() && expected.0 != expected.1);
    drop(home);
    grow(&world);
    // No use of a key: lines alone are enough.
    world.open().list_keys(&caller()).expect("listed");
    blot_out(&world);
    let home = Arc::new(world.open());
    assert_eq!((last(&home, &here), last(&abroad(&home), &there)), expected);
}

#[test]
fn the_last_use_in_another_region_is_known_although_nobody_asked_for_it_in_between() {
    let world = World::new();
    let home = Arc::new(world.open());
    let there = used(&abroad(&home));
    let expected = last(&abroad(&home), &there);
    drop(home);
    for _ in 0..2 {
        world.open().list_keys(&caller()).expect("listed");
    }
    let home = Arc::new(world.open());
    assert!(expected.is_some());
    assert_eq!(last(&abroad(&home), &there), expected);
}

#[test]
fn of_a_key_that_is_gone_nothing_is_kept() {
    let world = World::new();
    let kms = world.open();
    let gone = used(&kms);
    let KeyMetadata { key_id, .. } = kms.schedule_key_deletion(&caller(), &gone, 7).expect("scheduled");
    world.pass_days(7);
    kms.list_keys(&caller()).expect("listed");
    drop(kms);
    grow(&world);
    world.open().list_keys(&caller()).expect("listed");
    let store = fs::read(world.dir().join("keys.redb")).expect("there");
    let used = format!("\"event\":\"{}\"", world.audit()[1]["eventID"].as_str().expect("an id"));
    assert!(!store.windows(used.len()).any(|window| window == used.as_bytes()), "{key_id}");
}

/// Opens the KMS in `place`, should that succeed, and makes one call.
fn carry_out_script(place: &Path) {
    let Ok(kms) = World::at(place).try_open() else { return };
    let said = kms.list_keys(&caller()).map_or_else(|error| error.to_string(), |_| "ok".to_owned());
    std::io::stdout().write_all(format!("\nSAID {said}\n").as_bytes()).expect("written");
}

#[test]
fn a_store_that_takes_no_last_uses_fails_no_call_whose_record_says_that_it_succeeded() {
    if let Some(place) = env::var_os(PLACE) {
        return carry_out_script(Path::new(&place));
    }
    if !strace_is_there() {
        return;
    }
    let mut hindered = 0;
    for write in 1..=6 {
        let world = World::new();
        used(&world.open());
        grow(&world);
        let trace = world.place.path().join("trace");
        let output = Command::new("strace")
            .args(["-f", "-qq", "-e", "trace=pwrite64", "-e", &format!("inject=pwrite64:error=ENOSPC:when={write}+")])
            .arg("-P")
            .arg(world.dir().join("keys.redb"))
            .arg("-o")
            .arg(&trace)
            .arg(env::current_exe().expect("this program has a path"))
            .args(["--exact", "--nocapture", "--test-threads=1", SCRIPT])
            .env(PLACE, world.place.path())
            .output()
            .expect("strace runs");
        let said = String::from_utf8_lossy(&output.stdout)
            .lines()
            .find_map(|line| line.strip_prefix("SAID ").map(str::to_owned));
        let Some(said) = said else { continue };
        assert_eq!(said, "ok", "from write {write} on there was no room");
        hindered += usize::from(fs::read_to_string(trace).expect("there").contains("INJECTED"));
    }
    assert!(hindered > 0, "some of the writes are those of the last uses");
}
