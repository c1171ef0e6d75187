//! What tests of the whole program share: a daemon of their own in a temporary directory, and tools that may be missing.
#![allow(dead_code, reason = "each test binary uses its part of this")]
#![allow(clippy::print_stderr, reason = "a skip and a daemon's log are for whoever reads the test output")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A running daemon, stopped and checked when dropped.
pub(crate) struct Daemon {
    directory: TempDir,
    /// The program that runs the daemon, and its options; none where it runs by itself.
    under: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    process: Option<Child>,
}

impl Daemon {
    /// One that listens on unix sockets only.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// One with further arguments of `envol daemon`.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_as(&[&["daemon"], arguments].concat(), &[])
    }

    /// One with further arguments, and variables in its environment.
    pub(crate) fn start_under(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_as(&[&["daemon"], arguments].concat(), environment)
    }

    /// A KMS alone, with further arguments of `envol kms serve`.
    pub(crate) fn start_kms(arguments: &[&str]) -> Self {
        Self::start_as(&[&["kms", "serve"], arguments].concat(), &[])
    }

    /// One in a directory of its own in `place`, run by strace, which writes the calls of `options` to [`Daemon::trace`].
    pub(crate) fn start_traced(place: &Path, options: &[&str]) -> Self {
        let directory = Self::directory_in(place);
        let trace = directory.path().join("trace");
        // With -D it is the daemon that is our child, and is stopped as ever.
        let under = ["strace", "-D", "-f", "-qq", "-o", trace.to_str().expect("plain text")];
        let under = under.iter().chain(options).map(ToString::to_string).collect();
        let (arguments, environment) = (vec!["daemon".into()], Vec::new());
        let mut daemon = Self { directory, under, arguments, environment, process: None };
        daemon.run();
        daemon
    }

    /// One whose state directory `prepare` makes ready before it starts.
    pub(crate) fn prepared(prepare: impl FnOnce(&Path)) -> Self {
        let directory = Self::directory_in(&std::env::temp_dir());
        prepare(&directory.path().join("state"));
        let (arguments, environment) = (vec!["daemon".into()], Vec::new());
        let mut daemon = Self { directory, under: Vec::new(), arguments, environment, process: None };
        daemon.run();
        daemon
    }

    /// One of a user of its own, whose state directory `prepare` makes ready. Root runs it.
    pub(crate) fn of_user(user: u32, arguments: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let directory = Self::directory_in(&std::env::temp_dir());
        std::os::unix::fs::chown(directory.path(), Some(user), Some(user)).expect("root may");
        prepare(&directory.path().join("state"));
        // It may lock as much as the shipped unit lets it.
        let rights = "--inh-caps=+ipc_lock --ambient-caps=+ipc_lock";
        let under = format!("setpriv --reuid={user} --regid={user} --clear-groups {rights}");
        let under = under.split(' ').map(ToOwned::to_owned).collect();
        let arguments = [&["daemon"], arguments].concat().iter().map(ToString::to_string).collect();
        let mut daemon = Self { directory, under, arguments, environment: Vec::new(), process: None };
        daemon.run();
        daemon
    }

    fn start_as(words: &[&str], environment: &[(&str, &str)]) -> Self {
        let directory = Self::directory_in(&std::env::temp_dir());
        let arguments = words.iter().map(ToString::to_string).collect();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut daemon = Self { directory, under: Vec::new(), arguments, environment, process: None };
        daemon.run();
        daemon
    }

    fn directory_in(place: &Path) -> TempDir {
        tempfile::Builder::new().prefix("envol-test-").tempdir_in(place).expect("a temporary directory")
    }

    /// The system calls that [`Daemon::start_traced`] asked for, so far.
    pub(crate) fn trace(&self) -> String {
        std::fs::read_to_string(self.path().join("trace")).expect("it is traced")
    }

    /// Its temporary directory; the state directory is `state` in it.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    fn control_socket(&self) -> PathBuf {
        self.path().join("control.sock")
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("running").id()
    }

    /// Starts it on the same state directory again.
    pub(crate) fn run(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut command = self.command_under(&self.under);
        command.args(&self.arguments).envs(self.environment.clone()).stdin(Stdio::null()).stderr(Stdio::piped());
        // A test that is killed must not leave a daemon behind.
        // SAFETY: prctl is async-signal-safe and touches nothing of ours.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut process = command.spawn().expect("the program starts");
        let log = BufReader::new(process.stderr.take().expect("piped"));
        let file = self.path().join("daemon.log");
        std::thread::spawn(move || {
            let mut kept = std::fs::OpenOptions::new().create(true).append(true).open(file).expect("a log");
            for line in log.lines().map_while(Result::ok) {
                std::io::Write::write_all(&mut kept, format!("{line}\n").as_bytes()).ok();
            }
        });
        self.process = Some(process);
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        for _ in 0..600 {
            if self.envol(["status", "--json"]).status.success() {
                return;
            }
            let ended = self.process.as_mut().expect("running").try_wait().expect("a child of ours");
            assert!(ended.is_none(), "the daemon ended: {ended:?}\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("the daemon did not get ready:\n{}", self.log());
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("daemon.log")).unwrap_or_default()
    }

    /// SIGTERM, then its exit status.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        self.signal(libc::SIGTERM);
        self.process.take().expect("running").wait().expect("a child of ours")
    }

    /// SIGKILL: as if the machine's power had gone for this process alone.
    pub(crate) fn kill(&mut self) {
        self.send_kill();
        self.process.take().expect("running").wait().expect("a child of ours");
    }

    /// SIGKILL, without waiting for its end; [`Daemon::kill`] has to follow.
    pub(crate) fn send_kill(&self) {
        self.signal(libc::SIGKILL);
    }

    fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        // SAFETY: signals a child that has not been waited for, so the id is still its own.
        unsafe { libc::kill(pid, signal) };
    }

    fn command(&self) -> Command {
        self.command_under(&[])
    }

    /// envol, run by the program that `under` names, if it names one.
    fn command_under(&self, under: &[String]) -> Command {
        let words: Vec<&str> = under.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_envol")]).collect();
        let mut command = command(&words);
        command.arg("--socket").arg(self.control_socket());
        command.env("ENVOL_STATE_DIR", self.path().join("state"));
        command
    }

    /// Runs `envol ARGUMENTS` against this daemon.
    pub(crate) fn envol<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, arguments: I) -> Output {
        self.command().args(arguments).stdin(Stdio::null()).output().expect("the program starts")
    }

    /// The same, which must succeed; its `--json` answer.
    pub(crate) fn json<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, arguments: I) -> Value {
        let output = self.command().args(arguments).arg("--json").stdin(Stdio::null()).output().expect("starts");
        assert!(output.status.success(), "{output:?}\n{}", self.log());
        serde_json::from_slice(&output.stdout).expect("one JSON document")
    }

    /// The same, which must fail with `code`; the `error` object.
    pub(crate) fn refused<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, code: i32, arguments: I) -> Value {
        let output = self.command().args(arguments).arg("--json").stdin(Stdio::null()).output().expect("starts");
        assert_eq!(output.status.code(), Some(code), "{output:?}\n{}", self.log());
        let failure: Value = serde_json::from_slice(&output.stderr).expect("one JSON document on stderr");
        failure["error"].clone()
    }

    /// A volume called `name`, attached; its NBD URI. `options` go to `volume create`.
    pub(crate) fn attached(&self, name: &str, size: &str, options: &[&str]) -> String {
        self.json(["volume", "create", name, "--size", size].iter().chain(options));
        self.attach(name)
    }

    /// Attaches; the NBD URI.
    pub(crate) fn attach(&self, name: &str) -> String {
        self.json(["attach", name])["uri"].as_str().expect("a URI").to_owned()
    }

    /// Detaches.
    pub(crate) fn detach(&self, name: &str) {
        self.json(["detach", name]);
    }

    /// Where the volume's backing lies.
    pub(crate) fn backing(&self, name: &str) -> PathBuf {
        PathBuf::from(self.json(["volume", "show", name])["backing"].as_str().expect("a path"))
    }

    /// The unix socket for NBD.
    pub(crate) fn nbd_socket(&self) -> PathBuf {
        self.path().join("nbd.sock")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.process.is_none() {
            return;
        }
        let status = self.terminate();
        if !std::thread::panicking() {
            assert!(status.success(), "the daemon ended with {status}:\n{}", self.log());
        } else {
            eprintln!("--- the daemon's log ---\n{}", self.log());
        }
    }
}

