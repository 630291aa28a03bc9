//! §5.2: leader election, of a node that stands for it.

use std::collections::BTreeSet;

use amaters_cluster_core::message::Message;
use amaters_cluster_core::planted::Bug;
use amaters_cluster_core::{Config, NodeId, NodeState};
use amaters_cluster_tests::planted::seen_to_fail;

use crate::messages::{append, heartbeat, id, request_vote, vote};
use crate::subject::Subject;

/// §5.2: a node starts as a follower.
#[test]
fn a_node_starts_as_a_follower_even_if_it_led_before() {
    let mut node = Subject::leader(3, &[1]);
    node.restart();
    assert_eq!((node.state(), node.term(), node.node.leader()), (NodeState::Follower, 2, NodeId::NONE));
}

/// §5.2: waits are drawn at random from a range, such as 150 to 300 ms.
#[test]
fn election_timeouts_are_spread_over_the_configured_range() {
    let waits: BTreeSet<u64> = (0..50).map(|seed| wait_of(seed, 1)).collect();
    assert!(*waits.first().unwrap() >= 150 && *waits.last().unwrap() <= 300, "{waits:?}");
    assert!(waits.len() > 30, "{waits:?}");
    assert!(*waits.first().unwrap() < 170 && *waits.last().unwrap() > 280, "the whole range is used: {waits:?}");
}

/// §5.2: the timeout is drawn once for each wait. Drawn anew at each look at the clock, it would tend to the minimum.
#[test]
fn h19_looking_at_the_clock_more_often_does_not_shorten_the_wait() {
    for seed in 0..20 {
        let (fine, coarse) = (wait_of(seed, 1), wait_of(seed, 10));
        assert!(fine <= coarse && coarse < fine + 10, "seed {seed}: {fine} ms and {coarse} ms");
    }
}

#[test]
fn h19_a_timeout_that_is_drawn_at_each_look_is_found() {
    seen_to_fail(Bug::TimeoutDrawnAtEachLook, "ms and", h19_looking_at_the_clock_more_often_does_not_shorten_the_wait);
}

/// §5.2: "it is randomized … at the start of an election": a candidate's next wait is a new one.
#[test]
fn each_wait_is_drawn_anew() {
    let mut node = Subject::new(3);
    let waits: BTreeSet<u64> = (0..20).map(|_| wait_for_asking(&mut node, 1)).collect();
    assert!(waits.len() > 10, "{waits:?}");
}

/// §5.2: "A server remains in follower state as long as it receives valid RPCs from a leader".
#[test]
fn a_follower_that_hears_its_leader_waits_on() {
    for message in [heartbeat(1, 0), append(1, (0, 0), &[], 0)] {
        let mut node = Subject::new(3);
        for _ in 0..20 {
            node.receive(2, message.clone());
            node.wait(149);
            assert_eq!((node.state(), node.node.leader()), (NodeState::Follower, NodeId(2)));
        }
        node.wait(151);
        assert_eq!(node.state(), NodeState::PreCandidate);
    }
}

/// §5.2: who stands for election does so in the next term, with its own vote, and asks all others at once.
#[test]
fn a_candidate_takes_the_next_term_votes_for_itself_and_asks_all() {
    let mut node = Subject::with_log(5, &[1, 3]);
    let reaction = node.stand();
    let state = node.node.persistent_state();
    assert_eq!((node.term(), state.voted_for), (4, NodeId(1)));
    let asked: Vec<_> = (2..=5).map(|peer| (peer, request_vote(4, (2, 3)))).collect();
    assert_eq!(reaction.sent, asked);
}

/// §5.2: the candidate's own vote is one like any other: durable before anybody hears of the candidacy.
#[test]
fn a_candidate_asks_once_its_own_vote_is_durable() {
    let mut node = Subject::with_log(3, &[1]);
    node.disk_stalled = true;
    assert_eq!(node.stand().sent, []);
    assert_eq!(node.complete_disk().to(2), [&request_vote(2, (1, 1))]);
    node.restart();
    assert_eq!((node.term(), node.node.persistent_state().voted_for), (2, NodeId(1)));
}

/// §5.2: "A candidate wins an election if it receives votes from a majority of the servers in the full cluster for the same term."
#[test]
fn a_majority_of_the_full_cluster_wins() {
    for (size, needed) in [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)] {
        let mut node = Subject::candidate(size, &[1]);
        for voter in 2..=size {
            let got = voter - 2;
            let expected = if got >= needed { NodeState::Leader } else { NodeState::Candidate };
            assert_eq!(node.state(), expected, "{got} votes besides its own, of {size} nodes");
            node.receive(voter, vote(2, true));
        }
    }
}

/// §5.2, for a cluster of one: its own vote is a majority.
#[test]
fn a_node_alone_elects_itself() {
    let mut node = Subject::new(1);
    node.wait(0);
    assert_eq!((node.state(), node.term(), node.commit()), (NodeState::Leader, 1, 1));
}

