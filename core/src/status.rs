//! What a node tells of itself.

use std::time::Duration;

use crate::cluster_config::MemberStatus;
use crate::encryption::EncryptionStatus;
use crate::node::Node;
use crate::role::Role;
use crate::types::{EntryId, Instant, LogIndex, NodeId, Term};

/// What a node is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it could win an election (dissertation, §9.6).
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
    /// Receives the log and does not vote: a learner, a node that waits to be added, or one that was removed.
    Learner,
}

/// A node's state at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub id: NodeId,
    /// What it is.
    pub state: NodeState,
    /// The latest term it has seen.
    pub term: Term,
    /// The leader of that term, or none.
    pub leader: NodeId,
    /// The last index known to be committed.
    pub commit_index: LogIndex,
    /// The last index handed to the state machine.
    pub applied_index: LogIndex,
    /// The last index of the log.
    pub last_index: LogIndex,
    /// The first index of the log in memory: those before it are in a snapshot alone.
    pub first_index: LogIndex,
    /// The last index that is durable here.
    pub durable_index: LogIndex,
    /// Bytes that the log takes in memory.
    pub log_bytes: usize,
    /// The clients' sessions.
    pub sessions: usize,
    /// Whether this node was removed from the cluster, as far as it knows.
    pub removed: bool,
    /// The index of the entry with the configuration that holds; 0 for the one that the node was started with.
    pub config_version: LogIndex,
    /// The members, and what each is.
    pub members: Vec<MemberStatus>,
    /// The other members.
    pub peers: Vec<PeerStatus>,
    /// Counts since the start.
    pub counters: Counters,
    /// The node that is to lead instead of this one, while a transfer is under way; or none.
    pub transfer_to: NodeId,
    /// Whether this node leads and may serve reads without a round.
    pub has_lease: bool,
    /// For how long the own disk has completed nothing of what waits for it; zero while nothing does.
    pub disk_waits: Duration,
    /// Whether the own disk is full, as far as storage says.
    pub disk_full: bool,
    /// The snapshots.
    pub snapshots: SnapshotStatus,
    /// Whether this node repairs itself.
    pub repairing: bool,
    /// How the log is sealed, if it is.
    pub encryption: Option<EncryptionStatus>,
}

/// What a node's snapshots are at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// The last one that is durable here.
    pub latest: Option<EntryId>,
    /// Its bytes.
    pub latest_bytes: u64,
    /// The one that is being taken.
    pub taking: Option<EntryId>,
    /// The one that is being received.
    pub receiving: Option<EntryId>,
    /// The bytes of it that have come.
    pub received_bytes: u64,
    /// Whether the state is being read from a snapshot: nothing is applied meanwhile.
    pub restoring: bool,
}

/// What a node knows of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub id: NodeId,
    /// The last index known to be durable there; none unless this node leads.
    pub match_index: LogIndex,
    /// Since it was last heard of; since the start, where it never was.
    pub silent: Duration,
    /// How suspicious that is: φ in thousandths, 0 to 32,750. 0 unless this node leads, or follows the peer: others have nothing to say to each other.
    pub suspicion: u32,
    /// Whether it counts as failed. Of those that a follower hears nothing of, its leader says so.
    pub failed: bool,
}

/// Counts since a node's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Elections that this node started.
    pub elections: u64,
    /// Envelopes that were refused as malformed, or as not for this node.
    pub refused_envelopes: u64,
    /// Commands that were proposed here.
    pub proposals: u64,
    /// Requests that came to nothing.
    pub rejections: u64,
    /// Transfers of leadership that this node began.
    pub transfers: u64,
    /// Questions for a read index that this node answered under a lease.
    pub lease_reads: u64,
    /// How often this node gave the lead up for its disk, stalled or full.
    pub disk_stalls: u64,
    /// Configurations that took effect.
    pub configurations: u64,
    /// Envelopes that were ignored since their sender is no member.
    pub strangers: u64,
    /// Snapshots that were taken here.
    pub snapshots_taken: u64,
    /// Snapshots that were sent, to the end.
    pub snapshots_sent: u64,
    /// Snapshots that came from a leader and were installed.
    pub snapshots_installed: u64,
    /// Snapshots that could not be written.
    pub snapshots_failed: u64,
}

impl Node {
    /// Reports the node's state.
    #[must_use]
    pub fn status(&self, now: Instant) -> Status {
        let match_index = |peer| match &self.role {
            Role::Leader(leader) => leader.peers.get(&peer).map_or(LogIndex::NONE, |progress| progress.match_index),
            _ => LogIndex::NONE,
        };
        let peer = |id| PeerStatus {
            id,
            match_index: match_index(id),
            silent: self.detector.silence(id, now),
            suspicion: self.detector.suspicion(id, now),
            failed: self.detector.is_failed(id),
        };
        Status {
            id: self.config.id,
            state: self.state(),
            term: self.persistent.current_term,
            leader: self.leader(),
            commit_index: self.log.commit_index(),
            applied_index: self.log.applied_index(),
            last_index: self.log.last().index,
            durable_index: self.outbox.durable_index(),
            log_bytes: self.log.bytes(),
            sessions: self.sessions.len(),
            peers: self.peers().map(peer).collect(),
            removed: self.is_removed(),
            config_version: self.configuration().version(),
            members: self.members(),
            counters: self.counters,
            transfer_to: self.transfer_to(),
            has_lease: self.has_lease(now),
            disk_waits: self.disk_waits(now),
            disk_full: self.disk_is_full(),
            first_index: self.log.base().index.next(),
            snapshots: self.snapshots.status(),
            repairing: self.is_repairing(),
            encryption: self.encryption_status(),
        }
    }
}
