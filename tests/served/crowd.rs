//! Ten thousand clients that connect and say nothing.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use envol::limits;
use envol::nbd::client::Client;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::support::Daemon;

/// More half-open connections than any cap allows; each file descriptor that the daemon would keep for one shows.
const CROWD: usize = 10_000;

fn descriptors_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a running process").count()
}

/// How long 99 of 100 READs of 4 KiB take at the most, one after another.
fn p99_of_reads(live: &mut Client) -> Duration {
    let mut read = |_| {
        let begun = Instant::now();
        live.read(4096, &mut [0; 4096]).expect("read");
        begun.elapsed()
    };
    let mut took: Vec<Duration> = (0..2_000).map(&mut read).collect();
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[test]
fn ten_thousand_half_open_connections_leave_live_ones_and_the_control_socket_alone() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("raised to what is allowed");
    let crowd = CROWD.min(usize::try_from(most).expect("a number of files") - 200);
    let daemon = Daemon::start();
    daemon.attached("db", "1M", &[]);
    let mut live = Client::connect(&daemon.nbd_socket(), "db").expect("connects");
    let (before, alone) = (descriptors_of(daemon.pid()), p99_of_reads(&mut live));
    let mut silent = Vec::with_capacity(crowd);
    for number in 0..crowd {
        // One that is turned away at once has ended, which is as good.
        silent.extend(UnixStream::connect(daemon.nbd_socket()));
        if number % 1000 == 0 {
            live.write(7, b"still here").expect("written");
            daemon.json(["status"]);
        }
    }
    assert!(descriptors_of(daemon.pid()) <= before + limits::HANDSHAKES_PER_LISTENER + 8);
    let crowded = p99_of_reads(&mut live);
    eprintln!("p99 of 4k READs: {alone:?} alone, {crowded:?} with {crowd} half-open connections tried");
    let mut seen = [0; 10];
    live.read(7, &mut seen).expect("read");
    assert_eq!(&seen, b"still here");
    drop(silent);
    live.disconnect().expect("closed");
    daemon.detach("db");
}
