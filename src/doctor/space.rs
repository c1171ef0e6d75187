//! The state directory, and the room where state and backings lie.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{Check, Finding, Wanted, size};

/// With less than that free, a busy log or a thin volume fills the disk within minutes.
const COMFORTABLE: u64 = 1 << 30;

/// With less than that free, the store's next growth may already fail.
const LEAST: u64 = 16 << 20;

/// Rights to it that nobody else may have: the daemon refuses it.
const OTHERS: u32 = 0o022;

pub(super) fn state_dir(path: &Path) -> Finding {
    let check = Check::StateDir;
    let shown = path.display();
    let facts = match fs::metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return check.fine(format!("{shown} is not there yet; the daemon makes it"));
        }
        Err(error) => {
            return check.limited(format!("{shown} cannot be looked at ({error})")).remedy(super::domain_key::AS_ROOT);
        }
    };
    let mode = facts.mode() & 0o7777;
    if !facts.is_dir() {
        return check.missing(format!("{shown} is no directory")).remedy("name another with --state-dir");
    }
    if mode & OTHERS != 0 {
        return check
            .missing(format!("others may change {shown} (mode {mode:04o})"))
            .remedy(format!("chmod go-w {shown}"));
    }
    check.fine(format!("{shown}, mode {mode:04o}, of user {}", facts.uid()))
}

/// For the state directory and for each place of backings.
pub(super) fn space(wanted: &Wanted) -> Vec<Finding> {
    let own = wanted.state_dir.join("volumes");
    let elsewhere = own.exists() && device(&own) != device(&wanted.state_dir);
    let places = [&wanted.state_dir].into_iter().chain(elsewhere.then_some(&own)).chain(&wanted.volume_dirs);
    places.map(|place| room(place, *place == wanted.state_dir)).collect()
}

fn device(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|facts| facts.dev())
}

/// The room at `place`; what is `made` by the daemon need not be there.
fn room(place: &PathBuf, made: bool) -> Finding {
    let (check, shown) = (Check::Space, place.display());
    let there = fs::metadata(place);
    if there.as_ref().is_ok_and(|facts| facts.file_type().is_block_device()) {
        return check.fine(format!("{shown} is a device: a volume takes all of it"));
    }
    if let (Err(error), false) = (&there, made) {
        let found = format!("{shown} cannot be looked at ({error})");
        return check.limited(found).remedy("make it, or take it out of volume_dirs; then start the daemon again");
    }
    let nearest = place.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
    let Ok(facts) = nix::sys::statvfs::statvfs(nearest) else {
        return check.limited(format!("the room at {shown} cannot be asked for")).remedy("see df for it");
    };
    let left = facts.blocks_available().saturating_mul(facts.fragment_size());
    judge(&shown.to_string(), left, facts.files() > 0 && facts.files_available() == 0)
}

fn judge(place: &str, left: u64, no_files_left: bool) -> Finding {
    let found = format!("{place}: {} free", size(left));
    let remedy = "make room; a thin volume grows as it is written, and a full disk fails its writes";
    match left {
        _ if no_files_left => Check::Space.missing(format!("{found}, and no file more can be made")).remedy(remedy),
        0..LEAST => Check::Space.missing(found).remedy(remedy),
        LEAST..COMFORTABLE => Check::Space.limited(found).remedy(remedy),
        _ => Check::Space.fine(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;
    use crate::doctor::domain_key::tests::wanted;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn room_is_judged_by_what_is_left() {
        for (left, state) in [(0, State::Missing), (LEAST, State::Limited), (COMFORTABLE, State::Fine)] {
            assert_eq!(judge("/x", left, false).state, state);
            assert_eq!(judge("/x", left, true).state, State::Missing);
        }
    }

    #[test]
    fn every_place_of_backings_is_looked_at() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut told = wanted(dir.path().join("to be made/state"));
        told.volume_dirs = vec![dir.path().to_owned(), dir.path().join("absent")];
        let found = space(&told);
        assert_eq!(found.len(), 3);
        assert!(found[0].found.contains("to be made/state: ") && found[1].found.contains(" free"));
        assert_eq!(found[2].state, State::Limited, "a volume directory is not made");
    }

    #[test]
    fn a_state_directory_that_the_daemon_would_refuse_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(state_dir(dir.path()).state, State::Fine);
        assert_eq!(state_dir(&dir.path().join("absent")).state, State::Fine);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).expect("ours");
        assert_eq!(state_dir(dir.path()).state, State::Missing);
    }
}
