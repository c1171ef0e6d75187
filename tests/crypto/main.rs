//! Sector encryption against what others published and computed. Every test runs on every engine of this processor.
//!
//! `published`: vectors of the IEEE, NIST and Wycheproof. `oracles`: random requests against OpenSSL and the `xts-mode`
//! crate. `choice`: which engine a process runs, and which builds have a cipher that is none. `support`: keys, randomness, hexadecimal.
#![allow(clippy::print_stderr, reason = "a skip and a seed are for whoever reads the output of a test")]

mod choice;
mod oracles;
mod published;
mod support;
