//! What nodes say to each other: one struct a message, with the papers' names.
//!
//! Deviations from the Raft paper: heartbeats are messages of their own rather than empty AppendEntries, since they speak for no entries and
//! so need not wait for a disk; a pre-vote has its own request (dissertation, §9.6); and a follower's answer to AppendEntries says what this very
//! request made durable.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::chain::ChainSpan;
use crate::entry::{LogEntry, Payload, Proposal};
use crate::io::Rejection;
use crate::sealing::{KeyFingerprint, KeyVersion};
use crate::types::{EntryId, Instant, LogIndex, NodeId, Term};

/// A message of the protocol. New ones go to the end: the encoding numbers them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each variant is documented at its struct")]
pub enum Message {
    PreVoteRequest(PreVoteRequest),
    PreVoteResponse(PreVoteResponse),
    RequestVoteRequest(RequestVoteRequest),
    RequestVoteResponse(RequestVoteResponse),
    AppendEntriesRequest(AppendEntriesRequest),
    AppendEntriesResponse(AppendEntriesResponse),
    HeartbeatRequest(HeartbeatRequest),
    HeartbeatResponse(HeartbeatResponse),
    ForwardRequest(ForwardRequest),
    ForwardResponse(ForwardResponse),
    ReadIndexRequest(ReadIndexRequest),
    ReadIndexResponse(ReadIndexResponse),
    CommitNotice(CommitNotice),
    TimeoutNowRequest(TimeoutNowRequest),
    RemovalNotice(RemovalNotice),
    InstallSnapshotRequest(InstallSnapshotRequest),
    InstallSnapshotResponse(InstallSnapshotResponse),
}

/// Asks whether an election could be won, before any term is changed for it (dissertation, §9.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreVoteRequest {
    /// The sender's term.
    pub term: Term,
    /// The term that the sender would stand in.
    pub proposed_term: Term,
    /// The sender's last entry.
    pub last_log: EntryId,
}

/// Answers a [`PreVoteRequest`]. Binds the answering node to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreVoteResponse {
    /// The answering node's term.
    pub term: Term,
    /// The request's proposed term.
    pub proposed_term: Term,
    /// Whether the sender would get this node's vote.
    pub vote_granted: bool,
}

/// Asks for a vote (Raft paper, §5.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestVoteRequest {
    /// The candidate's term.
    pub term: Term,
    /// The candidate's last entry.
    pub last_log: EntryId,
    /// Whether the leader of the term before asked the candidate to stand: then nobody protects that leader (dissertation, §4.2.3).
    pub by_transfer: bool,
}

/// Answers a [`RequestVoteRequest`]. Leaves once the vote is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestVoteResponse {
    /// The answering node's term.
    pub term: Term,
    /// Whether the candidate has its vote in that term.
    pub vote_granted: bool,
}

/// Replicates entries (Raft paper, §5.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendEntriesRequest {
    /// The leader's term.
    pub term: Term,
    /// The leader's session with this peer, which the answer repeats.
    pub session: Session,
    /// The entry before the first one.
    pub prev_log: EntryId,
    /// The leader's commit index.
    pub leader_commit: LogIndex,
    /// What vouches for the entries; none where the log is not sealed.
    pub chain: Option<ChainSpan>,
    /// Consecutive entries.
    pub entries: Vec<LogEntry>,
}

/// Answers an [`AppendEntriesRequest`]. Leaves once what it speaks for is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendEntriesResponse {
    /// The answering node's term.
    pub term: Term,
    /// The request's session.
    pub session: Session,
    /// What came of it.
    pub outcome: AppendOutcome,
    /// Whether the node repairs itself: then it is served, and counts for no majority.
    pub repairing: bool,
}

