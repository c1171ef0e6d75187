//! READs over a connection: any number at once, in any order, each with its own answer.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use envol::block::engine::{self, Engine};
use envol::block::{BlockDeviceExt, Durability};
use envol::units::ByteOffset;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::support::*;
use crate::{Cold, VOLUME, on_disk, volume};

/// What the byte at `at` of a filled volume is.
fn byte(at: u64) -> u8 {
    (at / 512 * 31 + at % 251).to_le_bytes()[0]
}

fn filled(directory: &tempfile::TempDir) -> (Fixture, Arc<AtomicU64>, std::path::PathBuf) {
    let (device, path) = volume(directory);
    let mut bytes: Vec<u8> = (0..VOLUME).map(byte).collect();
    device.write_at(ByteOffset::ZERO, &mut bytes, Durability::Durable).expect("written");
    // The disk has it, and now the memory has not.
    posix_fadvise(File::open(&path).expect("opens"), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("forgotten");
    let (cold, fetched) = Cold::over(device);
    (Fixture::over(cold), fetched, path)
}

/// Places and lengths of READs: whole pieces and parts of some, short and long.
fn reads(count: u64) -> BTreeMap<u64, (u64, u32)> {
    let lengths = [4096, 512, 65_536, 700, 262_144, 4096, 300_000, 8192];
    let place = |cookie: u64, length: u32| {
        let at = cookie * 7_919 * 512 % (VOLUME - u64::from(length));
        if length.is_multiple_of(512) { at / 512 * 512 } else { at }
    };
    let length = |cookie: u64| lengths[(cookie % 8) as usize];
    (0..count).map(|cookie| (cookie, (place(cookie, length(cookie)), length(cookie)))).collect()
}

/// Receives an answer to one of `owed`, and sees that it is right.
fn take_answer(raw: &mut Raw, owed: &mut BTreeMap<u64, (u64, u32)>) {
    assert_eq!(raw.u32(), SIMPLE_REPLY);
    let (error, cookie) = (raw.u32(), raw.u64());
    assert_eq!(error, 0);
    let (at, length) = owed.remove(&cookie).expect("asked for once and answered once");
    let data = raw.receive(length as usize);
    assert!(data.iter().zip(at..).all(|(seen, at)| *seen == byte(at)), "READ {cookie} of {length} at {at}");
}

#[test]
fn more_reads_than_a_ring_holds_are_all_answered_rightly() {
    let directory = on_disk();
    let (fixture, fetched, _) = filled(&directory);
    let mut raw = fixture.simple();
    for _ in 0..3 {
        let mut owed = reads(400);
        let message: Vec<u8> =
            owed.iter().flat_map(|(cookie, (at, length))| request(READ, 0, *cookie, *at, *length)).collect();
        let sender = raw.stream.try_clone().expect("cloned");
        std::thread::scope(|scope| {
            scope.spawn(move || Raw::new(sender).send(&message));
            while !owed.is_empty() {
                take_answer(&mut raw, &mut owed);
            }
        });
    }
    let expected = engine::chosen() == Engine::IoUring;
    assert_eq!(fetched.load(Ordering::Relaxed) > 100, expected, "rings carry out what they can");
    assert_eq!(fixture.vol.gate.inside(), 0);
}

/// A client that waits for each answer is served on another way than one that does not, and may change its mind.
#[test]
fn one_read_after_another_then_many_then_one_after_another() {
    let directory = on_disk();
    let (fixture, ..) = filled(&directory);
    let mut raw = fixture.simple();
    for round in 0..4 {
        for (cookie, (at, length)) in reads(40) {
            raw.request(READ, 0, cookie, at, length, &[]);
            take_answer(&mut raw, &mut BTreeMap::from([(cookie, (at, length))]));
        }
        let mut owed = reads(2 + round);
        for (cookie, (at, length)) in owed.clone() {
            raw.request(READ, 0, cookie, at, length, &[]);
            std::thread::sleep(Duration::from_micros(50 * round));
        }
        while !owed.is_empty() {
            take_answer(&mut raw, &mut owed);
        }
    }
}

#[test]
fn what_arrived_before_the_client_stopped_sending_is_answered() {
    let directory = on_disk();
    let (fixture, ..) = filled(&directory);
    let mut raw = fixture.simple();
    let mut owed = reads(100);
    for (cookie, (at, length)) in owed.clone() {
        raw.request(READ, 0, cookie, at, length, &[]);
        if owed.len() > 60 {
            take_answer(&mut raw, &mut owed);
        }
    }
    raw.finish_sending();
    while !owed.is_empty() {
        take_answer(&mut raw, &mut owed);
    }
    raw.assert_closed();
}

#[test]
fn a_client_that_takes_no_answers_keeps_nobody_inside_the_export() {
    let directory = on_disk();
    let (fixture, ..) = filled(&directory);
    let mut raw = fixture.simple();
    for cookie in 0..120 {
        raw.request(READ, 0, cookie, cookie * 65_536 % VOLUME, 65_536, &[]);
    }
    raw.stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    wait_for("an answer", || raw.stream.peek_any());
    wait_for("the export to be empty", || fixture.vol.gate.inside() == 0);
    // And nothing is lost by that.
    let mut owed: BTreeMap<u64, (u64, u32)> =
        (0..120).map(|cookie| (cookie, (cookie * 65_536 % VOLUME, 65_536))).collect();
    while !owed.is_empty() {
        take_answer(&mut raw, &mut owed);
    }
}

trait Peek {
    fn peek_any(&self) -> bool;
}

impl Peek for std::os::unix::net::UnixStream {
    /// Whether something has arrived.
    fn peek_any(&self) -> bool {
        use std::os::fd::AsRawFd;
        let flags = nix::sys::socket::MsgFlags::MSG_PEEK | nix::sys::socket::MsgFlags::MSG_DONTWAIT;
        nix::sys::socket::recv(self.as_raw_fd(), &mut [0], flags).is_ok_and(|length| length > 0)
    }
}

#[test]
fn a_read_that_fails_is_answered_alone() {
    let directory = on_disk();
    let (fixture, _, path) = filled(&directory);
    let length = File::open(&path).expect("opens").metadata().expect("known").len();
    File::options().write(true).open(&path).expect("opens").set_len(length - VOLUME / 2).expect("shrinks");
    let mut raw = fixture.simple();
    let at = |cookie: u64| cookie * 65_536;
    for cookie in 0..VOLUME / 65_536 {
        raw.request(READ, 0, cookie, at(cookie), 4096, &[]);
    }
    for _ in 0..VOLUME / 65_536 {
        let (error, cookie, data) = raw.simple_reply(4096);
        if at(cookie) < VOLUME / 2 {
            assert!(error == 0 && data.iter().zip(at(cookie)..).all(|(seen, at)| *seen == byte(at)));
        } else {
            assert_eq!(error, EIO, "what is not there is never zeros");
        }
    }
}

/// A reader of a piece whose other half is being written sees its own half as it is.
#[test]
fn a_read_that_waits_for_the_disk_beside_a_partial_write_sees_no_noise() {
    let directory = on_disk();
    let (device, _) = volume(&directory);
    let (cold, _) = Cold::over(device);
    let fixture = Fixture::over(cold);
    let done = AtomicBool::new(false);
    let (mut writer, mut reader) = (fixture.simple(), fixture.simple());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for piece in 0..3_000 {
                writer.request(WRITE, 0, piece, piece % 2048 * 4096 + 3, 200, &[0x5a; 200]);
                assert_eq!(writer.simple_reply(0).0, 0);
            }
            done.store(true, Ordering::Release);
        });
        let mut piece = 0;
        while !done.load(Ordering::Acquire) {
            for cookie in 0..8 {
                reader.request(READ, 0, cookie, (piece + cookie) % 2048 * 4096, 512, &[]);
            }
            for _ in 0..8 {
                let (error, _, data) = reader.simple_reply(512);
                assert!(error == 0 && data[..3] == [0; 3] && data[203..] == [0; 309], "nobody writes there");
            }
            piece += 8;
        }
    });
}
