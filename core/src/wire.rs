//! The encodings: envelopes between nodes, and what storage keeps.
//!
//! Each begins with a byte that names its format's version, followed by the value in postcard's encoding and nothing after it. Bytes from a peer
//! or a disk are checked here, once: what has passed is well-formed, and its numbers leave room to count on.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::chain::{ChainPoint, ChainSpan};
use crate::config::MAX_ELECTION_TIMEOUT;
use crate::entry::{EntryKind, LogEntry, Proposal};
use crate::io::Operation;
use crate::message::{AppendOutcome, Envelope, InstallProgress, Message};
use crate::sealing::KeyVersion;
use crate::sessions::{SessionChange, SessionStamp};
use crate::types::{EntryId, LogIndex, NodeId, SessionId, Term};

/// The version of the protocol between nodes.
pub const ENVELOPE_VERSION: u8 = 1;
/// The version of what storage keeps.
pub const STORAGE_VERSION: u8 = 1;
/// The same, of what a sealed log's storage keeps beside the hard state.
pub const SEALED_STORAGE_VERSION: u8 = 2;

/// No honest term, index or count ever gets here: at a million a second it takes a hundred thousand years.
pub(crate) const LIMIT: u64 = 1 << 62;

/// Bytes that can't be what they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// Nothing at all.
    #[error("the {what} is empty")]
    Empty {
        /// What was expected.
        what: &'static str,
    },
    /// A version that this node doesn't know.
    #[error("the {what} has version {got}, this node knows {expected}: run the same version on all nodes")]
    Version {
        /// What was expected.
        what: &'static str,
        /// The version that came.
        got: u8,
        /// The version that is known.
        expected: u8,
    },
    /// Not an encoding of what was expected.
    #[error("the {what} is malformed: {reason}")]
    Malformed {
        /// What was expected.
        what: &'static str,
        /// Why it isn't.
        reason: String,
    },
}

/// Term and vote: what must outlive a crash besides the log (Raft paper, figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistentState {
    /// The latest term this node has seen.
    pub current_term: Term,
    /// The candidate that has this node's vote in that term, or none.
    pub voted_for: NodeId,
}

/// Encodes an envelope.
#[must_use]
pub fn encode_envelope(envelope: &Envelope) -> Vec<u8> {
    encode(ENVELOPE_VERSION, envelope)
}

/// Decodes and checks an envelope.
///
/// # Errors
/// Says what is wrong with it.
pub fn decode_envelope(bytes: &[u8]) -> Result<Envelope, WireError> {
    let envelope: Envelope = decode("envelope", ENVELOPE_VERSION, bytes)?;
    let sane = envelope.message.term() < Term(LIMIT) && numbers_are_sane(&envelope.message);
    if sane { Ok(envelope) } else { Err(out_of_range("envelope")) }
}

/// The operation that keeps a hard state.
#[must_use]
pub fn hard_state_operation(state: &PersistentState) -> Operation {
    Operation::HardState(encode(STORAGE_VERSION, state))
}

/// Decodes a hard state.
///
/// # Errors
/// Says what is wrong with it.
pub fn decode_hard_state(bytes: &[u8]) -> Result<PersistentState, WireError> {
    let state: PersistentState = decode("hard state", STORAGE_VERSION, bytes)?;
    if state.current_term < Term(LIMIT) { Ok(state) } else { Err(out_of_range("hard state")) }
}

/// The operation that keeps entries: consecutive ones, and at least one. With what vouches for them, where the log is sealed.
///
/// # Panics
/// If there are none: a bug of this node.
#[must_use]
pub fn append_operation(entries: &[&LogEntry], chain: Option<ChainSpan>) -> Operation {
    let first = entries.first().expect("an append has entries").id.index;
    let count = u32::try_from(entries.len()).expect("memory bounds the entries of a batch");
    Operation::Append { first, count, entries: encode_sealed(entries, chain) }
}

/// Decodes entries that storage kept.
///
/// # Errors
/// Says what is wrong with them.
pub fn decode_entries(first: LogIndex, count: u32, bytes: &[u8]) -> Result<(Vec<LogEntry>, Option<ChainSpan>), WireError> {
    let (entries, chain): (Vec<LogEntry>, Option<ChainSpan>) = decode_sealed("entries", bytes)?;
    let as_labelled = entries.len() == count as usize
        && count > 0
        && entries.first().is_some_and(|entry| entry.id.index == first && !first.is_none())
        && entries.iter().all(entry_is_sane);
    if as_labelled {
        Ok((entries, chain))
    } else {
        let reason = format!("{} entries, labelled as {count} from index {first}", entries.len());
        Err(WireError::Malformed { what: "entries", reason })
    }
}

pub(crate) fn encode(version: u8, value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    postcard::to_extend(value, vec![version]).expect("plain data always has an encoding")
}

