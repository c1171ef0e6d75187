//! `envol status` and `envol events`.

use std::thread;
use std::time::{Duration, Instant};

use super::Session;
use crate::cli::args::EventsArgs;
use crate::cli::error::CliError;
use crate::cli::render::{Rates, event_line, status_page};
use crate::cli::route::route;
use crate::control::api::Status;

/// How long traffic is watched for the rates that people are shown.
const WATCHED: Duration = Duration::from_millis(250);

pub(super) fn status(session: &Session) -> Result<(), CliError> {
    let path = route(&["status"]);
    let first: Status = session.client.get(&path)?;
    if session.console.is_json() || first.traffic.is_empty() {
        return session.console.answer(&first, |status| status_page(status, &Rates::new()));
    }
    let started = Instant::now();
    thread::sleep(WATCHED);
    let second: Status = session.client.get(&path)?;
    session.console.text(&status_page(&second, &rates(&first, &second, started.elapsed())))
}

/// What each volume carried between two looks, a second.
fn rates(first: &Status, second: &Status, between: Duration) -> Rates {
    let a_second = |before: u64, after: u64| {
        let moved = u128::from(after.saturating_sub(before)) * 1_000_000;
        u64::try_from(moved / between.as_micros().max(1)).unwrap_or(u64::MAX)
    };
    let pairs = second.traffic.iter().filter_map(|after| {
        let before = first.traffic.iter().find(|before| before.volume == after.volume)?;
        let read = a_second(before.read_bytes, after.read_bytes);
        Some((after.volume.clone(), (read, a_second(before.written_bytes, after.written_bytes))))
    });
    pairs.collect()
}

pub(super) fn events(session: &Session, args: &EventsArgs) -> Result<(), CliError> {
    let path = if args.follow { route(&["events"]) + "?follow=true" } else { route(&["events"]) };
    let mut written = Ok(());
    session.client.follow(&path, &mut |line| {
        let line = if session.console.is_json() { line.to_owned() } else { event_line(line) };
        written = session.console.text(&line);
        written.is_ok()
    })?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::{Hardening, Hsm, Traffic};

    fn looked(read_bytes: u64, written_bytes: u64) -> Status {
        let traffic = Traffic { volume: "vol-0".into(), reads: 1, read_bytes, writes: 1, written_bytes, flushes: 0 };
        Status {
            version: String::new(),
            pid: 1,
            since: String::new(),
            state_dir: String::new(),
            listeners: Vec::new(),
            kms_endpoints: Vec::new(),
            kms: Vec::new(),
            key_memory: String::new(),
            hsm: Hsm::default(),
            verify_key_here: false,
            io: String::new(),
            hardening: Hardening::default(),
            connections: 0,
            volumes: Vec::new(),
            keys: Vec::new(),
            traffic: vec![traffic],
        }
    }

    #[test]
    fn a_rate_is_what_moved_between_two_looks() {
        let rates = rates(&looked(1000, 5), &looked(2000, 5), Duration::from_millis(250));
        assert_eq!(rates["vol-0"], (4000, 0));
    }

    #[test]
    fn counters_that_start_again_are_no_rate() {
        let rates = rates(&looked(1000, 5), &looked(10, 0), Duration::from_millis(250));
        assert_eq!(rates["vol-0"], (0, 0));
    }
}
