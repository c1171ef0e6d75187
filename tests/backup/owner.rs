//! Root backs up and restores the KMS of a daemon with a user of its own, as the shipped unit has it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};

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

/// Answers at `socket` as a daemon of the user does that says of itself what `status` says, and takes note of what it is asked.
fn serve_as_user(socket: &Path, status: &serde_json::Value) -> Arc<Mutex<Vec<String>>> {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let note = Arc::clone(&asked);
    let body = status.to_string();
    let (socket, ready) = (socket.to_owned(), Arc::new(Barrier::new(2)));
    let listening = Arc::clone(&ready);
    std::thread::spawn(move || {
        // SAFETY: it takes numbers alone; the call itself, past the library, changes this thread and no other.
        let changed = unsafe { nix::libc::syscall(nix::libc::SYS_setresuid, USER, USER, USER) };
        assert_eq!(changed, 0, "root may");
        let listener = UnixListener::bind(socket).expect("binds");
        listening.wait();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            let mut head = [0; 4096];
            let length = stream.read(&mut head).expect("a request");
            let line = String::from_utf8_lossy(&head[..length]).lines().next().expect("a line").to_owned();
            note.lock().expect("no panic").push(line);
            let length = body.len();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
                .expect("answers");
        }
    });
    ready.wait();
    asked
}

#[test]
fn root_does_not_work_where_a_daemon_says_that_is_not_of_its_user() {
    if !can_be_had() {
        return;
    }
    let safe = Safe::new();
    let mut daemon = Daemon::start();
    daemon.json(["key", "create"]);
    let mut status = daemon.json(["status"]);
    daemon.terminate();
    let theirs = safe.path("theirs");
    make_state_dir(&theirs);
    fs::set_permissions(safe.path(""), fs::Permissions::from_mode(0o755)).expect("ours");
    for (nth, state_dir) in [std::env::temp_dir(), daemon.path().join("state")].iter().enumerate() {
        status["state_dir"] = state_dir.to_str().expect("text").into();
        let socket = theirs.join(nth.to_string());
        let asked = serve_as_user(&socket, &status);
        let mut backup = crate::support::command(&[env!("CARGO_BIN_EXE_envol")]);
        let refused =
            backup.args(safe.words("backup")).arg("--json").arg("--socket").arg(&socket).output().expect("starts");
        assert_eq!(code(&refused), 2, "{refused:?}");
        assert!(member(&error(&refused), "message").contains("not its user's"), "{refused:?}");
        assert_eq!(*asked.lock().expect("no panic"), ["GET /v1/status HTTP/1.1"]);
    }
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
