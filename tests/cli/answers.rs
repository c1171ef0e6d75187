//! What each command asks of the daemon, and how it shows the answer.

use serde_json::{Value, json};

use super::program::envol_at;
use super::scripted::Scripted;

const ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const KEY_ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
const ID: &str = "vol-0123456789abcdef0";

pub(crate) fn key(state: &str) -> Value {
    let deletion_date = if state == "PendingDeletion" { json!("2026-02-01T00:00:00Z") } else { Value::Null };
    json!({
        "key_id": KEY_ID, "arn": ARN, "state": state, "aliases": ["alias/backups"], "description": "of the\u{1b}[2J host",
        "manager": "CUSTOMER", "created": "2026-01-02T03:04:05Z", "deletion_date": deletion_date, "rotations": 1,
        "rotation_period_days": 365, "next_rotation_date": "2027-01-02T03:04:05Z", "tags": {"Env": "Prod\u{1b}[2J", "Team": ""},
        "current_key_material_id": "c0ffee", "key_spec": "SYMMETRIC_DEFAULT", "origin": "AWS_KMS", "volumes": [ID],
        "key_usage": "ENCRYPT_DECRYPT", "algorithms": ["SYMMETRIC_DEFAULT"],
        "last_used": "2026-01-02T04:05:06Z", "last_operation": "Decrypt",
    })
}

pub(crate) fn attachment(read_only: bool) -> Value {
    json!({
        "volume": ID, "name": "db", "uri": "nbd+unix:///db?socket=/run/envol/nbd.sock", "device": null,
        "read_only": read_only, "direct": read_only, "clients": ["pid 77, uid 0"], "since": "2026-01-02T03:05:00Z",
    })
}

pub(crate) fn volume(state: &str) -> Value {
    let attachments = if state == "in-use" { json!([attachment(false)]) } else { json!([]) };
    json!({
        "id": ID, "name": "db", "size": 10_u64 << 30, "state": state, "kms": "embedded", "kms_key": ARN,
        "backing": "/var/lib/envol/volumes/vol-0123456789abcdef0.envol", "sector_size": 4096, "thick": false,
        "allocated": 1_258_291, "attachments": attachments, "last_refusal": null,
    })
}

fn refused_volume() -> Value {
    let mut volume = volume("available");
    volume["name"] = json!("old");
    volume["id"] = json!("vol-00000000000000001");
    volume["allocated"] = Value::Null;
    volume["last_refusal"] = json!({
        "time": "2026-01-02T03:06:00Z", "cause": format!("{ARN} is disabled."), "kms_exception": "DisabledException",
        "retrying": false,
    });
    volume
}

fn status() -> Value {
    json!({
        "version": "0.1.0", "pid": 4711, "since": "2026-01-02T03:00:00Z", "state_dir": "/var/lib/envol",
        "listeners": ["nbd+unix:///?socket=/run/envol/nbd.sock"], "kms_endpoints": ["http://127.0.0.1:4599"], "key_memory": "memfd_secret",
        "hsm": { "state": "running", "pid": 813, "domain_key": "the file /var/lib/envol/domain.key" }, "verify_key_here": true, "io": "io_uring",
        "hardening": {"asked": "prefer", "reached": ["no cores", "not dumpable", "no new privileges", "landlock (version 7)"], "missing": ["seccomp: Function not implemented"]}, "connections": 1,
        "volumes": [volume("in-use"), refused_volume()], "keys": [key("Disabled")],
        "traffic": [{
            "volume": ID, "reads": 10, "read_bytes": 5 << 20, "writes": 3, "written_bytes": 4096, "flushes": 1
        }],
    })
}

fn event(name: &str, result: &str, cause: &str) -> Value {
    json!({
        "version": "0", "detail-type": "EBS Volume Notification", "source": "envol", "time": "2026-01-02T03:04:05Z",
        "resources": [format!("arn:aws:ec2:us-east-1:000000000000:volume/{ID}"), ARN],
        "detail": {"event": name, "result": result, "cause": cause},
    })
}

