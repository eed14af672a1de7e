//! libFuzzer's way into `isocenter_fuzz::accept`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| isocenter_fuzz::accept::run(data));
