//! One storage call after another goes wrong, under a client with a ledger: it fails, it transfers half, or it is the last
//! one before or after which the daemon is killed.

use std::thread;
use std::time::{Duration, Instant};

use envol::nbd::client::{Client, NbdUri};

use crate::ledger::Ledger;
use crate::script::{self, Course, PART, Step};
use crate::support::Daemon;
use crate::tracer::{Fault, Seen, Tracer};

const EXPORT: &str = "db";
/// Only a daemon that is broken takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
const FAULTS: [Fault; 5] =
    [Fault::KillBefore, Fault::KillAfter, Fault::Error(libc::EIO), Fault::Error(libc::ENOSPC), Fault::Short];
const ENGINE: (&str, &str) = ("ENVOL_IO", "threads");

/// What a whole script came to.
#[derive(Debug, Default)]
struct Tally {
    scripts: u64,
    met: u64,
    kills: u64,
    acknowledged: usize,
    errors: usize,
    /// Attaches that a fault had refused, and that succeeded when they were tried again.
    refused: u64,
}

impl Tally {
    fn line(&self) -> String {
        let Self { scripts, met, kills, acknowledged, errors, refused } = self;
        format!(
            "{met} storage calls met a fault in {scripts} scripts ({kills} kills), {acknowledged} requests acknowledged, {errors} answered with an error, {refused} attaches refused and tried again: 0 lost"
        )
    }
}

/// Attach, the script, detach, with one storage call that goes wrong; then everything is read after a kill and a restart.
fn run(fault: Fault, nth: u64, tally: &mut Tally) -> Seen {
    let mut daemon = Daemon::start_under(&[], &[ENGINE]);
    daemon.json(["volume", "create", EXPORT, "--size", "1M"]);
    let mut ledger = Ledger::new(PART);
    let tracer = Tracer::start(daemon.pid(), daemon.path(), fault, nth);
    let course = live(&daemon, &script::steps(nth % 8), &mut ledger, tally);
    let seen = tracer.stop();
    judge(fault, &seen, &course, &daemon);
    daemon.kill();
    daemon.run();
    let mut client = enter(&daemon);
    script::read(&mut client, &mut ledger).expect("read back");
    client.write_durably(0, b"it is whole again").expect("written");
    tally.scripts += 1;
    tally.met += u64::from(seen.hit.is_some());
    tally.kills += u64::from(course.cut_off);
    tally.acknowledged += course.acknowledged;
    tally.errors += course.errors.len();
    daemon.kill();
    seen
}

/// One life of the volume.
fn live(daemon: &Daemon, steps: &[Step], ledger: &mut Ledger, tally: &mut Tally) -> Course {
    let killed = Course { cut_off: true, ..Course::default() };
    let mut attached = daemon.envol(["attach", EXPORT]).status.success();
    if !attached && daemon.envol(["status"]).status.success() {
        tally.refused += 1;
        attached = daemon.envol(["attach", EXPORT]).status.success();
        assert!(attached, "it cannot be attached again\n{}", daemon.log());
    }
    let uri = NbdUri::unix(daemon.nbd_socket(), EXPORT);
    if !attached {
        return killed;
    }
    let Ok(mut client) = Client::enter(&uri, Some(PATIENCE)) else { return killed };
    let course = script::follow(steps, &mut client, ledger);
    drop(client);
    if !course.cut_off {
        let detached = daemon.envol(["detach", EXPORT]);
        // What has failed to be synced is said (exit 8), and the volume is detached all the same.
        let code = detached.status.code();
        let gone = !daemon.envol(["status"]).status.success();
        assert!(gone || matches!(code, Some(0 | 8)), "{detached:?}\n{}", daemon.log());
    }
    course
}

/// What may have come of it.
fn judge(fault: Fault, seen: &Seen, course: &Course, daemon: &Daemon) {
    let killed = matches!(fault, Fault::KillBefore | Fault::KillAfter) && seen.hit.is_some();
    assert!(killed || !course.cut_off, "{fault:?} {seen:?}: the connection ended\n{}", daemon.log());
    let met_a_sync = seen.hit.as_ref().is_some_and(|name| name == "fdatasync" || name == "fsync");
    if met_a_sync && course.sync_failed.is_some() {
        assert_eq!(course.syncs_afterwards, 0, "{seen:?}: a sync was acknowledged after one had failed");
    }
    if fault == Fault::None || fault == Fault::Short {
        assert!(course.errors.is_empty(), "{seen:?}: a transfer that was short goes on\n{}", daemon.log());
    }
}

/// A connection to the volume, which a restarted daemon attaches by itself if it was attached when it ended.
fn enter(daemon: &Daemon) -> Client {
    let uri = NbdUri::unix(daemon.nbd_socket(), EXPORT);
    let deadline = Instant::now() + PATIENCE;
    loop {
        daemon.envol(["attach", EXPORT]);
        match Client::enter(&uri, Some(PATIENCE)) {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < deadline, "{error}\n{}", daemon.log()),
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn is_traceable() -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var_os("REQUIRE_ALL").is_none_or(|value| value != "1"), "needs root, to trace a daemon");
    if !root {
        eprintln!("SKIPPED: needs root, to trace a daemon");
    }
    root
}

#[test]
fn a_storage_call_that_fails_falls_short_or_is_the_last_one_loses_nothing() {
    if !is_traceable() {
        return;
    }
    let mut tally = Tally::default();
    let calls = run(Fault::None, 0, &mut tally).calls;
    assert!(calls > 200, "{calls} storage calls in a script of 200 requests");
    for (number, fault) in FAULTS.into_iter().enumerate() {
        for point in 0..4 {
            // Spread over attach, script and detach, elsewhere for each fault.
            run(fault, 1 + point * calls / 4 + number as u64 * 7, &mut tally);
        }
    }
    eprintln!("{}", tally.line());
    assert!(tally.met >= 15 && tally.kills >= 4 && tally.errors + tally.refused as usize >= 1, "{tally:?}");
}

#[test]
#[ignore = "thousands of scripts: scripts/faults runs it"]
fn every_storage_call() {
    let result = std::env::var_os("ENVOL_FAULTS_RESULT").expect("where the result goes");
    let every: u64 = std::env::var("ENVOL_FAULTS_EVERY").map_or(1, |text| text.parse().expect("a number"));
    let mut tally = Tally::default();
    for fault in FAULTS {
        let mut nth = 1;
        // A script makes a few calls more or fewer each time; the end is reached when none is left to meet.
        while run(fault, nth, &mut tally).hit.is_some() {
            nth += every;
            if nth % 50 < every {
                eprintln!("{fault:?} {nth}: {}", tally.line());
            }
        }
    }
    std::fs::write(result, tally.line() + "\n").expect("written");
}
