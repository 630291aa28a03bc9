//! Messages that are well-formed, from a peer that means no good.

use std::time::Duration;

use amaters_cluster_core::message::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, CommitNotice, ForwardRequest, ForwardResponse, Forwarded, HeartbeatRequest,
    HeartbeatResponse, InstallProgress, InstallSnapshotRequest, InstallSnapshotResponse, Message, NamedKey, PreVoteRequest,
    PreVoteResponse, Promise, ReadId, ReadIndexRequest, ReadIndexResponse, RemovalNotice, RequestVoteRequest, RequestVoteResponse,
    TimeoutNowRequest,
};
use amaters_cluster_core::{
    EntryId, EntryKind, Instant, KeyVersion, LogEncryptionKey, LogEntry, LogIndex, LogTime, NodeId, Origin, Proposal, Rejection,
    SessionChange, SessionId, SessionStamp, Term,
};

use super::bytes::Bytes;
use super::subject::Subject;
use super::{members, near, near_term};

/// A message whose numbers lie around the node's own.
pub(super) fn message(subject: &Subject, bytes: &mut Bytes<'_>) -> Message {
    let term = near_term(subject, bytes);
    match bytes.number(20) {
        0 => Message::PreVoteRequest(PreVoteRequest { term, proposed_term: near_term(subject, bytes), last_log: entry_id(subject, bytes) }),
        1 => {
            let (proposed_term, vote_granted) = (near_term(subject, bytes), bytes.number(4) > 0);
            Message::PreVoteResponse(PreVoteResponse { term, proposed_term, vote_granted })
        }
        2 => {
            Message::RequestVoteRequest(RequestVoteRequest { term, last_log: entry_id(subject, bytes), by_transfer: bytes.number(4) == 0 })
        }
        3 => Message::RequestVoteResponse(RequestVoteResponse { term, vote_granted: bytes.number(4) > 0 }),
        4..=7 => append(subject, bytes, term),
        8 => Message::AppendEntriesResponse(AppendEntriesResponse {
            term,
            session: near(bytes, 6),
            outcome: outcome(subject, bytes),
            repairing: bytes.number(8) == 0,
        }),
        9 => {
            let (commit_index, round) = (near_index(subject, bytes), near(bytes, 1));
            let sent_at = (bytes.number(2) == 0).then(|| moment(subject, bytes));
            let (failed, doubtful) = (nodes(bytes), nodes(bytes));
            let session = near(bytes, 6);
            let key = (session % 2 == 1).then(|| named_key(version_of(session)));
            Message::HeartbeatRequest(HeartbeatRequest { term, session, commit_index, round, sent_at, failed, doubtful, key })
        }
        10 => heartbeat_response(subject, bytes, term),
        11 => Message::CommitNotice(CommitNotice { term, commit_index: near_index(subject, bytes) }),
        12 => {
            let (run, position) = (bytes.number(3), near(bytes, 1));
            let count = bytes.number(4);
            let proposals = (0..count).map(|_| Forwarded { sequence: near(bytes, 1), proposal: proposal(bytes) }).collect();
            Message::ForwardRequest(ForwardRequest { term, run, position, proposals })
        }
        13 => {
            let (run, received, sequence) = (subject.some_run(bytes), near(bytes, 1), near(bytes, 1));
            let reasons = [Rejection::NoLeader, Rejection::UnknownOutcome, Rejection::TooLarge, Rejection::LogFull];
            let refused = reasons.into_iter().take(usize::from(bytes.byte() % 5)).map(|reason| (sequence, reason)).collect();
            Message::ForwardResponse(ForwardResponse { term, run, received, refused })
        }
        14 => Message::TimeoutNowRequest(TimeoutNowRequest { term }),
        15 => Message::RemovalNotice(RemovalNotice { term, version: near_index(subject, bytes) }),
        16 => Message::ReadIndexRequest(ReadIndexRequest { term, id: ReadId { run: bytes.number(3), number: near(bytes, 1) } }),
        18 => {
            let (snapshot, offset, done) = (entry_id(subject, bytes), near(bytes, 1), bytes.number(2) == 0);
            let data = (0..bytes.number(30)).map(|_| bytes.byte()).collect::<Vec<_>>().into();
            Message::InstallSnapshotRequest(InstallSnapshotRequest { term, session: near(bytes, 6), snapshot, offset, data, done })
        }
        19 => {
            let progress = if bytes.number(3) == 0 { InstallProgress::Installed } else { InstallProgress::Received { end: bytes.any() } };
            let (session, snapshot) = (near(bytes, 6), entry_id(subject, bytes));
            Message::InstallSnapshotResponse(InstallSnapshotResponse { term, session, snapshot, progress })
        }
        _ => {
            let id = ReadId { run: subject.some_run(bytes), number: near(bytes, 1) };
            Message::ReadIndexResponse(ReadIndexResponse { term, id, read_index: near_index(subject, bytes) })
        }
    }
}

