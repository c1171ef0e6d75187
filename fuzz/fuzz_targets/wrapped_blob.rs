//! See `tests/fuzz/targets/wrapped_blob.rs`.
#![no_main]
#![allow(dead_code, reason = "each program runs one of the targets")]

#[path = "../../tests/fuzz/targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::wrapped_blob::run(data));
