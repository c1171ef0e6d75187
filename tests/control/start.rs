//! Starting: what is told wrong ends it before anything is opened; what is in use stays with who uses it.

use std::fs::{Permissions, set_permissions};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Output};

use envol::control::api::{Attachment, Status};
use envol::control::client::Client;
use envol::nbd::client::Client as NbdClient;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::json;

use crate::support::{Daemon, PATIENCE, daemon_in, ends, envol, has, until};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A daemon in `dir` that must not come up, with `arguments`.
fn refused(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = daemon_in(dir);
    command.args(arguments);
    let output = ends(command);
    (output.status.code(), stderr(&output))
}

/// The unit as shipped, but for where the program lies, has nothing in it that systemd does not know.
#[test]
fn the_unit_is_one_that_systemd_understands() {
    if !has("systemd-analyze", Path::new("/usr/bin/systemd-analyze").exists()) {
        return;
    }
    let unit = include_str!("../../systemd/envol.service");
    let dir = tempfile::tempdir().expect("a directory");
    let copy = dir.path().join("envol.service");
    let verify = |text: &str| {
        std::fs::write(&copy, text).expect("written");
        let output = Command::new("systemd-analyze").arg("verify").arg(&copy).output().expect("starts");
        (output.status.success(), stderr(&output))
    };
    let here = unit.replace("/usr/bin/envol", env!("CARGO_BIN_EXE_envol"));
    assert_ne!(here, unit, "the unit names the program");
    assert_eq!(verify(&here), (true, String::new()));
    assert_ne!(verify(&here.replace("Type=notify", "Type=notfy")), (true, String::new()), "what is wrong is found");
}

#[test]
fn a_wrong_configuration_ends_it_with_the_line_and_nothing_opened() {
    for (text, line) in [
        ("account = \"000000000000\"\nacount = \"1\"\n", "line 2"),
        ("[nbd]\nlisten = 10809\n", "line 2"),
        ("\n\n[timings\n", "line 3"),
        ("[nbd]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]\n", "line 2"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("envol.toml");
        std::fs::write(&config, text).expect("written");
        let (exit, said) = refused(dir.path(), &["--config", config.to_str().expect("text")]);
        assert_eq!(exit, Some(2), "{text}: {said}");
        assert!(said.contains(line), "{said}");
        let left: Vec<_> =
            std::fs::read_dir(dir.path()).expect("ours").map(|entry| entry.expect("ours").path()).collect();
        assert_eq!(left, [config], "nothing was made");
    }
}

#[test]
fn a_configuration_that_is_not_there_ends_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (exit, said) = refused(dir.path(), &["--config", "/nonexistent/envol.toml"]);
    assert_eq!(exit, Some(2), "{said}");
    assert!(!dir.path().join("state").exists());
}

#[test]
fn tcp_off_this_host_is_refused_without_the_word_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (exit, said) = refused(dir.path(), &["--listen", "0.0.0.0:0"]);
    assert_eq!(exit, Some(2), "{said}");
}

#[test]
fn a_second_daemon_on_the_state_directory_ends_with_four() {
    let daemon = Daemon::start();
    let mut second = envol();
    second.arg("daemon").arg("--state-dir").arg(daemon.dir().join("state"));
    second.arg("--socket").arg(daemon.dir().join("other/control.sock"));
    let second = ends(second);
    assert_eq!(second.status.code(), Some(4), "{}", stderr(&second));
    assert!(stderr(&second).contains("another daemon"), "{}", stderr(&second));
    daemon.client().get::<Status>("/v1/status").expect("the first goes on");
}

#[test]
fn a_second_daemon_on_the_sockets_ends_with_four() {
    let daemon = Daemon::start();
    let mut second = envol();
    second.arg("daemon").arg("--state-dir").arg(daemon.dir().join("other")).arg("--socket").arg(daemon.socket());
    let second = ends(second);
    assert_eq!(second.status.code(), Some(4), "{}", stderr(&second));
    daemon.client().get::<Status>("/v1/status").expect("the first goes on");
}