fn alias() -> Value {
    json!({
        "name": "alias/backups", "arn": "arn:aws:kms:us-east-1:000000000000:alias/backups", "target_key_id": KEY_ID
    })
}

fn access_key() -> Value {
    json!({ "access_key_id": "AKIAABCDEFGHIJKLMNOP", "user": "root", "created": "2026-01-02T03:04:05Z" })
}

fn new_access_key() -> Value {
    let mut key = access_key();
    key["secret_access_key"] = json!("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
    key
}

fn record(refused: bool) -> Value {
    let mut record = json!({
        "eventVersion": "1.08", "eventTime": "2026-01-02T03:04:05Z", "eventName": "Decrypt",
        "userIdentity": {"type": "Root", "arn": "arn:aws:iam::000000000000:root"}, "sourceIPAddress": "127.0.0.1",
        "requestParameters": {"keyId": ARN, "encryptionContext": {"aws:ebs:id": ID}}, "responseElements": null,
        "requestID": "r-1", "eventID": "e-1", "resources": [{"type": "AWS::KMS::Key", "ARN": ARN}],
    });
    if refused {
        record["errorCode"] = json!("DisabledException");
        record["errorMessage"] = json!(format!("{ARN} is\u{1b}[2J disabled."));
    }
    record
}

fn done(value: &Value) -> Value {
    json!({"steps": [{"progress": {"done": 1, "total": 2}}, {"done": value}]})
}

fn identities() -> &'static str {
    r#"{"accounts": {"000000000000": {"users": {"alice": {"groups": ["readers"], "policies": {"own": {}}, "tags": {"a": "b"}}}}}}"#
}

fn explained() -> Value {
    json!({
        "allowed": true,
        "principal": "arn:aws:iam::000000000000:user/alice",
        "action": "kms:Decrypt",
        "key": "arn:aws:kms:us-east-1:000000000000:key/1234",
        "reason": "allowed by grant 12",
        "change": "without grant 12, or with a denial in any policy",
    })
}

fn daemon() -> Scripted {
    let events =
        json!([event("createVolume", "available", ""), event("attachVolume", "failed", "the key is disabled.")]);
    Scripted::serve(&[
        ("GET /v1/status", 200, status()),
        ("GET /v1/keys", 200, json!([key("Enabled"), key("PendingDeletion")])),
        ("POST /v1/keys", 200, key("Enabled")),
        ("GET /v1/keys/alias%2Fbackups", 200, key("Enabled")),
        ("POST /v1/keys/alias%2Fbackups/enable", 200, key("Enabled")),
        ("POST /v1/keys/alias%2Fbackups/disable", 200, key("Disabled")),
        ("POST /v1/keys/alias%2Fbackups/cancel-deletion", 200, key("Disabled")),
        ("POST /v1/keys/alias%2Fbackups/rotate", 200, key("Enabled")),
        ("POST /v1/keys/alias%2Fbackups/rotation", 200, key("Enabled")),
        ("POST /v1/keys/alias%2Fbackups/tag", 200, key("Enabled")),
        ("POST /v1/keys/alias%2Fbackups/untag", 200, key("Enabled")),
        ("POST /v1/keys/alias%2Fbackups/schedule-deletion", 200, key("PendingDeletion")),
        ("GET /v1/keys/alias%2Fbackups/policy", 200, json!({"policy": "{\"Version\": \"2012-10-17\"}"})),
        ("POST /v1/keys/alias%2Fbackups/policy", 204, Value::Null),
        ("POST /v1/keys/alias%2Fbackups/explain", 200, explained()),
        ("GET /v1/identities", 200, json!({"document": identities()})),
        ("POST /v1/identities", 204, Value::Null),
        ("GET /v1/aliases", 200, json!([alias()])),
        ("POST /v1/aliases", 200, alias()),
        ("PUT /v1/aliases/backups", 200, alias()),
        ("DELETE /v1/aliases/backups", 204, Value::Null),
        ("GET /v1/access-keys", 200, json!([access_key()])),
        ("POST /v1/access-keys", 200, new_access_key()),
        ("DELETE /v1/access-keys/AKIAABCDEFGHIJKLMNOP", 204, Value::Null),
        ("POST /v1/kms/zeroize", 200, json!({"state": "zeroized", "domain_key": "the file /var/lib/envol/domain.key"})),
        (
            "POST /v1/kms/initialise",
            200,
            json!({"state": "running", "pid": 813, "domain_key": "the file /var/lib/envol/domain.key"}),
        ),
        ("GET /v1/audit?limit=100", 200, json!([record(false), record(true)])),
        (
            "GET /v1/audit?key=alias%2Fbackups&principal=root&volume=db&since=2026-01-02T00%3A00%3A00Z&limit=1",
            200,
            json!([record(true)]),
        ),
        ("GET /v1/audit/e-1", 200, record(true)),
        ("GET /v1/volumes", 200, json!([volume("in-use"), refused_volume()])),
        ("POST /v1/volumes", 200, done(&volume("available"))),
        ("POST /v1/volumes/add", 200, volume("available")),
        ("GET /v1/volumes/db", 200, volume("in-use")),
        ("GET /v1/volumes/old", 200, refused_volume()),
        ("DELETE /v1/volumes/db", 204, Value::Null),
        ("POST /v1/volumes/db/forget", 204, Value::Null),
        ("POST /v1/volumes/db/fill", 200, done(&volume("available"))),
        ("POST /v1/volumes/db/rewrap", 200, volume("in-use")),
        (
            "GET /v1/volumes/db/header",
            200,
            json!({"volume": ID, "name": "db", "generation": 7, "header": "RU5WT0xWT0w="}),
        ),
        ("POST /v1/volumes/db/header", 200, volume("available")),
        ("POST /v1/volumes/db/export-key", 200, json!({"table": "0 8 crypt x\n", "warnings": ["it is attached"]})),
        ("POST /v1/volumes/db/attach", 200, attachment(true)),
        ("POST /v1/volumes/old/attach", 200, refused_volume()),
        ("POST /v1/volumes/db/detach", 200, volume("available")),
        ("GET /v1/events", 200, events.clone()),
        ("GET /v1/events?follow=true", 200, events),
    ])
}

