//! libFuzzer's way into `isocenter_fuzz::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| isocenter_fuzz::frames::run(data));
