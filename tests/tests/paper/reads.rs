//! §8: client interaction, and the dissertation's §6.4: linearizable reads without the log.

use amaters_cluster_core::message::{Message, ReadIndexRequest, ReadIndexResponse};
use amaters_cluster_core::{EntryKind, LogIndex, NodeState, Term, Token};

use crate::messages::{alive, append, appended, heartbeat};
use crate::subject::{Reaction, Subject};

/// §8: each term opens with a no-op, whose commit shows the new leader what is committed.
#[test]
fn a_leader_opens_its_term_with_a_no_op() {
    let mut node = Subject::candidate(3, &[1]);
    let reaction = node.receive(2, crate::messages::vote(2, true));
    let request = reaction.appends_to(3)[0];
    assert_eq!((request.entries.len(), &request.entries[0].kind, request.entries[0].id.term), (1, &EntryKind::NoOp, Term(2)));
}

/// §8: until then the leader "may not know which [entries] are committed", and serves no reads.
#[test]
fn h12_a_new_leader_serves_no_read_before_its_no_op_is_committed() {
    let mut node = Subject::leader(3, &[1]);
    assert_eq!(round_of(&node.read(7)), None, "no round begins");
    node.receive(2, alive(2, 0));
    let reaction = node.receive(2, appended(2, 2));
    let round = round_of(&reaction).expect("now one begins");
    assert_eq!(node.receive(2, alive(2, round)).served, [Token(7)]);
}

/// §8: before it serves a read, a leader makes sure by a round of heartbeats that a majority still follows it.
#[test]
fn a_read_waits_for_a_majority_that_confirms_the_leader() {
    let mut node = open_leader(5);
    let asked = node.read(7);
    assert_eq!(asked.served, []);
    let round = round_of(&asked).expect("heartbeats leave at once");
    assert_eq!(node.receive(2, alive(2, round)).served, []);
    assert_eq!(node.receive(2, alive(2, round)).served, [], "the same node again");
    assert_eq!(node.receive(3, alive(2, round)).served, [Token(7)]);
}

/// §6.4, step 3: heartbeats that were under way before the read confirm nothing for it.
#[test]
fn answers_to_earlier_heartbeats_confirm_no_later_read() {
    let mut node = open_leader(3);
    let first = round_of(&node.read(7)).unwrap();
    node.read(8);
    let reaction = node.receive(2, alive(2, first));
    assert_eq!(reaction.served, [Token(7)], "the second read came after the round began");
    let second = round_of(&reaction).expect("it has its own");
    assert!(second > first);
    assert_eq!(node.receive(3, alive(2, first)).served, []);
    assert_eq!(node.receive(3, alive(2, second)).served, [Token(8)]);
}

/// §8: a leader that has been deposed serves nothing, and learns of it.
#[test]
fn a_deposed_leader_serves_no_read() {
    let mut node = open_leader(3);
    node.read(7);
    assert_eq!(node.receive(2, alive(3, 0)).served, []);
    assert_eq!(node.state(), NodeState::Follower);
    assert_eq!(node.receive(3, alive(2, 1)).served, []);
}

/// §6.4: "To serve a read-only query, the follower would issue a request to the leader that just asked for a current readIndex"; then it
/// waits until it has applied that much.
#[test]
fn a_follower_asks_the_leader_and_serves_what_it_has_applied_up_to_there() {
    let mut node = Subject::with_log(3, &[1, 1]);
    node.receive(2, append(1, (2, 1), &[], 1));
    let (to, request) = question(&node.read(7));
    assert_eq!(to, 2);
    let answer = ReadIndexResponse { term: Term(1), id: request.id, read_index: LogIndex(2) };
    assert_eq!(node.receive(2, Message::ReadIndexResponse(answer)).served, [], "entry 2 is not known to be committed here");
    let reaction = node.receive(2, heartbeat(1, 2));
    assert_eq!((&reaction.applied[..], &reaction.served[..]), (&["2@1".to_owned()][..], &[Token(7)][..]));
}

/// §6.4: the leader confirms itself after the follower's question before it answers, with the commit index of that moment.
#[test]
fn a_leader_answers_a_follower_once_it_is_confirmed() {
    let (_, request) = {
        let mut follower = Subject::with_log(3, &[2]);
        follower.receive(2, heartbeat(2, 0));
        question(&follower.read(7))
    };
    let mut node = open_leader(3);
    let reaction = node.receive(2, Message::ReadIndexRequest(request.clone()));
    let round = round_of(&reaction).unwrap();
    assert!(!reaction.to(2).iter().any(|message| matches!(message, Message::ReadIndexResponse(_))));
    let answer = ReadIndexResponse { term: Term(2), id: request.id, read_index: LogIndex(2) };
    assert_eq!(node.receive(3, alive(2, round)).to(2), [&Message::ReadIndexResponse(answer)]);
}

/// The leader of term 2 whose no-op is committed.
fn open_leader(size: u64) -> Subject {
    let mut node = Subject::leader(size, &[1]);
    for peer in 2..=size {
        node.receive(peer, appended(2, 2));
    }
    node
}

/// The round of reads that heartbeats carry, if one is under way.
fn round_of(reaction: &Reaction) -> Option<u64> {
    reaction.heartbeats_to(2).last().map(|heartbeat| heartbeat.round).filter(|round| *round > 0)
}

fn question(reaction: &Reaction) -> (u64, ReadIndexRequest) {
    let ask = |(to, message): &(u64, Message)| match message {
        Message::ReadIndexRequest(request) => Some((*to, request.clone())),
        _ => None,
    };
    reaction.sent.iter().find_map(ask).expect("a question for the leader")
}
