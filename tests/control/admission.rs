//! Who is let in: decided by SO_PEERCRED, whatever the socket's mode allows.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Daemon, code, ends, has};

const NOBODY: u32 = 65_534;

/// The program, where any user may run it.
fn program_for_all(dir: &Path) -> PathBuf {
    set_permissions(dir, Permissions::from_mode(0o755)).expect("ours");
    let program = dir.join("envol");
    // Copied by another process: a descriptor of ours that is open for writing could be inherited by some child.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_envol")).arg(&program).status().expect("cp");
    assert!(copied.success());
    set_permissions(&program, Permissions::from_mode(0o755)).expect("ours");
    program
}

/// `envol status` as `uid` and `gid`: its exit code, and what it says on stdout or else on stderr.
fn status_as(daemon: &Daemon, program: &Path, uid: u32, gid: u32) -> (Option<i32>, Value) {
    let mut command = Command::new(program);
    command.arg("--json").arg("--socket").arg(daemon.socket()).arg("status").uid(uid).gid(gid).current_dir("/");
    let output = ends(command);
    let said = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    (output.status.code(), serde_json::from_slice(said).unwrap_or(Value::Null))
}

fn is_root() -> bool {
    has("root, to become another user,", nix::unistd::geteuid().is_root())
}

#[test]
fn another_user_is_refused_even_where_the_socket_is_open_to_all() {
    if !is_root() {
        return;
    }
    let daemon = Daemon::start();
    let program = program_for_all(daemon.dir());
    let (exit, said) = status_as(&daemon, &program, NOBODY, NOBODY);
    assert_eq!((exit, code(&said)), (Some(9), "not_permitted"), "by the socket's mode");

    set_permissions(daemon.socket(), Permissions::from_mode(0o666)).expect("ours");
    let (exit, said) = status_as(&daemon, &program, NOBODY, 0);
    assert_eq!((exit, code(&said)), (Some(9), "control.not_permitted"), "by their credentials");
    let (exit, _) = status_as(&daemon, &program, 0, 0);
    assert_eq!(exit, Some(0), "root is let in");
}

#[test]
fn the_members_of_the_configured_group_are_let_in() {
    if !is_root() {
        return;
    }
    let group = nix::unistd::Group::from_name("daemon").expect("groups").expect("every Linux has this one");
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("envol.toml");
    std::fs::write(&config, "group = \"daemon\"\n").expect("written");
    let daemon = Daemon::start_in(dir, |command| {
        command.arg("--config").arg(&config);
    });
    let program = program_for_all(daemon.dir());
    let (exit, said) = status_as(&daemon, &program, NOBODY, group.gid.as_raw());
    assert_eq!(exit, Some(0), "{said}");
    let (exit, _) = status_as(&daemon, &program, NOBODY, NOBODY);
    assert_eq!(exit, Some(9), "others are not");
    let mode = |path: &Path| std::fs::metadata(path).expect("a socket").permissions().mode() & 0o777;
    assert_eq!((mode(&daemon.socket()), mode(&daemon.nbd_socket())), (0o660, 0o660));
}

#[test]
fn nbd_lets_in_nobody_whom_the_control_socket_would_not() {
    if !is_root() || !has("nbdinfo", Command::new("nbdinfo").arg("--version").output().is_ok()) {
        return;
    }
    let daemon = Daemon::start();
    set_permissions(daemon.dir(), Permissions::from_mode(0o755)).expect("ours");
    set_permissions(daemon.nbd_socket(), Permissions::from_mode(0o666)).expect("ours");
    let list_as = |uid: u32| {
        let mut command = Command::new("nbdinfo");
        let uri = format!("nbd+unix:///?socket={}", daemon.nbd_socket().display());
        command.arg("--list").arg(uri).uid(uid).gid(0).current_dir("/");
        ends(command).status.success()
    };
    assert!(list_as(0));
    assert!(!list_as(NOBODY));
}
