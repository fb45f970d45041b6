//! libFuzzer on `sandhog_fuzz::host_calls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| (sandhog_fuzz::host_calls::TARGET.run)(input));
