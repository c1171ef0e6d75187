//! The demo holds, and each of its rows can fail: a test meddles with the scene while it plays, and the row that is
//! about what was meddled with must say so.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use envol::cli::demo::{self, KEY, Narrator, Scene, Stage, Step, VOLUME, Verdict};
use envol::control::api::Volume;
use serde_json::{Value, json};

use super::program::{ENVOL, command};

fn play(hook: &mut dyn FnMut(Step, &Scene)) -> Verdict {
    let parent = tempfile::tempdir().expect("a directory");
    let stage = Stage { program: PathBuf::from(ENVOL), parent: parent.path().to_owned() };
    let verdict = demo::run(&stage, &mut Narrator::silent(), hook);
    assert_eq!(fs::read_dir(parent.path()).expect("readable").count(), 0, "nothing is left behind");
    verdict
}

/// Plays with `meddle` called after `at`; gives the rows that failed.
fn failed_rows(at: Step, mut meddle: impl FnMut(&Scene)) -> Vec<&'static str> {
    let mut reached = false;
    let verdict = play(&mut |step, scene| {
        if step == at {
            reached = true;
            meddle(scene);
        }
    });
    assert!(reached, "the step was reached: {verdict:?}");
    assert_eq!((verdict.held(), verdict.exit_code()), (false, 1), "{verdict:?}");
    verdict.rows.iter().filter(|row| !row.held).map(|row| row.asked).collect()
}

fn key(scene: &Scene, verb: &str) {
    let path = format!("/v1/keys/{}/{verb}", KEY.replace('/', "%2F"));
    let _: Value = scene.client().send("POST", &path, &json!({})).expect("the key changes its state");
}

fn volume(scene: &Scene, verb: &str) {
    let path = format!("/v1/volumes/{VOLUME}/{verb}");
    let _: Value = scene.client().send("POST", &path, &json!({})).expect("the volume changes its state");
}

fn backing(scene: &Scene) -> File {
    let volume: Volume = scene.client().get(&format!("/v1/volumes/{VOLUME}")).expect("the volume");
    OpenOptions::new().read(true).write(true).open(volume.backing).expect("the backing")
}

fn any(rows: &[&str], words: &str) -> bool {
    rows.iter().any(|row| row.contains(words))
}

#[test]
fn the_whole_scenario_holds() {
    let mut steps = Vec::new();
    let verdict = play(&mut |step, _| steps.push(step));
    assert!(verdict.held(), "{verdict:#?}");
    assert_eq!(verdict.exit_code(), 0);
    use Step::{Attached, Compared, Detached, Disabled, Refused, Reopened, Written};
    assert_eq!(steps, [Attached, Written, Disabled, Detached, Refused, Reopened, Compared]);
}

#[test]
fn a_key_left_enabled_is_noticed() {
    let failed = failed_rows(Step::Disabled, |scene| key(scene, "enable"));
    for words in
        ["Disabling the key", "the command line says why", "and the API", "to its client", "event stream", "status"]
    {
        assert!(any(&failed, words), "{words} in {failed:?}");
    }
    assert!(!any(&failed, "every byte is as it was"), "{failed:?}");
}

#[test]
fn a_flipped_byte_of_the_backing_is_noticed() {
    let failed = failed_rows(Step::Detached, |scene| {
        let at = (1 << 20) + 5000; // within what was written: the data begins at 1 MiB
        let mut byte = [0];
        let backing = backing(scene);
        backing.read_exact_at(&mut byte, at).expect("read");
        backing.write_all_at(&[byte[0] ^ 1], at).expect("written");
    });
    let bytes =
        ["With the key enabled, every byte is as it was", "A restarted daemon asks the KMS again and re-attaches"];
    assert_eq!(failed, bytes);
}

#[test]
fn a_missing_reason_is_noticed() {
    // An attach that succeeds clears the reason; what is left is a volume that is merely not attached.
    let failed = failed_rows(Step::Refused, |scene| {
        key(scene, "enable");
        volume(scene, "attach");
        volume(scene, "detach");
        key(scene, "disable");
    });
    assert!(any(&failed, "to its client") && any(&failed, "status"), "{failed:?}");
    assert!(!any(&failed, "the command line says why"), "{failed:?}");
}

#[test]
fn data_in_clear_is_noticed() {
    let failed = failed_rows(Step::Written, |scene| {
        let mut nbd = envol::nbd::client::Client::connect(&scene.nbd_socket(), VOLUME).expect("connected");
        let mut clear = [0; 512];
        nbd.read(0, &mut clear).expect("read");
        nbd.disconnect().expect("gone");
        // Between the header copies, where it does no harm but to the secret.
        backing(scene).write_all_at(&clear, 300 << 10).expect("written");
    });
    assert_eq!(failed, ["The backing holds none of it in clear"]);
}

#[test]
fn a_restart_that_attaches_nothing_is_noticed() {
    let failed = failed_rows(Step::Compared, |scene| key(scene, "disable"));
    assert_eq!(failed, ["A restarted daemon asks the KMS again and re-attaches"]);
}

#[test]
fn a_write_that_is_lost_is_noticed_while_attached() {
    let failed = failed_rows(Step::Disabled, |scene| {
        let mut nbd = envol::nbd::client::Client::connect(&scene.nbd_socket(), VOLUME).expect("connected");
        nbd.write(12345, b"not what the demo wrote").expect("written");
        nbd.disconnect().expect("gone");
    });
    assert!(any(&failed, "Disabling the key") && any(&failed, "every byte is as it was"), "{failed:?}");
}

#[test]
fn a_daemon_that_does_not_come_up_fails_every_row() {
    let parent = tempfile::tempdir().expect("a directory");
    let stage = Stage { program: PathBuf::from("/bin/false"), parent: parent.path().to_owned() };
    let verdict = demo::run(&stage, &mut Narrator::silent(), &mut |_, _| {});
    assert!(verdict.stopped.is_some());
    assert_eq!(verdict.exit_code(), 1);
    assert!(verdict.rows.iter().all(|row| !row.held));
}

#[test]
fn the_command_prints_its_rows_as_json() {
    let parent = tempfile::tempdir().expect("a directory");
    let output = command(&["demo", "--json"]).env("TMPDIR", parent.path()).output().expect("the program runs");
    let rows: Value = serde_json::from_slice(&output.stdout).expect("one document");
    let rows = rows.as_array().expect("rows");
    assert_eq!((output.status.code(), rows.len()), (Some(0), 13));
    assert!(rows.iter().all(|row| row["held"] == true && row["asked"].is_string() && row["found"].is_string()));
}

#[test]
fn the_command_says_when_it_cannot_begin() {
    let output = command(&["demo", "--state-dir", "/nonexistent"]).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    let mut text = String::new();
    io::Cursor::new(output.stderr).read_to_string(&mut text).expect("text");
    assert!(text.starts_with("envol: the demo stopped: could not make a temporary directory"), "{text}");
}
