//! What a node is: each role's data exists in that role alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::changes::Change;
use crate::encryption::Rotation;
use crate::message::Session;
use crate::progress::Progress;
use crate::proposals::ForwardStreams;
use crate::reads::ReadRounds;
use crate::types::{Instant, LogIndex, LogTime, NodeId};

/// What a node is at the moment.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a node has one role, in one place")]
pub(crate) enum Role {
    Follower(Follower),
    PreCandidate(Ballot),
    Candidate(Ballot),
    Leader(Leader),
}

/// Follows a leader, or waits for one.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    /// The leader of the current term, or none.
    pub(crate) leader: NodeId,
    /// When it was last heard of.
    pub(crate) heard_at: Instant,
    /// When an election is due: drawn once for each wait.
    pub(crate) election_at: Instant,
}

/// Asks for votes, or for promises of votes.
#[derive(Clone, Debug)]
pub(crate) struct Ballot {
    /// Who said yes.
    pub(crate) votes: BTreeSet<NodeId>,
    /// When another try is due.
    pub(crate) retry_at: Instant,
}

/// Leads.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    /// The other members, and those that were just removed: they are yet to hear of it.
    pub(crate) peers: BTreeMap<NodeId, Progress>,
    /// The no-op that opened the term: once it is committed, the commit index is up to date (Raft paper, §8).
    pub(crate) first_index: LogIndex,
    /// When it began to lead: by the log's time, and by its own clock.
    pub(crate) led_since: (LogTime, Instant),
    /// The last entry of the latest round of replication.
    pub(crate) sent_index: LogIndex,
    /// When that round began.
    pub(crate) sent_at: Instant,
    /// When heartbeats are due.
    pub(crate) heartbeat_at: Instant,
    /// Questions for a read index.
    pub(crate) reads: ReadRounds,
    /// Whether a successor was told to stand: promises count for nothing from then on.
    pub(crate) lease_given_up: bool,
    /// Proposals from other nodes.
    pub(crate) streams: ForwardStreams,
    /// The change of the membership that this leader was asked for.
    pub(crate) change: Option<Change>,
    /// The change of the key that this leader was asked for.
    pub(crate) rotation: Option<Rotation>,
    /// The latest session with a peer.
    pub(crate) last_session: Session,
}
