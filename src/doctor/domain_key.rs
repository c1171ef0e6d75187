//! The domain key: whether the daemon would take it, and what else lies on its disk. Nothing of it is read.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::disks::Disks;
use super::{Check, Finding, Serving, Wanted};
use crate::kms::embedded::DomainKeyError;
use crate::kms::embedded::hsm::DomainKeySource;

/// What to do where this user may not look.
pub(super) const AS_ROOT: &str = "run envol doctor as root, or as the user that runs the daemon";

/// The source that a daemon names.
pub(super) fn said(serving: &Serving) -> Option<DomainKeySource> {
    of(&serving.domain_key, &serving.state_dir)
}

/// The source that `text` names, of a daemon with this state directory.
pub(super) fn of(text: &str, state_dir: &Path) -> Option<DomainKeySource> {
    let path = |name| text.strip_prefix(name).map(PathBuf::from);
    path("the file ")
        .map(|path| DomainKeySource::File { path, store: state_dir.join("kms") })
        .or_else(|| path("the credential ").map(|path| DomainKeySource::Credential { path }))
        .or_else(|| {
            let stretching = state_dir.join("domain.stretching");
            path("the passphrase in ").map(|from| DomainKeySource::Passphrase { from, stretching })
        })
}

pub(super) fn domain_key(wanted: &Wanted) -> Finding {
    let (check, source) = (Check::DomainKey, &wanted.domain_key);
    match source.examine(user(&wanted.state_dir)) {
        Ok(true) => check.fine(format!("{source}, which nobody else can read")),
        Ok(false) if has_store(wanted) => check
            .missing(format!("{source} is not there, and the key store is"))
            .remedy("put it back from a backup: without it no key and no volume can be used"),
        Ok(false) => check.fine(format!("{source}, made at the first start")),
        Err(DomainKeyError::File { source: error, .. }) if error.kind() == ErrorKind::PermissionDenied => {
            check.limited(format!("{source} cannot be looked at by this user")).remedy(AS_ROOT)
        }
        Err(DomainKeyError::Exposed { path, mode }) => check
            .missing(format!("others may use {} (mode {mode:04o})", path.display()))
            .remedy(format!("chmod 0600 {}; then see who may have read it", path.display())),
        Err(error) => check.missing(in_one_line(&error)).remedy("see where it comes from in envol daemon --help"),
    }
}

