//! SIGKILL at every storage system call: what was acknowledged is there afterwards, and the store opens.
//!
//! The script runs in a process of its own under strace, which kills it at the N-th system call of one name, for
//! every name and each N until the script gets through. That process is this test program once more, told by its
//! environment that it is the one to be killed. The script prints each step when the KMS has acknowledged it.

use std::env;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use envol::kms::embedded::{KeyMetadata, KeyState};

use crate::world::{World, caller, named};

/// The test that carries the script out where [`PLACE`] is set.
const SCRIPT: &str = "kill::sigkill_at_any_storage_call_loses_nothing_acknowledged";
const PLACE: &str = "ENVOL_TEST_KMS_PLACE";
const STORAGE_CALLS: [&str; 14] = [
    "openat",
    "pwrite64",
    "write",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
    "rename",
    "renameat",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
];

/// What the process does that is killed.
fn carry_out_script(place: &Path) {
    let world = World::at(place);
    let kms = world.open();
    let key = kms.create_key(&caller(), "one", Some("alias/one")).expect("made");
    acknowledge("created", &key.key_id);
    kms.create_alias(&caller(), "alias/two", &named(&key.key_id)).expect("made");
    acknowledge("aliased", &key.key_id);
    let rotated = kms.rotate_key_on_demand(&caller(), &named(&key.key_id)).expect("rotated");
    acknowledge("rotated", &rotated.current_key_material_id);
    kms.disable_key(&caller(), &named(&key.key_id)).expect("disabled");
    acknowledge("disabled", &key.key_id);
}

fn acknowledge(step: &str, what: &str) {
    let mut out = std::io::stdout();
    out.write_all(format!("\nACK {step} {what}\n").as_bytes()).expect("written");
    out.flush().expect("written");
}

/// Runs the script under strace with these options.
fn run(world: &World, options: &[&str]) -> Output {
    Command::new("strace")
        .args(["-f", "-qq"])
        .args(options)
        .arg(env::current_exe().expect("this program has a path"))
        .args(["--exact", "--nocapture", "--test-threads=1", SCRIPT])
        .env(PLACE, world.place.path())
        .output()
        .expect("strace runs")
}

/// What the script said it had done.
fn acknowledged(output: &Output) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(&output.stdout);
    let steps = text.lines().filter_map(|line| line.strip_prefix("ACK ")?.split_once(' '));
    steps.map(|(step, what)| (step.to_owned(), what.to_owned())).collect()
}

/// Whether strace is there; its lack is a skip, and a failure where everything is required.
#[expect(clippy::print_stderr, reason = "a skipped test says what is missing")]
pub(crate) fn strace_is_there() -> bool {
    let there = Command::new("strace").arg("-V").output().is_ok();
    assert!(there || env::var_os("REQUIRE_ALL").is_none(), "strace is missing");
    if !there {
        eprintln!("skipped: strace is missing");
    }
    there
}

#[test]
fn every_step_is_acknowledged_after_its_sync() {
    if !strace_is_there() {
        return;
    }
    let world = World::new();
    let log = world.place.path().join("strace.log");
    let log_option = log.to_str().expect("plain text");
    let output = run(&world, &["-y", "-o", log_option, "-e", "trace=pwrite64,write,fsync,fdatasync", "-s", "64"]);
    assert!(output.status.success(), "{output:?}");
    let (mut written, mut synced, mut acknowledged) = (0, 0, 0);
    for line in std::fs::read_to_string(log).expect("there").lines() {
        if line.contains("audit.ratchet") {
            // It follows what is durable already.
        } else if line.contains(" pwrite64(") {
            (written, synced) = (written + 1, 0);
        } else if line.contains("sync(") {
            synced += 1;
        } else if line.contains("ACK ") {
            assert!(written > 0 && synced > 0, "acknowledged before it was written and synced: {line}");
            (written, synced, acknowledged) = (0, 0, acknowledged + 1);
        }
    }
    assert_eq!(acknowledged, 4);
}

