//! The front's hold on the HSM's parent.
//!
//! It is started before the front has a key or a thread, and by exec, so that it shares no memory with it. The front never
//! forks again: whatever process the HSM needs later, the parent starts.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::limits;
use crate::sys::channel::Channel;

use super::client::HsmError;
use super::process;
use super::source::DomainKeySource;
use super::spawner::{ANSWER_MAX, FAILED, START, START_ANEW, STARTED};

/// The HSM's parent, which ends when this is dropped, and the HSM with it.
pub struct Parent {
    /// `None` only while it is being dropped.
    channel: Option<Channel>,
    process: Child,
}

/// An HSM in a process of its own.
pub(super) struct Running {
    pub(super) stream: UnixStream,
    pub(super) pid: u32,
}

impl Parent {
    /// Starts this very program as the HSM's parent. To be called before there is a key or a thread in this process.
    ///
    /// # Errors
    /// Where no process can be started.
    pub fn start(source: &DomainKeySource) -> io::Result<Self> {
        Self::start_program(Path::new(process::PROGRAM), source)
    }

    /// Starts `program`, which is envol, as the HSM's parent.
    ///
    /// # Errors
    /// Where no process can be started.
    pub fn start_program(program: &Path, source: &DomainKeySource) -> io::Result<Self> {
        let (own, theirs) = Channel::pair()?;
        own.bound_waiting(limits::HSM_START_DEADLINE)?;
        let process = Command::new(program)
            .arg0(process::PARENT)
            .args(source.words())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(OwnedFd::from(theirs))
            // What a terminal sends to the front is not for the HSM: the front needs it until it has stopped.
            .process_group(0)
            .spawn()?;
        Ok(Self { channel: Some(own), process })
    }

    /// Starts an HSM, in the place of one that ran before; with a new domain key, where `may_make` and there is none.
    pub(super) fn start_hsm(&self, may_make: bool) -> Result<Running, HsmError> {
        let channel = self.channel.as_ref().expect("there until this is dropped");
        channel.send(&[if may_make { START_ANEW } else { START }], None).map_err(HsmError::NoParent)?;
        let mut room = [0; ANSWER_MAX];
        let (length, descriptor) = channel.receive(&mut room).map_err(HsmError::NoParent)?;
        match (&room[..length], descriptor) {
            ([STARTED, pid @ ..], Some(stream)) => {
                let pid = pid.try_into().map(u32::from_be_bytes).map_err(|_| HsmError::BadReply)?;
                Ok(Running { stream: stream.into(), pid })
            }
            ([FAILED, text @ ..], None) => Err(HsmError::NotStarted(String::from_utf8_lossy(text).into_owned())),
            ([], _) => Err(HsmError::NoParent(io::ErrorKind::UnexpectedEof.into())),
            _ => Err(HsmError::BadReply),
        }
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        // It ends when this closes; should it not, it is made to.
        drop(self.channel.take());
        let deadline = Instant::now() + limits::HSM_STOP_DEADLINE;
        while Instant::now() < deadline {
            match self.process.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(2)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
