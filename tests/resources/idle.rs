//! What is left of a connection that has nothing to do, or that is gone: no descriptor, little memory, no wake-up.

use std::fs;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use envol::block::memory::MemoryDevice;
use envol::chain;
use envol::kms::Principal;
use envol::kms::embedded::{Embedded, Identity};
use envol::units::ByteCount;

use crate::alone;
use crate::support::*;

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("listed").count()
}

/// What this process has in memory.
pub(crate) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("read");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("told");
    line.trim().strip_suffix(" kB").expect("in kB").parse::<u64>().expect("a number") << 10
}

/// How often the threads called one of `names` have gone to sleep, and how many they are.
fn sleeps_of(names: &[&str]) -> (u64, usize) {
    let tasks = fs::read_dir("/proc/self/task").expect("listed").map(|task| task.expect("an entry").path());
    let ours = |task: &std::path::PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| names.contains(&name.trim_end()))
    };
    // A thread may end between the listing and the look at it.
    let statuses = tasks.filter(ours).filter_map(|task| fs::read_to_string(task.join("status")).ok());
    let counts = statuses.map(|status| {
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.expect("told").trim().parse::<u64>().expect("a number")
    });
    counts.fold((0, 0), |(sum, threads), count| (sum + count, threads + 1))
}

/// How often the threads that serve clients have gone to sleep.
fn sleeps() -> u64 {
    sleeps_of(&["nbd-client"]).0
}

/// Waits until no client's thread has woken up for a while.
fn wait_for_sleep() {
    let start = Instant::now();
    loop {
        let before = sleeps();
        std::thread::sleep(Duration::from_millis(2500));
        if sleeps() == before {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "the threads of silent clients keep waking up");
    }
}

#[test]
fn many_connections_come_and_go_and_leave_no_descriptor_behind() {
    let _alone = alone();
    let fixture = Fixture::new();
    let mut kept = fixture.simple();
    let before = descriptors();
    for number in 0..1000 {
        let mut raw = fixture.connect();
        let mut greeting = [0; 4];
        raw.stream.read_exact(&mut greeting).expect("greeted");
        if number % 10 == 0 {
            fixture.assert_serves();
        }
    }
    wait_for("all but one to be gone", || fixture.connections() == 1);
    kept.assert_in_step();
    assert_eq!(fixture.vol.sessions.lock().expect("locked").len(), 1);
    wait_for("the descriptors to be closed", || descriptors() == before);
}

#[test]
fn a_hundred_idle_connections_that_were_busy_take_little_memory() {
    const READS: u32 = 8;
    const LENGTH: u32 = 1 << 20;
    let _alone = alone();
    let fixture = Fixture::over(MemoryDevice::new(ByteCount::new(4 << 20)));
    let before = resident();
    let mut received = vec![0; READS as usize * (LENGTH as usize + 16)];
    let clients: Vec<Raw> = (0..100)
        .map(|number| {
            let mut raw = fixture.simple();
            // The workers' buffers, and for every second client the connection's own large ones too.
            raw.send(&request(READ, 0, 1, 0, LENGTH).repeat(READS as usize));
            raw.stream.read_exact(&mut received).expect("received");
            if number % 2 == 0 {
                raw.send(&request(READ, 0, 1, 0, 200_000));
                raw.receive(200_016);
                raw.request(WRITE, 0, 2, 0, 300_000, &[7; 300_000]);
                assert_eq!(raw.simple_reply(0).0, 0);
            }
            raw
        })
        .collect();
    drop(received);
    wait_for_sleep();
    let taken = resident().saturating_sub(before);
    assert!(taken <= 40 << 20, "{} KiB for a hundred connections", taken >> 10);
    drop(clients);
}

