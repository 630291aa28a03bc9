//! §5.3: log replication, on both sides.

use amaters_cluster_core::message::Message;
use amaters_cluster_core::{Config, NodeState};

use crate::messages::{Place, alive, append, appended, conflict, heartbeat, id};
use crate::subject::Subject;

/// §5.3: a command becomes an entry of the leader's log, and goes to all followers in parallel.
#[test]
fn a_leader_sends_a_new_entry_to_all_at_once() {
    let mut node = leader_whose_peers_are_level(5);
    let reaction = node.propose("x=1");
    for peer in 2..=5 {
        let request = reaction.appends_to(peer)[0];
        assert_eq!((request.prev_log, request.leader_commit.0), (id((2, 2)), 2));
        assert_eq!(request.entries[0].payload().unwrap().as_ref(), b"x=1");
        assert_eq!(request.entries[0].id, id((3, 2)));
    }
}

/// §5.3, Leader Append-Only (figure 3): a leader's own log only grows.
#[test]
fn a_leader_never_overwrites_its_own_log() {
    let mut node = Subject::leader(3, &[1, 1]);
    let reaction = node.receive(2, append(2, (0, 0), &[2, 2, 2, 2], 4));
    assert_eq!((node.state(), node.log(), node.commit()), (NodeState::Leader, vec![1, 1, 2], 0));
    assert_eq!(reaction.sent, [], "a second leader of one term is not answered");
}

/// §5.3: a follower takes new entries only where its log holds the one before them. Otherwise it says what it has there (§5.3, end).
#[test]
fn the_consistency_check() {
    let cases: [(&[u64], Place, Message); 7] = [
        (&[], (0, 0), appended(4, 1)),
        (&[1, 2], (2, 2), appended(4, 3)),
        (&[1, 2], (1, 1), appended(4, 2)),
        (&[], (1, 1), conflict(4, 1, (0, 0), 1)),
        (&[1, 2, 2], (5, 3), conflict(4, 5, (3, 2), 2)),
        (&[1, 2, 2, 2], (3, 3), conflict(4, 3, (3, 2), 2)),
        (&[1, 1, 1], (1, 2), conflict(4, 1, (1, 1), 1)),
    ];
    for (log, prev, answer) in cases {
        let mut node = Subject::with_log(3, log);
        assert_eq!(node.receive(2, append(4, prev, &[4], 0)).sent, [(2, answer)], "log {log:?}, previous entry {prev:?}");
    }
}

/// §5.3, figure 7: whatever a follower's log lacks or has too much of, the leader's log takes its place.
#[test]
fn the_logs_of_figure_7_become_the_leaders() {
    let leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for log in followers {
        let mut node = Subject::with_log(7, log);
        let match_up_to = (0..=10).rev().find(|&index| node.node.log().contains(id(place(&leader, index)))).unwrap();
        node.receive(2, append(8, place(&leader, match_up_to), &leader[usize::try_from(match_up_to).unwrap()..], 0));
        node.receive(2, append(8, (10, 6), &[8], 0));
        assert_eq!(node.log(), [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8], "from {log:?}");
    }
}

/// Figure 2, AppendEntries, rules 3 and 4: a conflicting entry goes, with all behind it; what is missing is added.
#[test]
fn a_conflict_replaces_the_tail_from_there_on() {
    let cases: [(Place, &[u64], &[u64]); 4] = [
        ((3, 2), &[4], &[1, 2, 2, 4]),
        ((1, 1), &[2, 4], &[1, 2, 4]),
        ((1, 1), &[3], &[1, 3]),
        ((0, 0), &[1, 2, 2, 3, 4], &[1, 2, 2, 3, 4]),
    ];
    for (prev, terms, expected) in cases {
        let mut node = Subject::with_log(3, &[1, 2, 2, 3]);
        node.receive(2, append(4, prev, terms, 0));
        assert_eq!(node.log(), expected, "{terms:?} after {prev:?}");
        node.restart();
        assert_eq!(node.log(), expected, "on disk, {terms:?} after {prev:?}");
    }
}

/// Figure 2, AppendEntries, rule 3: *if* it conflicts. A request that comes late, or twice, removes nothing that came after it.
#[test]
fn h02_without_a_conflict_nothing_is_removed() {
    for (prev, terms) in [((0, 0), &[1_u64][..]), ((1, 1), &[2]), ((2, 2), &[]), ((0, 0), &[1, 2, 2])] {
        let mut node = Subject::with_log(3, &[1, 2, 2, 3]);
        let reaction = node.receive(2, append(3, prev, terms, 0));
        assert_eq!((node.log(), reaction.writes), (vec![1, 2, 2, 3], 0), "{terms:?} after {prev:?}");
    }
}

