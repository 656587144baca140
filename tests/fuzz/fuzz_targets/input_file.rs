#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| haul_cli::fuzzing::input_file(bytes));
