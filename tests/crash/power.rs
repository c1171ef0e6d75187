//! What a power cut may leave of what was asked of a disk and of a directory.
//!
//! Durable at a cut is what was completed before the issue of the last sync that has completed, and what was itself
//! asked to be durable and has completed (dm-log-writes' rule). Of the rest any subset, each torn at 512 bytes, at 4096,
//! or whole, or with garbage where it was written. What a sync failed to write no later sync makes durable: the kernel
//! says so once and forgets.
//!
//! A store may also bring newer bytes forward to where older ones of the same place were due. Since any subset is taken, in
//! any order, that leaves nothing that is not here already.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use envol::block::Durability;
use envol::block::record::{Asked, Moment, Step};

use crate::image::{Content, Image, PIECE, content};
use crate::random::Random;
use crate::shelf::{Files, Log};

/// How many pieces a write touched, and how many it made others of.
#[derive(Debug, Clone, Copy)]
pub struct Altered {
    pub touched: u64,
    pub altered: u64,
}

/// Everything that was done since a moment at which the disk and the directory were what they are known to be.
#[derive(Debug, Clone)]
pub struct Past {
    pub start: Image,
    pub steps: Vec<Step>,
    pub files: Log,
}

/// What a cut left.
#[derive(Debug, Clone)]
pub struct State {
    pub image: Image,
    pub files: Files,
    /// Pieces that hold neither old nor new bytes.
    pub garbage: BTreeSet<u64>,
}

/// A cut, before it is decided what became of what was not durable.
pub struct Cut {
    durable: Image,
    pending: Vec<Pending>,
    pub files: Vec<Files>,
}

/// One piece of one operation that may or may not have come to the disk.
#[derive(Debug, Clone)]
struct Pending {
    step: usize,
    piece: u64,
    content: Content,
}

/// What becomes of a part of what was pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Kept,
    Garbage,
}

/// In which units operations are torn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tear {
    Pieces,
    Pages,
    Whole,
}

impl State {
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.image.hash_into(&mut hasher);
        self.files.hash(&mut hasher);
        hasher.finish()
    }
}

fn ended_well(step: &Step, by: Moment) -> Option<Moment> {
    step.completed.filter(|(at, outcome)| *at <= by && outcome.is_ok()).map(|(at, _)| at)
}

fn is_sync(step: &Step) -> bool {
    matches!(step.asked, Asked::Flush) || is_durable_by_itself(step)
}

fn is_durable_by_itself(step: &Step) -> bool {
    match &step.asked {
        Asked::Write { durability, .. } | Asked::Zero { durability, .. } => *durability == Durability::Durable,
        Asked::Flush => false,
    }
}

impl Past {
    /// Every moment at which something changed.
    pub fn moments(&self) -> Vec<Moment> {
        let of_steps =
            self.steps.iter().flat_map(|step| std::iter::once(step.issued).chain(step.completed.map(|(at, _)| at)));
        let all: BTreeSet<Moment> = of_steps.chain(self.files.moments()).collect();
        all.into_iter().collect()
    }

    /// What each step leaves of the pieces that it touches, if all of them reach the disk in the order of their issue.
    fn effects(&self) -> Vec<Vec<(u64, Content)>> {
        let mut cached = self.start.clone();
        let effects = self.steps.iter().map(|step| {
            let pieces = match &step.asked {
                Asked::Write { at, bytes, .. } => cached.written(at.get(), bytes),
                Asked::Zero { extent, .. } => {
                    cached.written(extent.start().get(), &vec![0; extent.length().get() as usize])
                }
                Asked::Flush => Vec::new(),
            };
            pieces.iter().for_each(|(number, content)| cached.set(*number, content.clone()));
            pieces
        });
        effects.collect()
    }

    /// The disk as the kernel has it at `at`: what the next process sees where only this one dies.
    pub fn cached(&self, at: Moment) -> Image {
        let mut cached = self.start.clone();
        let effects = self.effects();
        for (_, pieces) in self.steps.iter().zip(effects).filter(|(step, _)| step.issued <= at) {
            pieces.into_iter().for_each(|(number, content)| cached.set(number, content));
        }
        cached
    }

    /// Whether `step` is on the disk for good at `at`.
    fn is_durable(&self, step: &Step, at: Moment) -> bool {
        let Some(done) = ended_well(step, at) else { return false };
        if is_durable_by_itself(step) {
            return true;
        }
        let failed = |sync: &&Step| is_sync(sync) && matches!(sync.completed, Some((_, Err(_)))) && sync.issued > done;
        let doomed_from = self.steps.iter().find(failed).map_or(Moment::MAX, |sync| sync.issued);
        self.steps.iter().any(|sync| {
            let covers = matches!(sync.asked, Asked::Flush) && ended_well(sync, at).is_some();
            covers && sync.issued > done && sync.issued < doomed_from
        })
    }

