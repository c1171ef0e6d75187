//! The command line as people and scripts meet it: help, tables, errors, exit codes, and the demo.
//!
//! Wording is pinned here and nowhere else, by snapshots. Most of it talks to a scripted daemon whose answers are fixed;
//! `demo` and `daemon` run the real one.

mod answers;
mod asking;
mod daemon;
mod demo;
mod failures;
mod help;
mod program;
mod scripted;
mod terminal;
