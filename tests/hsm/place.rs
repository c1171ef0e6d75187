//! A KMS in this test program, its HSM part in processes of the real program.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use envol::kms::embedded::hsm::{Client, DomainKeySource, Parent};
use envol::kms::embedded::{Clock, Embedded, HsmState, Identity, OpenError};
use envol::kms::{KmsError, Principal};
use envol::sys::hardening::Hardening;
use envol::sys::locked::KeyMemoryChoice;

/// A directory with a store and, beside it, a domain key.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path().join("kms")
    }

    pub(crate) fn domain_key(&self) -> PathBuf {
        self.path().join("domain.key")
    }

    pub(crate) fn file(&self) -> DomainKeySource {
        DomainKeySource::File { path: self.domain_key(), store: self.store() }
    }

    pub(crate) fn try_open(&self, source: &DomainKeySource) -> Result<Embedded, OpenError> {
        self.open_with(KeyMemoryChoice::Auto, source, Arc::new(SystemTime::now))
    }

    pub(crate) fn open_with(
        &self,
        memory: KeyMemoryChoice,
        source: &DomainKeySource,
        clock: Clock,
    ) -> Result<Embedded, OpenError> {
        let program = Path::new(env!("CARGO_BIN_EXE_envol"));
        let parent = Parent::start_program(program, memory, Hardening::Prefer, source).expect("a process");
        let identity = Identity { account: "000000000000".to_owned(), region: "us-east-1".to_owned() };
        Embedded::with_hsm(&self.store(), Client::separate(parent), identity, clock)
    }

    pub(crate) fn open(&self) -> Embedded {
        self.try_open(&self.file()).expect("opens")
    }
}

pub(crate) fn caller() -> Principal {
    Principal::root("000000000000")
}

/// The process id of the HSM, which runs.
pub(crate) fn pid_of(kms: &Embedded) -> u32 {
    match kms.hsm_state() {
        HsmState::Running { pid } => pid.expect("a process of its own"),
        state => panic!("{state:?}"),
    }
}

pub(crate) fn signal(pid: u32, signal: i32) {
    // kill(1) and not a call of ours: the process is a grandchild, and may be gone.
    let status =
        Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).output().expect("kill runs").status;
    assert!(status.signal().is_none());
}

/// The parent of process `pid`.
pub(crate) fn parent_of(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("the kernel tells");
    line.trim().parse().expect("a number")
}

/// Waits until `pid` is gone, or waits only to be reaped.
pub(crate) fn await_end(pid: u32) {
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Whether the KMS says that it failed inside and that trying again may help.
pub(crate) fn is_internal<T>(outcome: &Result<T, KmsError>) -> bool {
    matches!(outcome, Err(KmsError::Unreachable(text)) if text.starts_with("KMSInternalException"))
}