pub(crate) fn decode<T: DeserializeOwned>(what: &'static str, expected: u8, bytes: &[u8]) -> Result<T, WireError> {
    let (version, body) = bytes.split_first().ok_or(WireError::Empty { what })?;
    if *version != expected {
        return Err(WireError::Version { what, got: *version, expected });
    }
    let malformed = |reason: String| WireError::Malformed { what, reason };
    let (value, rest) = postcard::take_from_bytes(body).map_err(|error| malformed(error.to_string()))?;
    if rest.is_empty() { Ok(value) } else { Err(malformed(format!("{} bytes follow its end", rest.len()))) }
}

/// A value, behind what vouches for it where the log is sealed.
fn encode_sealed<T: Serialize + ?Sized>(value: &T, seal: Option<impl Serialize>) -> Vec<u8> {
    match seal {
        None => encode(STORAGE_VERSION, value),
        Some(seal) => encode(SEALED_STORAGE_VERSION, &(seal, value)),
    }
}

fn decode_sealed<T: DeserializeOwned, S: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<(T, Option<S>), WireError> {
    if bytes.first() == Some(&SEALED_STORAGE_VERSION) {
        let (seal, value) = decode(what, SEALED_STORAGE_VERSION, bytes)?;
        return Ok((value, Some(seal)));
    }
    Ok((decode(what, STORAGE_VERSION, bytes)?, None))
}

fn numbers_are_sane(message: &Message) -> bool {
    let index = |index: LogIndex| index.0 < LIMIT;
    match message {
        Message::PreVoteRequest(m) => m.proposed_term < Term(LIMIT) && index(m.last_log.index),
        Message::RequestVoteRequest(m) => index(m.last_log.index),
        Message::AppendEntriesRequest(m) => {
            // Nothing in a leader's log is of a later term than the leader: what was would be refused when storage gives it back.
            let terms_fit = m.prev_log.term <= m.term && m.entries.iter().all(|entry| entry.id.term <= m.term);
            index(m.prev_log.index) && index(m.leader_commit) && terms_fit && m.entries.iter().all(entry_is_sane)
        }
        Message::AppendEntriesResponse(m) => match &m.outcome {
            AppendOutcome::Appended { match_index } => index(*match_index),
            AppendOutcome::Conflict { rejected, conflict, first_of_term } => {
                index(*rejected) && index(conflict.index) && index(*first_of_term)
            }
        },
        Message::HeartbeatRequest(m) => index(m.commit_index),
        Message::HeartbeatResponse(m) => m.promise.is_none_or(|promise| promise.lasts <= MAX_ELECTION_TIMEOUT),
        Message::CommitNotice(m) => index(m.commit_index),
        Message::ForwardRequest(m) => {
            m.position < LIMIT && m.proposals.iter().filter_map(|forwarded| forwarded.proposal.as_ref()).all(proposal_is_sane)
        }
        Message::ForwardResponse(m) => m.received < LIMIT,
        Message::ReadIndexResponse(m) => index(m.read_index),
        Message::RemovalNotice(m) => index(m.version),
        Message::InstallSnapshotRequest(m) => {
            let ends = m.offset.checked_add(m.data.len() as u64).is_some_and(|end| end < LIMIT);
            snapshot_is_sane(m.snapshot) && m.snapshot.term <= m.term && ends
        }
        Message::InstallSnapshotResponse(m) => {
            let end = match m.progress {
                InstallProgress::Received { end } => end,
                InstallProgress::Installed => 0,
            };
            snapshot_is_sane(m.snapshot) && end < LIMIT
        }
        Message::PreVoteResponse(_) | Message::RequestVoteResponse(_) | Message::ReadIndexRequest(_) | Message::TimeoutNowRequest(_) => {
            true
        }
    }
}

/// The operation that says what the log begins with.
#[must_use]
pub fn compact_operation(base: EntryId, point: Option<ChainPoint>) -> Operation {
    Operation::Compact { first: base.index.next(), base: encode_sealed(&base, point) }
}

/// Decodes what a log begins with.
///
/// # Errors
/// Says what is wrong with it.
pub fn decode_base(first: LogIndex, bytes: &[u8]) -> Result<(EntryId, Option<ChainPoint>), WireError> {
    let (base, point): (EntryId, Option<ChainPoint>) = decode_sealed("log's base", bytes)?;
    let fits = base.index.next() == first && base.index.0 < LIMIT && (1..LIMIT).contains(&base.term.0);
    if fits { Ok((base, point)) } else { Err(out_of_range("log's base")) }
}

fn snapshot_is_sane(id: EntryId) -> bool {
    (1..LIMIT).contains(&id.index.0) && (1..LIMIT).contains(&id.term.0)
}

fn entry_is_sane(entry: &LogEntry) -> bool {
    let says = match &entry.kind {
        EntryKind::SessionCommand { stamp, .. } => stamp_is_sane(stamp),
        EntryKind::Session { change, .. } => change_is_sane(change),
        EntryKind::Configuration(state) => state.fits(entry.id.index),
        EntryKind::KeyVersion(version) => *version > KeyVersion::NONE,
        EntryKind::NoOp | EntryKind::Command { .. } => true,
    };
    let time = entry.time().is_none_or(|time| time.0 < LIMIT);
    (1..LIMIT).contains(&entry.id.index.0) && (1..LIMIT).contains(&entry.id.term.0) && time && says
}

