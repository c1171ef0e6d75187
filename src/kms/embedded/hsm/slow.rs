//! Requests that take seconds, which are those for RSA keys: on a stream of their own, so that no other request waits for them.
//!
//! The HSM makes one such key after the other. Those who ask for more than a few at once are refused, and do not wait. An
//! answer that is late is waited for by whoever asks next; the HSM is not killed for it, since all others are answered.

use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::kms::frame;
use crate::limits;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, Weak};
use crate::sys::locked::LockedMemory;

use super::client::HsmError;

/// Who asks for what takes long.
pub(super) struct Slow {
    /// How long one answer may take.
    deadline: Duration,
    /// How many do.
    asking: AtomicUsize,
    /// Held by the one whose request is carried out: the stream on which an answer is missing for which nobody waits any longer.
    owing: Mutex<Weak<UnixStream>>,
}

/// The right to ask, counted.
pub(super) struct Turn<'a>(&'a Slow);

impl Slow {
    pub(super) fn new(deadline: Duration) -> Self {
        Self { deadline, asking: AtomicUsize::new(0), owing: Mutex::default() }
    }

    /// The right to ask, if few others do.
    pub(super) fn turn(&self) -> Result<Turn<'_>, HsmError> {
        let turn = Turn(self);
        // The count is given back with the turn, a refused one too.
        if self.asking.fetch_add(1, Ordering::SeqCst) < limits::HSM_RSA_KEYS_AT_ONCE {
            Ok(turn)
        } else {
            Err(HsmError::Busy)
        }
    }

    fn exchange(&self, stream: &UnixStream, owes: bool, request: &[u8]) -> Result<LockedMemory, HsmError> {
        if owes {
            drop(self.read(stream)?);
        }
        let mut writing = stream;
        frame::write(&mut writing, request)?;
        self.read(stream)
    }

    /// The next answer. Where its deadline passes nothing of it was taken, so that it can be waited for again.
    fn read(&self, mut stream: &UnixStream) -> Result<LockedMemory, HsmError> {
        stream.set_read_timeout(Some(self.deadline))?;
        let mut first = [0];
        stream.read_exact(&mut first).map_err(|error| if is_late(&error) { HsmError::Late } else { error.into() })?;
        stream.set_read_timeout(Some(limits::HSM_ANSWER_DEADLINE))?;
        frame::read(&mut first.as_slice().chain(stream))?.ok_or(HsmError::Gone)
    }
}

impl Turn<'_> {
    /// The answer to `request` on the stream that `running` finds, and that stream, once those before have theirs.
    pub(super) fn exchange(
        &self,
        running: impl FnOnce() -> Result<Arc<UnixStream>, HsmError>,
        request: &[u8],
    ) -> Result<(Result<LockedMemory, HsmError>, Arc<UnixStream>), HsmError> {
        let mut owing = self.0.owing.lock();
        let stream = running()?;
        let owes = owing.upgrade().is_some_and(|owing| Arc::ptr_eq(&owing, &stream));
        *owing = Arc::downgrade(&stream);
        let outcome = self.0.exchange(&stream, owes, request);
        if outcome.is_ok() {
            *owing = Weak::new();
        }
        Ok((outcome, stream))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.asking.fetch_sub(1, Ordering::SeqCst);
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(slow: &Slow, stream: &Arc<UnixStream>) -> Result<Vec<u8>, HsmError> {
        let (answer, _) = slow.turn()?.exchange(|| Ok(Arc::clone(stream)), b"asked")?;
        answer.map(|answer| answer.bytes().to_vec())
    }

    #[test]
    fn as_many_as_the_limit_ask_and_whoever_has_done_makes_room() {
        let slow = Slow::new(Duration::from_secs(1));
        let mut turns: Vec<_> = (0..limits::HSM_RSA_KEYS_AT_ONCE).map(|_| slow.turn().expect("within it")).collect();
        for _ in 0..2 {
            assert!(matches!(slow.turn(), Err(HsmError::Busy)), "a refusal takes no place and gives none back");
        }
        turns.pop();
        turns.push(slow.turn().expect("one has done"));
        assert!(matches!(slow.turn(), Err(HsmError::Busy)));
    }

    #[test]
    fn an_answer_that_is_late_is_not_taken_for_the_next_one() {
        let slow = Slow::new(Duration::from_millis(1));
        let (own, mut hsm) = UnixStream::pair().expect("a pair");
        let own = Arc::new(own);
        for _ in 0..2 {
            assert!(matches!(asked(&slow, &own), Err(HsmError::Late)), "also where the first answer is still missing");
        }
        frame::write(&mut hsm, b"late").expect("open");
        frame::write(&mut hsm, b"in time").expect("open");
        assert_eq!(asked(&slow, &own).expect("answered"), b"in time");
        frame::write(&mut hsm, b"the next").expect("open");
        assert_eq!(asked(&slow, &own).expect("answered"), b"the next");
        assert!(matches!(asked(&slow, &own), Err(HsmError::Late)));
        let (other, mut hsm) = UnixStream::pair().expect("a pair");
        frame::write(&mut hsm, b"of another HSM").expect("open");
        assert_eq!(asked(&slow, &Arc::new(other)).expect("answered"), b"of another HSM", "it owes nothing");
    }
}
