//! A node's status as JSON: what `/status` answers and `ukehi status` reads.

use std::fmt;
use std::path::PathBuf;

use amaters_cluster_core::{NodeState, PeerStatus, Status};
use serde::{Deserialize, Serialize};

use super::encryption::EncryptionView;
use super::members::MemberView;

/// What a node tells of itself besides its status.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The cluster's name.
    pub cluster: String,
    /// The version of this program.
    pub version: String,
    /// What runs the core: `wasm` or `native`.
    pub engine: String,
    /// The directory with its snapshots' files; none where they can't be fetched.
    pub snapshots: Option<PathBuf>,
}

/// The body of `/status`. Scripts rely on the names of these fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// The node.
    pub id: u64,
    /// What it is.
    pub role: RoleView,
    /// The latest term it has seen.
    pub term: u64,
    /// The leader of that term; null where none is known.
    pub leader: Option<u64>,
    /// The last index known to be committed.
    pub commit: u64,
    /// The last index handed to the state machine.
    pub applied: u64,
    /// The last index of the log.
    pub last: u64,
    /// The first index of the log in memory: what was before it is in a snapshot.
    #[serde(default)]
    pub first: u64,
    /// The newest snapshot; null where there is none.
    #[serde(default)]
    pub snapshot: Option<SnapshotView>,
    /// Whether a snapshot is being taken, received or read.
    #[serde(default)]
    pub snapshot_under_way: bool,
    /// Whether the node repairs itself: until it has, it neither votes nor counts for a majority.
    #[serde(default)]
    pub repairing: bool,
    /// The index of the entry with the configuration that holds; 0 for the one that the node was started with.
    #[serde(default)]
    pub config: u64,
    /// The members, and what each is.
    #[serde(default)]
    pub members: Vec<MemberView>,
    /// Whether this node was removed from the cluster, as far as it knows.
    #[serde(default)]
    pub removed: bool,
    /// The other members.
    pub peers: Vec<PeerView>,
    /// The last index that is durable on this node.
    pub durable: u64,
    /// Bytes that the log takes in memory.
    pub log_bytes: u64,
    /// The clients' sessions.
    pub sessions: u64,
    /// The version of the program.
    pub version: String,
    /// The cluster's name.
    pub cluster: String,
    /// What runs the core.
    pub engine: String,
    /// The node that is to lead instead of this one, while a transfer is under way; else null.
    pub transfer_to: Option<u64>,
    /// Whether the node leads and may serve reads without a round.
    pub has_lease: bool,
    /// Milliseconds for which the disk has completed nothing of what waits for it; 0 while nothing does.
    pub disk_waits_ms: u64,
    /// Whether the own disk is full: writes wait for space.
    pub disk_full: bool,
    /// How the log is sealed; null where it is not.
    #[serde(default)]
    pub encryption: Option<EncryptionView>,
}

/// What a node is, as `/status` words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleView {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it could win an election.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
    /// Receives the log and does not vote.
    Learner,
}

/// A snapshot, as `/status` words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotView {
    /// The last index that it holds.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// Its size.
    pub bytes: u64,
}

/// A peer, as `/status` words it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerView {
    /// The peer.
    pub id: u64,
    /// The last index known to be durable there; 0 unless the node leads.
    #[serde(rename = "match")]
    pub match_index: u64,
    /// Milliseconds since it was last heard of.
    pub silent_ms: u64,
    /// How suspicious that is: φ, 0 to 32.75; 0 for a follower that the node, itself a follower, hears nothing of.
    pub suspicion: f64,
    /// Whether it counts as failed.
    pub failed: bool,
}

impl StatusView {
    /// The view of a status.
    #[must_use]
    pub fn new(status: &Status, info: &NodeInfo) -> Self {
        let snapshots = &status.snapshots;
        Self {
            id: status.id.0,
            role: status.state.into(),
            term: status.term.0,
            leader: (!status.leader.is_none()).then_some(status.leader.0),
            commit: status.commit_index.0,
            applied: status.applied_index.0,
            last: status.last_index.0,
            first: status.first_index.0,
            snapshot: snapshots.latest.map(|id| SnapshotView { index: id.index.0, term: id.term.0, bytes: snapshots.latest_bytes }),
            snapshot_under_way: snapshots.taking.is_some() || snapshots.receiving.is_some() || snapshots.restoring,
            repairing: status.repairing,
            config: status.config_version.0,
            members: status.members.iter().map(MemberView::from).collect(),
            removed: status.removed,
            peers: status.peers.iter().map(PeerView::from).collect(),
            durable: status.durable_index.0,
            log_bytes: status.log_bytes.try_into().unwrap_or(u64::MAX),
            sessions: status.sessions.try_into().unwrap_or(u64::MAX),
            version: info.version.clone(),
            cluster: info.cluster.clone(),
            engine: info.engine.clone(),
            transfer_to: (!status.transfer_to.is_none()).then_some(status.transfer_to.0),
            has_lease: status.has_lease,
            disk_full: status.disk_full,
            disk_waits_ms: status.disk_waits.as_millis().try_into().unwrap_or(u64::MAX),
            encryption: EncryptionView::new(status, &info.engine),
        }
    }
}

impl From<NodeState> for RoleView {
    fn from(state: NodeState) -> Self {
        match state {
            NodeState::Follower => Self::Follower,
            NodeState::PreCandidate => Self::PreCandidate,
            NodeState::Candidate => Self::Candidate,
            NodeState::Leader => Self::Leader,
            NodeState::Learner => Self::Learner,
        }
    }
}

impl From<&PeerStatus> for PeerView {
    fn from(peer: &PeerStatus) -> Self {
        Self {
            id: peer.id.0,
            match_index: peer.match_index.0,
            silent_ms: peer.silent.as_millis().try_into().unwrap_or(u64::MAX),
            suspicion: f64::from(peer.suspicion) / 1000.0,
            failed: peer.failed,
        }
    }
}

impl fmt::Display for RoleView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Learner => "learner",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_worded_alike_in_json_and_in_tables() {
        for role in [RoleView::Follower, RoleView::PreCandidate, RoleView::Candidate, RoleView::Leader, RoleView::Learner] {
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{role}\""));
        }
    }
}
