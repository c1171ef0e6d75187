//! The power cut at any request that reached the disk: the shipped program on a disk that keeps a log, each beginning of
//! which is put back and attached. The requests after the last flush are lost and torn by chance as well.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use envol::nbd::client::{Client, NbdUri};

use crate::disk::{Disk, THREADS, Way, eventually, ways};
use crate::ledger::Ledger;
use crate::random::Random;
use crate::script::{self, PART, Step};
use crate::support::{Daemon, must};
use crate::writes::{self, Entry};

const EXPORT: &str = "db";
const PATIENCE: Duration = Duration::from_secs(60);

/// What was recorded: a daemon that was killed, its backing before, and what its disk was asked.
struct Recording {
    daemon: Daemon,
    backing: PathBuf,
    base: Vec<u8>,
    entries: Vec<Entry>,
    /// With how many requests in the log the attach was done.
    attached: usize,
    /// Each step with the requests in the log before it and after it.
    steps: Vec<(usize, Step, usize)>,
}

impl Recording {
    fn new(way: Way, number: u64) -> Self {
        let mut daemon = Daemon::start_under(&[], &[("ENVOL_IO", way.0)]);
        daemon.json(["volume", "create", EXPORT, "--size", "1M"]);
        let backing = daemon.backing(EXPORT);
        daemon.terminate();
        keep(&daemon, "detached");
        let (place, log) = (daemon.path().to_owned(), daemon.path().join("writes.log"));
        let base = std::fs::read(&backing).expect("readable");
        let disk = Disk::logging(&backing, &place, &log);
        daemon.run();
        daemon.json(["attach", EXPORT].iter().chain(way.1));
        keep(&daemon, "attached");
        let attached = writes::count(&log);
        let steps = client(&daemon, &log, number);
        daemon.kill();
        disk.put_away();
        Self { entries: writes::read(&log), daemon, backing, base, attached, steps }
    }

    /// What a client may find once the power was cut after so many requests.
    fn expected(&self, kept: usize) -> Ledger {
        let mut ledger = Ledger::new(PART);
        for (_, step, after) in self.steps.iter().take_while(|(before, _, _)| *before <= kept) {
            let answer = if *after <= kept { script::Answer::Done } else { script::Answer::None };
            step.enter(&mut ledger, answer);
        }
        ledger
    }

    /// Puts back what `kept` requests left and attaches it.
    fn cut(&mut self, kept: usize, random: Option<&mut Random>) {
        let torn = random.is_some();
        let image = writes::replay(&self.base, &self.entries, kept, random);
        std::fs::write(&self.backing, image).expect("written");
        put_back(&self.daemon, if kept < self.attached { "detached" } else { "attached" });
        self.daemon.run();
        let plain = read_back(&self.daemon);
        let verdict = self.expected(kept).judge_after_cut(&plain);
        assert!(verdict.is_ok(), "{verdict:?} after {kept} of {} requests (torn: {torn})", self.entries.len());
        self.daemon.kill();
    }
}

/// Asks for everything, and writes down how long the log was before and after each request.
fn client(daemon: &Daemon, log: &Path, number: u64) -> Vec<(usize, Step, usize)> {
    let uri = NbdUri::unix(daemon.nbd_socket(), EXPORT);
    let mut client = Client::enter(&uri, Some(PATIENCE)).expect("connects");
    let mut ledger = Ledger::new(PART);
    let ask = |step: Step| {
        let before = writes::count(log);
        assert_eq!(step.ask(&mut client, &mut ledger), script::Answer::Done, "{}", daemon.log());
        (before, step, writes::count(log))
    };
    script::steps(number).into_iter().map(ask).collect()
}

fn read_back(daemon: &Daemon) -> Vec<u8> {
    let uri = NbdUri::unix(daemon.nbd_socket(), EXPORT);
    let mut plain = vec![0; PART];
    let mut client = eventually(|| {
        // One that was attached when the power went is attached again by the daemon itself.
        daemon.envol(["attach", EXPORT]);
        Client::enter(&uri, Some(PATIENCE)).ok()
    });
    client.read(0, &mut plain).expect("read");
    plain
}

/// Keeps the state directory, without the backings, under this name.
fn keep(daemon: &Daemon, name: &str) {
    let (state, kept) = (daemon.path().join("state"), daemon.path().join(name));
    std::fs::create_dir(&kept).expect("made");
    copy(&state, &kept);
}

fn put_back(daemon: &Daemon, name: &str) {
    let (state, kept) = (daemon.path().join("state"), daemon.path().join(name));
    for entry in std::fs::read_dir(&state).expect("readable").map(|entry| entry.expect("an entry")) {
        if entry.file_name() != "volumes" {
            must(Command::new("rm").arg("-r").arg(entry.path()));
        }
    }
    copy(&kept, &state);
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("readable").map(|entry| entry.expect("an entry")) {
        if entry.file_name() != "volumes" {
            must(Command::new("cp").arg("-a").arg(entry.path()).arg(to));
        }
    }
}

/// Cuts the power after `every`-th request of a script, and once more with what no flush has followed lost in part.
fn cut_one_way(way: Way, number: u64, every: usize) -> (usize, usize) {
    let mut recording = Recording::new(way, number);
    let mut random = Random::new(number);
    let requests = recording.entries.len();
    let mut cuts = 0;
    for kept in (number as usize % every..=requests).step_by(every) {
        recording.cut(kept, None);
        recording.cut(kept, Some(&mut random));
        cuts += 2;
    }
    (requests, cuts)
}

#[test]
fn a_power_cut_at_any_request_of_a_disk_loses_nothing_that_was_flushed() {
    let ways = ways();
    let each = ways.iter().enumerate();
    let cuts: usize = each.map(|(number, way)| cut_one_way(*way, number as u64, 60).1).sum();
    eprintln!("{cuts} power cuts");
    assert!(cuts >= 2 * ways.len(), "{cuts}");
}

#[test]
#[ignore = "thousands of restarts: scripts/faults runs it"]
fn every_request() {
    let result = std::env::var_os("ENVOL_FAULTS_RESULT").expect("where the result goes");
    let every: usize = std::env::var("ENVOL_FAULTS_EVERY").map_or(1, |text| text.parse().expect("a number"));
    let (mut requests, mut cuts) = (0, 0);
    let ways = ways();
    for (number, way) in ways.iter().copied().enumerate() {
        let (more, cut) = cut_one_way(way, number as u64, every);
        (requests, cuts) = (requests + more, cuts + cut);
        eprintln!("{way:?}: {requests} requests, {cuts} power cuts so far");
    }
    let line =
        format!("{cuts} power cuts in the {requests} requests of {} scripts: 0 flushed pieces lost\n", ways.len());
    std::fs::write(result, line).expect("written");
}

#[test]
fn a_disk_that_forgets_what_it_flushed_is_found() {
    if ways().is_empty() {
        return;
    }
    let mut recording = Recording::new(THREADS, 1);
    // The last flush that covered something is undone, and all of the image with it, but not what was promised.
    let kept = recording.steps.iter().rev().find(|(_, step, _)| step.what == script::What::Flush).expect("a flush").2;
    let promised = recording.expected(kept);
    let early = recording.attached;
    std::fs::write(&recording.backing, writes::replay(&recording.base, &recording.entries, early, None))
        .expect("written");
    put_back(&recording.daemon, "attached");
    recording.daemon.run();
    assert!(promised.judge_after_cut(&read_back(&recording.daemon)).is_err());
    recording.daemon.kill();
}
