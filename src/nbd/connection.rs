//! One client, from its greeting to its end: the thread that receives, and carries out at once what needs no waiting.
//!
//! Handshake, then batches (`batch`) until the client leaves, breaks the protocol or vanishes. What arrived before that
//! is carried out and answered; a WRITE whose payload never arrived whole is not carried out at all.

use std::time::{Duration, Instant};

use super::batch::{Batch, LARGE_PAYLOAD, Next};
use super::buffer::Buffer;
use super::dispatch::Dispatch;
use super::handshake::{Entry, Handshake, Step};
use super::link::{Link, LinkError};
use super::memory::{Budget, Roomy};
use super::misses::Misses;
use super::processors::{Habit, Processors};
use super::request::{Breach, Terms, Work};
use super::server::Bounds;
use super::solitude::Solitude;
use super::workers::{Job, Workers};
use super::{Export, Exports, Session, reply::Pending};
use crate::sync::Arc;

/// The buffers of a connection that has little to do.
const QUIET: usize = 2 * LARGE_PAYLOAD;
/// The buffers of a busy one.
const BUSY: usize = 512 << 10;
/// A busy connection that has been silent for so long gives its large buffers back.
const QUIET_AFTER: Duration = Duration::from_secs(1);
/// How much is received at once behind a large WRITE.
const AFTER_LARGE_WRITE: usize = 4096;
/// How much of a payload that nobody wants is received at a time.
const DRAIN_STEP: usize = 16 << 10;
/// How much is received at a time during the handshake.
const HANDSHAKE_STEP: usize = 4096;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The client took its leave.
    #[error("the client left")]
    Left,
    /// The handshake ended without an export.
    #[error("no export was chosen")]
    NotEntered,
    /// The client broke the protocol.
    #[error("the client sent {0}")]
    Breach(#[from] Breach),
    /// The socket ended or failed.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Goes through the handshake; answers the export, and what the client has sent beyond.
pub(super) fn handshake(
    link: &Arc<Link>,
    exports: Arc<dyn Exports>,
    insecure: bool,
    deadline: Instant,
) -> Result<Entered, End> {
    let mut handshake = Handshake::new(exports, insecure);
    let mut input = Vec::new();
    let mut output = Handshake::greeting().to_vec();
    loop {
        link.send_until(&output, deadline)?;
        output.clear();
        let (taken, mut step) = handshake.advance(&input, &mut output);
        input.drain(..taken);
        let mut presence = None;
        if let Step::Enter(entry) = &step {
            match entry.export.connected(Arc::clone(link) as Arc<dyn Session>) {
                Ok(noted) => {
                    handshake.admit(entry, &mut output);
                    presence = Some(noted);
                }
                Err(refusal) => step = handshake.turn_away(entry, &refusal, &mut output),
            }
        }
        match (step, presence) {
            (Step::Enter(entry), Some(presence)) => {
                link.send_until(&output, deadline)?;
                return Ok(Entered { entry, _presence: presence, early: input });
            }
            (Step::More, _) if !output.is_empty() => {}
            (Step::More, _) => receive_more(link, &mut input, deadline)?,
            (Step::Close | Step::Enter(_), _) => {
                link.send_until(&output, deadline)?;
                return Err(End::NotEntered);
            }
        }
    }
}

fn receive_more(link: &Link, input: &mut Vec<u8>, deadline: Instant) -> Result<(), End> {
    let had = input.len();
    input.resize(had + HANDSHAKE_STEP, 0);
    let length = link.receive_until(&mut input[had..], deadline)?;
    input.truncate(had + length);
    Ok(())
}

/// What the connections of a server share.
pub(super) struct Common {
    pub(super) bounds: Bounds,
    pub(super) memory: Arc<Budget>,
    pub(super) processors: Arc<Processors>,
}

/// A client that has been let in.
pub(super) struct Entered {
    entry: Entry,
    /// Says that the client has gone once it is dropped.
    _presence: Box<dyn Send>,
    early: Vec<u8>,
}

impl Entered {
    /// Serves the client until it ends, for whatever reason; everything it asked for is carried out by then.
    pub(super) fn serve(self, link: &Arc<Link>, common: &Common) -> End {
        let (export, terms) = (Arc::clone(&self.entry.export), self.entry.terms);
        let mut connection = Connection::new(Arc::clone(link), export, terms, common);
        match connection.start(&self.early) {
            Ok(()) => connection.serve(),
            Err(error) => error.into(),
        }
    }
}

/// A client in the transmission phase.
struct Connection<'c> {
    common: &'c Common,
    link: Arc<Link>,
    export: Arc<dyn Export>,
    terms: Terms,
    dispatch: Dispatch,
    batch: Batch,
    misses: Misses,
    /// What was received lies in `input[start..end]`.
    input: Buffer,
    start: usize,
    end: usize,
    output: Buffer,
    /// Held as long as input and output are large.
    roomy: Option<Roomy>,
    /// Whether silence of [`QUIET_AFTER`] is noticed.
    attentive: bool,
    habit: Habit,
    /// How much is received at a time: less after a large WRITE, so that the payload of a next one is not received here
    /// only to be copied to its own buffer.
    appetite: usize,
}

