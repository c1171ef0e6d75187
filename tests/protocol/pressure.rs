//! Clients that take too much or never leave, and a server that stops while they are there.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use envol::block::Op;
use envol::block::memory::MemoryDevice;
use envol::nbd::{Bounds, Peer};
use envol::sync::Gate;
use envol::units::ByteCount;

use crate::support::*;

/// Sends `message` again and again until nothing more is taken; answers how often it was sent whole.
fn send_until_refused(raw: &mut Raw, message: &[u8], most: usize) -> usize {
    let message = message.repeat(1000);
    raw.stream.set_write_timeout(Some(Duration::from_millis(500))).expect("set");
    for sent in 0..most / 1000 {
        match raw.stream.write_all(&message) {
            Ok(()) => {}
            Err(error) => {
                let ends = [ErrorKind::WouldBlock, ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                assert!(ends.contains(&error.kind()), "{error}");
                return sent * 1000;
            }
        }
    }
    most
}

#[test]
fn a_million_reads_whose_replies_are_never_read_are_held_back() {
    let reads = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&reads);
    let fixture = Fixture::over(Wrapped::new(SIZE, move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        true
    }));
    // Answered at once, and by the workers from buffers of their own.
    for length in [4096, 600_000] {
        let mut raw = fixture.simple();
        reads.store(0, Ordering::Relaxed);
        let sent = send_until_refused(&mut raw, &request(READ, 0, 1, 0, length), 1_000_000);
        assert!(sent < 100_000, "{sent} requests of {length} bytes were taken");
        let carried_out = reads.load(Ordering::Relaxed);
        assert!(carried_out < 5_000, "{carried_out} reads of {length} bytes were carried out");
        fixture.assert_serves();
    }
}

#[test]
fn a_client_that_stops_reading_is_disconnected_and_others_and_a_detach_do_not_notice() {
    let bounds = Bounds { send: Duration::from_millis(400), ..Bounds::default() };
    let fixture = Fixture::with_bounds(MemoryDevice::new(ByteCount::new(SIZE)), bounds);
    let mut other = fixture.simple();
    for length in [4096, 600_000] {
        let mut stuck = fixture.simple();
        send_until_refused(&mut stuck, &request(READ, 0, 1, 0, length), 1_000_000);
        other.assert_in_step();
        // Nobody is inside the export on behalf of a client that does not take its answers.
        wait_for("the export to be empty", || fixture.vol.gate.inside() == 0);
        wait_for("the client to be disconnected", || fixture.connections() == 1);
        stuck.assert_closed();
    }
    other.assert_in_step();
}

#[test]
fn requests_queued_behind_answers_that_nobody_takes_hold_no_detach_up() {
    let bounds = Bounds { send: Duration::from_secs(600), ..Bounds::default() };
    let fixture = Fixture::with_bounds(MemoryDevice::new(ByteCount::new(SIZE)), bounds);
    let mut raw = fixture.simple();
    raw.send(&request(READ, 0, 1, 0, 600_000).repeat(100));
    fixture.assert_serves();
    fixture.vol.gate.close();
    wait_for("the export to be empty", || fixture.vol.gate.inside() == 0);
    let answers: Vec<u32> = (0..100).map(|_| raw.simple_reply(600_000).0).collect();
    assert!(answers.iter().all(|error| [0, ESHUTDOWN].contains(error)), "{answers:?}");
    assert!(answers.contains(&ESHUTDOWN));
}

#[test]
fn a_slow_request_holds_up_neither_its_connection_nor_others() {
    let release = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&release);
    let fixture = Fixture::over(Wrapped::new(SIZE, move |io, _| {
        while matches!(io.op, Op::Flush) && !released.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }));
    let mut raw = fixture.simple();
    for cookie in 0..40 {
        raw.request(FLUSH, 0, cookie, 0, 0, &[]);
    }
    for _ in 0..10 {
        raw.assert_in_step();
    }
    fixture.assert_serves();
    release.store(true, Ordering::Release);
    let mut cookies: Vec<u64> = (0..40).map(|_| raw.simple_reply(0).1).collect();
    cookies.sort_unstable();
    assert!(cookies.into_iter().eq(0..40));
}

