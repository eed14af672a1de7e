//! libFuzzer's way into `isocenter_fuzz::media`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| isocenter_fuzz::media::run(data));
