//! §5.5 and §5.6: crashes of followers and candidates, and timing.

use amaters_cluster_core::{Config, NodeState};

use crate::messages::{alive, append, appended, heartbeat, id, request_vote, vote};
use crate::subject::Subject;

/// §5.5: a follower that is down misses requests; they are sent again until it has answered.
#[test]
fn entries_without_an_answer_are_sent_again_and_again() {
    let mut node = Subject::leader(3, &[1]);
    node.receive(3, appended(2, 2));
    node.receive(2, appended(2, 2));
    node.propose("x=1");
    let mut repeats = 0;
    for _ in 0..100 {
        let reaction = node.wait(50);
        node.receive(3, appended(2, 3));
        for request in reaction.appends_to(2) {
            assert_eq!((request.prev_log, request.entries.len()), (id((2, 2)), 1));
            repeats += 1;
        }
    }
    assert!((30..=35).contains(&repeats), "one each 150 ms, for 5 s: {repeats}");
}

/// §5.5: a follower that answers heartbeats can be reached again: what had no answer from it is not kept waiting for longer.
#[test]
fn a_follower_that_is_back_gets_its_entries_with_the_next_heartbeat() {
    let mut node = Subject::leader(3, &[1]);
    node.receive(3, appended(2, 2));
    node.wait(49);
    assert_eq!(node.receive(2, alive(2, 0)).appends_to(2).len(), 0, "the first request may still be answered");
    node.wait(1);
    assert_eq!(node.receive(2, alive(2, 0)).appends_to(2).len(), 1);
}

/// §5.5: a repeated request does no harm: entries that are there already stay as they are.
#[test]
fn a_repeated_append_gives_the_same_answer_and_changes_nothing() {
    let mut node = Subject::with_log(3, &[1]);
    let request = append(1, (1, 1), &[1, 1], 2);
    let first = node.receive(2, request.clone());
    assert_eq!((first.writes, &first.applied[..]), (1, &["1@1".to_owned(), "2@1".to_owned()][..]));
    let second = node.receive(2, request);
    assert_eq!((second.sent, second.writes, second.applied.len()), (first.sent, 0, 0));
    assert_eq!(node.log(), [1, 1, 1]);
}

/// §5.5, of votes.
#[test]
fn a_repeated_request_for_a_vote_gives_the_same_answer() {
    let mut node = Subject::with_log(3, &[1]);
    let first = node.receive(2, request_vote(2, (1, 1)));
    let second = node.receive(2, request_vote(2, (1, 1)));
    assert_eq!((&first.sent, first.writes), (&vec![(2, vote(2, true))], 1));
    assert_eq!((second.sent, second.writes), (first.sent, 0));
}

/// §5.5: a follower may crash when it has done its work and not answered yet: after its restart it answers the repeated request.
#[test]
fn a_restarted_follower_completes_what_it_did_not_answer() {
    let mut node = Subject::with_log(3, &[1]);
    node.receive(2, append(1, (1, 1), &[1], 0));
    node.restart();
    assert_eq!(node.receive(2, append(1, (1, 1), &[1], 0)).sent, [(2, appended(1, 2))]);
}

/// §5.5, figure 2: commit and apply indexes are volatile. A restarted node applies again from the start, once the leader tells it how far.
#[test]
fn a_restarted_node_learns_anew_what_is_committed() {
    let mut node = Subject::with_log(3, &[1, 1]);
    assert_eq!(node.receive(2, append(1, (2, 1), &[], 2)).applied.len(), 2);
    node.restart();
    assert_eq!(node.commit(), 0);
    assert_eq!(node.receive(2, append(1, (2, 1), &[], 2)).applied, ["1@1", "2@1"]);
}

/// §5.6: "broadcastTime ≪ electionTimeout": the defaults leave room for two lost heartbeats, and others are refused.
#[test]
fn heartbeats_are_several_to_an_election_timeout() {
    let config = Config::new(1, vec![1, 2, 3]);
    assert!(config.heartbeat_interval * 3 <= config.election_timeout_min);
    let too_slow = Config { heartbeat_interval: config.election_timeout_min, ..config };
    assert_eq!(too_slow.validate().expect_err("refused").field, "election_timeout_min");
}

/// §5.6: with one heartbeat in two lost, nobody stands for election.
#[test]
fn lost_heartbeats_within_the_timeout_disturb_nobody() {
    let mut node = Subject::with_log(3, &[1]);
    for _ in 0..100 {
        node.receive(2, heartbeat(1, 0));
        node.wait(100);
    }
    assert_eq!((node.state(), node.term()), (NodeState::Follower, 1));
}
