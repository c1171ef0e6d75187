//! Root backs up and restores the KMS of a daemon with a user of its own, as the shipped unit has it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::safe::{Safe, code, error, member, names};
use crate::support::{Daemon, have};

const USER: u32 = 65534;

fn can_be_had() -> bool {
    have(&["setpriv"]) && nix::unistd::geteuid().is_root()
}

/// Every file and directory from `path` on belongs to the user.
fn all_belong_to_user(path: &Path) {
    let facts = fs::symlink_metadata(path).expect("there");
    assert_eq!((facts.uid(), facts.gid()), (USER, USER), "{path:?}");
    assert_eq!(facts.mode() & 0o077, 0, "{path:?}");
    if facts.is_dir() {
        names(path).iter().for_each(|name| all_belong_to_user(&path.join(name)));
    }
}

fn make_state_dir(path: &Path) {
    fs::create_dir(path).expect("made");
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("ours");
    chown(path, Some(USER), Some(USER)).expect("root may");
}

#[test]
fn root_backs_up_and_restores_for_a_daemon_with_a_user_of_its_own() {
    if !can_be_had() {
        return;
    }
    let safe = Safe::new();
    let mut daemon = Daemon::of_user(USER, &[], |_| ());
    let key = member(&daemon.json(["key", "create"]), "key_id").to_owned();
    daemon.json(safe.words("backup"));
    let made = fs::metadata(safe.path("kms.backup")).expect("there");
    assert_eq!((made.uid(), made.mode() & 0o777), (0, 0o600), "the backup is whose who asked for it");
    let state_dir = daemon.path().join("state");
    all_belong_to_user(&state_dir);
    daemon.terminate();
    fs::remove_file(safe.path("kms.backup")).expect("there");
    assert_eq!(code(&safe.back_up(&state_dir)), 0, "without the daemon, too");
    all_belong_to_user(&state_dir);
    daemon.run();

    let elsewhere = Daemon::of_user(USER, &[], |state_dir| {
        make_state_dir(state_dir);
        let restored = safe.restore(state_dir);
        assert_eq!(code(&restored), 0, "{restored:?}");
        all_belong_to_user(state_dir);
    });
    assert_eq!(elsewhere.json(["key", "show", &key])["state"], "Enabled");
}

#[test]
fn root_reads_the_passphrase_of_such_a_daemon() {
    if !can_be_had() {
        return;
    }
    let safe = Safe::new();
    safe.write("domain", b"another passphrase");
    let domain = safe.path("domain");
    chown(&domain, Some(USER), Some(USER)).expect("root may");
    fs::set_permissions(safe.path(""), fs::Permissions::from_mode(0o755)).expect("ours");
    let mut daemon = Daemon::of_user(USER, &["--passphrase-file", &safe.text("domain")], |_| ());
    daemon.json(["key", "create"]);
    daemon.json(safe.words("backup"));
    let state_dir = daemon.path().join("state");
    daemon.terminate();
    fs::remove_file(safe.path("kms.backup")).expect("there");
    let mut given = safe.command(&[], "backup", &state_dir);
    let given = given.arg("--domain-passphrase-file").arg(&domain).output().expect("starts");
    assert_eq!(code(&given), 0, "{given:?}");
    daemon.run();
}

/// A pipe keeps whoever opens it waiting, and a link multiplies what it names.
#[test]
fn a_store_with_anything_but_files_and_directories_is_not_backed_up() {
    let safe = Safe::new();
    let mut daemon = Daemon::start();
    daemon.json(["key", "create"]);
    daemon.terminate();
    let state_dir = daemon.path().join("state");
    let place = state_dir.join("kms/more");
    fs::create_dir(&place).expect("made");
    let unfit = place.join("unfit");
    let refused = || {
        let refused = safe.back_up(&state_dir);
        assert_eq!(code(&refused), 2, "{refused:?}");
        assert!(member(&error(&refused), "message").contains("kms/more/unfit is neither"), "{refused:?}");
        assert_eq!(names(&safe.path("")), ["passphrase"]);
        fs::remove_file(&unfit).expect("there");
    };
    nix::unistd::mkfifo(&unfit, nix::sys::stat::Mode::S_IRWXU).expect("made");
    refused();
    std::os::unix::fs::symlink("../keys.redb", &unfit).expect("laid");
    refused();
    std::os::unix::fs::symlink("..", &unfit).expect("laid");
    refused();
    assert_eq!(code(&safe.back_up(&state_dir)), 0);
}

/// Whoever has taken over the daemon's user must not have root read or remove what is not theirs.
#[test]
fn root_follows_no_link_that_the_daemons_user_has_laid() {
    if !can_be_had() {
        return;
    }
    let safe = Safe::new();
    let mut daemon = Daemon::of_user(USER, &[], |_| ());
    daemon.json(["key", "create"]);
    daemon.terminate();
    let state_dir = daemon.path().join("state");
    safe.write("secret", &[7; 32]);
    fs::set_permissions(safe.path(""), fs::Permissions::from_mode(0o755)).expect("ours");
    std::os::unix::fs::symlink(safe.path("secret"), state_dir.join("kms/link")).expect("laid");
    let refused = safe.back_up(&state_dir);
    assert_eq!(code(&refused), 2, "{refused:?}");
    assert!(!safe.path("kms.backup").exists());
    fs::remove_file(state_dir.join("kms/link")).expect("there");
    fs::remove_dir_all(state_dir.join("kms")).expect("there");
    let outside = safe.path("outside");
    fs::create_dir(&outside).expect("made");
    std::os::unix::fs::symlink(&outside, state_dir.join("kms")).expect("laid");
    let refused = safe.restore(&state_dir);
    assert_eq!(code(&refused), 4, "{refused:?}");
    assert_eq!(names(&outside), [""; 0]);
    fs::remove_file(state_dir.join("kms")).expect("there");
    fs::remove_file(state_dir.join("domain.key")).expect("there");
    daemon.run();
}
