//! What a person sees: questions, hints and colour, on a terminal made by `script` (of Debian's essential bsdutils).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::answers::{attachment, key, volume};
use super::program::ENVOL;
use super::scripted::Scripted;

/// Runs `envol WORDS` on a terminal on which `typed` is typed; gives the exit code and what the terminal shows.
fn on_terminal(socket: &Path, words: &str, typed: &str, no_color: bool) -> (Option<i32>, String) {
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &format!("{ENVOL} {words}"), "/dev/null"]);
    script.env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "xterm").env("ENVOL_SOCKET", socket);
    if no_color {
        script.env("NO_COLOR", "1");
    }
    let mut running = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script is installed");
    running.stdin.take().expect("piped").write_all(typed.as_bytes()).expect("typed");
    let output = running.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8(output.stdout).expect("text"))
}

fn daemon() -> Scripted {
    Scripted::serve(&[
        ("GET /v1/volumes/db", 200, volume("available")),
        ("DELETE /v1/volumes/db", 204, serde_json::Value::Null),
        ("POST /v1/volumes/db/attach", 200, attachment(false)),
        ("GET /v1/keys/alias%2Fbackups", 200, key("Enabled")),
        ("GET /v1/volumes", 200, serde_json::json!([volume("available")])),
    ])
}

fn calls(daemon: &Scripted) -> Vec<String> {
    daemon.asked().into_iter().map(|(call, _)| call).collect()
}

#[test]
fn a_no_does_nothing_and_a_yes_does_it() {
    let daemon = daemon();
    for no in ["n\n", "\n", "yep\n", "\u{4}"] {
        let (code, shown) = on_terminal(&daemon.socket(), "volume delete db", no, true);
        assert!(shown.contains("Destroy the volume db") && shown.contains("[y/N]"), "{shown}");
        assert_eq!(code, Some(2), "{no:?}: {shown}");
        assert_eq!(calls(&daemon), ["GET /v1/volumes/db"], "{no:?}: it is looked at, and left alone");
    }
    let (code, shown) = on_terminal(&daemon.socket(), "volume delete db", "y\n", true);
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(calls(&daemon), ["GET /v1/volumes/db", "DELETE /v1/volumes/db"]);
}

#[test]
fn attach_tells_a_person_how_to_go_on() {
    let (code, shown) = on_terminal(&daemon().socket(), "attach db", "", true);
    assert_eq!(code, Some(0));
    for hint in ["nbd-client -unix /run/envol/nbd.sock -N db", "qemu-img info", "nbdcopy", "envol detach db"] {
        assert!(shown.contains(hint), "{hint} in {shown}");
    }
    let (_, shown) = on_terminal(&daemon().socket(), "attach db --json", "", true);
    assert!(!shown.contains("nbdcopy"), "scripts need no hints: {shown}");
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let parent = tempfile::tempdir().expect("a directory");
    let entries = || fs::read_dir(parent.path()).expect("readable").count();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &format!("exec {ENVOL} demo"), "/dev/null"]);
    script.env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "xterm").env("TMPDIR", parent.path());
    let mut running = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script is installed");
    let mut shown = BufReader::new(running.stdout.take().expect("piped")).lines();
    // The second step begins, so the daemon runs.
    assert!(shown.any(|line| line.expect("text").contains("Create a KMS key")));
    assert_eq!(entries(), 1);
    let mut keyboard = running.stdin.take().expect("piped");
    keyboard.write_all(b"\x03").expect("typed");
    let rest: Vec<String> = shown.map(|line| line.expect("text")).collect();
    assert_eq!(running.wait().expect("it ends").code(), Some(1));
    assert!(rest.iter().any(|line| line.contains("not reached")), "it was interrupted: {rest:?}");
    assert_eq!(entries(), 0);
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let show = |no_color| on_terminal(&daemon().socket(), "key show alias/backups", "", no_color).1;
    assert!(show(false).contains("\x1b[32mEnabled"), "green on a terminal");
    assert!(!show(true).contains('\x1b'), "none under NO_COLOR");
}
