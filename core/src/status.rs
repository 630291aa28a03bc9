//! What a node tells of itself.

use std::time::Duration;

use crate::types::{LogIndex, NodeId, Term};

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
    /// The last index that is durable here.
    pub durable_index: LogIndex,
    /// Bytes that the log takes in memory.
    pub log_bytes: usize,
    /// The other members.
    pub peers: Vec<PeerStatus>,
    /// Counts since the start.
    pub counters: Counters,
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
}
