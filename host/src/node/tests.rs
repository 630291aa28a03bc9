//! Whole nodes, from their files to their state machine: what a snapshot is for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use amaters_cluster_core::{Config, NodeId, SnapshotPolicy, Status};

mod sealed;

use super::{RaftNode, RaftNodeBuilder};
use crate::data_dir::{DataDir, Identity};
use crate::error::RaftError;
use crate::kv::{Condition, Query, Reply, Slice, Write};
use crate::memory_network::MemoryNetwork;
use crate::persistence::FilePersistence;
use crate::repair;
use crate::runtime::EngineKind;
use crate::snapshots::DiskSnapshotStore;
use crate::wal::WalOptions;

/// Snapshots after each so many entries, so that tests need few.
fn config(id: u64, voters: &[u64], entries: u64) -> Config {
    let mut config = Config::new(id, voters.to_vec());
    config.snapshots.policy = SnapshotPolicy { entries: Some(entries), bytes: None };
    config.snapshots.tail_entries = 10;
    config
}

/// A node on disk, alone unless it has a network.
fn start(dir: &Path, config: Config, network: &MemoryNetwork) -> Result<RaftNode, RaftError> {
    let id = config.id;
    builder(dir, config).start_with(|inlet| Ok(network.join(id, inlet)))
}

/// With the core outside of its sandbox: that is quicker.
fn builder(dir: &Path, config: Config) -> RaftNodeBuilder {
    sandboxed(dir, config).engine(EngineKind::Native)
}

fn sandboxed(dir: &Path, config: Config) -> RaftNodeBuilder {
    let (wal, snapshots) = (dir.join("wal"), dir.join("snapshots"));
    RaftNode::builder(config)
        .storage(move |on_durable| Ok(Box::new(FilePersistence::open(&wal, WalOptions::with_segment_size(64 << 10), on_durable)?)))
        .snapshots(move |on_report| {
            let store = DiskSnapshotStore::open(&snapshots, on_report).map_err(|error| RaftError::Storage(Box::new(error)))?;
            Ok(Box::new(store))
        })
}

fn alone(dir: &Path, entries: u64) -> Result<RaftNode, RaftError> {
    start(dir, config(1, &[1], entries), &MemoryNetwork::default())
}

fn key(n: u32) -> String {
    format!("key {n}")
}

