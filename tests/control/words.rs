//! What requests may say, and what is answered.

use std::io::Write;

use envol::control::api::{Alias, Attachment, CreateKey, Key, PutAlias, Volume};
use envol::control::client::ClientError;
use serde_json::{Value, json};

use crate::support::{Daemon, ask, code, until};

#[test]
fn names_outside_the_character_set_are_refused_wherever_they_stand() {
    let daemon = Daemon::start();
    let long = "a".repeat(300);
    let in_paths = [
        "..%2Fx",
        "%2Fetc%2Fpasswd",
        "a%00b",
        "..",
        ".hidden",
        "-x",
        "v%D0%BEl",
        "a%20b",
        "VOL-0123456789abcdef0",
        &long,
    ];
    for name in in_paths {
        for (method, path) in [
            ("GET", format!("/v1/volumes/{name}")),
            ("DELETE", format!("/v1/volumes/{name}")),
            ("POST", format!("/v1/volumes/{name}/attach")),
            ("POST", format!("/v1/volumes/{name}/forget")),
        ] {
            let (status, body) = ask(&daemon, method, &path, "");
            assert_eq!((status, code(&body)), (400, "volume.bad_name"), "{method} {path}");
        }
    }
    for name in ["", "../x", "/abs", "a\0b", "v\u{43e}l", "a b", "vol-0123456789abcdef0", &long] {
        let body = json!({ "name": name, "size": 1 << 20 }).to_string();
        let (status, body) = ask(&daemon, "POST", "/v1/volumes", &body);
        assert_eq!((status, code(&body)), (400, "volume.bad_name"), "{name:?}");
    }
    let volumes: Vec<Volume> = daemon.client().get("/v1/volumes").expect("a list");
    assert_eq!(volumes, []);
}

#[test]
fn a_body_that_says_what_it_must_not_is_refused() {
    let daemon = Daemon::start();
    for (path, body) in [
        ("/v1/keys", "{\"alais\": \"x\"}"),
        ("/v1/keys", "{\"alias\": 7}"),
        ("/v1/keys", "[]"),
        ("/v1/keys", "not json"),
        ("/v1/keys", "{} {}"),
        ("/v1/keys/alias%2Fx/enable", "{\"force\": true}"),
        ("/v1/volumes", "{}"),
        ("/v1/volumes", "{\"name\": \"a\", \"size\": -1}"),
        ("/v1/volumes/a/attach", "{\"dry_run\": \"yes\"}"),
        ("/v1/volumes/add", "{\"path\": null}"),
    ] {
        let (status, answer) = ask(&daemon, "POST", path, body);
        assert_eq!((status, code(&answer)), (400, "request.bad_body"), "{path} {body}");
        let problem = &answer["error"];
        assert_eq!(problem["exit_code"], 2);
        assert!(problem["kms_exception"].is_null() && problem["remedy"].is_string(), "{problem}");
    }
    for (path, body, expected) in [
        ("/v1/volumes", "{\"name\": \"a\", \"size\": 4096, \"sector_size\": 513}", "volume.bad_sector_size"),
        ("/v1/volumes", "{\"name\": \"a\", \"backing\": \"relative/path\"}", "volume.bad_path"),
        ("/v1/volumes/add", "{\"path\": \"relative\"}", "volume.bad_path"),
        ("/v1/volumes/add", "{\"path\": \"/a\\u0000b\"}", "volume.bad_path"),
    ] {
        let (status, answer) = ask(&daemon, "POST", path, body);
        assert_eq!((status, code(&answer)), (400, expected), "{path} {body}");
    }
    let (status, body) = ask(&daemon, "GET", "/v1/events?folow=true", "");
    assert_eq!((status, code(&body)), (400, "request.bad_query"));
}

#[test]
fn unknown_paths_and_methods_are_answered_as_failures() {
    let daemon = Daemon::start();
    let (status, body) = ask(&daemon, "GET", "/v2/volumes", "");
    assert_eq!((status, code(&body)), (404, "request.no_such_path"));
    let (status, body) = ask(&daemon, "PATCH", "/v1/volumes", "");
    assert_eq!((status, code(&body)), (405, "request.no_such_method"));
}

#[test]
fn a_volume_may_be_called_add() {
    let daemon = Daemon::start();
    let made = daemon.volume("add");
    let shown: Volume = daemon.client().get("/v1/volumes/add").expect("shown");
    assert_eq!(shown.id, made.id);
    assert_eq!(ask(&daemon, "POST", "/v1/volumes/add/attach", "").0, 200);
    assert_eq!(ask(&daemon, "POST", "/v1/volumes/add/detach", "").0, 200);
    assert_eq!(ask(&daemon, "DELETE", "/v1/volumes/add", "").0, 204);
    assert_eq!(ask(&daemon, "GET", "/v1/volumes/add", "").0, 404);
}

#[test]
fn a_period_that_is_not_named_ends_no_rotation() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let key: Key = client.send("POST", "/v1/keys", &CreateKey::default()).expect("made");
    let path = format!("/v1/keys/{}/rotation", key.key_id);
    let set: Key = client.send("POST", &path, &json!({ "days": 90 })).expect("set");
    assert_eq!(set.rotation_period_days, Some(90));
    assert!(client.send::<_, Key>("POST", &path, &json!({})).is_err());
    let kept: Key = client.get(&format!("/v1/keys/{}", key.key_id)).expect("shown");
    assert_eq!(kept.rotation_period_days, Some(90));
    let ended: Key = client.send("POST", &path, &json!({ "days": null })).expect("ended");
    assert_eq!(ended.rotation_period_days, None);
}