#[test]
fn every_call_is_answered_after_the_sync_of_its_record() {
    if !strace_is_there() {
        return;
    }
    let world = World::new();
    let log = world.place.path().join("strace.log");
    let options = ["-y", "-o", log.to_str().expect("plain text"), "-e", "trace=write,fdatasync", "-s", "64"];
    let output = run(&world, &options);
    assert!(output.status.success(), "{output:?}");
    let (mut written, mut synced, mut acknowledged) = (0, 0, 0);
    for line in std::fs::read_to_string(log).expect("there").lines() {
        match line {
            line if line.contains("audit.ndjson") && line.contains(" write(") => (written, synced) = (written + 1, 0),
            line if line.contains("audit.ndjson") && line.contains(" fdatasync(") => synced += 1,
            line if line.contains("ACK ") => {
                assert!(written > 0 && synced > 0, "acknowledged before its record was written and synced: {line}");
                (written, synced, acknowledged) = (0, 0, acknowledged + 1);
            }
            _ => {}
        }
    }
    assert_eq!(acknowledged, 4);
}

#[test]
fn sigkill_at_any_storage_call_loses_nothing_acknowledged() {
    if let Some(place) = env::var_os(PLACE) {
        return carry_out_script(Path::new(&place));
    }
    if !strace_is_there() {
        return;
    }
    let counts: Vec<usize> = STORAGE_CALLS.iter().flat_map(|call| kill_at_each(call)).collect();
    assert!(counts.len() > 50, "only {} system calls were met", counts.len());
    for count in 0..=4 {
        assert!(counts.contains(&count), "no run was killed with {count} steps acknowledged: {counts:?}");
    }
}

/// Kills the script at the first system call of that name, the second, and so on; says how far each run had come.
fn kill_at_each(call: &str) -> Vec<usize> {
    let mut counts = Vec::new();
    for kill_at in 1..1000 {
        let world = World::new();
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={kill_at}"));
        let output = run(&world, &["-o", "/dev/null", "-e", &trace, "-e", &inject]);
        let steps = acknowledged(&output);
        check(&world, &steps, &format!("{call} number {kill_at}"));
        if output.status.success() {
            assert_eq!(steps.len(), 4, "the run that nothing killed gets through");
            return counts;
        }
        assert_eq!(output.status.signal(), Some(9), "{call} number {kill_at}: {output:?}");
        counts.push(steps.len());
    }
    panic!("a thousand calls of {call} were not enough");
}

/// The store opens, and what was acknowledged is in it.
fn check(world: &World, steps: &[(String, String)], killed_at: &str) {
    let kms = world.try_open().unwrap_or_else(|error| panic!("killed at {killed_at}: {error:?}"));
    let keys = kms.list_keys(&caller()).expect("listed");
    assert!(keys.len() <= 1, "killed at {killed_at}: {keys:?}");
    for (step, what) in steps {
        let key = keys.first().unwrap_or_else(|| panic!("killed at {killed_at}: no key after {step}"));
        assert!(holds(step, what, key), "killed at {killed_at}: {step} {what} is lost: {key:?}");
    }
    for line in world.audit() {
        assert!(line["eventName"].is_string(), "killed at {killed_at}");
    }
    if let Some(key) = keys.first() {
        kms.enable_key(&caller(), &named(&key.key_id)).expect("enabled");
        let sealed = kms.encrypt(&caller(), &named(&key.key_id), b"text", &Default::default()).expect("sealed");
        kms.decrypt_bytes(&caller(), None, &sealed.wrapped, &Default::default()).expect("its material is there");
    }
}

fn holds(step: &str, what: &str, key: &KeyMetadata) -> bool {
    let has = |alias: &str| key.aliases.iter().any(|name| name == alias);
    match step {
        "created" => key.key_id == what && has("alias/one"),
        "aliased" => has("alias/two"),
        "rotated" => key.current_key_material_id == what && key.rotations == 1,
        "disabled" => key.state == KeyState::Disabled,
        _ => false,
    }
}
