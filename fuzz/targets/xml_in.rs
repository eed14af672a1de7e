//! libFuzzer's way into `isocenter_fuzz::xml_in`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| isocenter_fuzz::xml_in::run(data));
