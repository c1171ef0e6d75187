//! With one wipe left out, the scan finds what that wipe is for.

use crate::world::World;

/// What is found after some cycles without the wipe called `wipe`.
fn without(wipe: &str) -> Vec<String> {
    let world = World::under("mlock", &[("ENVOL_LEAVE", wipe)]);
    (0..4).for_each(|number| world.cycle(number));
    world.check_keys_against_table();
    world.memory().found.kinds().into_iter().map(str::to_owned).collect()
}

fn assert_found(wipe: &str, kinds: &[&str]) {
    let found = without(wipe);
    eprintln!("without {wipe}: {found:?}");
    assert!(kinds.iter().all(|kind| found.iter().any(|found| found == kind)), "without {wipe}: {found:?}");
}

#[test]
fn a_build_that_leaves_nothing_out_leaves_nothing() {
    assert_eq!(without("nothing"), Vec::<String>::new());
}

#[test]
fn without_the_wipe_of_memory_all_keys_are_found() {
    let kinds = ["data key", "header MAC key", "sector key"];
    assert_found("memory", &kinds);
    assert_found("memory", &["encrypting round key", "decrypting round key", "tweak round key"]);
}

#[test]
fn without_the_wipe_of_stacks_keys_are_found_there() {
    assert_found("stack", &["decrypting round key"]);
}

#[test]
fn without_the_wipe_of_buffers_plaintext_is_found() {
    assert_found("buffers", &["plaintext"]);
}

#[test]
fn without_the_wipe_of_answers_the_exported_keys_are_found() {
    assert_found("answers", &["sector key"]);
}