impl<'c> Connection<'c> {
    fn new(link: Arc<Link>, export: Arc<dyn Export>, terms: Terms, common: &'c Common) -> Self {
        let workers = Workers::new(Arc::clone(&link), Arc::clone(&export), common.memory.share());
        let processors = Arc::clone(&common.processors);
        let (solitude, our_link) = (Solitude::default(), Arc::clone(&link));
        let dispatch = Dispatch { link: our_link, export: Arc::clone(&export), workers, processors, solitude };
        let (input, output) = (Buffer::new(QUIET), Buffer::new(QUIET));
        Self {
            common,
            link,
            export,
            terms,
            dispatch,
            batch: Batch::default(),
            misses: Misses::new(),
            input,
            start: 0,
            end: 0,
            output,
            roomy: None,
            attentive: false,
            habit: Habit::default(),
            appetite: usize::MAX,
        }
    }

    fn start(&mut self, early: &[u8]) -> Result<(), LinkError> {
        // The handshake keeps less than one option, so what came early fits.
        self.input.data(early.len()).copy_from_slice(early);
        self.end = early.len();
        self.link.set_send_deadline(self.common.bounds.send)
    }

    fn serve(&mut self) -> End {
        loop {
            if let Err(end) = self.serve_received() {
                self.misses.finish(&self.link, &self.dispatch.workers);
                return end;
            }
        }
    }

    /// Carries out what has been received, and receives more.
    fn serve_received(&mut self) -> Result<(), End> {
        let input = &mut self.input.data(self.end)[self.start..];
        let working = self.common.processors.work();
        let (taken, next) = self.batch.carry_out(input, &mut self.output, &self.terms, &self.export, &self.link);
        drop(working);
        let replies = self.batch.finish(self.output.used());
        if replies > 0 {
            self.misses.reply(self.output.data(replies), &self.link, &self.dispatch.workers)?;
        }
        self.hand_over(self.start + taken == self.end)?;
        self.start += taken;
        match next {
            Next::Receive { wanted } => self.receive(wanted),
            Next::Again => Ok(()),
            Next::LargeWrite { pending, work, length } => self.large_write(pending, work, length),
            Next::Drain { pending, errno, length } => {
                self.drain(length)?;
                Ok(self.misses.reply(pending.failure(errno).bytes(), &self.link, &self.dispatch.workers)?)
            }
            Next::Leave => Err(End::Left),
            Next::Disconnect(breach) => Err(breach.into()),
        }
    }

    /// Sees to what could not be done in the batch, `all` of what was received. Payloads still lie in the input.
    fn hand_over(&mut self, all: bool) -> Result<(), LinkError> {
        let received = self.input.data(self.end);
        let mut lent = false;
        let mut left_over = self.batch.left_over();
        let only = all && left_over.len() == 1 && !self.misses.are_under_way();
        let mut outcomes = None;
        while let Some(left) = left_over.next() {
            let mut room = self.misses.room_for(&left.work, &self.link, &self.dispatch.workers)?;
            lent |= room.has_buffer();
            let payload = &received[self.start..][left.payload];
            if !payload.is_empty() {
                room.buffer().data(payload.len()).copy_from_slice(payload);
            }
            let job = Job { pending: left.pending, work: left.work, room, working: None };
            // An answer that the client does not take would keep what is under way waiting: so none is given here then.
            let fresh = left.fresh && !self.misses.are_under_way();
            let waiting = if fresh { self.dispatch.carry_out(job, left_over.len() > 0)? } else { Some(job) };
            if fresh {
                outcomes = Some(outcomes.unwrap_or(true) && waiting.is_some());
            }
            if let Some(job) = waiting
                && let Err(job) = self.misses.begin(job, &self.export)
            {
                self.dispatch.see_to(job, only)?;
            }
        }
        drop(left_over);
        if let Some(all_missed) = outcomes {
            self.batch.learn(all_missed);
        }
        if lent { self.attend() } else { Ok(()) }
    }