#[test]
fn clients_that_are_silent_wake_nobody_wherever_they_stopped() {
    let _alone = alone();
    let fixture = Fixture::over(MemoryDevice::new(ByteCount::new(4 << 20)));
    let busy = |raw: &mut Raw| {
        raw.send(&request(READ, 0, 1, 0, 200_000));
        raw.receive(200_016);
    };
    let (mut between, mut in_header, mut in_payload) = (fixture.simple(), fixture.simple(), fixture.simple());
    let (mut in_large_payload, mut in_refused_payload) = (fixture.simple(), fixture.simple());
    let write = |offset, length: u32| [request(WRITE, 0, 3, offset, length), vec![1; 60_000]].concat();
    for raw in [&mut between, &mut in_header, &mut in_payload, &mut in_large_payload, &mut in_refused_payload] {
        busy(raw);
    }
    in_header.send(&request(READ, 0, 3, 0, 4096)[..10]);
    in_payload.send(&write(0, 64 << 10));
    in_large_payload.send(&write(0, 1 << 20));
    in_refused_payload.send(&write(5 << 20, 1 << 20));
    wait_for_sleep();
    // All of them go on where they stopped.
    in_header.send(&request(READ, 0, 3, 0, 4096)[10..]);
    assert_eq!(in_header.simple_reply(4096).0, 0);
    in_payload.stream.write_all(&vec![1; (64 << 10) - 60_000]).expect("sent");
    assert_eq!(in_payload.simple_reply(0).0, 0);
    for (raw, answer) in [(&mut in_large_payload, 0), (&mut in_refused_payload, ENOSPC)] {
        raw.stream.write_all(&vec![1; (1 << 20) - 60_000]).expect("sent");
        assert_eq!(raw.simple_reply(0).0, answer);
    }
    for raw in [&mut between, &mut in_header, &mut in_payload, &mut in_large_payload, &mut in_refused_payload] {
        raw.assert_in_step();
    }
}

#[test]
fn eight_idle_volumes_wake_no_thread_of_the_data_path_for_ten_seconds() {
    const THREADS: [&str; 3] = ["nbd-accept", "nbd-client", "nbd-worker"];
    let _alone = alone();
    let fixture = Fixture::new();
    let mut clients: Vec<Raw> = (0..8)
        .map(|number| {
            let name = format!("v{number}");
            fixture.exports.set(&name, Ok(TestExport::new(&name, MemoryDevice::new(ByteCount::new(4 << 20)))));
            let mut raw = fixture.haggle();
            raw.go(&name);
            raw
        })
        .collect();
    for raw in &mut clients {
        // One after the other, so that the socket is worth watching; then something for the workers.
        for _ in 0..2000 {
            raw.request(READ, 0, 1, 0, 4096, &[]);
            assert_eq!(raw.simple_reply(4096).0, 0);
        }
        raw.send(&request(READ, 0, 1, 0, 1 << 20).repeat(8));
        (0..8).for_each(|_| assert_eq!(raw.simple_reply(1 << 20).0, 0));
        raw.request(FLUSH, 0, 2, 0, 0, &[]);
        assert_eq!(raw.simple_reply(0).0, 0);
    }
    wait_for("the workers to end", || sleeps_of(&["nbd-worker"]).1 == 0);
    wait_for_sleep();
    let before = sleeps_of(&THREADS);
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(sleeps_of(&THREADS), before);
    assert_eq!(before.1, 9, "all of them are there");
    clients.iter_mut().for_each(Raw::assert_in_step);
}

#[test]
fn an_idle_audit_log_keeps_no_key_of_a_record_and_wakes_nobody() {
    let _alone = alone();
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().join("kms");
    let identity = Identity { account: "000000000000".into(), region: "us-east-1".into() };
    let kms = Embedded::open(&dir, &place.path().join("domain.key"), identity, Arc::new(SystemTime::now));
    let (kms, root) = (kms.expect("opens"), Principal::root("000000000000"));
    let key = kms.audit_verify_key(&root).expect("nobody has it");
    kms.forget_audit_verify_key(&root, &key.fingerprint()).expect("forgotten");
    for _ in 0..2 {
        (0..5).for_each(|_| drop(kms.list_keys(&root).expect("listed")));
        let log = fs::read(dir.join("audit.ndjson")).expect("there");
        let records = chain::verify(&log[..], None, None).expect("read").records;
        let mut used = key.first().expect("locks");
        let keys: Vec<_> = (0..records).map(|_| (*used.expose(), used.advance()).0).collect();
        let left = || {
            let ratchet = fs::read(dir.join("audit.ratchet")).expect("there");
            keys.iter().any(|key| ratchet.windows(key.len()).any(|part| part == key))
        };
        wait_for("the last keys to be forgotten", || !left());
        let ratchet = fs::read(dir.join("audit.ratchet")).expect("there");
        assert!(ratchet.windows(32).any(|part| part == used.expose()), "the next record's is there");
        // Once it has gone to sleep behind that.
        std::thread::sleep(Duration::from_millis(500));
        let before = sleeps_of(&["audit"]);
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!((sleeps_of(&["audit"]), before.1), (before, 1), "it has nothing to do");
    }
}
