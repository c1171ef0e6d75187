//! The shipped program with what can go wrong underneath it: system calls that fail, fall short or are its last, disks that
//! are slow, full, broken or gone, the power cut at any write, and clients that come in crowds.
//!
//! `ledger` is what a client may find, `script` the client; `tracer` makes one system call go wrong, `syscalls` one after
//! another of them. `disk` is a disk of QEMU's under the backing (FUSE), `power` cuts its log at each entry, `sick` breaks it.
#![allow(
    unsafe_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::print_stderr,
    reason = "a test may fail at any line, and its numbers are small; it traces other processes"
)]

mod crowds;
mod disk;
mod ledger;
mod power;
#[allow(dead_code, reason = "shared with the crash tests, which choose in more ways")]
#[path = "../crash/random.rs"]
mod random;
mod script;
mod sick;
#[path = "../support/mod.rs"]
mod support;
#[cfg(target_arch = "x86_64")]
mod syscalls;
#[cfg(target_arch = "x86_64")]
mod tracer;
mod writes;
