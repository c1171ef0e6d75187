//! What the process of a backup gives up, and what is the user's or the host's to put right: exit code 2, with what to do.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use crate::safe::{Safe, code, error, member, names};
use crate::support::{Daemon, have, must};

#[test]
fn a_passphrase_that_is_none_is_the_users_problem() {
    let (safe, daemon) = (Safe::new(), Daemon::start());
    for unfit in [&b""[..], b"\n", &[b'x'; 5000]] {
        safe.write("passphrase", unfit);
        let refused = daemon.refused(2, safe.words("backup"));
        assert!(member(&refused, "message").contains("empty or too long"), "{refused}");
        assert!(member(&refused, "remedy").contains("passphrase"), "{refused}");
        assert_eq!(names(&safe.path("")), ["passphrase"], "nothing of a backup is left");
    }
}

#[test]
fn memory_that_cannot_be_locked_is_the_hosts_problem() {
    if !have(&["setpriv", "prlimit"]) {
        return;
    }
    let (safe, mut daemon) = (Safe::new(), Daemon::start());
    daemon.terminate();
    let under = ["setpriv", "--bounding-set=-ipc_lock", "prlimit", "--memlock=8388608:8388608"];
    let refused = safe.command(&under, "backup", &daemon.path().join("state")).output().expect("starts");
    assert_eq!(code(&refused), 2, "{refused:?}");
    let error = error(&refused);
    assert!(member(&error, "message").contains("RLIMIT_MEMLOCK"), "{error}");
    assert!(member(&error, "remedy").contains("LimitMEMLOCK="), "{error}");
}

/// What waits for its passphrase, hardened by then or never.
fn waiting(command: &mut Command) -> Child {
    let child = command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("starts");
    for _ in 0..200 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
        if status.contains("NoNewPrivs:\t1") {
            break;
        }
    }
    child
}

#[test]
fn the_process_that_holds_the_keys_can_be_neither_dumped_nor_looked_into() {
    if !have(&["setpriv", "mkfifo"]) || !nix::unistd::geteuid().is_root() {
        return;
    }
    let user = 65534;
    let safe = Safe::new();
    let mut daemon = Daemon::of_user(user, &[], |_| ());
    daemon.json(safe.words("backup"));
    daemon.terminate();
    let place = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::chown(place.path(), Some(user), Some(user)).expect("root may");
    let fifo = place.path().join("passphrase");
    must(Command::new("setpriv").args(["--reuid=65534", "mkfifo", "-m", "600"]).arg(&fifo));
    fs::copy(safe.path("kms.backup"), place.path().join("restored")).expect("carried");
    std::os::unix::fs::chown(place.path().join("restored"), Some(user), Some(user)).expect("root may");
    let state_dir = daemon.path().join("state");
    for (what, file, state_dir) in
        [("backup", "made", state_dir.clone()), ("restore", "restored", place.path().join("state"))]
    {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_envol"), "kms", what]);
        command.arg(place.path().join(file)).arg("--passphrase-file").arg(&fifo).arg("--state-dir").arg(state_dir);
        let mut child = waiting(command.arg("--socket").arg(place.path().join("control.sock")));
        let of = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", child.id())).expect("root may");
        assert!(of("status").contains("NoNewPrivs:\t1") && of("status").contains("Umask:\t0077"), "{what}");
        let core = of("limits").lines().find(|line| line.starts_with("Max core file size")).map(str::to_owned);
        assert_eq!(core.expect("told").split_whitespace().nth(4), Some("0"), "{what} leaves a core");
        let facts = fs::metadata(format!("/proc/{}/mem", child.id())).expect("there");
        assert_eq!(facts.uid(), 0, "{what} can be looked into by its own user");
        child.kill().expect("a child of ours");
        child.wait().expect("a child of ours");
    }
}
