//! The long run: workload after workload until there are as many states as were asked for. `scripts/crash` starts it, and
//! starts it again where it was stopped.
//!
//! How far it has come lies in a file, one line: the next workload and the counts so far. Each workload's volume has its
//! own random keys, so no two workloads share a state and the counts of two runs can be added.

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::check::Tally;
use crate::states::examine;

const STATES_OF_EACH: u64 = 400;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    next: u64,
    states: u64,
    inside: u64,
    again: u64,
    killed: u64,
    findings: u64,
    seconds: u64,
}

impl Progress {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [next, states, inside, again, killed, findings, seconds] = numbers[..] else { return Self::default() };
        Self { next, states, inside, again, killed, findings, seconds }
    }

    fn write(&self, path: &Path) {
        let Self { next, states, inside, again, killed, findings, seconds } = self;
        let beside = path.with_extension("new");
        fs::write(&beside, format!("{next} {states} {inside} {again} {killed} {findings} {seconds}\n"))
            .expect("written");
        fs::rename(beside, path).expect("renamed");
    }

    fn line(&self) -> String {
        let Self { next, states, inside, again, killed, findings, seconds } = self;
        format!(
            "{states} distinct states of {next} workloads ({inside} inside header or record updates, {again} cut again in recovery, {killed} killed first): {findings} findings, {seconds} s"
        )
    }
}

#[test]
#[ignore = "minutes of states: scripts/crash runs it"]
fn campaign() {
    let wanted: u64 = std::env::var("ENVOL_CRASH_STATES").expect("how many").parse().expect("a number");
    let path = std::env::var_os("ENVOL_CRASH_PROGRESS").expect("where to keep how far it is");
    let path = Path::new(&path);
    let mut progress = Progress::read(path);
    let (before, started) = (progress.seconds, Instant::now());
    while progress.states < wanted {
        let mut tally = Tally::default();
        examine(progress.next, STATES_OF_EACH, &mut tally);
        progress.next += 1;
        progress.states += tally.distinct();
        progress.inside += tally.inside;
        progress.again += tally.again;
        progress.killed += tally.killed;
        progress.findings += tally.findings.len() as u64;
        progress.seconds = before + started.elapsed().as_secs();
        tally.findings.iter().for_each(|finding| eprintln!("{finding}"));
        progress.write(path);
        if progress.next.is_multiple_of(20) {
            eprintln!("{}", progress.line());
        }
    }
    let result = std::env::var_os("ENVOL_CRASH_RESULT").expect("where the result goes");
    fs::write(result, progress.line() + "\n").expect("written");
    assert_eq!(progress.findings, 0, "every finding is told above, with the number of its workload");
}

#[test]
fn how_far_it_is_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("progress");
    assert_eq!(Progress::read(&path), Progress::default());
    let progress = Progress { next: 1, states: 2, inside: 3, again: 4, killed: 5, findings: 6, seconds: 7 };
    progress.write(&path);
    assert_eq!(Progress::read(&path), progress);
}
