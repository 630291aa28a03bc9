//! §5.3 and §5.4.2: what is committed, and what is applied.

use crate::messages::{append, appended, commit_notice, heartbeat};
use crate::subject::Subject;

/// §5.3: "A log entry is committed once the leader that created the entry has replicated it on a majority of the servers".
#[test]
fn an_entry_commits_at_a_majority() {
    for (size, needed) in [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)] {
        let mut node = Subject::leader(size, &[]);
        for peer in 2..=size {
            let got = peer - 2;
            assert_eq!(node.commit(), u64::from(got >= needed), "{got} copies besides its own, of {size} nodes");
            node.receive(peer, appended(1, 1));
        }
    }
}

/// §5.3: the leader is one of that majority only once its own copy is durable (dissertation, §10.2.1).
#[test]
fn the_leader_counts_its_own_copy_when_it_is_durable() {
    let mut node = Subject::leader(5, &[]);
    node.disk_stalled = true;
    node.propose("x=1");
    node.receive(2, appended(1, 2));
    node.receive(3, appended(1, 2));
    assert_eq!(node.commit(), 1);
    assert_eq!(node.complete_disk().applied, ["x=1"]);
}

/// Dissertation, §10.2.1: followers that are a majority commit an entry before the leader's own disk has it.
#[test]
fn a_majority_of_followers_commits_without_the_leaders_disk() {
    let mut node = Subject::leader(3, &[]);
    node.disk_stalled = true;
    node.propose("x=1");
    node.receive(2, appended(1, 2));
    assert_eq!(node.receive(3, appended(1, 2)).applied, ["x=1"]);
}

/// §5.3: each request tells the followers how far the leader has committed.
#[test]
fn the_commit_index_goes_to_the_followers() {
    let mut node = Subject::leader(3, &[]);
    let reaction = node.receive(2, appended(1, 1));
    assert_eq!(reaction.sent, [(2, commit_notice(1, 1))], "whoever holds the entry hears at once");
    assert_eq!(node.propose("x=1").appends_to(2)[0].leader_commit.0, 1);
    let lagging = node.wait(50);
    assert_eq!(lagging.heartbeats_to(3)[0].commit_index.0, 0, "a heartbeat speaks of entries that its receiver is known to hold");
}

/// Figure 2, AppendEntries, rule 5: "commitIndex = min(leaderCommit, index of last new entry)".
#[test]
fn a_follower_commits_up_to_the_last_entry_it_got() {
    for (prev, terms, leader_commit, expected) in [
        ((2, 1), &[1_u64][..], 2, 2),
        ((2, 1), &[1], 3, 3),
        ((2, 1), &[1], 9, 3),
        ((1, 1), &[], 4, 1),
        ((0, 0), &[1, 1], 4, 2),
        ((9, 1), &[], 4, 0),
    ] {
        let mut node = Subject::with_log(3, &[1, 1, 1, 1]);
        node.receive(2, append(1, prev, terms, leader_commit));
        assert_eq!(node.commit(), expected, "{terms:?} after {prev:?} with commit {leader_commit}");
    }
}

/// §5.3: a follower applies what is committed, in the order of the log.
#[test]
fn committed_entries_are_applied_once_and_in_order() {
    let mut node = Subject::with_log(3, &[1, 1, 1, 1]);
    assert_eq!(node.receive(2, append(1, (1, 1), &[1], 1)).applied, ["1@1"]);
    assert_eq!(node.receive(2, append(1, (1, 1), &[1], 1)).applied, [""; 0]);
    assert_eq!(node.receive(2, append(1, (4, 1), &[1], 4)).applied, ["2@1", "3@1", "4@1"]);
    assert_eq!(node.receive(2, append(1, (1, 1), &[1], 2)).applied, [""; 0], "a late request takes nothing back");
    assert_eq!(node.receive(2, heartbeat(1, 5)).applied, ["5@1"]);
    node.receive(2, append(1, (5, 1), &[1], 5));
    assert_eq!(node.receive(2, commit_notice(1, 6)).applied, ["6@1"]);
}

/// §5.3, State Machine Safety: an uncommitted entry is applied by nobody.
#[test]
fn nothing_is_applied_before_it_is_committed() {
    let mut node = Subject::leader(3, &[1, 1]);
    assert_eq!(node.propose("x=1").applied, [""; 0]);
    assert_eq!(node.receive(2, appended(2, 3)).applied, ["1@1", "2@1"]);
    assert_eq!(node.receive(2, appended(2, 4)).applied, ["x=1"]);
}

/// §5.3: committed entries are durable for good: a request that would replace one is refused, and nothing is acknowledged.
#[test]
fn a_committed_entry_is_never_replaced() {
    let mut node = Subject::with_log(3, &[1, 1]);
    node.receive(2, append(1, (2, 1), &[], 2));
    let reaction = node.receive(3, append(2, (1, 1), &[2], 0));
    assert_eq!((node.log(), reaction.sent), (vec![1, 1], vec![]));
}

/// §5.4.2: copies are counted for entries of the leader's own term alone.
#[test]
fn h03_entries_of_earlier_terms_are_not_committed_by_counting() {
    let mut node = Subject::leader(3, &[1, 2, 2]);
    for copies in 1..=3 {
        assert_eq!(node.receive(2, appended(3, copies)).applied, [""; 0]);
        assert_eq!(node.receive(3, appended(3, copies)).applied, [""; 0]);
    }
    assert_eq!(node.commit(), 0);
}

/// §5.4.2: an entry of the leader's own term, once committed, commits all before it.
#[test]
fn an_entry_of_the_own_term_commits_all_before_it() {
    let mut node = Subject::leader(3, &[1, 2, 2]);
    assert_eq!(node.receive(2, appended(3, 4)).applied, ["1@1", "2@2", "3@2"]);
    assert_eq!(node.commit(), 4);
}