/// Whether an entry can be made of it: its host, or another node, may have got its numbers from anywhere.
pub(crate) fn proposal_is_sane(proposal: &Proposal) -> bool {
    match proposal {
        Proposal::Command(_) => true,
        Proposal::SessionCommand { stamp, .. } => stamp_is_sane(stamp),
        Proposal::Session(change) => change_is_sane(change),
    }
}

fn stamp_is_sane(stamp: &SessionStamp) -> bool {
    stamp.session < SessionId(LIMIT) && stamp.sequence < LIMIT && stamp.acknowledged < LIMIT
}

fn change_is_sane(change: &SessionChange) -> bool {
    match change {
        SessionChange::Open { .. } => true,
        SessionChange::KeepAlive { session, acknowledged } => *session < SessionId(LIMIT) && *acknowledged < LIMIT,
        SessionChange::Close { session } => *session < SessionId(LIMIT),
    }
}

fn out_of_range(what: &'static str) -> WireError {
    WireError::Malformed { what, reason: "a term or an index is beyond all reason".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Origin;
    use crate::message::{AppendEntriesRequest, HeartbeatRequest};
    use crate::types::{EntryId, GroupId};

    fn entry() -> LogEntry {
        let origin = Origin { node: NodeId(2), run: 300, sequence: 9 };
        let id = EntryId { index: LogIndex(5), term: Term(2) };
        LogEntry { id, kind: EntryKind::Command { origin, payload: b"x=1".as_slice().into() } }
    }

    fn envelope(message: Message) -> Envelope {
        Envelope { group: GroupId(0), from: NodeId(1), to: NodeId(2), message }
    }

    /// The formats are promises to other versions of this code: bytes that change here need a new version number.
    #[test]
    fn golden_bytes() {
        let prev_log = EntryId { index: LogIndex(4), term: Term(1) };
        let append =
            AppendEntriesRequest { term: Term(2), session: 6, prev_log, leader_commit: LogIndex(3), chain: None, entries: vec![entry()] };
        let bytes = encode_envelope(&envelope(Message::AppendEntriesRequest(append)));
        assert_eq!(bytes, [1, 0, 1, 2, 4, 2, 6, 1, 4, 3, 0, 1, 2, 5, 1, 2, 0xAC, 2, 9, 3, b'x', b'=', b'1']);
        let state = PersistentState { current_term: Term(7), voted_for: NodeId(3) };
        assert_eq!(hard_state_operation(&state), Operation::HardState(vec![1, 7, 3]));
        let kept = vec![1, 1, 2, 5, 1, 2, 0xAC, 2, 9, 3, b'x', b'=', b'1'];
        assert_eq!(append_operation(&[&entry()], None), Operation::Append { first: LogIndex(5), count: 1, entries: kept });
    }

    #[test]
    fn every_cut_of_an_envelope_is_refused() {
        let prev_log = EntryId::default();
        let append =
            AppendEntriesRequest { term: Term(2), session: 1, prev_log, leader_commit: LogIndex(3), chain: None, entries: vec![entry()] };
        let whole = envelope(Message::AppendEntriesRequest(append));
        let bytes = encode_envelope(&whole);
        for end in 0..bytes.len() {
            decode_envelope(&bytes[..end]).expect_err("a part is not the whole");
        }
        assert_eq!(decode_envelope(&bytes), Ok(whole));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |bytes: &[u8]| decode_envelope(bytes).expect_err("refused").to_string();
        assert_eq!(said(&[]), "the envelope is empty");
        assert_eq!(said(&[9, 0]), "the envelope has version 9, this node knows 1: run the same version on all nodes");
        let mut long = encode_envelope(&envelope(Message::HeartbeatRequest(HeartbeatRequest {
            term: Term(1),
            session: 1,
            commit_index: LogIndex(0),
            round: 0,
            sent_at: None,
            failed: Vec::new(),
            doubtful: Vec::new(),
            key: None,
        })));
        long.push(0);
        assert_eq!(said(&long), "the envelope is malformed: 1 bytes follow its end");
    }

    #[test]
    fn a_term_that_leaves_no_room_to_count_is_refused() {
        let request = HeartbeatRequest {
            term: Term(u64::MAX),
            session: 1,
            commit_index: LogIndex(0),
            round: 0,
            sent_at: None,
            failed: Vec::new(),
            doubtful: Vec::new(),
            key: None,
        };
        decode_envelope(&encode_envelope(&envelope(Message::HeartbeatRequest(request)))).expect_err("refused");
    }

    #[test]
    fn entries_must_be_what_their_label_says() {
        let Operation::Append { entries, .. } = append_operation(&[&entry()], None) else { panic!("an append") };
        assert_eq!(decode_entries(LogIndex(5), 1, &entries), Ok((vec![entry()], None)));
        decode_entries(LogIndex(5), 2, &entries).expect_err("another count");
        decode_entries(LogIndex(6), 1, &entries).expect_err("another index");
    }
}
