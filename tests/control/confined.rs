//! Confinement: what holds is told, what is missing ends the start where it is required, and volumes go on working.

use std::path::Path;
use std::process::Command;

use envol::control::api::{Attachment, Status};
use envol::nbd::client::Client as NbdClient;
use serde_json::json;

use crate::support::{Daemon, daemon_in, ends, has};

fn status(daemon: &Daemon) -> Status {
    daemon.client().get("/v1/status").expect("answers")
}

/// The field of /proc/PID/status.
fn told_by_the_kernel(daemon: &Daemon, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{}/status", status(daemon).pid)).expect("procfs");
    text.lines().find_map(|line| line.strip_prefix(field)).expect("it is told").trim().to_owned()
}

fn configured(text: &str) -> (tempfile::TempDir, impl FnOnce(&mut Command)) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("envol.toml");
    std::fs::write(&config, text).expect("written");
    (dir, move |command: &mut Command| {
        command.arg("--config").arg(config);
    })
}

#[test]
fn a_confined_daemon_says_so_and_serves_volumes_where_it_may() {
    let dir = tempfile::tempdir().expect("a directory");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("envol.toml");
    std::fs::write(&config, format!("volume_dirs = [\"{}\"]\n", elsewhere.path().display())).expect("written");
    let daemon = Daemon::start_in(dir, |command| {
        command.arg("--config").arg(config);
    });
    let hardening = status(&daemon).hardening;
    assert_eq!(hardening.asked, "prefer");
    assert_eq!(told_by_the_kernel(&daemon, "NoNewPrivs:"), "1");
    assert_eq!(
        told_by_the_kernel(&daemon, "Seccomp:") == "2",
        hardening.reached.iter().any(|reached| reached == "seccomp")
    );
    let backing = elsewhere.path().join("db");
    let asked = json!({"name": "db", "size": 1 << 20, "backing": backing});
    let made = daemon.client().send_long::<_, serde_json::Value>("/v1/volumes", &asked, &mut |_, _| ());
    made.expect("is made in a volume directory");
    let _: Attachment = daemon.client().send("POST", "/v1/volumes/db/attach", &json!({})).expect("attaches");
    let mut guest = NbdClient::connect(&daemon.nbd_socket(), "db").expect("served");
    let mut back = [0; 4096];
    guest.write_durably(0, &[7; 4096]).expect("written");
    guest.read(0, &mut back).expect("read");
    assert_eq!(back, [7; 4096]);
    guest.disconnect().expect("leaves");
    let (ended, dir) = daemon.stop();
    assert!(ended.success(), "{ended}");
    assert!(!dir.path().join("run/control.sock").exists(), "a confined daemon removes its sockets");
}

#[test]
fn a_daemon_that_is_not_confined_says_that() {
    let (dir, change) = configured("hardening = \"off\"\n");
    let daemon = Daemon::start_in(dir, change);
    let hardening = status(&daemon).hardening;
    assert_eq!((hardening.asked.as_str(), hardening.missing.len()), ("off", 0));
    assert!(!hardening.reached.iter().any(|reached| reached.contains("landlock")));
    assert_eq!(told_by_the_kernel(&daemon, "Seccomp:"), "0");
    assert_eq!(told_by_the_kernel(&daemon, "NoNewPrivs:"), "1", "this holds always");
}

/// The kernel refuses one of the calls, as an older one would.
#[test]
fn what_the_kernel_lacks_is_told_and_ends_the_start_where_it_is_required() {
    if !has("strace", Path::new("/usr/bin/strace").exists()) {
        return;
    }
    for (call, what) in
        [("landlock_create_ruleset", "landlock"), ("memfd_secret", "memfd_secret"), ("seccomp", "seccomp")]
    {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("envol.toml"), "hardening = \"require\"\n").expect("written");
        let daemon = daemon_in(dir.path());
        let mut strace = Command::new("strace");
        strace.args([
            "-f",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={call}"),
            "-e",
            &format!("inject={call}:error=ENOSYS"),
        ]);
        strace.arg(daemon.get_program()).args(daemon.get_args());
        let ended = ends({
            strace.arg("--config").arg(dir.path().join("envol.toml"));
            strace
        });
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{call}: {said}");
        assert!(said.contains(&format!("there is no {what}: ")) && !said.contains(" ready "), "{call}: {said}");
    }
}

#[test]
fn where_the_kernel_can_all_of_it_is_reached() {
    let (dir, change) = configured("");
    let daemon = Daemon::start_in(dir, change);
    let missing = status(&daemon).hardening.missing;
    drop(daemon);
    if !has("a kernel with landlock, seccomp and memfd_secret", missing.is_empty()) {
        return;
    }
    let (dir, change) = configured("hardening = \"require\"\n");
    let daemon = Daemon::start_in(dir, change);
    let hardening = status(&daemon).hardening;
    assert_eq!(hardening.reached.len(), 6, "{hardening:?}");
}
