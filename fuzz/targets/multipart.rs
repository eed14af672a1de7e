//! libFuzzer's way into `isocenter_fuzz::multipart`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| isocenter_fuzz::multipart::run(data));