fn append(subject: &Subject, bytes: &mut Bytes<'_>, term: Term) -> Message {
    let prev_log = entry_id(subject, bytes);
    let leader_commit = near_index(subject, bytes);
    let mut before = prev_log;
    let entries = (0..bytes.number(6))
        .map(|_| {
            let honest = bytes.number(16) > 0;
            let newer = if bytes.number(3) == 0 { term } else { before.term.max(Term(1)) };
            let id =
                if honest { EntryId { index: LogIndex(before.index.0.saturating_add(1)), term: newer } } else { entry_id(subject, bytes) };
            before = id;
            LogEntry { id, kind: kind(id.index, bytes) }
        })
        .collect();
    Message::AppendEntriesRequest(AppendEntriesRequest { term, session: near(bytes, 6), prev_log, leader_commit, chain: None, entries })
}

fn heartbeat_response(subject: &Subject, bytes: &mut Bytes<'_>, term: Term) -> Message {
    let promise = (bytes.number(2) == 0).then(|| Promise { since: moment(subject, bytes), lasts: Duration::from_nanos(bytes.any()) });
    let session = near(bytes, 6);
    let (key, disk_full) = (version_of(session), session % 4 == 3);
    let (round, repairing) = (near(bytes, 1), bytes.number(8) == 0);
    Message::HeartbeatResponse(HeartbeatResponse { term, session, round, promise, repairing, key, disk_full })
}

fn outcome(subject: &Subject, bytes: &mut Bytes<'_>) -> AppendOutcome {
    if bytes.number(2) == 0 {
        return AppendOutcome::Appended { match_index: near_index(subject, bytes) };
    }
    AppendOutcome::Conflict {
        rejected: near_index(subject, bytes),
        conflict: entry_id(subject, bytes),
        first_of_term: near_index(subject, bytes),
    }
}

/// Mostly an entry that the log holds.
fn entry_id(subject: &Subject, bytes: &mut Bytes<'_>) -> EntryId {
    let index = near_index(subject, bytes);
    let term = subject.log().term_at(index).filter(|_| bytes.number(8) > 0);
    EntryId { index, term: term.unwrap_or_else(|| near_term(subject, bytes)) }
}

fn near_index(subject: &Subject, bytes: &mut Bytes<'_>) -> LogIndex {
    let own = if bytes.number(2) == 0 { subject.log().last().index } else { subject.log().commit_index() };
    LogIndex(near(bytes, own.0))
}

/// What the entry of the log at an index says.
pub(super) fn kind(index: LogIndex, bytes: &mut Bytes<'_>) -> EntryKind {
    if bytes.number(8) == 0 {
        return EntryKind::Configuration(members::configuration(index, bytes));
    }
    let origin = Origin { node: NodeId(bytes.number(8)), run: bytes.number(3), sequence: near(bytes, 1) };
    let time = LogTime(near(bytes, 1000));
    match proposal(bytes) {
        None if time.0 % 4 == 3 => EntryKind::KeyVersion(version_of(time.0)),
        None => EntryKind::NoOp,
        Some(Proposal::Command(payload)) => EntryKind::Command { origin, payload },
        Some(Proposal::SessionCommand { stamp, payload }) => EntryKind::SessionCommand { origin, time, stamp, payload },
        Some(Proposal::Session(change)) => EntryKind::Session { origin, time, change },
    }
}

fn proposal(bytes: &mut Bytes<'_>) -> Option<Proposal> {
    let length = [0, 3, 3, 40, 900, 5000][usize::from(bytes.byte() % 6)];
    let payload = vec![b'x'; length].into();
    match bytes.number(6) {
        0 => None,
        1 => Some(Proposal::Session(change(bytes))),
        2 | 3 => Some(Proposal::SessionCommand { stamp: stamp(bytes), payload }),
        _ => Some(Proposal::Command(payload)),
    }
}

/// A place in a session: few sessions, so that some are open.
pub(super) fn stamp(bytes: &mut Bytes<'_>) -> SessionStamp {
    SessionStamp { session: session(bytes), sequence: near(bytes, 4), acknowledged: near(bytes, 3) }
}

/// What is to become of a session.
pub(super) fn change(bytes: &mut Bytes<'_>) -> SessionChange {
    match bytes.number(4) {
        0 | 1 => SessionChange::Open { timeout_ms: near(bytes, 1000) },
        2 => SessionChange::KeepAlive { session: session(bytes), acknowledged: near(bytes, 3) },
        _ => SessionChange::Close { session: session(bytes) },
    }
}

fn session(bytes: &mut Bytes<'_>) -> SessionId {
    SessionId(bytes.number(12))
}

/// Of a number that was drawn for something else: so the corpus means what it did before there were keys.
fn version_of(number: u64) -> KeyVersion {
    KeyVersion(u32::try_from(number % 4).expect("it is small"))
}

fn named_key(version: KeyVersion) -> NamedKey {
    NamedKey { version, fingerprint: LogEncryptionKey::from_bytes(&[7; 32]).expect("a key").fingerprint() }
}

fn moment(subject: &Subject, bytes: &mut Bytes<'_>) -> Instant {
    Instant(near(bytes, subject.now().0))
}

fn nodes(bytes: &mut Bytes<'_>) -> Vec<NodeId> {
    (0..bytes.number(3)).map(|_| NodeId(bytes.number(9))).collect()
}
