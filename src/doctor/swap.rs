//! What the kernel may write of a process's memory to a disk. Keys are locked and never go there; what clients read and
//! write may.

use std::fs;
use std::path::{Path, PathBuf};

use super::disks::Disks;
use super::{Check, Finding, Wanted};
use crate::sys::locked::KeyMemoryChoice;

pub(super) fn swap(wanted: &Wanted, disks: &Disks) -> Finding {
    let insecure = wanted.key_memory == KeyMemoryChoice::InsecureUnlocked;
    let text = match fs::read_to_string("/proc/swaps") {
        Ok(text) => text,
        Err(error) => {
            let found = format!("/proc/swaps cannot be read ({error})");
            return Check::Swap.limited(found).remedy("run this where /proc is mounted");
        }
    };
    judge(&text, insecure, |path| disks.under(path).is_some_and(|under| under.encrypted))
}

/// By the text of proc_swaps(5).
fn judge(text: &str, insecure: bool, encrypted: impl Fn(&Path) -> bool) -> Finding {
    let check = Check::Swap;
    let places: Vec<PathBuf> =
        text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(place).collect();
    let in_clear = places.iter().find(|place| !in_memory(place) && !encrypted(place));
    match in_clear {
        None if places.is_empty() => check.fine("there is none"),
        None => check.fine("encrypted, or in memory"),
        Some(place) => {
            let what = if insecure { "keys and data" } else { "what clients read and write (never keys)" };
            check
                .short(insecure, format!("{} is in clear: {what} may come to lie there", place.display()))
                .remedy(format!("swapoff {}, or encrypt it (the option swap of crypttab)", place.display()))
        }
    }
}

fn place(word: &str) -> PathBuf {
    PathBuf::from(word.replace("\\040", " "))
}

fn in_memory(place: &Path) -> bool {
    place.to_str().is_some_and(|place| place.starts_with("/dev/zram"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_swap_in_clear_is_told_and_named() {
        let heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        let line = |place: &str| format!("{heading}{place} partition\t999420\t\t0\t\t-2\n");
        let encrypted = |place: &Path| place == Path::new("/dev/dm-3");
        assert_eq!(judge(heading, true, encrypted).state, State::Fine);
        assert_eq!(judge(&line("/dev/dm-3"), true, encrypted).state, State::Fine);
        assert_eq!(judge(&line("/dev/zram0"), true, encrypted).state, State::Fine);
        let told = judge(&line("/swap\\040file"), false, encrypted);
        assert_eq!(told.state, State::Limited);
        assert!(told.found.starts_with("/swap file is in clear"), "{}", told.found);
        assert_eq!(judge(&line("/dev/sda3"), true, encrypted).state, State::Missing, "keys are not locked");
    }
}
