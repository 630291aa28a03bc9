//! Messages by hand, with places in the log written as (index, term). Sessions are 0: the node under test sees those of its own.

use amaters_cluster_core::message::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, CommitNotice, HeartbeatRequest, HeartbeatResponse, Message, PreVoteRequest,
    PreVoteResponse, RequestVoteRequest, RequestVoteResponse,
};
use amaters_cluster_core::{EntryId, EntryKind, KeyVersion, LogEntry, LogIndex, NodeId, Origin, Term};

/// A place in the log: index and term.
pub(crate) type Place = (u64, u64);

pub(crate) fn id((index, term): Place) -> EntryId {
    EntryId { index: LogIndex(index), term: Term(term) }
}

/// An entry whose command names its place.
pub(crate) fn entry(place: Place) -> LogEntry {
    let origin = Origin { node: NodeId(9), run: 9, sequence: place.0 };
    LogEntry { id: id(place), kind: EntryKind::Command { origin, payload: format!("{}@{}", place.0, place.1).into() } }
}

/// AppendEntries with entries of these terms after `prev`.
pub(crate) fn append(term: u64, prev: Place, terms: &[u64], commit: u64) -> Message {
    let entries = (prev.0 + 1..).zip(terms).map(|(index, term)| entry((index, *term))).collect();
    let (term, prev_log, leader_commit) = (Term(term), id(prev), LogIndex(commit));
    Message::AppendEntriesRequest(AppendEntriesRequest { term, session: 0, prev_log, leader_commit, chain: None, entries })
}

pub(crate) fn appended(term: u64, match_index: u64) -> Message {
    let outcome = AppendOutcome::Appended { match_index: LogIndex(match_index) };
    Message::AppendEntriesResponse(AppendEntriesResponse { term: Term(term), session: 0, outcome, repairing: false })
}

/// A refusal: the entry that was missing, what stands there (or last), where that one's term begins.
pub(crate) fn conflict(term: u64, rejected: u64, conflict: Place, first_of_term: u64) -> Message {
    let outcome = AppendOutcome::Conflict { rejected: LogIndex(rejected), conflict: id(conflict), first_of_term: LogIndex(first_of_term) };
    Message::AppendEntriesResponse(AppendEntriesResponse { term: Term(term), session: 0, outcome, repairing: false })
}

pub(crate) fn heartbeat(term: u64, commit: u64) -> Message {
    Message::HeartbeatRequest(HeartbeatRequest {
        term: Term(term),
        session: 0,
        commit_index: LogIndex(commit),
        round: 0,
        sent_at: None,
        failed: Vec::new(),
        doubtful: Vec::new(),
        key: None,
    })
}

pub(crate) fn commit_notice(term: u64, commit: u64) -> Message {
    Message::CommitNotice(CommitNotice { term: Term(term), commit_index: LogIndex(commit) })
}

pub(crate) fn alive(term: u64, round: u64) -> Message {
    Message::HeartbeatResponse(HeartbeatResponse {
        term: Term(term),
        session: 0,
        round,
        promise: None,
        repairing: false,
        disk_full: false,
        key: KeyVersion::NONE,
    })
}

pub(crate) fn request_vote(term: u64, last: Place) -> Message {
    Message::RequestVoteRequest(RequestVoteRequest { term: Term(term), last_log: id(last), by_transfer: false })
}

pub(crate) fn vote(term: u64, vote_granted: bool) -> Message {
    Message::RequestVoteResponse(RequestVoteResponse { term: Term(term), vote_granted })
}

/// A pre-vote for the term after the sender's.
pub(crate) fn request_pre_vote(term: u64, last: Place) -> Message {
    Message::PreVoteRequest(PreVoteRequest { term: Term(term), proposed_term: Term(term + 1), last_log: id(last) })
}

pub(crate) fn pre_vote(term: u64, proposed: u64, vote_granted: bool) -> Message {
    Message::PreVoteResponse(PreVoteResponse { term: Term(term), proposed_term: Term(proposed), vote_granted })
}
