//! Ten thousand clients that connect and say nothing.

use std::os::unix::net::UnixStream;

use envol::limits;
use envol::nbd::client::Client;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::support::Daemon;

/// More half-open connections than any cap allows; each file descriptor that the daemon would keep for one shows.
const CROWD: usize = 10_000;

fn descriptors_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a running process").count()
}

#[test]
fn ten_thousand_half_open_connections_leave_live_ones_and_the_control_socket_alone() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("raised to what is allowed");
    let crowd = CROWD.min(usize::try_from(most).expect("a number of files") - 200);
    let daemon = Daemon::start();
    daemon.attached("db", "1M", &[]);
    let mut live = Client::connect(&daemon.nbd_socket(), "db").expect("connects");
    let before = descriptors_of(daemon.pid());
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
    let mut seen = [0; 10];
    live.read(7, &mut seen).expect("read");
    assert_eq!(&seen, b"still here");
    drop(silent);
    live.disconnect().expect("closed");
    daemon.detach("db");
}
