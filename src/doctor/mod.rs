//! What this machine can do of what envol wants, and what to do where it cannot: the findings of `envol doctor`.
//!
//! Every check looks and changes nothing: no file is made, no process is confined, no secret is read (of the domain key only
//! what its directory says of it). What a daemon is told comes in as [`Wanted`], what a running one says of itself as
//! [`Serving`]; limits are then the running one's. A check that this user may not make says so, and is never called fine.

mod clock;
mod disks;
mod domain_key;
mod kernel;
mod kms;
mod memory;
mod process;
mod space;
mod swap;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::block::engine::Choice;
use crate::crypto::xts::Engine;
use crate::kms::aws;
use crate::kms::embedded::hsm::DomainKeySource;
use crate::sys::locked::KeyMemoryChoice;
use disks::Disks;
use process::Process;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The configuration file.
    Configuration,
    /// A daemon that answers.
    Daemon,
    /// How much memory may be locked.
    LockedMemory,
    /// Memory that only its process reads.
    MemfdSecret,
    /// What could be swapped to a disk in clear.
    Swap,
    /// Confinement to files.
    Landlock,
    /// Confinement to system calls.
    Seccomp,
    /// How READs wait for a disk.
    IoUring,
    /// What computes the cipher.
    Cipher,
    /// Time.
    Clock,
    /// The kernel's NBD client.
    NbdModule,
    /// How many files may be open.
    OpenFiles,
    /// The state directory.
    StateDir,
    /// Room on a disk.
    Space,
    /// The embedded KMS's domain key.
    DomainKey,
    /// What a thief of its disk has.
    DomainKeyPlace,
    /// Whether what verifies the audit log lies elsewhere than the log.
    AuditVerifyKey,
    /// A KMS that is not envol's own: the files that its section names.
    Kms,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As envol wants it.
    Fine,
    /// envol runs, with less than it could have.
    Limited,
    /// envol does not run as it is told to, or not safely.
    Missing,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at. A check of several places is there once for each.
    pub check: Check,
    /// How it is.
    pub state: State,
    /// What was found: one line.
    pub found: String,
    /// What to do, where it is not fine: one line.
    pub remedy: Option<String>,
}

/// What a daemon started now would be told.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The configuration file, where there is one; or why it cannot be used, and the rest is as without it.
    pub configuration: Result<Option<PathBuf>, String>,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// Other places where backings may lie: directories and devices.
    pub volume_dirs: Vec<PathBuf>,
    /// Where the embedded KMS's domain key comes from.
    pub domain_key: DomainKeySource,
    /// What keys are to lie in.
    pub key_memory: KeyMemoryChoice,
    /// Whether confinement is required, and so all that it needs.
    pub hardening_required: bool,
    /// How READs are to wait for a disk.
    pub io: Choice,
    /// What is to compute the cipher.
    pub cipher: Engine,
    /// The KMSs that are not envol's own, by the names of their sections.
    pub kmses: Vec<(String, aws::Settings)>,
    /// How many sockets serve NBD.
    pub listeners: usize,
}

/// What a daemon that answers says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// Its process.
    pub pid: u32,
    /// Its state directory.
    pub state_dir: PathBuf,
    /// Where its domain key comes from, in its words.
    pub domain_key: String,
    /// Whether nobody has taken its audit log's verify key away.
    pub verify_key_here: bool,
}

impl Check {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Daemon => "daemon",
            Self::LockedMemory => "locked_memory",
            Self::MemfdSecret => "memfd_secret",
            Self::Swap => "swap",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::IoUring => "io_uring",
            Self::Cipher => "cipher",
            Self::Clock => "clock",
            Self::NbdModule => "nbd_module",
            Self::OpenFiles => "open_files",
            Self::StateDir => "state_dir",
            Self::Space => "space",
            Self::DomainKey => "domain_key",
            Self::DomainKeyPlace => "domain_key_place",
            Self::AuditVerifyKey => "audit_verify_key",
            Self::Kms => "kms",
        }
    }

    /// It is fine.
    pub fn fine(self, found: impl Into<String>) -> Finding {
        Finding { check: self, state: State::Fine, found: found.into(), remedy: None }
    }

    /// It is less than it could be.
    pub fn limited(self, found: impl Into<String>) -> Short {
        Short { check: self, state: State::Limited, found: found.into() }
    }

    /// envol needs it.
    pub fn missing(self, found: impl Into<String>) -> Short {
        Short { check: self, state: State::Missing, found: found.into() }
    }

    /// Missing where it is `needed`, else limited.
    fn short(self, needed: bool, found: impl Into<String>) -> Short {
        if needed { self.missing(found) } else { self.limited(found) }
    }
}

