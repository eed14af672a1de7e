//! libFuzzer's way into `isocenter_fuzz::json_out`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| isocenter_fuzz::json_out::run(data));
