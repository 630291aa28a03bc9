//! §5.2 and §5.4.1: how a node gives its vote.

use amaters_cluster_core::{NodeId, NodeState};

use crate::messages::{append, heartbeat, request_vote, vote};
use crate::subject::Subject;

/// §5.2: a node votes once in a term, for the first that asks.
#[test]
fn one_vote_a_term_first_come_first_served() {
    let mut node = Subject::with_log(5, &[1]);
    assert_eq!(node.receive(2, request_vote(2, (1, 1))).sent, [(2, vote(2, true))]);
    assert_eq!(node.receive(3, request_vote(2, (9, 1))).sent, [(3, vote(2, false))]);
    assert_eq!(node.receive(3, request_vote(3, (9, 1))).sent, [(3, vote(3, true))], "the next term, the next vote");
}

/// §5.2: a candidate has voted for itself.
#[test]
fn a_candidate_gives_no_other_candidate_its_vote() {
    let mut node = Subject::candidate(3, &[1]);
    assert_eq!(node.receive(2, request_vote(2, (9, 1))).sent, [(2, vote(2, false))]);
}

/// §5.2, figure 2: `votedFor` is persistent. A crash gives nobody a second vote.
#[test]
fn a_vote_outlives_a_crash() {
    for term in [1, 2] {
        let mut node = Subject::with_log(3, &[1]);
        node.receive(2, request_vote(term, (1, 1)));
        node.restart();
        assert_eq!(node.receive(3, request_vote(term, (1, 1))).sent, [(3, vote(term, false))], "in term {term}");
        assert_eq!(node.receive(2, request_vote(term, (1, 1))).sent, [(2, vote(term, true))], "in term {term}");
    }
}

/// §5.2, figure 2: term and vote are on disk before any answer leaves.
#[test]
fn a_vote_leaves_once_it_is_durable() {
    let mut node = Subject::with_log(3, &[1]);
    node.disk_stalled = true;
    assert_eq!(node.receive(2, request_vote(2, (1, 1))).sent, []);
    node.restart();
    assert_eq!((node.term(), node.node.persistent_state().voted_for), (1, NodeId::NONE), "forgotten, and nobody was told");
    node.receive(3, request_vote(2, (1, 1)));
    assert_eq!(node.complete_disk().sent, [(3, vote(2, true))]);
}

/// §5.2: "and granting a vote" begins a new wait (figure 2, followers).
#[test]
fn giving_a_vote_begins_a_new_wait() {
    let mut node = Subject::with_log(3, &[1]);
    node.wait(149);
    node.receive(2, request_vote(1, (1, 1)));
    node.wait(149);
    assert_eq!(node.state(), NodeState::Follower);
}

/// §5.2: a term has one leader. Who knows it needs no other candidate, even with the vote still free.
#[test]
fn whoever_follows_a_leader_votes_for_no_other_in_its_term() {
    let mut node = Subject::with_log(3, &[1]);
    node.receive(2, heartbeat(2, 0));
    assert_eq!(node.receive(3, request_vote(2, (1, 1))).sent, [(3, vote(2, false))]);
}

/// §5.4.1: no vote for a candidate whose log is behind the voter's: the later last term wins, and with the
/// same last term the longer log.
#[test]
fn the_vote_goes_to_logs_that_are_at_least_as_up_to_date() {
    let cases: [(&[u64], (u64, u64), bool); 10] = [
        (&[], (0, 0), true),
        (&[1], (1, 1), true),
        (&[1], (2, 1), true),
        (&[1, 1], (1, 1), false),
        (&[1], (1, 2), true),
        (&[1, 1, 1], (1, 2), true),
        (&[2], (1, 1), false),
        (&[2], (3, 1), false),
        (&[1, 1], (0, 0), false),
        (&[1, 2], (2, 2), true),
    ];
    for (log, last, granted) in cases {
        let mut node = Subject::with_log(3, log);
        assert_eq!(node.receive(2, request_vote(9, last)).sent, [(2, vote(9, granted))], "log {log:?}, candidate's last entry {last:?}");
    }
}

/// §5.4.1: the restriction counts entries as soon as they are in the log, committed or not.
#[test]
fn what_was_just_appended_counts_for_the_comparison() {
    let mut node = Subject::with_log(3, &[1]);
    node.receive(2, append(1, (1, 1), &[1], 0));
    assert_eq!(node.receive(3, request_vote(2, (1, 1))).sent, [(3, vote(2, false))]);
}
