//! What is refused before it comes to a key: signatures, users, shapes, addresses.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::support::{Daemon, python_has};
use crate::world::{World, access_key};

#[test]
fn requests_that_nobody_may_make_are_refused_by_name() {
    if !python_has(&["boto3"]) {
        return;
    }
    let world = World::new();
    world.script("refusals.py");
    let log = world.daemon.log();
    assert!(!log.contains(&world.key.1), "{log}");
    assert!(!kms(&world).join("regions").exists(), "whoever was refused made a region");
    let audited = fs::read_to_string(kms(&world).join("audit.ndjson")).expect("there");
    assert!(audited.contains(r#""awsRegion":"eu-west-3""#), "who was refused there is told of");
    assert!(!audited.contains(&world.key.1));
}

#[test]
fn an_access_key_that_is_deleted_signs_nothing_any_more() {
    if !python_has(&["boto3"]) {
        return;
    }
    let world = World::new();
    let (id, _) = access_key(&world.daemon, "root");
    let listed = world.daemon.json(["kms", "access-key", "list"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    assert_eq!(world.daemon.refused(4, ["kms", "access-key", "create", "--user", "root"])["exit_code"], 4);
    world.daemon.json(["kms", "access-key", "delete", &id]);
    assert_eq!(world.daemon.refused(3, ["kms", "access-key", "delete", &id])["kms_exception"], "NoSuchEntityException");
    for key in listed.as_array().expect("a list") {
        let id = key["access_key_id"].as_str().expect("an id");
        if world.daemon.envol(["kms", "access-key", "delete", id]).status.success() {
            world.script("deleted.py");
        }
    }
}

#[test]
fn the_kms_listens_where_it_is_told_and_nowhere_else_in_clear() {
    let daemon = Daemon::start_kms(&["--listen", "127.0.0.1:0"]);
    let endpoints = daemon.json(["status"])["kms_endpoints"].clone();
    let address = endpoints[0].as_str().and_then(|url| url.strip_prefix("http://")).expect("a URL").to_owned();
    let mut stream = TcpStream::connect(&address).expect("it listens");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    assert_eq!(answer(stream), "HTTP/1.1 404 Not Found");
    for (words, code) in [
        (["--listen", "0.0.0.0:0"], 2),
        (["--listen", "somewhere"], 2),
        (["--listen", address.as_str()], 4),
        (["--insecure-listen", "kms.sock"], 2),
    ] {
        let place = tempfile::tempdir().expect("a directory");
        let state = place.path().join("state");
        let socket = place.path().join("control.sock");
        let places = ["--state-dir", state.to_str().expect("UTF-8"), "--socket", socket.to_str().expect("UTF-8")];
        let output = daemon.envol(["kms", "serve"].iter().chain(&words).chain(&places));
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
    }
}

#[test]
fn who_has_signed_nothing_yet_is_not_listened_to_for_long() {
    let daemon = Daemon::start_kms(&["--listen", "127.0.0.1:0"]);
    let endpoints = daemon.json(["status"])["kms_endpoints"].clone();
    let address = endpoints[0].as_str().and_then(|url| url.strip_prefix("http://")).expect("a URL").to_owned();
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nx-long: {}", "a".repeat(12 << 10));
    let endless = format!("{head:a<16384}");
    for (sent, expected) in [
        (format!("{head}\r\n\r\n"), "HTTP/1.1 400 Bad Request"),
        (endless, "HTTP/1.1 431 Request Header Fields Too Large"),
    ] {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        stream.write_all(sent.as_bytes()).expect("sent");
        assert_eq!(answer(stream), expected, "{} bytes", sent.len());
    }
}

#[test]
fn a_unix_socket_serves_too_and_is_gone_at_the_end() {
    let place = tempfile::tempdir().expect("a directory");
    let socket = place.path().join("kms.sock");
    let mut daemon = Daemon::start_with(&["--kms-listen", socket.to_str().expect("UTF-8")]);
    let mut stream = UnixStream::connect(&socket).expect("it listens");
    let request = "POST / HTTP/1.1\r\nhost: a\r\nx-amz-target: TrentService.ListKeys\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(request.as_bytes()).expect("sent");
    assert_eq!(answer(stream), "HTTP/1.1 400 Bad Request");
    assert!(daemon.terminate().success());
    assert!(!socket.exists());
}

#[test]
fn a_kms_alone_has_keys_and_no_volumes() {
    let daemon = Daemon::start_kms(&["--listen", "127.0.0.1:0"]);
    daemon.json(["key", "create", "--alias", "a"]);
    assert_eq!(daemon.json(["key", "list"]).as_array().map(Vec::len), Some(1));
    let refused = daemon.refused(3, ["volume", "create", "db", "--size", "1M"]);
    assert_eq!(refused["code"], "request.no_such_path");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("KMS alone")), "{refused}");
    assert!(!daemon.nbd_socket().exists());
}

/// Where the KMS keeps its own.
fn kms(world: &World) -> PathBuf {
    world.daemon.path().join("state/kms")
}

/// The first line of an answer.
fn answer(stream: impl std::io::Read) -> String {
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut line).expect("an answer");
    line.trim_end().to_owned()
}
