//! Every byte of a small data directory, flipped: it is noticed, or changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use amaters_cluster_core::{Config, Effect, EntryId, EntryKind, LogIndex, Node, NodeId, Operation, PersistentState, SnapshotPolicy};

use super::super::DiskSnapshotStore;
use super::super::files::Files;
use crate::data_dir::{DataDir, Identity};
use crate::engine::EngineError;
use crate::error::RaftError;
use crate::kv::{Condition, KeyValue, Slice, Write};
use crate::node::RaftNode;
use crate::persistence::FilePersistence;
use crate::runtime::EngineKind;
use crate::state_machine::StateMachine as _;
use crate::wal::tests::faulty::FaultyDisk;
use crate::wal::tests::support;
use crate::wal::{WalError, WalOptions, WalReader};

const SEGMENT: u64 = 16 << 10;

/// All that a node has: its term and vote, the end of its log, and what its state is once all of that is applied.
#[derive(Debug, PartialEq)]
struct Recovered {
    hard_state: PersistentState,
    last: EntryId,
    state: KeyValue,
}

fn config() -> Config {
    let mut config = Config::new(1, vec![1]);
    config.snapshots.policy = SnapshotPolicy::NEVER;
    config.snapshots.tail_entries = 5;
    config
}

fn identity() -> Identity {
    Identity { cluster: "flips".to_owned(), node: NodeId(1), voters: vec![NodeId(1)], sealed: false }
}

fn write(node: &RaftNode, numbers: std::ops::Range<u32>) {
    let set = |n: u32| {
        let (key, value) = (format!("key {}", n % 50), format!("value {n}"));
        Write::Set { key: Slice::new(key.as_bytes()), value: Slice::new(value.as_bytes()), condition: Condition::Always, get: false }
            .encode()
    };
    let outcomes = pollster::block_on(node.handle().propose(numbers.map(set).collect()));
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

/// Has a node write, take snapshots, compact its journal, and stop in order.
fn run_a_node(dir: &Path) {
    let data_dir = DataDir::open(dir, &identity()).unwrap();
    let (wal, snapshots) = (data_dir.wal(), data_dir.snapshots());
    let node = RaftNode::builder(config())
        .engine(EngineKind::Native)
        .storage(move |on_durable| Ok(Box::new(FilePersistence::open(&wal, WalOptions::with_segment_size(SEGMENT), on_durable)?)))
        .snapshots(move |on_report| {
            let store = DiskSnapshotStore::open(&snapshots, on_report).map_err(|error| RaftError::Storage(Box::new(error)))?;
            Ok(Box::new(store))
        })
        .start()
        .unwrap();
    for round in 0..4 {
        write(&node, round * 100..round * 100 + 100);
        pollster::block_on(node.handle().take_snapshot()).unwrap();
    }
    write(&node, 400..440);
    node.shutdown().unwrap();
    data_dir.journal_begun().unwrap();
}

/// The journal and the snapshots, on a disk in memory.
fn in_memory(dir: &Path) -> FaultyDisk {
    let disk = FaultyDisk::default();
    for part in ["wal", "snapshots"] {
        for file in fs::read_dir(dir.join(part)).unwrap() {
            let path = file.unwrap().path();
            disk.put(&Path::new("/").join(part).join(path.file_name().unwrap()), fs::read(&path).unwrap());
        }
    }
    disk
}

/// As a node starts: from the newest snapshot that makes sense, and the journal.
fn recover(disk: &FaultyDisk) -> Result<Recovered, String> {
    let files = Files::open(Arc::new(disk.clone()), super::dir()).map_err(|error| error.to_string())?;
    loop {
        let newest = files.list().map_err(|error| error.to_string())?.first().copied();
        let Some(newest) = newest else { return recover_journal(disk, Node::new(config()).unwrap(), KeyValue::default()) };
        let bytes = files.read(newest.id, 0, usize::MAX).map_err(|error| error.to_string())?;
        match restore(&bytes) {
            Ok((node, state)) => return recover_journal(disk, node, state),
            Err(_) => files.put_aside(newest.id).map_err(|error| error.to_string())?,
        }
    }
}

fn restore(bytes: &[u8]) -> Result<(Node, KeyValue), EngineError> {
    let (mut node, mut state, mut effects, mut whole) = (Node::new(config()).unwrap(), KeyValue::default(), Vec::new(), false);
    let useless = |reason: String| EngineError::Snapshot(reason);
    node.restore(bytes, &mut effects).map_err(|error| useless(error.to_string()))?;
    for effect in effects {
        match effect {
            Effect::ClearState => state.clear(),
            Effect::RestoreState { piece } => state.restore(&piece).map_err(|error| useless(error.to_string()))?,
            Effect::StateRestored => {
                state.restored().map_err(|error| useless(error.to_string()))?;
                whole = true;
            }
            other => panic!("{other:?}"),
        }
    }
    if whole { Ok((node, state)) } else { Err(useless("it is cut short".to_owned())) }
}

fn recover_journal(disk: &FaultyDisk, mut node: Node, mut state: KeyValue) -> Result<Recovered, String> {
    let (_journal, operations, _) = support::open_with(disk, SEGMENT).map_err(|error| error.to_string())?;
    for operation in operations {
        node.recover(operation).map_err(|error| error.to_string())?;
    }
    let now = amaters_cluster_core::Instant(0);
    node.start(now).map_err(|error| error.to_string())?;
    let held = node.status(now).snapshots.latest.map_or(LogIndex::NONE, |id| id.index);
    for entry in node.log().iter_from(held.next()) {
        if let EntryKind::Command { payload, .. } = &entry.kind {
            state.write(entry.id, payload);
        }
    }
    Ok(Recovered { hard_state: node.persistent_state(), last: node.log().last(), state })
}

/// Whether the byte's damage was refused. Anything else than the same state is a failure.
fn is_refused(disk: &FaultyDisk, path: &Path, at: usize, mask: u8, expected: &Recovered) -> bool {
    let damaged = disk.copy();
    damaged.edit(path, |bytes| bytes[at] ^= mask);
    match recover(&damaged) {
        Ok(recovered) => {
            assert_eq!(&recovered, expected, "{} byte {at} ^ {mask:02x}", path.display());
            let copy = PathBuf::from("/wal/hard-state-0");
            assert_eq!(damaged.get(&copy), disk.get(&copy), "{} byte {at} ^ {mask:02x}", path.display());
            false
        }
        Err(_) => true,
    }
}

#[test]
fn h34_every_byte_of_journal_and_snapshots_that_is_flipped_is_refused_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    run_a_node(dir.path());
    let disk = in_memory(dir.path());
    let expected = recover(&disk.copy()).expect("it is whole");
    assert!(expected.state != KeyValue::default() && expected.last.index.0 >= 440, "{:?}", expected.last);
    let (mut bytes, mut refused) = (0, 0);
    for path in disk.names() {
        for at in 0..disk.get(&path).unwrap().len() {
            bytes += 1;
            refused += usize::from(is_refused(&disk, &path, at, 1 << (at % 8), &expected));
        }
    }
    assert!(refused > 10_000, "the journal's records are most of it: {refused} of {bytes}");
}

