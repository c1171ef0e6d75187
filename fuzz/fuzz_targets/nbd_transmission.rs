//! See `tests/fuzz/targets/nbd_transmission.rs`.
#![no_main]
#![allow(dead_code, reason = "each program runs one of the targets")]

#[path = "../../tests/fuzz/targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::nbd_transmission::run(data));
