//! Dissertation, §3.10: leadership moves on purpose, without a wait for a timeout.

use amaters_cluster_core::message::{Message, RequestVoteRequest, TimeoutNowRequest};
use amaters_cluster_core::{NodeState, Rejection, Term, Token};

use crate::messages::{alive, append, appended, heartbeat, id, request_vote, vote};
use crate::subject::{Reaction, Subject};

/// §3.10: the leader brings the target up to date before it tells it to stand.
#[test]
fn the_target_is_told_to_stand_once_it_has_all() {
    let mut node = open_leader();
    node.propose("x");
    assert!(!told(&node.transfer(7, 2), 2), "it lacks x");
    assert!(!told(&node.receive(3, appended(2, 3)), 2), "node 3 has it, which is not the target");
    assert!(told(&node.receive(2, appended(2, 3)), 2));
}

/// §3.10: a proposal that comes meanwhile waits for the leader to come.
#[test]
fn proposals_wait_for_the_target() {
    let mut node = open_leader();
    node.transfer(7, 2);
    let reaction = node.propose("late");
    assert_eq!((node.log(), reaction.rejected), (vec![1, 2], vec![]));
    node.receive(2, request_vote_by_transfer(3, (2, 2)));
    let reaction = node.receive(2, append(3, (2, 2), &[3], 3));
    assert_eq!(reaction.done, [Token(7)]);
    let forwarded = reaction.to(2).into_iter().any(|message| matches!(message, Message::ForwardRequest(_)));
    assert!(forwarded, "node 2 leads now, and gets it: {reaction:?}");
}

/// §3.10: after an election timeout in vain, the leader takes requests again.
#[test]
fn a_leader_whose_target_does_not_take_over_serves_on() {
    let mut node = open_leader();
    node.receive(3, alive(2, 0));
    node.propose("x");
    node.transfer(7, 2);
    node.propose("y");
    node.wait(100);
    node.receive(2, alive(2, 0));
    node.wait(150);
    node.receive(3, alive(2, 0));
    assert_eq!(node.log(), [1, 2, 2]);
    let reaction = node.wait(50);
    assert_eq!(reasons(&reaction), [(Token(7), Rejection::TransferFailed)]);
    assert_eq!((node.state(), node.log()), (NodeState::Leader, vec![1, 2, 2, 2]));
}

/// §3.10: one target, a member that is there, at a leader.
#[test]
fn a_transfer_that_cannot_be_is_refused() {
    let refusal = |node: &mut Subject, to| reasons(&node.transfer(7, to)).first().map(|(_, reason)| *reason);
    let mut node = Subject::with_log(3, &[1]);
    assert_eq!(refusal(&mut node, 2), Some(Rejection::NotLeader));
    let mut node = open_leader();
    assert_eq!(refusal(&mut node, 9), Some(Rejection::UnknownTarget));
    node.wait(150);
    assert_eq!(refusal(&mut node, 2), Some(Rejection::TargetSilent));
    assert_eq!(refusal(&mut node, 0), Some(Rejection::TargetSilent));
    node.receive(3, alive(2, 0));
    assert_eq!(refusal(&mut node, 0), None, "node 3 it is");
    assert_eq!(refusal(&mut node, 3), Some(Rejection::TransferUnderWay));
    assert_eq!(open_leader().transfer(7, 1).done, [Token(7)], "it leads already");
    let mut alone = Subject::new(1);
    alone.wait(0);
    assert_eq!(refusal(&mut alone, 0), Some(Rejection::TargetSilent), "there is no other");
}

/// §3.10: without a name, the peer with the longest log.
#[test]
fn the_best_target_has_most_of_the_log() {
    let mut node = open_leader();
    node.propose("x");
    node.receive(3, appended(2, 3));
    node.receive(2, alive(2, 0));
    assert!(told(&node.transfer(7, 0), 3));
}

/// §3.10: the target starts an election at once, without a pre-vote, and says who sent it (§4.2.3).
#[test]
fn the_target_stands_at_once() {
    let mut node = Subject::with_log(3, &[1]);
    node.receive(2, heartbeat(1, 0));
    let reaction = node.receive(2, Message::TimeoutNowRequest(TimeoutNowRequest { term: Term(1) }));
    assert_eq!(reaction.sent, [(2, request_vote_by_transfer(2, (1, 1))), (3, request_vote_by_transfer(2, (1, 1)))]);
    node.receive(2, vote(2, true));
    assert_eq!((node.state(), node.term()), (NodeState::Leader, 2));
}

/// §3.10: a request to stand that comes late starts nothing, nor does one from somebody who doesn't lead.
#[test]
fn a_late_request_to_stand_is_ignored() {
    let mut node = Subject::with_log(3, &[2]);
    node.receive(3, heartbeat(2, 0));
    for (from, term) in [(2, 1), (2, 2)] {
        node.receive(from, Message::TimeoutNowRequest(TimeoutNowRequest { term: Term(term) }));
        assert_eq!((node.state(), node.term()), (NodeState::Follower, 2), "from node {from}, of term {term}");
    }
}

/// §3.10, by §5.4.1: a vote by transfer is a vote like any other: for a log that is up to date, once a term.
#[test]
fn a_vote_by_transfer_compares_logs() {
    let mut node = Subject::with_log(3, &[1, 1]);
    assert_eq!(node.receive(2, request_vote_by_transfer(2, (1, 1))).sent, [(2, vote(2, false))]);
    assert_eq!(node.receive(3, request_vote(2, (2, 1))).sent, [(3, vote(2, true))]);
}

/// The leader of term 2, whose no-op all have.
fn open_leader() -> Subject {
    let mut node = Subject::leader(3, &[1]);
    for peer in [2, 3] {
        node.receive(peer, appended(2, 2));
    }
    node
}

fn told(reaction: &Reaction, node: u64) -> bool {
    reaction.to(node).into_iter().any(|message| matches!(message, Message::TimeoutNowRequest(_)))
}

fn reasons(reaction: &Reaction) -> Vec<(Token, Rejection)> {
    reaction.rejected.iter().map(|rejected| (rejected.token, rejected.reason)).collect()
}

fn request_vote_by_transfer(term: u64, last: (u64, u64)) -> Message {
    Message::RequestVoteRequest(RequestVoteRequest { term: Term(term), last_log: id(last), by_transfer: true })
}
