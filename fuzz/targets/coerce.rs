//! libFuzzer's way into `isocenter_fuzz::coerce`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| isocenter_fuzz::coerce::run(data));
