//! Changes of the membership (Raft paper, §6; dissertation, ch. 4), as stories of a cluster, the hazards among them.

use std::time::Duration;

use amaters_cluster_core::message::{Envelope, Message, TimeoutNowRequest};
use amaters_cluster_core::{
    ConfigState, GroupId, Input, LogIndex, Member, MemberRole, MembershipChange, NodeId, NodeState, Rejection, wire,
};
use amaters_cluster_tests::cluster::{Cluster, Event, Outcome};

#[path = "members/seen_to_fail.rs"]
mod seen_to_fail;
#[path = "members/steps.rs"]
mod steps;
use steps::{hold_answer, until};

const SECOND: Duration = Duration::from_secs(1);
const NODE_1: NodeId = NodeId(1);
const NODE_2: NodeId = NodeId(2);
const NODE_3: NodeId = NodeId(3);
const NODE_4: NodeId = NodeId(4);
const NODE_5: NodeId = NodeId(5);

#[test]
fn h04_no_change_begins_before_the_leader_has_committed_an_entry_of_its_own_term() {
    let mut cluster = with_spares(3, 1);
    cluster.pass(NODE_1, SECOND);
    // Votes arrive; the entry that opens the term does not.
    until(
        &mut cluster,
        |message| !matches!(message, Message::AppendEntriesRequest(_)),
        |cluster| cluster.node(NODE_1).is_some_and(|node| node.state() == NodeState::Leader),
    );
    for change in [MembershipChange::AddLearner(member(NODE_4)), MembershipChange::Remove(NODE_3)] {
        let early = cluster.change(NODE_1, change);
        cluster.tick(NODE_1);
        assert_eq!(cluster.outcome(early), Some(Outcome::Rejected(Rejection::NotReady)));
    }
    cluster.settle();
    done(&mut cluster, MembershipChange::AddVoter(member(NODE_4)));
}

#[test]
fn h05_nobody_campaigns_by_an_older_configuration_than_its_log_has() {
    let mut cluster = with_spares(3, 2);
    cluster.elect(NODE_1);
    done(&mut cluster, MembershipChange::AddVoter(member(NODE_4)));
    done(&mut cluster, MembershipChange::AddVoter(member(NODE_5)));
    // After its restart, node 2 knows of nothing that it is committed, and has applied nothing. Of three voters, two would be enough.
    cluster.partition(&[NODE_2, NODE_3], &[NODE_1, NODE_4, NODE_5]);
    cluster.crash(NODE_2, 0);
    cluster.restart(NODE_2);
    assert_eq!(cluster.node(NODE_2).map(|node| node.log().commit_index()), Some(LogIndex(0)));
    cluster.run(3 * SECOND);
    assert_ne!(state(&cluster, NODE_2), NodeState::Leader);
    assert_ne!(state(&cluster, NODE_3), NodeState::Leader);
    // By a transfer, it stands without asking first, and wins no more.
    let term = cluster.node(NODE_2).map(|node| node.persistent_state().current_term).unwrap_or_default();
    let message = Message::TimeoutNowRequest(TimeoutNowRequest { term });
    let envelope = wire::encode_envelope(&Envelope { group: GroupId(0), from: NODE_1, to: NODE_2, message });
    cluster.input(NODE_2, Input::Receive { sender: NODE_1, envelope });
    cluster.settle();
    assert_eq!(state(&cluster, NODE_2), NodeState::Candidate, "it stood for election");
    cluster.run(SECOND);
    assert_ne!(state(&cluster, NODE_2), NodeState::Leader, "two of five are no majority");
}

#[test]
fn h06_each_node_can_win_an_election_in_a_joint_configuration() {
    for winner in (1..=6).map(NodeId) {
        let mut cluster = with_spares(3, 3);
        cluster.elect(NODE_2);
        cluster.change(NODE_2, MembershipChange::Replace((4..=6).map(|id| member(NodeId(id))).collect()));
        until(&mut cluster, |_| true, |cluster| is_joint(cluster, NODE_2));
        // Nobody acknowledges it, so that its leader does not get to the next step.
        until(&mut cluster, |message| !matches!(message, Message::AppendEntriesResponse(_)), all_are_joint);
        for id in cluster.ids() {
            cluster.crash(id, usize::MAX);
            cluster.restart(id);
        }
        cluster.advance(Duration::from_millis(150));
        cluster.pass(winner, Duration::from_millis(150));
        cluster.take_events();
        cluster.settle();
        let leads = |event: &Event| matches!(event, Event::Noted(id, _, said) if *id == winner && said.starts_with("leads term"));
        assert!(cluster.take_events().iter().any(leads), "node {winner} wins");
        cluster.run(2 * SECOND);
        for id in (4..=6).map(NodeId) {
            assert_eq!(voters(&cluster, id), [4, 5, 6], "node {winner} completed the change, as node {id} sees it");
        }
        assert!(cluster.leader().is_some_and(|leader| leader.0 > 3), "one of the new nodes leads");
    }
}

