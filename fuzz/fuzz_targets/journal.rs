//! A journal with damaged files, and all that reads it: see `tests/src/damaged/journal.rs`, which a plain test runs over the corpus that is kept.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

/// The host's journal, without the rest of the host.
#[allow(dead_code, unreachable_pub, unused_imports, reason = "a part of it is enough")]
#[path = "../../host/src/wal/mod.rs"]
mod wal;

#[allow(dead_code, reason = "shared with the other targets")]
#[path = "../../tests/src/fuzzing/bytes.rs"]
mod bytes;

#[path = "../../tests/src/damaged/journal.rs"]
mod journal;

/// `TMPDIR` says where: best in memory.
static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("ukehi-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory can be made");
    dir
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| journal::read(&DIR, bytes));
