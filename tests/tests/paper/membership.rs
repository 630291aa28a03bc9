//! Raft paper, §6, and dissertation, ch. 4: cluster membership changes.

use amaters_cluster_core::message::{AppendEntriesRequest, Message, TimeoutNowRequest};
use amaters_cluster_core::{ClusterConfig, ConfigState, EntryKind, LogEntry, LogIndex, NodeId, NodeState, Term};

use crate::messages::{append, appended, heartbeat, id, pre_vote, request_pre_vote, request_vote, vote};
use crate::subject::Subject;

fn config(version: u64, voters: &[u64], learners: &[u64]) -> ClusterConfig {
    let members = |ids: &[u64]| ids.iter().map(|id| (NodeId(*id), String::new())).collect();
    ClusterConfig { version: LogIndex(version), voters: members(voters), learners: members(learners) }
}

/// `AppendEntries` of term 1 with this configuration at index 2, after an entry of term 1.
fn append_configuration(term: u64, state: ConfigState) -> Message {
    let entries = vec![LogEntry { id: id((2, 1)), kind: EntryKind::Configuration(state) }];
    Message::AppendEntriesRequest(AppendEntriesRequest {
        term: Term(term),
        session: 0,
        prev_log: id((1, 1)),
        leader_commit: LogIndex(0),
        chain: None,
        entries,
    })
}

fn joint(old: &[u64], new: &[u64]) -> ConfigState {
    ConfigState::Joint { old: config(0, old, &[]), new: config(2, new, &[]) }
}

/// §6: "a server always uses the latest configuration in its log, regardless of whether the entry is committed".
#[test]
fn a_configuration_holds_once_it_stands_in_the_log() {
    let mut node = Subject::with_log(3, &[1]);
    node.receive(2, append_configuration(1, ConfigState::Stable(config(2, &[1, 4, 5], &[]))));
    let asked: Vec<_> = node.time_out().sent.iter().map(|(to, _)| *to).collect();
    assert_eq!(asked, [4, 5], "the voters of the new configuration");
}

/// §6: what is not committed may be undone, and then the configuration before holds again.
#[test]
fn a_configuration_goes_with_its_entry() {
    let mut node = Subject::with_log(3, &[1]);
    node.receive(2, append_configuration(1, joint(&[1, 2, 3], &[1, 4, 5])));
    node.receive(3, append(2, (1, 1), &[2], 0));
    let asked: Vec<_> = node.time_out().sent.iter().map(|(to, _)| *to).collect();
    assert_eq!(asked, [2, 3]);
}

/// §6: agreement, for elections, requires separate majorities from both the old and the new configuration.
#[test]
fn an_election_in_a_joint_configuration_takes_a_majority_of_each() {
    let mut node = Subject::with_log(3, &[1]);
    node.receive(2, append_configuration(1, joint(&[1, 2, 3], &[1, 4, 5])));
    node.time_out();
    node.receive(2, pre_vote(1, 2, true));
    node.receive(3, pre_vote(1, 2, true));
    assert_eq!(node.state(), NodeState::PreCandidate, "all of the old one, and a third of the new");
    node.receive(4, pre_vote(1, 2, true));
    assert_eq!(node.state(), NodeState::Candidate);
    node.receive(4, vote(2, true));
    node.receive(5, vote(2, true));
    assert_eq!(node.state(), NodeState::Candidate, "all of the new one, and a third of the old");
    node.receive(3, vote(2, true));
    assert_eq!(node.state(), NodeState::Leader);
}

/// §6: agreement, for entry commitment, requires separate majorities too.
#[test]
fn an_entry_is_committed_in_a_joint_configuration_by_a_majority_of_each() {
    let mut node = Subject::with_log(3, &[1]);
    node.receive(2, append_configuration(1, joint(&[1, 2, 3], &[1, 4, 5])));
    node.time_out();
    [2, 4].into_iter().for_each(|peer| drop(node.receive(peer, pre_vote(1, 2, true))));
    [2, 4].into_iter().for_each(|peer| drop(node.receive(peer, vote(2, true))));
    assert_eq!(node.state(), NodeState::Leader);
    node.receive(4, appended(2, 3));
    node.receive(5, appended(2, 3));
    assert_eq!(node.commit(), 0, "the new configuration alone");
    node.receive(2, appended(2, 3));
    assert_eq!(node.commit(), 3);
}

/// §6: once the joint configuration is committed, the leader creates the entry of the new one, by itself.
#[test]
fn a_leader_leaves_a_joint_configuration_that_another_began() {
    let mut node = Subject::with_log(3, &[1]);
    node.receive(2, append_configuration(1, joint(&[1, 2, 3], &[1, 4, 5])));
    node.time_out();
    [2, 4].into_iter().for_each(|peer| drop(node.receive(peer, pre_vote(1, 2, true))));
    [2, 4].into_iter().for_each(|peer| drop(node.receive(peer, vote(2, true))));
    node.receive(4, appended(2, 3));
    node.receive(2, appended(2, 3));
    assert_eq!(node.node.configuration(), &ConfigState::Stable(config(4, &[1, 4, 5], &[])));
}

/// Dissertation, §4.2.1: a server without a vote receives the log and is not asked for anything.
#[test]
fn a_learner_never_stands() {
    let mut node = Subject::with_log(3, &[1]);
    node.receive(2, append_configuration(1, ConfigState::Stable(config(2, &[2, 3], &[1]))));
    for _ in 0..5 {
        assert_eq!(node.time_out().sent, []);
    }
    assert_eq!(node.state(), NodeState::Learner);
    node.receive(2, Message::TimeoutNowRequest(TimeoutNowRequest { term: Term(1) }));
    assert_eq!((node.state(), node.term()), (NodeState::Learner, 1), "not even if it is asked to");
}

/// Dissertation, §4.1: a server accepts requests from a leader that is not part of its latest configuration.
#[test]
fn a_leader_that_is_no_member_is_followed() {
    let mut node = Subject::with_log(3, &[1]);
    node.wait(150);
    node.receive(9, append(2, (1, 1), &[2], 1));
    assert_eq!((node.node.leader(), node.log()), (NodeId(9), vec![1, 2]));
}

/// Dissertation, §4.1: and it grants its vote to a candidate that is not part of it.
#[test]
fn a_candidate_that_is_no_member_gets_a_vote() {
    let mut node = Subject::with_log(3, &[1]);
    node.wait(150);
    assert_eq!(node.receive(9, request_vote(2, (1, 1))).answer_to(9), vote(2, true));
}

/// Dissertation, §4.2.3: a removed server must not disturb a leader: while there is one, it is not heard.
#[test]
fn a_candidate_that_is_no_member_is_not_heard_while_there_is_a_leader() {
    let mut node = Subject::with_log(3, &[1]);
    node.receive(2, heartbeat(1, 0));
    assert_eq!(node.receive(9, request_vote(7, (9, 6))).sent, []);
    assert_eq!(node.receive(9, request_pre_vote(7, (9, 6))).sent, []);
    assert_eq!(node.receive(9, heartbeat(7, 0)).sent, []);
    assert_eq!((node.term(), node.node.leader()), (1, NodeId(2)));
}
