//! The requests that one receive brought: parsed together, carried out together, answered together.
//!
//! READ data goes straight into the output behind its header, WRITE payloads are written (and so encrypted) where they
//! were received. Nothing is allocated: the lists are reused. What would have to wait is left over for the workers.

use std::ops::Range;

use super::Export;
use super::buffer::{Buffer, Lent};
use super::errno::{self, Errno};
use super::link::Link;
use super::reply::Pending;
use super::request::{self, Breach, Terms, Verdict, Work};
use super::waits::Permit;
use super::wire::{self, RequestHeader};
use crate::block::{Durability, Io, Op, Patience};
use crate::sync::Arc;

/// A payload longer than this that has not arrived whole is received into a buffer of its own.
pub(super) const LARGE_PAYLOAD: usize = 64 << 10;
/// A READ longer than this is answered from a buffer of its own.
const LARGE_READ: usize = 64 << 10;
/// Requests of one batch.
const BATCH_MAX: usize = 128;

/// One batch at a time.
#[derive(Default)]
pub(super) struct Batch {
    slots: Vec<Slot>,
    left: Vec<LeftOver>,
    cold: Cold,
    /// The list of operations between two batches: empty, kept for its memory.
    spare: Vec<Io<'static>>,
}

/// Whether READs are tried without waiting at all: where none of a batch was in memory, the next batches are spared the
/// try, more of them each time.
#[derive(Default)]
struct Cold {
    /// How many batches were spared the last time.
    spared: u32,
    /// How many more will be.
    left: u32,
}

impl Cold {
    /// So many batches in turn are not tried at the most.
    const SPARED_MAX: u32 = 31;

    fn tries(&self) -> bool {
        self.left == 0
    }

    fn next_batch(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    fn learn(&mut self, ios: &[Io<'_>]) {
        let mut reads = ios.iter().filter(|io| matches!(io.op, Op::Read { .. })).peekable();
        if reads.peek().is_some() {
            self.note(reads.all(|io| io.outcome().is_none()));
        }
    }

    fn note(&mut self, all_missed: bool) {
        self.spared = if all_missed { (2 * self.spared + 1).min(Self::SPARED_MAX) } else { 0 };
        // The batch that taught this is over when the next begins.
        self.left = self.spared + u32::from(all_missed);
    }
}

/// What is to be done once the batch has been answered.
pub(super) enum Next {
    /// Receive; the request at the front needs so many bytes.
    Receive {
        /// Header and payload.
        wanted: usize,
    },
    /// Go on with what has been received.
    Again,
    /// Receive this WRITE's payload into its own buffer.
    LargeWrite {
        /// The answer owed.
        pending: Pending,
        /// The WRITE.
        work: Work,
        /// How long the payload is.
        length: usize,
    },
    /// Throw a payload away, then answer.
    Drain {
        /// The answer owed.
        pending: Pending,
        /// The answer.
        errno: Errno,
        /// How long the payload is.
        length: usize,
    },
    /// The client took its leave.
    Leave,
    /// End the connection.
    Disconnect(Breach),
}

/// A request that was not carried out yet.
pub(super) struct LeftOver {
    /// The answer owed.
    pub(super) pending: Pending,
    /// What to do.
    pub(super) work: Work,
    /// Where a WRITE's payload lies in the input of the batch.
    pub(super) payload: Range<usize>,
    /// Whether it might be carried out without waiting: nobody has tried yet.
    pub(super) fresh: bool,
}

/// One request of the batch.
struct Slot {
    pending: Pending,
    work: Option<Work>,
    /// Where room for its answer starts in the output.
    at: usize,
    payload: Range<usize>,
    /// `None` as long as it has not been carried out.
    outcome: Option<Result<(), Errno>>,
}

/// The input and output while a batch is put together: fronts are cut off as requests take their part.
struct Desk<'b> {
    input: &'b mut [u8],
    taken: usize,
    /// What is left of the output.
    output: Lent<'b>,
    filled: usize,
    ios: Vec<Io<'b>>,
}

impl Batch {
    /// Parses requests off `input` and carries out what needs no waiting; answers how many bytes were taken, and what
    /// is to follow.
    pub(super) fn carry_out(
        &mut self,
        input: &mut [u8],
        output: &mut Buffer,
        terms: &Terms,
        export: &Arc<dyn Export>,
        link: &Link,
    ) -> (usize, Next) {
        self.cold.next_batch();
        let ios = recycled(std::mem::take(&mut self.spare));
        let mut desk = Desk { input, taken: 0, output: output.lend(), filled: 0, ios };
        let next = loop {
            if let Some(next) = self.take_request(&mut desk, terms) {
                break next;
            }
        };
        let taken = desk.taken;
        let mut ios = desk.ios;
        if !ios.is_empty() {
            self.perform(&mut ios, export, link);
        }
        self.spare = recycled(ios);
        (taken, next)
    }