#[test]
fn h07_a_removed_leader_goes_on_until_its_removal_is_committed_without_counting_itself() {
    let mut cluster = with_spares(3, 0);
    cluster.elect(NODE_1);
    let removal = cluster.change(NODE_1, MembershipChange::Remove(NODE_1));
    until(&mut cluster, |_| true, |cluster| configuration(cluster, NODE_1).is_some_and(|state| !state.contains(NODE_1)));
    cluster.isolate(NODE_3);
    cluster.settle();
    let removed_at = configuration(&cluster, NODE_1).map(|state| state.version()).unwrap_or_default();
    assert_eq!(state(&cluster, NODE_1), NodeState::Leader, "it goes on");
    assert!(cluster.node(NODE_1).is_some_and(|node| node.log().commit_index() < removed_at), "nodes 1 and 2 are no majority of 2 and 3");

    cluster.heal();
    cluster.run(SECOND);
    assert_eq!(cluster.outcome(removal), Some(Outcome::Done));
    assert_eq!(state(&cluster, NODE_1), NodeState::Learner, "it steps down, and does not campaign");
    assert!(cluster.leader().is_some_and(|leader| leader != NODE_1));
    cluster.run(10 * SECOND);
    let write = cluster.propose(NODE_1, "x");
    cluster.tick(NODE_1);
    assert_eq!(cluster.outcome(write), Some(Outcome::Rejected(Rejection::Removed)));
}

#[test]
fn h07_a_removed_node_that_alone_has_the_newest_log_may_lead_until_that_is_committed() {
    let mut cluster = with_spares(2, 0);
    cluster.elect(NODE_2);
    cluster.change(NODE_2, MembershipChange::Remove(NODE_2));
    until(&mut cluster, |_| true, |cluster| configuration(cluster, NODE_2).is_some_and(|state| !state.contains(NODE_2)));
    cluster.crash(NODE_2, usize::MAX);
    while !cluster.pool().is_empty() {
        cluster.drop_message(0);
    }
    cluster.run(2 * SECOND);
    assert_eq!(cluster.leader(), None, "node 1 needs the vote of node 2");
    cluster.restart(NODE_2);
    cluster.run(2 * SECOND);
    assert_eq!((cluster.leader(), voters(&cluster, NODE_1)), (Some(NODE_1), vec![1]));
    assert_eq!(state(&cluster, NODE_2), NodeState::Learner);
}

#[test]
fn h13_an_answer_of_an_earlier_life_counts_for_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    cluster.propose(NODE_1, "x");
    let answer = hold_answer(&mut cluster, NODE_3);
    done(&mut cluster, MembershipChange::Remove(NODE_3));
    cluster.isolate(NODE_3);
    done(&mut cluster, MembershipChange::AddLearner(member(NODE_3)));
    cluster.input(NODE_1, Input::Receive { sender: NODE_3, envelope: wire::encode_envelope(&answer) });
    let clock = cluster.member(NODE_1).clock;
    let peers = cluster.node(NODE_1).map(|node| node.status(clock).peers).unwrap_or_default();
    let matched = peers.iter().find(|peer| peer.id == NODE_3).map(|peer| peer.match_index);
    assert_eq!(matched, Some(LogIndex::NONE), "what node 3 holds in its new life is not known");
}

#[test]
fn h22_the_membership_is_in_the_log_and_elections_count_by_it() {
    let mut cluster = with_spares(3, 2);
    cluster.elect(NODE_1);
    done(&mut cluster, MembershipChange::AddVoter(member(NODE_4)));
    done(&mut cluster, MembershipChange::AddVoter(member(NODE_5)));
    for id in cluster.ids() {
        cluster.crash(id, 0);
    }
    for id in [NODE_2, NODE_3] {
        cluster.restart(id);
        assert_eq!(voters(&cluster, id), [1, 2, 3, 4, 5], "node {id} has it from its log");
    }
    cluster.run(3 * SECOND);
    assert_eq!(cluster.leader(), None, "two of five");
    cluster.restart(NODE_4);
    cluster.run(3 * SECOND);
    assert!(cluster.leader().is_some(), "three of five");
}

