//! libFuzzer's way into `isocenter_fuzz::query`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| isocenter_fuzz::query::run(data));
