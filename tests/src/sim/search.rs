//! Many runs, on all cores.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::coverage::Coverage;
use super::{Failure, Settings, run};

/// What many runs found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// How many went well.
    pub runs: u64,
    /// Which rare paths those took.
    pub coverage: Coverage,
    /// The failure with the lowest seed among those that were seen.
    pub failure: Option<Box<Failure>>,
}

/// Runs each seed with these settings until one fails. `progress` is told how many runs went well, now and then.
pub fn search(settings: Settings, seeds: Range<u64>, progress: impl Fn(u64) + Sync) -> Findings {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new(Findings::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let outcome = run(Settings { seed, ..settings });
            let mut found = found.lock().expect("no worker panics: a run's panic is a failure");
            match outcome {
                Ok(report) => {
                    found.runs += 1;
                    found.coverage.add(&report.coverage);
                    if found.runs % 100 == 0 {
                        progress(found.runs);
                    }
                }
                Err(failure) => {
                    next.store(seeds.end, Ordering::Relaxed);
                    if found.failure.as_ref().is_none_or(|other| failure.settings.seed < other.settings.seed) {
                        found.failure = Some(failure);
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(work);
        }
    });
    found.into_inner().expect("no worker panics: a run's panic is a failure")
}
