//! A damaged snapshot, and a node that starts from it: see `tests/src/damaged/snapshot.rs`, which a plain test runs over the corpus that is kept.
#![no_main]

#[allow(dead_code, reason = "shared with the other targets")]
#[path = "../../tests/src/fuzzing/bytes.rs"]
mod bytes;

#[path = "../../tests/src/damaged/snapshot.rs"]
mod snapshot;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapshot::restore(bytes));
