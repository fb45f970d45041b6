//! libFuzzer on `sandhog_fuzz::component`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| (sandhog_fuzz::component::TARGET.run)(input));
