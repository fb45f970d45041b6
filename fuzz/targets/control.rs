//! libFuzzer on `sandhog_fuzz::control`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| (sandhog_fuzz::control::TARGET.run)(input));
