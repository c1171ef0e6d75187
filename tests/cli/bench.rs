//! `envol bench` for real: every rung has figures that agree with each other, what it draws is a picture, other servers
//! are overwritten only where that was said, and nothing is left behind, whatever ends it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::program::ENVOL;
use crate::support::{Daemon, have};

const LADDER: [&str; 5] = ["cipher", "file", "core", "nbd", "kernel"];

/// Two directories, one for the data and one for everything else, in which nothing may be left.
struct Place {
    data: TempDir,
    other: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = || tempfile::tempdir().expect("a directory");
        Self { data: dir(), other: dir() }
    }

    fn bench(&self, words: &[&str]) -> Command {
        let mut command = Command::new(ENVOL);
        command.arg("bench").arg("--dir").arg(self.data.path()).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/bin").env("TMPDIR", self.other.path());
        command.stdin(Stdio::null());
        command
    }

    /// Runs it, and sees that it cleared everything away.
    fn run(&self, words: &[&str]) -> Output {
        let output = self.bench(words).output().expect("the program runs");
        self.is_empty();
        output
    }

    /// The same, which must succeed; its document.
    fn report(&self, words: &[&str]) -> Value {
        let output = self.run(&[&["--quick", "--json"], words].concat());
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stderr, b"", "no bar and no hint without a terminal");
        serde_json::from_slice(&output.stdout).expect("one document")
    }

    /// The same, which must fail with `code`; the error's message.
    fn refused(&self, code: i32, words: &[&str]) -> String {
        let output = self.run(&[&["--quick", "--json"], words].concat());
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(code), &b""[..]), "{output:?}");
        let failure: Value = serde_json::from_slice(&output.stderr).expect("one document");
        assert!(failure["error"]["remedy"].is_string());
        failure["error"]["message"].as_str().expect("a message").to_owned()
    }

    fn is_empty(&self) {
        for dir in [&self.data, &self.other] {
            let left: Vec<_> = fs::read_dir(dir.path()).expect("readable").collect();
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
}

fn array<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().expect("an array")
}

fn number(value: &Value, field: &str) -> f64 {
    value[field].as_f64().unwrap_or_else(|| panic!("{field} of {value}"))
}

fn rounds(figures: &Value) -> Vec<f64> {
    array(figures, "iops_by_round").iter().map(|rate| rate.as_f64().expect("a number")).collect()
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    assert_eq!(values.len() % 2, 1);
    values[values.len() / 2]
}

fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// That every figure follows from the rounds.
fn agree(report: &Value) {
    let rungs = array(report, "rungs");
    let present: Vec<&Value> = rungs.iter().filter(|rung| rung["absent"].is_null()).collect();
    for job in array(report, "jobs") {
        let results = array(job, "results");
        let names = |values: &[&Value], field: &str| values.iter().map(|v| v[field].clone()).collect::<Vec<_>>();
        assert_eq!(names(&results.iter().collect::<Vec<_>>(), "rung"), names(&present, "id"), "{job}");
        let of = |rung: &Value| rounds(results.iter().find(|figures| figures["rung"] == *rung).expect("measured"));
        for (figures, rung) in results.iter().zip(&present) {
            let rates = rounds(figures);
            assert!(rates.len() == 5 && rates.iter().all(|rate| *rate > 0.0), "{figures}");
            assert!(is_near(number(figures, "iops"), median(rates.clone())), "{figures}");
            assert!(is_near(number(figures, "bytes_per_second"), median(rates.clone()) * number(job, "block_size")));
            if figures["rung"] != "cipher" {
                assert!(0.0 < number(figures, "p50_us") && number(figures, "p50_us") <= number(figures, "p99_us"));
                let ratio = median(rates.iter().zip(of(&rung["reference"])).map(|(rate, below)| rate / below));
                assert!(is_near(number(figures, "ratio"), ratio), "{figures}");
            }
            match figures["loss"].as_f64() {
                Some(loss) => assert!(is_near(1.0 - loss, number(figures, "ratio")), "{figures}"),
                None => assert!(
                    figures["rung"] == "cipher" || rung["id"].as_str().is_some_and(|id| id.starts_with("server-"))
                ),
            }
        }
        let (cipher, file, core) = (of(&"cipher".into()), of(&"file".into()), of(&"core".into()));
        let possible = median((0..5).map(|i| core[i] * (1.0 / cipher[i] + 1.0 / file[i])));
        assert!(is_near(number(&results[2], "of_possible"), possible), "{job}");
    }
}