fn write(node: &RaftNode, numbers: std::ops::Range<u32>) {
    let set = |n: u32| {
        let (key, value) = (key(n), "v".repeat(200));
        Write::Set { key: Slice::new(key.as_bytes()), value: Slice::new(value.as_bytes()), condition: Condition::Always, get: false }
            .encode()
    };
    let outcomes = pollster::block_on(node.handle().propose(numbers.map(set).collect()));
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

fn count(node: &RaftNode) -> i64 {
    let answer = node.query(Query::DbSize.encode()).expect("an answer");
    match Reply::decode(&answer) {
        Some(Reply::Integer(count)) => count,
        other => panic!("{other:?}"),
    }
}

fn wait_for(node: &RaftNode, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let status = node.status().expect("a status");
        if holds(&status) {
            return status;
        }
        assert!(Instant::now() < end, "not within 20 s: {what}: {status:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).map_or_else(|_| Vec::new(), |all| all.map(|it| it.unwrap().path()).collect());
    files.retain(|path| path.to_str().unwrap().ends_with(suffix));
    files.sort();
    files
}

/// A directory with snapshots, of a node that wrote so many keys.
fn with_snapshots(keys: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let node = alone(dir.path(), 100).unwrap();
    for at in (0..keys).step_by(20) {
        write(&node, at..at + 20);
    }
    wait_for(&node, "two snapshots, and none under way", |status| {
        status.counters.snapshots_taken >= 2 && status.snapshots.taking.is_none()
    });
    node.shutdown().unwrap();
    dir
}

#[test]
fn a_node_starts_from_its_newest_snapshot_and_its_files_stay_few() {
    let dir = with_snapshots(3000);
    assert!(files(&dir.path().join("snapshots"), ".snap").len() <= 2);
    let segments = files(&dir.path().join("wal"), ".wal");
    assert!(segments.len() < 6 && !segments[0].ends_with("0000000000000001.wal"), "{segments:?}");
    let node = alone(dir.path(), 100).unwrap();
    let status = node.status().unwrap();
    assert!(status.first_index.0 > 1 && status.snapshots.latest.is_some(), "{status:?}");
    assert_eq!(count(&node), 3000);
    write(&node, 3000..3100);
    node.shutdown().unwrap();
    assert_eq!(count(&alone(dir.path(), 100).unwrap()), 3100);
}

#[test]
fn a_snapshot_that_is_damaged_gives_way_to_the_one_before_it() {
    let dir = with_snapshots(1000);
    let snapshots = dir.path().join("snapshots");
    let newest = files(&snapshots, ".snap").pop().unwrap();
    let whole = fs::read(&newest).unwrap();
    for cut in [None, Some(whole.len() - 1), Some(whole.len() / 2), Some(0)] {
        let mut damaged = whole.clone();
        match cut {
            Some(length) => damaged.truncate(length),
            None => damaged[whole.len() / 2] ^= 1,
        }
        let dir = {
            let copy = tempfile::tempdir().unwrap();
            for part in ["wal", "snapshots"] {
                fs::create_dir(copy.path().join(part)).unwrap();
                for file in files(&dir.path().join(part), "") {
                    fs::copy(&file, copy.path().join(part).join(file.file_name().unwrap())).unwrap();
                }
            }
            copy
        };
        fs::write(dir.path().join("snapshots").join(newest.file_name().unwrap()), damaged).unwrap();
        let node = alone(dir.path(), 1_000_000).unwrap();
        assert_eq!(count(&node), 1000, "{cut:?}");
        node.shutdown().unwrap();
        let bad = files(&dir.path().join("snapshots"), ".bad");
        assert_eq!(bad.len(), 1, "{cut:?}");
    }
}

/// Keeps the older snapshot over a start that takes none, and needs it at the next.
fn falls_back_after_a_quiet_start(start: impl Fn(&Path) -> RaftNode) {
    let dir = with_snapshots(1000);
    let snapshots = dir.path().join("snapshots");
    let before = files(&snapshots, ".snap");
    assert_eq!(before.len(), 2);
    let node = start(dir.path());
    write(&node, 1000..1001);
    node.shutdown().unwrap();
    assert_eq!(files(&snapshots, ".snap"), before);
    let mut damaged = fs::read(&before[1]).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&before[1], damaged).unwrap();
    let node = start(dir.path());
    assert_eq!(count(&node), 1001);
    assert_eq!(
        node.status().unwrap().snapshots.latest.map(|id| format!("{:016x}-{:016x}.snap", id.index.0, id.term.0)).as_deref(),
        before[0].file_name().unwrap().to_str()
    );
}

#[test]
fn the_older_snapshot_outlives_a_start_and_is_of_use_at_the_next() {
    falls_back_after_a_quiet_start(|dir| alone(dir, 1_000_000).unwrap());
}

#[test]
fn without_a_snapshot_that_makes_sense_a_node_does_not_start_as_if_nothing_had_been() {
    let dir = with_snapshots(1000);
    for file in files(&dir.path().join("snapshots"), ".snap") {
        fs::write(file, b"nonsense").unwrap();
    }
    for _ in 0..2 {
        let error = alone(dir.path(), 100).expect_err("entries are missing");
        let RaftError::Engine(error) = &error else { panic!("{error:?}") };
        assert!(error.to_string().contains("no snapshot"), "{error}");
    }
}

#[test]
fn a_snapshot_is_taken_when_somebody_asks() {
    let dir = tempfile::tempdir().unwrap();
    let node = alone(dir.path(), 1_000_000).unwrap();
    write(&node, 0..500);
    pollster::block_on(node.handle().take_snapshot()).unwrap();
    let status = node.status().unwrap();
    let latest = status.snapshots.latest.expect("one is durable");
    assert!(latest.index.0 >= 500);
    assert_eq!(files(&dir.path().join("snapshots"), ".snap").len(), 1);
    pollster::block_on(node.handle().take_snapshot()).expect("there is one of everything already");
}

#[test]
fn a_follower_that_comes_too_late_for_the_log_gets_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let network = MemoryNetwork::default();
    let start = |id: u64| start(&dir.path().join(id.to_string()), config(id, &[1, 2, 3], 100), &network).unwrap();
    let nodes = [start(1), start(2)];
    for at in (0..1000).step_by(20) {
        write(&nodes[0], at..at + 20);
    }
    let late = start(3);
    let status = wait_for(&late, "it has the snapshot", |status| status.counters.snapshots_installed > 0);
    assert!(status.first_index.0 > 1);
    assert_eq!(count(&late), 1000);
    write(&late, 1000..1020);
    late.shutdown().unwrap();
    assert_eq!(count(&start(3)), 1020);
    for node in nodes {
        node.shutdown().unwrap();
    }
}

