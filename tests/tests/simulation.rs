//! The default simulation: some thousands of runs without a failure, and each rare path taken.

use std::time::Instant;

use amaters_cluster_tests::sim::{DEFAULT_SEEDS, Settings, replay, run, search};

#[test]
fn the_default_runs_hold_and_take_every_rare_path() {
    let start = Instant::now();
    let findings = search(Settings::new(0), DEFAULT_SEEDS, |_| {});
    if let Some(failure) = findings.failure {
        panic!("{failure}");
    }
    assert_eq!(findings.runs, DEFAULT_SEEDS.end - DEFAULT_SEEDS.start, "runs");
    let missing = findings.coverage.missing();
    assert!(missing.is_empty(), "no run took these paths: {}\n{}", missing.join(", "), findings.coverage);
    eprintln!("{} runs in {:.1} s\n{}", findings.runs, start.elapsed().as_secs_f64(), findings.coverage);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let mut digests = Vec::new();
    for seed in 0..20 {
        let first = run(Settings::new(seed)).expect("it holds");
        assert_eq!(run(Settings::new(seed)).expect("it holds"), first, "seed {seed}");
        assert_eq!(replay(Settings::new(seed), 60).expect("it holds"), first, "seed {seed}, with a trace");
        digests.push(first.digest);
    }
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 20, "other seeds give other runs");
}
