//! What a [`DaemonError`] is called, and what to do about it: one line.

use std::io::ErrorKind;

use super::DaemonError;
use crate::control::api::Problem;
use crate::kms::embedded::PassphraseError;
use crate::kms::embedded::backup::BackupError;
use crate::kms::embedded::hsm::{Failure, HsmError};
use crate::kms::embedded::{DomainKeyError, OpenError, StoreError};

const MORE_LOCKED_MEMORY: &str =
    "raise the limit on locked memory (ulimit -l, LimitMEMLOCK=); a passphrase is stretched in 64 MiB of it";
const FITTING_PASSPHRASE: &str =
    "see that the passphrase is in the file, and that nobody has read it before if it is a pipe";
const WELL_DISK: &str = "see that there is room, and that the disk is well";
const AS_OWNER: &str = "run this as root, or as the user that runs the daemon";

impl DaemonError {
    /// The failure as people and scripts are told it. What a daemon, or a part of it, has said itself is passed on.
    pub fn problem(&self) -> Problem {
        if let Self::Asked(asked) = self {
            return asked.problem();
        }
        let mut message = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        let (code, remedy) = (self.code().to_owned(), self.remedy());
        Problem { code, message, remedy, kms_exception: None, exit_code: self.exit_code() }
    }

    fn code(&self) -> &'static str {
        match (self, self.exit_code()) {
            (Self::Volumes(source), _) => source.code(),
            (Self::InterruptedRestore(_), _) => "kms.interrupted_restore",
            (Self::Backup { .. }, 7) => "kms.backup",
            (_, 2) => "daemon.configuration",
            (_, 3) => "daemon.not_found",
            (_, 4) => "daemon.conflict",
            (_, 7) => "kms.domain_key",
            (_, 8) => "daemon.storage",
            (_, 9) => "not_permitted",
            _ => "daemon.failed",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Volumes(source) => source.remedy(),
            Self::InterruptedRestore(parts) => format!(
                "run envol kms restore again, which begins anew; to begin without that KMS, remove {0} and {1}",
                parts.display(),
                parts.with_extension("").display()
            ),
            Self::Backup { source, .. } | Self::DomainKey { source, .. } => of_backup(source),
            Self::Kms(source) => of_opening(source).to_owned(),
            Self::KeyMemory { .. } => MORE_LOCKED_MEMORY.to_owned(),
            Self::UnsafeStateDir(path) => format!("chown it to the daemon's user, and chmod go-w {}", path.display()),
            Self::NotTheDaemons(_) => {
                "see that it is the daemon that listens at the control socket; or stop it, and name --state-dir"
                    .to_owned()
            }
            Self::AnotherDaemon(_) => "stop that daemon, or name another --state-dir (and --socket)".to_owned(),
            _ => self.by_exit_code().to_owned(),
        }
    }

    fn by_exit_code(&self) -> &'static str {
        match self.exit_code() {
            2 => "correct the options or the configuration file; see envol daemon --help",
            4 => "use the daemon that runs, or another --state-dir and --socket",
            8 => "see that the state directory can be written to and that its disk is well",
            9 => "run this as root, or choose places that this user may use",
            _ => "see the log above for what came before",
        }
    }
}

fn of_backup(error: &BackupError) -> String {
    match error {
        BackupError::NotABackup | BackupError::WrongPassphrase | BackupError::Damaged(_) => {
            "give the passphrase that it was sealed under, or a backup that is whole"
        }
        BackupError::Occupied(_) => "name another --state-dir; a KMS is never overwritten",
        BackupError::NotAFile(_) => "envol has not put it there: see who has, and remove it",
        BackupError::ReadOnce(_) => "write it into a file of mode 0600, which the daemon is given, too",
        BackupError::NotRemoved { .. } => "see that the disk is well, and run it again with the same passphrase",
        BackupError::OtherCredential(_) => {
            "restore without that credential; then seal the restored domain.key into it with systemd-creds encrypt"
        }
        BackupError::Passphrase { source, .. } => of_passphrase(source),
        BackupError::DomainKey(error) => of_domain_key(error),
        BackupError::File { source, .. } => match source.kind() {
            ErrorKind::NotFound => "check the path",
            ErrorKind::AlreadyExists => "name a file that is not there yet",
            ErrorKind::PermissionDenied => AS_OWNER,
            _ => WELL_DISK,
        },
        BackupError::Store(error) => of_store(error),
        BackupError::Hsm(error) => of_hsm(error),
        BackupError::NoLockedMemory(_) => MORE_LOCKED_MEMORY,
    }
    .to_owned()
}

