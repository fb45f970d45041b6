//! libFuzzer on `sandhog_fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| (sandhog_fuzz::config::TARGET.run)(input));
