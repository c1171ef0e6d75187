//! SIGKILL under load: the shipped program is killed and started again, over and over, while clients write over NBD; each
//! keeps a ledger of its own of what was acknowledged, and reads all of its part back before it goes on.
//!
//! `ledger` is a client and what it knows. A kill takes no bytes from the kernel: what was acknowledged must be there, with
//! or without a flush; of what was under way each piece of 512 bytes is old or new.

#![allow(
    unsafe_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "a test may fail at any line, and its numbers are small; the shared harness asks the kernel to end its daemons"
)]

mod ledger;
#[allow(dead_code, reason = "shared with the crash tests, which choose in more ways")]
#[path = "../crash/random.rs"]
mod random;
#[path = "../support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use envol::nbd::client::{Client, NbdUri};

use crate::ledger::Ledger;
use crate::random::Random;
use crate::support::Daemon;

const CLIENTS: u64 = 4;
const EXPORT: &str = "db";
/// Only a daemon that is broken takes so long to bring a volume back.
const PATIENCE: Duration = Duration::from_secs(60);

/// One life of the daemon, as its clients see it.
struct Life<'l> {
    uri: NbdUri,
    /// How many clients have read their part back.
    judged: AtomicUsize,
    ended: AtomicBool,
    daemon: &'l Daemon,
}

impl Life<'_> {
    /// A connection, or none once the daemon has been killed.
    fn connect(&self) -> Option<Client> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Client::enter(&self.uri, Some(PATIENCE)) {
                Ok(client) => return Some(client),
                Err(_) if self.ended.load(Ordering::SeqCst) => return None,
                Err(error) => assert!(Instant::now() < deadline, "{error}\n{}", self.daemon.log()),
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Reads a part back, then writes to it until the daemon is killed.
    fn live(&self, ledger: &mut Ledger) {
        let Some(mut client) = self.connect() else { return };
        match ledger.read_back(&mut client) {
            Ok(plain) => ledger.judge(&plain).unwrap_or_else(|lost| panic!("{lost:?}\n{}", self.daemon.log())),
            Err(error) => return self.must_have_been_killed(&error),
        }
        self.judged.fetch_add(1, Ordering::SeqCst);
        let error = ledger.work(&mut client);
        self.must_have_been_killed(&error);
    }

    fn must_have_been_killed(&self, error: &envol::nbd::client::ClientError) {
        assert!(self.ended.load(Ordering::SeqCst), "{error}\n{}", self.daemon.log());
    }
}

/// Kills the daemon `kills` times and tells `each` of it; the clients' ledgers.
fn kill_over_and_over(kills: u64, mut each: impl FnMut(u64, &[Ledger])) -> Vec<Ledger> {
    let mut daemon = Daemon::start();
    daemon.attached(EXPORT, "16M", &[]);
    let mut ledgers: Vec<Ledger> = (0..CLIENTS).map(Ledger::new).collect();
    let mut random = Random::new(kills);
    for kill in 1..=kills {
        let under_load = !random.percent(10);
        one_life(&daemon, &mut ledgers, under_load, random.below(20_000));
        daemon.kill();
        daemon.run();
        each(kill, &ledgers);
    }
    // What the last kill left is read back, too.
    one_life(&daemon, &mut ledgers, true, 0);
    daemon.kill();
    ledgers
}

/// Ends with the daemon killed, so long after its start or, under load, after every client has read its part back.
fn one_life(daemon: &Daemon, ledgers: &mut [Ledger], under_load: bool, after_us: u64) {
    let uri = NbdUri::unix(daemon.nbd_socket(), EXPORT);
    let life = Life { uri, judged: AtomicUsize::new(0), ended: AtomicBool::new(false), daemon };
    thread::scope(|scope| {
        let clients: Vec<_> = ledgers.iter_mut().map(|ledger| scope.spawn(|| life.live(ledger))).collect();
        let all_judged = || life.judged.load(Ordering::SeqCst) == clients.len();
        while under_load && !all_judged() && !clients.iter().any(|client| client.is_finished()) {
            thread::sleep(Duration::from_micros(200));
        }
        thread::sleep(Duration::from_micros(after_us));
        life.ended.store(true, Ordering::SeqCst);
        daemon.send_kill();
    });
}

/// What the ledgers come to.
fn counts(kills: u64, ledgers: &[Ledger]) -> String {
    let sum = |of: fn(&Ledger) -> u64| ledgers.iter().map(of).sum::<u64>();
    let acknowledged = sum(|ledger| ledger.acknowledged);
    let (interrupted, landed) = (sum(|ledger| ledger.interrupted), sum(|ledger| ledger.landed));
    format!(
        "{kills} kills, {acknowledged} writes acknowledged, {interrupted} under way at a kill ({landed} of them all there): 0 lost"
    )
}

#[test]
fn kills_under_load_lose_no_acknowledged_write() {
    let kills = 15;
    let ledgers = kill_over_and_over(kills, |_, _| ());
    eprintln!("{}", counts(kills, &ledgers));
    // Each client has one request under way at all times; nine lives of ten end under load.
    assert!(ledgers.iter().all(|ledger| ledger.acknowledged > kills && ledger.interrupted > 0));
}

#[test]
#[ignore = "minutes of kills: scripts/kills runs it"]
fn many_kills() {
    let kills = std::env::var("ENVOL_KILLS").expect("how many").parse().expect("a number");
    let ledgers = kill_over_and_over(kills, |kill, ledgers| {
        if kill.is_multiple_of(100) {
            eprintln!("{}", counts(kill, ledgers));
        }
    });
    let result = std::env::var_os("ENVOL_KILLS_RESULT").expect("where the result goes");
    std::fs::write(result, counts(kills, &ledgers) + "\n").expect("written");
}
