//! The clock: keys are deleted, material expires and signatures are judged by it.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;

use super::{Check, Finding};
use crate::sys::clock::synchronised;

/// 2026-01-01: no envol is older.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);

/// How far ahead a file's time may be: more than clocks jump when they are set by the network.
const AHEAD: Duration = Duration::from_secs(60);

pub(super) fn clock(state_dir: &Path) -> Finding {
    judge(SystemTime::now(), last_written(state_dir), synchronised())
}

fn judge(now: SystemTime, written: Option<SystemTime>, synchronised: Result<bool, Errno>) -> Finding {
    let check = Check::Clock;
    let set = "set it: timedatectl set-ntp true, or any other service that keeps the time";
    if now < UNIX_EPOCH + EARLIEST {
        return check.missing("it is wrong: before 2026, when this program was made").remedy(set);
    }
    if written.is_some_and(|written| written > now + AHEAD) {
        return check.missing("it is wrong, or was: the state directory has files from later than now").remedy(set);
    }
    match synchronised {
        Ok(true) => check.fine("synchronised"),
        Ok(false) => check.limited("plausible, and the kernel says that nothing synchronises it").remedy(set),
        Err(error) => check
            .limited(format!("plausible; whether it is synchronised cannot be asked here ({error})"))
            .remedy("see timedatectl, outside this sandbox"),
    }
}

/// When something in the directory, or in the store within, was last written, as far as that can be seen.
fn last_written(state_dir: &Path) -> Option<SystemTime> {
    let dirs = [state_dir.to_owned(), state_dir.join("kms")];
    let entries = dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten();
    entries.flatten().filter_map(|entry| entry.metadata().ok()?.modified().ok()).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_clock_is_wrong_before_this_program_and_before_its_own_files() {
        let now = UNIX_EPOCH + EARLIEST + Duration::from_secs(1);
        assert_eq!(judge(now, None, Ok(true)).state, State::Fine);
        assert_eq!(judge(now, Some(now + AHEAD), Ok(true)).state, State::Fine);
        assert_eq!(judge(now, Some(now + 2 * AHEAD), Ok(true)).state, State::Missing);
        assert_eq!(judge(UNIX_EPOCH, None, Ok(true)).state, State::Missing);
        assert_eq!(judge(now, None, Ok(false)).state, State::Limited);
        assert_eq!(judge(now, None, Err(Errno::EPERM)).state, State::Limited);
    }
}