/// The words, a name for the snapshots, and the calls that they must come to.
const COMMANDS: &[(&str, &[&str])] = &[
    ("status", &["GET /v1/status"]),
    ("events", &["GET /v1/events"]),
    ("events --follow", &["GET /v1/events?follow=true"]),
    ("key create --alias backups --description d", &["POST /v1/keys"]),
    ("key list", &["GET /v1/keys"]),
    ("key show alias/backups", &["GET /v1/keys/alias%2Fbackups", "GET /v1/volumes"]),
    ("key enable alias/backups", &["POST /v1/keys/alias%2Fbackups/enable"]),
    ("key disable alias/backups", &["POST /v1/keys/alias%2Fbackups/disable"]),
    ("key cancel-deletion alias/backups", &["POST /v1/keys/alias%2Fbackups/cancel-deletion"]),
    ("key rotate alias/backups", &["POST /v1/keys/alias%2Fbackups/rotate"]),
    ("key rotate alias/backups --every 365", &["POST /v1/keys/alias%2Fbackups/rotation"]),
    ("key tag alias/backups Env=Prod", &["POST /v1/keys/alias%2Fbackups/tag"]),
    ("key untag alias/backups Env", &["POST /v1/keys/alias%2Fbackups/untag"]),
    (
        "key schedule-deletion alias/backups --days 7 --yes",
        &["GET /v1/keys/alias%2Fbackups", "GET /v1/volumes", "POST /v1/keys/alias%2Fbackups/schedule-deletion"],
    ),
    ("key policy get alias/backups", &["GET /v1/keys/alias%2Fbackups/policy"]),
    ("key policy put alias/backups -", &["POST /v1/keys/alias%2Fbackups/policy"]),
    (
        "key explain arn:aws:iam::000000000000:user/alice Decrypt alias/backups --context a=b --alias backups",
        &["POST /v1/keys/alias%2Fbackups/explain"],
    ),
    ("iam show", &["GET /v1/identities"]),
    ("iam put -", &["POST /v1/identities"]),
    ("iam list", &["GET /v1/identities"]),
    ("key alias create backups K", &["POST /v1/aliases"]),
    ("key alias update backups K", &["PUT /v1/aliases/backups"]),
    ("key alias delete backups", &["DELETE /v1/aliases/backups"]),
    ("key alias list", &["GET /v1/aliases"]),
    ("kms access-key create --user root", &["POST /v1/access-keys"]),
    ("kms access-key list", &["GET /v1/access-keys"]),
    ("kms access-key delete AKIAABCDEFGHIJKLMNOP", &["DELETE /v1/access-keys/AKIAABCDEFGHIJKLMNOP"]),
    ("kms zeroize --yes", &["POST /v1/kms/zeroize"]),
    ("kms initialise", &["POST /v1/kms/initialise"]),
    ("audit list", &["GET /v1/audit?limit=100"]),
    (
        "audit list --key alias/backups --principal root --volume db --since 2026-01-02T00:00:00Z --limit 1",
        &["GET /v1/audit?key=alias%2Fbackups&principal=root&volume=db&since=2026-01-02T00%3A00%3A00Z&limit=1"],
    ),
    ("audit show e-1", &["GET /v1/audit/e-1"]),
    ("volume create db --size 10G --key K --scope 1G --sector-size 512 --thick --force", &["POST /v1/volumes"]),
    ("volume list", &["GET /v1/volumes"]),
    ("volume show db", &["GET /v1/volumes/db"]),
    ("volume show old", &["GET /v1/volumes/old"]),
    ("volume delete db --yes", &["GET /v1/volumes/db", "DELETE /v1/volumes/db"]),
    ("volume add /srv/db.envol --yes", &["POST /v1/volumes/add", "POST /v1/volumes/add"]),
    ("volume forget db --yes", &["GET /v1/volumes/db", "POST /v1/volumes/db/forget"]),
    ("volume fill db", &["POST /v1/volumes/db/fill"]),
    ("volume rewrap db --key K", &["POST /v1/volumes/db/rewrap"]),
    (
        "volume header restore db /dev/null --accept-rollback --yes",
        &["GET /v1/volumes/db", "POST /v1/volumes/db/header"],
    ),
    ("volume export-key db --yes", &["GET /v1/volumes/db", "POST /v1/volumes/db/export-key"]),
    ("attach db --read-only --accept-rollback", &["POST /v1/volumes/db/attach"]),
    ("attach old --dry-run", &["POST /v1/volumes/old/attach"]),
    ("detach db --force", &["POST /v1/volumes/db/detach"]),
];

