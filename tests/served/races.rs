//! Connections that race: what each is owed, and what none is.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use envol::nbd::client::Client;

use crate::support::Daemon;

const PIECE: usize = 512;

fn connect(socket: &Path) -> Client {
    Client::connect(socket, "db").expect("connects")
}

/// Each writer owns its own crooked slice of the same pieces and writes it again and again; whatever the others do, it
/// always reads back what it wrote last.
#[test]
fn two_partial_writers_of_one_piece_never_lose_a_byte() {
    const WRITERS: usize = 4;
    const SLICE: usize = PIECE / WRITERS;
    const PIECES: usize = 16;
    let daemon = Daemon::start();
    daemon.attached("db", "1M", &[]);
    let socket = daemon.nbd_socket();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut client = connect(&socket);
            scope.spawn(move || {
                for round in 0..400_usize {
                    let piece = round % PIECES;
                    let at = (piece * PIECE + writer * SLICE + 1) as u64;
                    let bytes = [(round % 256).to_le_bytes()[0]; SLICE - 1];
                    client.write(at, &bytes).expect("written");
                    let mut seen = [0; SLICE - 1];
                    client.read(at, &mut seen).expect("read");
                    assert_eq!(seen, bytes, "writer {writer}, round {round}");
                }
            });
        }
    });
}

/// A reader of a piece whose other half is being written sees its own half as it is, from the first write into the hole on.
#[test]
fn a_read_beside_a_partial_write_sees_no_noise() {
    let daemon = Daemon::start();
    daemon.attached("db", "16M", &[]);
    let socket = daemon.nbd_socket();
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut writer = connect(&socket);
        scope.spawn(move || {
            for piece in 0..(16 << 20) / 4096_u64 {
                writer.write(piece * 4096 + 3, &[0x5a; 200]).expect("written");
            }
            done.store(true, Ordering::Release);
        });
        let mut reader = connect(&socket);
        scope.spawn(move || {
            let mut piece = 0;
            while !done.load(Ordering::Acquire) {
                let mut seen = [0xff; 256];
                reader.read(piece * 4096 + 256, &mut seen).expect("read");
                assert_eq!(seen, [0; 256], "nobody writes there: piece {piece}");
                piece = (piece + 1) % ((16 << 20) / 4096);
            }
        });
    });
}

/// Where a READ races an overlapping WRITE, noise is allowed in the racing blocks only; afterwards everything is as written.
#[test]
fn a_racing_read_is_wrong_only_where_it_races() {
    let daemon = Daemon::start();
    daemon.attached("db", "1M", &[]);
    let socket = daemon.nbd_socket();
    let steady = [0x11_u8; 3 * 4096];
    connect(&socket).write(0, &steady).expect("written");
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut writer = connect(&socket);
        scope.spawn(move || {
            for round in 0..2000_u32 {
                writer.write(4096, &[round.to_le_bytes()[0]; 4096]).expect("written");
            }
            done.store(true, Ordering::Release);
        });
        let mut reader = connect(&socket);
        scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                let mut seen = [0; 3 * 4096];
                reader.read(0, &mut seen).expect("read");
                assert_eq!(seen[..4096], steady[..4096]);
                assert_eq!(seen[8192..], steady[8192..]);
            }
        });
    });
    let mut seen = [0; 4096];
    connect(&socket).read(4096, &mut seen).expect("read");
    assert_eq!(seen, [1999_u32.to_le_bytes()[0]; 4096]);
}