    pub fn cut(&self, at: Moment) -> Cut {
        let effects = self.effects();
        let mut durable = self.start.clone();
        let mut pending: Vec<Pending> = Vec::new();
        for (number, step) in self.steps.iter().enumerate().filter(|(_, step)| step.issued <= at) {
            let settled = self.is_durable(step, at);
            for (piece, content) in &effects[number] {
                if settled {
                    durable.set(*piece, content.clone());
                    // What was done with before this came cannot come back over it.
                    let superseded = |earlier: &Pending| {
                        let before = self.steps[earlier.step].completed.is_some_and(|(done, _)| done < step.issued);
                        earlier.piece == *piece && before
                    };
                    pending.retain(|earlier| !superseded(earlier));
                } else {
                    pending.push(Pending { step: number, piece: *piece, content: content.clone() });
                }
            }
        }
        Cut { durable, pending, files: self.files.crashes(at).into_iter().collect() }
    }

    /// What each write from `begun` on made of the pieces of a place.
    pub fn changes_of(&self, begun: Moment, place: std::ops::Range<u64>) -> Vec<Altered> {
        let mut cached = self.start.clone();
        let mut changes = Vec::new();
        for (step, effects) in self.steps.iter().zip(self.effects()) {
            let altered = effects.iter().filter(|(piece, content)| cached.piece(*piece) != *content).count() as u64;
            if step.issued >= begun && effects.first().is_some_and(|(piece, _)| place.contains(piece)) {
                changes.push(Altered { touched: effects.len() as u64, altered });
            }
            effects.into_iter().for_each(|(piece, content)| cached.set(piece, content));
        }
        changes
    }

    /// The places that were overwritten between two syncs: where a store may bring newer bytes forward.
    pub fn overwritten_between_syncs(&self, pieces: std::ops::Range<u64>) -> BTreeSet<u64> {
        let (mut since, mut twice) = (BTreeMap::new(), BTreeSet::new());
        for (step, effects) in self.steps.iter().zip(self.effects()) {
            if matches!((&step.asked, step.completed), (Asked::Flush, Some((_, Ok(()))))) {
                since.clear();
            }
            for (piece, _) in effects.into_iter().filter(|(piece, _)| pieces.contains(piece)) {
                if since.insert(piece, ()).is_some() {
                    twice.insert(piece);
                }
            }
        }
        twice
    }
}

impl Cut {
    /// What is not durable, in parts that reach the disk whole or not at all.
    fn parts(&self, tear: Tear) -> Vec<Vec<&Pending>> {
        let mut parts: Vec<((usize, u64), Vec<&Pending>)> = Vec::new();
        for pending in &self.pending {
            let unit = match tear {
                Tear::Pieces => pending.piece,
                Tear::Pages => pending.piece / 8,
                Tear::Whole => 0,
            };
            match parts.last_mut() {
                Some((last, part)) if *last == (pending.step, unit) => part.push(pending),
                _ => parts.push(((pending.step, unit), vec![pending])),
            }
        }
        parts.into_iter().map(|(_, part)| part).collect()
    }

    pub fn count(&self, tear: Tear) -> usize {
        self.parts(tear).len()
    }

    pub fn state(&self, tear: Tear, fates: &[Fate], files: &Files) -> State {
        let mut state = State { image: self.durable.clone(), files: files.clone(), garbage: BTreeSet::new() };
        for (part, fate) in self.parts(tear).into_iter().zip(fates) {
            for pending in part {
                match fate {
                    Fate::Lost => continue,
                    Fate::Kept => {
                        state.image.set(pending.piece, pending.content.clone());
                        state.garbage.remove(&pending.piece);
                    }
                    Fate::Garbage => {
                        state.image.set(pending.piece, content(&[0xe5; PIECE]));
                        state.garbage.insert(pending.piece);
                    }
                }
            }
        }
        state
    }

    /// Every state, as long as there are few; where there are more, those that find the most, and some by chance.
    pub fn fates(&self, tear: Tear, most: usize, random: &mut Random) -> Vec<Vec<Fate>> {
        let count = self.count(tear);
        if count < 31 && 1usize << count <= most {
            return subsets(count);
        }
        let prefix = |kept: usize| (0..count).map(move |index| index < kept).collect::<Vec<_>>();
        let but = |odd: usize, rest: bool| (0..count).map(|index| (index == odd) != rest).collect::<Vec<_>>();
        let mut all: Vec<Vec<bool>> = (0..=count).map(prefix).collect();
        all.extend((0..count).flat_map(|odd| [but(odd, true), but(odd, false)]));
        while all.len() > most / 2 {
            all.swap_remove(random.below(all.len() as u64) as usize);
        }
        while all.len() < most {
            let rarely = random.within(1..100);
            all.push((0..count).map(|_| random.percent(rarely)).collect());
        }
        let fate = |kept| if kept { Fate::Kept } else { Fate::Lost };
        let fates = |kept: Vec<bool>| kept.into_iter().map(fate).collect::<Vec<_>>();
        all.into_iter().map(fates).collect()
    }

