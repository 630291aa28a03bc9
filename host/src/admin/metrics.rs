//! `/metrics`: a node's status in Prometheus' text format, next to what others have registered.

use std::sync::{Mutex, PoisonError};

use amaters_cluster_core::{EncryptionStatus, MemberRole, NodeState, Status};
use prometheus::core::{AtomicU64, GenericGauge, GenericGaugeVec};
use prometheus::{Encoder, IntCounter, IntCounterVec, Opts, Registry, TextEncoder};

type Gauge = GenericGauge<AtomicU64>;
type GaugeVec = GenericGaugeVec<AtomicU64>;

/// The metrics of the admin port, and the way to show all of the process.
#[derive(Debug)]
pub(super) struct Metrics {
    process: Registry,
    closes: IntCounterVec,
    requests: IntCounterVec,
    up: Gauge,
    // Filled and read in one go, so that what is shown is one status.
    raft: Mutex<RaftMetrics>,
}

impl Metrics {
    /// Registers the admin port's own metrics with those of the process.
    pub(super) fn register(process: Registry) -> prometheus::Result<Self> {
        let closes = counters(&process, "admin_closes_total", "Admin connections that were ended before their time, by reason", "reason")?;
        let requests = counters(&process, "admin_requests_total", "Admin requests, by status code", "code")?;
        let up = gauge(&process, "up", "Whether the node's loop answers")?;
        Ok(Self { process, closes, requests, up, raft: Mutex::new(RaftMetrics::new()?) })
    }

    pub(super) fn closed(&self, reason: &'static str) {
        self.closes.with_label_values(&[reason]).inc();
    }

    pub(super) fn answered(&self, code: u16) {
        self.requests.with_label_values(&[&code.to_string()]).inc();
    }

