//! READs that must wait for the disk, many of them under way on a ring, waited for by the connection's own thread together
//! with the socket: no other thread is woken, one system call hands over many, and replies that are ready together leave
//! together.
//!
//! What the export does not leave to its caller (`BlockDevice::fetch`), what is too long to be deciphered here while
//! others wait, and what is one too many goes to the workers. Where rings are forbidden everything does.

use std::io::IoSlice;

use super::Export;
use super::errno;
use super::link::{Link, LinkError};
use super::reply::{Pending, SmallReply};
use super::request::Work;
use super::solitude::Solitude;
use super::waits::Permit;
use super::workers::{Job, Room, Workers};
use crate::block::{BlockError, Company, Fetch, Witness};
use crate::limits;
use crate::sync::Arc;
use crate::sys::ring::{Landed, Readiness, Ring};
use crate::units::Extent;

/// A longer READ is deciphered by a worker.
const LONGEST: usize = 256 << 10;
/// Replies that leave in one system call.
const GATHERED: usize = 32;

/// The READs of one connection that are under way, and the answers that are to leave.
pub(super) struct Misses {
    flights: Flights,
    /// Whether something arrives while one READ is under way.
    solitude: Solitude,
    /// Answers on their way out; kept for its memory.
    leaving: Vec<Answer>,
}

/// What is under way, apart from what is being sent.
struct Flights {
    ring: Ringing,
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

enum Answer {
    /// READ data: the length of its header, and its own.
    Data {
        room: Room,
        header: usize,
        length: usize,
    },
    Failure(SmallReply),
}

impl Misses {
    /// None yet.
    pub(super) fn new() -> Self {
        let flights = Flights { ring: Ringing::NotYet, reads: Vec::new(), ready: Vec::new() };
        Self { flights, solitude: Solitude::default(), leaving: Vec::new() }
    }

    /// Whether READs are under way, so that nobody may wait for the client alone.
    pub(super) fn are_under_way(&self) -> bool {
        self.flights.count() > 0
    }

    /// Begins `job` if it is a READ that can be carried out here; gives it back otherwise.
    pub(super) fn begin(&mut self, job: Job, export: &Arc<dyn Export>) -> Result<(), Job> {
        // A client that was alone so far is; another shows itself by what is under way.
        let alone = self.solitude.is_certain() && !self.are_under_way();
        self.flights.begin(job, export, if alone { Company::Alone } else { Company::Many })
    }

    /// Gives the ring back. Nothing may be under way.
    pub(super) fn rest(&mut self) {
        debug_assert!(self.flights.count() == 0, "a connection with READs under way is not silent");
        *self = Self::new();
    }

    /// Receives at least a byte; READs that end before it comes are answered meanwhile.
    pub(super) fn receive(&mut self, link: &Link, workers: &Workers, into: &mut [u8]) -> Result<usize, LinkError> {
        let was_alone = self.flights.count() == 1;
        if was_alone
            && self.solitude.is_certain()
            && let Some(length) = self.receive_after_one(link, workers, into)?
        {
            return Ok(length);
        }
        while self.flights.count() > 0 {
            let readable = self.flights.wait(link, Readiness::ToRead, workers)?;
            self.send(link, workers)?;
            if readable && let Some(length) = link.receive_now(into)? {
                self.solitude.note(false);
                return Ok(length);
            }
        }
        if was_alone {
            self.solitude.note(true);
        }
        link.receive(into)
    }

    /// Waits for the one READ that is under way, answers it, and receives what came before it was answered. Waiting with a
    /// limit would have the kernel set a timer, and a disk that takes longer than that wake this thread twice.
    fn receive_after_one(
        &mut self,
        link: &Link,
        workers: &Workers,
        into: &mut [u8],
    ) -> Result<Option<usize>, LinkError> {
        // What ends the first wait may be news of the socket that is old: what came was received since.
        for _ in 0..2 {
            if self.flights.count() > 0
                && let Ringing::Made(ring) = &mut self.flights.ring
            {
                ring.wait()?;
                self.flights.land(workers);
            }
        }
        let early = link.receive_now(into);
        self.send(link, workers)?;
        if !matches!(early, Ok(None)) {
            self.solitude.note(false);
        }
        early
    }

    /// Waits for all READs that are under way, and answers them.
    pub(super) fn finish(&mut self, link: &Link, workers: &Workers) {
        while self.flights.count() > 0 && self.flights.enter().is_ok() {
            self.flights.land(workers);
            // A link that fails is closed, and this connection at its end already.
            let _sent = self.send(link, workers);
        }
    }

    /// Room for `work`; while there is none, READs that are under way are waited for, since they hold some.
    pub(super) fn room_for(&mut self, work: &Work, link: &Link, workers: &Workers) -> Result<Room, LinkError> {
        while self.flights.count() > 0 {
            if let Some(room) = workers.try_reserve(work) {
                return Ok(room);
            }
            self.flights.enter()?;
            self.flights.land(workers);
            self.send(link, workers)?;
        }
        workers.reserve(work)
    }

