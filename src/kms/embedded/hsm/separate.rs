//! The front's way to an HSM in a process of its own, which may die at any moment and is started again.
//!
//! The HSM keeps nothing between two requests, so that each can be asked again of the next one; and nothing that it does
//! is durable before the front has stored it. A request is therefore lost only where HSM after HSM dies under it.
//! One request at a time: whoever asks holds the link until the answer is there, some microseconds. Requests that take
//! seconds go beside it, over the second stream (`slow`). Zeroizing waits for neither.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tracing::{info, warn};

use crate::kms::frame;
use crate::limits;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, Weak};
use crate::sys::locked::LockedMemory;

use super::client::HsmError;
use super::parent::{Parent, Running};
use super::protocol::{Reply, Request};
use super::slow::Slow;

/// HSMs that one request is asked of, at the most.
const ATTEMPTS: usize = 3;

/// The HSM and the way to get another.
pub(super) struct Separate {
    link: Mutex<Link>,
    /// Whether there must be no HSM. Known without the link, which somebody holds who waits for an answer.
    zeroized: AtomicBool,
    /// The streams of the HSM that was started last, so that such waiting can be ended.
    streams: Mutex<[Weak<UnixStream>; 2]>,
    slow: Slow,
}

struct Link {
    parent: Parent,
    /// `None` before the first request, and once an exchange has failed.
    running: Option<Running>,
    /// Whether a domain key may be made where there is none.
    may_make: bool,
    /// What an HSM must answer to be the one that belongs to the store.
    expected: Option<[u8; 32]>,
}

impl Separate {
    pub(super) fn new(parent: Parent) -> Self {
        let link = Mutex::new(Link { parent, running: None, may_make: false, expected: None });
        Self {
            link,
            zeroized: AtomicBool::new(false),
            streams: Mutex::default(),
            slow: Slow::new(limits::HSM_RSA_DEADLINE),
        }
    }

    /// Whether a domain key may be made where there is none.
    pub(super) fn allow_new_domain_key(&self, allowed: bool) {
        self.link.lock().may_make = allowed;
    }

    /// From here on only an HSM with this check value is used, and no domain key is made.
    pub(super) fn expect(&self, check_value: [u8; 32]) {
        let mut link = self.link.lock();
        link.expected = Some(check_value);
        link.may_make = false;
    }

