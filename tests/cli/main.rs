//! The command line as people and scripts meet it: help, tables, errors, exit codes, the demo and the measuring.
//!
//! Wording is pinned here and nowhere else, by snapshots. Most of it talks to a scripted daemon whose answers are fixed;
//! `demo`, `bench`, `daemon` and `doctor` run the real one.

mod answers;
mod asking;
mod bench;
mod daemon;
mod demo;
mod doctor;
mod failures;
mod help;
mod program;
mod scripted;
mod terminal;
mod words;

#[allow(unsafe_code, reason = "signals to our own child processes")]
#[path = "../support/mod.rs"]
mod support;
