//! The front's way to an HSM in a process of its own, which may die at any moment and is started again.
//!
//! The HSM keeps nothing between two requests, so that each can be asked again of the next one; and nothing that it does
//! is durable before the front has stored it. A request is therefore lost only where HSM after HSM dies under it.

use std::io::{self, ErrorKind};

use tracing::{info, warn};

use crate::limits;
use crate::sync::Mutex;
use crate::sys::locked::LockedMemory;

use super::client::HsmError;
use super::parent::{Parent, Running};
use super::protocol::{Reply, Request, read_frame, write_frame};

/// HSMs that one request is asked of, at the most.
const ATTEMPTS: usize = 3;

/// The HSM and the way to get another.
pub(super) struct Separate {
    parent: Parent,
    link: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    /// `None` before the first request, and once an exchange has failed.
    running: Option<Running>,
    /// Whether a domain key may be made where there is none.
    may_make: bool,
    /// Whether there must be no HSM.
    zeroized: bool,
    /// What an HSM must answer to be the one that belongs to the store.
    expected: Option<[u8; 32]>,
}

impl Separate {
    pub(super) fn new(parent: Parent) -> Self {
        Self { parent, link: Mutex::default() }
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

    /// From here on there is no HSM.
    pub(super) fn stay_zeroized(&self) {
        self.link.lock().zeroized = true;
    }

    pub(super) fn is_zeroized(&self) -> bool {
        self.link.lock().zeroized
    }

    /// Ends the HSM and has its domain key destroyed, as far as that is ours.
    pub(super) fn zeroize(&self) -> Result<(), HsmError> {
        let mut link = self.link.lock();
        link.zeroized = true;
        // It would end when this closes, even if nobody were left to kill it.
        link.running = None;
        self.parent.zeroize()
    }

    /// Has an HSM started, which must be the store's.
    pub(super) fn initialise(&self) -> Result<(), HsmError> {
        let mut link = self.link.lock();
        if link.running.is_none() {
            link.running = Some(link.start(&self.parent)?);
        }
        link.zeroized = false;
        Ok(())
    }

    /// The process id of the HSM that answered last.
    pub(super) fn pid(&self) -> Option<u32> {
        self.link.lock().running.as_ref().map(|running| running.pid)
    }

    pub(super) fn exchange(&self, request: &[u8]) -> Result<LockedMemory, HsmError> {
        let mut link = self.link.lock();
        if link.zeroized {
            return Err(HsmError::Zeroized);
        }
        let mut last = HsmError::Gone;
        for _ in 0..ATTEMPTS {
            match link.ask(&self.parent, request) {
                Err(error) if has_died(&error) => {
                    warn!(%error, "the HSM has died");
                    last = error;
                }
                outcome => return outcome,
            }
        }
        Err(last)
    }
}

impl Link {
    /// Asks the HSM, which is started first where none runs.
    fn ask(&mut self, parent: &Parent, request: &[u8]) -> Result<LockedMemory, HsmError> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start(parent)?,
        };
        let reply = ask(&mut running, request)?;
        self.running = Some(running);
        Ok(reply)
    }

    fn start(&self, parent: &Parent) -> Result<Running, HsmError> {
        let mut running = parent.start_hsm(self.may_make)?;
        running.stream.set_write_timeout(Some(limits::HSM_ANSWER_DEADLINE))?;
        running.stream.set_read_timeout(Some(limits::HSM_START_DEADLINE))?;
        let message = ask(&mut running, Request::CheckValue.encode()?.bytes())?;
        match Reply::decode(message.bytes())? {
            Reply::CheckValue(value) if self.expected.is_none_or(|expected| expected == value) => {}
            Reply::CheckValue(_) => return Err(HsmError::OtherDomainKey),
            Reply::Failed(failure) => return Err(HsmError::Failed(failure)),
            _ => return Err(HsmError::BadReply),
        }
        running.stream.set_read_timeout(Some(limits::HSM_ANSWER_DEADLINE))?;
        info!(pid = running.pid, "the HSM runs");
        Ok(running)
    }
}

fn ask(running: &mut Running, request: &[u8]) -> Result<LockedMemory, HsmError> {
    write_frame(&mut running.stream, request)?;
    read_frame(&mut running.stream)?.ok_or(HsmError::Gone)
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
