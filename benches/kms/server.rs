//! `envol kms serve` on the first core, the measuring process on the second.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::client::{Client, Failure, Signer};

const PROGRAM: &str = env!("CARGO_BIN_EXE_envol");
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A KMS that runs.
pub(crate) struct Server {
    process: Child,
    socket: PathBuf,
}

impl Server {
    /// Starts it over `state`, waits until it answers a signed call, and tells how long that took. A `signer` is of an earlier
    /// start; without one, an access key is made first, outside the time.
    pub(crate) fn start(state: &Path, signer: Option<Signer>) -> Result<(Self, Signer, Duration), Failure> {
        let socket = state.join("kms.sock");
        let places = ["--state-dir".into(), state.to_owned(), "--socket".into(), state.join("control.sock")];
        run_on(0)?;
        let begin = Instant::now();
        let mut command = Command::new(PROGRAM);
        command.args(["kms", "serve", "--listen"]).arg(&socket).args(&places);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        run_on(1)?;
        let server = Self { process, socket };
        server.wait(begin, |server| server.connectable())?;
        let up = begin.elapsed();
        let known = signer.is_some();
        let signer = match signer {
            Some(signer) => signer,
            None => access_key(&places)?,
        };
        server.wait(begin, |server| Ok(Client::connect(&server.socket, &signer)?.call("ListKeys", "{}").is_ok()))?;
        Ok((server, signer, if known { begin.elapsed() } else { up }))
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends it as an operator would.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        kill(Pid::from_raw(i32::try_from(self.process.id())?), Signal::SIGTERM)?;
        let ended = self.process.wait()?;
        if ended.success() { Ok(()) } else { Err(format!("the KMS ended with {ended}").into()) }
    }

    fn connectable(&self) -> Result<bool, Failure> {
        Ok(std::os::unix::net::UnixStream::connect(&self.socket).is_ok())
    }

    fn wait(&self, since: Instant, ready: impl Fn(&Self) -> Result<bool, Failure>) -> Result<(), Failure> {
        while !ready(self)? {
            if since.elapsed() > START_DEADLINE {
                return Err("the KMS does not start".into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, as it was told to.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn access_key(places: &[PathBuf]) -> Result<Signer, Failure> {
    let words = ["kms", "access-key", "create", "--user", "root", "--json"];
    let made = Command::new(PROGRAM).args(words).args(places).output()?;
    let made: Value = serde_json::from_slice(&made.stdout)?;
    let text = |name: &str| made[name].as_str().ok_or("no access key was made");
    Ok(Signer::new(text("access_key_id")?, text("secret_access_key")?))
}

/// This thread, and what it starts, on one core.
fn run_on(core: usize) -> Result<(), Failure> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}