#[test]
fn every_rung_has_figures_that_agree_and_nothing_is_left_behind() {
    let place = Place::new();
    let picture = tempfile::NamedTempFile::new().expect("a file");
    let report = place.report(&["--svg", picture.path().to_str().expect("text")]);
    let rungs = array(&report, "rungs");
    assert_eq!(rungs.iter().map(|rung| rung["id"].as_str().expect("an id")).collect::<Vec<_>>(), LADDER);
    for rung in &rungs[..4] {
        assert!(rung["absent"].is_null(), "{rung}");
    }
    assert_eq!(array(&report, "jobs").len(), 6);
    agree(&report);
    assert_eq!(report["backing"]["size"], 16 << 20);
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    for (part, field) in [("machine", "cpu"), ("machine", "kernel"), ("cipher", "engine"), ("backing", "file_system")] {
        assert!(report[part][field].as_str().is_some_and(|text| !text.is_empty()), "{part} {field}");
    }
    is_picture_of(&fs::read_to_string(picture.path()).expect("drawn"), &report);
}

/// A well-formed SVG on an opaque sheet, with all that a figure needs to be believed.
fn is_picture_of(svg: &str, report: &Value) {
    let document = roxmltree::Document::parse(svg).expect("well-formed");
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "svg");
    let sheet = root.first_element_child().expect("a first element");
    let of = |node: roxmltree::Node<'_, '_>, name: &str| node.attribute(name).expect("an attribute").to_owned();
    assert_eq!(sheet.tag_name().name(), "rect");
    assert_eq!((of(sheet, "width"), of(sheet, "height")), (of(root, "width"), of(root, "height")));
    assert_eq!((of(sheet, "opacity").as_str(), of(sheet, "x").as_str()), ("1", "0"));
    let texts: Vec<&str> = root.descendants().filter_map(|node| node.text()).map(str::trim).collect();
    let says = |words: &str| texts.iter().any(|text| text.contains(words));
    for job in array(report, "jobs") {
        assert!(says(job["title"].as_str().expect("a title")), "{job}");
    }
    for rung in array(report, "rungs") {
        assert!(says(rung["label"].as_str().expect("a label")), "{rung}");
    }
    for (part, field) in [("machine", "cpu"), ("machine", "kernel"), ("cipher", "engine"), ("backing", "file_system")] {
        assert!(says(report[part][field].as_str().expect("text")), "{part} {field}");
    }
    assert!(says(report["time"].as_str().expect("a time")) && says(report["version"].as_str().expect("a version")));
    assert!(
        !svg.contains(report["backing"]["directory"].as_str().expect("a path")),
        "where it lay is nobody's business"
    );
}

