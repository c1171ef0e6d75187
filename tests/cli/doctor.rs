//! `envol doctor` on the machine that runs the tests: every check is there, and what is wrong is told and named.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::daemon::Daemon;
use super::program::{ENVOL, Said, command, envol_at};
use super::support::have;

const CHECKS: [&str; 16] = [
    "configuration",
    "locked_memory",
    "memfd_secret",
    "swap",
    "landlock",
    "seccomp",
    "io_uring",
    "cipher",
    "clock",
    "nbd_module",
    "open_files",
    "state_dir",
    "space",
    "domain_key",
    "domain_key_place",
    "daemon",
];

/// Runs `envol doctor --json`, with its state and its socket in `place`.
fn doctor(place: &Path, words: &[&str]) -> Said {
    let state = place.join("state");
    let state = state.to_str().expect("text");
    envol_at(&place.join("control.sock"), &[&["doctor", "--json", "--state-dir", state], words].concat())
}

/// The findings of `check`.
fn of<'f>(findings: &'f Value, check: &str) -> Vec<&'f Value> {
    findings.as_array().expect("an array").iter().filter(|finding| finding["check"] == check).collect()
}

fn text<'f>(finding: &'f Value, field: &str) -> &'f str {
    finding[field].as_str().expect("text")
}

#[test]
fn every_check_is_there_and_whatever_is_not_fine_has_a_remedy() {
    let dir = tempfile::tempdir().expect("a directory");
    let said = doctor(dir.path(), &[]);
    let findings = said.document();
    for check in CHECKS {
        assert_eq!(of(&findings, check).len(), 1, "{check}: {findings}");
    }
    let all = findings.as_array().expect("an array");
    assert_eq!(all.len(), CHECKS.len());
    for finding in all {
        assert!(["fine", "limited", "missing"].contains(&text(finding, "state")), "{finding}");
        assert_eq!(finding["state"] == "fine", finding["remedy"].is_null(), "{finding}");
        let lines = [&finding["found"], &finding["remedy"]].map(|line| line.as_str().unwrap_or("-").lines().count());
        assert_eq!(lines, [1, 1], "{finding}");
        assert_eq!(finding.as_object().expect("a document").len(), 4, "{finding}");
    }
    let missing = all.iter().any(|finding| finding["state"] == "missing");
    assert_eq!((said.code, said.stderr.as_str()), (Some(if missing { 2 } else { 0 }), ""));
    assert_eq!(of(&findings, "daemon")[0]["state"], "limited", "none runs");
    assert!(fs::read_dir(dir.path()).expect("readable").next().is_none(), "nothing was made");
}

#[test]
fn people_are_shown_a_table() {
    let dir = tempfile::tempdir().expect("a directory");
    let said =
        envol_at(&dir.path().join("control.sock"), &["doctor", "--state-dir", dir.path().to_str().expect("text")]);
    for check in CHECKS {
        let check = check.replace('_', " ");
        assert!(said.stdout.lines().any(|line| line.starts_with(&check)), "{check}: {}", said.stdout);
    }
    assert!(said.stdout.starts_with("CHECK ") && said.stdout.contains("-> start one: envol daemon"), "{}", said.stdout);
}

#[test]
fn a_domain_key_that_others_can_read_is_told_and_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("state");
    let key = state.join("domain.key");
    fs::create_dir(&state).expect("made");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).expect("ours");
    let secret = "this-is-the-domain-key-of-a-test";
    fs::write(&key, secret).expect("written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("ours");
    let said = doctor(dir.path(), &[]);
    let findings = said.document();
    let found = of(&findings, "domain_key")[0];
    assert_eq!((said.code, text(found, "state")), (Some(2), "missing"));
    assert!(text(found, "found").contains(key.to_str().expect("text")) && text(found, "found").contains("0644"));
    assert!(text(found, "remedy").starts_with("chmod 0600 "), "{found}");
    assert!(!said.stdout.contains(secret));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
    assert_eq!(of(&doctor(dir.path(), &[]).document(), "domain_key")[0]["state"], "fine");
}