#[test]
fn a_learner_has_everything_counts_for_nothing_and_never_stands() {
    let mut cluster = with_spares(2, 1);
    cluster.elect(NODE_1);
    cluster.propose(NODE_1, "before");
    done(&mut cluster, MembershipChange::AddLearner(member(NODE_3)));
    cluster.propose(NODE_1, "after");
    cluster.settle();
    assert_eq!(cluster.member(NODE_3).machine.len(), 2);
    assert_eq!(state(&cluster, NODE_3), NodeState::Learner);
    cluster.isolate(NODE_2);
    let lost = cluster.propose(NODE_1, "with the learner alone");
    cluster.settle();
    assert_eq!(cluster.outcome(lost), None, "node 1 and a learner are no majority of two");
    cluster.crash(NODE_1, 0);
    cluster.run(5 * SECOND);
    assert_eq!(state(&cluster, NODE_3), NodeState::Learner);
    done_after_election(&mut cluster);
}

#[test]
fn a_learner_is_promoted_when_it_has_caught_up_and_not_before() {
    let mut cluster = with_spares(3, 1);
    cluster.elect(NODE_1);
    cluster.isolate(NODE_4);
    done(&mut cluster, MembershipChange::AddLearner(member(NODE_4)));
    let early = cluster.change(NODE_1, MembershipChange::Promote(NODE_4));
    cluster.tick(NODE_1);
    assert_eq!(cluster.outcome(early), Some(Outcome::Rejected(Rejection::NotCaughtUp)));
    let late = cluster.change(NODE_1, MembershipChange::AddVoter(member(NODE_4)));
    cluster.run(5 * SECOND);
    assert_eq!(cluster.outcome(late), None, "there is hope yet");
    cluster.run(2 * SECOND);
    assert_eq!(cluster.outcome(late), Some(Outcome::Rejected(Rejection::NotCaughtUp)));
    cluster.heal();
    cluster.run(SECOND);
    done(&mut cluster, MembershipChange::Promote(NODE_4));
    assert_eq!(voters(&cluster, NODE_4), [1, 2, 3, 4]);
}

#[test]
fn one_change_goes_on_at_a_time() {
    let mut cluster = with_spares(3, 2);
    cluster.elect(NODE_1);
    cluster.isolate(NODE_4);
    cluster.change(NODE_1, MembershipChange::AddVoter(member(NODE_4)));
    cluster.settle();
    let second = cluster.change(NODE_1, MembershipChange::AddVoter(member(NODE_5)));
    cluster.tick(NODE_1);
    assert_eq!(cluster.outcome(second), Some(Outcome::Rejected(Rejection::ChangeUnderWay)));
}

#[test]
fn a_change_whose_leader_is_deposed_has_an_unknown_outcome_and_the_next_leader_completes_it() {
    let mut cluster = with_spares(3, 1);
    cluster.elect(NODE_1);
    let change = cluster.change(NODE_1, MembershipChange::AddVoter(member(NODE_4)));
    until(&mut cluster, |_| true, |cluster| [NODE_1, NODE_2, NODE_4].into_iter().all(|id| is_joint(cluster, id)));
    cluster.isolate(NODE_1);
    cluster.run(3 * SECOND);
    assert_eq!(cluster.outcome(change), Some(Outcome::Rejected(Rejection::UnknownOutcome)));
    assert_eq!(voters(&cluster, NODE_2), [1, 2, 3, 4]);
    assert!(cluster.leader().is_some_and(|leader| leader != NODE_1));
}

#[test]
fn h08_a_partition_during_a_joint_configuration_commits_nothing_on_either_side_alone() {
    let mut cluster = with_spares(3, 3);
    cluster.elect(NODE_1);
    cluster.change(NODE_1, MembershipChange::Replace((4..=6).map(|id| member(NodeId(id))).collect()));
    until(&mut cluster, |_| true, |cluster| is_joint(cluster, NODE_1));
    // All have it, and nobody's acknowledgement has come: it is not committed.
    until(&mut cluster, |message| !matches!(message, Message::AppendEntriesResponse(_)), all_are_joint);
    let committed = cluster.node(NODE_1).map(|node| node.log().commit_index());
    cluster.partition(&[NODE_1, NODE_2, NODE_3], &[NODE_4, NODE_5, NodeId(6)]);
    let write = cluster.propose(NODE_1, "x");
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.node(NODE_1).map(|node| node.log().commit_index()), committed, "the old majority is not enough");
    cluster.run(3 * SECOND);
    assert_eq!(cluster.leader(), None, "neither side elects a leader");
    cluster.heal();
    cluster.run(3 * SECOND);
    assert_ne!(cluster.outcome(write), None);
    assert_eq!(voters(&cluster, NODE_4), [4, 5, 6]);
}