    /// Sends whole replies; READs that end meanwhile are answered behind them.
    pub(super) fn reply(&mut self, bytes: &[u8], link: &Link, workers: &Workers) -> Result<(), LinkError> {
        if self.flights.count() == 0 {
            return link.reply(bytes);
        }
        self.flights.send(&mut [IoSlice::new(bytes)], link, workers)?;
        self.send(link, workers)
    }

    /// Sends what is ready, and what becomes so meanwhile.
    fn send(&mut self, link: &Link, workers: &Workers) -> Result<(), LinkError> {
        let mut sent = Ok(());
        while sent.is_ok() && !self.flights.ready.is_empty() {
            std::mem::swap(&mut self.flights.ready, &mut self.leaving);
            for answers in self.leaving.chunks_mut(GATHERED) {
                let mut parts = [IoSlice::new(&[]); GATHERED];
                let count = answers.len();
                parts.iter_mut().zip(answers).for_each(|(part, answer)| *part = IoSlice::new(answer.bytes()));
                sent = sent.and_then(|()| self.flights.send(&mut parts[..count], link, workers));
            }
            self.leaving.clear();
        }
        sent
    }
}

impl Flights {
    /// How many READs are under way.
    fn count(&self) -> usize {
        match &self.ring {
            Ringing::Made(ring) => ring.in_flight(),
            _ => 0,
        }
    }

    fn begin(&mut self, job: Job, export: &Arc<dyn Export>, company: Company) -> Result<(), Job> {
        let Some((extent, ring)) = self.place_for(&job.work) else { return Err(job) };
        let Some(permit) = Permit::enter(export) else { return Err(job) };
        let Some(Fetch { file, at, witness }) = export.device().fetch(extent, company) else { return Err(job) };
        let Job { pending, mut room, .. } = job;
        let (memory, data) = room.buffer().take_memory(extent.length().in_memory());
        let place = ring.read(file, memory, data, at.get());
        if company == Company::Many {
            // What the kernel refuses now it refuses again when it is waited for, where it is told.
            let _tried = ring.hand_over();
        }
        self.reads[place] = Some(Read { pending, extent, room, witness, permit });
        Ok(())
    }

    fn place_for(&mut self, work: &Work) -> Option<(Extent, &mut Ring)> {
        let Work::Read(extent) = work else { return None };
        if extent.length().in_memory() > LONGEST {
            return None;
        }
        if matches!(self.ring, Ringing::NotYet) {
            let made = Ring::new(limits::RING_READS_MAX);
            self.ring = made.map_or(Ringing::Refused, |ring| Ringing::Made(Box::new(ring)));
            self.reads.resize_with(limits::RING_READS_MAX, || None);
        }
        match &mut self.ring {
            Ringing::Made(ring) => ring.has_room().then_some((*extent, ring)),
            _ => None,
        }
    }

    /// Waits until READs have ended or the socket is ready, and notes the answers; whether the socket is.
    fn wait(&mut self, link: &Link, readiness: Readiness, workers: &Workers) -> Result<bool, LinkError> {
        if let Ringing::Made(ring) = &mut self.ring {
            ring.watch(link.socket(), readiness);
        }
        self.enter()?;
        self.land(workers);
        Ok(!matches!(&self.ring, Ringing::Made(ring) if ring.is_watching(readiness)))
    }

    fn enter(&mut self) -> Result<(), LinkError> {
        if let Ringing::Made(ring) = &mut self.ring {
            ring.wait()?;
        }
        Ok(())
    }

    /// Notes the answers to READs that have ended.
    fn land(&mut self, workers: &Workers) {
        while let Ringing::Made(ring) = &mut self.ring
            && let Some(landed) = ring.landed()
        {
            self.end(landed, workers);
        }
    }

    /// Deciphers what has been read. Nobody is inside the export for it from then on, however long its answer takes.
    fn end(&mut self, landed: Landed, workers: &Workers) {
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
            Some(Err(error)) => self.ready.push(Answer::Failure(pending.failure(errno::of(error)))),
            Some(Ok(())) => {
                let header = pending.data_header_length();
                pending.data(room.buffer().with_header(header, 0), length);
                self.ready.push(Answer::Data { room, header, length: length.in_memory() });
            }
        }
    }

    /// Sends whole replies. While the client takes none of them, READs that end are noted: a client that does not read
    /// keeps nobody inside the export.
    fn send(&mut self, parts: &mut [IoSlice<'_>], link: &Link, workers: &Workers) -> Result<(), LinkError> {
        link.reply_in_parts(parts, || self.count() > 0 && self.wait(link, Readiness::ToWrite, workers).is_ok())
    }
}

impl Answer {
    fn bytes(&mut self) -> &[u8] {
        match self {
            Self::Data { room, header, length } => room.buffer().with_header(*header, *length),
            Self::Failure(reply) => reply.bytes(),
        }
    }
}
