//! READs that must wait for the disk, many of them under way on a ring, waited for by the connection's own thread together
//! with the socket: no other thread is woken, one system call hands over many, and replies that are ready together leave
//! together.
//!
//! What the export does not leave to its caller (`BlockDevice::fetch`), what is too long to be deciphered here while
//! others wait, and what is one too many goes to the workers. Where rings are forbidden everything does.

use std::io::IoSlice;
use std::time::Duration;

use super::errno;
use super::link::{Link, LinkError};
use super::request::Work;
use super::workers::{Job, Permit, Room, Workers};
use super::{Export, reply::Pending};
use crate::block::{BlockError, Company, Fetch, Witness};
use crate::limits;
use crate::sync::Arc;
use crate::sys::ring::{Landed, Ring};
use crate::units::Extent;

/// A longer READ is deciphered by a worker.
const LONGEST: usize = 256 << 10;
/// Replies that leave in one system call.
const GATHERED: usize = 32;

/// A client that so often in turn sent nothing while it waited for one answer is taken to be one that never does.
const LONE: u32 = 8;
/// For such a client a READ is waited for alone, which costs less, but not much longer than this.
const ALONE: Duration = Duration::from_micros(100);

/// The READs of one connection that are under way.
pub(super) struct Misses {
    ring: Ringing,
    /// How often in turn one READ was under way and nothing arrived meanwhile.
    lone: u32,
    /// Those under way, by their place in the ring.
    reads: Vec<Option<Read>>,
    /// Answers that are to leave together.
    ready: Vec<Answer>,
}

/// The ring, made when there is something for it.
enum Ringing {
    NotYet,
    Made(Box<Ring>),
    Refused,
}

struct Read {
    pending: Pending,
    extent: Extent,
    room: Room,
    witness: Witness,
    permit: Permit,
}

struct Answer {
    room: Room,
    /// The length of the reply's header, and of its data.
    header: usize,
    data: usize,
}