/// What came of an [`AppendEntriesRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendOutcome {
    /// The log equals the leader's up to this index, and all of that is durable. Names the last entry of this very request, never more.
    Appended {
        /// The last index of the request.
        match_index: LogIndex,
    },
    /// The log lacks the entry before the request's first one.
    Conflict {
        /// That entry's index.
        rejected: LogIndex,
        /// What the log holds there, or its last entry if it is shorter.
        conflict: EntryId,
        /// The first index of the conflicting term: the leader need not try between it and the conflict (Raft paper, §5.3, end).
        first_of_term: LogIndex,
    },
}

/// A leader's sign of life. Needs no disk on either side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatRequest {
    /// The leader's term.
    pub term: Term,
    /// The leader's session with this peer, which the answer repeats.
    pub session: Session,
    /// What is committed of the entries that the receiver is known to hold.
    pub commit_index: LogIndex,
    /// The leader's latest round of reads (dissertation, §6.4).
    pub round: u64,
    /// When it left, by the leader's clock; none where no promise is wanted.
    pub sent_at: Option<Instant>,
    /// Who counts as failed for the leader: it alone hears of everybody.
    pub failed: Vec<NodeId>,
    /// Who does not, but has yet to be heard of, or is suspiciously silent: the leader can't tell.
    pub doubtful: Vec<NodeId>,
    /// The key that the leader would like to change to; none as a rule.
    pub key: Option<NamedKey>,
}

/// Answers a [`HeartbeatRequest`]: the sender was leader when the round began, as far as this node knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatResponse {
    /// The answering node's term.
    pub term: Term,
    /// The request's session; 0 from a node that is in a later term.
    pub session: Session,
    /// The request's round.
    pub round: u64,
    /// What the answering node promises, if it was asked to and does.
    pub promise: Option<Promise>,
    /// Whether the node repairs itself: then it confirms nothing.
    pub repairing: bool,
    /// The version of the request's key, if the node holds that key.
    pub key: KeyVersion,
    /// Whether the answering node's disk is full.
    pub disk_full: bool,
}

/// A key, without what it is: a version is only a name, and two files may give it to two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedKey {
    /// Its version.
    pub version: KeyVersion,
    /// What tells it from another one of that version.
    pub fingerprint: KeyFingerprint,
}

/// Not to help anybody else to lead for a while (dissertation, §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// When the heartbeat left that is answered, by the leader's clock: the promise was made later.
    pub since: Instant,
    /// For how long from when it was made, by the clock of whoever made it.
    pub lasts: Duration,
}

/// Tells of commits where no entries are due that would. Wants no answer: one that is lost is made up for by the next heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitNotice {
    /// The leader's term.
    pub term: Term,
    /// What is committed of the entries that the receiver is known to hold.
    pub commit_index: LogIndex,
}

/// Asks the receiver to stand for election at once: it has all that the leader has (dissertation, §3.10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeoutNowRequest {
    /// The term of the leader that hands over.
    pub term: Term,
}

/// Tells a node that asks for pre-votes that it was removed: it need not try on. Comes from a leader that has committed so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalNotice {
    /// The leader's term.
    pub term: Term,
    /// The version of the configuration that holds, in which the receiver is no member.
    pub version: LogIndex,
}

/// Brings a part of a snapshot to a node that lacks entries which the leader no longer has (Raft paper, §7).
///
/// The parts come in order, a few at a time. What they consist of, and the checks in it, are those of the snapshot's own file: [`crate::snapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallSnapshotRequest {
    /// The leader's term.
    pub term: Term,
    /// The leader's session with this peer, which the answer repeats.
    pub session: Session,
    /// The last entry that the snapshot holds: it names the snapshot.
    pub snapshot: EntryId,
    /// Where the part belongs, in bytes from the snapshot's start.
    pub offset: u64,
    /// The part.
    pub data: Payload,
    /// Whether it is the last one.
    pub done: bool,
}

/// Answers an [`InstallSnapshotRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallSnapshotResponse {
    /// The answering node's term.
    pub term: Term,
    /// The request's session.
    pub session: Session,
    /// The request's snapshot.
    pub snapshot: EntryId,
    /// How far it has come.
    pub progress: InstallProgress,
}

