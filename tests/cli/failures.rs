//! Failures: two lines, or one document; and the exit code.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::json;

use super::program::{ENVOL, envol, envol_at};
use super::scripted::Scripted;

#[test]
fn every_failure_of_the_daemon_keeps_its_exit_code_and_its_words() {
    for code in 1..=10_u8 {
        let problem = json!({"error": {
            "code": "attach.kms.disabled", "message": "cannot attach db: the key K is disabled", "exit_code": code,
            "remedy": "enable the key: envol key enable K", "kms_exception": "DisabledException",
        }});
        let daemon = Scripted::serve(&[("POST /v1/volumes/db/attach", 409, problem)]);
        let said = envol_at(&daemon.socket(), &["attach", "db"]);
        assert_eq!((said.code, said.stdout.as_str()), (Some(i32::from(code)), ""));
        let words = "envol: cannot attach db: the key K is disabled\n  enable the key: envol key enable K\n";
        assert_eq!(said.stderr, words);
        let said = envol_at(&daemon.socket(), &["attach", "db", "--json"]);
        assert_eq!((said.code, said.stdout.as_str()), (Some(i32::from(code)), ""));
        let error = said.error();
        assert_eq!(
            (&error["code"], &error["kms_exception"]),
            (&json!("attach.kms.disabled"), &json!("DisabledException"))
        );
        assert!(error["message"].is_string() && error["remedy"].is_string());
    }
}

#[test]
fn no_daemon_gives_ten() {
    let dir = tempfile::tempdir().expect("a directory");
    let absent = dir.path().join("control.sock");
    let said = envol_at(&absent, &["status"]);
    assert_eq!(said.code, Some(10));
    let text = said.whole().replace(&dir.path().display().to_string(), "DIR");
    insta::assert_snapshot!("no-daemon", text);
    // A socket that somebody left behind is no daemon either.
    drop(UnixListener::bind(&absent).expect("a socket"));
    let said = envol_at(&absent, &["status", "--json"]);
    assert_eq!((said.code, &said.error()["code"]), (Some(10), &json!("no_daemon")));
}

#[test]
fn what_is_no_envol_daemon_is_an_internal_error() {
    let daemon = Scripted::serve(&[("GET /v1/status", 200, json!("something else"))]);
    let said = envol_at(&daemon.socket(), &["status"]);
    assert_eq!((said.code, said.stderr.lines().count()), (Some(1), 2));
    let file = daemon.path().join("file");
    fs::write(&file, "").expect("written");
    assert_eq!(envol_at(&file, &["status"]).code, Some(10), "a file is no socket that anybody listens at");
}

#[test]
fn a_failure_in_the_middle_of_long_work_is_a_failure() {
    let problem = json!({
        "code": "backing.io", "message": "cannot write the backing", "remedy": "see the disk", "kms_exception": null,
        "exit_code": 8,
    });
    let steps = json!({"steps": [{"progress": {"done": 1, "total": 2}}, {"error": problem}]});
    let daemon = Scripted::serve(&[("POST /v1/volumes/db/fill", 200, steps)]);
    let said = envol_at(&daemon.socket(), &["volume", "fill", "db"]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(8), ""));
    let unfinished = json!({"steps": [{"progress": {"done": 1, "total": 2}}]});
    let daemon = Scripted::serve(&[("POST /v1/volumes/db/fill", 200, unfinished)]);
    assert_eq!(envol_at(&daemon.socket(), &["volume", "fill", "db"]).code, Some(1), "it never said that it was done");
}

#[test]
fn usage_errors_give_two_before_any_daemon_is_asked() {
    let long = "a".repeat(65);
    let bad: [&[&str]; 13] = [
        &["frobnicate"],
        &["volume", "create"],
        &["volume", "create", "../x", "--size", "1G"],
        &["volume", "create", &long, "--size", "1G"],
        &["volume", "create", "x", "--size", "1.5G"],
        &["volume", "create", "x", "--size", "1G", "--sector-size", "1024"],
        &["volume", "show", ""],
        &["attach", "../x"],
        &["detach", &long],
        &["key", "schedule-deletion", "K", "--days", "6"],
        &["key", "schedule-deletion", "K", "--days", "31"],
        &["daemon", "--listen", "nowhere"],
        &["attach", "x", "--device", "auto"],
    ];
    for words in bad {
        let said = envol(words);
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{words:?}");
        let json = envol(&[words, &["--json"]].concat());
        assert_eq!((json.code, &json.error()["code"]), (Some(2), &json!("cli.usage")), "{words:?}");
    }
}

#[test]
fn usage_errors_read_well() {
    let words = ["volume", "create", "x", "--size", "ten"];
    insta::assert_snapshot!("usage-error", envol(&words).whole());
    let words = ["--json", "volume", "create", "x", "--size", "ten"];
    insta::assert_snapshot!("usage-error-json", envol(&words).whole());
}

#[test]
fn a_verify_key_that_cannot_be_written_leaves_no_file_and_is_not_forgotten() {
    let key = json!({"key": format!("envol-audit-verify-key-1:{:064}", 7), "fingerprint": "f"});
    let daemon = Scripted::serve(&[("POST /v1/audit/verify-key", 200, key)]);
    let file = daemon.path().join("verify.key");
    // A file may be made and take no byte.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\"", ENVOL, "--json", "audit", "verify-key"]);
    let output = command.arg(&file).env("ENVOL_SOCKET", daemon.socket()).output().expect("starts");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(8), "{said}");
    assert!(said.contains("cli.file") && said.contains("File too large"), "{said}");
    assert!(!file.exists(), "the next attempt finds no file in its way");
    let asked: Vec<String> = daemon.asked().into_iter().map(|(call, _)| call).collect();
    assert_eq!(asked, ["POST /v1/audit/verify-key"]);
}

#[test]
fn a_verify_key_that_may_not_be_forgotten_is_in_the_file_that_is_named() {
    let text = format!("envol-audit-verify-key-1:{:064}", 7);
    let problem = json!({"error": {
        "code": "internal", "message": "the disk failed", "exit_code": 8, "remedy": "see the log", "kms_exception": null,
    }});
    let daemon = Scripted::serve(&[
        ("POST /v1/audit/verify-key", 200, json!({"key": text, "fingerprint": "f"})),
        ("DELETE /v1/audit/verify-key", 500, problem),
    ]);
    let file = daemon.path().join("verify.key");
    let said = envol_at(&daemon.socket(), &["audit", "verify-key", file.to_str().expect("text"), "--json"]);
    let (code, error) = (said.code, said.error());
    assert_eq!((code, &error["code"]), (Some(8), &json!("audit.not_forgotten")));
    let message = error["message"].as_str().expect("text");
    assert!(message.contains("verify.key holds the verify key") && message.ends_with("the disk failed"), "{message}");
    assert_eq!(fs::read_to_string(file).expect("it stays"), text + "\n");
}
