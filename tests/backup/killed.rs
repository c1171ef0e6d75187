//! A backup or a restore that is killed at each of its storage calls, or whose disk is full: all of it is there, or nothing that
//! could be taken for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::safe::{Safe, code, error, member, names};
use crate::support::{Daemon, have};

/// The calls that change what lies on a disk.
const CALLS: &str = "mkdir,openat,write,fsync,rename,renameat2,link,linkat,unlink,unlinkat,rmdir";

/// How often a command makes each of these calls, below `place`, and what they are in order.
fn calls(safe: &Safe, what: &str, state_dir: &Path, place: &Path) -> (BTreeMap<String, usize>, Vec<String>) {
    let trace = safe.path("trace");
    let under = ["strace", "-qq", "-y", "-o", trace.to_str().expect("text"), "-e", &format!("trace={CALLS}")];
    let done = safe.command(&under, what, state_dir).output().expect("starts");
    assert_eq!(code(&done), 0, "{done:?}");
    let text = fs::read_to_string(&trace).expect("traced");
    fs::remove_file(&trace).expect("there");
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        *counts.entry(line.split('(').next().expect("a name").to_owned()).or_insert(0) += 1;
    }
    let place = place.to_str().expect("text").trim_end_matches('/');
    (counts, text.lines().filter(|line| line.contains(place)).map(ToOwned::to_owned).collect())
}

/// Every call that can be met, and the ordinal at which a process is killed when it makes it; of many writes and openings, the
/// first and the last.
fn moments(counts: &BTreeMap<String, usize>) -> Vec<(&str, usize)> {
    let all = counts.iter().flat_map(|(call, count)| (1..=*count).map(move |nth| (call.as_str(), nth, *count)));
    let few = |(call, nth, count): &(&str, usize, usize)| match *call {
        "write" => *nth <= 2 || *nth + 4 > *count,
        "openat" => *nth + 12 > *count,
        _ => true,
    };
    all.filter(few).map(|(call, nth, _)| (call, nth)).collect()
}

fn killed_at(safe: &Safe, what: &str, state_dir: &Path, (call, nth): (&str, usize)) {
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    let under = ["strace", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject];
    let ended = safe.command(&under, what, state_dir).output().expect("starts");
    assert_ne!(ended.status.code(), Some(0), "it was killed at {call} {nth}");
}

/// What a daemon makes of a state directory.
enum Started {
    Serving(Child),
    Refused(i32, String),
}

