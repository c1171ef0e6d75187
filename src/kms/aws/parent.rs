//! The daemon's hold on the parent of the processes that call.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::process::{self, PARENT, PROGRAM};
use super::settings::Settings;
use crate::kms::KmsError;
use crate::limits;
use crate::sync::Mutex;
use crate::sys::channel::Channel;
use crate::sys::child;
use crate::sys::hardening::Hardening;
use crate::sys::locked::KeyMemoryChoice;

/// The parent, which ends when this is dropped, and every call with it.
pub struct Parent {
    /// Held for as long as it takes to send.
    channel: Mutex<Option<Channel>>,
    process: Child,
}

impl Parent {
    /// Starts this very program as that parent, to call the KMSs that `sections` name. To be called before there is a key or a
    /// thread in this process, and before it is confined.
    ///
    /// # Errors
    /// Where no process can be started.
    pub fn start(
        memory: KeyMemoryChoice,
        hardening: Hardening,
        sections: &BTreeMap<String, Settings>,
    ) -> io::Result<Self> {
        Self::start_program(Path::new(PROGRAM), memory, hardening, sections)
    }

    /// Starts `program`, which is envol, as that parent; data keys lie in `memory` where it calls, which is confined as
    /// `hardening` says.
    ///
    /// # Errors
    /// Where no process can be started.
    pub fn start_program(
        program: &Path,
        memory: KeyMemoryChoice,
        hardening: Hardening,
        sections: &BTreeMap<String, Settings>,
    ) -> io::Result<Self> {
        let (own, theirs) = Channel::pair()?;
        let mut process = Command::new(program)
            .arg0(PARENT)
            .arg(memory.word())
            .arg(hardening.word())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(OwnedFd::from(theirs))
            // What a terminal sends to the daemon is not for it: the daemon needs it until it has stopped.
            .process_group(0)
            .spawn()?;
        // Closed with this: it is told once.
        let told = process.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(&serde_json::to_vec(sections)?));
        if let Err(error) = told {
            child::await_end(&mut process, Duration::ZERO);
            return Err(error);
        }
        Ok(Self { channel: Mutex::new(Some(own)), process })
    }

    /// Starts a process that makes one call of the KMS of `section`; the stream to it.
    pub(super) fn start_call(&self, section: &str) -> Result<UnixStream, KmsError> {
        self.send_call(section).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected => {
                let error = KmsError::NoCaller("the process that started those which call it has ended".to_owned());
                tracing::error!(kms = section, %error, "restart the daemon");
                error
            }
            _ => KmsError::Unreachable(format!("the process that calls it could not be started: {error}")),
        })
    }

    fn send_call(&self, section: &str) -> io::Result<UnixStream> {
        let (own, theirs) = UnixStream::pair()?;
        let channel = self.channel.lock();
        channel.as_ref().ok_or(ErrorKind::NotConnected)?.send(&process::call_of(section), Some(theirs.as_fd()))?;
        Ok(own)
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        drop(self.channel.lock().take());
        child::await_end(&mut self.process, limits::HSM_STOP_DEADLINE);
    }
}