/// As `ukehi start --on-corruption repair` does.
fn start_or_repair(dir: &Path, mut config: Config, network: &MemoryNetwork) -> (RaftNode, Arc<DataDir>) {
    let identity = Identity { cluster: "c".to_owned(), node: config.id, voters: [1, 2, 3].map(NodeId).to_vec(), sealed: false };
    let dir = Arc::new(DataDir::open(dir, &identity).unwrap());
    config.repair = dir.is_repairing();
    let (id, salvaged, repaired) = (config.id, Arc::clone(&dir), Arc::clone(&dir));
    let failed = |error: repair::RepairError| RaftError::Storage(Box::new(error));
    let node = builder(dir.path(), config)
        .salvage(move |error| {
            let is_damage = repair::is_damage(error, &salvaged).map_err(failed)?;
            if is_damage {
                repair::begin(&salvaged, &WalOptions::with_segment_size(64 << 10)).map_err(failed)?;
            }
            Ok(is_damage)
        })
        .on_repaired(move || repaired.repair_ended().unwrap())
        .start_with(|inlet| Ok(network.join(id, inlet)));
    (node.unwrap(), dir)
}

#[test]
fn a_node_whose_files_are_damaged_repairs_itself_from_the_others() {
    for lost in ["wal", "snapshots"] {
        let dir = tempfile::tempdir().unwrap();
        let network = MemoryNetwork::default();
        let start = |id: u64| start_or_repair(&dir.path().join(id.to_string()), config(id, &[1, 2, 3], 100), &network);
        let (nodes, (third, third_dir)) = ([start(1), start(2)], start(3));
        for at in (0..1000).step_by(20) {
            write(&nodes[0].0, at..at + 20);
        }
        wait_for(&third, "it has applied all", |status| status.applied_index.0 >= 1000 && status.counters.snapshots_taken >= 2);
        third.shutdown().unwrap();
        drop(third_dir);
        let files = files(&dir.path().join("3").join(lost), if lost == "wal" { ".wal" } else { ".snap" });
        for file in &files {
            let mut bytes = fs::read(file).unwrap();
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or_default();
            bytes[used / 2] ^= 1;
            fs::write(file, bytes).unwrap();
        }
        let (third, third_dir) = start(3);
        write(&nodes[0].0, 1000..1020);
        wait_for(&third, "it has repaired itself", |status| !status.repairing && status.applied_index.0 > 1000);
        assert_eq!(count(&third), 1020, "{lost}");
        assert!(!third_dir.is_repairing() && third_dir.path().join("wal.damaged").exists());
        third.shutdown().unwrap();
        drop(third_dir);
        let (third, _dir) = start(3);
        assert!(!third.status().unwrap().repairing);
        assert_eq!(count(&third), 1020, "{lost}");
    }
}

#[test]
fn in_its_sandbox_the_core_keeps_the_older_snapshot_over_a_start() {
    let network = MemoryNetwork::default();
    falls_back_after_a_quiet_start(|dir| {
        sandboxed(dir, config(1, &[1], 1_000_000)).start_with(|inlet| Ok(network.join(NodeId(1), inlet))).unwrap()
    });
}

#[test]
fn in_its_sandbox_the_core_takes_sends_installs_and_reads_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let network = MemoryNetwork::default();
    let start = |id: u64| {
        let builder = sandboxed(&dir.path().join(id.to_string()), config(id, &[1, 2, 3], 100));
        builder.start_with(|inlet| Ok(network.join(id.into(), inlet))).unwrap()
    };
    let nodes = [start(1), start(2)];
    for at in (0..600).step_by(20) {
        write(&nodes[0], at..at + 20);
    }
    pollster::block_on(nodes[1].handle().take_snapshot()).unwrap();
    let late = start(3);
    wait_for(&late, "it has the snapshot", |status| status.counters.snapshots_installed > 0);
    assert_eq!(count(&late), 600);
    late.shutdown().unwrap();
    assert_eq!(count(&start(3)), 600);
}
