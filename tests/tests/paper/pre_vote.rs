//! Dissertation, §9.6: a candidate goes to a new term only once a majority has said that it would vote for it.

use amaters_cluster_core::NodeState;
use amaters_cluster_core::planted::Bug;
use amaters_cluster_tests::planted::seen_to_fail;

use crate::messages::{heartbeat, pre_vote, request_pre_vote, request_vote, vote};
use crate::subject::Subject;

/// §9.6: asking changes nothing.
#[test]
fn asking_for_pre_votes_changes_no_term_and_writes_nothing() {
    let mut node = Subject::with_log(3, &[1, 2]);
    let reaction = node.time_out();
    assert_eq!((node.state(), node.term(), reaction.writes), (NodeState::PreCandidate, 2, 0));
    assert_eq!(reaction.sent, [(2, request_pre_vote(2, (2, 2))), (3, request_pre_vote(2, (2, 2)))]);
}

/// §9.6: no new term without the promise of a majority.
#[test]
fn an_election_begins_with_a_majority_of_pre_votes() {
    let mut node = Subject::with_log(5, &[1]);
    node.time_out();
    node.receive(2, pre_vote(1, 2, true));
    node.receive(2, pre_vote(1, 2, true));
    node.receive(3, pre_vote(1, 2, false));
    assert_eq!((node.state(), node.term()), (NodeState::PreCandidate, 1));
    node.receive(4, pre_vote(1, 2, true));
    assert_eq!((node.state(), node.term()), (NodeState::Candidate, 2));
}

/// §9.6: a node that is cut off asks and asks, and its term stays where it was.
#[test]
fn h20_a_partitioned_node_does_not_raise_its_term() {
    let mut node = Subject::with_log(3, &[1]);
    for _ in 0..50 {
        node.time_out();
    }
    assert_eq!(node.term(), 1);
    node.receive(2, heartbeat(1, 0));
    assert_eq!(node.state(), NodeState::Follower, "it comes back without disturbing anybody");
}

/// §9.6, by §5.4.1: a pre-vote compares the logs like a vote.
#[test]
fn a_pre_vote_needs_a_log_that_is_up_to_date_and_a_term_to_come() {
    for (last, proposed_by, granted) in [((2, 2), 2, true), ((3, 1), 2, false), ((1, 2), 2, false), ((1, 3), 3, true), ((2, 2), 1, false)] {
        let mut node = Subject::with_log(3, &[1, 2]);
        let answer = pre_vote(2, proposed_by + 1, granted);
        assert_eq!(node.receive(2, request_pre_vote(proposed_by, last)).sent, [(2, answer)], "last entry {last:?}, term {proposed_by}");
    }
}

/// §9.6, with §4.2.3: a server that has heard from a leader within the minimum election timeout grants nothing.
#[test]
fn a_follower_that_hears_from_a_leader_refuses() {
    let mut node = Subject::with_log(3, &[1]);
    node.receive(2, heartbeat(1, 0));
    node.wait(149);
    assert_eq!(node.receive(3, request_pre_vote(1, (9, 1))).sent, [(3, pre_vote(1, 2, false))]);
    node.wait(1);
    assert!(node.receive(3, request_pre_vote(1, (9, 1))).sent.contains(&(3, pre_vote(1, 2, true))));
}

/// §9.6, with §4.2.3: a leader does not help to replace itself.
#[test]
fn h11_a_leader_refuses() {
    let mut node = Subject::leader(3, &[1]);
    assert_eq!(node.receive(2, request_pre_vote(2, (9, 2))).sent, [(2, pre_vote(2, 3, false))]);
}

#[test]
fn h11_a_pre_vote_by_a_leader_is_found() {
    seen_to_fail(Bug::PreVoteUnderLeader, "vote_granted: true", h11_a_leader_refuses);
    seen_to_fail(Bug::PreVoteUnderLeader, "vote_granted: true", a_follower_that_hears_from_a_leader_refuses);
}

/// §9.6: a pre-vote is no vote: it binds to nothing, and so may go to several.
#[test]
fn a_pre_vote_takes_no_vote_away() {
    let mut node = Subject::with_log(3, &[1]);
    assert_eq!(node.receive(2, request_pre_vote(1, (1, 1))).sent, [(2, pre_vote(1, 2, true))]);
    assert_eq!(node.receive(3, request_pre_vote(1, (1, 1))).sent, [(3, pre_vote(1, 2, true))]);
    assert_eq!(node.receive(3, request_vote(2, (1, 1))).sent, [(3, vote(2, true))]);
}

/// §9.6: a refusal tells the current term, so that a node which is behind with its term alone can catch up and win.
#[test]
fn h11_a_pre_candidate_that_is_behind_learns_the_term() {
    let mut node = Subject::with_log(3, &[1, 1]);
    node.time_out();
    node.receive(2, pre_vote(4, 2, false));
    assert_eq!((node.state(), node.term()), (NodeState::Follower, 4));
    node.stand();
    assert_eq!(node.term(), 5);
}

/// §9.6: late promises for an earlier attempt's term count for nothing.
#[test]
fn a_promise_for_another_term_is_not_counted() {
    let mut node = Subject::candidate(3, &[1]);
    node.time_out();
    assert_eq!((node.state(), node.term()), (NodeState::PreCandidate, 2));
    node.receive(2, pre_vote(1, 2, true));
    assert_eq!(node.state(), NodeState::PreCandidate);
    node.receive(2, pre_vote(2, 3, true));
    assert_eq!(node.state(), NodeState::Candidate);
}