/// Gives the journal a last group with a vote, as a node leaves it that is killed: nothing behind it proves that it was durable. Gives its place.
fn add_a_vote(disk: &FaultyDisk) -> (PathBuf, std::ops::Range<usize>) {
    let (mut journal, operations, _) = support::open_with(disk, SEGMENT).unwrap();
    let state = operations.into_iter().rev().find_map(|it| if let Operation::HardState(bytes) = it { Some(bytes) } else { None });
    let mut state = state.expect("the node has voted for itself");
    state[1] += 1; // the term, behind the version
    support::write(&mut journal, &[Operation::HardState(state)]).unwrap();
    drop(journal);
    let mut place = None;
    let read = WalReader::on(Arc::new(disk.clone()), support::dir()).read(|located| {
        let start = usize::try_from(located.offset).unwrap();
        let bytes = usize::try_from(located.record.body.record_bytes()?).unwrap();
        place = Some((support::file(located.segment), start..start + bytes));
        Ok::<_, WalError>(())
    });
    read.unwrap();
    place.expect("it was written")
}

#[test]
fn h34_every_byte_of_a_vote_at_the_end_of_a_journal_that_is_flipped_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    run_a_node(dir.path());
    let disk = in_memory(dir.path());
    let before = recover(&disk).expect("it is whole");
    let (path, record) = add_a_vote(&disk);
    let expected = recover(&disk).expect("it is whole");
    assert_eq!(expected.hard_state.current_term.0, before.hard_state.current_term.0 + 1);
    for at in record {
        for mask in (0..8).map(|bit| 1 << bit).chain([0xff]) {
            assert!(is_refused(&disk, &path, at, mask, &expected), "byte {at} ^ {mask:02x}: the vote is forgotten");
        }
    }
    let copy = PathBuf::from("/wal/hard-state-0");
    for at in 0..disk.get(&copy).unwrap().len() {
        assert!(!is_refused(&disk, &copy, at, 1, &expected), "a damaged copy is written anew");
    }
}

#[test]
fn every_byte_of_an_identity_that_is_flipped_is_refused_or_harmless() {
    for repairing in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        run_a_node(dir.path());
        let held = DataDir::open(dir.path(), &identity()).unwrap();
        held.members_logged().unwrap();
        if repairing {
            held.repair_begun().unwrap();
        }
        drop(held);
        let file = dir.path().join("identity");
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            // What makes a comment of a line is among them.
            for mask in (0..8).map(|bit| 1 << bit).chain([0xff, whole[at] ^ b'#']).filter(|mask| *mask != 0) {
                let mut damaged = whole.clone();
                damaged[at] ^= mask;
                fs::write(&file, &damaged).unwrap();
                if let Ok(found) = DataDir::open(dir.path(), &identity()) {
                    let found = (found.founders(), found.is_repairing(), found.has_members_in_log());
                    assert_eq!(found, (&[NodeId(1)][..], repairing, true), "byte {at} ^ {mask:02x}: {}", String::from_utf8_lossy(&damaged));
                }
                assert_eq!(fs::read(&file).unwrap(), damaged, "what is there is left as it is");
            }
        }
    }
}
