//! `ukehi bench`: load from closed-loop clients, each of which waits for its replies before it sends again.
//!
//! It is light, since it competes with the servers for the same processors as a rule: one thread, commands that are encoded once, one histogram. It
//! works with any server that speaks Redis' protocol.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tokio::time::Instant;

use crate::client::connection::Connection;

mod load;

use load::{Load, Requests};

/// What to load, and how.
#[derive(Args, Clone, Debug)]
pub struct BenchOptions {
    /// Servers to load; clients are spread over them evenly
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',', required = true)]
    pub target: Vec<SocketAddr>,
    /// Clients at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub clients: u32,
    /// Commands that a client sends before it waits for their replies
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub pipeline: u32,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub value: u32,
    /// How long to measure; a second of warm-up comes before and is not counted
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// The share of commands that are GET; the others are SET
    #[arg(long, value_name = "0..1", default_value_t = 0.0, value_parser = share)]
    pub get_ratio: f64,
    /// Different keys, drawn at random
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub keys: u32,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

/// What came of it. Times are in microseconds, from sending (the whole pipeline) to the reply.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchReport {
    /// Commands that were answered without an error.
    pub operations: u64,
    /// How long was measured.
    pub seconds: f64,
    /// Commands a second.
    pub per_second: f64,
    /// The median.
    pub p50_us: u64,
    /// 99 of 100 were not slower.
    pub p99_us: u64,
    /// 999 of 1000 were not slower.
    pub p999_us: u64,
    /// The slowest.
    pub max_us: u64,
    /// Commands that were answered with an error, and connections that broke.
    pub errors: u64,
    /// The same by their words.
    pub errors_by_kind: BTreeMap<String, u64>,
}

const WARM_UP: Duration = Duration::from_secs(1);

/// The command: runs, prints, and fails where nothing succeeded.
///
/// # Errors
/// A server can't be reached, or answered no command without an error.
#[allow(clippy::print_stdout, reason = "the report is what the command is for")]
pub fn command(options: &BenchOptions) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(run(options))?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    anyhow::ensure!(report.operations > 0, "no command was answered without an error");
    Ok(ExitCode::SUCCESS)
}

/// Loads the servers. Meant for a runtime with one thread: more would take processors from the servers.
///
/// # Errors
/// A server can't be reached at the start. What goes wrong later is counted in the report.
pub async fn run(options: &BenchOptions) -> anyhow::Result<BenchReport> {
    let mut connections = Vec::new();
    for number in 0..options.clients {
        let target = options.target[number as usize % options.target.len()];
        let connection =
            Connection::connect(target).await.with_context(|| format!("{target} can't be reached: is a server running there?"))?;
        connections.push((target, connection));
    }
    let start = Instant::now() + WARM_UP;
    let end = start + Duration::from_secs(options.seconds.into());
    let load = Load::new(start, end);
    let mut clients = tokio::task::JoinSet::new();
    for (number, (target, connection)) in (0..).zip(connections) {
        let requests = Requests::new(number, options);
        clients.spawn(load.clone().run_client(target, connection, requests));
    }
    while let Some(ended) = clients.join_next().await {
        ended.context("a client of the benchmark failed")?;
    }
    Ok(load.report())
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| Duration::from_micros(us).as_secs_f64() * 1e3;
        write!(
            f,
            "{:.0} ops/s   p50 {:.2} ms   p99 {:.2} ms   p99.9 {:.2} ms   max {:.1} ms   errors {}",
            self.per_second,
            ms(self.p50_us),
            ms(self.p99_us),
            ms(self.p999_us),
            ms(self.max_us),
            self.errors
        )?;
        for (words, count) in &self.errors_by_kind {
            write!(f, "\n{count:>8} × {words}")?;
        }
        Ok(())
    }
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "expected a number from 0 to 1".to_owned())
}
