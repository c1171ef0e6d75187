//! The NBD server against clients that behave, misbehave, vanish and attack: one test for each thing that a client can
//! do, on a real socket, with the product's own server over devices in memory.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test that panics has failed, its numbers are small, and a skipped one says so"
)]

mod handshake;
mod interop;
mod listeners;
mod noise;
mod pressure;
mod solitude;
mod support;
mod transmission;
