//! Every change of header and record, cut at every moment: all subsets of up to eight torn pieces (beyond that, sampled),
//! with garbage where there are few, everything that the directory may hold, and cut again during the recovery.

use std::collections::BTreeSet;
use std::sync::Arc;

use envol::block::record::Moment;
use envol::block::{BlockDeviceExt, Durability};
use envol::units::ByteOffset;
use envol::volume::Rollback;

use crate::check::{DATA, Story, Tally, Update, by_the_product, judge_again, judge_killed, judge_same, recover};
use crate::ledger::Ledger;
use crate::power::{Cut, Fate, Past, State, Tear, garbled_subsets, subsets};
use crate::random::Random;
use crate::world::{Ground, OTHER, OWN, SIZE, Shape, THIN, World};

/// A header of three pieces, so that all of every recovery can be cut too.
const SHORT: Shape = Shape { blob: 600, ..THIN };
/// A header of eight.
const LONG: Shape = Shape { blob: 2400, ..THIN };
/// The longest there is.
const LONGEST: Shape = Shape { blob: 6144, ..THIN };

/// Up to so many torn pieces all subsets of them are tried.
const ALL_PIECES: usize = 8;

/// A change, made on a volume that is there (or is not yet), and when it began.
struct Changed {
    past: Past,
    story: Story,
    begun: Moment,
}

type Change = fn(&World, &mut Story);

fn making(_: &World, _: &mut Story) {}

fn attach(world: &World, story: &mut Story) {
    crate::workload::update(world, story, || drop(world.attach(false).expect("attached")));
}

fn attach_and_detach(world: &World, story: &mut Story) {
    attach(world, story);
    let begun = world.disk.journal.tick();
    world.detach().expect("detached");
    let ended = world.disk.journal.tick();
    story.updates.push(Update { begun, ended, generation: 0 });
}

fn rewrap(world: &World, story: &mut Story) {
    crate::workload::update(world, story, || world.rewrap("another key").expect("sealed anew"));
}

fn rewrap_attached(world: &World, story: &mut Story) {
    attach(world, story);
    rewrap(world, story);
}

/// To another KMS, which seals under a key of the same name.
fn move_away(world: &World, story: &mut Story) {
    crate::workload::update(world, story, || world.rewrap_in(Some(OTHER), "alias/aws/ebs").expect("sealed there"));
}

fn move_away_attached(world: &World, story: &mut Story) {
    attach(world, story);
    move_away(world, story);
}

fn move_back(world: &World, story: &mut Story) {
    crate::workload::update(world, story, || world.rewrap_in(Some(OWN), "another key").expect("sealed here"));
}

/// A backup that is put back over a header that has gone on.
fn restore_older(world: &World, story: &mut Story) {
    let backup = world.back_up();
    attach_and_detach(world, story);
    crate::workload::update(world, story, || world.restore(&backup, Rollback::Accept).expect("put back"));
}

/// A backup that is put back over two copies that are damaged, and synced so.
fn restore_over_ruins(world: &World, story: &mut Story) {
    let backup = world.back_up();
    for place in [0, 512 << 10] {
        let disk = &world.disk.recorder;
        disk.write_at(ByteOffset::new(place + 100), &mut [0xe5; 40], Durability::Durable).expect("written");
    }
    // From here on there may be no volume until it is put back.
    story.ruined = Some(world.disk.journal.tick());
    crate::workload::update(world, story, || world.restore(&backup, Rollback::Refuse).expect("put back"));
}

/// The operations on headers, by name, each with what comes before it.
const CHANGES: [(&str, Change, Change); 10] = [
    ("create", making, making),
    ("attach", making, attach),
    ("attach again and detach", attach_and_detach, attach_and_detach),
    ("rewrap", attach_and_detach, rewrap),
    ("rewrap while attached", making, rewrap_attached),
    ("rewrap to another KMS", attach_and_detach, move_away),
    ("rewrap to another KMS while attached", making, move_away_attached),
    ("rewrap back from another KMS", move_away, move_back),
    ("restore an older header", making, restore_older),
    ("restore over two damaged copies", attach_and_detach, restore_over_ruins),
];

fn changed(ground: &Arc<Ground>, which: usize) -> (&'static str, Changed) {
    let (name, before, change) = CHANGES[which];
    let world = World::new(ground);
    let mut story = Story { ledger: Ledger::new(SIZE / 512), updates: vec![], ruined: None };
    crate::workload::update(&world, &mut story, || world.create().expect("made"));
    before(&world, &mut story);
    // The making is itself a change where nothing else is.
    let is_making = std::ptr::fn_addr_eq(change, making as Change);
    let begun = if is_making { 0 } else { world.disk.journal.tick() };
    change(&world, &mut story);
    (name, Changed { past: world.end(), story, begun })
}

/// All states of a cut: subsets of what is pending, torn by pieces, and what the directory may hold beside each.
fn states(cut: &Cut, random: &mut Random) -> Vec<State> {
    let count = cut.count(Tear::Pieces);
    let mut fates: Vec<Vec<Fate>> =
        if count <= ALL_PIECES { subsets(count) } else { cut.fates(Tear::Pieces, 256, random) };
    if count <= 4 {
        fates.extend(garbled_subsets(count));
    } else {
        fates.extend((0..32).map(|_| cut.garbled(Tear::Pieces, random)));
    }
    let state = |(fates, files): (&Vec<Fate>, _)| cut.state(Tear::Pieces, fates, files);
    fates.iter().flat_map(|fates| cut.files.iter().map(move |files| (fates, files))).map(state).collect()
}