/// Whether every one of `programs` is there. A missing one is named; under `REQUIRE_ALL=1` it fails the test.
pub(crate) fn have(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| find(program).is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("REQUIRE_ALL").is_none_or(|v| v != "1"), "missing: {missing:?}");
    eprintln!("SKIPPED, missing: {missing:?}");
    false
}

fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Path::new(program).exists().then(|| program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places.map(|place| place.join(program)).find(|file| file.is_file())
}

/// Runs a command, which must succeed; what it printed.
pub(crate) fn must(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Runs a command, which must fail; what it printed on both.
pub(crate) fn must_fail(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{command:?} succeeded: {text}");
    text
}

/// `command(&["nbdcopy", a, b])`.
pub(crate) fn command<A: AsRef<OsStr>>(words: &[A]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// A file of `length` bytes that no cipher or compressor is kind to.
pub(crate) fn random_file(path: &Path, length: u64) {
    let mut source = std::fs::File::open("/dev/urandom").expect("randomness");
    let mut file = std::fs::File::create(path).expect("a file");
    std::io::copy(&mut std::io::Read::take(&mut source, length), &mut file).expect("written");
}

/// The Python that scripts/test prepared (with `cryptography`), or Debian's.
pub(crate) fn python() -> String {
    std::env::var("ENVOL_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".into())
}

/// Whether that Python has every one of `modules`; as [`have`].
pub(crate) fn python_has(modules: &[&str]) -> bool {
    let script = format!("import {}", modules.join(", "));
    let found = Command::new(python()).args(["-c", &script]).output().is_ok_and(|output| output.status.success());
    if !found {
        assert!(std::env::var_os("REQUIRE_ALL").is_none_or(|v| v != "1"), "missing Python modules: {modules:?}");
        eprintln!("SKIPPED, missing Python modules: {modules:?}");
    }
    found
}
