//! Traffic of several clients, made from a number: reads, writes, zeros and trims at any alignment, durable or not,
//! batches, flushes, detaches and attaches, and disks whose syncs fail.
//!
//! Clients overlap without threads: while one's operation is under way in the disk, another's is carried out, so that every
//! order of issue and completion is repeated by its number. One that would have to wait for a lock that is held is sent
//! away and comes again later. Clients do not race for a piece, but for one case: a whole piece is tried while part of
//! it is being written.

use std::ops::Range;
use std::sync::{Arc, Mutex, Weak};

use envol::block::record::{Journal, Moment};
use envol::block::{BlockDevice, BlockDeviceExt, BlockError, Durability, Effort, Io, Op, Patience, Zeroing};
use envol::units::{ByteCount, ByteOffset, Extent};

use crate::check::{Story, Update};
use crate::disk::Disk;
use crate::image::{PIECE, bytes_of, content};
use crate::ledger::{Answer, Ledger};
use crate::power::Past;
use crate::random::Random;
use crate::world::{Ground, SIZE, World};

const PIECES: u64 = SIZE / PIECE as u64;
/// How deep clients come between each other.
const DEPTH: usize = 3;

/// What a client asks.
#[derive(Debug, Clone)]
enum Ask {
    Write {
        at: u64,
        length: u64,
        how: Durability,
    },
    Zero {
        at: u64,
        length: u64,
        how: Durability,
        zeroing: Zeroing,
    },
    Discard {
        at: u64,
        length: u64,
        how: Durability,
    },
    Read {
        at: u64,
        length: u64,
    },
    /// Whole pieces, each write with its durability, at once; with a flush among them.
    Batch {
        writes: Vec<(Range<u64>, Durability)>,
        flush: bool,
    },
    Flush,
}

/// An operation under way.
#[derive(Debug)]
struct Flight {
    pieces: Vec<Range<u64>>,
    /// It holds, or may take, the lock of a piece for itself.
    exclusive: bool,
    /// It holds a lock at all.
    locks: bool,
    /// The only piece that it touches, and in part.
    part_of: Option<u64>,
}

struct Inner {
    random: Random,
    ledger: Ledger,
    flights: Vec<Flight>,
    versions: u64,
    later: Vec<Ask>,
    broken: Option<String>,
    /// When the first failure was seen: what is issued later is refused above the disk.
    failed: Option<Moment>,
}

/// The clients of one attachment.
pub struct Clients {
    device: Box<dyn BlockDevice>,
    /// Where whole pieces are written instead: a device that knows nothing of the first one's locks.
    aside: Option<Box<dyn BlockDevice>>,
    disk: Arc<Disk>,
    thick: bool,
    inner: Mutex<Inner>,
}

/// What a workload left behind.
pub struct Run {
    pub past: Past,
    pub story: Story,
    pub broken: Option<String>,
}

impl Ask {
    fn touched(&self) -> Vec<Range<u64>> {
        let size = PIECE as u64;
        match self {
            Self::Write { at, length, .. }
            | Self::Zero { at, length, .. }
            | Self::Discard { at, length, .. }
            | Self::Read { at, length } => std::iter::once(at / size..(at + length).div_ceil(size)).collect(),
            Self::Batch { writes, .. } => writes.iter().map(|(pieces, _)| pieces.clone()).collect(),
            Self::Flush => vec![],
        }
    }

    fn is_whole(&self) -> bool {
        match self {
            Self::Write { at, length, .. } | Self::Zero { at, length, .. } => (at | length) % PIECE as u64 == 0,
            _ => true,
        }
    }

    fn flight(&self) -> Flight {
        let pieces = self.touched();
        let one = matches!(&pieces[..], [only] if only.end - only.start == 1);
        // A durable one has let go of its lock while it syncs.
        let part = one && matches!(self, Self::Write { how: Durability::Cached, .. }) && !self.is_whole();
        let part_of = part.then(|| pieces[0].start);
        Flight { exclusive: !self.is_whole(), locks: !matches!(self, Self::Flush), part_of, pieces }
    }
}

/// The bytes of a version: no two are alike, and no piece of them is zeros.
fn pattern(version: u64, length: u64) -> Vec<u8> {
    let mut random = Random::new(version);
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    bytes.truncate(length as usize);
    bytes
}

fn extent(at: u64, length: u64) -> Extent {
    Extent::new(ByteOffset::new(at), ByteCount::new(length)).expect("small")
}

