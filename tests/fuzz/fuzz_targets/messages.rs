#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| concurrent_futures::fuzzing::messages(data));
