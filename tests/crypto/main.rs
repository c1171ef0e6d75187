//! Sector encryption and key pairs against what others published and computed. Every test of the former runs on every engine of
//! this processor.
//!
//! `published`: vectors of the IEEE, NIST and Wycheproof. `oracles`: random requests against OpenSSL and the `xts-mode`
//! crate. `pairs` and `pairs_published`: the same of key pairs. `choice`: which engine a process runs, and which builds have a cipher that is none. `support`: keys, randomness, hexadecimal.
#![allow(clippy::print_stderr, reason = "a skip and a seed are for whoever reads the output of a test")]

mod choice;
mod oracles;
mod pairs;
mod pairs_published;
mod published;
mod support;
