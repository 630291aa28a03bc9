//! §5.1: terms.

use amaters_cluster_core::message::Message;
use amaters_cluster_core::{NodeId, NodeState};

use crate::messages::{alive, append, appended, commit_notice, heartbeat, pre_vote, request_pre_vote, request_vote, vote};
use crate::subject::Subject;

/// §5.1: a request of an earlier term is refused.
#[test]
fn a_stale_append_entries_is_refused_and_changes_nothing() {
    let mut node = Subject::with_log(3, &[1, 2]);
    let reaction = node.receive(2, append(1, (1, 1), &[1, 1], 3));
    assert_eq!(reaction.sent, [(2, alive(2, 0))], "its sender learns of the current term");
    assert_eq!((node.log(), node.commit(), node.node.leader()), (vec![1, 2], 0, NodeId::NONE));
}

/// §5.1, of heartbeats.
#[test]
fn a_stale_heartbeat_is_refused_and_does_not_prolong_the_wait() {
    let mut node = Subject::with_log(3, &[2]);
    node.wait(149);
    assert_eq!(node.receive(2, heartbeat(1, 0)).sent, [(2, alive(2, 0))]);
    node.wait(151);
    assert_eq!(node.state(), NodeState::PreCandidate);
}

/// §5.1, of votes: figure 2, RequestVote, rule 1.
#[test]
fn a_stale_request_for_a_vote_is_refused() {
    let mut node = Subject::with_log(3, &[2]);
    assert_eq!(node.receive(2, request_vote(1, (9, 1))).sent, [(2, vote(2, false))]);
    assert_eq!(node.node.persistent_state().voted_for, NodeId::NONE);
}

/// §5.1: "If one server's current term is smaller than the other's, then it updates its current term to the larger value. If a candidate or
/// leader discovers that its term is out of date, it immediately reverts to follower state."
#[test]
fn a_higher_term_makes_a_follower_of_every_role() {
    let roles: [fn() -> Subject; 4] = [
        || Subject::with_log(3, &[1]),
        || {
            let mut node = Subject::with_log(3, &[1]);
            node.time_out();
            node
        },
        || Subject::candidate(3, &[1]),
        || Subject::leader(3, &[1]),
    ];
    let messages: [fn(u64) -> Message; 8] = [
        |term| append(term, (1, 1), &[], 0),
        |term| appended(term, 1),
        |term| heartbeat(term, 0),
        |term| commit_notice(term, 0),
        |term| alive(term, 0),
        |term| request_vote(term, (1, 1)),
        |term| vote(term, false),
        |term| pre_vote(term, 2, false),
    ];
    for role in roles {
        for message in messages {
            let mut node = role();
            node.receive(2, message(7));
            assert_eq!((node.state(), node.term()), (NodeState::Follower, 7), "after {:?}", message(7));
        }
    }
}

/// §5.1, with the dissertation's §9.6: a question about a term that nobody is in yet moves nobody's.
#[test]
fn a_pre_vote_request_with_a_higher_term_moves_nobody() {
    let mut node = Subject::leader(3, &[1]);
    node.receive(2, request_pre_vote(7, (9, 7)));
    assert_eq!((node.state(), node.term()), (NodeState::Leader, 2));
}

/// §5.1: a vote of an earlier term elects nobody in this one.
#[test]
fn a_stale_vote_is_not_counted() {
    let mut node = Subject::candidate(3, &[1]);
    node.receive(2, vote(1, true));
    assert_eq!(node.state(), NodeState::Candidate);
    node.receive(2, vote(2, true));
    assert_eq!(node.state(), NodeState::Leader);
}

/// §5.1: an acknowledgement that was meant for an earlier term's leader commits nothing.
#[test]
fn a_stale_acknowledgement_commits_nothing() {
    let mut node = Subject::leader(3, &[1]);
    node.receive(2, appended(1, 2));
    assert_eq!(node.commit(), 0);
    node.receive(2, appended(2, 2));
    assert_eq!(node.commit(), 2);
}

/// §5.1, figure 2: the current term is on disk before any answer that names it.
#[test]
fn a_new_term_is_durable_before_it_is_answered() {
    let mut node = Subject::with_log(3, &[1]);
    node.disk_stalled = true;
    let reaction = node.receive(2, append(5, (9, 4), &[], 0));
    assert_eq!((reaction.writes, reaction.sent), (1, vec![]));
    assert_eq!(node.complete_disk().sent.len(), 1);
    node.restart();
    assert_eq!(node.term(), 5);
}

/// Beyond the paper: terms grow by elections, one at a time. A message from an absurd future is a fault, and must not use up the room for elections.
#[test]
fn a_term_from_an_absurd_future_is_refused() {
    let mut node = Subject::leader(3, &[1]);
    let absurd = (1 << 62) - 1;
    node.receive(2, alive(absurd, 0));
    node.receive(2, request_vote(absurd, (9, 9)));
    node.receive(2, heartbeat(absurd, 0));
    assert_eq!((node.term(), node.state()), (2, NodeState::Leader));
    node.receive(2, alive(100, 0));
    assert_eq!((node.term(), node.state()), (100, NodeState::Follower), "one that elections can reach counts");
}