#[test]
fn people_get_a_table_with_the_reason_for_what_is_absent() {
    let output = Place::new().run(&["--quick", "--read-only"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}");
    for words in [
        "machine  ",
        "engine ",
        "16 MiB on ",
        "4k random read, depth 32",
        "NBD over unix",
        "of cipher and file in turn",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("write"), "{text}");
    assert!(text.contains("kernel device"), "with figures or with a reason: {text}");
}

/// Another envol with a volume `db` of 8 MiB; its URI.
fn another(daemon: &Daemon) -> String {
    daemon.attached("db", "8M", &[])
}

fn first_bytes(daemon: &Daemon) -> [u8; 4096] {
    let mut bytes = [0; 4096];
    let mut client = envol::nbd::client::Client::connect(&daemon.nbd_socket(), "db").expect("connected");
    client.read(0, &mut bytes).expect("read");
    client.disconnect().expect("gone");
    bytes
}

#[test]
fn another_server_is_measured_beside_ours_once_it_may_be_overwritten() {
    let (place, daemon) = (Place::new(), Daemon::start());
    let uri = another(&daemon);
    let named = format!("the other={uri}");
    let said = place.refused(2, &["--against", &named]);
    assert!(said.contains("asks before it acts"), "{said}");
    assert_eq!(first_bytes(&daemon), [0; 4096], "nothing was written");

    let report = place.report(&["--against", &named, "--yes"]);
    agree(&report);
    let other = array(&report, "rungs").last().expect("rungs");
    assert_eq!((&other["id"], &other["label"], &other["uri"]), (&"server-1".into(), &"the other".into(), &uri.into()));
    assert_eq!(other["reference"], "nbd");
    let notes = other["notes"].to_string();
    assert!(notes.contains("only 8 MiB where the others have 16 MiB"), "{notes}");
    assert_ne!(first_bytes(&daemon), [0; 4096], "it was written to");
}

#[test]
fn a_server_that_takes_no_writes_can_be_read_only() {
    let (place, daemon) = (Place::new(), Daemon::start());
    let uri = another(&daemon);
    daemon.detach("db");
    daemon.json(["attach", "db", "--read-only"]);
    let said = place.refused(4, &["--against", &uri, "--yes"]);
    assert!(said.contains("is read-only") && said.contains("nothing was done"), "{said}");
    let report = place.report(&["--against", &uri, "--read-only"]);
    agree(&report);
    assert!(array(&report, "jobs").iter().all(|job| job["direction"] == "read"));
    assert!(array(&report, "rungs")[5]["notes"].to_string().contains("neither filled nor verified"));
}

#[test]
fn a_server_that_is_not_there_or_too_small_is_told_before_anything_is_measured() {
    let (place, daemon) = (Place::new(), Daemon::start());
    let said = place.refused(3, &["--against", "nbd+unix:///x?socket=/nonexistent", "--yes"]);
    assert!(said.contains("nbd+unix:///x?socket=/nonexistent failed"), "{said}");
    let other = another(&daemon).replace("/db?", "/unknown?");
    place.refused(3, &["--against", &other, "--yes"]);
    let small = daemon.attached("small", "1M", &[]);
    let said = place.refused(4, &["--against", &small, "--yes"]);
    assert!(said.contains("has only 1 MiB"), "{said}");
    place.refused(2, &["--against", "nbds://localhost/"]);
    let said = place.refused(8, &["--svg", "/nonexistent/picture.svg"]);
    assert!(said.contains("/nonexistent/picture.svg"), "{said}");
    let said = place.refused(8, &["--size", "1048576T"]);
    assert!(said.contains("are needed"), "{said}");
}

/// nbdkit's null plugin takes every write and keeps none.
#[test]
fn a_server_that_throws_data_away_does_not_look_fast() {
    if !have(&["nbdkit"]) {
        return;
    }
    let (place, dir) = (Place::new(), tempfile::tempdir().expect("a directory"));
    let socket = dir.path().join("null.sock");
    let mut server = Command::new("nbdkit")
        .args(["--foreground", "--exit-with-parent", "--unix"])
        .arg(&socket)
        .args(["null", "32M"])
        .spawn()
        .expect("nbdkit starts");
    wait_until(|| socket.exists());
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    let said = place.refused(7, &["--against", &uri, "--yes"]);
    assert!(said.contains("does not give back what was written"), "{said}");
    let report = place.report(&["--against", &uri, "--read-only"]);
    agree(&report);
    server.kill().expect("ours");
    server.wait().expect("ours");
}

fn wait_until(mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !there() {
        assert!(Instant::now() < deadline, "it takes too long");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Ctrl-C goes to all processes of the terminal, the daemon of the measuring too; SIGTERM to the program alone.
#[test]
fn a_signal_at_any_moment_leaves_nothing_behind() {
    for (signal, all, code) in [(Signal::SIGINT, true, 130), (Signal::SIGTERM, false, 143)] {
        for with_daemon in [false, true] {
            let place = Place::new();
            let running =
                place.bench(&["--size", "64M", "--seconds", "0.1"]).process_group(0).stderr(Stdio::piped()).spawn();
            let mut running: Child = running.expect("the program runs");
            wait_until(|| fs::read_dir(place.data.path()).expect("readable").count() == 1);
            if with_daemon {
                wait_until(|| listens_below(place.other.path()));
            }
            let pid = Pid::from_raw(i32::try_from(running.id()).expect("a process id"));
            if all { killpg(pid, signal) } else { kill(pid, signal) }.expect("signalled");
            let output = running.wait().expect("ours");
            assert_eq!(output.code(), Some(code), "{signal} {with_daemon}");
            place.is_empty();
        }
    }
}

/// Whether a daemon has made its NBD socket in a directory of `dir`.
fn listens_below(dir: &Path) -> bool {
    let mut entries = fs::read_dir(dir).expect("readable").filter_map(Result::ok);
    entries.any(|entry| entry.path().join("nbd.sock").exists())
}
