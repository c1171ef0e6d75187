//! Which processes there are, what they were left with, and that they end.

use std::fs;
use std::path::Path;

use envol::kms::embedded::OpenError;
use envol::kms::{EncryptionContext, KeyName};

use crate::place::{Place, await_end, caller, is_internal, parent_of, pid_of, signal};
use crate::support::Daemon;

fn line_of(path: &str, starts: &str) -> String {
    let text = fs::read_to_string(path).expect("it runs");
    text.lines().find(|line| line.starts_with(starts)).unwrap_or_else(|| panic!("no {starts} in {text}")).to_owned()
}

/// What the descriptors of a process lead to.
fn descriptors(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    let links = entries.map(|entry| fs::read_link(entry.expect("an entry").path()).expect("a link"));
    links.map(|link| link.to_string_lossy().into_owned()).collect()
}

#[test]
fn the_hsm_is_a_grandchild_of_the_daemon_that_can_open_nothing_and_leaves_no_core() {
    let daemon = Daemon::start();
    let status = daemon.json(["status"]);
    assert_eq!(status["hsm"]["state"], "running");
    let hsm = u32::try_from(status["hsm"]["pid"].as_u64().expect("a process of its own")).expect("an id");
    let parent = parent_of(hsm);
    assert_eq!(parent_of(parent), daemon.pid());
    let own = fs::read_link(format!("/proc/{}/exe", daemon.pid())).expect("it runs");
    // The second thread of the HSM makes RSA keys.
    for (pid, threads) in [(hsm, "2"), (parent, "1")] {
        assert_eq!(fs::read_link(format!("/proc/{pid}/exe")).expect("it runs"), own, "the same program");
        let core = line_of(&format!("/proc/{pid}/limits"), "Max core file size");
        assert_eq!(core.split_whitespace().rev().nth(2), Some("0"), "{core}");
        assert!(line_of(&format!("/proc/{pid}/status"), "NoNewPrivs:").ends_with('1'));
        assert_eq!(line_of(&format!("/proc/{pid}/status"), "Threads:").split_whitespace().last(), Some(threads));
        assert_eq!(fs::read(format!("/proc/{pid}/environ")).expect("readable"), b"", "an empty environment");
    }
    let files = line_of(&format!("/proc/{hsm}/limits"), "Max open files");
    assert_eq!(files.split_whitespace().nth(3), Some("0"), "{files}");
    for thread in fs::read_dir(format!("/proc/{hsm}/task")).expect("it runs") {
        let status = thread.expect("an entry").path().join("status").display().to_string();
        assert!(line_of(&status, "Seccomp:").ends_with('2'), "a filter");
        assert!(line_of(&status, "NoNewPrivs:").ends_with('1'));
    }
    let maps = fs::read_to_string(format!("/proc/{hsm}/smaps")).expect("readable");
    for place in ["[heap]", "[stack]"] {
        let flags = maps.split_once(place).and_then(|(_, behind)| behind.split_once("VmFlags:")).expect("told").1;
        assert!(flags.lines().next().is_some_and(|flags| flags.contains(" lo")), "{place} is not swapped: {flags}");
    }
    let mut open = descriptors(hsm);
    open.retain(|link| !link.starts_with("socket:") && !link.starts_with("pipe:") && link != "/dev/null");
    assert!(open.is_empty(), "the HSM holds {open:?}");
    let front = descriptors(daemon.pid());
    assert!(!front.iter().any(|link| link.contains("domain.key")), "{front:?}");
}

#[test]
fn however_the_front_ends_nothing_of_the_hsm_stays() {
    let mut daemon = Daemon::start();
    for end in [Daemon::kill, |daemon: &mut Daemon| assert!(daemon.terminate().success())] {
        let hsm = u32::try_from(daemon.json(["status"])["hsm"]["pid"].as_u64().expect("a pid")).expect("an id");
        let parent = parent_of(hsm);
        end(&mut daemon);
        await_end(hsm);
        await_end(parent);
        daemon.run();
    }
}

#[test]
fn an_hsm_that_is_stuck_is_killed_and_another_takes_its_place() {
    let place = Place::new();
    let kms = place.open();
    let key: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    let stuck = pid_of(&kms);
    signal(stuck, 19);
    let none = EncryptionContext::default();
    let asked = kms.encrypt(&caller(), &key, b"text", &none).map(|_| ());
    assert!(is_internal(&asked), "{asked:?}");
    kms.encrypt(&caller(), &key, b"text", &none).expect("another HSM answers");
    assert_ne!(pid_of(&kms), stuck);
    assert!(!Path::new(&format!("/proc/{stuck}")).exists());
}

#[test]
fn without_the_parent_the_hsm_that_runs_goes_on_and_no_other_starts() {
    let place = Place::new();
    let kms = place.open();
    let key: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    let none = EncryptionContext::default();
    let hsm = pid_of(&kms);
    let parent = parent_of(hsm);
    signal(parent, 9);
    await_end(parent);
    kms.encrypt(&caller(), &key, b"text", &none).expect("it still runs");
    signal(hsm, 9);
    await_end(hsm);
    for _ in 0..2 {
        let asked = kms.encrypt(&caller(), &key, b"text", &none).map(|_| ());
        assert!(is_internal(&asked), "{asked:?}");
    }
    assert_eq!(kms.list_keys(&caller()).expect("listed").len(), 1);
}

#[test]
fn a_domain_key_that_was_exchanged_or_taken_away_meanwhile_serves_nothing() {
    let place = Place::new();
    let kms = place.open();
    let key: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    let none = EncryptionContext::default();
    let domain_key = fs::read(place.domain_key()).expect("there");
    let ask = |content: Option<&[u8]>| {
        fs::remove_file(place.domain_key()).ok();
        if let Some(content) = content {
            fs::write(place.domain_key(), content).expect("written");
            fs::set_permissions(place.domain_key(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
        }
        if let envol::kms::embedded::HsmState::Running { pid: Some(pid) } = kms.hsm_state() {
            signal(pid, 9);
            await_end(pid);
        }
        kms.encrypt(&caller(), &key, b"text", &none).map(|_| ())
    };
    let exchanged = ask(Some(&[7; 32]));
    assert!(is_internal(&exchanged), "{exchanged:?}");
    let missing = ask(None);
    assert!(is_internal(&missing) && !place.domain_key().exists(), "{missing:?}: no new one is made");
    ask(Some(&domain_key)).expect("it is back");
}

#[test]
fn the_store_without_the_domain_key_opens_nothing() {
    let place = Place::new();
    place.open().create_key(&caller(), "", None).expect("made");
    fs::remove_file(place.domain_key()).expect("removed");
    let error = place.try_open(&place.file()).err().expect("refused");
    assert!(matches!(&error, OpenError::Hsm(_)), "{error:?}");
    assert!(format!("{error}").contains("its domain key"), "{error}");
    assert!(!place.domain_key().exists(), "and none is made that would open none of it");
}

#[test]
fn a_domain_key_that_others_can_read_starts_no_hsm() {
    let place = Place::new();
    drop(place.open());
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(place.domain_key(), std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("ours");
        let error = place.try_open(&place.file()).err().expect("refused").to_string();
        assert!(error.contains("chmod 0600"), "{error}");
    }
    fs::set_permissions(place.domain_key(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
    place.open();
}
