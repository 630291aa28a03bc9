//! Dissertation, §6.4.1: reads under a lease, without a round of messages.

use std::time::Duration;

use amaters_cluster_core::message::{HeartbeatRequest, HeartbeatResponse, Message, Promise, RequestVoteRequest, TimeoutNowRequest};
use amaters_cluster_core::{Config, Instant, KeyVersion, LogIndex, NodeState, Term, Token};

use crate::messages::{append, appended, id, pre_vote, request_pre_vote, request_vote, vote};
use crate::subject::{Reaction, Subject};

/// 150 ms, less the 10 % by which clocks may differ.
const LEASE_MS: u64 = 136;

/// §6.4.1: while a majority has promised, reads are served at once.
#[test]
fn a_leader_with_the_promises_of_a_majority_asks_nobody() {
    let (mut node, sent_at) = open_leader(5);
    node.receive(2, promise(sent_at, 150));
    let reaction = node.read(7);
    assert_eq!((reaction.served, reaction.sent.is_empty()), (vec![], false), "node 2 alone is no majority of five");
    assert_eq!(node.receive(3, promise(sent_at, 150)).served, [Token(7)], "no matter that it asked");
    let reaction = node.read(8);
    assert_eq!((&reaction.served[..], &reaction.sent[..]), (&[Token(8)][..], &[][..]));
}

/// §6.4.1: the lease counts from when the heartbeat left, and is shorter by what clocks may differ.
#[test]
fn a_lease_ends_before_the_promises_do() {
    for late in [0, 100] {
        let (mut node, sent_at) = open_leader(3);
        node.wait(late);
        node.receive(2, promise(sent_at, 150));
        node.wait(LEASE_MS - late);
        assert_eq!(node.read(7).served, [Token(7)], "answered after {late} ms");
        node.wait(1);
        assert_eq!(node.read(8).served, [], "answered after {late} ms");
    }
}

/// §6.4.1: the lease lasts as long as this follower's promise, whatever the leader would have promised.
#[test]
fn a_shorter_promise_makes_a_shorter_lease() {
    let (mut node, sent_at) = open_leader(3);
    node.receive(2, promise(sent_at, 11));
    node.wait(9);
    assert_eq!(node.read(7).served, [Token(7)]);
    node.wait(1);
    assert_eq!(node.read(8).served, []);
}

/// §6.4, step 1: a new leader must not answer before its no-op is committed, promises or not.
#[test]
fn h12_a_lease_serves_no_read_before_the_terms_no_op_is_committed() {
    let mut node = Subject::leader_of(leases(3), &[1]);
    let sent_at = sent_at(&node.wait(50));
    node.receive(2, promise(sent_at, 150));
    assert_eq!(node.read(7).served, []);
    assert_eq!(node.receive(2, appended(2, 2)).served, [Token(7)]);
}

/// §6.4.1, by §3.10: who tells another to stand can't count on promises, which that one's votes don't heed. Not even when nothing comes of it:
/// the message may arrive late.
#[test]
fn h12_a_leader_that_tells_its_successor_to_stand_has_no_lease_any_more() {
    let (mut node, sent_at) = open_leader(3);
    node.receive(2, promise(sent_at, 150));
    node.receive(2, appended(2, 2));
    assert_eq!(node.read(7).served, [Token(7)]);
    let reaction = node.transfer(8, 2);
    assert!(reaction.to(2).contains(&&Message::TimeoutNowRequest(TimeoutNowRequest { term: Term(2) })));
    let asked = node.read(9);
    assert_eq!(asked.served, []);
    let round = asked.heartbeats_to(2).last().map(|heartbeat| heartbeat.round).expect("it asks");
    let confirmed = Message::HeartbeatResponse(HeartbeatResponse {
        term: Term(2),
        session: 0,
        round,
        promise: None,
        repairing: false,
        key: KeyVersion::NONE,
        disk_full: false,
    });
    assert_eq!(node.receive(3, confirmed).served, [Token(9)], "a majority still proves it");
    for _ in 0..4 {
        node.wait(90);
        node.receive(3, promise(node.now(), 150));
    }
    assert_eq!((node.state(), node.read(10).served), (NodeState::Leader, vec![]));
}

/// §6.4.1: a follower that was asked to promises, and keeps it by not looking at who else wants to lead (§4.2.3).
#[test]
fn a_promise_is_kept() {
    let mut node = Subject::of(leases(3), &[1]);
    let answer = HeartbeatResponse {
        term: Term(1),
        session: 0,
        round: 0,
        promise: Some(Promise { since: Instant(77), lasts: Duration::from_millis(150) }),
        repairing: false,
        key: KeyVersion::NONE,
        disk_full: false,
    };
    assert_eq!(node.receive(2, heartbeat_at(1, Instant(77))).sent, [(2, Message::HeartbeatResponse(answer))]);
    node.wait(149);
    assert_eq!((node.receive(3, request_vote(2, (9, 1))).sent, node.term()), (vec![], 1));
    node.wait(1);
    assert!(node.receive(3, request_vote(2, (9, 1))).sent.contains(&(3, vote(2, true))));
}

