//! Leadership that moves on purpose, as stories of a cluster; the rows of the list of hazards that are about it.

use std::time::Duration;

use amaters_cluster_core::message::Message;
use amaters_cluster_core::planted::Bug;
use amaters_cluster_core::{Input, NodeId, NodeState, Rejection};
use amaters_cluster_tests::cluster::{Cluster, Outcome};
use amaters_cluster_tests::planted::seen_to_fail;

const SECOND: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(10);
const NODE_1: NodeId = NodeId(1);
const NODE_2: NodeId = NodeId(2);
const NODE_3: NodeId = NodeId(3);

/// A cluster with leases that node 1 leads, and has one in.
fn under_a_lease() -> Cluster {
    let mut cluster = Cluster::with(3, |config| config.lease_reads = true);
    cluster.elect(NODE_1);
    cluster.run(STEP * 10);
    assert!(has_lease(&cluster, NODE_1));
    cluster
}

#[test]
fn h12_a_leader_that_hands_over_serves_no_read_from_its_old_state() {
    for leases in [false, true] {
        let mut cluster = if leases { under_a_lease() } else { Cluster::new(3) };
        if !leases {
            cluster.elect(NODE_1);
        }
        let old = cluster.propose(NODE_1, "old");
        cluster.settle();
        cluster.transfer(NODE_1, NODE_2);
        cluster.tick(NODE_1);
        let farewell = position(&cluster, |message| matches!(message, Message::TimeoutNowRequest(_))).expect("node 2 has all");
        cluster.deliver(farewell);
        cluster.isolate(NODE_1);
        cluster.settle();
        assert_eq!(cluster.leader(), Some(NODE_2), "node 3 votes for it, promise or not");
        let write = cluster.propose(NODE_2, "new");
        cluster.settle();
        assert!(matches!(cluster.outcome(write), Some(Outcome::Applied(index)) if cluster.outcome(old) != Some(Outcome::Applied(index))));

        let read = cluster.read(NODE_1);
        cluster.settle();
        assert_eq!(cluster.node(NODE_1).map(|node| node.state()), Some(NodeState::Leader), "it has heard nothing");
        assert_eq!(cluster.outcome(read), None, "with leases: {leases}");
        cluster.heal();
        cluster.run(SECOND);
        let (Some(Outcome::Applied(written)), Some(Outcome::Served(seen))) = (cluster.outcome(write), cluster.outcome(read)) else {
            panic!("both are answered: {:?}", cluster.outcome(read))
        };
        assert!(seen >= written);
    }
}

#[test]
fn h12_a_node_that_starts_again_does_not_break_its_promise() {
    let mut cluster = under_a_lease();
    // Node 3 hears nothing of node 1 for long enough to stand. Node 2 does, and promises; then it starts anew.
    cluster.cut(NODE_1, NODE_3);
    cluster.run(STEP * 10);
    cluster.isolate(NODE_1);
    cluster.crash(NODE_2, 0);
    cluster.restart(NODE_2);
    cluster.pass(NODE_3, SECOND);
    cluster.settle();
    assert!(has_lease(&cluster, NODE_1), "it counts on node 2's promise");
    assert_eq!(cluster.node(NODE_3).map(|node| node.state()), Some(NodeState::Candidate), "node 2 knows of no leader, and said so");
    let read = cluster.read(NODE_1);
    cluster.settle();
    assert!(matches!(cluster.outcome(read), Some(Outcome::Served(_))), "nobody else leads");
    cluster.run(SECOND);
    let leader = cluster.leader();
    assert!(leader == Some(NODE_2) || leader == Some(NODE_3), "once it has run out, one of them does: {leader:?}");
    assert!(!has_lease(&cluster, NODE_1));
}

#[test]
fn h15_nobody_is_told_to_stand_before_its_log_is_durable() {
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    cluster.member_mut(NODE_2).disk_stalled = true;
    let write = cluster.propose(NODE_1, "x");
    cluster.tick(NODE_1); // it is in the log, so that node 2 must have it
    let transfer = cluster.transfer(NODE_1, NODE_2);
    for _ in 0..20 {
        cluster.advance(STEP);
        cluster.tick_all();
        let told = position(&cluster, |message| matches!(message, Message::TimeoutNowRequest(_)));
        assert_eq!(told, None, "node 2 has it in memory alone");
        cluster.settle();
    }
    assert!(matches!(cluster.outcome(write), Some(Outcome::Applied(_))), "the others have it");
    assert_eq!((cluster.leader(), cluster.outcome(transfer)), (Some(NODE_1), None), "node 2 has it in memory alone");
    cluster.member_mut(NODE_2).disk_stalled = false;
    cluster.run(STEP * 5);
    assert_eq!((cluster.leader(), cluster.outcome(transfer)), (Some(NODE_2), Some(Outcome::Done)));
}

#[test]
fn h15_a_successor_without_a_durable_log_is_found() {
    seen_to_fail(Bug::HandOverBeforeDurable, "node 2 has it in memory alone", h15_nobody_is_told_to_stand_before_its_log_is_durable);
}

#[test]
fn h24_a_leader_whose_disk_stalls_makes_way() {
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    cluster.member_mut(NODE_1).disk_stalled = true;
    cluster.propose(NODE_1, "x");
    cluster.run(STEP * 90);
    assert_eq!(cluster.leader(), Some(NODE_1), "a disk may be slow");
    cluster.run(STEP * 30);
    let leader = cluster.leader();
    assert!(leader == Some(NODE_2) || leader == Some(NODE_3), "got {leader:?}");

    // It does not want the lead back: it could not even vote for itself.
    cluster.crash(leader.expect("there is one"), 0);
    cluster.run(2 * SECOND);
    assert_eq!(cluster.leader(), None, "one of three is down, and another has no disk");
    assert_eq!(cluster.node(NODE_1).map(|node| node.state()), Some(NodeState::Follower));
    cluster.member_mut(NODE_1).disk_stalled = false;
    cluster.run(2 * SECOND);
    assert!(cluster.leader().is_some(), "its disk is back");
}

