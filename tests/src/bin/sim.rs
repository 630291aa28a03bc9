//! Runs the simulation: `sim --seeds 1000 --from 0`. Ends with 1 and the failing seed if a property was violated.

use std::process::ExitCode;
use std::time::Instant;

use amaters_cluster_core::planted::Bug;
use amaters_cluster_tests::sim::{Settings, bug_named, replay, search};
use clap::Parser;

/// Seeded random runs of a cluster, with Raft's safety properties checked after each step.
#[derive(Parser)]
struct Options {
    /// How many runs.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first run's seed; the others follow.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Nodes of the cluster, 1 to 7; without it, 1 to 7 by the seed.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=7))]
    nodes: Option<u64>,
    /// Nodes that wait to be added, up to 2; without it, 0 to 2 by the seed. Without any, the members stay what they are.
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=2))]
    spares: Option<u64>,
    /// Whether the log is sealed; without it, for a third of the seeds.
    #[arg(long)]
    sealed: Option<bool>,
    /// Steps of a run, before everything is mended.
    #[arg(long, default_value_t = 1000)]
    steps: u32,
    /// Show all steps of the first run instead of going through many.
    #[arg(long)]
    trace: bool,
    /// Put a bug in, by its row in the list of hazards: h01, h02, h03, h08, h09, h12, h12-opening, h12-transfer, h14, h50, h52 or another of `sim::BUGS`.
    #[arg(long, value_parser = bug_named)]
    bug: Option<Bug>,
    /// Check nothing but whether what clients see is linearizable.
    #[arg(long)]
    clients_only: bool,
}

fn main() -> ExitCode {
    let Options { seeds, from, nodes, spares, sealed, steps, trace, bug, clients_only } = Options::parse();
    let settings = Settings { seed: from, nodes, spares, sealed, steps, bug, clients_only };
    if trace {
        return show(settings);
    }
    let start = Instant::now();
    let findings = search(settings, from..from.saturating_add(seeds), |runs| {
        if runs % 1000 == 0 {
            eprintln!("{runs} of {seeds} runs");
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("{} runs of {steps} steps in {seconds:.1} s\n{}", findings.runs, findings.coverage);
    let Some(failure) = findings.failure else { return ExitCode::SUCCESS };
    eprintln!("{failure}");
    ExitCode::FAILURE
}

fn show(settings: Settings) -> ExitCode {
    match replay(settings, usize::MAX) {
        Ok(report) => {
            eprintln!("seed {} went well, digest {:016x}\n{}", settings.seed, report.digest, report.coverage);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
