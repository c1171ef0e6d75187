//! The unit as shipped: what systemd says of its exposure, and that its filter of system calls lets the daemon do all it does.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use envol::control::api::Attachment;
use envol::nbd::client::Client as NbdClient;
use serde_json::json;

use crate::support::{Daemon, envol, has};

const UNIT: &str = include_str!("../../systemd/envol.service");
const UNIX_ONLY: &str = include_str!("../../systemd/unix-only.conf");

fn has_systemd() -> bool {
    has("systemd-analyze", Path::new("/usr/bin/systemd-analyze").exists())
}

/// What `systemd-analyze security` makes of a unit, in tenths.
fn exposure(unit: &str) -> u32 {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("envol.service");
    std::fs::write(&path, unit).expect("written");
    let mut analyze = Command::new("systemd-analyze");
    let output = analyze.args(["security", "--offline=true", "--no-pager"]).arg(path).output().expect("starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find(|line| line.contains("Overall exposure level")).expect("a verdict");
    let level = line.split(": ").nth(1).expect("a number").split(' ').next().expect("a number");
    level.replace('.', "").parse().expect("one digit behind the point")
}

#[test]
fn the_exposure_of_the_unit_is_low_and_lower_without_a_network() {
    if !has_systemd() {
        return;
    }
    let bare = UNIT.lines().filter(|line| !line.starts_with("Protect") && !line.starts_with("SystemCallFilter"));
    assert!(exposure(&bare.collect::<Vec<_>>().join("\n")) > 15, "what is missing shows");
    let (shipped, unix_only) = (exposure(UNIT), exposure(&format!("{UNIT}\n{UNIX_ONLY}")));
    assert!(shipped <= 15, "{shipped} tenths");
    assert!(unix_only <= 5, "{unix_only} tenths");
}

/// The system calls of a group, and of the groups in it.
fn group(name: &str) -> BTreeSet<String> {
    let output = Command::new("systemd-analyze").args(["syscall-filter", "--no-pager", name]).output().expect("starts");
    assert!(output.status.success(), "{name}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let words = text.lines().skip(1).map(str::trim).filter(|word| !word.is_empty() && !word.starts_with('#'));
    words.flat_map(|word| if word.starts_with('@') { group(word) } else { [word.to_owned()].into() }).collect()
}

/// What the unit's lines allow together, each added to or taken from what the ones before it do.
fn allowed() -> BTreeSet<String> {
    let mut allowed = group("@default");
    for line in UNIT.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (taken, words) = line.strip_prefix('~').map_or((false, line), |words| (true, words));
        let calls = words
            .split(' ')
            .flat_map(|word| if word.starts_with('@') { group(word) } else { [word.to_owned()].into() });
        for call in calls {
            if taken {
                allowed.remove(&call)
            } else {
                allowed.insert(call)
            };
        }
    }
    allowed
}

/// The system calls in what `strace -f` wrote.
fn calls(trace: &str) -> BTreeSet<String> {
    let call = |line: &str| {
        let rest = line.trim_start_matches(|character: char| character.is_ascii_digit()).trim_start();
        let name = rest.split_once('(')?.0;
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        is_name.then(|| name.to_owned())
    };
    trace.lines().filter_map(call).collect()
}

#[test]
fn the_filter_of_the_unit_lets_the_daemon_do_all_that_it_does() {
    if !has_systemd() || !has("strace", Path::new("/usr/bin/strace").exists()) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let trace = dir.path().join("trace");
    let own = nix::unistd::Group::from_gid(nix::unistd::getegid()).expect("readable").expect("has a name");
    std::fs::write(dir.path().join("envol.toml"), format!("group = \"{}\"\n", own.name)).expect("written");
    let daemon = Daemon::start_in(dir, |command| {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o"]).arg(&trace).arg(command.get_program()).args(command.get_args());
        strace.arg("--config").arg(trace.with_file_name("envol.toml"));
        *command = strace;
    });
    daemon.volume("db");
    let _: Attachment = daemon.client().send("POST", "/v1/volumes/db/attach", &json!({})).expect("attaches");
    let mut guest = NbdClient::connect(&daemon.nbd_socket(), "db").expect("served");
    guest.write_durably(100, &[7; 100_000]).expect("written");
    guest.read(0, &mut vec![0; 1 << 20]).expect("read");
    guest.trim(0, 1 << 20).expect("trimmed");
    guest.disconnect().expect("leaves");
    for words in [&["detach", "db"][..], &["volume", "delete", "db", "--yes"]] {
        let output = envol().arg("--socket").arg(daemon.socket()).args(words).output().expect("starts");
        assert!(output.status.success(), "{output:?}");
    }
    let pid = daemon.client().get::<envol::control::api::Status>("/v1/status").expect("answers").pid;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process id"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("there");
    let (_, dir) = daemon.ended();

    let made = calls(&std::fs::read_to_string(dir.path().join("trace")).expect("traced"));
    for certain in ["memfd_secret", "landlock_restrict_self", "fdatasync", "execve"] {
        assert!(made.contains(certain), "{certain} was seen: {made:?}");
    }
    let allowed = allowed();
    let refused: Vec<_> = made.difference(&allowed).collect();
    assert!(refused.is_empty(), "the unit refuses {refused:?}");
}
