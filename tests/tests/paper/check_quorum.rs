//! Dissertation, §6.2: a leader that reaches no majority for an election timeout steps down.

use amaters_cluster_core::{NodeState, Rejection};

use crate::messages::{alive, appended, request_pre_vote};
use crate::subject::Subject;

/// §6.2: so that clients don't wait for a leader that can't commit.
#[test]
fn a_leader_without_a_majority_steps_down_in_its_term() {
    let mut node = Subject::leader(5, &[1]);
    for _ in 0..3 {
        node.wait(99);
        node.receive(2, alive(2, 0));
    }
    assert_eq!(node.state(), NodeState::Leader);
    node.wait(3);
    assert_eq!((node.state(), node.term()), (NodeState::Follower, 2), "node 2 alone is no majority of five");
}

/// §6.2: any answer of this term is a sign of life.
#[test]
fn a_leader_that_hears_a_majority_stays() {
    let mut node = Subject::leader(5, &[1]);
    for _ in 0..50 {
        node.wait(290);
        node.receive(2, alive(2, 0));
        node.receive(3, appended(2, 2));
        assert_eq!(node.state(), NodeState::Leader);
    }
}

/// §6.2: a sign of life is an answer to this leader: others' questions aren't.
#[test]
fn a_question_for_a_vote_is_no_sign_of_life() {
    let mut node = Subject::leader(3, &[1]);
    for _ in 0..3 {
        node.wait(100);
        node.receive(2, request_pre_vote(2, (2, 2)));
    }
    assert_eq!(node.state(), NodeState::Follower);
}

/// §6.2: what the deposed leader had taken may yet be committed by another: its proposer is told just that, and in time.
#[test]
fn a_proposal_that_a_deposed_leader_took_has_an_unknown_outcome() {
    let mut node = Subject::leader(3, &[1]);
    node.propose("x=1");
    let mut rejected = node.wait(300).rejected;
    assert_eq!(rejected, []);
    rejected = node.wait(1700).rejected;
    assert_eq!(rejected.iter().map(|rejected| rejected.reason).collect::<Vec<_>>(), [Rejection::UnknownOutcome]);
}

/// §6.2: a node alone is its own majority.
#[test]
fn a_node_alone_never_steps_down() {
    let mut node = Subject::new(1);
    node.wait(0);
    node.wait(60_000);
    assert_eq!(node.state(), NodeState::Leader);
}
