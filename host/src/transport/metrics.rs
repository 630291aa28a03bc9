//! What the transport counts.

use amaters_cluster_core::NodeId;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::handshake::Lane;

/// The transport's counters, registered once for a process.
#[derive(Clone, Debug)]
pub struct TransportMetrics {
    connects: IntCounterVec,
    connected: IntGaugeVec,
    closes: IntCounterVec,
    shed: IntCounterVec,
    bytes: IntCounterVec,
    envelopes: IntCounterVec,
}

impl TransportMetrics {
    /// Makes the counters, all with the prefix `amaters_cluster_transport_`, and registers them.
    ///
    /// # Errors
    /// The registry has counters of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(format!("amaters_cluster_transport_{name}"), help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let connected = IntGaugeVec::new(
            Opts::new("amaters_cluster_transport_connected", "Connections that are up: 0 or 1 for each peer and direction"),
            &["direction", "peer"],
        )?;
        registry.register(Box::new(connected.clone()))?;
        Ok(Self {
            connects: counter("connects_total", "Connections made, after their handshake", &["direction", "peer"])?,
            connected,
            closes: counter("closes_total", "Connections and attempts that ended, by reason", &["direction", "reason"])?,
            shed: counter("shed_envelopes_total", "Envelopes that were dropped before they left, by reason", &["reason"])?,
            bytes: counter("bytes_total", "Bytes of frames, headers included", &["direction", "peer"])?,
            envelopes: counter("envelopes_total", "Envelopes that came or left", &["direction", "peer"])?,
        })
    }

    /// A connection is up, until what this gives is dropped.
    pub(super) fn connected(&self, direction: Direction, peer: NodeId) -> Up {
        let labels = [direction.name(), &peer.to_string()];
        self.connects.with_label_values(&labels).inc();
        let gauge = self.connected.with_label_values(&labels);
        gauge.inc();
        Up(gauge)
    }

    pub(super) fn closed(&self, direction: Direction, reason: &'static str) {
        self.closes.with_label_values(&[direction.name(), reason]).inc();
    }

    pub(super) fn shed(&self, reason: &'static str, envelopes: u64) {
        self.shed.with_label_values(&[reason]).inc_by(envelopes);
    }

    /// The counters of one peer's traffic, looked up once.
    pub(super) fn traffic(&self, direction: Direction, peer: NodeId) -> Traffic {
        let labels = [direction.name(), &peer.to_string()];
        Traffic { bytes: self.bytes.with_label_values(&labels), envelopes: self.envelopes.with_label_values(&labels) }
    }
}

/// A connection that is up: also a task that is ended from outside takes it back.
#[derive(Debug)]
pub(super) struct Up(IntGauge);

impl Drop for Up {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Bytes and envelopes of one direction of one peer.
#[derive(Clone, Debug)]
pub(super) struct Traffic {
    pub(super) bytes: IntCounter,
    pub(super) envelopes: IntCounter,
}

/// Which way envelopes go on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Accepted: envelopes come in.
    In,
    /// Dialled: envelopes go out.
    Out,
    /// As `In`, in the bulk lane.
    BulkIn,
    /// As `Out`, in the bulk lane.
    BulkOut,
}

impl Direction {
    pub(super) fn inwards(lane: Lane) -> Self {
        match lane {
            Lane::Main => Self::In,
            Lane::Bulk => Self::BulkIn,
        }
    }

    pub(super) fn outwards(lane: Lane) -> Self {
        match lane {
            Lane::Main => Self::Out,
            Lane::Bulk => Self::BulkOut,
        }
    }

    /// Its name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::BulkIn => "bulk_in",
            Self::BulkOut => "bulk_out",
        }
    }
}
