//! Compares durable writes of three Ukehi nodes with another system on the same machine, in alternating runs; and measures how long writes stop when
//! the leader or the members change ([`outage`]), and the journal alone ([`wal`]).
//!
//! What counts is the ratio: absolute figures move from machine to machine, and from hour to hour. To be fair to both:
//! - Only one system's processes exist at a time: each run starts its system anew, on empty directories of the same disk, and ends it.
//! - A pair of runs gives one ratio, and every other pair runs the other system first. The median of the ratios is the result.
//! - Clients are closed loops that spread evenly over all nodes of the system, write 128 bytes (against plaintext 1 KiB as well) to random keys of the same set,
//!   and live in one thread here. A second of warm-up is not counted. A run with an error ends the comparison.
//!
//! Nothing is installed: where a program is missing, the error says how to get it.
#![allow(clippy::print_stdout, reason = "the report is what the program is for")]

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use amaters_cluster::cli::bench::BenchReport;
use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};

mod etcd;
mod outage;
mod processes;
mod systems;
mod wal;

use outage::Event;
use systems::{Encryption, System, UkehiLoad};

/// Compares durable writes of three Ukehi nodes with another system, in alternating runs
#[derive(Debug, Parser)]
#[command(name = "compare")]
struct Options {
    /// What to compare with
    #[arg(long, value_enum, required_unless_present_any = ["failover", "outage", "wal"])]
    against: Option<Rival>,
    /// Measures how long writes stop when the leader is killed: short for `--outage kill --runs 20`
    #[arg(long, conflicts_with_all = ["against", "outage"])]
    failover: bool,
    /// Measures how long writes stop when this happens
    #[arg(long, value_enum, conflicts_with = "against")]
    outage: Option<Event>,
    /// Compares the journal's appends with `fdatasync` alone, and reads a million entries back
    #[arg(long, conflicts_with_all = ["against", "failover", "outage"])]
    wal: bool,
    /// Pairs of runs, or events: 5 pairs, 20 events where nothing is said
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,
    /// The length of a run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Clients at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Has Ukehi's nodes encrypt nothing
    #[arg(long, requires = "against")]
    no_encryption: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rival {
    /// Three nodes of etcd (Debian's etcd-server)
    Etcd,
    /// One redis-server that syncs every write: no replication, so a mark and not a peer
    Redis,
    /// Ukehi's own core outside the sandbox, which shows what the sandbox costs
    Native,
    /// Ukehi's own writes, with linearizable reads on the other side
    Writes,
    /// Ukehi without snapshots, which shows what taking them all the time costs
    Snapshots,
    /// Ukehi without encryption, which shows what sealing costs: for values of 128 bytes, and for 1 KiB
    Plaintext,
}

/// The load of every run.
#[derive(Clone, Copy, Debug)]
struct Workload {
    clients: u32,
    seconds: u32,
    /// Bytes of a value.
    value: u32,
}

impl Workload {
    const KEYS: u32 = 100_000;
}

fn main() -> ExitCode {
    let options = Options::parse();
    let event = if options.failover { Some(Event::Kill) } else { options.outage };
    let done = match (event, options.against) {
        _ if options.wal => home().and_then(|home| wal::measure(options.runs.unwrap_or(5), options.seconds, &home)),
        (Some(event), _) => outage::measure(event, options.runs.unwrap_or(20), options.clients),
        (None, Some(rival)) => compare_all(&options, rival),
        (None, None) => Err(anyhow::anyhow!("expected --against, --failover, --outage or --wal")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare_all(options: &Options, rival: Rival) -> anyhow::Result<()> {
    ensure!(!(options.no_encryption && rival == Rival::Plaintext), "--no-encryption leaves nothing to compare with plaintext");
    let sizes: &[u32] = if rival == Rival::Plaintext { &[128, 1024] } else { &[128] };
    for (at, value) in sizes.iter().enumerate() {
        if at > 0 {
            println!();
        }
        compare(options, rival, *value)?;
    }
    Ok(())
}

fn compare(options: &Options, rival: Rival, value: u32) -> anyhow::Result<()> {
    let load = match rival {
        Rival::Writes => UkehiLoad::LinearizableReads,
        Rival::Snapshots => UkehiLoad::WritesUnderSnapshots,
        _ => UkehiLoad::Writes,
    };
    let encryption = if options.no_encryption { Encryption::Off } else { Encryption::On };
    let ours = System::ukehi("wasm", load, encryption)?;
    let theirs = match rival {
        Rival::Etcd => System::etcd()?,
        Rival::Redis => System::redis()?,
        Rival::Native => System::ukehi("native", UkehiLoad::Writes, encryption)?,
        Rival::Writes => System::ukehi("wasm", UkehiLoad::Writes, encryption)?,
        Rival::Snapshots => System::ukehi("wasm", UkehiLoad::WritesWithoutSnapshots, encryption)?,
        Rival::Plaintext => System::ukehi("wasm", UkehiLoad::Writes, Encryption::OffForContrast)?,
    };
    let workload = Workload { clients: options.clients, seconds: options.seconds, value };
    println!("{} and {}, on {}", ours.description(), theirs.description(), Machine::look());
    println!("{} clients, {} bytes, {} s a run\n", workload.clients, workload.value, workload.seconds);
    println!(
        "{:>3}  {:>12} {:>9} {:>9}   {:>12} {:>9} {:>9}   {:>6}",
        "run",
        ours.name(),
        "p50 ms",
        "p99 ms",
        theirs.name(),
        "p50 ms",
        "p99 ms",
        "ratio"
    );

    let home = home()?;
    let (mut throughput, mut median_latency) = (Vec::new(), Vec::new());
    for run in 1..=options.runs.unwrap_or(5) {
        let ours_first = run % 2 == 1;
        let (first, second) = if ours_first { (&ours, &theirs) } else { (&theirs, &ours) };
        let (first, second) = (measure(first, &home, workload)?, measure(second, &home, workload)?);
        let (our, their) = if ours_first { (first, second) } else { (second, first) };
        let ratio = our.per_second / their.per_second;
        println!("{run:>3}  {}   {}   {ratio:>6.2}", Figures(&our), Figures(&their));
        throughput.push(ratio);
        median_latency.push(ratio_of(our.p50_us, their.p50_us));
    }
    println!("\nthroughput, {} to {}: {}", ours.name(), theirs.name(), Spread::of(&mut throughput));
    println!("median latency, {} to {}: {}", ours.name(), theirs.name(), Spread::of(&mut median_latency));
    println!("afterwards: {}", Machine::look());
    Ok(())
}

/// Where data goes: to the disk that this program is on.
fn home() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own path is unknown")?;
    Ok(own.parent().context("this program is in no directory")?.to_owned())
}

fn measure(system: &System, home: &Path, workload: Workload) -> anyhow::Result<BenchReport> {
    let report = system.run(home, workload).with_context(|| format!("the run of {} failed", system.name()))?;
    ensure!(report.errors == 0 && report.operations > 0, "the run of {} does not count: {report}", system.name());
    Ok(report)
}

fn ratio_of(one: u64, other: u64) -> f64 {
    // Latencies are microseconds, far below the 2^53 up to which this is exact.
    one as f64 / other.max(1) as f64
}

struct Figures<'a>(&'a BenchReport);

impl fmt::Display for Figures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        write!(f, "{:>12.0} {:>9.2} {:>9.2}", report.per_second, ratio_of(report.p50_us, 1000), ratio_of(report.p99_us, 1000))
    }
}