impl Clients {
    pub fn new(
        device: Box<dyn BlockDevice>,
        aside: Option<Box<dyn BlockDevice>>,
        world: &World,
        random: Random,
        ledger: Ledger,
    ) -> Arc<Self> {
        let inner = Inner { random, ledger, flights: vec![], versions: 0, later: vec![], broken: None, failed: None };
        let (disk, thick) = (Arc::clone(&world.disk), world.ground.shape.thick);
        Arc::new(Self { device, aside, disk, thick, inner: Mutex::new(inner) })
    }

    /// Carries out so many operations of the first client, and whatever comes between.
    pub fn work(self: &Arc<Self>, operations: u64) {
        let clients: Weak<Self> = Arc::downgrade(self);
        let meanwhile = move || {
            if let Some(clients) = clients.upgrade() {
                clients.come_between();
            }
        };
        self.disk.interrupt(Some(Arc::new(meanwhile)));
        for _ in 0..operations {
            let ask = choose(&mut self.inner.lock().expect("no panic").random);
            self.ask(&ask, Patience::MayBlock);
            while let Some(again) = self.postponed() {
                self.ask(&again, Patience::MayBlock);
            }
        }
        self.disk.interrupt(None);
    }

    fn postponed(&self) -> Option<Ask> {
        self.inner.lock().expect("no panic").later.pop()
    }

    /// The clients' state back, the device gone.
    pub fn leave(self: Arc<Self>) -> (Random, Ledger, Option<String>) {
        let inner = Arc::into_inner(self).expect("nobody else holds it").inner.into_inner().expect("no panic");
        (inner.random, inner.ledger, inner.broken)
    }

    /// Called while an operation is under way: perhaps another client asks something.
    fn come_between(&self) {
        let Some((ask, patience)) = self.inner.lock().expect("no panic").intrusion() else { return };
        if !self.ask(&ask, patience) {
            self.inner.lock().expect("no panic").later.push(ask);
        }
    }

    fn journal(&self) -> &Journal {
        &self.disk.journal
    }

    /// Carries out one operation; answers whether it was not sent away.
    fn ask(&self, ask: &Ask, patience: Patience) -> bool {
        self.inner.lock().expect("no panic").flights.push(ask.flight());
        let issued = self.journal().tick();
        let done = match ask {
            Ask::Write { at, length, how } => self.write(*at, *length, *how, issued, patience),
            Ask::Read { at, length } => self.read(*at, *length, patience),
            Ask::Batch { writes, flush } => self.batch(writes, *flush, issued),
            Ask::Flush => {
                let outcome = self.device.flush();
                self.flushed(issued, outcome);
                true
            }
            Ask::Zero { at, length, how, zeroing } => {
                let (effort, zeroing) = (Effort::Any, *zeroing);
                let op = Op::Zero { extent: extent(*at, *length), zeroing, effort, durability: *how };
                self.zeros(op, (*at, *length), *how, issued)
            }
            Ask::Discard { at, length, how } => {
                let op = Op::Discard { extent: extent(*at, *length), durability: *how };
                let size = PIECE as u64;
                let (first, last) = (at.next_multiple_of(size), (at + length) / size * size);
                let changed = if self.thick || last <= first { (first, 0) } else { (first, last - first) };
                self.zeros(op, changed, *how, issued)
            }
        };
        self.inner.lock().expect("no panic").flights.pop();
        done
    }

    fn flushed(&self, issued: Moment, outcome: Result<(), BlockError>) {
        let answered = self.journal().tick();
        let mut inner = self.inner.lock().expect("no panic");
        match outcome {
            Ok(()) => inner.ledger.synced(issued, answered),
            Err(_) => inner.failed = inner.failed.or(Some(answered)),
        }
    }

    fn write(&self, at: u64, length: u64, how: Durability, issued: Moment, patience: Patience) -> bool {
        let bytes = self.inner.lock().expect("no panic").fresh(length);
        let whole = (at | length).is_multiple_of(PIECE as u64);
        let device = self.aside.as_ref().filter(|_| whole).unwrap_or(&self.device);
        let mut buffer = bytes.clone();
        let op = Op::Write { at: ByteOffset::new(at), from: &mut buffer, durability: how };
        let mut batch = [Io::new(op, 0)];
        device.submit(&mut batch, patience, &mut |_| ());
        let Some(outcome) = batch[0].outcome() else { return false };
        self.wrote(at, &bytes, (issued, self.journal().tick()), how, outcome);
        true
    }

    fn zeros(&self, op: Op<'_>, (at, length): (u64, u64), how: Durability, issued: Moment) -> bool {
        let outcome = self.device.perform(op);
        self.wrote(at, &vec![0; length as usize], (issued, self.journal().tick()), how, outcome);
        true
    }

