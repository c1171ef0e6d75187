//! The daemon and the commands as a user without any privilege.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use envol::nbd::client::Client;

use super::program::ENVOL;

const NOBODY: u32 = 65_534;

/// Killed with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("gone");
    }
}

/// `envol WORDS` as nobody; program, state and sockets lie in `dir`.
fn as_nobody(dir: &Path, words: &str) -> Command {
    let mut command = Command::new(dir.join("envol"));
    command.args(words.split(' ')).arg("--socket").arg(dir.join("control.sock"));
    command.env_clear().env("ENVOL_STATE_DIR", dir.join("state")).current_dir("/");
    command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null());
    command
}

/// Only root can become somebody else; where the tests run as an ordinary user, every other test shows this.
#[test]
fn a_user_without_privileges_has_a_daemon_of_their_own() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    // Copied by another process: a descriptor of ours that is open for writing could be inherited by some child.
    assert!(Command::new("cp").arg(ENVOL).arg(dir.join("envol")).status().expect("cp").success());
    std::fs::set_permissions(dir.join("envol"), PermissionsExt::from_mode(0o755)).expect("ours");
    chown(dir, Some(NOBODY), Some(NOBODY)).expect("root gives it away");

    let _daemon = Killed(as_nobody(dir, "daemon").stderr(Stdio::null()).spawn().expect("the program runs"));
    let run = |words: &str| as_nobody(dir, words).output().expect("the program runs");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !run("status").status.success() {
        assert!(Instant::now() < deadline, "the daemon came up: {:?}", run("status"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let must = |words: &str| {
        let output = run(words);
        assert!(output.status.success(), "{words}: {output:?}");
    };
    must("volume create db --size 1M");
    must("attach db");
    let mut client = Client::connect(&dir.join("nbd.sock"), "db").expect("root is let in too");
    client.write(100, b"written").expect("written");
    let mut seen = [0; 7];
    client.read(100, &mut seen).expect("read");
    assert_eq!(&seen, b"written");
    client.disconnect().expect("left");
    must("detach db");
}
