//! Schedules: the registry, an attachment's gate and the sharing of syncs with every choice of which thread goes on made by
//! shuttle, thousands of times over.
//!
//! The product is the real one, over files in memory; its locks, atomics and threads are shuttle's (feature `schedules`).
//! `world` is a volume and its operators, `life` what may happen to it at once, `syncs` and `gates` the two small parts alone.
//! Each scenario is seen to fail with a defect put in, which is always a part of the tests' own: nothing in the product can
//! be switched off. `ENVOL_SCHEDULES` says how many schedules each scenario runs under (`scripts/schedules` asks for 100,000).
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may fail at any line, and says how much it looked at"
)]

mod gates;
#[path = "../crash/kms.rs"]
mod kms;
mod life;
mod syncs;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, Runner};

/// A run of the tests; `scripts/schedules` asks for more.
const SCHEDULES: usize = 300;

fn schedules() -> usize {
    std::env::var("ENVOL_SCHEDULES").map_or(SCHEDULES, |text| text.parse().expect("a number"))
}

fn run(schedules: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    // The way up and down opens files and reads JSON, and most of it runs on a thread's stack.
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new(schedules), config).run(scenario);
}

/// Runs `scenario` under many schedules, none of which may break a promise.
pub fn hold(scenario: impl Fn() + Send + Sync + 'static) {
    run(schedules(), scenario);
    eprintln!("{} schedules", schedules());
}

/// The scenario has a defect, which a schedule of not so many shows by a panic that says one of `words`.
pub fn break_down(words: &[&str], scenario: impl Fn() + Send + Sync + 'static) {
    let found = catch_unwind(AssertUnwindSafe(|| run(20_000, scenario))).expect_err("the defect was not found");
    let said = found.downcast_ref::<String>().map(String::as_str).or_else(|| found.downcast_ref::<&str>().copied());
    let is_it = |said: &str| words.iter().any(|word| said.contains(word));
    assert!(said.is_some_and(is_it), "not the defect: {said:?}");
}
