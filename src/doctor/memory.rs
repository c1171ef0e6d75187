//! Memory for keys: how much may be locked, and whether the kernel has the kind that nobody else reads.

use nix::errno::Errno;

use super::process::Process;
use super::{Check, Finding, Wanted, size};
use crate::crypto::passphrase;
use crate::kms::embedded::hsm::DomainKeySource;
use crate::limits;
use crate::sys::locked::{self, KeyMemory, KeyMemoryChoice};

const RAISE: &str = "raise the limit: LimitMEMLOCK=infinity in the unit, or ulimit -l before envol daemon";

/// Bytes that the HSM locks from its start, which is more than the daemon starts with.
const FOR_KEYS: u64 = limits::HSM_KEY_MEMORY_BYTES as u64;

pub(super) fn locked_memory(wanted: &Wanted, process: &Process) -> Finding {
    let check = Check::LockedMemory;
    let Some(limit) = process.lockable else {
        return check.limited("the limit cannot be read").remedy("run this where /proc is mounted");
    };
    let stretched = matches!(wanted.domain_key, DomainKeySource::Passphrase { .. });
    let for_passphrase = FOR_KEYS + passphrase::MEMORY_BYTES;
    let insecure = wanted.key_memory == KeyMemoryChoice::InsecureUnlocked;
    let found = match limit {
        u64::MAX => return check.fine(format!("{} may lock any memory", process.name)),
        limit => format!("{} may lock {}", process.name, size(limit)),
    };
    if limit < FOR_KEYS {
        let found = format!("{found}; keys need {} to begin with", size(FOR_KEYS));
        return check.short(!insecure, found).remedy(RAISE);
    }
    if limit >= for_passphrase {
        return check.fine(found);
    }
    let found = format!("{found}: enough for keys; a passphrase needs {}", size(for_passphrase));
    check.short(stretched && !insecure, found).remedy(RAISE)
}

pub(super) fn memfd_secret(wanted: &Wanted) -> Finding {
    judge_memfd_secret(wanted, locked::probe(KeyMemory::MemfdSecret))
}

fn judge_memfd_secret(wanted: &Wanted, probed: Result<(), Errno>) -> Finding {
    let check = Check::MemfdSecret;
    let needed = match wanted.key_memory {
        KeyMemoryChoice::MemfdSecret => true,
        KeyMemoryChoice::Mlock => return check.fine("not asked for: key_memory = \"mlock\""),
        KeyMemoryChoice::Auto | KeyMemoryChoice::InsecureUnlocked => wanted.hardening_required,
    };
    let Err(error) = probed else {
        return check.fine("keys can lie in memory that not even root's debugger reads");
    };
    let (why, remedy) = match error {
        Errno::ENOSYS => ("the kernel has none", "boot Linux 5.14 or later, before 6.5 with secretmem.enable=1"),
        Errno::EPERM | Errno::EACCES => {
            ("it is forbidden here", "allow the system call memfd_secret, as systemd/envol.service does")
        }
        Errno::ENOMEM | Errno::EAGAIN => ("the limit on locked memory is too low for it", RAISE),
        _ => ("the kernel refuses it", "see whether the kernel was built with CONFIG_SECRETMEM"),
    };
    check.short(needed, format!("{why} ({error}): keys would lie in memory that root can read")).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;
    use crate::doctor::domain_key::tests::wanted;

    #[test]
    fn what_may_be_locked_is_weighed_against_what_is_needed() {
        let mut told = wanted("/s".into());
        let mut this = Process::of(None);
        let mut state = |told: &Wanted, lockable| {
            this.lockable = lockable;
            locked_memory(told, &this).state
        };
        assert_eq!(state(&told, Some(u64::MAX)), State::Fine);
        assert_eq!(state(&told, Some(0)), State::Missing);
        assert_eq!(state(&told, Some(8 << 20)), State::Limited, "too little for a passphrase, which nobody asked for");
        assert_eq!(state(&told, Some(65 << 20)), State::Fine);
        assert_eq!(state(&told, None), State::Limited);
        told.domain_key = DomainKeySource::Passphrase { from: "/p".into(), stretching: "/s/d".into() };
        assert_eq!(state(&told, Some(8 << 20)), State::Missing);
        told.key_memory = KeyMemoryChoice::InsecureUnlocked;
        assert_eq!(state(&told, Some(0)), State::Limited);
    }

    #[test]
    fn secret_memory_is_needed_only_where_it_is_asked_for() {
        let mut told = wanted("/s".into());
        assert_eq!(judge_memfd_secret(&told, Ok(())).state, State::Fine);
        for error in [Errno::ENOSYS, Errno::EPERM, Errno::EAGAIN, Errno::EINVAL] {
            assert_eq!(judge_memfd_secret(&told, Err(error)).state, State::Limited);
        }
        told.hardening_required = true;
        assert_eq!(judge_memfd_secret(&told, Err(Errno::ENOSYS)).state, State::Missing);
        told.key_memory = KeyMemoryChoice::Mlock;
        assert_eq!(judge_memfd_secret(&told, Err(Errno::ENOSYS)).state, State::Fine);
    }
}