    /// From here on there is no HSM, and whoever waits for its answer waits no longer.
    pub(super) fn halt(&self) {
        self.zeroized.store(true, Ordering::SeqCst);
        for stream in self.streams.lock().iter().filter_map(Weak::upgrade) {
            // Where this fails the stream is closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// From here on there is no HSM: the one that runs ends when its stream closes.
    pub(super) fn stay_zeroized(&self) {
        self.halt();
        self.link.lock().running = None;
    }

    /// Ends the HSM and has its domain key destroyed, as far as that is ours.
    pub(super) fn zeroize(&self) -> Result<(), HsmError> {
        self.halt();
        let mut link = self.link.lock();
        // It would end when this closes, even if nobody were left to kill it.
        link.running = None;
        link.parent.zeroize()
    }

    /// Has an HSM started, which must be the store's.
    pub(super) fn initialise(&self) -> Result<(), HsmError> {
        let mut link = self.link.lock();
        // Who zeroizes while this goes on has the last word.
        let before = self.zeroized.swap(false, Ordering::SeqCst);
        if link.running.is_none() {
            let started = self.start(&mut link);
            if started.is_err() && before {
                self.zeroized.store(true, Ordering::SeqCst);
            }
            link.running = Some(started?);
        }
        Ok(())
    }

    /// The process id of the HSM that answered last.
    pub(super) fn pid(&self) -> Option<u32> {
        self.link.lock().running.as_ref().map(|running| running.pid)
    }

    /// The answer to `request`, which takes microseconds.
    pub(super) fn exchange(&self, request: &[u8]) -> Result<LockedMemory, HsmError> {
        self.refuse_zeroized()?;
        let mut link = self.link.lock();
        self.repeat(|| self.ask(&mut link, request))
    }

    /// The answer to `request`, which takes seconds: nobody else waits for it but who asks for the like.
    pub(super) fn exchange_slow(&self, request: &[u8]) -> Result<LockedMemory, HsmError> {
        self.refuse_zeroized()?;
        let turn = self.slow.turn()?;
        self.repeat(|| {
            let (outcome, beside) = turn.exchange(|| self.beside(), request)?;
            match outcome {
                Err(error) if !matches!(error, HsmError::Late) => {
                    self.give_up(&beside);
                    Err(error)
                }
                outcome => outcome,
            }
        })
    }

    /// Tries `exchange` with one HSM after the other, as long as they die.
    fn repeat(&self, mut exchange: impl FnMut() -> Result<LockedMemory, HsmError>) -> Result<LockedMemory, HsmError> {
        let mut last = HsmError::Gone;
        for _ in 0..ATTEMPTS {
            self.refuse_zeroized()?;
            match exchange() {
                Err(error) if has_died(&error) => last = error,
                outcome => return outcome,
            }
            self.refuse_zeroized()?;
            warn!(error = %last, "the HSM has died");
        }
        Err(last)
    }

    /// The second stream of the HSM, which is started first where none runs.
    fn beside(&self) -> Result<Arc<UnixStream>, HsmError> {
        let mut link = self.link.lock();
        self.refuse_zeroized()?;
        let running = match link.running.take() {
            Some(running) => running,
            None => self.start(&mut link)?,
        };
        Ok(Arc::clone(&link.running.insert(running).beside))
    }

    /// Gives the HSM up whose second stream has failed, unless another runs by now.
    fn give_up(&self, beside: &Arc<UnixStream>) {
        let mut link = self.link.lock();
        link.running.take_if(|running| Arc::ptr_eq(&running.beside, beside));
    }

    fn refuse_zeroized(&self) -> Result<(), HsmError> {
        if self.zeroized.load(Ordering::SeqCst) { Err(HsmError::Zeroized) } else { Ok(()) }
    }

    /// Asks the HSM, which is started first where none runs.
    fn ask(&self, link: &mut Link, request: &[u8]) -> Result<LockedMemory, HsmError> {
        let running = match link.running.take() {
            Some(running) => running,
            None => self.start(link)?,
        };
        let reply = ask(&running, request, limits::HSM_ANSWER_DEADLINE)?;
        link.running = Some(running);
        Ok(reply)
    }

    fn start(&self, link: &mut Link) -> Result<Running, HsmError> {
        let running = link.parent.start_hsm(link.may_make)?;
        for stream in [&running.stream, &running.beside] {
            stream.set_write_timeout(Some(limits::HSM_ANSWER_DEADLINE))?;
        }
        *self.streams.lock() = [&running.stream, &running.beside].map(Arc::downgrade);
        // Who halts says so first and then ends what is found there: one of the two sees the other.
        self.refuse_zeroized()?;
        let message = ask(&running, Request::CheckValue.encode()?.bytes(), limits::HSM_START_DEADLINE)?;
        match Reply::decode(message.bytes())? {
            Reply::CheckValue(value) if link.expected.is_none_or(|expected| expected == value) => {}
            Reply::CheckValue(_) => return Err(HsmError::OtherDomainKey),
            Reply::Failed(failure) => return Err(HsmError::Failed(failure)),
            _ => return Err(HsmError::BadReply),
        }
        info!(pid = running.pid, "the HSM runs");
        Ok(running)
    }
}

fn ask(running: &Running, request: &[u8], deadline: Duration) -> Result<LockedMemory, HsmError> {
    let mut stream = &*running.stream;
    stream.set_read_timeout(Some(deadline))?;
    frame::write(&mut stream, request)?;
    frame::read(&mut stream)?.ok_or(HsmError::Gone)
}

/// Whether another HSM may give an answer. One that is slow is not asked for again at once: whoever waits has waited
/// long enough.
fn has_died(error: &HsmError) -> bool {
    match error {
        HsmError::Gone => true,
        HsmError::Stream(error) => is_closed(error),
        _ => false,
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}