#[test]
fn h24_a_leader_whose_disk_stalls_steps_down_where_nobody_can_take_over() {
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    for id in cluster.ids() {
        cluster.member_mut(id).disk_stalled = true;
    }
    let write = cluster.propose(NODE_1, "x");
    cluster.run(SECOND * 3 / 2);
    assert_eq!(cluster.leader(), None, "nothing is durable anywhere");
    for id in cluster.ids() {
        cluster.member_mut(id).disk_stalled = false;
    }
    cluster.run(2 * SECOND);
    assert!(cluster.leader().is_some());
    let write = cluster.outcome(write);
    assert!(matches!(write, Some(Outcome::Applied(_) | Outcome::Rejected(Rejection::UnknownOutcome))), "{write:?}");
}

#[test]
fn h24_a_leader_that_stays_with_a_stalled_disk_is_found() {
    seen_to_fail(Bug::StalledDiskLeads, "got Some(NodeId(1))", h24_a_leader_whose_disk_stalls_makes_way);
    let nobody = h24_a_leader_whose_disk_stalls_steps_down_where_nobody_can_take_over;
    seen_to_fail(Bug::StalledDiskLeads, "nothing is durable anywhere", nobody);
}

fn fill(cluster: &mut Cluster, ids: &[NodeId], full: bool) {
    for id in ids {
        cluster.input(*id, Input::DiskSpace { full });
    }
    cluster.run(STEP * 10); // a heartbeat's answer tells the leader
}

#[test]
fn a_leader_whose_disk_is_full_hands_over_to_a_node_that_has_space() {
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    fill(&mut cluster, &[NODE_2], true);
    assert_eq!(cluster.leader(), Some(NODE_1), "the leader has space, and so has a majority");
    fill(&mut cluster, &[NODE_1], true);
    assert_eq!(cluster.leader(), Some(NODE_3), "it alone has space");
    let write = cluster.propose(NODE_1, "x");
    cluster.run(STEP * 10);
    assert_eq!(cluster.outcome(write), Some(Outcome::Rejected(Rejection::DiskFull)), "no majority has");

    fill(&mut cluster, &[NODE_1, NODE_2], false);
    let write = cluster.propose(NODE_1, "x");
    cluster.run(STEP * 10);
    assert!(matches!(cluster.outcome(write), Some(Outcome::Applied(_))));
}

#[test]
fn where_all_disks_are_full_the_lead_does_not_go_round() {
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    for id in cluster.ids() {
        cluster.input(id, Input::DiskSpace { full: true });
    }
    cluster.run(10 * SECOND);
    let leader = cluster.leader().expect("there is one");
    let term = cluster.node(leader).expect("it is up").persistent_state().current_term;
    assert!(term.0 <= 2, "one hand-over at most, from a leader that did not know: term {term}");
}

#[test]
fn without_space_on_a_majority_writes_are_refused_and_reads_go_on() {
    for full in [&[NODE_1, NODE_2, NODE_3][..], &[NODE_2, NODE_3]] {
        let mut cluster = Cluster::new(3);
        cluster.elect(NODE_1);
        full.iter().rev().for_each(|id| fill(&mut cluster, &[*id], true));
        let writes = [NODE_1, NODE_2].map(|id| cluster.propose(id, "x"));
        let reads = [NODE_1, NODE_3].map(|id| cluster.read(id));
        cluster.run(SECOND);
        assert_eq!(writes.map(|write| cluster.outcome(write)), [Some(Outcome::Rejected(Rejection::DiskFull)); 2]);
        assert!(reads.iter().all(|read| matches!(cluster.outcome(*read), Some(Outcome::Served(_)))), "{full:?}");
        assert_eq!(cluster.leader(), Some(NODE_1), "no other would do better");

        fill(&mut cluster, full, false);
        let write = cluster.propose(NODE_2, "x");
        cluster.run(STEP * 10);
        assert!(matches!(cluster.outcome(write), Some(Outcome::Applied(_))), "{full:?}");
    }
}

#[test]
fn a_node_alone_with_a_full_disk_refuses_writes_and_keeps_the_lead() {
    let mut cluster = Cluster::new(1);
    cluster.elect(NODE_1);
    fill(&mut cluster, &[NODE_1], true);
    let (write, read) = (cluster.propose(NODE_1, "x"), cluster.read(NODE_1));
    cluster.run(SECOND);
    assert_eq!(cluster.outcome(write), Some(Outcome::Rejected(Rejection::DiskFull)));
    assert!(matches!(cluster.outcome(read), Some(Outcome::Served(_))));
}

#[test]
fn entries_that_a_full_disk_takes_are_found() {
    seen_to_fail(Bug::FullDiskTakesEntries, "DiskFull", without_space_on_a_majority_writes_are_refused_and_reads_go_on);
}

fn position(cluster: &Cluster, wanted: impl Fn(&Message) -> bool) -> Option<usize> {
    cluster.pool().iter().position(|message| wanted(&message.envelope.message))
}

fn has_lease(cluster: &Cluster, id: NodeId) -> bool {
    let clock = cluster.member(id).clock;
    cluster.node(id).is_some_and(|node| node.status(clock).has_lease)
}
