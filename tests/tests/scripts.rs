//! Runs the scripts of `scripts/`, each a story of a cluster with its reviewed output. See [`amaters_cluster_tests::script`] for the
//! commands.

use std::path::{Path, PathBuf};

use amaters_cluster_tests::script::Script;

/// Names every script whose output differs, not only the first.
#[test]
fn scripts_have_the_reviewed_output() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let listed = std::fs::read_dir(&directory).expect("the scripts are there");
    let mut scripts: Vec<PathBuf> = listed.map(|entry| entry.expect("a readable directory").path()).collect();
    scripts.sort();
    assert!(scripts.len() >= 20, "only {} scripts in {}", scripts.len(), directory.display());
    let failed: Vec<_> = scripts.iter().filter(|script| !has_the_reviewed_output(script)).collect();
    assert!(failed.is_empty(), "the output of {failed:?} is another: see above; review it, and accept it with UPDATE_GOLDENFILES=1");
}

fn has_the_reviewed_output(script: &Path) -> bool {
    let run = || goldenscript::run(&mut Script::default(), script).expect("the script can be run");
    std::panic::catch_unwind(run).is_ok()
}
