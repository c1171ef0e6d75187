//! The HSM's parent, in its own process: it starts the HSM when it is asked to, ends it, and knows no key.
//!
//! ```text
//! asked     1 start (the domain key must be there) | 2 start (it may be made) | 3 zeroize
//! answered  0 pid u32 big-endian, with the front's end of the streams to the HSM (`streams`) | 1 why not, as text | 2 zeroized
//! ```
//! Whoever asks for a start has lost the HSM that ran before, which is killed first, whatever it does. When the front
//! is gone, so is all of this.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::unistd::Uid;

use crate::kms::embedded::domain_key::DomainKeyError;
use crate::sys::channel::Channel;
use crate::sys::{hardening, seclusion};

use super::process::{HSM, MAKER, PROGRAM};
use super::source::{DomainKeySource, Opened};
use super::streams;

/// What is asked for: an HSM.
pub(super) const START: u8 = 1;
/// What is asked for: an HSM, and a domain key for it if there is none.
pub(super) const START_ANEW: u8 = 2;
/// What is asked for: no HSM, and no domain key where one could be found.
pub(super) const ZEROIZE: u8 = 3;
/// How an answer begins that brings a stream.
pub(super) const STARTED: u8 = 0;
/// How an answer begins that says why not.
pub(super) const FAILED: u8 = 1;
/// The answer that says that neither HSM nor domain key are left.
pub(super) const ZEROIZED: u8 = 2;
/// Bytes of the longest answer.
pub(super) const ANSWER_MAX: usize = 4096;

/// Why the HSM was not started.
#[derive(Debug, thiserror::Error)]
enum NotStarted {
    #[error(transparent)]
    DomainKey(#[from] DomainKeyError),
    #[error("its process could not be started: {0}")]
    Process(#[from] io::Error),
}

/// The process: answers what the front asks until it is gone.
pub(super) fn run(mut words: impl Iterator<Item = OsString>) -> io::Result<()> {
    hardening::seal_process()?;
    seclusion::keep_descriptors_to_ourselves()?;
    let manner = Manner { memory: words.next().unwrap_or_default(), hardening: words.next().unwrap_or_default() };
    let source = DomainKeySource::read(words).map_err(io::Error::other)?;
    let channel = Channel::from(seclusion::socket_of_stdout()?);
    let mut hsm = Running(None);
    loop {
        let mut asked = [0];
        match channel.receive(&mut asked)? {
            (1, None) => hsm.end(),
            (0, _) => return Ok(()),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        let (answer, stream) = match asked {
            [START] => hsm.started(start(&manner, &source, false)),
            [START_ANEW] => hsm.started(start(&manner, &source, true)),
            [ZEROIZE] => (zeroized(source.destroy()), None),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        channel.send(&answer, stream.as_ref().map(AsFd::as_fd))?;
    }
}

/// In which memory the HSM has its keys, and how it is confined, in the words of the configuration.
struct Manner {
    memory: OsString,
    hardening: OsString,
}

fn zeroized(outcome: io::Result<()>) -> Vec<u8> {
    match outcome {
        Ok(()) => vec![ZEROIZED],
        Err(error) => failed(&error),
    }
}

fn failed(error: &impl ToString) -> Vec<u8> {
    let mut answer = [&[FAILED], error.to_string().as_bytes()].concat();
    answer.truncate(ANSWER_MAX);
    answer
}

/// The HSM that runs; it ends when this does.
struct Running(Option<Child>);

impl Running {
    /// Keeps the HSM that was started; what the front is answered.
    fn started(&mut self, outcome: Result<(Child, UnixStream), NotStarted>) -> (Vec<u8>, Option<UnixStream>) {
        match outcome {
            Ok((child, stream)) => {
                let answer = [&[STARTED][..], &child.id().to_be_bytes()].concat();
                self.0 = Some(child);
                (answer, Some(stream))
            }
            Err(error) => (failed(&error), None),
        }
    }

    /// Kills it, stopped or stuck as it may be, and waits until it is gone.
    fn end(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended by itself; either way it is a child of ours that has not been waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn start(manner: &Manner, source: &DomainKeySource, may_make: bool) -> Result<(Child, UnixStream), NotStarted> {
    let how = (Uid::effective().as_raw(), may_make);
    let Opened { descriptor, words } = source.open(how, |file| make_domain_key(&manner.memory, file))?;
    let (front, own) = streams::pair()?;
    let mut hsm = program(HSM);
    hsm.arg(&manner.memory).arg(&manner.hardening).args(words).current_dir("/");
    let child = hsm.stdin(descriptor).stdout(OwnedFd::from(own)).spawn()?;
    Ok((child, front))
}

/// Has another process write a new domain key into `file`, durably.
fn make_domain_key(memory: &OsStr, file: &mut File) -> io::Result<()> {
    let status = program(MAKER).arg(memory).stdin(Stdio::null()).stdout(file.try_clone()?).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("the process that makes it failed")) }
}

fn program(name: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg0(name).env_clear();
    command
}