impl Started {
    fn on(safe: &Safe, state_dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_envol"));
        command.args(["daemon", "--json", "--state-dir"]).arg(state_dir).arg("--socket").arg(safe.path("control.sock"));
        let mut child = command.stderr(Stdio::piped()).spawn().expect("starts");
        loop {
            if let Some(status) = child.try_wait().expect("a child of ours") {
                let said = std::io::read_to_string(child.stderr.take().expect("piped")).expect("text");
                return Self::Refused(status.code().expect("it ended by itself"), said);
            }
            let asked = Self::envol(safe, &["status"]);
            if asked.status.success() {
                return Self::Serving(child);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn envol(safe: &Safe, words: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_envol"));
        command.args(words).arg("--socket").arg(safe.path("control.sock")).output().expect("starts")
    }
}

/// The bytes of the domain key and of the store.
fn content(state_dir: &Path) -> (Vec<u8>, Vec<u8>) {
    let read = |name: &str| fs::read(state_dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    (read("domain.key"), read("kms/keys.redb"))
}

#[test]
fn a_restore_that_is_killed_at_any_moment_is_whole_or_refused_by_the_daemon_and_can_be_done_again() {
    if !have(&["strace"]) {
        return;
    }
    let (safe, daemon) = (Safe::new(), Daemon::start());
    let key = member(&daemon.json(["key", "create"]), "key_id").to_owned();
    daemon.json(safe.words("backup"));
    drop(daemon);
    let whole = safe.path("whole");
    let (counts, _) = calls(&safe, "restore", &whole, &whole);
    let expected = content(&whole);
    let (mut interrupted, mut complete) = (0, 0);
    for moment in moments(&counts) {
        let state_dir = safe.path("state");
        killed_at(&safe, "restore", &state_dir, moment);
        let untouched = !state_dir.exists() || names(&state_dir).iter().all(|name| name == "lock");
        if !untouched {
            match Started::on(&safe, &state_dir) {
                Started::Serving(mut child) => {
                    let shown = Started::envol(&safe, &["key", "show", &key]);
                    child.kill().expect("a child of ours");
                    child.wait().expect("a child of ours");
                    assert!(shown.status.success(), "an empty KMS serves after a kill at {moment:?}: {shown:?}");
                    complete += 1;
                }
                Started::Refused(code, said) => {
                    assert_eq!(code, 4, "{moment:?}: {said}");
                    assert!(said.contains("kms.interrupted_restore") && said.contains("kms restore again"), "{said}");
                    interrupted += 1;
                    let refused = safe.command(&[], "backup", &state_dir).output().expect("starts");
                    assert_eq!(self::code(&refused), 4, "it is not backed up, either: {refused:?}");
                    let again = safe.restore(&state_dir);
                    assert_eq!(self::code(&again), 0, "{moment:?}: {again:?}");
                    assert!(content(&state_dir) == expected, "{moment:?}");
                    assert_eq!(names(&state_dir), ["domain.key", "kms", "lock"], "{moment:?}");
                }
            }
        }
        let _ = fs::remove_dir_all(&state_dir);
    }
    assert!(interrupted >= 8 && complete >= 1, "{interrupted} {complete} of {counts:?}");
}

#[test]
fn a_backup_that_is_killed_at_any_moment_has_no_name_before_it_is_whole() {
    if !have(&["strace"]) {
        return;
    }
    let (safe, mut daemon) = (Safe::new(), Daemon::start());
    daemon.json(["key", "create"]);
    daemon.terminate();
    let state_dir = daemon.path().join("state");
    let (counts, order) = calls(&safe, "backup", &state_dir, &safe.path(""));
    let at = |call: &str| order.iter().position(|line| line.starts_with(call)).unwrap_or_else(|| panic!("{order:#?}"));
    let last_sync = order.iter().rposition(|line| line.starts_with("fsync(")).expect("synced");
    assert!(at("fsync(") < at("link") && at("link") < last_sync, "{order:#?}");
    let whole = fs::metadata(safe.path("kms.backup")).expect("there").len();
    fs::remove_file(safe.path("kms.backup")).expect("there");
    for moment in moments(&counts) {
        killed_at(&safe, "backup", &state_dir, moment);
        let found = fs::metadata(safe.path("kms.backup")).map(|facts| facts.len());
        assert!(found.as_ref().map_or(true, |length| *length == whole), "{moment:?}: {found:?}");
        for name in names(&safe.path("")).iter().filter(|name| *name != "passphrase") {
            assert!(name == "kms.backup" || name.ends_with(".unfinished"), "{name}");
            fs::remove_file(safe.path(name)).expect("there");
        }
    }
    assert_eq!(code(&safe.back_up(&state_dir)), 0);
}

/// The command `what`, which can write no file further than 16 KiB, as on a disk that is full.
fn on_a_full_disk(safe: &Safe, what: &str, state_dir: &Path) -> Output {
    // The limit is one on memory that is a file, too.
    safe.write("envol.toml", b"key_memory = \"mlock\"\n");
    let under = ["sh", "-c", "trap '' XFSZ; exec prlimit --fsize=16384 \"$@\"", "sh"];
    let mut command = safe.command(&under, what, state_dir);
    let output = command.arg("--config").arg(safe.path("envol.toml")).output().expect("starts");
    fs::remove_file(safe.path("envol.toml")).expect("there");
    output
}

#[test]
fn where_the_disk_is_full_nothing_is_left() {
    if !have(&["prlimit"]) {
        return;
    }
    let (safe, mut daemon) = (Safe::new(), Daemon::start());
    daemon.json(["key", "create"]);
    daemon.terminate();
    let state_dir = daemon.path().join("state");
    let before = names(&state_dir);
    let refused = on_a_full_disk(&safe, "backup", &state_dir);
    assert_eq!(code(&refused), 8, "{refused:?}");
    assert_eq!(names(&safe.path("")), ["passphrase"]);
    assert_eq!(names(&state_dir), before);
    assert_eq!(code(&safe.back_up(&state_dir)), 0);
    let place: PathBuf = safe.path("state");
    let refused = on_a_full_disk(&safe, "restore", &place);
    assert_eq!(code(&refused), 8, "{refused:?}");
    assert!(member(&error(&refused), "message").contains("keys.redb"), "the file that failed is named: {refused:?}");
    assert_eq!(names(&place), ["lock"]);
    assert_eq!(code(&safe.restore(&place)), 0);
}