/// §5.2: a majority of servers, not of messages.
#[test]
fn a_repeated_vote_counts_once() {
    let mut node = Subject::candidate(5, &[1]);
    node.receive(2, vote(2, true));
    node.receive(2, vote(2, true));
    assert_eq!(node.state(), NodeState::Candidate);
}

/// §5.2: an answer that refuses is no vote; nor is one that says so in a later term.
#[test]
fn h10_a_refusal_counts_for_nothing_whatever_its_term() {
    let mut node = Subject::candidate(3, &[1]);
    node.receive(2, vote(2, false));
    assert_eq!(node.state(), NodeState::Candidate);
    node.receive(2, vote(5, true));
    assert_eq!((node.state(), node.term()), (NodeState::Follower, 5));
}

#[test]
fn h10_a_refusal_that_counts_is_found() {
    seen_to_fail(Bug::CountRefusals, "Leader", h10_a_refusal_counts_for_nothing_whatever_its_term);
}

/// §5.2: the candidate's own vote counts when it is durable: votes of others alone don't make up for it.
#[test]
fn the_own_vote_counts_when_it_is_durable() {
    let mut node = Subject::with_log(3, &[1]);
    node.disk_stalled = true;
    node.stand();
    node.receive(2, vote(2, true));
    assert_eq!(node.state(), NodeState::Candidate);
    node.complete_disk();
    assert_eq!(node.state(), NodeState::Leader);
}

/// §5.2: a new leader makes itself known to all at once.
#[test]
fn a_new_leader_tells_all_the_others_at_once() {
    let mut node = Subject::candidate(3, &[1]);
    let reaction = node.receive(3, vote(2, true));
    for peer in [2, 3] {
        assert_eq!(reaction.heartbeats_to(peer).len(), 1);
        assert_eq!(reaction.appends_to(peer)[0].prev_log, id((1, 1)));
    }
}

/// §5.2: a leader sends heartbeats for as long as it leads.
#[test]
fn a_leader_sends_heartbeats_at_its_interval() {
    let mut node = Subject::leader(3, &[1]);
    for _ in 0..5 {
        node.receive(2, appended_all());
        assert!(node.wait(49).heartbeats_to(3).is_empty());
        let reaction = node.wait(1);
        assert_eq!([reaction.heartbeats_to(2).len(), reaction.heartbeats_to(3).len()], [1, 1]);
    }
}

/// §5.2: "If the leader's term … is at least as large as the candidate's current term, then the candidate recognizes the leader as
/// legitimate and returns to follower state."
#[test]
fn a_candidate_recognises_the_leader_of_its_term() {
    for message in [append(2, (1, 1), &[2], 0), heartbeat(2, 0)] {
        let mut node = Subject::candidate(3, &[1]);
        node.receive(3, message);
        assert_eq!((node.state(), node.node.leader(), node.term()), (NodeState::Follower, NodeId(3), 2));
    }
}

/// §5.2: "If the term in the RPC is smaller than the candidate's current term, then the candidate rejects the RPC and continues in
/// candidate state."
#[test]
fn a_candidate_refuses_the_leader_of_an_earlier_term() {
    let mut node = Subject::candidate(3, &[1]);
    node.receive(3, append(1, (1, 1), &[1], 0));
    assert_eq!((node.state(), node.log()), (NodeState::Candidate, vec![1]));
}

/// §5.2: after a split vote each candidate waits, and tries again in a later term.
#[test]
fn a_split_vote_leads_to_a_new_election_in_a_later_term() {
    let mut node = Subject::candidate(4, &[1]);
    node.receive(2, vote(2, true));
    node.receive(3, vote(2, false));
    node.receive(4, vote(2, false));
    node.wait(149);
    assert_eq!((node.state(), node.term()), (NodeState::Candidate, 2), "it waits for a timeout first");
    node.stand();
    assert_eq!(node.term(), 3);
    node.receive(3, vote(3, true));
    assert_eq!(node.state(), NodeState::Candidate, "votes of the earlier term are gone");
    node.receive(4, vote(3, true));
    assert_eq!(node.state(), NodeState::Leader);
}

fn appended_all() -> Message {
    crate::messages::appended(2, 2)
}

/// How many milliseconds pass until a node that is left alone asks for votes, looking at the clock at each `step`.
fn wait_of(seed: u64, step: u64) -> u64 {
    let mut config = Config::new(1, vec![1, 2, 3]);
    config.seed = seed;
    wait_for_asking(&mut Subject::of(config, &[]), step)
}

fn wait_for_asking(node: &mut Subject, step: u64) -> u64 {
    let mut waited = 0;
    loop {
        waited += step;
        if !node.wait(step).sent.is_empty() {
            return waited;
        }
    }
}
