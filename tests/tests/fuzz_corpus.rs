//! What a fuzzer has found worth keeping is gone through again, without a fuzzer: `cargo xtask fuzz` adds to it.

use std::fs;
use std::path::Path;

use amaters_cluster_tests::fuzzing;

#[test]
fn a_node_bears_all_that_a_fuzzer_has_found() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/envelopes");
    let mut stories = 0;
    for file in fs::read_dir(&corpus).expect("the corpus is kept") {
        fuzzing::live(&fs::read(file.expect("the corpus can be listed").path()).expect("a story can be read"));
        stories += 1;
    }
    assert!(stories > 100, "there are {stories} stories");
}

/// Stories at random reach less than those that a fuzzer has grown, but they are others each time the inputs change.
#[test]
fn a_node_bears_stories_at_random() {
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..20_000 {
        let story: Vec<u8> = (0..rng.usize(..600)).map(|_| rng.u8(..)).collect();
        fuzzing::live(&story);
    }
}

#[cfg(feature = "host")]
mod files {
    use std::fs;
    use std::path::Path;

    use amaters_cluster_tests::damaged::{journal, snapshot};

    /// Gives each story that is kept of a fuzz target, and then some at random.
    fn for_each(target: &str, at_random: u32, mut tell: impl FnMut(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let mut stories = 0;
        for file in fs::read_dir(&corpus).expect("the corpus is kept") {
            tell(&fs::read(file.expect("the corpus can be listed").path()).expect("a story can be read"));
            stories += 1;
        }
        assert!(stories > 50, "there are {stories} stories");
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..at_random {
            tell(&(0..rng.usize(..300)).map(|_| rng.u8(..)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_damage_to_a_journal_passes_for_what_was_written() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for_each("journal", 3000, |bytes| journal::read(dir.path(), bytes));
    }

    #[test]
    fn no_damage_to_a_snapshot_passes_for_what_was_written() {
        for_each("snapshot", 20_000, snapshot::restore);
    }
}
