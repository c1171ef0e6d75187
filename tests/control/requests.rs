//! Requests as no client of ours sends them: slow, large, many, broken, with descriptors attached.

use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::support::{Daemon, answer, ask, code};

const STATUS: &[u8] = b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n";

#[test]
fn a_request_that_does_not_arrive_ends_its_connection() {
    let daemon = Daemon::start();
    let began = |bytes: &[u8]| {
        let mut stream = daemon.connect();
        stream.write_all(bytes).expect("the daemon listens");
        stream
    };
    let mut silent = began(b"");
    let mut half_a_head = began(b"GET /v1/status HTT");
    let mut half_a_body = began(b"POST /v1/keys HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\n{\"alias\"");
    for stream in [&mut silent, &mut half_a_head] {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the daemon closes it");
    }
    let (status, body) = answer(&mut half_a_body);
    assert_eq!((status, code(&body)), (408, "request.too_slow"));
}

#[test]
fn a_body_past_the_limit_is_refused() {
    let daemon = Daemon::start();
    let (status, body) = ask(&daemon, "POST", "/v1/keys", &" ".repeat((576 << 10) + 1));
    assert_eq!((status, code(&body)), (413, "request.too_long"));

    let mut chunked = daemon.connect();
    chunked.write_all(b"POST /v1/keys HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").expect("sent");
    let chunk = format!("8000\r\n{}\r\n", " ".repeat(0x8000));
    // The daemon may have answered and closed before all of them are written.
    let _ = (0..24).try_for_each(|_| chunked.write_all(chunk.as_bytes()));
    let (status, body) = answer(&mut chunked);
    assert_eq!((status, code(&body)), (413, "request.too_long"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let daemon = Daemon::start();
    let mut stream = daemon.connect();
    let requests = "GET /v1/volumes HTTP/1.1\r\nhost: x\r\n\r\n\
                    GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n\
                    GET /v1/volumes/absent HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(requests.as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered");
    let words = ["200 OK", "request.no_such_path", "volume.not_found"];
    let places: Vec<_> =
        words.iter().map(|word| text.find(word).unwrap_or_else(|| panic!("{word} in {text}"))).collect();
    assert!(places.is_sorted(), "{text}");
    assert_eq!(text.matches("HTTP/1.1 ").count(), 3);
}

#[test]
fn descriptors_passed_along_are_closed() {
    let daemon = Daemon::start();
    let stream = daemon.connect();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let passed = [writer.as_raw_fd()];
    let (bytes, rights) = ([IoSlice::new(STATUS)], [ControlMessage::ScmRights(&passed)]);
    sendmsg::<()>(stream.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None).expect("sent");
    drop(writer);
    let mut byte = [0];
    (&stream).read_exact(&mut byte).expect("the request is answered all the same");
    // The connection lives, and nobody holds the pipe's other end any more: this would wait for ever otherwise.
    assert_eq!(reader.read(&mut byte).expect("a pipe"), 0);
}

#[test]
fn connections_past_the_limit_are_told_so() {
    let daemon = Daemon::start();
    let mut held: Vec<UnixStream> = Vec::new();
    let refused = loop {
        let mut stream = daemon.connect();
        stream.write_all(STATUS).expect("sent");
        let mut start = [0; 12];
        stream.read_exact(&mut start).expect("answered");
        if start != *b"HTTP/1.1 200" {
            break start;
        }
        held.push(stream);
    };
    assert_eq!(&refused, b"HTTP/1.1 503");
    assert_eq!(held.len(), 64, "what has a place keeps it");
    drop(held);
    crate::support::until("places are free again", || {
        let (status, _) = ask(&daemon, "GET", "/v1/status", "");
        (status == 200).then_some(())
    });
}

#[test]
fn what_is_not_http_is_closed() {
    let daemon = Daemon::start();
    for garbage in [&b"\0\0\0\0\0\0\0\0\r\n\r\n"[..], b"NBDMAGICIHAVEOPT\r\n\r\n", &[0xff; 70_000]] {
        let mut stream = daemon.connect();
        let _ = stream.write_all(garbage);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    }
    assert_eq!(ask(&daemon, "GET", "/v1/status", "").0, 200);
}

#[test]
fn a_caller_that_does_not_read_loses_its_place() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("state")).expect("made");
    // More than any socket buffer holds.
    let line = format!("{{\"detail\":\"{}\"}}\n", "x".repeat(1000));
    std::fs::write(dir.path().join("state/events.ndjson"), line.repeat(8_000)).expect("written");
    let daemon = Daemon::start_in(dir, |_| ());
    let mut deaf = daemon.connect();
    deaf.write_all(b"GET /v1/events?follow=true HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    // The daemon's end is closed at last, which a writer notices without reading a byte.
    crate::support::until("the connection is given up", || deaf.write_all(b"\r\n").err());
    let (status, _) = ask(&daemon, "GET", "/v1/status", "");
    assert_eq!(status, 200);
}