fn name(words: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    words.chars().map(keep).collect::<String>().replace("---", "-").replace("--", "-")
}

#[test]
fn every_command_asks_what_it_should_and_shows_what_it_is_told() {
    let daemon = daemon();
    for (words, calls) in COMMANDS {
        let said = envol_at(&daemon.socket(), &words.split(' ').collect::<Vec<_>>());
        let mut asked = daemon.asked();
        if *words == "status" {
            asked.truncate(1); // the second look is for the rates
        }
        assert_eq!(asked.iter().map(|(call, _)| call.as_str()).collect::<Vec<_>>(), *calls, "{words}");
        assert_eq!(said.code, Some(0), "{words}: {}", said.stderr);
        assert!(!said.stdout.contains('\x1b'), "{words}: no escape sequence where there is no terminal");
        let bodies: String = asked.iter().map(|(call, body)| format!("{call} {body}\n")).collect();
        insta::assert_snapshot!(name(words), format!("{bodies}{}", said.whole()));
    }
}

#[test]
fn every_command_prints_one_document_when_asked_for_json() {
    let daemon = daemon();
    for (words, _) in COMMANDS {
        let said = envol_at(&daemon.socket(), &[&words.split(' ').collect::<Vec<_>>()[..], &["--json"]].concat());
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{words}");
        if words.starts_with("events") {
            for line in said.stdout.lines() {
                let event: Value = serde_json::from_str(line).expect("each line is a document");
                assert!(event["detail"]["event"].is_string());
            }
            assert_eq!(said.stdout.lines().count(), 2);
        } else {
            let document = said.document();
            assert_eq!(
                document.is_array(),
                words.ends_with("list") || words.starts_with("audit list"),
                "{words}: lists are arrays, the rest is not"
            );
        }
    }
}

