//! The audit log of a daemon that is killed, and what the command line finds in it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Daemon, python, python_has};
use crate::world::{World, script};

#[test]
fn whatever_was_answered_before_a_sigkill_is_in_the_log() {
    if !python_has(&["boto3"]) {
        return;
    }
    let mut world = World::new();
    let mut command = Command::new(python());
    command.arg(script("busy.py"));
    let mut clients = world.client(command).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let mut answered = Vec::new();
    for line in BufReader::new(clients.stdout.take().expect("piped")).lines().map(|line| line.expect("text")) {
        answered.push(line);
        if answered.len() == 60 {
            world.daemon.kill();
        }
    }
    clients.wait().expect("ends when nobody answers");
    assert!(answered.len() >= 60, "{}", answered.len());
    let log = std::fs::read_to_string(world.daemon.path().join("state/kms/audit.ndjson")).expect("there");
    for line in &answered {
        let (operation, request) = line.split_once(' ').expect("two words");
        let record = log.lines().find(|record| record.contains(request));
        assert!(record.is_some_and(|record| record.contains(operation)), "{line} was answered and left no record");
    }
}

#[test]
fn the_command_line_finds_records_by_volume_key_principal_and_time() {
    let world = World::new();
    let daemon = &world.daemon;
    let key = daemon.json(["key", "create", "--alias", "a"]);
    daemon.json(["volume", "create", "db", "--size", "8M", "--key", "alias/a"]);
    daemon.attach("db");
    let names = |words: &[&str]| {
        let found = daemon.json(["audit", "list"].iter().chain(words));
        let records = found.as_array().expect("an array").clone();
        records.iter().map(|record| record["eventName"].as_str().expect("named").to_owned()).collect::<Vec<_>>()
    };
    let of_volume = ["GenerateDataKeyWithoutPlaintext", "Decrypt", "Decrypt"];
    assert_eq!(names(&["--volume", "db"]), of_volume);
    assert_eq!(names(&["--volume", "db", "--key", "alias/a", "--since", "1h"]), of_volume);
    assert!(names(&["--volume", "db", "--until", "1h"]).is_empty());
    assert_eq!(names(&["--volume", "db", "--limit", "1"]), ["Decrypt"]);
    let shown = daemon.json(["key", "show", "alias/a"]);
    let kind = ["key_spec", "origin", "last_operation"].map(|member| shown[member].as_str().expect("text"));
    assert_eq!(kind, ["SYMMETRIC_DEFAULT", "AWS_KMS", "Decrypt"]);
    let last = daemon.json(["audit", "list", "--volume", "db", "--limit", "1"]);
    assert_eq!(shown["last_used"], last[0]["eventTime"]);
    assert_eq!((&key["last_used"], &key["last_operation"]), (&Value::Null, &Value::Null));
    let about_key = names(&["--key", key["key_id"].as_str().expect("an id")]);
    assert_eq!(about_key[..2], ["CreateKey", "CreateAlias"]);
    assert!(names(&["--principal", "root"]).contains(&"CreateAccessKey".to_owned()));
    let newest = daemon.json(["audit", "list", "--limit", "1"]);
    let id = newest[0]["eventID"].as_str().expect("an id");
    assert_eq!(daemon.json(["audit", "show", id]), newest[0]);
    assert_eq!(daemon.refused(3, ["audit", "show", "none"])["kms_exception"], "NotFoundException");
    assert_eq!(daemon.refused(3, ["audit", "list", "--volume", "none"])["code"], "volume.not_found");
    assert_ne!(newest, Value::Null);
}

#[test]
fn a_look_at_the_daemon_is_no_call_and_lines_that_are_no_records_are_told_of() {
    let world = World::new();
    let daemon = &world.daemon;
    let path = daemon.path().join("state/kms/audit.ndjson");
    daemon.json(["key", "list"]);
    let before = std::fs::read(&path).expect("there");
    assert!(before.ends_with(b"}\n"), "key list is a call");
    daemon.json(["status"]);
    assert_eq!(std::fs::read(&path).expect("there"), before);
    let said = |words: &[&str]| String::from_utf8(daemon.envol(words).stderr).expect("text");
    assert_eq!(said(&["audit", "list"]), "");
    let mut log = std::fs::OpenOptions::new().append(true).open(&path).expect("there");
    log.write_all(b"\xff\n{\n").expect("written");
    // The line of this call is behind them.
    daemon.json(["key", "list"]);
    let note = "warning: lines of the audit log that are no records, and were passed over: 2\n";
    assert_eq!(said(&["audit", "list"]), note);
    assert_eq!(daemon.json(["audit", "list", "--limit", "2"])[0]["eventName"], "ListKeys");
}