    /// Takes the next request; `Some` where the batch ends there.
    fn take_request(&mut self, desk: &mut Desk<'_>, terms: &Terms) -> Option<Next> {
        let Some(header) = desk.input.first_chunk::<{ wire::REQUEST_HEADER }>() else {
            return Some(Next::Receive { wanted: wire::REQUEST_HEADER });
        };
        if self.slots.len() + self.left.len() == BATCH_MAX {
            return Some(Next::Again);
        }
        let header = RequestHeader::decode(header);
        let verdict = request::judge(&header, terms);
        let pending = Pending::new(&header, terms);
        match verdict {
            Verdict::Serve(work) => self.take_work(desk, pending, work),
            Verdict::Succeed => self.take_answered(desk, pending, Ok(())),
            Verdict::Refuse { errno, payload: 0 } => self.take_answered(desk, pending, Err(errno)),
            Verdict::Refuse { errno, payload } => {
                desk.taken += wire::REQUEST_HEADER;
                Some(Next::Drain { pending, errno, length: payload as usize })
            }
            Verdict::Leave => Some(Next::Leave),
            Verdict::Disconnect(breach) => Some(Next::Disconnect(breach)),
        }
    }

    fn take_answered(&mut self, desk: &mut Desk<'_>, pending: Pending, outcome: Result<(), Errno>) -> Option<Next> {
        let room = pending.small_length_max();
        if room > desk.output.bytes.len() {
            return Some(Next::Again);
        }
        desk.skip_input(wire::REQUEST_HEADER);
        let at = desk.room(room).1;
        self.slots.push(Slot { pending, work: None, at, payload: 0..0, outcome: Some(outcome) });
        None
    }

    fn take_work(&mut self, desk: &mut Desk<'_>, pending: Pending, work: Work) -> Option<Next> {
        match work {
            Work::Read(extent) if extent.length().in_memory() <= LARGE_READ && self.cold.tries() => {
                self.take_read(desk, pending, work)
            }
            Work::Write(..) => self.take_write(desk, pending, work),
            _ => {
                desk.skip_input(wire::REQUEST_HEADER);
                let fresh = matches!(work, Work::Read(_)) && self.cold.tries();
                self.left.push(LeftOver { pending, work, payload: 0..0, fresh });
                None
            }
        }
    }

    fn take_read(&mut self, desk: &mut Desk<'_>, pending: Pending, work: Work) -> Option<Next> {
        let Work::Read(extent) = work else { unreachable!("only a READ is taken as one") };
        let header = pending.data_header_length();
        let room = header + extent.length().in_memory();
        if room > desk.output.bytes.len() {
            return Some(Next::Again);
        }
        desk.skip_input(wire::REQUEST_HEADER);
        let (reply, at) = desk.room(room);
        let op = Op::Read { at: extent.start(), into: &mut reply[header..] };
        desk.ios.push(Io::new(op, self.slots.len() as u64));
        self.slots.push(Slot { pending, work: Some(work), at, payload: 0..0, outcome: None });
        None
    }

