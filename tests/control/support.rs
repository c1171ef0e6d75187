//! A daemon of one's own for each test, and HTTP by hand for requests that no client of ours would send.
#![allow(clippy::print_stderr, reason = "a skip is for whoever reads the test output")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use envol::control::api::{CreateVolume, Volume};
use envol::control::client::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Longer than anything here takes: a guard against hanging, never a measure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon; killed when dropped, unless it was stopped.
pub(crate) struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
}

/// The program that is tested.
pub(crate) fn envol() -> Command {
    Command::new(env!("CARGO_BIN_EXE_envol"))
}

/// `envol daemon` that keeps everything within `dir`.
pub(crate) fn daemon_in(dir: &Path) -> Command {
    let mut command = envol();
    command.arg("daemon").arg("--state-dir").arg(dir.join("state")).arg("--socket").arg(dir.join("run/control.sock"));
    command.env_remove("ENVOL_CONFIG").stdin(Stdio::null());
    command
}

/// Waits until `ready` answers something.
pub(crate) fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ready() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs `command` to its end, which it must come to by itself.
pub(crate) fn ends(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    until("the command ends", || child.try_wait().expect("a child"));
    child.wait_with_output().expect("its output")
}

/// Whether a test that needs `what` can run; where it must, its absence is a failure.
pub(crate) fn has(what: &str, there: bool) -> bool {
    assert!(there || std::env::var_os("REQUIRE_ALL").is_none(), "{what} is missing");
    if !there {
        eprintln!("skipped: {what} is missing");
    }
    there
}

impl Daemon {
    /// One without configuration.
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"), |_| ())
    }

    /// One in `dir`, its command changed by `change`.
    pub(crate) fn start_in(dir: tempfile::TempDir, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = daemon_in(dir.path());
        change(&mut command);
        let child = command.spawn().expect("the daemon starts");
        let mut daemon = Self { child, dir };
        until("the daemon listens", || {
            let ended = daemon.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the daemon ended: {ended:?}");
            UnixStream::connect(daemon.socket()).ok()
        });
        daemon
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir().join("run/control.sock")
    }

    pub(crate) fn nbd_socket(&self) -> PathBuf {
        self.dir().join("run/nbd.sock")
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.socket())
    }

    /// A connection that speaks for itself.
    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("the daemon listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// A volume of 16 MiB.
    pub(crate) fn volume(&self, name: &str) -> Volume {
        let asked = CreateVolume { name: name.to_owned(), size: Some(16 << 20), ..CreateVolume::default() };
        self.client().send_long("/v1/volumes", &asked, &mut |_, _| ()).expect("a volume is made")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(id), signal).expect("it is there");
    }

    /// Waits for its end; what it leaves behind stays for as long as the directory is held.
    pub(crate) fn ended(mut self) -> (ExitStatus, tempfile::TempDir) {
        let status = until("the daemon ends", || self.child.try_wait().expect("a child"));
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a directory"));
        (status, dir)
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(self) -> (ExitStatus, tempfile::TempDir) {
        self.signal(Signal::SIGTERM);
        self.ended()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body of one whole answer, read to the end of the connection.
pub(crate) fn answer(stream: &mut UnixStream) -> (u16, Value) {
    let mut text = Vec::new();
    // A server that closes with our bytes unread resets the connection, behind the answer.
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8(text).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// `METHOD path` with `body`, answered.
pub(crate) fn ask(daemon: &Daemon, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = daemon.connect();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).expect("the daemon reads");
    answer(&mut stream)
}

/// The code in a failed answer.
pub(crate) fn code(body: &Value) -> &str {
    body.pointer("/error/code").and_then(Value::as_str).unwrap_or_default()
}