fn of_opening(error: &OpenError) -> &'static str {
    match error {
        OpenError::DomainKey(error) => of_domain_key(error),
        OpenError::Store(error) => of_store(error),
        OpenError::Hsm(error) => of_hsm(error),
        OpenError::NoLockedMemory(_) => MORE_LOCKED_MEMORY,
        OpenError::Directory { .. } | OpenError::AuditLog(_) | OpenError::Identities(_) => WELL_DISK,
    }
}

fn of_domain_key(error: &DomainKeyError) -> &'static str {
    match error {
        DomainKeyError::Passphrase { source, .. } => of_passphrase(source),
        DomainKeyError::NotReadable(_) => "name it with --domain-passphrase-file (the daemon: --passphrase-file)",
        DomainKeyError::File { source, .. } if source.kind() == ErrorKind::PermissionDenied => AS_OWNER,
        DomainKeyError::File { source, .. } if source.kind() == ErrorKind::NotFound => {
            "see that it is there; a passphrase that the daemon read from a pipe is given with --domain-passphrase-file"
        }
        _ => "put right what it names; envol doctor looks at it, too",
    }
}

fn of_passphrase(error: &PassphraseError) -> &'static str {
    match error {
        PassphraseError::Unfit => FITTING_PASSPHRASE,
        PassphraseError::Wrong => "give the passphrase that the domain key was sealed under",
        PassphraseError::NoLockedMemory(_) => MORE_LOCKED_MEMORY,
        PassphraseError::Unread(_) => "see that the file can be read",
    }
}

fn of_store(error: &StoreError) -> &'static str {
    match error {
        StoreError::OtherDomainKey => "name the domain key, or the passphrase, under which this KMS was made",
        StoreError::OtherIdentity { .. } => "configure the account and the region that it was made for",
        StoreError::Newer { .. } => "use the newer envol",
        StoreError::InUse => "stop the process that uses it",
        _ => WELL_DISK,
    }
}

fn of_hsm(error: &HsmError) -> &'static str {
    match error {
        HsmError::NoLockedMemory(_) | HsmError::Failed(Failure::Memory) => MORE_LOCKED_MEMORY,
        HsmError::Failed(Failure::Passphrase) => FITTING_PASSPHRASE,
        HsmError::Failed(Failure::Confinement) => {
            "set hardening = \"prefer\", or use a kernel with landlock and seccomp"
        }
        HsmError::OtherDomainKey => "name the domain key, or the passphrase, under which this KMS was made",
        _ => "put right what it names; envol doctor looks at the domain key, too",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::client::ClientError;
    use std::io;
    use std::path::PathBuf;

    fn of_a_backup(source: BackupError) -> Problem {
        DaemonError::Backup { path: "/b".into(), source: Box::new(source) }.problem()
    }

    #[test]
    fn what_the_daemon_says_is_passed_on_unchanged() {
        let problem = Problem {
            code: "kms.refused".to_owned(),
            message: "the disk is full".to_owned(),
            remedy: "make room".to_owned(),
            kms_exception: Some("KMSInternalException".to_owned()),
            exit_code: 6,
        };
        assert_eq!(DaemonError::from(ClientError::Failed(problem.clone())).problem(), problem);
        let absent = DaemonError::from(ClientError::NoDaemon("/run/envol/control.sock".into())).problem();
        assert_eq!((absent.exit_code, &*absent.code), (10, "no_daemon"));
    }

    #[test]
    fn each_fault_of_a_backup_has_its_exit_code_and_says_what_to_do() {
        let file = |kind: ErrorKind| BackupError::File { path: "/f".into(), source: io::Error::from(kind) };
        let passphrase = |source| BackupError::Passphrase { path: "/p".into(), source };
        let cases = [
            (BackupError::WrongPassphrase, 7, "sealed under"),
            (BackupError::Occupied(PathBuf::from("/s/kms")), 4, "--state-dir"),
            (file(ErrorKind::NotFound), 3, "path"),
            (file(ErrorKind::AlreadyExists), 4, "not there yet"),
            (file(ErrorKind::PermissionDenied), 9, "as root"),
            (file(ErrorKind::StorageFull), 8, "room"),
            (passphrase(PassphraseError::Unfit), 2, "passphrase"),
            (BackupError::Store(StoreError::OtherDomainKey), 7, "passphrase"),
        ];
        for (error, exit_code, word) in cases {
            let problem = of_a_backup(error);
            assert_eq!(problem.exit_code, exit_code, "{problem:?}");
            assert!(problem.remedy.contains(word), "{problem:?}");
        }
    }
}