#[test]
fn memory_that_cannot_be_locked_is_told() {
    if !have(&["prlimit"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mut limited = Command::new("prlimit");
    limited.args(["--memlock=0:0", "--nofile=32:32", ENVOL, "doctor", "--json"]);
    limited.env("XDG_STATE_HOME", dir.path()).env("ENVOL_SOCKET", dir.path().join("control.sock"));
    if nix::unistd::geteuid().is_root() {
        // Root may lock whatever the limit says.
        limited.uid(65534).gid(65534);
    }
    let output = limited.output().expect("runs");
    let findings: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let found = |check| of(&findings, check)[0];
    assert_eq!((output.status.code(), text(found("locked_memory"), "state")), (Some(2), "missing"));
    assert!(text(found("locked_memory"), "remedy").contains("LimitMEMLOCK"), "{findings}");
    assert_ne!(found("memfd_secret")["state"], "fine", "it is locked memory too");
    assert_eq!(found("open_files")["state"], "missing");
}

#[test]
fn a_configuration_that_cannot_be_used_is_one_of_the_findings() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("envol.toml");
    let configured = |text: &str| {
        fs::write(&file, text).expect("written");
        doctor(dir.path(), &["--config", file.to_str().expect("text")])
    };
    let said = configured("state_dir = \"relative\"\n");
    let findings = said.document();
    let found = of(&findings, "configuration")[0];
    assert_eq!((said.code, text(found, "state")), (Some(2), "missing"));
    assert!(text(found, "found").contains("line 1"), "{found}");
    let absent = dir.path().join("absent");
    let findings = configured(&format!("volume_dirs = [{:?}]\n", absent.to_str().expect("text"))).document();
    assert_eq!(of(&findings, "configuration")[0]["state"], "fine");
    let found = of(&findings, "space");
    assert_eq!((found.len(), text(found[1], "state")), (2, "limited"));
    assert!(text(found[1], "found").contains("absent"));
}

#[test]
fn a_daemon_that_answers_is_found_with_its_own_places_and_limits() {
    let daemon = Daemon::start();
    let findings = envol_at(&daemon.socket(), &["doctor", "--json"]).document();
    let found = |check| text(of(&findings, check)[0], "found").to_owned();
    assert_eq!(of(&findings, "daemon")[0]["state"], "fine");
    assert!(found("daemon").contains(env!("CARGO_PKG_VERSION")));
    let state = daemon.state_dir();
    let state = state.to_str().expect("text");
    assert!(found("state_dir").contains(state) && found("domain_key").contains(state), "{findings}");
    assert!(found("locked_memory").starts_with("the daemon ") && found("open_files").starts_with("the daemon "));
}

#[test]
fn an_audit_log_whose_verify_key_nobody_has_is_told_until_somebody_has_it() {
    let daemon = Daemon::start();
    let doctor = || of(&envol_at(&daemon.socket(), &["doctor", "--json"]).document(), "audit_verify_key")[0].clone();
    let found = doctor();
    assert_eq!(found["state"], "limited");
    assert!(text(&found, "remedy").starts_with("envol audit verify-key FILE"), "{found}");
    let status = envol_at(&daemon.socket(), &["status"]).stdout;
    assert!(status.contains("envol audit verify-key FILE"), "{status}");
    let file = daemon.state_dir().join("verify.key");
    let said = envol_at(&daemon.socket(), &["audit", "verify-key", file.to_str().expect("text")]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(doctor()["state"], "fine");
    assert!(!envol_at(&daemon.socket(), &["status"]).stdout.contains("verify-key"));
}

#[test]
fn a_daemon_that_never_answers_is_told_and_not_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let _silent = UnixListener::bind(dir.path().join("control.sock")).expect("a socket");
    let said = doctor(dir.path(), &[]);
    let findings = said.document();
    let found = of(&findings, "daemon")[0];
    assert_eq!((said.code, text(found, "state")), (Some(2), "missing"));
}

#[test]
fn a_stranger_is_told_what_cannot_be_seen() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let daemon = Daemon::start();
    fs::set_permissions(daemon.state_dir().parent().expect("a place"), fs::Permissions::from_mode(0o755))
        .expect("ours");
    let mut stranger = command(&["doctor", "--json", "--state-dir"]);
    let stranger = stranger.arg(daemon.state_dir()).env("ENVOL_SOCKET", daemon.socket()).uid(65534).gid(65534);
    let findings: Value = serde_json::from_slice(&stranger.output().expect("runs").stdout).expect("one JSON document");
    for check in ["daemon", "domain_key"] {
        assert_eq!(of(&findings, check)[0]["state"], "limited", "{findings}");
    }
    assert!(text(of(&findings, "domain_key")[0], "remedy").contains("as root"));
}
