//! The links of a log in memory, in step with its entries; and what they make of entries from elsewhere.

use super::*;
use crate::log::RaftLog;
use crate::sealing::{Boot, EntryEncryptor, LogEncryptionKey};
use crate::types::{GroupId, NodeId, Term};

const VERSION_1: KeyVersion = KeyVersion(1);
const VERSION_2: KeyVersion = KeyVersion(2);

fn name() -> LogName {
    LogName::new("orders", GroupId(0)).expect("a short name")
}

fn keys(versions: &[u32]) -> KeyRing {
    let mut keys = KeyRing::default();
    for version in versions {
        let key = LogEncryptionKey::from_bytes(&[u8::try_from(*version).expect("small"); 32]).expect("a key");
        keys.insert(KeyVersion(*version), key).expect("new");
    }
    keys
}

fn log(versions: &[u32]) -> RaftLog {
    RaftLog::sealed(Chain::new(name(), &keys(versions), None).expect("there is a key"))
}

fn id(index: u64, term: u64) -> EntryId {
    EntryId { index: LogIndex(index), term: Term(term) }
}

fn noop(index: u64, term: u64) -> LogEntry {
    LogEntry { id: id(index, term), kind: EntryKind::NoOp }
}

fn switch(index: u64, to: KeyVersion) -> LogEntry {
    LogEntry { id: id(index, 1), kind: EntryKind::KeyVersion(to) }
}

fn command(index: u64, version: KeyVersion) -> LogEntry {
    let mut encryptor = EntryEncryptor::new(name(), NodeId(1), Boot([1; 16]), keys(&[1, 2, 3])).expect("sound");
    encryptor.use_version(version).expect("its key is there");
    let payload = encryptor.seal(id(index, 1), b"x").expect("sealed").into_bytes();
    let origin = crate::entry::Origin { node: NodeId(1), run: 1, sequence: index };
    LogEntry { id: id(index, 1), kind: EntryKind::Command { origin, payload } }
}

/// Entries 1 to 5: a change to version 2 is the third.
fn changing() -> (RaftLog, Vec<LogEntry>) {
    let entries = vec![noop(1, 1), command(2, VERSION_1), switch(3, VERSION_2), command(4, VERSION_2), noop(5, 1)];
    let mut log = log(&[1, 2]);
    entries.iter().for_each(|entry| log.push(entry.clone()));
    (log, entries)
}

fn version_at(log: &RaftLog, index: u64) -> Option<u32> {
    log.point_at(LogIndex(index)).map(|point| point.version.0)
}

#[test]
fn the_version_is_what_the_entries_up_to_there_have_led_to() {
    let (log, _) = changing();
    let versions: Vec<_> = (0..=6).map(|index| version_at(&log, index)).collect();
    assert_eq!(versions, [Some(1), Some(1), Some(1), Some(2), Some(2), Some(2), None]);
    assert_eq!(log.chain_end(), log.point_at(LogIndex(5)));
}

#[test]
fn links_go_and_stay_with_their_entries() {
    let (mut log, entries) = changing();
    let fourth = log.point_at(LogIndex(4)).expect("it is there");
    log.truncate_from(LogIndex(5));
    assert_eq!(log.chain_end(), Some(fourth));
    log.truncate_from(LogIndex(3));
    assert_eq!(log.chain_end().map(|end| end.version), Some(VERSION_1), "the change is undone with its entry");
    entries[2..].iter().for_each(|entry| log.push(entry.clone()));
    assert_eq!(log.point_at(LogIndex(4)), Some(fourth), "the same entries have the same links");

    log.commit_to(LogIndex(5));
    log.take_committed(usize::MAX).count();
    log.compact_to(LogIndex(2));
    assert_eq!((version_at(&log, 1), version_at(&log, 2), version_at(&log, 3)), (None, Some(1), Some(2)));
    log.compact_to(LogIndex(4));
    assert_eq!(log.point_at(LogIndex(4)), Some(fourth), "the base knows where the chain stands");
}

#[test]
fn a_version_that_does_not_hold_there_is_refused_whoever_has_its_key() {
    let (log, _) = changing();
    let span = ChainSpan { before: log.chain_end().expect("it is sealed"), last: log.chain_end().expect("it is sealed").link };
    for (version, entry) in [(1, command(6, VERSION_1)), (3, command(6, KeyVersion(3)))] {
        let error = log.verify(LogIndex(5), &[entry], Some(&span)).expect_err("version 2 holds");
        assert_eq!(error, ChainError::Version { id: id(6, 1), got: KeyVersion(version), expected: VERSION_2 });
    }
    for to in [VERSION_1, VERSION_2] {
        let error = log.verify(LogIndex(5), &[switch(6, to)], Some(&span)).expect_err("versions only grow");
        assert_eq!(error, ChainError::Backwards { id: id(6, 1), from: VERSION_2, to });
    }
}

