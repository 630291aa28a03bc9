//! Seeded random runs of a [`Cluster`](crate::cluster::Cluster), with Raft's safety properties checked after each step.
//!
//! A run draws everything from its seed: how many nodes, the `weather` of each spell of steps (what fails, and how often), each next
//! step. Messages are lost, repeated, delayed and overtaken; links are cut, in one direction too; nodes stop at any moment, also between a
//! write and its completion, and lose what was not durable; disks are slow, stall, or are full; clocks run unevenly and jump. Meanwhile clients read
//! and write registers at all nodes, and `patrons` have sessions, in which they repeat commands at random.
//!
//! After each step the `checker` looks at the node that moved, and the `ledger` at what its clients were told; now and then, whether their
//! `history` is linearizable, which knows nothing of logs and terms. At the end
//! everything is mended, and a bare majority, then the whole cluster, must get to work again within bounded time: the `finale`.
//!
//! A failure prints its seed and the last steps. The same settings give the same run, byte for byte.

mod checker;
mod clients;
mod command;
pub mod coverage;
mod finale;
mod history;
mod keys;
mod ledger;
mod linearizability;
mod machines;
mod network;
mod operators;
mod patrons;
mod promises;
mod requests;
mod seals;
mod search;
mod sessions;
mod trace;
mod weather;
mod world;

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use amaters_cluster_core::planted::Bug;

pub use search::{Findings, search};

use coverage::Coverage;
use trace::Trace;
use world::World;

/// The bugs that can be put in, by their rows in the list of hazards, or by what they spoil.
pub const BUGS: [(&str, Bug); 14] = [
    ("h01", Bug::AckNamesOwnLast),
    ("h02", Bug::TruncateAlways),
    ("h03", Bug::CommitEarlierTerms),
    ("h08", Bug::NewMajorityAlone),
    ("h09", Bug::MajorityOfUnion),
    ("h12", Bug::ReadWithoutRound),
    ("h12-opening", Bug::ReadBeforeFirstCommit),
    ("h12-transfer", Bug::KeepLeaseInTransfer),
    ("h14", Bug::AckBeforeDurable),
    ("h50", Bug::BootShared),
    ("h52", Bug::EarlierKeysForgotten),
    ("key-retired-early", Bug::KeyRetiredEarly),
    ("exactly-once", Bug::RepeatCarriedOut),
    ("session-expiry", Bug::ExpireByOwnClock),
];

/// The runs that every change must pass.
pub const DEFAULT_SEEDS: Range<u64> = 0..20_000;

/// What a property's violation says.
type Check = Result<(), String>;

/// What a run is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where all random numbers of the run come from.
    pub seed: u64,
    /// How many nodes; none for 1 to 7, by the seed.
    pub nodes: Option<u64>,
    /// How many nodes wait to be added; none for 0 to 2, by the seed.
    pub spares: Option<u64>,
    /// Whether the log is sealed; none for a third of the runs, by the seed.
    pub sealed: Option<bool>,
    /// How many steps, before everything is mended.
    pub steps: u32,
    /// A bug to put in.
    pub bug: Option<Bug>,
    /// Leaves out all checks but that of the clients' history, which knows nothing of logs and terms: a bug that it finds is one that hurts.
    pub clients_only: bool,
}

/// What a run without a failure did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which rare paths it took.
    pub coverage: Coverage,
    /// A fingerprint of everything that the nodes did.
    pub digest: u64,
}

/// A run that violated a property, or panicked.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The run.
    pub settings: Settings,
    /// What is wrong.
    pub reason: String,
    /// The last steps.
    pub trace: Vec<String>,
}

impl Settings {
    /// The settings of the default run.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, nodes: None, spares: None, sealed: None, steps: 1000, bug: None, clients_only: false }
    }

    /// How many nodes the run has. Five are where most can happen, three what most people run.
    #[must_use]
    pub fn nodes(&self) -> u64 {
        self.nodes.unwrap_or(match self.seed % 16 {
            0 => 1,
            1 => 2,
            2 => 4,
            3 => 6,
            4 => 7,
            5..=10 => 3,
            _ => 5,
        })
    }

    /// How many nodes wait to be added. Half of the runs have none, and their members stay what they are.
    #[must_use]
    pub fn spares(&self) -> u64 {
        self.spares.unwrap_or((self.seed / 16 % 4).saturating_sub(1))
    }

    /// Whether the log is sealed.
    #[must_use]
    pub fn sealed(&self) -> bool {
        self.sealed.unwrap_or(self.seed.is_multiple_of(3))
    }
}

/// Carries out one run.
///
/// # Errors
/// The failure, with the last steps before it.
pub fn run(settings: Settings) -> Result<Report, Box<Failure>> {
    // Nobody reads the trace of a run that goes well: it is written when the run is repeated.
    attempt(settings, &mut Trace::none()).or_else(|_| replay(settings, 60))
}

/// Carries out one run with a trace of its last `length` steps, whatever comes of it.
///
/// # Errors
/// The failure, with the last steps before it.
pub fn replay(settings: Settings, length: usize) -> Result<Report, Box<Failure>> {
    let mut trace = Trace::of_last(length);
    attempt(settings, &mut trace).map_err(|reason| Box::new(Failure { settings, reason, trace: trace.into_lines() }))
}

/// The bug of a row in the list of hazards.
///
/// # Errors
/// Names the rows that there are.
pub fn bug_named(row: &str) -> Result<Bug, String> {
    let rows: Vec<_> = BUGS.iter().map(|(row, _)| *row).collect();
    let known = BUGS.iter().find(|(known, _)| *known == row);
    known.map(|(_, bug)| *bug).ok_or_else(|| format!("expected one of {}", rows.join(", ")))
}

fn attempt(settings: Settings, trace: &mut Trace) -> Result<Report, String> {
    let life = catch_unwind(AssertUnwindSafe(|| World::new(settings, trace).live()));
    life.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { seed, steps, bug, clients_only, .. } = self.settings;
        let (nodes, spares) = (self.settings.nodes(), self.settings.spares());
        let sealed = self.settings.sealed();
        let kind = if sealed { ", sealed" } else { "" };
        writeln!(f, "seed {seed}, {nodes} nodes and {spares} spares{kind}: {}", self.reason)?;
        self.trace.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        let bug = BUGS.iter().find(|(_, known)| Some(*known) == bug).map_or(String::new(), |(row, _)| format!(" --bug {row}"));
        let clients_only = if clients_only { " --clients-only" } else { "" };
        write!(
            f,
            "to see all of it: cargo run --release --package amaters-cluster-tests --bin sim -- --from {seed} --nodes {nodes} --spares {spares} --sealed {sealed} --steps {steps} --trace{bug}{clients_only}"
        )
    }
}