/// How far a snapshot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstallProgress {
    /// All bytes before this one are there: the next part begins here.
    Received {
        /// In bytes from the snapshot's start.
        end: u64,
    },
    /// The node has everything that the snapshot holds, durably.
    Installed,
}

/// Tells apart the lives of a peer in a leader's term: one that is removed and added again has another one. What was answered in an earlier life
/// counts for nothing, since the node may have come back without its log.
pub type Session = u64;

/// Passes proposals on to the leader of one term.
///
/// The forwards of a run of a node to the leader of a term form a stream. The leader takes each position once and in order, so that lost and
/// repeated requests neither lose nor repeat a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardRequest {
    /// The term whose leader is meant. Any other one refuses.
    pub term: Term,
    /// The sender's run.
    pub run: u64,
    /// The first proposal's position in the stream, from 1.
    pub position: u64,
    /// The proposals at this position and after it.
    pub proposals: Vec<Forwarded>,
}

/// A proposal on its way to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// Its number in the sender's run.
    pub sequence: u64,
    /// What is proposed; none if the sender has given it up in the meantime: then only its position is taken.
    pub proposal: Option<Proposal>,
}

/// Answers a [`ForwardRequest`] of which something was refused, or which brought nothing new. Others are answered by the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardResponse {
    /// The answering node's term.
    pub term: Term,
    /// The stream's run.
    pub run: u64,
    /// The last position that was taken: the stream goes on after it.
    pub received: u64,
    /// Proposals of the request that were taken and turned down, by their number in the run.
    pub refused: Vec<(u64, Rejection)>,
}

/// Asks the leader for an index up to which the sender must have applied before it may serve reads (dissertation, §6.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadIndexRequest {
    /// The term whose leader is meant.
    pub term: Term,
    /// Names the request for good: a late answer to an earlier one must not serve a later read.
    pub id: ReadId,
}

/// Answers a [`ReadIndexRequest`], once a majority has confirmed the leader after the request came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadIndexResponse {
    /// The answering node's term.
    pub term: Term,
    /// The request.
    pub id: ReadId,
    /// The commit index when the request came.
    pub read_index: LogIndex,
}

/// Names a [`ReadIndexRequest`]: a run of a node, and a number that is used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadId {
    /// The asking node's run.
    pub run: u64,
    /// The request's number in the run.
    pub number: u64,
}

impl Message {
    /// The sender's term.
    #[must_use]
    pub fn term(&self) -> Term {
        match self {
            Self::PreVoteRequest(m) => m.term,
            Self::PreVoteResponse(m) => m.term,
            Self::RequestVoteRequest(m) => m.term,
            Self::RequestVoteResponse(m) => m.term,
            Self::AppendEntriesRequest(m) => m.term,
            Self::AppendEntriesResponse(m) => m.term,
            Self::HeartbeatRequest(m) => m.term,
            Self::HeartbeatResponse(m) => m.term,
            Self::ForwardRequest(m) => m.term,
            Self::ForwardResponse(m) => m.term,
            Self::ReadIndexRequest(m) => m.term,
            Self::ReadIndexResponse(m) => m.term,
            Self::CommitNotice(m) => m.term,
            Self::TimeoutNowRequest(m) => m.term,
            Self::RemovalNotice(m) => m.term,
            Self::InstallSnapshotRequest(m) => m.term,
            Self::InstallSnapshotResponse(m) => m.term,
        }
    }

    /// Whether the message says that its sender leads its term.
    #[must_use]
    pub fn is_from_leader(&self) -> bool {
        matches!(
            self,
            Self::AppendEntriesRequest(_)
                | Self::HeartbeatRequest(_)
                | Self::CommitNotice(_)
                | Self::TimeoutNowRequest(_)
                | Self::InstallSnapshotRequest(_)
        )
    }
}

/// A message with its address, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The group of sender and receiver.
    pub group: crate::types::GroupId,
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The message.
    pub message: Message,
}
