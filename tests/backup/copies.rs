//! The copies of a store that a daemon makes for a backup.

use std::fs;
use std::process::Stdio;

use crate::safe::{Safe, names};
use crate::support::{Daemon, command, must};

fn copies(daemon: &Daemon) -> Vec<String> {
    names(&daemon.path().join("state")).into_iter().filter(|name| name.starts_with("kms-copy-")).collect()
}

#[test]
fn a_copy_that_nobody_came_to_remove_is_gone_after_the_next_start() {
    let (safe, mut daemon) = (Safe::new(), Daemon::start());
    daemon.json(["key", "create"]);
    // Whoever asked is killed while it waits for its passphrase, which never comes.
    fs::remove_file(safe.path("passphrase")).expect("there");
    must(command(&["mkfifo", "-m", "600"]).arg(safe.path("passphrase")));
    let mut asking = command(&[env!("CARGO_BIN_EXE_envol")]);
    asking.args(safe.words("backup")).arg("--socket").arg(daemon.path().join("control.sock"));
    let mut child = asking.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    while copies(&daemon).is_empty() {
        assert!(child.try_wait().expect("a child of ours").is_none(), "it waits");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().expect("a child of ours");
    child.wait().expect("a child of ours");
    assert_eq!(copies(&daemon).len(), 1);
    daemon.terminate();
    daemon.run();
    assert_eq!(copies(&daemon), [""; 0]);
}
