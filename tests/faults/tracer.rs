//! Makes the n-th storage call of a process go wrong, whichever of its threads makes it: ptrace, one count for all threads.
//!
//! strace counts for each thread alone, and the results that it invents are not true: a transfer that it says was short was
//! none. Here a short transfer is one of half the length, carried out by the kernel. A storage call is one on a file below
//! the directory that is given: the backing, the records, the store, the logs.
//!
//! Tracing is done by a process of its own (this test program again), as one that traces its own child could not leave the
//! child's end to `std`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

mod calls;
mod stops;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the calls are counted.
    None,
    /// The process is killed before the call, or after it.
    KillBefore,
    KillAfter,
    /// The call is not carried out and fails.
    Error(i32),
    /// The call transfers half of what was asked.
    Short,
}

/// The tracer at work.
pub struct Tracer {
    process: Child,
    answers: BufReader<std::process::ChildStdout>,
}

/// What it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The storage calls that the fault could have met.
    pub calls: u64,
    /// The name of the call that it met.
    pub hit: Option<String>,
}

impl Tracer {
    /// Traces process `pid`, in which storage call number `nth` (from 1 on) below `directory` is to meet `fault`.
    pub fn start(pid: u32, directory: &Path, fault: Fault, nth: u64) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut process = Command::new(program)
            .args(["--ignored", "--exact", "tracer::trace", "--nocapture"])
            .env("ENVOL_TRACE", format!("{pid} {nth} {}", words(fault)))
            .env("ENVOL_TRACE_BELOW", directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        let mut tracer = Self { process, answers };
        assert_eq!(tracer.answer()[0], "tracing", "process {pid} can be traced");
        tracer
    }

    /// The next line that the tracer, and not the test harness, prints.
    fn answer(&mut self) -> Vec<String> {
        loop {
            let mut line = String::new();
            assert_ne!(self.answers.read_line(&mut line).expect("readable"), 0, "the tracer ended");
            if let Some(words) = line.trim().strip_prefix("tracer: ") {
                return words.split(' ').map(ToOwned::to_owned).collect();
            }
        }
    }

    /// Lets go of the process, where it is still there.
    pub fn stop(mut self) -> Seen {
        // It may have ended with the process.
        drop(self.process.stdin.take());
        let words = self.answer();
        self.process.wait().expect("a child of ours");
        Seen { calls: words[0].parse().expect("a number"), hit: words.get(1).cloned() }
    }
}

fn words(fault: Fault) -> String {
    match fault {
        Fault::None => "none".into(),
        Fault::KillBefore => "before".into(),
        Fault::KillAfter => "after".into(),
        Fault::Error(errno) => format!("error {errno}"),
        Fault::Short => "short".into(),
    }
}

fn fault(words: &[&str]) -> Fault {
    match words {
        ["none"] => Fault::None,
        ["before"] => Fault::KillBefore,
        ["after"] => Fault::KillAfter,
        ["error", errno] => Fault::Error(errno.parse().expect("a number")),
        ["short"] => Fault::Short,
        other => panic!("{other:?}"),
    }
}

#[test]
#[ignore = "the tracer itself, started by the tests"]
fn trace() {
    let order = std::env::var("ENVOL_TRACE").expect("what to trace");
    let below = PathBuf::from(std::env::var_os("ENVOL_TRACE_BELOW").expect("a directory"));
    let words: Vec<&str> = order.split(' ').collect();
    let (pid, nth) = (words[0].parse().expect("a process"), words[1].parse().expect("a number"));
    let mut trace = stops::Trace::seize(pid, &below, fault(&words[2..]), nth);
    say("tracing");
    let seen = trace.run();
    say(&format!("{} {}", seen.calls, seen.hit.unwrap_or_default()));
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // On a line of its own, whatever the test harness has begun.
    writeln!(out, "\ntracer: {line}").expect("printed");
    out.flush().expect("printed");
}