/// Figure 2: an answer speaks for the entries of its request: what the follower has beyond them may be another leader's.
#[test]
fn h01_an_acknowledgement_names_the_last_entry_of_its_request() {
    let mut node = Subject::with_log(3, &[1, 1, 2, 2]);
    assert_eq!(node.receive(2, append(3, (1, 1), &[1], 0)).sent, [(2, appended(3, 2))]);
    assert_eq!(node.receive(2, append(3, (0, 0), &[], 0)).sent, [(2, appended(3, 0))]);
}

/// Figure 2: entries are on disk before they are acknowledged.
#[test]
fn h14_an_acknowledgement_leaves_once_its_entries_are_durable() {
    let mut node = Subject::with_log(3, &[1]);
    node.receive(2, heartbeat(1, 0));
    node.disk_stalled = true;
    assert_eq!(node.receive(2, append(1, (1, 1), &[1, 1], 0)).sent, []);
    assert_eq!(node.receive(2, append(1, (0, 0), &[1, 1, 1], 0)).sent, [], "a repeated request is no shortcut");
    assert_eq!(node.receive(2, heartbeat(1, 0)).sent, [(2, alive(1, 0))], "a heartbeat speaks for no entries");
    assert_eq!(node.complete_disk().sent, [(2, appended(1, 3)), (2, appended(1, 3))]);
}

/// §5.3: a new leader expects each follower's log to end where its own does.
#[test]
fn a_new_leader_first_tries_the_end_of_its_log() {
    let mut node = Subject::candidate(3, &[1, 1, 3]);
    let reaction = node.receive(2, crate::messages::vote(4, true));
    assert_eq!(reaction.appends_to(2)[0].prev_log, id((3, 3)));
}

/// §5.3, end: a refusal lets the leader skip a whole conflicting term. Figure 7's followers (a, b, e, f) against its leader.
#[test]
fn one_request_a_conflicting_term_finds_where_the_logs_agree() {
    let leader_log = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let cases: [(&[u64], &[u64]); 4] = [
        (&[1, 1, 1, 4, 4, 5, 5, 6, 6], &[10, 9]),
        (&[1, 1, 1, 4], &[10, 4]),
        (&[1, 1, 1, 4, 4, 4, 4], &[10, 5]),
        (&[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3], &[10, 3]),
    ];
    for (follower_log, expected) in cases {
        let mut follower = Subject::with_log(3, follower_log);
        let mut leader = Subject::with_log(3, &leader_log);
        leader.receive(3, heartbeat(7, 0));
        let mut reaction = leader.win();
        let mut tried = Vec::new();
        while let Some(request) = reaction.appends_to(2).first() {
            tried.push(request.prev_log.index.0);
            let message = Message::AppendEntriesRequest((*request).clone());
            reaction = leader.receive(2, follower.receive(2, message).answer_to(2));
        }
        assert_eq!((&tried[..], follower.log()), (expected, leader.log()), "from {follower_log:?}");
    }
}

/// §5.3: an answer that comes late must not move `next_index` back below what the follower is known to hold.
#[test]
fn a_late_refusal_moves_nothing_back() {
    let mut node = leader_whose_peers_are_level(3);
    assert_eq!(node.receive(2, conflict(2, 1, (0, 0), 1)).appends_to(2).len(), 0);
    assert_eq!(node.propose("x=1").appends_to(2)[0].prev_log, id((2, 2)));
}

/// §10.2.1 and §10.2.2 of the dissertation: requests are pipelined, up to a window; an acknowledgement lets the next one go. Those that would leave
/// within half a millisecond of each other share one.
#[test]
fn requests_do_not_wait_for_answers_within_the_window() {
    let mut config = Config::new(1, vec![1, 2]);
    config.max_inflight = 2;
    let mut node = Subject::of(config, &[1]);
    node.win();
    node.receive(2, appended(2, 2));
    let sent: Vec<usize> = ["a", "b", "c", "d"]
        .map(|command| {
            node.wait(1);
            node.propose(command).appends_to(2).len()
        })
        .into();
    assert_eq!(sent, [1, 1, 0, 0]);
    let next = node.receive(2, appended(2, 3));
    assert_eq!(next.appends_to(2)[0].entries.len(), 2, "what has gathered goes in one request");
}

/// §10.2.1 of the dissertation: the leader writes to its disk in parallel with replicating.
#[test]
fn a_leader_sends_entries_before_they_are_durable_at_home() {
    let mut node = leader_whose_peers_are_level(3);
    node.disk_stalled = true;
    assert_eq!(node.propose("x=1").appends_to(2)[0].entries.len(), 1);
}

fn place(log: &[u64], index: u64) -> Place {
    (index, index.checked_sub(1).map_or(0, |position| log[usize::try_from(position).expect("a position in the log")]))
}

/// The leader of term 2, with the log \[1, 2\] everywhere.
fn leader_whose_peers_are_level(size: u64) -> Subject {
    let mut node = Subject::leader(size, &[1]);
    for peer in 2..=size {
        node.receive(peer, appended(2, 2));
    }
    node
}