#[test]
fn an_address_that_is_taken_leaves_nothing_half_started() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("an address").to_string();
    let dir = tempfile::tempdir().expect("a directory");
    let (exit, said) = refused(dir.path(), &["--listen", &address]);
    assert_eq!(exit, Some(4), "{said}");
    assert!(!said.contains(" ready "), "{said}");
    let left = std::fs::read_dir(dir.path().join("run")).expect("was made").count();
    assert_eq!(left, 0, "the sockets are gone again");
}

#[test]
fn a_state_directory_that_others_can_write_to_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("state")).expect("made");
    set_permissions(dir.path().join("state"), Permissions::from_mode(0o777)).expect("ours");
    let (exit, said) = refused(dir.path(), &[]);
    assert_eq!(exit, Some(2), "{said}");
}

#[test]
fn a_socket_left_by_a_daemon_that_died_is_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("run")).expect("made");
    drop(UnixListener::bind(dir.path().join("run/control.sock")).expect("binds"));
    drop(UnixListener::bind(dir.path().join("run/nbd.sock")).expect("binds"));
    let daemon = Daemon::start_in(dir, |_| ());
    daemon.client().get::<Status>("/v1/status").expect("serves");
}

/// `envol daemon` in `dir`, its descriptors from 3 on those of `sockets`, called `names`.
fn handed(dir: &Path, sockets: &[BorrowedFd<'_>], names: &str) -> Command {
    let mut redirections = String::new();
    for (number, socket) in sockets.iter().enumerate() {
        fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty())).expect("ours");
        redirections += &format!(" {}<&{}", 3 + number, socket.as_raw_fd());
    }
    let daemon = daemon_in(dir);
    let script =
        format!("LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={names} exec \"$0\" \"$@\"{redirections}", sockets.len());
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(script).arg(daemon.get_program()).args(daemon.get_args());
    shell
}

#[test]
fn sockets_of_the_service_manager_are_served_and_left_to_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let paths = [dir.path().join("c.sock"), dir.path().join("n.sock")];
    let [control, nbd] = paths.each_ref().map(|path| UnixListener::bind(path).expect("binds"));
    let mut child = handed(dir.path(), &[control.as_fd(), nbd.as_fd()], "control:nbd").spawn().expect("starts");
    drop((control, nbd));
    let client = Client::new(paths[0].clone());
    let status: Status = until("it serves", || client.get("/v1/status").ok());
    assert_eq!(status.pid, child.id());
    assert_eq!(status.listeners, [format!("nbd+unix:///?socket={}", paths[1].display())]);
    assert!(!dir.path().join("run").exists(), "no other sockets are made");

    let body = json!({ "name": "db", "size": 1 << 20 });
    let _: serde_json::Value = client.send_long("/v1/volumes", &body, &mut |_, _| ()).expect("a volume");
    let attached: Attachment = client.send("POST", "/v1/volumes/db/attach", &json!({})).expect("attached");
    assert!(attached.uri.ends_with("n.sock"), "{}", attached.uri);
    let guest = NbdClient::connect(&paths[1], "db").expect("served");
    assert_eq!(guest.size(), 1 << 20);
    guest.disconnect().expect("leaves");

    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("an id"));
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).expect("there");
    let ended = until("it ends", || child.try_wait().expect("a child"));
    assert_eq!(ended.code(), Some(0));
    assert!(paths.iter().all(|path| path.exists()), "they are not ours to remove");
}

#[test]
fn a_socket_of_another_name_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = UnixListener::bind(dir.path().join("a.sock")).expect("binds");
    let output = ends(handed(dir.path(), &[socket.as_fd()], "web"));
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn the_service_manager_is_told_of_start_and_stop() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("binds");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let told = || {
        let mut text = [0; 256];
        let length = manager.recv(&mut text).expect("told");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let daemon = Daemon::start_in(dir, |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    assert!(told().contains("READY=1"));
    let (ended, _dir) = daemon.stop();
    assert!(told().contains("STOPPING=1"));
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn the_log_is_json_where_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("log");
    let file = std::fs::File::create(&log).expect("made");
    let daemon = Daemon::start_in(dir, |command| {
        command.args(["--log-format", "json"]).stderr(file);
    });
    let (ended, _dir) = daemon.stop();
    assert_eq!(ended.code(), Some(0));
    let lines = std::fs::read_to_string(&log).expect("a log");
    let ready = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    assert_eq!(ready.filter(|line| line["message"] == "ready").count(), 1, "{lines}");
}