/// §4.2.3: a vote that the leader itself wants is no breach.
#[test]
fn a_promise_does_not_keep_the_leader_from_handing_over() {
    let mut node = Subject::of(leases(3), &[1]);
    node.receive(2, heartbeat_at(1, Instant(77)));
    let request = RequestVoteRequest { term: Term(2), last_log: id((1, 1)), by_transfer: true };
    assert_eq!(node.receive(3, Message::RequestVoteRequest(request)).sent, [(3, vote(2, true))]);
}

/// §6.4.1: promises are not on disk, so a node that starts waits as if it had just made one.
#[test]
fn a_restart_is_no_way_out_of_a_promise() {
    let mut node = Subject::of(leases(3), &[1]);
    node.receive(2, heartbeat_at(1, Instant(77)));
    node.wait(100);
    node.restart();
    node.wait(149);
    assert_eq!(node.receive(3, request_vote(2, (1, 1))).sent, []);
    node.wait(1);
    assert!(node.receive(3, request_vote(2, (1, 1))).sent.contains(&(3, vote(2, true))));
}

/// §6.4.1: where leases are off, nobody asks for promises and nobody gives any.
#[test]
fn without_leases_there_are_no_promises() {
    let mut follower = Subject::with_log(3, &[1]);
    let answer =
        HeartbeatResponse { term: Term(1), session: 0, round: 0, promise: None, repairing: false, disk_full: false, key: KeyVersion::NONE };
    assert_eq!(follower.receive(2, heartbeat_at(1, Instant(77))).sent, [(2, Message::HeartbeatResponse(answer))]);
    assert_eq!(follower.receive(3, request_vote(2, (1, 1))).sent, [(3, vote(2, true))]);
    let mut leader = Subject::leader(3, &[1]);
    assert_eq!(leader.wait(50).heartbeats_to(2).last().expect("a heartbeat").sent_at, None);
    leader.receive(2, appended(2, 2));
    leader.receive(2, promise(leader.now(), 150));
    assert_eq!(leader.read(7).served, []);
}

/// §4.2.3: what is ignored under a promise is the vote alone. A later term that comes another way is learned, and the promise outlives that.
#[test]
fn a_promise_outlives_the_term_that_it_was_made_in() {
    let mut node = Subject::of(leases(3), &[1]);
    node.receive(2, heartbeat_at(1, Instant(77)));
    node.receive(2, append(2, (1, 1), &[], 0));
    assert_eq!(node.term(), 2);
    assert_eq!((node.receive(3, request_vote(3, (9, 2))).sent, node.term()), (vec![], 2));
    assert_eq!(node.receive(3, request_pre_vote(2, (9, 2))).sent, [(3, pre_vote(2, 3, false))]);
}

fn leases(size: u64) -> Config {
    Config { lease_reads: true, ..Config::new(1, (1..=size).collect::<Vec<u64>>()) }
}

/// The leader of term 2 whose no-op is committed, and when its last heartbeats left.
fn open_leader(size: u64) -> (Subject, Instant) {
    let mut node = Subject::leader_of(leases(size), &[1]);
    for peer in 3..=size {
        node.receive(peer, appended(2, 2));
    }
    let sent_at = sent_at(&node.wait(50));
    (node, sent_at)
}

fn sent_at(reaction: &Reaction) -> Instant {
    reaction.heartbeats_to(2).last().and_then(|heartbeat| heartbeat.sent_at).expect("a heartbeat that asks for a promise")
}

fn promise(since: Instant, lasts_ms: u64) -> Message {
    let promise = Some(Promise { since, lasts: Duration::from_millis(lasts_ms) });
    Message::HeartbeatResponse(HeartbeatResponse {
        term: Term(2),
        session: 0,
        round: 0,
        promise,
        repairing: false,
        disk_full: false,
        key: KeyVersion::NONE,
    })
}

fn heartbeat_at(term: u64, sent_at: Instant) -> Message {
    Message::HeartbeatRequest(HeartbeatRequest {
        term: Term(term),
        session: 0,
        commit_index: LogIndex(0),
        round: 0,
        sent_at: Some(sent_at),
        failed: Vec::new(),
        doubtful: Vec::new(),
        key: None,
    })
}