#[test]
fn no_change_is_taken_to_a_version_that_could_not_be_gone_on_with() {
    let (full, entries) = changing();
    let lacking = log(&[1]);
    let span = full.span(LogIndex(0), LogIndex(5)).expect("it is sealed");
    let error = lacking.verify(LogIndex(0), &entries, Some(&span)).expect_err("version 2 is not there");
    assert_eq!(error, ChainError::MissingKey(MissingKey { wanted: VERSION_2, held: vec![VERSION_1] }));
    let span = full.span(LogIndex(0), LogIndex(2)).expect("it is sealed");
    assert_eq!(lacking.verify(LogIndex(0), &entries[..2], Some(&span)).map(|links| links.len()), Ok(2), "what comes before is");
}

#[test]
fn a_request_that_brings_nothing_new_is_checked_as_well() {
    let (log, entries) = changing();
    let span = log.span(LogIndex(1), LogIndex(4)).expect("it is sealed");
    assert_eq!(log.verify(LogIndex(1), &entries[1..4], Some(&span)).map(|links| links.len()), Ok(3));
    let empty = log.span(LogIndex(4), LogIndex(4)).expect("it is sealed");
    assert_eq!(log.verify(LogIndex(4), &[], Some(&empty)), Ok(Vec::new()));
    let forged = ChainSpan { last: ChainLink([9; 32]), ..empty };
    assert!(matches!(log.verify(LogIndex(4), &[], Some(&forged)), Err(ChainError::Broken { .. })));
}

/// Two genuine logs differ before the place where they meet: that is told from bytes that somebody made up.
#[test]
fn another_genuine_log_is_a_divergence_and_made_up_links_are_not() {
    let (ours, _) = changing();
    let mut theirs = log(&[1, 2]);
    [noop(1, 1), noop(2, 1), switch(3, VERSION_2), noop(4, 1), noop(5, 1), noop(6, 1)].into_iter().for_each(|entry| theirs.push(entry));
    let entry = noop(6, 1);
    let genuine = theirs.span(LogIndex(5), LogIndex(6)).expect("it is sealed");
    let error = ours.verify(LogIndex(5), std::slice::from_ref(&entry), Some(&genuine)).expect_err("another log");
    assert_eq!(error, ChainError::Diverged { at: id(5, 1) });
    let forged = ChainSpan { before: ours.chain_end().expect("it is sealed"), last: ChainLink([9; 32]) };
    let error = ours.verify(LogIndex(5), std::slice::from_ref(&entry), Some(&forged)).expect_err("no link");
    assert_eq!(error, ChainError::Broken { first: LogIndex(6), last: LogIndex(6), version: VERSION_2 });
}

#[test]
fn keys_that_come_later_are_taken_and_none_is_replaced() {
    let mut log = log(&[1]);
    log.push(noop(1, 1));
    let end = log.chain_end();
    log.take_keys(&keys(&[1, 2]));
    assert_eq!(log.chain_end(), end);
    log.push(switch(2, VERSION_2));
    assert_eq!(version_at(&log, 2), Some(2));
    assert!(Chain::new(name(), &keys(&[]), None).is_err(), "a chain needs a key");
    assert!(Chain::new(name(), &keys(&[5]), None).is_ok(), "any will do: it may be that of a cluster that has retired the first");
}

/// The numbers of kinds and the bytes beside payloads are part of what the links say: what changes here breaks every log that there is.
#[test]
fn golden_kinds_and_what_stands_beside_a_payload() {
    let origin = crate::entry::Origin { node: NodeId(3), run: 300, sequence: 9 };
    let entry = LogEntry { id: id(1, 2), kind: EntryKind::Command { origin, payload: b"x".as_slice().into() } };
    let mut beside = Vec::new();
    let seen = chained(&entry, &mut beside);
    assert_eq!((seen.kind, seen.beside, seen.payload), (1, &[3, 0xac, 2, 9][..], &b"x"[..]));
    let (noop, change) = (noop(1, 1), switch(1, VERSION_2));
    assert_eq!(chained(&noop, &mut Vec::new()).kind, 0);
    let mut beside = Vec::new();
    let seen = chained(&change, &mut beside);
    assert_eq!((seen.kind, seen.beside), (5, &[2][..]));
}