impl Misses {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self { ring: Ringing::NotYet, lone: 0, reads: Vec::new(), ready: Vec::new() }
    }

    /// Whether READs are under way, so that nobody may wait for the socket alone.
    pub(super) fn are_under_way(&self) -> bool {
        self.in_flight() > 0
    }

    fn in_flight(&self) -> usize {
        match &self.ring {
            Ringing::Made(ring) => ring.in_flight(),
            _ => 0,
        }
    }

    /// Begins `job` if it is a READ that can be carried out here; gives it back otherwise.
    pub(super) fn begin(&mut self, job: Job, export: &Arc<dyn Export>) -> Result<(), Job> {
        // A client that was alone so far is; another shows itself by what is under way.
        let company = if self.lone >= LONE && !self.are_under_way() { Company::Alone } else { Company::Many };
        let Some((extent, ring)) = self.place_for(&job.work) else { return Err(job) };
        let Some(permit) = Permit::enter(export) else { return Err(job) };
        let Some(Fetch { file, at, witness }) = export.device().fetch(extent, company) else { return Err(job) };
        let Job { pending, mut room, .. } = job;
        let (memory, data) = room.buffer().take_memory(extent.length().in_memory());
        let place = ring.read(file, memory, data, at.get());
        // What the kernel refuses now it refuses again when it is waited for, where it is told.
        let _tried = ring.hand_over();
        self.reads[place] = Some(Read { pending, extent, room, witness, permit });
        Ok(())
    }

    fn place_for(&mut self, work: &Work) -> Option<(Extent, &mut Ring)> {
        let Work::Read(extent) = work else { return None };
        if extent.length().in_memory() > LONGEST {
            return None;
        }
        if matches!(self.ring, Ringing::NotYet) {
            self.make_ring();
        }
        match &mut self.ring {
            Ringing::Made(ring) => ring.has_room().then_some((*extent, ring)),
            _ => None,
        }
    }

    fn make_ring(&mut self) {
        self.ring = Ring::new(limits::RING_READS_MAX).map_or(Ringing::Refused, |ring| Ringing::Made(Box::new(ring)));
        self.reads.resize_with(limits::RING_READS_MAX, || None);
    }

    /// Gives the ring back. Nothing may be under way.
    pub(super) fn rest(&mut self) {
        debug_assert!(!self.are_under_way(), "a connection with READs under way is not silent");
        *self = Self::new();
    }

    /// Receives at least a byte; READs that end before it comes are answered meanwhile.
    pub(super) fn receive(&mut self, link: &Link, workers: &Workers, into: &mut [u8]) -> Result<usize, LinkError> {
        let was_alone = self.in_flight() == 1;
        if was_alone
            && self.lone >= LONE
            && let Some(length) = self.receive_after_one(link, workers, into)?
        {
            return Ok(length);
        }
        while self.are_under_way() {
            if self.wait(link, workers)?
                && let Some(length) = link.receive_now(into)?
            {
                self.lone = 0;
                return Ok(length);
            }
        }
        self.lone += u32::from(was_alone);
        link.receive(into)
    }

    /// Waits for the one READ that is under way, answers it, and receives what came before it was answered.
    fn receive_after_one(
        &mut self,
        link: &Link,
        workers: &Workers,
        into: &mut [u8],
    ) -> Result<Option<usize>, LinkError> {
        let Ringing::Made(ring) = &mut self.ring else { return Ok(None) };
        let mut landed = None;
        // What ends the first wait may be news of the socket that is old: what came was received since.
        for _ in 0..2 {
            if landed.is_none() {
                ring.wait_for(ALONE)?;
                landed = ring.landed();
            }
        }
        let early = link.receive_now(into);
        if let Some(landed) = landed {
            self.end(landed, link, workers)?;
            self.send(link)?;
        }
        if !matches!(early, Ok(None)) {
            self.lone = 0;
        }
        early
    }

    /// Waits until a READ has ended or the socket has something to read, and answers what has ended; whether the
    /// socket has.
    fn wait(&mut self, link: &Link, workers: &Workers) -> Result<bool, LinkError> {
        if let Ringing::Made(ring) = &mut self.ring {
            ring.watch(link.socket());
        }
        self.settle(link, workers)?;
        Ok(!matches!(&self.ring, Ringing::Made(ring) if ring.is_watching()))
    }

    /// Waits for all READs that are under way, and answers them.
    pub(super) fn finish(&mut self, link: &Link, workers: &Workers) {
        while self.are_under_way() && self.enter().is_ok() {
            // A link that fails is closed, and this connection at its end already.
            let _sent = self.answer(link, workers);
        }
    }

    /// Room for `work`; while there is none, READs that are under way are waited for, since they hold some.
    pub(super) fn room_for(&mut self, work: &Work, link: &Link, workers: &Workers) -> Result<Room, LinkError> {
        loop {
            if !self.are_under_way() {
                return workers.reserve(work);
            }
            if let Some(room) = workers.try_reserve(work) {
                return Ok(room);
            }
            self.settle(link, workers)?;
        }
    }

    fn settle(&mut self, link: &Link, workers: &Workers) -> Result<(), LinkError> {
        self.enter()?;
        self.answer(link, workers)
    }

    fn enter(&mut self) -> Result<(), LinkError> {
        if let Ringing::Made(ring) = &mut self.ring {
            ring.wait()?;
        }
        Ok(())
    }

    /// Answers what has ended.
    fn answer(&mut self, link: &Link, workers: &Workers) -> Result<(), LinkError> {
        let mut sent = Ok(());
        while let Ringing::Made(ring) = &mut self.ring
            && let Some(landed) = ring.landed()
        {
            sent = sent.and(self.end(landed, link, workers));
        }
        sent.and(self.send(link))
    }

    /// Deciphers what has been read, and has it answered.
    fn end(&mut self, landed: Landed, link: &Link, workers: &Workers) -> Result<(), LinkError> {
        let Landed { place, memory, outcome } = landed;
        let Read { pending, extent, mut room, witness, permit } =
            self.reads[place].take().expect("begun once and ended once");
        room.buffer().put_memory(memory);
        let length = extent.length();
        let bytes = room.buffer().data(length.in_memory());
        let read = permit.device().fetched(extent.start(), bytes, witness, outcome.map_err(BlockError::from));
        drop(permit);
        match read {
            None => workers.submit(Job { pending, work: Work::Read(extent), room, working: None }),
            Some(Err(error)) => return link.reply(pending.failure(errno::of(error)).bytes()),
            Some(Ok(())) => {
                let header = pending.data_header_length();
                pending.data(room.buffer().with_header(header, 0), length);
                self.ready.push(Answer { room, header, data: length.in_memory() });
                if self.ready.len() == GATHERED {
                    return self.send(link);
                }
            }
        }
        Ok(())
    }

    /// Sends what is ready.
    fn send(&mut self, link: &Link) -> Result<(), LinkError> {
        let count = self.ready.len();
        if count == 0 {
            return Ok(());
        }
        let mut parts = [IoSlice::new(&[]); GATHERED];
        for (part, Answer { room, header, data }) in parts.iter_mut().zip(&mut self.ready) {
            *part = IoSlice::new(room.buffer().with_header(*header, *data));
        }
        let sent = link.reply_in_parts(&mut parts[..count]);
        self.ready.clear();
        sent
    }
}
