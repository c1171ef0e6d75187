//! See `tests/fuzz/targets/kms_wire.rs`.
#![no_main]
#![allow(dead_code, reason = "each program runs one of the targets")]

#[path = "../../tests/fuzz/targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::kms_wire::run(data));
