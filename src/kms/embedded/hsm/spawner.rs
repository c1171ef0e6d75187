//! The HSM's parent, in its own process: it starts the HSM when it is asked to, ends it, and knows no key.
//!
//! ```text
//! asked     1 start (the domain key must be there) | 2 start (it may be made)
//! answered  0 pid u32 big-endian, with the front's end of the stream to the HSM | 1 why not, as text
//! ```
//! Whoever asks for a start has lost the HSM that ran before, which is killed first, whatever it does. When the front
//! is gone, so is all of this.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::kms::embedded::domain_key::DomainKeyError;
use crate::sys::channel::Channel;
use crate::sys::{hardening, seclusion};

use super::process::{HSM, MAKER, PROGRAM};
use super::source::{DomainKeySource, Opened};

/// What is asked for: an HSM.
pub(super) const START: u8 = 1;
/// What is asked for: an HSM, and a domain key for it if there is none.
pub(super) const START_ANEW: u8 = 2;
/// How an answer begins that brings a stream.
pub(super) const STARTED: u8 = 0;
/// How an answer begins that says why not.
pub(super) const FAILED: u8 = 1;
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
pub(super) fn run(words: impl Iterator<Item = OsString>) -> io::Result<()> {
    hardening::seal_process()?;
    seclusion::keep_descriptors_to_ourselves()?;
    let source = DomainKeySource::read(words).map_err(io::Error::other)?;
    let channel = Channel::from(seclusion::socket_of_stdout()?);
    let mut hsm = Running(None);
    loop {
        let mut asked = [0];
        let may_make = match channel.receive(&mut asked)? {
            (1, None) if asked == [START] => false,
            (1, None) if asked == [START_ANEW] => true,
            (0, _) => return Ok(()),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        hsm.end();
        match start(&source, may_make) {
            Ok((child, stream)) => {
                let answer = [&[STARTED][..], &child.id().to_be_bytes()].concat();
                hsm.0 = Some(child);
                channel.send(&answer, Some(stream.as_fd()))?;
            }
            Err(error) => {
                let mut answer = [&[FAILED], error.to_string().as_bytes()].concat();
                answer.truncate(ANSWER_MAX);
                channel.send(&answer, None)?;
            }
        }
    }
}

/// The HSM that runs; it ends when this does.
struct Running(Option<Child>);

impl Running {
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

fn start(source: &DomainKeySource, may_make: bool) -> Result<(Child, UnixStream), NotStarted> {
    let Opened { descriptor, words } = source.open(may_make, make_domain_key)?;
    let (front, own) = UnixStream::pair()?;
    let child = program(HSM).args(words).current_dir("/").stdin(descriptor).stdout(OwnedFd::from(own)).spawn()?;
    Ok((child, front))
}

/// Has another process write a new domain key into `file`, durably.
fn make_domain_key(file: &mut File) -> io::Result<()> {
    let status = program(MAKER).stdin(Stdio::null()).stdout(file.try_clone()?).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("the process that makes it failed")) }
}

fn program(name: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg0(name).env_clear();
    command
}
