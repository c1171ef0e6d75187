//! The program, as its NBD clients see it, against a plain vector of bytes: random operations of any alignment over
//! several connections, with detach and attach in between; and what may happen when connections race.
#![allow(unsafe_code, reason = "the shared harness asks the kernel to end its daemons with it")]

mod crowd;
mod model;
mod races;
#[path = "../support/mod.rs"]
mod support;