    /// Everything as text. Without a status the node's own figures are left out: old ones would pass for new.
    pub(super) fn render(&self, status: Option<&Status>) -> prometheus::Result<Vec<u8>> {
        self.up.set(u64::from(status.is_some()));
        let mut families = self.process.gather();
        if let Some(status) = status {
            let raft = self.raft.lock().unwrap_or_else(PoisonError::into_inner);
            raft.fill(status);
            families.extend(raft.registry.gather());
        }
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

/// A node's status as metrics.
#[derive(Debug)]
struct RaftMetrics {
    registry: Registry,
    term: Gauge,
    is_leader: Gauge,
    leader: Gauge,
    commit: Gauge,
    applied: Gauge,
    last: Gauge,
    durable: Gauge,
    log_bytes: Gauge,
    sessions: Gauge,
    peer_match: GaugeVec,
    peer_silence: prometheus::GaugeVec,
    peer_suspicion: prometheus::GaugeVec,
    peer_failed: GaugeVec,
    elections: IntCounter,
    proposals: IntCounter,
    rejections: IntCounter,
    refused_envelopes: IntCounter,
    transfers: IntCounter,
    lease_reads: IntCounter,
    disk_stalls: IntCounter,
    has_lease: Gauge,
    disk_waits: prometheus::Gauge,
    disk_full: Gauge,
    configurations: IntCounter,
    strangers: IntCounter,
    config_version: Gauge,
    voters: Gauge,
    learners: Gauge,
    removed: Gauge,
    first: Gauge,
    snapshot_index: Gauge,
    snapshot_bytes: Gauge,
    snapshots_taken: IntCounter,
    snapshots_sent: IntCounter,
    snapshots_installed: IntCounter,
    snapshots_failed: IntCounter,
    repairing: Gauge,
    encrypted: Gauge,
    key_version: Gauge,
    key_missing: Gauge,
    keys_retirable: Gauge,
}

impl RaftMetrics {
    fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let peers = |name: &str, help: &str| Opts::new(format!("amaters_cluster_{name}"), help);
        let peer_match =
            GaugeVec::new(peers("peer_match_index", "The last index known to be durable on a peer; 0 unless this node leads"), &["peer"])?;
        let peer_silence = prometheus::GaugeVec::new(peers("peer_silence_seconds", "Since a peer was last heard of"), &["peer"])?;
        registry.register(Box::new(peer_match.clone()))?;
        registry.register(Box::new(peer_silence.clone()))?;
        let disk_waits = "For how long the disk has completed nothing of what waits for it; 0 while nothing does";
        let disk_waits = prometheus::Gauge::with_opts(peers("disk_wait_seconds", disk_waits))?;
        registry.register(Box::new(disk_waits.clone()))?;
        let suspicion = peers("peer_suspicion", "How suspicious a peer's silence is: phi; 0 for one that the node hears nothing of anyway");
        let peer_suspicion = prometheus::GaugeVec::new(suspicion, &["peer"])?;
        let peer_failed = GaugeVec::new(peers("peer_failed", "Whether a peer counts as failed"), &["peer"])?;
        registry.register(Box::new(peer_suspicion.clone()))?;
        registry.register(Box::new(peer_failed.clone()))?;
        Ok(Self {
            term: gauge(&registry, "term", "The latest term that the node has seen")?,
            is_leader: gauge(&registry, "is_leader", "Whether the node leads")?,
            leader: gauge(&registry, "leader", "The leader that the node knows of; 0 for none")?,
            commit: gauge(&registry, "commit_index", "The last index known to be committed")?,
            applied: gauge(&registry, "applied_index", "The last index handed to the state machine")?,
            last: gauge(&registry, "last_index", "The last index of the log")?,
            durable: gauge(&registry, "durable_index", "The last index that is durable on this node")?,
            log_bytes: gauge(&registry, "log_bytes", "Bytes that the log takes in memory")?,
            sessions: gauge(&registry, "sessions", "The clients' sessions")?,
            peer_match,
            peer_silence,
            peer_suspicion,
            peer_failed,
            elections: counter(&registry, "elections_total", "Elections that this node started")?,
            proposals: counter(&registry, "proposals_total", "Commands that were proposed here")?,
            rejections: counter(&registry, "rejections_total", "Requests that came to nothing")?,
            refused_envelopes: counter(&registry, "refused_envelopes_total", "Envelopes that were malformed, or not for this node")?,
            transfers: counter(&registry, "transfers_total", "Transfers of leadership that this node began")?,
            lease_reads: counter(&registry, "lease_reads_total", "Questions for a read index that were answered under a lease")?,
            disk_stalls: counter(&registry, "disk_stalls_total", "How often the node gave the lead up for its disk")?,
            has_lease: gauge(&registry, "has_lease", "Whether the node leads and may serve reads without a round")?,
            disk_waits,
            disk_full: gauge(&registry, "disk_full", "Whether the own disk is full: writes wait for space")?,
            configurations: counter(&registry, "configurations_total", "Configurations of the members that took effect")?,
            strangers: counter(&registry, "strangers_total", "Envelopes that were ignored since their sender is no member")?,
            config_version: gauge(&registry, "config_version", "The index of the configuration that holds; 0 for that of the start")?,
            voters: gauge(&registry, "voters", "Members that vote, in either of two joint configurations")?,
            learners: gauge(&registry, "learners", "Members that only receive the log")?,
            removed: gauge(&registry, "removed", "Whether the node was removed from its cluster")?,
            first: gauge(&registry, "log_first_index", "The first index of the log in memory: what was before it is in a snapshot")?,
            snapshot_index: gauge(&registry, "snapshot_index", "The last index that the newest durable snapshot holds; 0 for none")?,
            snapshot_bytes: gauge(&registry, "snapshot_bytes", "The size of the newest durable snapshot")?,
            snapshots_taken: counter(&registry, "snapshots_taken_total", "Snapshots that were taken here")?,
            snapshots_sent: counter(&registry, "snapshots_sent_total", "Snapshots that were sent to a peer, to the end")?,
            snapshots_installed: counter(&registry, "snapshots_installed_total", "Snapshots that came from a leader and were installed")?,
            snapshots_failed: counter(&registry, "snapshots_failed_total", "Snapshots that could not be written")?,
            encrypted: gauge(&registry, "encrypted", "Whether the log is sealed")?,
            key_version: gauge(
                &registry,
                "key_version",
                "The version of the key that the next entry is sealed with; 0 where the log is not sealed",
            )?,
            key_missing: gauge(&registry, "key_missing_version", "The version of the key that the node lacks and waits for; 0 for none")?,
            keys_retirable: gauge(&registry, "keys_retirable", "Versions of the key that the node holds, and nothing on its disk needs")?,
            repairing: gauge(&registry, "repairing", "Whether the node repairs itself, and counts for no majority until it has")?,
            registry,
        })
    }

    fn fill(&self, status: &Status) {
        self.term.set(status.term.0);
        self.is_leader.set(u64::from(status.state == NodeState::Leader));
        self.leader.set(status.leader.0);
        self.commit.set(status.commit_index.0);
        self.applied.set(status.applied_index.0);
        self.last.set(status.last_index.0);
        self.durable.set(status.durable_index.0);
        self.log_bytes.set(status.log_bytes.try_into().unwrap_or(u64::MAX));
        self.has_lease.set(u64::from(status.has_lease));
        self.disk_waits.set(status.disk_waits.as_secs_f64());
        self.disk_full.set(u64::from(status.disk_full));
        self.sessions.set(status.sessions.try_into().unwrap_or(u64::MAX));
        let count = |holds: fn(MemberRole) -> bool| status.members.iter().filter(|member| holds(member.role)).count() as u64;
        self.config_version.set(status.config_version.0);
        self.voters.set(count(|role| matches!(role, MemberRole::Voter | MemberRole::Incoming | MemberRole::Outgoing)));
        self.learners.set(count(|role| role == MemberRole::Learner));
        self.removed.set(u64::from(status.removed));
        self.first.set(status.first_index.0);
        self.snapshot_index.set(status.snapshots.latest.map_or(0, |id| id.index.0));
        self.snapshot_bytes.set(status.snapshots.latest_bytes);
        self.repairing.set(u64::from(status.repairing));
        self.fill_encryption(status.encryption.as_ref());
        self.peer_match.reset();
        self.peer_silence.reset();
        self.peer_suspicion.reset();
        self.peer_failed.reset();
        for peer in &status.peers {
            let id = peer.id.to_string();
            self.peer_match.with_label_values(&[&id]).set(peer.match_index.0);
            self.peer_silence.with_label_values(&[&id]).set(peer.silent.as_secs_f64());
            self.peer_suspicion.with_label_values(&[&id]).set(f64::from(peer.suspicion) / 1000.0);
            self.peer_failed.with_label_values(&[&id]).set(peer.failed.into());
        }
        for (counter, count) in [
            (&self.elections, status.counters.elections),
            (&self.proposals, status.counters.proposals),
            (&self.rejections, status.counters.rejections),
            (&self.refused_envelopes, status.counters.refused_envelopes),
            (&self.transfers, status.counters.transfers),
            (&self.lease_reads, status.counters.lease_reads),
            (&self.disk_stalls, status.counters.disk_stalls),
            (&self.configurations, status.counters.configurations),
            (&self.strangers, status.counters.strangers),
            (&self.snapshots_taken, status.counters.snapshots_taken),
            (&self.snapshots_sent, status.counters.snapshots_sent),
            (&self.snapshots_installed, status.counters.snapshots_installed),
            (&self.snapshots_failed, status.counters.snapshots_failed),
        ] {
            // A node that was rebuilt counts from 0 again, which Prometheus takes for the restart that it is.
            counter.reset();
            counter.inc_by(count);
        }
    }
}

impl RaftMetrics {
    fn fill_encryption(&self, encryption: Option<&EncryptionStatus>) {
        self.encrypted.set(encryption.is_some().into());
        self.key_version.set(encryption.map_or(0, |it| it.version.0.into()));
        self.key_missing.set(encryption.and_then(|it| it.missing).map_or(0, |version| version.0.into()));
        let retirable = encryption.map_or(0, |it| it.held.iter().filter(|held| **held < it.oldest_needed).count());
        self.keys_retirable.set(retirable as u64);
    }
}

fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<Gauge> {
    let gauge = Gauge::with_opts(Opts::new(format!("amaters_cluster_{name}"), help))?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    let counter = IntCounter::new(format!("amaters_cluster_{name}"), help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
    let counters = IntCounterVec::new(Opts::new(format!("amaters_cluster_{name}"), help), &[label])?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}
