//! How often an attach and a detach wait for a disk, counted by strace: what LIFECYCLE.md says of it.

use std::path::Path;

use crate::support::{Daemon, have};

const SYNCS: [&str; 6] = ["fsync(", "fdatasync(", "msync(", "sync_file_range(", "syncfs(", "sync("];

/// The syncs that were started so far. A call that another thread's interrupted has its end on a line of its own.
fn syncs(daemon: &Daemon) -> usize {
    // A line: the thread, spaces, the call.
    let is_sync = |line: &str| {
        let call = line.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ' ');
        SYNCS.iter().any(|sync| call.starts_with(sync))
    };
    daemon.trace().lines().filter(|line| is_sync(line)).count()
}

/// How many `change` makes.
fn made_by(daemon: &Daemon, change: impl FnOnce()) -> usize {
    let before = syncs(daemon);
    change();
    syncs(daemon) - before
}

#[test]
fn an_attach_makes_six_syncs_and_a_detach_three_however_large_the_volume() {
    let place = Path::new("/dev/shm");
    if !have(&["strace", "/dev/shm"]) {
        return;
    }
    let trace = "trace=fsync,fdatasync,msync,sync_file_range,syncfs,sync";
    let daemon = Daemon::start_traced(place, &["-e", trace]);
    let size = ["volume", "create", "huge", "--size", "1T"];
    assert_ne!(made_by(&daemon, || drop(daemon.json(size))), 0, "that of its making are seen");
    for _ in 0..2 {
        assert_eq!(made_by(&daemon, || drop(daemon.attach("huge"))), 6, "{}", daemon.trace());
        assert_eq!(made_by(&daemon, || daemon.detach("huge")), 3, "{}", daemon.trace());
    }
}