    /// Receives until `wanted` bytes may be there behind `start`, at the least once.
    fn receive(&mut self, wanted: usize) -> Result<(), End> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start + wanted > self.input.capacity() {
            self.input.data(self.end).copy_within(self.start.., 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let mut free = self.input.lend();
        let until = free.bytes.len().min(self.end.saturating_add(self.appetite));
        self.appetite = usize::MAX;
        let free_now = &mut free.bytes[self.end..until];
        let received = if self.misses.are_under_way() {
            self.misses.receive(&self.link, &self.dispatch.workers, free_now)
        } else {
            self.link.receive_watching(free_now, &mut self.habit)
        };
        match received {
            Ok(length) => {
                self.end += length;
                self.dispatch.arrived();
            }
            Err(LinkError::TimedOut) => return Ok(self.rest()?),
            Err(error) => return Err(error.into()),
        }
        free.note(self.end);
        if self.end == self.input.capacity() { Ok(self.grow()?) } else { Ok(()) }
    }

    /// A WRITE whose payload has its own buffer: it is received straight into that.
    fn large_write(&mut self, pending: Pending, work: Work, length: usize) -> Result<(), End> {
        self.attend()?;
        let mut room = self.misses.room_for(&work, &self.link, &self.dispatch.workers)?;
        let payload = room.buffer().data(length);
        let arrived = &self.input.data(self.end)[self.start..];
        let mut have = arrived.len();
        payload[..have].copy_from_slice(arrived);
        self.start += have;
        while have < length {
            have += self.receive_payload(&mut payload[have..])?;
        }
        self.attend()?;
        self.appetite = AFTER_LARGE_WRITE;
        let job = Job { pending, work, room, working: None };
        // As in `hand_over`.
        let waiting =
            if self.misses.are_under_way() { Some(job) } else { self.dispatch.carry_out(job, self.link.has_more())? };
        match waiting {
            Some(job) => Ok(self.dispatch.hand_on(job)?),
            None => Ok(()),
        }
    }

    /// Receives into the buffer of a request; answers how much, which may be nothing. A client that stops in the middle
    /// holds memory that others may want, so it does not do so for ever.
    fn receive_payload(&mut self, into: &mut [u8]) -> Result<usize, LinkError> {
        match self.misses.receive(&self.link, &self.dispatch.workers, into) {
            Err(LinkError::TimedOut) if self.attentive => {
                self.rest()?;
                self.link.set_receive_patience(Some(self.common.bounds.payload)).map(|()| 0)
            }
            received => received,
        }
    }

    /// Receives into something else than the input, which is empty; answers how much, which may be nothing.
    fn receive_aside(&mut self, into: &mut [u8]) -> Result<usize, LinkError> {
        match self.misses.receive(&self.link, &self.dispatch.workers, into) {
            // A client that is silent in the middle of a request is as silent as any other.
            Err(LinkError::TimedOut) => self.rest().map(|()| 0),
            received => received,
        }
    }

    /// Throws `length` bytes of payload away.
    fn drain(&mut self, length: usize) -> Result<(), End> {
        let arrived = (self.end - self.start).min(length);
        self.start += arrived;
        let mut left = length - arrived;
        let mut bin = [0; DRAIN_STEP];
        while left > 0 {
            left -= self.receive_aside(&mut bin[..left.min(DRAIN_STEP)])?;
        }
        Ok(())
    }

    /// From now on silence is noticed, since large buffers are in use.
    fn attend(&mut self) -> Result<(), LinkError> {
        if !self.attentive {
            self.link.set_receive_patience(Some(QUIET_AFTER))?;
            self.attentive = true;
        }
        Ok(())
    }

    /// Takes large buffers, until it has been quiet for a while, if not too many connections have.
    fn grow(&mut self) -> Result<(), LinkError> {
        if self.roomy.is_none() {
            self.roomy = self.common.memory.roomy();
            if self.roomy.is_none() {
                return Ok(());
            }
            self.resize(BUSY);
        }
        self.attend()
    }

    /// Goes back to small buffers, wiping the large ones, and from then on waits without end.
    fn rest(&mut self) -> Result<(), LinkError> {
        self.dispatch.workers.trim();
        self.misses.rest();
        if self.roomy.is_some() && self.end - self.start <= QUIET {
            self.resize(QUIET);
            self.roomy = None;
        }
        self.link.set_receive_patience(None)?;
        self.attentive = false;
        Ok(())
    }

    fn resize(&mut self, capacity: usize) {
        let mut input = Buffer::new(capacity);
        let kept = self.end - self.start;
        input.data(kept).copy_from_slice(&self.input.data(self.end)[self.start..]);
        (self.start, self.end) = (0, kept);
        self.input = input;
        self.output = Buffer::new(capacity);
    }
}