/// How thoroughly recoveries are cut in their turn.
#[derive(Clone, Copy)]
enum Again {
    /// At every moment, in every way.
    All,
    Sampled(usize),
}

/// Judges all cuts of a change; answers how many of the states were opened.
fn each_cut(ground: &Arc<Ground>, changed: &Changed, again: Again, tally: &mut Tally) -> u64 {
    let mut opened = 0;
    let Changed { past, story, begun } = changed;
    let mut random = Random::new(*begun);
    for at in past.moments().into_iter().filter(|at| at >= begun) {
        let cut = past.cut(at);
        for state in states(&cut, &mut random) {
            if !tally.is_new(&state) {
                continue;
            }
            let world = World::from_state(ground, &state);
            let first = match recover(world, (story, at), &state.garbage, by_the_product) {
                Ok(Some(first)) => first,
                Ok(None) => continue,
                Err(finding) => {
                    tally.findings.push(format!("cut at {at}: {finding}"));
                    continue;
                }
            };
            opened += 1;
            match again {
                Again::Sampled(times) => {
                    (0..times).for_each(|_| judge_again(ground, &first, &mut random, (tally, by_the_product)));
                }
                Again::All => {
                    for cut in first.past.moments().into_iter().map(|at| first.past.cut(at)) {
                        for state in states(&cut, &mut random) {
                            if tally.is_new(&state) {
                                tally.again += 1;
                                judge_same(ground, &first, &state, (tally, by_the_product));
                            }
                        }
                    }
                }
            }
        }
        for _ in 0..8 {
            judge_killed(ground, (past, at), story, &mut random, tally);
        }
    }
    opened
}

/// What the sweeps of all changes have come to.
#[derive(Default)]
struct Swept {
    tally: Tally,
    /// How many states there are at the least, if no subset of torn pieces was left out.
    least: u64,
    /// How many states were opened and, where that is asked, cut again in every way.
    opened: u64,
    /// The pieces of a header copy.
    pieces: BTreeSet<u64>,
}

/// All of one change on a volume of one shape.
pub fn sweep(ground: &Arc<Ground>, which: usize, again: bool, tally: &mut Tally) {
    let (name, changed) = changed(ground, which);
    sweep_changed(ground, (name, &changed), again, tally);
}

fn sweep_changed(ground: &Arc<Ground>, (name, changed): (&str, &Changed), again: bool, tally: &mut Tally) -> u64 {
    let again = if again { Again::All } else { Again::Sampled(1) };
    let sound = tally.findings.len();
    let opened = each_cut(ground, changed, again, tally);
    tally.findings[sound..].iter_mut().for_each(|finding| *finding = format!("{name}: {finding}"));
    opened
}

fn all_changes(shape: Shape, again: bool) -> Swept {
    let mut swept = Swept::default();
    for which in 0..CHANGES.len() {
        let ground = Ground::new(shape);
        let (name, changed) = changed(&ground, which);
        swept.opened += sweep_changed(&ground, (name, &changed), again, &mut swept.tally);
        assert!(swept.tally.findings.is_empty(), "{:#?}", swept.tally.findings);
        // Where the tests damage both copies, that is no write of a header.
        let begun = changed.story.ruined.unwrap_or(changed.begun);
        for write in changed.past.changes_of(begun, 0..DATA) {
            swept.pieces.insert(write.touched);
            // Whatever piece becomes another one, or does not; the last of all subsets is the first of the next write.
            swept.least += (1 << write.altered.min(ALL_PIECES as u64)) - 1;
        }
    }
    swept
}

fn counts(tally: &Tally, least: u64, opened: u64) -> String {
    let Tally { again, killed, .. } = tally;
    let all = tally.distinct();
    let counts = format!(
        "{all} states (at least {least} of first cuts), {again} of them in {opened} recoveries, {killed} after kills"
    );
    eprintln!("{counts}");
    counts
}

/// A recovery is an attach: two copies, of each at least the first piece (the generation) and the last (the MAC) altered.
const STATES_OF_A_RECOVERY: u64 = 2 * 3;

#[test]
fn every_tear_of_a_short_header_and_its_record_opens_and_so_does_every_tear_of_that_recovery() {
    let Swept { tally, least, opened, pieces } = all_changes(SHORT, true);
    assert_eq!(pieces, BTreeSet::from([3]));
    let counts = counts(&tally, least, opened);
    assert!(tally.distinct() - tally.again - tally.killed >= least, "{counts}");
    assert!(tally.again >= opened * STATES_OF_A_RECOVERY, "{counts}");
}

#[test]
fn every_tear_of_a_header_of_eight_pieces_opens() {
    let Swept { tally, least, opened, pieces } = all_changes(LONG, false);
    assert_eq!(pieces, BTreeSet::from([8]));
    let counts = counts(&tally, least, opened);
    assert!(tally.distinct() - tally.again - tally.killed >= least, "{counts}");
}

#[test]
fn tears_of_the_longest_header_open() {
    let Swept { tally, least, opened, pieces } = all_changes(LONGEST, false);
    assert_eq!(pieces, BTreeSet::from([17]));
    let counts = counts(&tally, least, opened);
    // Of more than eight pieces some subsets: as many as of eight.
    assert!(tally.distinct() - tally.again - tally.killed >= least, "{counts}");
}
