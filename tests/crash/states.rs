//! Many workloads, many cuts: the states that a power cut may leave of each, sampled, and what comes up from them.

use std::sync::Arc;

use envol::block::record::Moment;
use envol::units::SectorSize;

use crate::check::{DATA, Story, Tally, judge, judge_killed};
use crate::power::{Past, Tear};
use crate::random::Random;
use crate::workload::{Run, run};
use crate::world::{Ground, Shape};

/// The least number of operations in a workload.
pub const OPERATIONS: u64 = 50;

/// The volume of workload `number`.
pub fn shape(number: u64) -> Shape {
    let sectors = if number % 5 == 1 { SectorSize::B512 } else { SectorSize::B4096 };
    let blob = if number % 7 == 2 { 2600 } else { 300 };
    Shape { sectors, thick: number % 6 == 5, blob }
}

/// Runs workload `number` and judges `states` states of it (fewer where there are no more to be found).
pub fn examine(number: u64, states: u64, tally: &mut Tally) {
    let ground = Ground::new(shape(number));
    let mut random = Random::new(number ^ 0x5eed);
    let Run { past, story, broken } = run(&ground, number, OPERATIONS + number % 40);
    tally.findings.extend(broken.map(|broken| format!("workload {number}, without a cut: {broken}")));
    let header_area = 0..DATA;
    if !past.overwritten_between_syncs(header_area).is_empty() {
        tally.findings.push(format!("workload {number}: a header was overwritten twice between two syncs"));
    }
    let before = tally.findings.len();
    sample(&ground, (&past, &story), states, &mut random, tally);
    for finding in &mut tally.findings[before..] {
        *finding = format!("workload {number}: {finding}");
    }
}

/// Judges `states` states that were not there before.
fn sample(ground: &Arc<Ground>, (past, story): (&Past, &Story), states: u64, random: &mut Random, tally: &mut Tally) {
    let moments = past.moments();
    let (inside, outside): (Vec<Moment>, Vec<Moment>) = moments.iter().partition(|at| story.is_inside(**at));
    let enough = tally.distinct() + states;
    for _ in 0..states {
        let of_header = random.percent(35);
        let at = *random.of(if of_header { &inside } else { &outside });
        let cut = past.cut(at);
        let tear = *random.of(&[Tear::Pieces, Tear::Pieces, Tear::Pages, Tear::Whole]);
        let mut fates = cut.fates(tear, if of_header { 4 } else { 8 }, random);
        fates.push(cut.garbled(tear, random));
        for fates in fates {
            let state = cut.state(tear, &fates, random.of(&cut.files));
            if tally.is_new(&state) {
                tally.inside += u64::from(of_header);
                let again = usize::from(random.percent(12));
                judge(ground, (&state, at), story, (again, random), tally);
            }
        }
        if of_header || random.percent(30) {
            judge_killed(ground, (past, at), story, random, tally);
        }
        if tally.distinct() >= enough {
            return;
        }
    }
}

#[test]
fn twenty_thousand_states_of_two_hundred_workloads_hold_what_was_promised() {
    let mut tally = Tally::default();
    for number in 0..200 {
        examine(number, 104, &mut tally);
        assert!(tally.findings.is_empty(), "{:#?}", tally.findings);
    }
    let Tally { inside, again, killed, .. } = tally;
    let counts =
        format!("{} states, {inside} in updates, {again} in recoveries, {killed} after kills", tally.distinct());
    eprintln!("{counts}");
    assert!(tally.distinct() >= 20_000 && inside >= 5_000, "{counts}");
    assert!(again >= 500 && killed >= 500, "{counts}");
}
