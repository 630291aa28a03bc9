//! Goes through all states of a small cluster: `model --nodes 2 --entries 2`, or `model --nodes 3 --entries 0 --crashes 0 --heartbeats 0 --timeouts 1
//! --writes-at-once --changes 1`. Ends with 1 if a property does not hold in one of them.

use std::process::ExitCode;

use amaters_cluster_core::planted::Bug;
use amaters_cluster_tests::model::{Bounds, explore};
use amaters_cluster_tests::sim::bug_named;
use clap::Parser;

/// All states of a small cluster, one by one, with Raft's safety properties checked in each.
#[derive(Parser)]
struct Options {
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=7))]
    nodes: u64,
    /// The last term that a node may stand for.
    #[arg(long, default_value_t = 1)]
    terms: u64,
    /// Commands that are proposed.
    #[arg(long, default_value_t = 1)]
    entries: u64,
    /// Crashes.
    #[arg(long, default_value_t = 1)]
    crashes: u64,
    /// How often a leader's heartbeats are due.
    #[arg(long, default_value_t = 1)]
    heartbeats: u64,
    /// How often a node may wait in vain for a leader or for votes; without it, as often as the terms allow.
    #[arg(long)]
    timeouts: Option<u64>,
    /// Every write is durable at once.
    #[arg(long)]
    writes_at_once: bool,
    /// Nodes that wait to be added.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1))]
    spares: u64,
    /// Changes of the membership: the node that waits is added, or without one the last node removed.
    #[arg(long, default_value_t = 0)]
    changes: u64,
    /// Put a bug in, by its row in the list of hazards: h01, h02, h03 or h14; with a change of members h08 or h09.
    #[arg(long, value_parser = bug_named)]
    bug: Option<Bug>,
}

fn main() -> ExitCode {
    let Options { nodes, terms, entries, crashes, heartbeats, timeouts, writes_at_once, spares, changes, bug } = Options::parse();
    let bounds = Bounds { nodes, terms, entries, crashes, heartbeats, timeouts, writes_at_once, spares, changes, bug };
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    let report = explore(bounds, threads);
    eprintln!("{report}");
    if report.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
