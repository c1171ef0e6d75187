//! Stopping, with clients at work, and coming back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use envol::control::api::{Key, Volume};
use envol::nbd::client::Client as NbdClient;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Daemon, until};

fn attach(daemon: &Daemon, name: &str) {
    let attached: serde_json::Value =
        daemon.client().send("POST", &format!("/v1/volumes/{name}/attach"), &json!({})).expect("attached");
    assert_eq!(attached["name"], name);
}

fn state(daemon: &Daemon, name: &str) -> Volume {
    daemon.client().get(&format!("/v1/volumes/{name}")).expect("shown")
}

#[test]
fn a_stop_under_load_ends_well_and_leaves_no_sockets() {
    let daemon = Daemon::start();
    daemon.volume("db");
    attach(&daemon, "db");
    let (nbd, written, heard) = (daemon.nbd_socket(), AtomicU64::new(0), AtomicBool::new(false));
    let ended = std::thread::scope(|scope| {
        for place in 0..4_u64 {
            let (nbd, written) = (&nbd, &written);
            scope.spawn(move || {
                let mut guest = NbdClient::connect(nbd, "db").expect("served");
                let block = vec![7; 1 << 20];
                // Until the daemon says ESHUTDOWN or closes.
                while guest.write(place << 22, &block).is_ok() {
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (follower, heard) = (daemon.client(), &heard);
        let mut hear = move |_: &str| {
            heard.store(true, Ordering::Relaxed);
            true
        };
        let following = scope.spawn(move || follower.follow("/v1/events?follow=true", &mut hear));
        until("the load is on", || (written.load(Ordering::Relaxed) > 8).then_some(()));
        until("the follower has been answered", || heard.load(Ordering::Relaxed).then_some(()));
        daemon.signal(Signal::SIGHUP);
        std::thread::sleep(Duration::from_millis(50));
        daemon.signal(Signal::SIGTERM);
        daemon.signal(Signal::SIGTERM);
        daemon.signal(Signal::SIGINT);
        let ended = daemon.ended();
        following.join().expect("no panic").expect("the follower's answer ends in order");
        ended
    });
    let (status, dir) = ended;
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(std::fs::read_dir(dir.path().join("run")).expect("ours").count(), 0);
}

#[test]
fn a_stop_is_not_held_up_by_a_request_that_does_not_arrive() {
    use std::io::Write;
    let daemon = Daemon::start();
    let mut half = daemon.connect();
    half.write_all(b"POST /v1/keys HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{").expect("sent");
    let silent = daemon.connect();
    let (status, _dir) = daemon.stop();
    assert_eq!(status.code(), Some(0), "{status}");
    drop((half, silent));
}

#[test]
fn what_was_attached_is_attached_again_and_what_the_kms_refuses_is_not() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let key: Key = client.send("POST", "/v1/keys", &json!({ "alias": "k" })).expect("a key");
    let body = json!({ "name": "revoked", "size": 1 << 20, "key": key.key_id });
    let _: Volume = client.send_long("/v1/volumes", &body, &mut |_, _| ()).expect("a volume");
    daemon.volume("kept");
    daemon.volume("loose");
    attach(&daemon, "kept");
    attach(&daemon, "revoked");
    let _: Key = client.send("POST", "/v1/keys/alias%2Fk/disable", &json!({})).expect("disabled");
    let (status, dir) = daemon.stop();
    assert_eq!(status.code(), Some(0), "{status}");

    let daemon = Daemon::start_in(dir, |_| ());
    until("it is attached again", || (state(&daemon, "kept").state == "in-use").then_some(()));
    let refusal = until("it is refused", || state(&daemon, "revoked").last_refusal);
    assert_eq!((refusal.kms_exception.as_deref(), refusal.retrying), (Some("DisabledException"), false));
    assert_eq!(state(&daemon, "loose").state, "available");
}