/// A finding that is not fine: it is none before it is said what to do.
#[must_use]
#[derive(Debug)]
pub struct Short {
    check: Check,
    state: State,
    found: String,
}

impl Short {
    /// The finding.
    pub fn remedy(self, remedy: impl Into<String>) -> Finding {
        Finding { check: self.check, state: self.state, found: self.found, remedy: Some(remedy.into()) }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fine => "fine",
            Self::Limited => "limited",
            Self::Missing => "missing",
        })
    }
}

/// Where a daemon with this state directory has its domain key from, by what it says in its status.
pub fn domain_key_of(said: &str, state_dir: &Path) -> Option<DomainKeySource> {
    domain_key::of(said, state_dir)
}

/// Looks at everything but the control socket; `serving` is the daemon that answers there.
pub fn examine(wanted: &Wanted, serving: Option<&Serving>) -> Vec<Finding> {
    let wanted = &wanted.as_served(serving);
    let process = Process::of(serving.map(|serving| serving.pid));
    let disks = Disks::of_this_machine();
    let mut findings = vec![
        configuration(wanted),
        memory::locked_memory(wanted, &process),
        memory::memfd_secret(wanted),
        swap::swap(wanted, &disks),
        kernel::landlock(wanted),
        kernel::seccomp(wanted),
        kernel::io_uring(wanted),
        kernel::cipher(wanted),
        clock::clock(&wanted.state_dir),
        kernel::nbd_module(),
        process::open_files(wanted, &process),
        space::state_dir(&wanted.state_dir),
    ];
    findings.extend(space::space(wanted));
    findings.push(domain_key::domain_key(wanted));
    findings.push(domain_key::place(wanted, &disks));
    findings.extend(serving.map(audit_verify_key));
    findings.extend(kms::kmses(wanted));
    findings
}

impl Wanted {
    /// With what the daemon that answers has instead.
    fn as_served(&self, serving: Option<&Serving>) -> Self {
        let Some(serving) = serving else { return self.clone() };
        let domain_key = domain_key::said(serving).unwrap_or_else(|| self.domain_key.clone());
        Self { state_dir: serving.state_dir.clone(), domain_key, ..self.clone() }
    }

    /// Where the embedded KMS's store lies.
    fn store(&self) -> PathBuf {
        self.state_dir.join("kms")
    }
}

fn configuration(wanted: &Wanted) -> Finding {
    let check = Check::Configuration;
    match &wanted.configuration {
        Ok(Some(path)) => check.fine(format!("{} is good", path.display())),
        Ok(None) => check.fine("none is named; everything is as by default"),
        Err(why) => check
            .missing(format!("{why}; the rest is told as by default"))
            .remedy("correct it; systemd/envol.toml shows what can be configured"),
    }
}

fn audit_verify_key(serving: &Serving) -> Finding {
    let check = Check::AuditVerifyKey;
    match serving.verify_key_here {
        false => check.fine("whoever has taken it can tell whether the log was changed"),
        true => check
            .limited("nobody has taken it yet: whoever takes over this machine could write the audit log anew")
            .remedy("envol audit verify-key FILE, and keep FILE on another machine"),
    }
}

/// `bytes` for people, cut to whole units.
fn size(bytes: u64) -> String {
    let units = [(43, 40, "TiB"), (33, 30, "GiB"), (20, 20, "MiB"), (10, 10, "KiB")];
    let found = units.iter().find(|(from, ..)| bytes >> from > 0);
    found.map_or_else(|| format!("{bytes} bytes"), |(_, shift, unit)| format!("{} {unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_cut_to_whole_units() {
        for (bytes, text) in [(0, "0 bytes"), (65 << 20, "65 MiB"), (2047 << 20, "2047 MiB"), (9 << 30, "9 GiB")] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_check_has_one_name() {
        for check in [Check::LockedMemory, Check::MemfdSecret, Check::IoUring, Check::NbdModule, Check::AuditVerifyKey]
        {
            assert_eq!(serde_json::to_value(check).expect("a word"), check.name());
        }
    }
}
