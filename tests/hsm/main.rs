//! The HSM part in a process of its own: what it may do, what the front never holds, and what happens when it dies.
#![allow(unsafe_code, reason = "the shared harness asks the kernel to end its daemons with it")]

mod killing;
mod memory;
mod pairs;
mod place;
mod rsa;
mod running;
mod sources;
#[path = "../support/mod.rs"]
mod support;
mod waiting;
mod zeroize;
