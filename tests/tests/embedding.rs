//! What those see who embed nodes in a program of their own.

use amaters_cluster::engine::SandboxLimits;
use amaters_cluster::snapshots::MemorySnapshots;
use amaters_cluster::{Command, MemoryNetwork, MemoryPersistence, NodeState, RaftConfig, RaftError, RaftNode};
use amaters_cluster_tests::process::wait_until;

/// A guest that runs out of memory is replaced: the next instance has all that was acknowledged, and goes on.
#[test]
fn a_trap_ends_an_instance_and_not_the_node() {
    let limits = SandboxLimits { memory: 32 << 20, ..SandboxLimits::default() };
    let node = RaftNode::builder(RaftConfig::new(1, vec![1])).limits(limits).start().expect("a node starts");
    let before = node.propose(Command::from_str("before")).expect("a cluster of one commits");
    let monster = Command::from_bytes(vec![0; 64 << 20]);
    let error = node.propose(monster).expect_err("it fits in no memory that the guest may have");
    assert!(matches!(error, RaftError::UnknownOutcome { .. }), "{error}");
    let after = node.propose(Command::from_str("after")).expect("the next instance commits");
    assert!(after > before, "{before} was forgotten: {after} comes after it");
    let status = node.status().expect("the node is there");
    assert!(status.term.0 > 1, "the next instance stood for election anew");
    node.shutdown().expect("nothing else went wrong");
}

/// After a restart the commit index jumps over the whole log at once: more than one call into the host may carry.
#[test]
fn a_long_log_is_applied_after_a_restart() {
    let (journal, snapshots) = (MemoryPersistence::default(), MemorySnapshots::default());
    let start = || {
        let (journal, snapshots) = (journal.open(Box::new(drop)), snapshots.open(Box::new(drop)));
        let builder = RaftNode::builder(RaftConfig::new(1, vec![1])).storage(move |on_durable| Ok(Box::new(journal.open(on_durable))));
        builder.snapshots(move |on_report| Ok(Box::new(snapshots.open(on_report)))).start().expect("a node starts")
    };
    let node = start();
    let large = Command::from_bytes(vec![0; 2 << 20]);
    for _ in 0..80 {
        node.propose(large.clone()).expect("a cluster of one commits");
    }
    node.shutdown().expect("nothing went wrong");
    let node = start();
    let index = node.propose(Command::from_str("after")).expect("the log is applied, and more with it");
    let status = node.status().expect("the node is there");
    assert_eq!((status.applied_index, status.term.0), (index, 2), "one election, and no instance was lost");
}

/// A journal that lets go of what stands in a snapshot needs one that lives as long.
#[test]
fn a_journal_without_snapshots_of_its_kind_is_refused() {
    let journal = MemoryPersistence::default();
    let builder = RaftNode::builder(RaftConfig::new(1, vec![1])).storage(move |on_durable| Ok(Box::new(journal.open(on_durable))));
    let error = builder.start().expect_err("snapshots in memory would be gone at the next start").to_string();
    assert!(error.contains("both storage and snapshots"), "{error}");
}

#[test]
fn proposing_nothing_gives_nothing() {
    let node = RaftNode::new(RaftConfig::new(1, vec![1])).expect("a node starts");
    assert!(pollster::block_on(node.handle().propose(Vec::new())).is_empty());
    node.propose(Command::from_str("x")).expect("and disturbs nobody");
}

#[test]
fn a_node_that_ends_is_replaced_by_another_leader() {
    let network = MemoryNetwork::default();
    let start = |id: u64| RaftNode::builder(RaftConfig::new(id, vec![1, 2, 3])).start_with(|inlet| Ok(network.join(id.into(), inlet)));
    let mut nodes: Vec<RaftNode> = (1..=3).map(start).collect::<Result<_, _>>().expect("nodes start");
    let before = nodes[0].propose(Command::from_str("a")).expect("three nodes commit");
    let leads = |node: &RaftNode| node.status().is_ok_and(|status| status.state == NodeState::Leader);
    let leader = wait_until("one of them leads", || nodes.iter().position(leads));
    nodes.remove(leader).shutdown().expect("a leader may end");
    let after = nodes[0].propose(Command::from_str("b")).expect("two of three commit");
    assert!(after > before);
}
