//! Whether what a cut left is what it may be: the daemon comes up, knows the volume, attaches it without a false alarm, at
//! a generation that there was, and reads what the client's ledger allows.

use std::collections::{BTreeSet, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use envol::block::record::Moment;
use envol::volume::{Rollback, Unverified, VolumeError};

use crate::disk::read_all;
use crate::ledger::Ledger;
use crate::power::{Past, State, Tear};
use crate::random::Random;
use crate::world::{Client, Ground, World, caller};

/// Where the volume's pieces start on the disk.
pub const DATA: u64 = (1 << 20) / 512;

/// How a volume is read after a recovery.
pub type Reading = fn(&Ground, &World, &Client) -> Vec<u8>;

/// A change of header or record: when, and what generation it leads to.
#[derive(Debug, Clone)]
pub struct Update {
    pub begun: Moment,
    /// Never, where it failed.
    pub ended: Moment,
    pub generation: u64,
}

/// What was promised of a volume, over time.
#[derive(Debug, Clone)]
pub struct Story {
    pub ledger: Ledger,
    /// The first is its making.
    pub updates: Vec<Update>,
    /// When both copies of its header were damaged: until the last update has ended, it may be refused as damaged.
    pub ruined: Option<Moment>,
}

/// What came up after a cut or a kill.
pub struct Recovered {
    pub plain: Vec<u8>,
    /// That of the header that was found.
    pub found: u64,
    /// What the recovery itself did.
    pub past: Past,
}

/// How many states were tried, and what was found wrong.
#[derive(Default)]
pub struct Tally {
    seen: HashSet<u64>,
    pub inside: u64,
    pub again: u64,
    pub killed: u64,
    pub findings: Vec<String>,
}

impl Story {
    /// The generations that a header may have after a cut at `at`.
    pub fn generations(&self, at: Moment) -> RangeInclusive<u64> {
        let done = self.updates.iter().filter(|update| update.ended <= at).map(|update| update.generation);
        let begun = self.updates.iter().filter(|update| update.begun <= at).map(|update| update.generation);
        done.max().unwrap_or(0)..=begun.max().unwrap_or(0)
    }

    /// Whether somebody was told that the volume is there.
    fn is_born(&self, at: Moment) -> bool {
        self.updates.first().is_some_and(|making| making.ended <= at)
    }

    /// Whether it may be that no copy of the header is whole.
    fn is_in_ruins(&self, at: Moment) -> bool {
        let mended = self.updates.last().is_some_and(|last| last.ended <= at);
        self.ruined.is_some() && !mended
    }

    pub fn is_inside(&self, at: Moment) -> bool {
        self.updates.iter().any(|update| (update.begun..=update.ended).contains(&at))
    }
}

impl Tally {
    pub fn distinct(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Counts `state`, unless it was there before.
    pub fn is_new(&mut self, state: &State) -> bool {
        self.seen.insert(state.hash())
    }

    fn note<T>(&mut self, what: &str, outcome: Result<T, String>) -> Option<T> {
        outcome.map_err(|finding| self.findings.push(format!("{what}: {finding}"))).ok()
    }
}

pub fn by_the_product(_: &Ground, _: &World, client: &Client) -> Vec<u8> {
    read_all(client).expect("a volume that is attached can be read")
}

/// Brings the daemon up in `world` and judges what it finds against `story` at `at`. `None` where nothing was promised yet
/// and nothing is there.
pub fn recover(
    mut world: World,
    (story, at): (&Story, Moment),
    garbage: &BTreeSet<u64>,
    reading: Reading,
) -> Result<Option<Recovered>, String> {
    let Some(before) = world.record() else {
        if story.is_born(at) {
            return Err("the volume is no longer known".into());
        }
        return unknown(&mut world).map(|()| None);
    };
    let client = match world.attach(false) {
        Err(error) if error.code() == "volume.damaged" && story.is_in_ruins(at) => return Ok(None),
        outcome => outcome.map_err(|error| format!("refused: {error:?}"))?,
    };
    let after = world.record().ok_or("the record is gone")?;
    let found = after.generation - 1;
    if !story.generations(at).contains(&found) || found < before.generation {
        let (was, range) = (before.generation, story.generations(at));
        return Err(format!("generation {found} was found, {range:?} are allowed, {was} was recorded"));
    }
    let plain = reading(&world.ground, &world, &client);
    let excused = |piece: u64| garbage.contains(&(DATA + piece));
    story.ledger.judge(at, &plain, excused).map_err(|broken| format!("{broken:?}"))?;
    drop(client);
    Ok(Some(Recovered { plain, found, past: world.end() }))
}

/// No record: there is no volume on the disk, or a whole one.
fn unknown(world: &mut World) -> Result<(), String> {
    let disk = &*world.disk.recorder;
    let opened = Unverified::read(disk).and_then(|header| {
        let data_key = header.unwrap_key(world.ground.kms(&header.header().kms), &caller())?;
        header.verify(data_key, None, Rollback::Refuse)
    });
    match opened {
        Ok(_) | Err(VolumeError::NotAVolume | VolumeError::Damaged { .. } | VolumeError::MacMismatch) => Ok(()),
        Err(error) => Err(format!("half a volume: {error:?}")),
    }
}

/// Judges one state; with `again`, the machine also fails during the recovery, at moments by chance.
pub fn judge(
    ground: &Arc<Ground>,
    (state, at): (&State, Moment),
    story: &Story,
    (again, random): (usize, &mut Random),
    tally: &mut Tally,
) {
    judge_by(ground, (state, at), story, (again, random), (tally, by_the_product));
}

pub fn judge_by(
    ground: &Arc<Ground>,
    (state, at): (&State, Moment),
    story: &Story,
    (again, random): (usize, &mut Random),
    (tally, reading): (&mut Tally, Reading),
) {
    let world = World::from_state(ground, state);
    let Some(Some(recovered)) = tally.note("a cut", recover(world, (story, at), &state.garbage, reading)) else {
        return;
    };
    for _ in 0..again {
        judge_again(ground, &recovered, random, (tally, reading));
    }
}

/// A cut during a recovery: what is recovered then is the same.
pub fn judge_again(
    ground: &Arc<Ground>,
    first: &Recovered,
    random: &mut Random,
    (tally, reading): (&mut Tally, Reading),
) {
    let at = *random.of(&first.past.moments());
    let cut = first.past.cut(at);
    let tear = *random.of(&[Tear::Pieces, Tear::Pages, Tear::Whole]);
    let fates = random.of(&cut.fates(tear, 16, &mut random.clone())).clone();
    let state = cut.state(tear, &fates, random.of(&cut.files));
    if tally.is_new(&state) {
        tally.again += 1;
        tally.inside += 1;
        judge_same(ground, first, &state, (tally, reading));
    }
}

/// Judges `state`, which a cut during the recovery that led to `first` left.
pub fn judge_same(ground: &Arc<Ground>, first: &Recovered, state: &State, (tally, reading): (&mut Tally, Reading)) {
    let next = Update { begun: 0, ended: Moment::MAX, generation: first.found + 1 };
    let updates = vec![Update { begun: 0, ended: 0, generation: first.found }, next];
    let story = Story { ledger: Ledger::new(0), updates, ruined: None };
    let second = recover(World::from_state(ground, state), (&story, 0), &BTreeSet::new(), reading);
    let second = tally.note("a cut during a recovery", second);
    if let Some(second) = second
        && second.is_none_or(|second| second.plain != first.plain)
    {
        tally.findings.push("a second recovery reads otherwise than the first".into());
    }
}

/// The daemon is killed at `at` and started again, and only then the power fails.
pub fn judge_killed(
    ground: &Arc<Ground>,
    (past, at): (&Past, Moment),
    story: &Story,
    random: &mut Random,
    tally: &mut Tally,
) {
    let landed = random.percent(50);
    let read_only = random.percent(30);
    let world = World::killed(ground, past, at, landed);
    let Some(record) = world.record() else { return };
    // What the second daemon was told of, and the power cut must not take back.
    let outcome = match world.attach(read_only).map(drop) {
        Err(error) if error.code() == "volume.damaged" && story.is_in_ruins(at) => return,
        outcome => outcome,
    };
    let known = world.record().map_or(record.generation, |record| record.generation);
    tally.note("a kill", outcome.map_err(|error| format!("refused: {error:?}")));
    let whole = world.end();
    let moments: Vec<Moment> = whole.moments().into_iter().filter(|moment| *moment >= at).collect();
    let Some(cut_at) = moments.get(random.below(moments.len() as u64) as usize).copied() else { return };
    let ended = if Some(&cut_at) == moments.last() { cut_at } else { Moment::MAX };
    let mut story = Story { ledger: story.ledger.until(at), updates: story.updates.clone(), ruined: story.ruined };
    story.updates.retain(|update| update.begun <= at);
    // What was under way has never ended.
    story.updates.iter_mut().filter(|update| update.ended > at).for_each(|update| update.ended = Moment::MAX);
    story.updates.push(Update { begun: at, ended, generation: known });
    let cut = whole.cut(cut_at);
    let tear = *random.of(&[Tear::Pieces, Tear::Pages, Tear::Whole]);
    let fates = random.of(&cut.fates(tear, 16, &mut random.clone())).clone();
    let state = cut.state(tear, &fates, random.of(&cut.files));
    if tally.is_new(&state) {
        tally.killed += 1;
        tally.inside += 1;
        let recovered = recover(World::from_state(ground, &state), (&story, cut_at), &state.garbage, by_the_product);
        tally.note("a power cut after a kill", recovered);
    }
}
