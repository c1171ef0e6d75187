//! What clients and operators see around a restart: what was attached comes back with its data, what the KMS refuses is
//! silent for the dead-connection window and then says why.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Daemon, command, have, must, must_fail, random_file};

const PATIENCE: Duration = Duration::from_secs(60);

/// What `look` finds, asked again until it finds something.
fn until<T>(what: &str, daemon: &Daemon, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: it did not come to that\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn show(daemon: &Daemon, volume: &str) -> Value {
    daemon.json(["volume", "show", volume])
}

/// The reattachVolume events of a volume as (result, cause).
fn reattachments(daemon: &Daemon, id: &Value) -> Vec<(String, String)> {
    let printed = daemon.envol(["events", "--json"]).stdout;
    let lines = std::str::from_utf8(&printed).expect("text").lines();
    let events = lines.map(|line| serde_json::from_str::<Value>(line).expect("a document"));
    let of_the_volume = |event: &Value| {
        event["detail"]["event"] == "reattachVolume"
            && event["resources"][0].as_str().expect("an ARN").ends_with(id.as_str().expect("an id"))
    };
    let text = |event: &Value, field: &str| event["detail"][field].as_str().expect("text").to_owned();
    events.filter(of_the_volume).map(|event| (text(&event, "result"), text(&event, "cause"))).collect()
}

/// What a client that may not have the export prints; libnbd tells what the server said in its debug output only.
fn turned_away(uri: &str) -> String {
    must_fail(Command::new("nbdinfo").arg(uri).env("LIBNBD_DEBUG", "1"))
}

fn configure_window(file: &Path, seconds: u64) {
    std::fs::write(file, format!("[timings]\ndead_connection_window_s = {seconds}\n")).expect("written");
}

#[test]
fn a_killed_daemon_brings_back_what_was_attached() {
    if !have(&["nbdcopy", "cmp"]) {
        return;
    }
    let mut daemon = Daemon::start();
    let (plain, back) = (daemon.path().join("plain"), daemon.path().join("back"));
    random_file(&plain, 8 << 20);
    let uri = daemon.attached("db", "8M", &[]);
    let id = show(&daemon, "db")["id"].clone();
    must(command(&["nbdcopy", "--flush"]).arg(&plain).arg(&uri));
    daemon.json(["volume", "create", "loose", "--size", "1M"]);
    daemon.kill();
    daemon.run();
    until("db is attached again", &daemon, || (show(&daemon, "db")["state"] == "in-use").then_some(()));
    must(command(&["nbdcopy", &uri]).arg(&back));
    must(command(&["cmp"]).arg(&plain).arg(&back));
    assert_eq!(reattachments(&daemon, &id), [("attached".to_owned(), String::new())]);
    assert_eq!(show(&daemon, "loose")["state"], "available", "what nobody attached is not attached");
}

#[test]
fn a_refused_volume_is_silent_for_the_window_and_then_says_why() {
    if !have(&["nbdinfo"]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("envol.toml");
    configure_window(&config, 3600);
    let mut daemon = Daemon::start_with(&["--config", config.to_str().expect("UTF-8")]);
    let key = daemon.json(["key", "create", "--alias", "k"]);
    let uri = daemon.attached("db", "1M", &["--key", "alias/k"]);
    let id = show(&daemon, "db")["id"].clone();
    daemon.json(["key", "disable", "alias/k"]);
    daemon.terminate();

    daemon.run();
    let refusal = until("the KMS refuses", &daemon, || {
        Some(show(&daemon, "db")["last_refusal"].clone()).filter(|refusal| !refusal.is_null())
    });
    let said = turned_away(&uri);
    // libnbd says so in one of two ways, depending on whether it was sending or receiving at that moment.
    let closed = ["server disconnected unexpectedly", "Transport endpoint is not connected"];
    assert!(closed.iter().any(|way| said.contains(way)) && !said.contains("Disabled"), "{said}");
    assert_eq!((&refusal["kms_exception"], &refusal["retrying"]), (&"DisabledException".into(), &false.into()));
    let cause = format!("{} is disabled.", key["arn"].as_str().expect("an ARN"));
    assert_eq!(reattachments(&daemon, &id), [("failed".to_owned(), cause.clone())]);
    assert!(daemon.log().contains(&cause), "the log has the cause: {}", daemon.log());
    let status = String::from_utf8(daemon.envol(["status"]).stdout).expect("text");
    assert!(status.contains(&cause), "status has the cause: {status}");

    daemon.terminate();
    configure_window(&config, 2);
    daemon.run();
    let told =
        until("the client is told", &daemon, || Some(turned_away(&uri)).filter(|said| said.contains("Disabled")));
    let reason = format!("Z DisabledException: key/{} is disabled.", key["key_id"].as_str().expect("an id"));
    assert!(told.contains(&reason), "{told}");

    daemon.json(["key", "enable", "alias/k"]);
    daemon.attach("db");
    must(Command::new("nbdinfo").arg(&uri));
}

/// `envol events --follow --json`, killed when dropped.
struct Follower {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Follower {
    fn of(daemon: &Daemon) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_envol"));
        command.args(["events", "--follow", "--json", "--socket"]).arg(daemon.path().join("control.sock"));
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let lines = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, lines }
    }

    /// The next event's name and result; waits for it.
    fn next(&mut self) -> (String, String) {
        let mut line = String::new();
        assert!(self.lines.read_line(&mut line).expect("readable") > 0, "the stream ended");
        let event: Value = serde_json::from_str(&line).expect("each line is a document");
        let text = |field: &str| event["detail"][field].as_str().expect("text").to_owned();
        (text("event"), text("result"))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn events_are_followed_while_they_happen() {
    let daemon = Daemon::start();
    daemon.json(["key", "create", "--alias", "k"]);
    let mut follower = Follower::of(&daemon);
    let mut happens = |event: &str, result: &str| assert_eq!(follower.next(), (event.to_owned(), result.to_owned()));
    daemon.json(["volume", "create", "db", "--size", "1M", "--key", "alias/k"]);
    happens("createVolume", "available");
    daemon.attach("db");
    happens("attachVolume", "attached");
    daemon.json(["key", "disable", "alias/k"]);
    daemon.detach("db");
    happens("detachVolume", "detached");
    daemon.refused(5, ["attach", "db"]);
    happens("attachVolume", "failed");
    daemon.json(["volume", "delete", "db", "--yes"]);
    happens("deleteVolume", "deleted");
}