#[test]
fn a_session_closed_from_outside_ends_and_names_its_peer() {
    let fixture = Fixture::new();
    let mut raw = fixture.simple();
    raw.assert_in_step();
    let session = fixture.vol.sessions.lock().expect("locked")[0].clone();
    let expected = (std::process::id(), nix::unistd::getuid().as_raw());
    let Peer::Unix { pid, uid, .. } = *session.peer() else { panic!("not a unix peer") };
    assert_eq!((pid.cast_unsigned(), uid), expected);
    session.close();
    raw.assert_closed();
    // The session is still held here, and the connection is gone all the same.
    wait_for("the client to be gone", || fixture.connections() == 0);
}

#[test]
fn a_stop_ends_idle_half_open_and_busy_clients() {
    let inside = Arc::new(Gate::new());
    let (gate, release) = (Arc::clone(&inside), Arc::new(AtomicBool::new(false)));
    let released = Arc::clone(&release);
    let mut fixture = Fixture::over(Wrapped::new(SIZE, move |io, _| {
        if matches!(io.op, Op::Flush) {
            let _inside = gate.enter();
            while !released.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        true
    }));
    let (mut half_open, mut idle, mut busy) = (fixture.haggle(), fixture.simple(), fixture.simple());
    idle.assert_in_step();
    busy.request(FLUSH, 0, 7, 0, 0, &[]);
    wait_for("the flush to be under way", || inside.inside() == 1);
    let stopping = std::thread::spawn(move || {
        let left = fixture.stop(Duration::from_secs(60));
        (fixture, left)
    });
    half_open.assert_closed();
    idle.assert_closed();
    release.store(true, Ordering::Release);
    assert_eq!(busy.simple_reply(0), (0, 7, Vec::new()));
    busy.assert_closed();
    let (fixture, left) = stopping.join().expect("stopped");
    assert_eq!(left, 0);
    assert!(!fixture.socket().exists());
}

#[test]
fn requests_that_arrive_as_the_server_stops_are_answered_eshutdown() {
    let (entered, release) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (noted, released) = (Arc::clone(&entered), Arc::clone(&release));
    // A READ that holds the receiving thread up, so that what follows it lies in the socket while the server stops.
    let mut fixture = Fixture::over(Wrapped::new(SIZE, move |io, _| {
        if matches!(&io.op, Op::Read { at, .. } if at.get() == 512) {
            noted.store(true, Ordering::Release);
            while !released.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        true
    }));
    let mut raw = fixture.simple();
    let mut idle = fixture.simple();
    raw.request(READ, 0, 1, 512, 4, &[]);
    wait_for("the read to be under way", || entered.load(Ordering::Acquire));
    raw.send(&[request(READ, 0, 2, 0, 4), request(FLUSH, 0, 3, 0, 0)].concat());
    let stopping = std::thread::spawn(move || fixture.stop(Duration::from_secs(60)));
    // Once the idle client is closed, so is the receiving side of the other.
    idle.assert_closed();
    // Nothing more is taken from this client from then on, so that writing fails.
    wait_for("the stop to reach the busy client", || raw.stream.write(&[]).is_err());
    release.store(true, Ordering::Release);
    assert_eq!(raw.simple_reply(4).0, 0);
    assert_eq!(raw.simple_reply(0), (ESHUTDOWN, 2, Vec::new()));
    assert_eq!(raw.simple_reply(0), (ESHUTDOWN, 3, Vec::new()));
    raw.assert_closed();
    assert_eq!(stopping.join().expect("stopped"), 0);
}

#[test]
fn a_stop_is_bounded_even_where_the_storage_hangs() {
    let release = Arc::new(AtomicBool::new(false));
    let (released, entered) = (Arc::clone(&release), Arc::new(AtomicBool::new(false)));
    let noted = Arc::clone(&entered);
    let mut fixture = Fixture::over(Wrapped::new(SIZE, move |io, _| {
        while matches!(io.op, Op::Flush) && !released.load(Ordering::Acquire) {
            noted.store(true, Ordering::Release);
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }));
    let mut raw = fixture.simple();
    raw.request(FLUSH, 0, 7, 0, 0, &[]);
    wait_for("the flush to be under way", || entered.load(Ordering::Acquire));
    assert_eq!(fixture.stop(Duration::from_millis(100)), 1);
    raw.assert_closed();
    release.store(true, Ordering::Release);
}
