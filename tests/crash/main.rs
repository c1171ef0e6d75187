//! Power cuts and kills at every moment: the real volume and attachment code on a disk and a state directory that lose
//! whatever was not synced, and a client's ledger of what may be there afterwards (RELIABILITY.md).
//!
//! `world` runs the product on both; `power` works out what a cut may leave; `ledger` knows what was promised;
//! `workload` makes the traffic. The tests: `states` (many workloads, sampled), `headers` (header and record updates,
//! exhaustively), `mutants` (that all of this can fail), `campaign` (the long run of `scripts/crash`).

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stderr,
    reason = "a test may fail at any line, and its numbers are small"
)]

mod campaign;
mod check;
mod disk;
mod headers;
mod image;
mod kms;
mod ledger;
mod mutants;
mod power;
mod random;
mod shelf;
mod states;
mod workload;
mod world;
