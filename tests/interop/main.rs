//! The program against what others wrote: NBD clients, a real kernel, other implementations of the cipher.
#![allow(unsafe_code, reason = "the shared harness asks the kernel to end its daemons with it")]

mod clients;
mod guest;
mod kernel;
mod ladder;
mod oracle;
mod restart;
#[path = "../support/mod.rs"]
mod support;
mod syncs;
