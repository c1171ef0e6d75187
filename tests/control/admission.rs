//! Who is let in: decided by SO_PEERCRED, whatever the socket's mode allows.

use std::ffi::OsStr;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Daemon, code, ends, has, until};

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

/// A daemon of another user's, killed when dropped.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_user_without_privileges_runs_a_daemon_of_their_own() {
    let tools = ["setpriv", "nbdcopy"];
    let there = tools.iter().all(|tool| Command::new(tool).arg("--version").output().is_ok());
    if !is_root() || !has("setpriv or nbdcopy", there) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let program = program_for_all(dir.path());
    let home = dir.path().join("home");
    std::fs::create_dir(&home).expect("made");
    std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).expect("root may");
    let as_nobody = |words: &[&OsStr]| {
        let mut command = Command::new("setpriv");
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
        command.arg("--no-new-privs").args(words).current_dir("/").env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", &home);
        command.env("XDG_STATE_HOME", home.join("state")).env("XDG_RUNTIME_DIR", &home);
        command
    };
    let envol = |words: &str| {
        let words = words.split(' ').map(OsStr::new);
        let output = ends(as_nobody(&std::iter::once(program.as_os_str()).chain(words).collect::<Vec<_>>()));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code(), said)
    };
    let daemon = Owned(as_nobody(&[program.as_os_str(), OsStr::new("daemon")]).spawn().expect("setpriv runs"));
    until("the daemon is ready", || (envol("--json status").0 == Some(0)).then_some(()));

    assert_eq!(envol("--json volume create db --size 4M").0, Some(0));
    let (exit, attached) = envol("--json attach db");
    assert_eq!(exit, Some(0), "{attached}");
    let uri = attached["uri"].as_str().expect("a URI");
    let (data, back) = (home.join("data"), home.join("back"));
    let bytes: Vec<u8> = (0..4_u32 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    std::fs::write(&data, &bytes).expect("written");
    let copy = |from: &OsStr, to: &OsStr| ends(as_nobody(&[OsStr::new("nbdcopy"), OsStr::new("--flush"), from, to]));
    let copied = copy(data.as_os_str(), OsStr::new(uri));
    assert!(copied.status.success(), "{copied:?}");
    assert!(copy(OsStr::new(uri), back.as_os_str()).status.success());
    assert!(std::fs::read(&back).expect("copied") == bytes, "what was written is read");
    assert_eq!(envol("--json detach db").0, Some(0));
    drop(daemon);

    let owner = |path: &Path| std::fs::metadata(path).expect("the daemon made it").uid();
    assert_eq!(owner(&home.join("state/envol/domain.key")), NOBODY);
    let mode = std::fs::metadata(home.join("envol/control.sock")).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
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
