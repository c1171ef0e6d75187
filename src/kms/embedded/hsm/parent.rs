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

use crate::limits;
use crate::sync::Arc;
use crate::sys::channel::Channel;
use crate::sys::child;
use crate::sys::hardening::Hardening;
use crate::sys::locked::KeyMemoryChoice;

use super::client::HsmError;
use super::process;
use super::source::DomainKeySource;
use super::spawner::{ANSWER_MAX, FAILED, START, START_ANEW, STARTED, ZEROIZE, ZEROIZED};
use super::streams;

/// The HSM's parent, which ends when this is dropped, and the HSM with it.
pub struct Parent {
    /// `None` once a question had no answer: one that came later would be taken for the answer to the next.
    channel: Option<Channel>,
    process: Child,
}

/// An HSM in a process of its own.
pub(super) struct Running {
    /// Shared with whoever may have to end a wait on it.
    pub(super) stream: Arc<UnixStream>,
    /// The one for requests that take long; shared with whoever makes one.
    pub(super) beside: Arc<UnixStream>,
    pub(super) pid: u32,
}

impl Parent {
    /// Starts this very program as the HSM's parent. To be called before there is a key or a thread in this process.
    ///
    /// # Errors
    /// Where no process can be started.
    pub fn start(memory: KeyMemoryChoice, hardening: Hardening, source: &DomainKeySource) -> io::Result<Self> {
        Self::start_program(Path::new(process::PROGRAM), memory, hardening, source)
    }

    /// Starts `program`, which is envol, as the HSM's parent; the HSM's keys lie in `memory`, and it is confined as
    /// `hardening` says.
    ///
    /// # Errors
    /// Where no process can be started.
    pub fn start_program(
        program: &Path,
        memory: KeyMemoryChoice,
        hardening: Hardening,
        source: &DomainKeySource,
    ) -> io::Result<Self> {
        let (own, theirs) = Channel::pair()?;
        own.bound_waiting(limits::HSM_START_DEADLINE)?;
        let process = Command::new(program)
            .arg0(process::PARENT)
            .arg(memory.word())
            .arg(hardening.word())
            .args(source.words())
            .env_clear()
            .stdin(if source.may_be_stdin() { Stdio::inherit() } else { Stdio::null() })
            .stdout(OwnedFd::from(theirs))
            // What a terminal sends to the front is not for the HSM: the front needs it until it has stopped.
            .process_group(0)
            .spawn()?;
        Ok(Self { channel: Some(own), process })
    }

    /// Starts an HSM, in the place of one that ran before; with a new domain key, where `may_make` and there is none.
    pub(super) fn start_hsm(&mut self, may_make: bool) -> Result<Running, HsmError> {
        let mut room = [0; ANSWER_MAX];
        match self.ask(if may_make { START_ANEW } else { START }, &mut room)? {
            ([STARTED, pid @ ..], Some(stream)) => {
                let pid = pid.try_into().map(u32::from_be_bytes).map_err(|_| HsmError::BadReply)?;
                let stream = UnixStream::from(stream);
                let beside = Arc::new(streams::beside(&stream)?);
                Ok(Running { stream: Arc::new(stream), beside, pid })
            }
            ([FAILED, text @ ..], None) => Err(HsmError::NotStarted(String::from_utf8_lossy(text).into_owned())),
            _ => Err(HsmError::BadReply),
        }
    }

    /// Ends the HSM and destroys its domain key, as far as that is ours.
    pub(super) fn zeroize(&mut self) -> Result<(), HsmError> {
        let mut room = [0; ANSWER_MAX];
        match self.ask(ZEROIZE, &mut room)? {
            ([ZEROIZED], None) => Ok(()),
            ([FAILED, text @ ..], None) => Err(HsmError::NotDestroyed(String::from_utf8_lossy(text).into_owned())),
            _ => Err(HsmError::BadReply),
        }
    }

    /// Asks the parent, which is gone for good if it does not answer.
    fn ask<'r>(&mut self, what: u8, room: &'r mut [u8]) -> Result<(&'r [u8], Option<OwnedFd>), HsmError> {
        let gone = |kind: io::ErrorKind| HsmError::NoParent(kind.into());
        let channel = self.channel.as_ref().ok_or_else(|| gone(io::ErrorKind::NotConnected))?;
        match channel.send(&[what], None).and_then(|()| channel.receive(room)) {
            Ok((length @ 1.., descriptor)) => Ok((&room[..length], descriptor)),
            Ok((0, _)) => {
                self.end();
                Err(gone(io::ErrorKind::UnexpectedEof))
            }
            Err(error) => {
                self.end();
                Err(HsmError::NoParent(error))
            }
        }
    }

    /// Ends the parent, which ends the HSM: it does so by itself when the channel closes; should it not, it is made to, and
    /// the HSM ends when its stream closes.
    fn end(&mut self) {
        drop(self.channel.take());
        child::await_end(&mut self.process, limits::HSM_STOP_DEADLINE);
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_answer_that_comes_too_late_is_not_taken_for_another() {
        let (own, theirs) = Channel::pair().expect("a pair");
        own.bound_waiting(Duration::from_millis(1)).expect("bounded");
        let process = Command::new("sleep").arg("60").spawn().expect("starts");
        let mut parent = Parent { channel: Some(own), process };
        assert!(matches!(parent.start_hsm(false), Err(HsmError::NoParent(_))), "it is stuck");
        let mut asked = [0];
        assert_eq!(theirs.receive(&mut asked).expect("there").0, 1);
        assert!(theirs.send(&[ZEROIZED], None).is_err(), "nobody would know to what that is the answer");
        assert!(matches!(parent.zeroize(), Err(HsmError::NoParent(_))));
        assert_eq!(theirs.receive(&mut asked).expect("closed").0, 0, "nothing more was asked");
        assert!(parent.process.try_wait().expect("ours").is_some(), "it is gone, as is said");
    }
}