#[test]
fn a_key_is_named_by_id_arn_or_alias_and_lists_its_volumes() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let asked = CreateKey { alias: Some("team/db".to_owned()), ..CreateKey::default() };
    let key: Key = client.send("POST", "/v1/keys", &asked).expect("a key");
    let body = json!({ "name": "db", "size": 1 << 20, "key": "alias/team/db" });
    let volume: Volume = client.send_long("/v1/volumes", &body, &mut |_, _| ()).expect("a volume");
    assert_eq!(volume.kms_key, key.arn);
    for name in [key.key_id.as_str(), &key.arn.replace('/', "%2F"), "alias%2Fteam%2Fdb"] {
        let disabled: Key = client.send("POST", &format!("/v1/keys/{name}/disable"), &json!({})).expect("disabled");
        assert_eq!((disabled.state.as_str(), &disabled.volumes), ("Disabled", &vec![volume.id.clone()]));
        let shown: Key = client.get(&format!("/v1/keys/{name}")).expect("shown");
        assert_eq!(shown, disabled);
        let _: Key = client.send("POST", &format!("/v1/keys/{name}/enable"), &()).expect("enabled");
    }
    let absent = client.get::<Key>("/v1/keys/alias%2Fabsent");
    assert!(matches!(absent, Err(ClientError::Failed(problem)) if problem.exit_code == 3));
}

#[test]
fn an_alias_is_made_moved_and_removed() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let key = || client.send::<_, Key>("POST", "/v1/keys", &json!({})).expect("a key");
    let (first, second) = (key(), key());
    let put = |target: &Key| PutAlias { name: "a/b".to_owned(), target: target.key_id.clone() };
    let made: Alias = client.send("POST", "/v1/aliases", &put(&first)).expect("made");
    assert_eq!((made.name.as_str(), &made.target_key_id), ("alias/a/b", &first.key_id));
    let moved: Alias = client.send("PUT", "/v1/aliases/alias%2Fa%2Fb", &put(&second)).expect("moved");
    assert_eq!(moved.target_key_id, second.key_id);
    assert_eq!(client.get::<Vec<Alias>>("/v1/aliases").expect("a list"), [moved]);
    let mismatch = client.send::<_, Alias>("PUT", "/v1/aliases/other", &put(&first));
    assert!(matches!(mismatch, Err(ClientError::Failed(problem)) if problem.exit_code == 2));
    client.send::<_, ()>("DELETE", "/v1/aliases/a%2Fb", &()).expect("removed");
    assert_eq!(client.get::<Vec<Alias>>("/v1/aliases").expect("a list"), []);
}

#[test]
fn the_kms_refusal_is_told_with_its_exception() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let _: Key = client.send("POST", "/v1/keys", &json!({ "alias": "k" })).expect("a key");
    let body = json!({ "name": "db", "size": 1 << 20, "key": "alias/k" });
    let _: Volume = client.send_long("/v1/volumes", &body, &mut |_, _| ()).expect("a volume");
    let _: Key = client.send("POST", "/v1/keys/alias%2Fk/disable", &json!({})).expect("disabled");
    let (status, body) = ask(&daemon, "POST", "/v1/volumes/db/attach", "");
    assert_eq!((status, code(&body)), (424, "attach.kms.disabled"));
    assert_eq!(body["error"]["kms_exception"], "DisabledException");
    assert_eq!(body["error"]["exit_code"], 5);
    let shown: Volume = client.get("/v1/volumes/db").expect("shown");
    let refusal = shown.last_refusal.expect("remembered");
    assert_eq!(refusal.kms_exception.as_deref(), Some("DisabledException"));
}

#[test]
fn an_attach_goes_on_when_its_caller_has_gone() {
    let daemon = Daemon::start();
    daemon.volume("db");
    let request = "POST /v1/volumes/db/attach HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    until("the volume is attached all the same", || {
        // A connection that is gone before its request is read asks for nothing, so one may not be enough.
        let mut stream = daemon.connect();
        stream.write_all(request.as_bytes()).expect("sent");
        drop(stream);
        let shown: Volume = daemon.client().get("/v1/volumes/db").expect("shown");
        (shown.state == "in-use").then_some(())
    });
    let detached: Volume = daemon.client().send("POST", "/v1/volumes/db/detach", &json!({})).expect("detached");
    assert_eq!((detached.state.as_str(), detached.attachments.as_slice()), ("available", &[] as &[Attachment]));
}

#[test]
fn events_end_unless_they_are_followed() {
    let daemon = Daemon::start();
    let client = daemon.client();
    daemon.volume("one");
    let mut all = Vec::new();
    let mut keep = |line: &str| {
        all.push(serde_json::from_str::<Value>(line).expect("JSON"));
        true
    };
    client.follow("/v1/events", &mut keep).expect("it ends");
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["detail"]["event"], "createVolume");

    let mut seen = 0;
    let mut follower = |_: &str| {
        seen += 1;
        if seen == 1 {
            daemon.volume("two");
        }
        seen < 2
    };
    client.follow("/v1/events?follow=true", &mut follower).expect("followed");
    assert_eq!(seen, 2);
}