    fn take_write(&mut self, desk: &mut Desk<'_>, pending: Pending, work: Work) -> Option<Next> {
        let Work::Write(extent, durability) = work else { unreachable!("only a WRITE is taken as one") };
        let length = extent.length().in_memory();
        let wanted = wire::REQUEST_HEADER + length;
        if desk.input.len() < wanted {
            if length <= LARGE_PAYLOAD {
                return Some(Next::Receive { wanted });
            }
            desk.taken += wire::REQUEST_HEADER;
            return Some(Next::LargeWrite { pending, work, length });
        }
        let room = pending.small_length_max();
        if room > desk.output.bytes.len() {
            return Some(Next::Again);
        }
        desk.skip_input(wire::REQUEST_HEADER);
        let payload = desk.taken..desk.taken + length;
        let from = desk.skip_input(length);
        let at = desk.room(room).1;
        // What must reach the disk takes its time: it is left to the workers.
        if durability == Durability::Cached {
            desk.ios.push(Io::new(Op::Write { at: extent.start(), from, durability }, self.slots.len() as u64));
        }
        self.slots.push(Slot { pending, work: Some(work), at, payload, outcome: None });
        None
    }

    /// Submits the operations, and notes the outcome of those that needed no waiting.
    fn perform(&mut self, ios: &mut [Io<'_>], export: &Arc<dyn Export>, link: &Link) {
        let permit = if link.is_stopping() { None } else { Permit::enter(export) };
        if permit.is_some() {
            export.device().submit(ios, Patience::TryNow, &mut |_| ());
            self.cold.learn(ios);
        }
        for io in ios {
            let slot = usize::try_from(io.tag).expect("a tag is an index");
            self.slots[slot].outcome = match &permit {
                Some(_) => io.outcome().map(|outcome| outcome.map_err(errno::of)),
                None => Some(Err(Errno::Shutdown)),
            };
        }
    }

    /// Puts the answers together at the front of `output`; answers how long they are.
    pub(super) fn finish(&mut self, output: &mut [u8]) -> usize {
        let mut end = 0;
        for Slot { pending, work, at, payload, outcome } in self.slots.drain(..) {
            match (outcome, work) {
                (Some(Ok(())), Some(Work::Read(extent))) => {
                    let header = pending.data_header_length();
                    let whole = header + extent.length().in_memory();
                    pending.data(&mut output[at..at + header], extent.length());
                    // Only where something before it was left over or failed is there a gap to close.
                    if at != end {
                        output.copy_within(at..at + whole, end);
                    }
                    end += whole;
                }
                (Some(outcome), _) => {
                    let reply = pending.answer(outcome);
                    output[end..end + reply.bytes().len()].copy_from_slice(reply.bytes());
                    end += reply.bytes().len();
                }
                (None, Some(work)) => self.left.push(LeftOver { pending, work, payload, fresh: false }),
                (None, None) => unreachable!("what needs no work has its outcome"),
            }
        }
        end
    }

    /// Learns how the READs of the batch fared that were tried elsewhere: whether none of them was in memory.
    pub(super) fn learn(&mut self, all_missed: bool) {
        self.cold.note(all_missed);
    }

    /// What is left for the workers.
    pub(super) fn left_over(&mut self) -> impl ExactSizeIterator<Item = LeftOver> + '_ {
        self.left.drain(..)
    }
}

impl<'b> Desk<'b> {
    /// Cuts `length` bytes off the front of the input.
    fn skip_input(&mut self, length: usize) -> &'b mut [u8] {
        self.taken += length;
        let (front, rest) = std::mem::take(&mut self.input).split_at_mut(length);
        self.input = rest;
        front
    }

    /// Cuts room for an answer off the front of the output; also says where it starts.
    fn room(&mut self, length: usize) -> (&'b mut [u8], usize) {
        let at = self.filled;
        self.filled += length;
        self.output.note(self.filled);
        let (front, rest) = std::mem::take(&mut self.output.bytes).split_at_mut(length);
        self.output.bytes = rest;
        (front, at)
    }
}

/// The memory of an emptied list, for operations of another lifetime: the collection is done in place.
fn recycled<'to>(mut list: Vec<Io<'_>>) -> Vec<Io<'to>> {
    list.clear();
    list.into_iter().map(|_| unreachable!("the list is empty")).collect()
}
