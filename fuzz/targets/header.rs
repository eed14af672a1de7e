//! libFuzzer's way into `isocenter_fuzz::header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| isocenter_fuzz::header::run(data));
