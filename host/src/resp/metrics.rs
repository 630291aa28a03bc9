//! What the front end counts.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::close::Close;
use super::table::COMMANDS;

/// The front end's counters, registered once for a process.
#[derive(Debug)]
pub struct RespMetrics {
    connections: IntGauge,
    accepted: IntCounter,
    closes: IntCounterVec,
    /// One for each command of the table, in its order.
    commands: Vec<IntCounter>,
    unknown: IntCounter,
    errors: IntCounterVec,
    writes: Histogram,
    reads: Histogram,
    pub(super) received_bytes: IntCounter,
    pub(super) sent_bytes: IntCounter,
}

impl RespMetrics {
    /// Makes the counters, all with the prefix `amaters_cluster_client_`, and registers them.
    ///
    /// # Errors
    /// The registry has counters of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, label: &str| {
            let counter = IntCounterVec::new(Opts::new(format!("amaters_cluster_client_{name}"), help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let connections = IntGauge::new("amaters_cluster_client_connections", "Connections that are open")?;
        registry.register(Box::new(connections.clone()))?;
        let accepted = IntCounter::new("amaters_cluster_client_accepted_total", "Connections that were accepted")?;
        registry.register(Box::new(accepted.clone()))?;
        let commands = counters("commands_total", "Requests, by command", "command")?;
        let bytes = counters("bytes_total", "Bytes that came or left", "direction")?;
        let seconds = HistogramVec::new(
            HistogramOpts::new("amaters_cluster_client_run_seconds", "How long the node took for a run of commands of one kind")
                .buckets(prometheus::exponential_buckets(0.000_05, 2.0, 17)?),
            &["kind"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            connections,
            accepted,
            closes: counters("closes_total", "Connections that ended, by reason", "reason")?,
            commands: COMMANDS.iter().map(|command| commands.with_label_values(&[command.name])).collect(),
            unknown: commands.with_label_values(&["unknown"]),
            errors: counters("errors_total", "Answers that were errors, by their first word", "code")?,
            writes: seconds.with_label_values(&["write"]),
            reads: seconds.with_label_values(&["read"]),
            received_bytes: bytes.with_label_values(&["in"]),
            sent_bytes: bytes.with_label_values(&["out"]),
        })
    }

    /// Connections that are open.
    pub(super) fn connected(&self) -> i64 {
        self.connections.get()
    }

    pub(super) fn opened(&self) {
        self.accepted.inc();
        self.connections.inc();
    }

    pub(super) fn closed(&self, close: &Close) {
        self.connections.dec();
        self.refused(close);
    }

    /// A connection ended before it was one.
    pub(super) fn refused(&self, close: &Close) {
        self.closes.with_label_values(&[close.reason()]).inc();
    }

    /// A request came: the command's place in the table, if it has one.
    pub(super) fn command(&self, index: Option<usize>) {
        index.map_or(&self.unknown, |index| &self.commands[index]).inc();
    }

    pub(super) fn error(&self, code: &str) {
        self.errors.with_label_values(&[code]).inc();
    }

    pub(super) fn wrote(&self, took: Duration) {
        self.writes.observe(took.as_secs_f64());
    }

    pub(super) fn read(&self, took: Duration) {
        self.reads.observe(took.as_secs_f64());
    }
}