    /// As [`Cut::fates`], some of the parts garbage.
    pub fn garbled(&self, tear: Tear, random: &mut Random) -> Vec<Fate> {
        let fates = [Fate::Lost, Fate::Kept, Fate::Garbage];
        (0..self.count(tear)).map(|_| *random.of(&fates)).collect()
    }
}

/// All subsets of `count` parts.
pub fn subsets(count: usize) -> Vec<Vec<Fate>> {
    let fate = |mask: usize, index: usize| if mask >> index & 1 == 1 { Fate::Kept } else { Fate::Lost };
    (0..1usize << count).map(|mask| (0..count).map(|index| fate(mask, index)).collect()).collect()
}

/// All ways to lose, keep and garble `count` parts.
pub fn garbled_subsets(count: usize) -> Vec<Vec<Fate>> {
    let fates = [Fate::Lost, Fate::Kept, Fate::Garbage];
    let digit = |number: usize, index: usize| fates[number / 3usize.pow(index as u32) % 3];
    (0..3usize.pow(count as u32)).map(|number| (0..count).map(|index| digit(number, index)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use envol::units::ByteOffset;

    fn write(at: u64, byte: u8, issued: Moment, completed: Moment) -> Step {
        let asked = Asked::Write {
            at: ByteOffset::new(at * PIECE as u64),
            bytes: Arc::from([byte; PIECE]),
            durability: Durability::Cached,
        };
        Step { asked, issued, completed: Some((completed, Ok(()))) }
    }

    fn flush(issued: Moment, completed: Moment) -> Step {
        Step { asked: Asked::Flush, issued, completed: Some((completed, Ok(()))) }
    }

    fn past(steps: Vec<Step>) -> Past {
        Past { start: Image::default(), steps, files: Log::default() }
    }

    /// The pieces that are certain, and those that are not.
    fn certain(past: &Past, at: Moment) -> (Vec<u64>, Vec<u64>) {
        let cut = past.cut(at);
        let sure = (0..8).filter(|piece| cut.durable.piece(*piece).is_some()).collect();
        (sure, cut.pending.iter().map(|pending| pending.piece).collect())
    }

    #[test]
    fn the_example_of_dm_log_writes_gives_its_answer() {
        // W1, W2, W3, C3, C2, Wflush, C1, Cflush: the flush covers W3 and W2.
        let steps = vec![write(1, 1, 1, 7), write(2, 2, 2, 5), write(3, 3, 3, 4), flush(6, 8)];
        assert_eq!(certain(&past(steps.clone()), 8), (vec![2, 3], vec![1]));
        assert_eq!(certain(&past(steps), 7), (vec![], vec![1, 2, 3]), "the flush has not completed");
    }

    #[test]
    fn a_sync_that_failed_dooms_what_it_should_have_covered() {
        let failed = Step { completed: Some((4, Err(envol::block::BlockError::Poisoned))), ..flush(3, 4) };
        let steps = vec![write(1, 1, 1, 2), failed, write(2, 2, 5, 6), flush(7, 8)];
        assert_eq!(certain(&past(steps), 8), (vec![2], vec![1]));
    }

    #[test]
    fn what_is_durable_is_not_undone_by_what_came_before_it() {
        let mut durable = write(1, 2, 3, 4);
        if let Asked::Write { durability, .. } = &mut durable.asked {
            *durability = Durability::Durable;
        }
        assert_eq!(certain(&past(vec![write(1, 1, 1, 2), durable.clone()]), 4), (vec![1], vec![]));
        assert_eq!(certain(&past(vec![write(1, 1, 1, 5), durable]), 5), (vec![1], vec![1]), "they raced");
    }

    #[test]
    fn operations_are_torn_as_asked() {
        let asked = Asked::Write {
            at: ByteOffset::new(6 * PIECE as u64),
            bytes: Arc::from([1; 4 * PIECE]),
            durability: Durability::Cached,
        };
        let cut = past(vec![Step { asked, issued: 1, completed: None }]).cut(1);
        let counts = [Tear::Pieces, Tear::Pages, Tear::Whole].map(|tear| cut.count(tear));
        assert_eq!(counts, [4, 2, 1]);
        assert_eq!(subsets(3).len(), 8);
        assert_eq!(garbled_subsets(2).len(), 9);
    }
}
