//! A node in all roles, and whatever its peers may send: see `tests/src/fuzzing/mod.rs`, which a plain test runs over the corpus that is kept.
#![no_main]

#[path = "../../tests/src/fuzzing/mod.rs"]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::live(bytes));
