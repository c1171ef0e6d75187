//! What one process may have: the daemon's where one answers, else of this one, which whoever starts a daemon from here
//! hands on to it.

use std::fs;

use super::{Check, Finding, Wanted};
use crate::limits;

/// The capability to lock memory whatever the limit says (capability.h).
const CAP_IPC_LOCK: u32 = 14;

/// Descriptors that stand for no connection and no volume: the store, the logs, the sockets, the HSM, the threads' own.
const OTHERS: u64 = 64;

/// Descriptors of one NBD connection: its socket and its ring.
const PER_CONNECTION: u64 = 2;

/// A process's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    /// `the daemon`, or `this process`.
    pub(super) name: &'static str,
    /// Bytes that it may lock: `u64::MAX` for any, `None` where that cannot be read.
    pub(super) lockable: Option<u64>,
    /// Files that it may have open; as for bytes.
    open_files: Option<u64>,
}

impl Process {
    /// The process `pid` where its limits can be read and it is envol's, else this one.
    pub(super) fn of(pid: Option<u32>) -> Self {
        let daemon = pid.and_then(|pid| {
            let ours = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end() == "envol";
            ours.then(|| Self::read("the daemon", &pid.to_string())).filter(|process| process.lockable.is_some())
        });
        daemon.unwrap_or_else(|| Self::read("this process", "self"))
    }

    fn read(name: &'static str, pid: &str) -> Self {
        let text = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        Self::in_texts(name, &text("limits"), &text("status"))
    }

    fn in_texts(name: &'static str, limits: &str, status: &str) -> Self {
        let lockable = limit_in(limits, "Max locked memory");
        let lockable = if locks_anything(status) { lockable.map(|_| u64::MAX) } else { lockable };
        Self { name, lockable, open_files: limit_in(limits, "Max open files") }
    }
}

/// A soft limit of proc_pid_limits(5).
fn limit_in(limits: &str, name: &str) -> Option<u64> {
    let word = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
    if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() }
}

fn locks_anything(status: &str) -> bool {
    let word = status.lines().find_map(|line| line.strip_prefix("CapEff:")).map(str::trim);
    word.and_then(|word| u64::from_str_radix(word, 16).ok()).is_some_and(|able| able & 1 << CAP_IPC_LOCK != 0)
}

pub(super) fn open_files(wanted: &Wanted, process: &Process) -> Finding {
    let check = Check::OpenFiles;
    let Some(limit) = process.open_files else {
        return check.limited("the limit cannot be read").remedy("run this where /proc is mounted");
    };
    let nbd = PER_CONNECTION * (wanted.listeners * limits::CONNECTIONS_PER_LISTENER) as u64;
    let most = nbd + (limits::CONTROL_CONNECTIONS_MAX + limits::KMS_CONNECTIONS_MAX) as u64 + OTHERS;
    let found = format!("{} may have {limit} files open; as many clients as are let in take {most}", process.name);
    match limit.checked_sub(most) {
        Some(0) | None => check
            .short(limit <= OTHERS, found)
            .remedy("raise the limit: LimitNOFILE=65536 in the unit, or ulimit -n before envol daemon"),
        Some(_) if limit == u64::MAX => check.fine(format!("{} may have any number open", process.name)),
        Some(left) => check.fine(format!("{found} and leave room for {left} attached volumes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;
    use crate::doctor::domain_key::tests::wanted;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max open files            1024                 524288               files     \n\
                          Max locked memory         8388608              unlimited            bytes     \n";

    #[test]
    fn limits_are_those_that_hold() {
        let process = |status| Process::in_texts("x", LIMITS, status);
        assert_eq!(process("CapEff:\t0000000000000000\n").lockable, Some(8 << 20));
        assert_eq!(process("CapEff:\t0000000000004000\n").lockable, Some(u64::MAX), "a capability lifts it");
        assert_eq!(process("").open_files, Some(1024));
        assert_eq!(Process::in_texts("x", "", "").lockable, None);
        assert!(Process::of(None).lockable.is_some() && Process::of(None).open_files.is_some());
    }

    #[test]
    fn a_limit_below_what_clients_may_take_is_told() {
        let found = |limit| open_files(&wanted("/s".into()), &Process { name: "x", lockable: None, open_files: limit });
        assert_eq!(found(Some(1024)).state, State::Limited);
        assert_eq!(found(Some(32)).state, State::Missing);
        assert_eq!(found(Some(65536)).state, State::Fine);
        assert_eq!(found(Some(u64::MAX)).state, State::Fine);
        assert_eq!(found(None).state, State::Limited);
    }
}
