//! The processes that call the KMS, and their parent: this same program, told apart by the name it is started under.
//!
//! The parent starts a process for each call that it is asked for, with the stream to the daemon on standard output, and
//! waits for none: a process that has given its answer ends, one whose stream closes ends at once, and one that does
//! neither is killed. When the daemon is gone, so is all of this.
//!
//! A process that calls reads what it needs of credentials and certificates, and is then confined, as the configuration
//! asks: it may read what names and certificates are looked up in, connect to the ports of the KMS, and run nothing. It
//! leaves no core, cannot be looked into, and is out of swap where the limit on locked memory allows it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::exchange::{self, Reply, Request};
use crate::kms::{DataKey, KmsError, frame};
use crate::limits;
use crate::sys::channel::Channel;
use crate::sys::confinement::{self, Reachable};
use crate::sys::hardening::{self, Hardening};
use crate::sys::locked::{self, KeyMemoryChoice};
use crate::sys::seclusion;

/// The name of the parent.
pub(super) const PARENT: &str = "envol-kms-parent";
/// The name of a process that calls.
const CALLER: &str = "envol-kms-call";
/// This program, whatever lies under its name by now.
pub(super) const PROGRAM: &str = "/proc/self/exe";

/// What the parent is asked for: a process that calls. The stream to it comes along.
pub(super) const CALL: u8 = 1;

/// How often the parent looks whether processes have ended, while there are any.
const LOOKING: Duration = Duration::from_secs(1);

/// Where names and certificates are looked up: the C library's files and plugins, and the system's certificates.
const LOOKED_UP: [&str; 13] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/ld.so.cache",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/lib",
    "/lib",
    "/lib64",
];

/// What a call came to: what is told of it, and the data key where there is one.
pub(super) type Outcome = Result<(Reply, Option<DataKey>), KmsError>;

/// Does the work of the process that this one was started as, if its name is one of theirs.
pub fn run_as_named() -> Option<ExitCode> {
    let mut words = env::args_os();
    let outcome = match words.next()?.to_str()? {
        PARENT => run_parent(words),
        CALLER => run_call(words),
        _ => return None,
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody reads standard error there is nobody to tell.
            let _ = writeln!(io::stderr(), "envol: a call to the KMS failed: {error}");
            ExitCode::FAILURE
        }
    })
}

fn run_parent(mut words: impl Iterator<Item = OsString>) -> io::Result<()> {
    hardening::seal_process()?;
    seclusion::keep_descriptors_to_ourselves()?;
    let manner = [words.next().unwrap_or_default(), words.next().unwrap_or_default()];
    let channel = Channel::from(seclusion::socket_of_stdout()?);
    let mut calls = Calls(Vec::new());
    loop {
        // Without a deadline while there is nothing to look after: an idle parent does not wake up.
        channel.bound_waiting(if calls.0.is_empty() { Duration::ZERO } else { LOOKING })?;
        let mut asked = [0];
        match channel.receive(&mut asked) {
            Ok((0, _)) => return Ok(()),
            Ok((1, Some(stream))) if asked == [CALL] => calls.start(&manner, stream),
            Ok(_) => return Err(ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        calls.look_after();
    }
}

/// The processes that call, each with the moment at which it has had its time.
struct Calls(Vec<(Child, Instant)>);

impl Calls {
    fn start(&mut self, manner: &[OsString], stream: OwnedFd) {
        let mut command = Command::new(PROGRAM);
        command.arg0(CALLER).args(manner).env_clear().stdin(Stdio::null()).stdout(stream);
        match command.spawn() {
            Ok(child) => self.0.push((child, Instant::now() + 2 * limits::KMS_CALL_DEADLINE)),
            // The stream is closed with the command, which tells the daemon.
            Err(error) => {
                let _ = writeln!(io::stderr(), "envol: no process to call the KMS from: {error}");
            }
        }
    }

    /// Forgets those that have ended, and ends those that have had their time.
    fn look_after(&mut self) {
        self.0.retain_mut(|(child, until)| {
            if Instant::now() >= *until {
                let _ = child.kill();
            }
            matches!(child.try_wait(), Ok(None))
        });
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One call, from the first message of the stream to the answer.
fn run_call(mut words: impl Iterator<Item = OsString>) -> io::Result<()> {
    hardening::seal_process()?;
    let mut stream = UnixStream::from(seclusion::socket_of_stdout()?);
    let memory = words.next().as_deref().and_then(OsStr::to_str).and_then(KeyMemoryChoice::named);
    let hardening = words.next().as_deref().and_then(OsStr::to_str).and_then(Hardening::named);
    let (memory, hardening) = memory.zip(hardening).ok_or(ErrorKind::InvalidInput)?;
    // Where it cannot be had, the answer has no place, and that is what is told.
    let reserved = locked::choose_for(limits::HSM_KEY_MEMORY_BYTES, memory);
    seclusion::lock_all_memory_where_there_is_room();
    let Some(message) = frame::read(&mut stream)? else { return Ok(()) };
    let (request, secret) = exchange::decode::<Request>(message.bytes())?;
    let outcome = reserved.map_err(KmsError::from).and_then(|_| call(&request, secret, hardening, &stream));
    let (reply, data_key) = outcome.unwrap_or_else(|error| (Reply::Failed(error.into()), None));
    let secret = data_key.as_ref().map_or([].as_slice(), |key| key.expose());
    frame::write(&mut stream, exchange::encode(&reply, secret)?.bytes())
}

#[cfg(feature = "aws")]
fn call(request: &Request, secret: &[u8], hardening: Hardening, stream: &UnixStream) -> Outcome {
    let prepared = super::sdk::Prepared::of(&request.settings)?;
    let read = LOOKED_UP.iter().map(Into::into).collect();
    let reachable = Reachable { read, connected: request.settings.ports(), ..Reachable::default() };
    let confined = confinement::confine(hardening, &reachable);
    confined.map_err(|why| KmsError::Unreachable(format!("the process that calls it cannot be confined: {why}")))?;
    prepared.call(&request.asked, secret, stream)
}

#[cfg(not(feature = "aws"))]
fn call(_: &Request, _: &[u8], _: Hardening, _: &UnixStream) -> Outcome {
    Err(KmsError::Unreachable("this envol was built without AWS's client".to_owned()))
}
