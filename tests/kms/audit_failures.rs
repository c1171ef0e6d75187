//! The audit log on a disk that fails: no call is answered without its durable record, and each says so.
//!
//! A script of calls runs under strace, which makes one system call on the log's file fail. The script prints what came
//! of each call. It is this test program once more, told by its environment to be the one that is hindered.

use std::env;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use envol::kms::KmsError;
use envol::kms::embedded::KeyState;

use crate::kill::strace_is_there;
use crate::world::{World, caller, named};

/// The test that carries the script out where [`PLACE`] is set.
const SCRIPT: &str = "audit_failures::a_call_whose_record_cannot_be_written_is_refused_and_the_next_one_is_not";
const PLACE: &str = "ENVOL_TEST_AUDIT_PLACE";
const CALLS: usize = 4;

/// Makes a key, disables it, and looks at it twice.
fn carry_out_script(place: &Path) {
    let world = World::at(place);
    let kms = world.open();
    let made = kms.create_key(&caller(), "", Some("alias/a"));
    tell("CreateKey", made.map(|_| ()));
    tell("DisableKey", kms.disable_key(&caller(), &named("alias/a")).map(|_| ()));
    tell("DescribeKey", kms.describe_key(&caller(), &named("alias/a")).map(|_| ()));
    tell("ListKeys", kms.list_keys(&caller()).map(|_| ()));
}

fn tell(call: &str, outcome: Result<(), KmsError>) {
    let said = outcome.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
    std::io::stdout().write_all(format!("\nSAID {call} {said}\n").as_bytes()).expect("written");
}

/// Runs the script; each time, `call` on the log's file does what `inject` says.
fn run(world: &World, call: &str, inject: &str) -> Output {
    let log = world.dir().join("audit.ndjson");
    std::fs::create_dir_all(world.dir()).expect("made");
    std::fs::write(&log, "").expect("made");
    Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-P"])
        .arg(&log)
        .args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{inject}")])
        .arg(env::current_exe().expect("this program has a path"))
        .args(["--exact", "--nocapture", "--test-threads=1", SCRIPT])
        .env(PLACE, world.place.path())
        .output()
        .expect("strace runs")
}

/// What came of each call.
fn said(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let said: Vec<String> = text.lines().filter_map(|line| line.strip_prefix("SAID ").map(str::to_owned)).collect();
    assert_eq!(said.len(), CALLS, "{output:?}");
    said
}

fn recorded(world: &World) -> Vec<String> {
    world.audit().iter().map(|line| line["eventName"].as_str().expect("named").to_owned()).collect()
}

const REFUSED: &str = "the KMS could not be reached: KMSInternalException: the audit log cannot be written";

#[test]
fn a_call_whose_record_cannot_be_written_is_refused_and_the_next_one_is_not() {
    if let Some(place) = env::var_os(PLACE) {
        return carry_out_script(Path::new(&place));
    }
    if !strace_is_there() {
        return;
    }
    let world = World::new();
    let said = said(&run(&world, "write", "error=ENOSPC:when=2"));
    assert!(said[1].starts_with(&format!("DisableKey {REFUSED}")) && said[1].contains("No space left"), "{}", said[1]);
    assert_eq!([&said[0], &said[2], &said[3]], ["CreateKey ok", "DescribeKey ok", "ListKeys ok"]);
    assert_eq!(recorded(&world), ["CreateKey", "CreateAlias", "DescribeKey", "ListKeys"]);
}

#[test]
fn after_a_failed_sync_nothing_is_answered_until_the_log_is_opened_again() {
    if !strace_is_there() {
        return;
    }
    let world = World::new();
    let said = said(&run(&world, "fdatasync", "error=EIO:when=2"));
    assert_eq!(said[0], "CreateKey ok");
    for (call, said) in ["DisableKey", "DescribeKey", "ListKeys"].iter().zip(&said[1..]) {
        assert!(said.starts_with(&format!("{call} {REFUSED}")) && said.contains("Input/output error"), "{said}");
    }
    assert_eq!(recorded(&world), ["CreateKey", "CreateAlias"], "what was not durable is not left behind");
    let kms = world.open();
    let key = kms.describe_key(&caller(), &named("alias/a")).expect("answered again");
    assert_eq!(key.state, KeyState::Disabled, "the refusal said that the call may have taken effect");
    assert_eq!(recorded(&world).len(), 3);
}
