//! The scan for keys: the whole memory of a daemon, its cores, its state directory and its log, searched for every key of
//! a volume after it was attached and detached again and again.
//!
//! The keys are learnt apart from the daemon (`keys`), searched for raw, in hex and in base64 (`scan`). That the scan finds
//! what is there is shown twice: with keys that are in use, and, in builds with the feature `leave-secrets`, with each
//! wipe left out in turn (`left`).
//!
//! `ENVOL_SECRET_CYCLES` says how often a volume is attached and detached (`scripts/secrets` asks for 1,000).
#![allow(unsafe_code, reason = "the shared harness asks the kernel to end its daemons with it")]
#![allow(clippy::print_stderr, reason = "what was searched is for whoever reads the test output")]

mod keys;
#[cfg(feature = "leave-secrets")]
mod left;
mod looking;
mod scan;
#[path = "../support/mod.rs"]
mod support;
mod world;