#[test]
fn a_node_that_was_removed_while_it_was_away_is_told_once_and_is_quiet() {
    let mut cluster = with_spares(4, 0);
    cluster.elect(NODE_1);
    cluster.crash(NODE_4, 0);
    done(&mut cluster, MembershipChange::Remove(NODE_4));
    cluster.run(4 * SECOND);
    cluster.restart(NODE_4);
    cluster.take_events();
    cluster.run(2 * SECOND);
    let status = cluster.node(NODE_4).map(|node| node.status(cluster.member(NODE_4).clock));
    assert!(status.is_some_and(|status| status.removed && status.state == NodeState::Learner));
    cluster.take_events();
    cluster.run(10 * SECOND);
    let noise = cluster.take_events().into_iter().filter(|event| format!("{event:?}").contains("NodeId(4)")).count();
    assert_eq!(noise, 0, "it says nothing more to anybody");
    assert_eq!(cluster.leader(), Some(NODE_1));

    // It is added again, with what it has.
    done(&mut cluster, MembershipChange::AddVoter(member(NODE_4)));
    cluster.run(SECOND);
    assert_eq!((voters(&cluster, NODE_4), state(&cluster, NODE_4)), (vec![1, 2, 3, 4], NodeState::Follower));
}

#[test]
fn the_host_is_told_who_is_a_member_and_where() {
    let mut cluster = Cluster::with(3, |config| config.addresses = (1..=3).map(|id| (NodeId(id), format!("host{id}"))).collect());
    cluster.put_up_spare(NODE_4, NODE_1);
    cluster.settle();
    assert_eq!(told(&cluster, NODE_4), []);
    cluster.elect(NODE_1);
    done(&mut cluster, MembershipChange::AddVoter(member(NODE_4)));
    let everybody: Vec<_> = (1..=4).map(|id| (NodeId(id), format!("host{id}"), MemberRole::Voter)).collect();
    for id in cluster.ids() {
        assert_eq!(told(&cluster, id), everybody, "node {id}");
    }
    done(&mut cluster, MembershipChange::Remove(NODE_2));
    assert_eq!(told(&cluster, NODE_1)[1], (NODE_2, "host2".to_owned(), MemberRole::Leaving), "it is yet to hear of it");
    cluster.run(4 * SECOND);
    assert_eq!(told(&cluster, NODE_1).len(), 3);
}

#[test]
fn the_configuration_of_an_index_is_known_until_a_later_one_is_applied() {
    let mut cluster = with_spares(3, 1);
    cluster.elect(NODE_1);
    let before = cluster.node(NODE_1).map(|node| node.log().last().index).unwrap_or_default();
    done(&mut cluster, MembershipChange::AddLearner(member(NODE_4)));
    let node = cluster.node(NODE_1).expect("it is up");
    assert_eq!(node.configuration_at(node.log().applied_index()), Some(node.configuration()));
    assert_eq!(node.configuration_at(before), None, "a snapshot is never taken there any more");
}

fn with_spares(nodes: u64, spares: u64) -> Cluster {
    let mut cluster = Cluster::new(nodes);
    for id in nodes + 1..=nodes + spares {
        cluster.put_up_spare(NodeId(id), NODE_1);
    }
    cluster
}

fn member(id: NodeId) -> Member {
    Member { id, address: format!("host{id}") }
}

fn state(cluster: &Cluster, id: NodeId) -> NodeState {
    cluster.node(id).expect("it is up").state()
}

fn configuration(cluster: &Cluster, id: NodeId) -> Option<ConfigState> {
    cluster.node(id).map(|node| node.configuration().clone())
}

fn is_joint(cluster: &Cluster, id: NodeId) -> bool {
    configuration(cluster, id).is_some_and(|state| state.outgoing().is_some())
}

fn all_are_joint(cluster: &Cluster) -> bool {
    cluster.ids().into_iter().all(|id| is_joint(cluster, id))
}

fn voters(cluster: &Cluster, id: NodeId) -> Vec<u64> {
    let state = configuration(cluster, id).expect("it is up");
    assert_eq!(state.outgoing(), None, "node {id}");
    state.latest().voters.keys().map(|voter| voter.0).collect()
}

fn told(cluster: &Cluster, id: NodeId) -> Vec<(NodeId, String, MemberRole)> {
    cluster.member(id).told.1.iter().map(|member| (member.id, member.address.clone(), member.role)).collect()
}

/// Asks the leader for a change, and lets it happen.
fn done(cluster: &mut Cluster, change: MembershipChange) {
    let leader = cluster.leader().expect("a leader");
    let wanted = format!("{change:?}");
    let token = cluster.change(leader, change);
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.outcome(token), Some(Outcome::Done), "{wanted}");
}

/// All is mended, and works.
fn done_after_election(cluster: &mut Cluster) {
    for id in cluster.ids() {
        if cluster.node(id).is_none() {
            cluster.restart(id);
        }
    }
    cluster.heal();
    cluster.run(2 * SECOND);
    let leader = cluster.leader().expect("a leader");
    let write = cluster.propose(leader, "again");
    cluster.settle();
    assert!(matches!(cluster.outcome(write), Some(Outcome::Applied(_))));
}
