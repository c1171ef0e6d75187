//! Crowds: connections by the thousand, which leave nothing behind, and a thousand attaches at once, which all end.
//!
//! `ENVOL_FAULTS_CROWD` says how large they are, in percent of 100,000 connections and 1,000 attaches.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use envol::control::client::{Client as Control, ClientError};
use envol::nbd::client::Client;
use serde_json::{Value, json};

use crate::disk::eventually;
use crate::support::Daemon;

fn percent_of(whole: usize) -> usize {
    whole * std::env::var("ENVOL_FAULTS_CROWD").map_or(3, |text| text.parse().expect("a number")) / 100
}

/// What a daemon holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub descriptors: usize,
    pub threads: usize,
    pub resident_kib: u64,
}

impl Held {
    pub fn by(pid: u32) -> Self {
        let entries = |of: &str| std::fs::read_dir(format!("/proc/{pid}/{of}")).expect("a running process").count();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("told");
        let resident_kib = resident.trim().trim_end_matches(" kB").parse().expect("a number");
        Self { descriptors: entries("fd"), threads: entries("task"), resident_kib }
    }

    fn settled(pid: u32, before: Option<Self>) -> Self {
        let Some(before) = before else {
            thread::sleep(Duration::from_secs(7));
            return Self::by(pid);
        };
        eventually(|| {
            let now = Self::by(pid);
            (now.descriptors <= before.descriptors && now.threads <= before.threads).then_some(now)
        })
    }
}

/// One client that comes and goes: at once, after a handshake, after some I/O, with or without a word.
pub fn come_and_go(socket: &Path, number: usize, export: &str) {
    if number.is_multiple_of(4) {
        drop(UnixStream::connect(socket));
        return;
    }
    let Ok(mut client) = Client::connect(socket, if number % 4 == 1 { "nobody" } else { export }) else {
        assert_eq!(number % 4, 1, "the export is there");
        return;
    };
    client.write(512, &[1; 4096]).expect("written");
    client.read(0, &mut [0; 4096]).expect("read");
    if number % 4 == 2 {
        client.disconnect().expect("closed");
    }
}

fn come_and_go_many(socket: &Path, connects: usize) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
                numbers.take_while(|number| *number < connects).for_each(|number| come_and_go(socket, number, "db"));
            });
        }
    });
}

#[test]
fn connections_that_come_and_go_leave_no_descriptor_no_thread_and_no_memory() {
    let daemon = Daemon::start();
    daemon.attached("db", "1M", &[]);
    let (socket, connects) = (daemon.nbd_socket(), percent_of(100_000));
    // What is kept for later is there after the first ones.
    come_and_go_many(&socket, 2_000);
    let before = Held::settled(daemon.pid(), None);
    come_and_go_many(&socket, connects);
    let after = Held::settled(daemon.pid(), Some(before));
    eprintln!("{connects} connections: {before:?}, then {after:?}");
    assert!(after.resident_kib <= before.resident_kib + 2048, "{before:?}, then {after:?}");
}

/// Asks until there is room for the question: the control socket has 64 places.
fn patiently(ask: impl Fn() -> Result<Value, ClientError>) -> Value {
    eventually(|| match ask() {
        Ok(answer) => Some(answer),
        Err(ClientError::Failed(problem)) if problem.code == "control.busy" => None,
        // The connection that is one too many is closed, at times before it was read from.
        Err(ClientError::Garbled(_)) => None,
        Err(error) => panic!("{error:?}"),
    })
}

fn everybody(names: &[String], ask: impl Fn(&str) -> Result<Value, ClientError> + Sync) -> Vec<Duration> {
    let start = Barrier::new(names.len());
    thread::scope(|scope| {
        let one = |name: &String| {
            let (start, ask, name) = (&start, &ask, name.clone());
            let builder = thread::Builder::new().stack_size(256 << 10);
            let run = move || {
                start.wait();
                let begun = Instant::now();
                patiently(|| ask(&name));
                begun.elapsed()
            };
            builder.spawn_scoped(scope, run).expect("a thread")
        };
        let running: Vec<_> = names.iter().map(one).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

#[test]
fn a_thousand_attaches_at_once_all_end_and_so_they_do_after_a_restart() {
    let mut daemon = Daemon::start();
    let control = Control::new(daemon.path().join("control.sock"));
    let names: Vec<String> = (0..percent_of(1_000)).map(|number| format!("v{number}")).collect();
    for name in &names {
        let request = json!({ "name": name, "size": 1 << 20 });
        control.send_long::<_, Value>("/v1/volumes", &request, &mut |_, _| ()).expect("made");
    }
    let took = everybody(&names, |name| control.send("POST", &format!("/v1/volumes/{name}/attach"), &json!({})));
    let longest = took.iter().max().expect("there are some");
    daemon.kill();
    daemon.run();
    let begun = Instant::now();
    eventually(|| {
        let volumes: Value = control.get("/v1/volumes").ok()?;
        let attached = volumes.to_string().matches("\"in-use\"").count();
        (attached == names.len()).then_some(())
    });
    eprintln!(
        "{} attaches at once: the last one ended after {longest:?}; after a restart all were back after {:?}",
        names.len(),
        begun.elapsed()
    );
    let took = everybody(&names, |name| control.send("POST", &format!("/v1/volumes/{name}/detach"), &json!({})));
    eprintln!("as many detaches: the last one ended after {:?}", took.iter().max().expect("there are some"));
}
