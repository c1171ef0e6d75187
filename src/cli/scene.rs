//! Where the demo and the measurements play: a temporary directory and a daemon of its own, both gone when the scene is
//! dropped.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::control::api::Status;
use crate::control::client::{Client, ClientError};
use crate::limits;

/// How long the daemon may take to answer its first request.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// How often something that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What the environment may say to a daemon, and must not say to this one.
const FOREIGN_VARIABLES: [&str; 10] = [
    "ENVOL_SOCKET",
    "ENVOL_STATE_DIR",
    "ENVOL_CONFIG",
    "STATE_DIRECTORY",
    "RUNTIME_DIRECTORY",
    "NOTIFY_SOCKET",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
];

/// Why there is no daemon to go on with.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// The system refused.
    #[error("could not {doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The daemon refused what it should have done, or broke.
    #[error("the daemon: {0}")]
    Daemon(#[from] ClientError),
    /// The daemon ended, or never answered.
    #[error("the daemon did not come up; its log ends with: {0}")]
    NotUp(String),
    /// The daemon did not end when told to.
    #[error("the daemon did not end within {} s of SIGTERM", .0.as_secs())]
    DidNotEnd(Duration),
}

/// A directory that only we can read, removed on drop.
pub(super) struct TemporaryDir(PathBuf);

impl TemporaryDir {
    /// One for `what`, in `parent`.
    pub(super) fn new(parent: &Path, what: &str) -> Result<Self, SceneError> {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let path = parent.join(format!("envol-{what}-{}", &unique[..12]));
        let doing = "make a temporary directory";
        DirBuilder::new().mode(0o700).create(&path).map_err(|source| SceneError::System { doing, source })?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A daemon of its own in a directory of its own.
pub struct Scene {
    program: PathBuf,
    client: Client,
    daemon: Option<Child>,
    state_dir: PathBuf,
    /// Last, so that it goes when nothing uses it any more.
    dir: TemporaryDir,
}

impl Scene {
    /// A directory for `what` in `parent`, and the state directory in it; no daemon runs yet.
    pub(super) fn set(program: &Path, parent: &Path, what: &str) -> Result<Self, SceneError> {
        let dir = TemporaryDir::new(parent, what)?;
        let client = Client::new(dir.0.join("control.sock"));
        let state_dir = dir.0.join("state");
        Ok(Self { program: program.to_owned(), client, daemon: None, state_dir, dir })
    }

    /// The same with the state directory elsewhere. (A socket's path has to be short; that of a disk may be long.)
    pub(super) fn with_state_dir(mut self, state_dir: PathBuf) -> Self {
        self.state_dir = state_dir;
        self
    }

    /// The daemon's control API.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The daemon's control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.dir.0.join("control.sock")
    }

    /// The daemon's NBD socket.
    pub fn nbd_socket(&self) -> PathBuf {
        self.dir.0.join("nbd.sock")
    }

    /// The daemon's state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.state_dir.clone()
    }

    /// Starts the daemon and waits until it answers.
    pub(super) fn start(&mut self) -> Result<Status, SceneError> {
        let doing = "start a daemon";
        self.spawn().map_err(|source| SceneError::System { doing, source })?;
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            match self.client.get::<Status>("/v1/status") {
                Ok(status) => return Ok(status),
                Err(ClientError::Failed(problem)) => return Err(ClientError::Failed(problem).into()),
                Err(_) if self.has_ended() || Instant::now() > deadline => {
                    return Err(SceneError::NotUp(self.log_end()));
                }
                Err(_) => thread::sleep(LOOK_EVERY),
            }
        }
    }

    fn spawn(&mut self) -> io::Result<()> {
        let log = File::options().append(true).create(true).open(self.dir.0.join("daemon.log"))?;
        let mut command = self.envol();
        command.arg("daemon").arg("--state-dir").arg(self.state_dir()).args(["--log-format", "human"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.daemon = Some(command.spawn()?);
        Ok(())
    }

    /// The program, told which daemon to talk to, or to be.
    fn envol(&self) -> Command {
        let mut command = Command::new(&self.program);
        for variable in FOREIGN_VARIABLES {
            command.env_remove(variable);
        }
        command.arg("--socket").arg(self.control_socket());
        command
    }

    /// Runs `envol --json WORDS...` as a person or a script would.
    pub(super) fn run(&self, words: &[&str]) -> Result<Output, SceneError> {
        let doing = "run envol";
        self.envol().arg("--json").args(words).output().map_err(|source| SceneError::System { doing, source })
    }

    fn has_ended(&mut self) -> bool {
        self.daemon.as_mut().is_none_or(|daemon| !matches!(daemon.try_wait(), Ok(None)))
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(self.dir.0.join("daemon.log")).unwrap_or_default();
        log.lines().next_back().unwrap_or("(nothing)").to_owned()
    }

    /// Ends the daemon with SIGTERM and gives its exit code; `None` where a signal killed it.
    pub(super) fn stop(&mut self) -> Result<Option<i32>, SceneError> {
        let Some(mut daemon) = self.daemon.take() else { return Ok(None) };
        let stopped = terminate(&mut daemon);
        if stopped.is_err() {
            end_hard(&mut daemon);
        }
        stopped
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            end_hard(&mut daemon);
        }
    }
}

fn terminate(daemon: &mut Child) -> Result<Option<i32>, SceneError> {
    let doing = "end the daemon";
    let system = |source| SceneError::System { doing, source };
    let pid = i32::try_from(daemon.id()).expect("a process id is a positive i32");
    kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|errno| system(errno.into()))?;
    // A little more than the daemon allows itself.
    let patience = limits::SHUTDOWN_DEADLINE + Duration::from_secs(2);
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Some(status) = daemon.try_wait().map_err(system)? {
            return Ok(status.code());
        }
        thread::sleep(LOOK_EVERY);
    }
    Err(SceneError::DidNotEnd(patience))
}

fn end_hard(daemon: &mut Child) {
    // It may have ended on its own; either way it is gone afterwards.
    let _ = daemon.kill();
    let _ = daemon.wait();
}

/// Waits until `look` finds something; gives up, with what it last found, after as long as a start may take.
pub(super) fn wait_for<T, E>(mut look: impl FnMut() -> Result<(bool, T), E>) -> Result<T, E> {
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        let (found, seen) = look()?;
        if found || Instant::now() > deadline {
            return Ok(seen);
        }
        thread::sleep(LOOK_EVERY);
    }
}