fn in_one_line(error: &DomainKeyError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Whom the daemon runs as: the owner of its directory, where there is one.
pub(super) fn user(state_dir: &Path) -> u32 {
    fs::metadata(state_dir).map_or_else(|_| nix::unistd::geteuid().as_raw(), |facts| facts.uid())
}

fn has_store(wanted: &Wanted) -> bool {
    fs::read_dir(wanted.store()).is_ok_and(|mut entries| entries.next().is_some())
}

/// Whether a thief of one disk has key, store and backings.
pub(super) fn place(wanted: &Wanted, disks: &Disks) -> Finding {
    let check = Check::DomainKeyPlace;
    let path = match &wanted.domain_key {
        DomainKeySource::Credential { .. } => {
            return check.fine("the service manager hands it over; no file of envol's");
        }
        DomainKeySource::Passphrase { from, .. } if !from.is_file() => {
            return check.fine(format!("{} is no file that stays on a disk", from.display()));
        }
        DomainKeySource::Passphrase { from: path, .. } | DomainKeySource::File { path, .. } => path,
    };
    let Some(key) = disks.under(path) else {
        return check.limited(format!("what {} lies on cannot be found out", path.display())).remedy(AS_ROOT);
    };
    if key.encrypted {
        return check.fine(format!("{} lies on an encrypted disk", path.display()));
    }
    let beside = |place: &Path| disks.under(place).is_some_and(|under| !under.disks.is_disjoint(&key.disks));
    let own = wanted.state_dir.join("volumes");
    let backings = [&own].into_iter().filter(|own| wanted.volume_dirs.is_empty() || has_entries(own));
    let exposed = backings.chain(&wanted.volume_dirs).find(|place| beside(place));
    match exposed {
        Some(place) if beside(&wanted.store()) => check
            .limited(format!(
                "{} lies on one disk with the key store and the backings in {}: whoever takes it has the data",
                path.display(),
                place.display()
            ))
            .remedy(seal(path)),
        _ => check.fine(format!("{} lies on another disk than the store or the backings", path.display())),
    }
}

fn has_entries(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

/// The one line that takes a key off the disk.
fn seal(path: &Path) -> String {
    format!(
        "systemd-creds encrypt --with-key=auto --name=envol.domain-key {} /etc/envol/domain-key.cred, and the line \
         LoadCredentialEncrypted= in systemd/envol.service",
        path.display()
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::block::engine::Choice;
    use crate::crypto::xts::Engine;
    use crate::doctor::State;
    use crate::sys::locked::KeyMemoryChoice;
    use std::os::unix::fs::PermissionsExt;

    /// What a daemon without any configuration is told, with its state in `state_dir`.
    pub(in crate::doctor) fn wanted(state_dir: PathBuf) -> Wanted {
        Wanted {
            configuration: Ok(None),
            socket: state_dir.join("control.sock"),
            volume_dirs: Vec::new(),
            domain_key: DomainKeySource::File { path: state_dir.join("domain.key"), store: state_dir.join("kms") },
            key_memory: KeyMemoryChoice::Auto,
            hardening_required: false,
            io: Choice::Auto,
            cipher: Engine::fastest(),
            kmses: Vec::new(),
            listeners: 1,
            state_dir,
        }
    }

    #[test]
    fn a_daemons_word_names_its_source() {
        let state_dir = PathBuf::from("/s");
        for source in [
            DomainKeySource::File { path: "/s/domain.key".into(), store: "/s/kms".into() },
            DomainKeySource::Credential { path: "/run/c/envol.domain-key".into() },
            DomainKeySource::Passphrase { from: "/run/p".into(), stretching: "/s/domain.stretching".into() },
        ] {
            let serving = Serving {
                pid: 1,
                state_dir: state_dir.clone(),
                domain_key: source.to_string(),
                verify_key_here: false,
            };
            assert_eq!(said(&serving), Some(source));
        }
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_lost_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let told = wanted(dir.path().to_owned());
        assert_eq!(domain_key(&told).state, State::Fine, "made at the first start");
        fs::create_dir(dir.path().join("kms")).expect("made");
        fs::write(dir.path().join("kms/store"), b"x").expect("written");
        assert_eq!(domain_key(&told).state, State::Missing, "there is a store");
        let key = dir.path().join("domain.key");
        fs::write(&key, [0; 32]).expect("written");
        for (mode, state) in [(0o600, State::Fine), (0o644, State::Missing), (0o620, State::Missing)] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("ours");
            assert_eq!(domain_key(&told).state, state, "{mode:o}");
        }
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
        fs::write(&key, [0; 31]).expect("written");
        assert_eq!(domain_key(&told).state, State::Missing, "it is too short");
    }

    #[test]
    fn a_key_on_the_disk_of_store_and_backings_is_told_unless_it_is_no_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let disks = Disks::of_this_machine();
        let mut told = wanted(dir.path().to_owned());
        let encrypted = disks.under(dir.path()).expect("it lies somewhere").encrypted;
        assert_eq!(place(&told, &disks).state, if encrypted { State::Fine } else { State::Limited });
        told.domain_key = DomainKeySource::Credential { path: "/run/c".into() };
        assert_eq!(place(&told, &disks).state, State::Fine);
        told.domain_key = DomainKeySource::Passphrase { from: "/dev/null".into(), stretching: dir.path().join("d") };
        assert_eq!(place(&told, &disks).state, State::Fine);
    }
}
