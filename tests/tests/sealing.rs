//! Sealed clusters: what their disks and networks may be made to say, what becomes of their keys, and that nodes tell what they lack instead of guessing. As stories; the rows of the
//! list of hazards that are about encryption among them, each seen to fail with its bug put in.

use std::time::Duration;

use amaters_cluster_core::{
    EncryptedPayload, EncryptionStatus, EntryId, KeyVersion, LogEntry, LogIndex, LogLevel, NodeId, Operation, Term, wire,
};
use amaters_cluster_tests::cluster::{Cluster, Event};

#[path = "sealing/divergence.rs"]
mod divergence;
#[path = "sealing/on_disk.rs"]
mod on_disk;
#[path = "sealing/on_its_way.rs"]
mod on_its_way;
#[path = "sealing/rotation.rs"]
mod rotation;
#[path = "sealing/secrets.rs"]
mod secrets;
#[path = "sealing/seen_to_fail.rs"]
mod seen_to_fail;
#[path = "sealing/snapshots.rs"]
mod snapshots;
#[path = "sealing/without_a_key.rs"]
mod without_a_key;

const SECOND: Duration = Duration::from_secs(1);
const NODE_1: NodeId = NodeId(1);
const NODE_2: NodeId = NodeId(2);
const NODE_3: NodeId = NodeId(3);
const NODE_4: NodeId = NodeId(4);
const VERSION_1: KeyVersion = KeyVersion(1);
const VERSION_2: KeyVersion = KeyVersion(2);
const VERSION_3: KeyVersion = KeyVersion(3);

/// A sealed cluster that node 1 leads.
fn sealed(nodes: u64) -> Cluster {
    let mut cluster = Cluster::sealed(nodes, |_| {});
    cluster.elect(NODE_1);
    cluster
}

fn write(cluster: &mut Cluster, commands: &[&str]) {
    for command in commands {
        cluster.propose(NODE_1, (*command).to_owned());
        cluster.settle();
    }
    cluster.run(Duration::from_millis(100));
}

/// What a node's machine has carried out.
fn commands(cluster: &Cluster, id: NodeId) -> Vec<String> {
    cluster.member(id).machine.iter().map(|committed| String::from_utf8_lossy(&committed.command).into_owned()).collect()
}

fn entries(cluster: &Cluster, id: NodeId) -> Vec<LogEntry> {
    cluster.node(id).map(|node| node.log().iter_from(LogIndex(1)).cloned().collect()).unwrap_or_default()
}

fn status(cluster: &Cluster, id: NodeId) -> EncryptionStatus {
    let node = cluster.node(id).unwrap_or_else(|| panic!("node {id} is down"));
    node.status(cluster.member(id).clock).encryption.expect("its log is sealed")
}

/// Which version an entry's payload is sealed with.
fn version_of(entry: &LogEntry) -> Option<KeyVersion> {
    let payload = entry.payload()?.clone();
    Some(EncryptedPayload::parse(payload).expect("it is sealed").header().version)
}

/// All machines get a version, and their nodes know.
fn give_to_all(cluster: &mut Cluster, version: KeyVersion) {
    for id in cluster.ids() {
        cluster.give_key(id, version);
        cluster.load_keys(id);
    }
}

/// What nodes have said as errors, and why those that stopped did, since the events were taken last.
fn alarms(cluster: &mut Cluster, id: NodeId) -> Vec<String> {
    let said = |event| match event {
        Event::Noted(by, LogLevel::Warn | LogLevel::Error, line) if by == id => Some(line),
        Event::Diverged(by, reason) if by == id => Some(reason),
        _ => None,
    };
    cluster.take_events().into_iter().filter_map(said).collect()
}

fn id(index: u64, term: u64) -> EntryId {
    EntryId { index: LogIndex(index), term: Term(term) }
}
