//! Where the domain key of a restored KMS comes from: what the daemon is to be given decides.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use crate::safe::{Safe, code, error, member, names};
use crate::support::{Daemon, command, have};

/// A backup of a KMS, the id of its key, and its domain key.
fn backed_up(safe: &Safe) -> (String, Vec<u8>) {
    let daemon = Daemon::start();
    let key = member(&daemon.json(["key", "create"]), "key_id").to_owned();
    daemon.json(safe.words("backup"));
    (key, fs::read(daemon.path().join("state/domain.key")).expect("there"))
}

fn restore_under(safe: &Safe, state_dir: &Path, words: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = safe.command(&[], "restore", state_dir);
    command.args(words).envs(variables.iter().copied()).output().expect("starts")
}

#[test]
fn a_kms_is_restored_under_a_passphrase_that_the_daemon_is_then_given() {
    let safe = Safe::new();
    let (key, domain_key) = backed_up(&safe);
    safe.write("domain", b"of the domain key\n");
    let state_dir = safe.path("state");
    let word = safe.text("domain");
    assert_eq!(code(&restore_under(&safe, &state_dir, &["--domain-passphrase-file", &word], &[])), 0);
    assert_eq!(names(&state_dir), ["domain.stretching", "kms", "lock"], "no domain key lies there in clear");
    let sealed = fs::read(state_dir.join("domain.stretching")).expect("there");
    let digits: String = domain_key.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!String::from_utf8(sealed).expect("text").contains(&digits));

    let mut daemon = Daemon::start_with(&["--passphrase-file", &word]);
    daemon.terminate();
    let own = daemon.path().join("state");
    fs::remove_dir_all(&own).expect("there");
    fs::rename(&state_dir, &own).expect("moved");
    daemon.run();
    assert_eq!(daemon.json(["key", "show", &key])["state"], "Enabled");
    assert!(daemon.json(["status"])["hsm"]["domain_key"].to_string().contains("the passphrase in"));
    // What was restored so is backed up like everything else.
    fs::remove_file(safe.path("kms.backup")).expect("there");
    daemon.json(safe.words("backup"));
    daemon.terminate();
    let elsewhere = Daemon::prepared(|state_dir| assert_eq!(code(&safe.restore(state_dir)), 0));
    assert_eq!(elsewhere.json(["key", "show", &key])["state"], "Enabled");
}

#[test]
fn the_configurations_passphrase_is_that_of_a_restored_kms_and_another_opens_nothing() {
    let safe = Safe::new();
    backed_up(&safe);
    safe.write("domain", b"of the domain key");
    let config = format!("[kms.local]\nkind = \"embedded\"\npassphrase_file = {:?}\n", safe.text("domain"));
    safe.write("envol.toml", config.as_bytes());
    let state_dir = safe.path("state");
    let word = safe.text("envol.toml");
    assert_eq!(code(&restore_under(&safe, &state_dir, &["--config", &word], &[])), 0);
    assert!(!state_dir.join("domain.key").exists() && state_dir.join("domain.stretching").exists());
    safe.write("domain", b"of another key");
    fs::remove_file(safe.path("kms.backup")).expect("there");
    let mut command = safe.command(&[], "backup", &state_dir);
    let refused = command.args(["--config", &word]).output().expect("starts");
    assert_eq!(code(&refused), 7, "{refused:?}");
    assert!(member(&error(&refused), "message").contains("under which the domain key was sealed"), "{refused:?}");
}

#[test]
fn a_credential_is_the_domain_key_of_the_backup_or_nothing_is_restored() {
    let safe = Safe::new();
    let (_, domain_key) = backed_up(&safe);
    fs::create_dir(safe.path("credentials")).expect("made");
    safe.write("credentials/envol.domain-key", &[7; 32]);
    let variables = [("CREDENTIALS_DIRECTORY", &*safe.text("credentials"))];
    let state_dir = safe.path("state");
    let refused = restore_under(&safe, &state_dir, &[], &variables);
    assert_eq!(code(&refused), 2, "{refused:?}");
    assert!(member(&error(&refused), "remedy").contains("systemd-creds encrypt"), "{refused:?}");
    assert_eq!(names(&state_dir), ["lock"]);
    safe.write("credentials/envol.domain-key", &domain_key);
    fs::set_permissions(safe.path("credentials/envol.domain-key"), fs::Permissions::from_mode(0o400)).expect("ours");
    assert_eq!(code(&restore_under(&safe, &state_dir, &[], &variables)), 0);
    assert_eq!(names(&state_dir), ["kms", "lock"], "the key does not lie beside the store");
}