    fn batch(&self, writes: &[(Range<u64>, Durability)], flush: bool, issued: Moment) -> bool {
        let size = PIECE as u64;
        let mut inner = self.inner.lock().expect("no panic");
        let bytes: Vec<_> = writes.iter().map(|(pieces, _)| inner.fresh((pieces.end - pieces.start) * size)).collect();
        drop(inner);
        let mut buffers = bytes.clone();
        let mut batch: Vec<Io<'_>> = Vec::new();
        for ((number, (pieces, how)), from) in writes.iter().enumerate().zip(&mut buffers) {
            let op = Op::Write { at: ByteOffset::new(pieces.start * size), from, durability: *how };
            batch.push(Io::new(op, number as u64));
        }
        if flush {
            batch.insert(batch.len() / 2, Io::new(Op::Flush, u64::MAX));
        }
        self.device.submit(&mut batch, Patience::MayBlock, &mut |io| {
            let outcome = io.outcome().expect("it is done");
            if io.tag == u64::MAX {
                return self.flushed(issued, outcome);
            }
            let number = io.tag as usize;
            let (pieces, how) = &writes[number];
            self.wrote(pieces.start * size, &bytes[number], (issued, self.journal().tick()), *how, outcome);
        });
        true
    }

    fn read(&self, at: u64, length: u64, patience: Patience) -> bool {
        let mut bytes = vec![0; length as usize];
        let mut batch = [Io::new(Op::Read { at: ByteOffset::new(at), into: &mut bytes }, 0)];
        self.device.submit(&mut batch, patience, &mut |_| ());
        let Some(outcome) = batch[0].outcome() else { return false };
        outcome.expect("reads go on");
        self.inner.lock().expect("no panic").compare(at, &bytes);
        true
    }

    fn wrote(
        &self,
        at: u64,
        bytes: &[u8],
        (issued, now): (Moment, Moment),
        how: Durability,
        outcome: Result<(), BlockError>,
    ) {
        let mut inner = self.inner.lock().expect("no panic");
        let answer = match outcome {
            Ok(()) if how == Durability::Durable => Answer::Durable(now),
            Ok(()) => Answer::Cached(now),
            // Refused before it came to the disk.
            Err(BlockError::Poisoned) if inner.failed.is_some_and(|failed| failed < issued) => return,
            Err(_) => Answer::Failed,
        };
        if outcome.is_err() {
            inner.failed.get_or_insert(now);
        }
        inner.take(at, bytes, issued, answer);
    }
}

impl Inner {
    fn fresh(&mut self, length: u64) -> Vec<u8> {
        self.versions += 1;
        // Zeros that somebody writes are data too.
        let zeros = self.random.percent(3);
        let number = self.random.next();
        if zeros { vec![0; length as usize] } else { pattern(number, length) }
    }

    /// The pieces under `bytes` at `at`, each with what it holds once they are written.
    fn take(&mut self, at: u64, bytes: &[u8], issued: Moment, answer: Answer) {
        let size = PIECE as u64;
        let end = at + bytes.len() as u64;
        for piece in at / size..end.div_ceil(size) {
            let mut plain = bytes_of(self.ledger.latest(piece));
            let (from, to) = ((piece * size).max(at), ((piece + 1) * size).min(end));
            let (start, stop) = ((from - piece * size) as usize, (to - piece * size) as usize);
            plain[start..stop].copy_from_slice(&bytes[(from - at) as usize..(to - at) as usize]);
            self.ledger.wrote(piece, content(&plain), issued, answer);
        }
    }

    fn compare(&mut self, at: u64, bytes: &[u8]) {
        // Of what failed, part may be there.
        if self.failed.is_some() {
            return;
        }
        let size = PIECE as u64;
        for (index, byte) in bytes.iter().enumerate() {
            let place = at + index as u64;
            if bytes_of(self.ledger.latest(place / size))[(place % size) as usize] != *byte {
                self.broken.get_or_insert(format!("byte {place} is read wrong"));
            }
        }
    }

    /// What another client asks while these operations are under way.
    fn intrusion(&mut self) -> Option<(Ask, Patience)> {
        if self.flights.len() >= DEPTH || self.flights.is_empty() || !self.random.percent(12) {
            return None;
        }
        let exclusive = self.flights.iter().any(|flight| flight.exclusive);
        let locked = self.flights.iter().any(|flight| flight.locks);
        if let [Flight { part_of: Some(piece), .. }] = self.flights[..]
            && self.random.percent(60)
        {
            let (at, length) = (piece * PIECE as u64, PIECE as u64);
            return Some((Ask::Write { at, length, how: Durability::Cached }, Patience::TryNow));
        }
        let ask = choose(&mut self.random);
        let fits = match &ask {
            Ask::Flush => true,
            Ask::Write { how: Durability::Cached, .. } | Ask::Read { .. } => ask.is_whole() && ask.is_aligned(),
            _ => !exclusive && ask.is_whole() && ask.is_aligned(),
        };
        let apart = ask.touched().iter().all(|mine| {
            self.flights
                .iter()
                .flat_map(|flight| &flight.pieces)
                .all(|theirs| mine.end <= theirs.start || theirs.end <= mine.start)
        });
        let patience = if exclusive && !matches!(ask, Ask::Flush) { Patience::TryNow } else { Patience::MayBlock };
        (apart && (fits || !locked)).then_some((ask, patience))
    }
}