#[test]
fn json_carries_the_fields_that_scripts_rely_on() {
    let daemon = daemon();
    let fields = |words: &[&str], names: &[&str]| {
        let document = envol_at(&daemon.socket(), words).document();
        for name in names {
            assert!(document.get(name).is_some(), "{words:?} gives {name}");
        }
    };
    fields(&["--json", "key", "create"], &["key_id", "arn", "state", "aliases"]);
    fields(&["key", "show", "alias/backups", "--json"], &["key_id", "arn", "state", "aliases"]);
    let volume = ["id", "name", "size", "state", "kms_key", "backing", "sector_size", "attachments"];
    fields(&["volume", "create", "db", "--size", "1M", "--json"], &volume);
    fields(&["volume", "show", "db", "--json"], &volume);
    fields(&["attach", "db", "--json"], &["volume", "name", "uri", "device", "read_only"]);
}

#[test]
fn a_header_is_kept_in_a_file_of_its_own_and_no_file_is_overwritten() {
    let (daemon, dir) = (daemon(), tempfile::tempdir().expect("a directory"));
    let file = dir.path().join("header");
    let words = ["volume", "header", "backup", "db", file.to_str().expect("text")];
    let said = envol_at(&daemon.socket(), &words);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("generation 7"), "{}", said.stdout);
    assert_eq!(std::fs::read(&file).expect("written"), b"ENVOLVOL");
    assert_eq!(envol_at(&daemon.socket(), &words).code, Some(4));
    let absent = ["volume", "header", "restore", "db", "/nonexistent/file", "--yes"];
    assert_eq!(envol_at(&daemon.socket(), &absent).code, Some(3));
}

#[test]
fn a_policy_is_put_as_the_editor_leaves_it_and_not_at_all_where_nothing_was_changed() {
    let daemon = daemon();
    for (editor, puts) in [("true", false), ("sed -i s/2012/2013/", true)] {
        let mut command = super::program::command(&["key", "policy", "edit", "alias/backups"]);
        command.env_remove("VISUAL").env("EDITOR", editor).env("ENVOL_SOCKET", daemon.socket());
        assert!(command.output().expect("the program runs").status.success(), "{editor}");
        let put = daemon.asked().into_iter().find(|(call, _)| call.starts_with("POST"));
        let policy = put.map(|(_, body)| body["policy"].as_str().expect("text").to_owned());
        assert_eq!(policy.as_deref(), puts.then_some("{\"Version\": \"2013-10-17\"}"));
    }
    let mut command = super::program::command(&["key", "policy", "edit", "alias/backups"]);
    command.env_remove("VISUAL").env("EDITOR", "false").env("ENVOL_SOCKET", daemon.socket());
    assert_eq!(command.output().expect("the program runs").status.code(), Some(2));
}

#[test]
fn attach_prints_the_uri_alone() {
    let said = envol_at(&daemon().socket(), &["attach", "db"]);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("nbd+unix:///db?socket=/run/envol/nbd.sock\n", ""));
}

#[test]
fn export_key_prints_the_table_alone_and_warns_beside_it() {
    let said = envol_at(&daemon().socket(), &["volume", "export-key", "db", "--yes"]);
    assert_eq!(said.stdout, "0 8 crypt x\n");
    assert_eq!(said.stderr, "warning: it is attached\n");
}

#[test]
fn a_path_is_sent_as_seen_from_everywhere() {
    let daemon = daemon();
    let mut command = super::program::command(&["volume", "create", "db", "--backing", "here.img"]);
    command.current_dir(daemon.path()).env("ENVOL_SOCKET", daemon.socket());
    assert!(command.output().expect("the program runs").status.success());
    let (_, body) = daemon.asked().remove(0);
    assert_eq!(body["backing"], json!(daemon.path().join("here.img")));
}