#[test]
fn a_domain_key_moves_from_its_file_behind_a_passphrase_and_no_data_is_lost() {
    let safe = Safe::new();
    safe.write("domain", b"of the domain key\n");
    let passphrase = safe.text("domain");
    let mut daemon = Daemon::start();
    let key = member(&daemon.json(["key", "create"]), "key_id").to_owned();
    let seal = ["kms", "seal-domain-key", "--passphrase-file", &passphrase];
    assert_eq!(daemon.refused(4, seal)["code"], "daemon.conflict", "a daemon runs");
    daemon.terminate();
    let state_dir = daemon.path().join("state");
    let domain_key = fs::read(state_dir.join("domain.key")).expect("there");
    let pipe = safe.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
    let once = ["kms", "seal-domain-key", "--passphrase-file", pipe.to_str().expect("text")];
    let refused = daemon.refused(2, once);
    assert!(member(&refused, "message").contains("once only"), "whether it was mistyped cannot be seen: {refused}");
    assert_eq!(fs::read(state_dir.join("domain.key")).expect("there"), domain_key);
    // As after a kill in the middle, with another passphrase: both are there.
    safe.write("domain", b"of another time");
    daemon.json(seal);
    fs::write(state_dir.join("domain.key"), &domain_key).expect("put back");
    fs::set_permissions(state_dir.join("domain.key"), fs::Permissions::from_mode(0o600)).expect("ours");
    daemon.run();
    assert_eq!(daemon.json(["key", "show", &key])["state"], "Enabled", "from the file, as before");
    daemon.terminate();
    safe.write("domain", b"of the domain key\n");
    daemon.json(seal);
    assert!(!state_dir.join("domain.key").exists());
    let refused = daemon.refused(2, seal);
    assert!(member(&refused, "message").contains("does not; put it back"), "there is no file any more: {refused}");

    let mut again = Daemon::start_with(&["--passphrase-file", &passphrase]);
    again.terminate();
    fs::remove_dir_all(again.path().join("state")).expect("there");
    fs::rename(&state_dir, again.path().join("state")).expect("moved");
    again.run();
    assert_eq!(again.json(["key", "show", &key])["state"], "Enabled");
    again.json(["volume", "create", "db", "--size", "1M", "--key", &key]);
    again.terminate();
    safe.write("domain", b"wrong");
    let output = again.envol(["daemon", "--json", "--passphrase-file", &passphrase]);
    assert_eq!(code(&output), 2, "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the passphrase does not open the domain key"), "{said}");
}

#[test]
fn a_domain_key_that_is_killed_on_its_way_behind_a_passphrase_is_in_one_place_at_least() {
    if !have(&["strace"]) {
        return;
    }
    let safe = Safe::new();
    safe.write("domain", b"of the domain key");
    let mut daemon = Daemon::start();
    daemon.json(["key", "create"]);
    daemon.terminate();
    let state_dir = daemon.path().join("state");
    let domain_key = fs::read(state_dir.join("domain.key")).expect("there");
    let seal = |under: &[&str]| {
        let mut command = command(&[under, &[env!("CARGO_BIN_EXE_envol"), "kms", "seal-domain-key"]].concat());
        command
            .args(["--passphrase-file", &safe.text("domain"), "--state-dir"])
            .arg(&state_dir)
            .output()
            .expect("starts")
    };
    let put_back = || {
        let _ = fs::remove_file(state_dir.join("domain.stretching"));
        fs::write(state_dir.join("domain.key"), &domain_key).expect("put back");
        fs::set_permissions(state_dir.join("domain.key"), fs::Permissions::from_mode(0o600)).expect("ours");
    };
    for (call, count) in [("write", 2), ("fsync", 4), ("rename", 1), ("unlink", 2)] {
        for nth in 1..=count {
            put_back();
            let inject = format!("inject={call}:signal=KILL:when={nth}");
            let trace = format!("trace={call}");
            let ended = seal(&["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
            assert_ne!(ended.status.code(), Some(0), "killed at {call} {nth}");
            let whole = fs::read(state_dir.join("domain.key")).is_ok_and(|found| found == domain_key);
            if !whole {
                fs::remove_file(safe.path("kms.backup")).ok();
                let mut backup = safe.command(&[], "backup", &state_dir);
                let opened = backup.args(["--domain-passphrase-file", &safe.text("domain")]).output().expect("starts");
                assert_eq!(code(&opened), 0, "{call} {nth}: {opened:?}");
            }
            if state_dir.join("domain.key").exists() {
                let again = seal(&[]);
                assert_eq!(code(&again), 0, "{call} {nth}: {again:?}");
            }
            assert!(!state_dir.join("domain.key").exists());
        }
    }
}
