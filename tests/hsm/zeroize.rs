//! `envol kms zeroize`: no key is left, nothing opens, attached volumes do not notice, and how it is initialised again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use envol::kms::KmsError;
use envol::kms::Principal;
use envol::kms::embedded::HsmState;
use envol::nbd::client::Client as NbdClient;
use serde_json::Value;

use crate::memory::{hits, readable_keys, root_material};
use crate::place::{Place, await_end, caller, is_internal, parent_of, pid_of, signal};
use crate::support::Daemon;

fn hsm_of(daemon: &Daemon) -> Value {
    daemon.json(["status"])["hsm"].clone()
}

fn put_back(path: &Path, key: &[u8]) {
    fs::write(path, key).expect("written");
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("ours");
}

/// Every file below `place`.
fn files(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn holds(path: &Path, needle: &[u8]) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
}

#[test]
fn zeroized_the_kms_opens_nothing_until_the_domain_key_is_back_and_attached_volumes_go_on() {
    // An attach asks a KMS that fails inside again, until its deadline.
    let config = readable_keys("[timings]\nattach_deadline_s = 1\n");
    let mut daemon = Daemon::start_with(&["--config", config.path().to_str().expect("plain text")]);
    let domain_key_file = daemon.path().join("state/domain.key");
    daemon.json(["key", "create", "--alias", "one"]);
    daemon.json(["volume", "create", "other", "--size", "4M", "--key", "alias/one"]);
    daemon.attached("db", "4M", &["--key", "alias/one"]);
    let mut client = NbdClient::connect(&daemon.nbd_socket(), "db").expect("connects");
    client.write_durably(4096, b"before").expect("written");
    let hsm = u32::try_from(hsm_of(&daemon)["pid"].as_u64().expect("a pid")).expect("an id");
    let parent = parent_of(hsm);
    let copy = fs::read(&domain_key_file).expect("there");

    let refused = daemon.envol(["kms", "zeroize"]);
    assert_eq!(refused.status.code(), Some(2), "it asks first");
    assert_eq!(hsm_of(&daemon)["pid"], hsm);

    assert_eq!(daemon.json(["kms", "zeroize", "--yes"])["state"], "zeroized");
    assert!(!Path::new(&format!("/proc/{hsm}")).exists(), "the HSM is gone");
    assert!(!domain_key_file.exists());
    for half in copy.chunks(16) {
        assert_eq!((hits(daemon.pid(), half), hits(parent, half)), (0, 0));
        assert!(!files(&daemon.path().join("state")).iter().any(|file| holds(file, half)));
    }

    let refusal = daemon.refused(6, ["attach", "other"]);
    assert!(refusal["message"].as_str().is_some_and(|text| text.contains("zeroized")), "{refusal}");
    daemon.refused(6, ["key", "create"]);
    daemon.refused(6, ["key", "rotate", "alias/one"]);
    assert_eq!(daemon.json(["key", "show", "alias/one"])["state"], "Enabled", "keys can be looked at");
    client.write_durably(8192, b"after").expect("the attached volume does not notice");
    let mut seen = [0; 6];
    client.read(4096, &mut seen).expect("read");
    assert_eq!(&seen, b"before");
    client.disconnect().expect("closed");
    daemon.detach("db");

    assert!(daemon.terminate().success());
    let roots = root_material(&daemon.path().join("state/kms/keys.redb"), &copy);
    for root in roots.values() {
        assert!(!files(&daemon.path().join("state")).iter().any(|file| holds(file, &root[..16])));
    }
    daemon.run();
    assert_eq!(hsm_of(&daemon)["state"], "zeroized", "over a restart too");
    daemon.refused(6, ["attach", "db"]);
    let absent = daemon.refused(6, ["kms", "initialise"]);
    assert!(absent["message"].as_str().is_some_and(|text| text.contains("domain.key")), "{absent}");
    assert!(!domain_key_file.exists(), "none is made that would open nothing");
    put_back(&domain_key_file, &[7; 32]);
    daemon.refused(6, ["kms", "initialise"]);
    daemon.refused(6, ["attach", "db"]);
    put_back(&domain_key_file, &copy);
    daemon.refused(6, ["attach", "db"]);

    assert_eq!(daemon.json(["kms", "initialise"])["state"], "running");
    daemon.attach("db");
    let mut client = NbdClient::connect(&daemon.nbd_socket(), "db").expect("connects");
    let mut seen = [0; 5];
    client.read(8192, &mut seen).expect("read");
    assert_eq!(&seen, b"after");
    client.disconnect().expect("closed");
    daemon.detach("db");
    assert!(daemon.terminate().success());
    daemon.run();
    assert_eq!(hsm_of(&daemon)["state"], "running");
    let log = fs::read_to_string(daemon.path().join("state/kms/audit.ndjson")).expect("there");
    let named = |name: &str| log.lines().filter(|line| line.contains(&format!("\"eventName\":\"{name}\""))).count();
    assert_eq!((named("ZeroizeHsm"), named("InitialiseHsm")), (1, 3), "{log}");
}

