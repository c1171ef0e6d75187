//! What whoever steals the backing, or puts an older one back, gets of it: through the shipped program and real clients.

#[allow(unsafe_code, reason = "signals to our own child processes")]
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;

use support::{Daemon, command, have, must};

/// Bytes that each occur once in 64: what is looked for.
const MARKERS: usize = 16;
const LENGTH: usize = 64 << 20;

/// Whether `needle` is anywhere in `bytes`.
fn has(bytes: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == first) {
        let at = from + at;
        if bytes[at..].starts_with(needle) {
            return true;
        }
        from = at + 1;
    }
    false
}

/// Markers of 64 bytes, all different and none in parts of another.
fn markers() -> Vec<[u8; 64]> {
    let mut random = fastrand::Rng::new();
    (0..MARKERS).map(|_| std::array::from_fn(|_| random.u8(..))).collect()
}

/// A file that is nothing but markers.
fn marked(path: &Path, markers: &[[u8; 64]]) {
    let unit: Vec<u8> = markers.iter().flatten().copied().collect();
    fs::write(path, unit.repeat(LENGTH / unit.len())).expect("written");
}

fn found(path: &Path, markers: &[[u8; 64]]) -> usize {
    let bytes = fs::read(path).expect("there");
    // A quarter of a marker is as long as a block of the cipher.
    let parts = markers.iter().flat_map(|marker| marker.chunks(16).chain([&marker[..]]));
    parts.filter(|part| has(&bytes, part)).count()
}

#[test]
fn markers_written_through_nbd_are_nowhere_on_the_backing() {
    if !have(&["nbdcopy"]) {
        return;
    }
    let daemon = Daemon::start();
    let (plain, markers) = (daemon.path().join("plain"), markers());
    marked(&plain, &markers);
    assert_eq!(found(&plain, &markers), 5 * MARKERS, "the search finds what is there");
    let uri = daemon.attached("db", "64M", &[]);
    must(command(&["nbdcopy", plain.to_str().expect("text"), &uri]).env("LC_ALL", "C"));
    let backing = daemon.backing("db");
    assert_eq!(found(&backing, &markers), 0, "while it is attached");
    daemon.detach("db");
    assert_eq!(found(&backing, &markers), 0);
    assert!(fs::metadata(&backing).expect("there").len() > LENGTH as u64, "all of it was looked through");
    // It was those that were written.
    let (uri, back) = (daemon.attach("db"), daemon.path().join("back"));
    must(command(&["nbdcopy", &uri, back.to_str().expect("text")]).env("LC_ALL", "C"));
    assert!(fs::read(&back).expect("there") == fs::read(&plain).expect("there"));
    daemon.detach("db");
}

#[test]
fn a_backing_from_before_the_last_attach_is_flagged_and_one_taken_since_is_not() {
    let daemon = Daemon::start();
    daemon.json(["volume", "create", "db", "--size", "8M"]);
    let backing = daemon.backing("db");
    let mut generations = Vec::new();
    for _ in 0..5 {
        generations.push(fs::read(&backing).expect("there"));
        daemon.attach("db");
        daemon.detach("db");
    }
    let newest = fs::read(&backing).expect("there");
    for (age, older) in generations.iter().enumerate() {
        fs::write(&backing, older).expect("written");
        let told = daemon.refused(7, ["attach", "db"]);
        assert_eq!(told["code"], "volume.rollback", "generation {age}: {told}");
        let dry = daemon.refused(7, ["attach", "db", "--dry-run"]);
        assert_eq!(dry["code"], "volume.rollback", "generation {age}");
    }
    // Of what was copied since, nobody can tell that the data is older: said in RELIABILITY.md.
    fs::write(&backing, &newest).expect("written");
    daemon.attach("db");
    daemon.detach("db");
    fs::write(&backing, &generations[4]).expect("written");
    daemon.json(["attach", "db", "--accept-rollback"]);
    daemon.detach("db");
}

#[test]
fn where_both_header_copies_are_damaged_the_refusal_names_the_way_out() {
    let daemon = Daemon::start();
    daemon.json(["volume", "create", "db", "--size", "8M"]);
    let (backing, kept) = (daemon.backing("db"), daemon.path().join("header"));
    daemon.json(["volume", "header", "backup", "db", kept.to_str().expect("text")]);
    let good = fs::read(&backing).expect("there");
    for copies in [&[0_usize][..], &[512 << 10], &[0, 512 << 10]] {
        let mut damaged = good.clone();
        copies.iter().for_each(|place| damaged[place + 200] ^= 1);
        fs::write(&backing, damaged).expect("written");
        if copies.len() == 1 {
            daemon.json(["attach", "db", "--read-only"]);
            daemon.detach("db");
        } else {
            let told = daemon.refused(7, ["attach", "db"]);
            assert!(told["remedy"].as_str().expect("text").contains("header restore"), "{told}");
        }
    }
    daemon.json(["volume", "header", "restore", "db", kept.to_str().expect("text"), "--yes"]);
    daemon.attach("db");
    daemon.detach("db");
}