/// A median, and between what it lies.
#[derive(Debug, PartialEq)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(ratios: &mut [f64]) -> Self {
        ratios.sort_unstable_by(f64::total_cmp);
        let middle = ratios.len() / 2;
        let median = if ratios.len() % 2 == 1 { ratios[middle] } else { ratios[middle - 1].midpoint(ratios[middle]) };
        Self { median, least: ratios[0], most: ratios[ratios.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "median ratio {:.2} (from {:.2} to {:.2})", self.median, self.least, self.most)
    }
}

/// The machine, and how busy it is: figures without them say little.
struct Machine {
    processors: usize,
    model: String,
    load: String,
}

impl Machine {
    fn look() -> Self {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        let model =
            text("/proc/cpuinfo").lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned()));
        Self {
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            model: model.unwrap_or_else(|| "of an unknown model".to_owned()),
            load: text("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} processors ({}), load {}", self.processors, self.model, self.load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_that_of_odd_and_even_counts() {
        assert_eq!(Spread::of(&mut [3.0, 1.0, 2.0]), Spread { median: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(Spread::of(&mut [4.0, 1.0, 2.0, 3.0]), Spread { median: 2.5, least: 1.0, most: 4.0 });
        assert_eq!(Spread::of(&mut [7.0]), Spread { median: 7.0, least: 7.0, most: 7.0 });
    }
}