#[test]
fn the_command_line_verifies_the_log_with_a_key_that_it_got_once() {
    let world = World::new();
    let daemon = &world.daemon;
    let (path, place) = (daemon.path().join("state/kms/audit.ndjson"), daemon.path().join("verify.key"));
    let file = place.to_str().expect("text");
    let text = |words: &[&str]| String::from_utf8(daemon.envol(words).stdout).expect("text");
    daemon.json(["key", "list"]);
    let told = daemon.json(["audit", "verify-key", file]);
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&place.metadata().expect("there")) & 0o7777, 0o600);
    let key = std::fs::read_to_string(&place).expect("there");
    assert_eq!(daemon.refused(4, ["audit", "verify-key", file])["code"], "cli.file", "a file is not overwritten");
    let other = daemon.path().join("other.key");
    let gone = daemon.refused(4, ["audit", "verify-key", other.to_str().expect("text")]);
    assert_eq!(gone["kms_exception"], "AuditVerifyKeyGoneException");
    assert!(!other.exists(), "nothing is left of the attempt");
    let records = std::fs::read_to_string(&path).expect("there");
    let secret = key.trim_end().rsplit_once(':').expect("a prefix").1;
    assert!(records.contains(told["fingerprint"].as_str().expect("text")));
    assert!(!records.contains(secret) && !daemon.log().contains(secret) && !told.to_string().contains(secret));
    let verified = daemon.json(["audit", "verify", "--key", file]);
    assert_eq!((&verified["finding"], &verified["keyed"]), (&Value::Null, &Value::from(true)));
    assert!(text(&["audit", "verify", "--key", file]).contains("intact"));
    assert!(text(&["audit", "verify"]).contains("its hashes are right"));
    let head = verified["head"].as_str().expect("text").to_owned();
    daemon.json(["key", "list"]);
    daemon.json(["audit", "verify", "--key", file, "--head", &head]);
    // A copy, elsewhere: cut off behind the first record, changed, and with a key that is none.
    let copy = daemon.path().join("copy.ndjson");
    let words = ["audit", "verify", "--log", copy.to_str().expect("text"), "--key", file];
    std::fs::write(&copy, records.split_inclusive('\n').next().expect("a line")).expect("written");
    daemon.json(words);
    let cut = daemon.refused(7, words.iter().chain(&["--head", &head]));
    assert!(cut["message"].as_str().expect("text").contains("records were cut off"), "{cut}");
    std::fs::write(&copy, records.replacen("ListKeys", "ListKeyz", 1)).expect("written");
    assert_eq!(daemon.refused(7, words)["code"], "audit.broken");
    std::fs::write(&copy, records.trim_end()).expect("written");
    assert_eq!(daemon.refused(7, words)["code"], "audit.torn");
    assert_eq!(
        daemon.refused(2, ["audit", "verify", "--key", copy.to_str().expect("text")])["code"],
        "cli.not_a_verify_key"
    );
    assert_eq!(daemon.refused(3, ["audit", "verify", "--key", "/nonexistent/key"])["code"], "cli.file");
}

#[test]
fn lines_that_were_put_in_and_a_key_that_was_lost_show_without_a_key() {
    let mut world = World::new();
    let daemon = &mut world.daemon;
    let kms = daemon.path().join("state/kms");
    daemon.json(["key", "list"]);
    daemon.terminate();
    let mut log = std::fs::OpenOptions::new().append(true).open(kms.join("audit.ndjson")).expect("there");
    log.write_all(b"{}\n").expect("written");
    daemon.run();
    assert_eq!(daemon.refused(7, ["audit", "verify"])["code"], "audit.passed_over");
    let text = |daemon: &Daemon| String::from_utf8(daemon.envol(["audit", "verify"]).stdout).expect("text");
    let told = text(daemon);
    assert!(told.contains("3 bytes from byte") && !told.contains("gap"), "{told}");
    daemon.terminate();
    std::fs::remove_file(kms.join("audit.ratchet")).expect("there");
    daemon.run();
    let lost = daemon.refused(7, ["audit", "verify"]);
    assert_eq!(lost["code"], "audit.broken");
    assert!(lost["message"].as_str().expect("text").contains("begins a chain anew"), "{lost}");
    let told = text(daemon);
    assert!(told.contains("record 1: the key was lost") && told.contains("3 bytes from byte"), "{told}");
}