#[test]
fn zeroizing_is_roots_and_needs_neither_a_living_hsm_nor_its_parent() {
    let place = Place::new();
    let kms = place.open();
    kms.create_key(&caller(), "", None).expect("made");
    let stranger = Principal::new("arn:aws:iam::000000000000:user/stranger");
    assert!(
        matches!(kms.zeroize(&stranger), Err(KmsError::Refused { exception, .. }) if exception == "AccessDeniedException")
    );
    assert!(matches!(kms.initialise(&stranger), Err(KmsError::Refused { .. })));
    let hsm = pid_of(&kms);
    signal(hsm, 19);
    kms.zeroize(&caller()).expect("a stopped HSM is killed");
    assert!(!Path::new(&format!("/proc/{hsm}")).exists() && !place.domain_key().exists());
    kms.zeroize(&caller()).expect("once more changes nothing");
    drop(kms);

    let place = Place::new();
    let kms = place.open();
    let hsm = pid_of(&kms);
    let parent = parent_of(hsm);
    signal(parent, 9);
    await_end(parent);
    let outcome = kms.zeroize(&caller());
    assert!(is_internal(&outcome), "the domain key's file is still there: {outcome:?}");
    await_end(hsm);
    assert_eq!(kms.hsm_state(), HsmState::Zeroized);
    assert!(is_internal(&kms.create_key(&caller(), "", None).map(|_| ())));
    drop(kms);
    let kms = place.open();
    assert_eq!(kms.hsm_state(), HsmState::Zeroized);
    kms.zeroize(&caller()).expect("now it is destroyed");
    assert!(!place.domain_key().exists());
}

fn text_of<T: std::fmt::Debug>(outcome: Result<T, KmsError>) -> String {
    outcome.expect_err("fails").to_string()
}

#[test]
fn where_the_disk_fails_it_stays_zeroized_and_nothing_that_stays_behind_is_left_unsaid() {
    let place = Place::new();
    let kms = place.open();
    let copy = fs::read(place.domain_key()).expect("there");
    let mark = place.store().join("zeroized");
    fs::create_dir(&mark).expect("nothing can be written there, nor removed as a file");
    assert!(is_internal(&kms.zeroize(&caller())));
    assert!(!place.domain_key().exists());
    put_back(&place.domain_key(), &copy);
    assert!(is_internal(&kms.initialise(&caller())));
    assert_eq!(kms.hsm_state(), HsmState::Zeroized, "as after a restart");
    fs::remove_dir(&mark).expect("removed");
    kms.initialise(&caller()).expect("initialised");
    fs::create_dir(&mark).expect("made");
    let parent = parent_of(pid_of(&kms));
    signal(parent, 9);
    await_end(parent);
    let both = text_of(kms.zeroize(&caller()));
    assert!(both.contains("parent process is gone") && both.contains("could it be noted"), "{both}");
}
