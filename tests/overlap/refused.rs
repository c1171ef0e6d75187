//! A machine that forbids io_uring: `strace` answers in the kernel's place.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::wait_for;

const ENVOL: &str = env!("CARGO_BIN_EXE_envol");

/// The daemon, to be started in `place` with `engine` asked for, where every ring is refused.
fn daemon(place: &Path, engine: &str) -> Option<Command> {
    let there = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if !there {
        assert!(std::env::var_os("REQUIRE_ALL").is_none(), "there is no strace");
        return None;
    }
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=io_uring_setup",
        "-e",
        "inject=io_uring_setup:error=EPERM",
    ]);
    command.args([ENVOL, "daemon"]).env("ENVOL_IO", engine).env("ENVOL_STATE_DIR", place.join("state"));
    command.env("ENVOL_SOCKET", place.join("control.sock")).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

fn status(place: &Path) -> Option<Value> {
    let socket = place.join("control.sock");
    let Output { stdout, .. } =
        Command::new(ENVOL).args(["status", "--json"]).env("ENVOL_SOCKET", socket).output().ok()?;
    serde_json::from_slice(&stdout).ok()
}

#[test]
fn what_is_asked_for_and_refused_is_an_error_at_the_start() {
    let place = tempfile::tempdir().expect("a directory");
    for (engine, words) in [("io_uring", "io_uring is asked for and refused here"), ("uring", "none of auto")] {
        let Some(mut daemon) = daemon(place.path(), engine) else { return };
        let ended = daemon.output().expect("ran");
        assert_eq!(ended.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&ended.stderr).contains(words), "{}", String::from_utf8_lossy(&ended.stderr));
    }
}

#[test]
fn what_is_left_open_falls_back_to_threads_and_says_so() {
    let place = tempfile::tempdir().expect("a directory");
    let Some(mut daemon) = daemon(place.path(), "auto") else { return };
    let mut running = daemon.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let mut said = None;
    wait_for("the daemon", || {
        said = status(place.path()).filter(|status| status["pid"].is_i64());
        said.is_some()
    });
    let said = said.expect("it answered");
    kill(Pid::from_raw(said["pid"].as_i64().expect("a number") as i32), Signal::SIGTERM).expect("told");
    running.wait().expect("ended");
    assert_eq!(said["io"], "threads");
}