impl Ask {
    fn is_aligned(&self) -> bool {
        match self {
            Self::Read { at, length } | Self::Discard { at, length, .. } => (at | length) % PIECE as u64 == 0,
            _ => true,
        }
    }
}

/// Where: mostly a few pieces that are written again and again.
fn place(random: &mut Random, whole: bool) -> (u64, u64) {
    let size = PIECE as u64;
    let count = if random.percent(85) { random.within(1..6) } else { random.within(6..20) };
    let first = if random.percent(75) { random.below(24) } else { random.below(PIECES - 20) };
    if whole {
        return (first * size, count * size);
    }
    let start = first * size + random.below(size);
    let length = if random.percent(60) { random.within(1..size) } else { random.within(1..count * size + 1) };
    (start, length)
}

fn choose(random: &mut Random) -> Ask {
    let how = if random.percent(15) { Durability::Durable } else { Durability::Cached };
    let zeroing = if random.percent(50) { Zeroing::MayPunch } else { Zeroing::KeepAllocated };
    let what = random.below(100);
    let (at, length) = place(random, !matches!(what, 34..=53 | 62..=65 | 70..=73 | 80..=83));
    match what {
        0..54 => Ask::Write { at, length, how },
        54..66 => Ask::Zero { at, length, how, zeroing },
        66..74 => Ask::Discard { at, length, how },
        74..84 => Ask::Read { at, length },
        84..90 => batch(random),
        _ => Ask::Flush,
    }
}

fn batch(random: &mut Random) -> Ask {
    let mut writes: Vec<(Range<u64>, Durability)> = Vec::new();
    let mut next = random.below(16);
    for _ in 0..random.within(2..6) {
        let first = next + random.below(3);
        next = first + random.within(1..4);
        let how = if random.percent(20) { Durability::Durable } else { Durability::Cached };
        writes.push((first..next, how));
    }
    Ask::Batch { writes, flush: random.percent(40) }
}

/// The workload of a number: a volume's life, with so many operations of its first client.
pub fn run(ground: &Arc<Ground>, number: u64, operations: u64) -> Run {
    let world = World::new(ground);
    let mut random = Random::new(number);
    let mut story = Story { ledger: Ledger::new(PIECES), updates: vec![], ruined: None };
    update(&world, &mut story, || world.create().expect("made"));
    let fails_at = if number % 8 == 3 { operations * 3 / 4 } else { u64::MAX };
    let (mut done, mut broken) = (0, None);
    while done < operations {
        let mut client = None;
        update(&world, &mut story, || client = Some(world.attach(false).expect("attached")));
        let device = Box::new(client.expect("attached"));
        let ledger = std::mem::replace(&mut story.ledger, Ledger::new(0));
        let clients = Clients::new(device, None, &world, random, ledger);
        let bout = if number.is_multiple_of(4) { operations } else { operations.div_ceil(2) }.min(operations - done);
        for operation in done..done + bout {
            if operation == fails_at {
                world.disk.fail_syncs(1);
            }
            clients.work(1);
        }
        done += bout;
        let found;
        (random, story.ledger, found) = clients.leave();
        broken = broken.or(found);
        if done < operations || !number.is_multiple_of(3) {
            let begun = world.disk.journal.tick();
            let synced = world.detach().is_ok();
            let ended = world.disk.journal.tick();
            if synced {
                story.ledger.synced(begun, ended);
            }
            story.updates.push(Update { begun, ended, generation: 0 });
        }
        if fails_at < done {
            break;
        }
        if number % 5 == 2 && done < operations {
            update(&world, &mut story, || world.rewrap(&format!("key {done}")).expect("sealed anew"));
        }
    }
    Run { past: world.end(), story, broken }
}

/// Does something to header and record, and notes when, and what generation came of it.
pub fn update(world: &World, story: &mut Story, change: impl FnOnce()) {
    let begun = world.disk.journal.tick();
    change();
    let ended = world.disk.journal.tick();
    let generation = world.record().expect("it is known").generation;
    story.updates.push(Update { begun, ended, generation });
}
