//! §5.4.2, figure 8, played through: why a leader can't conclude that an entry of an earlier term is committed once a majority holds it.

use amaters_cluster_core::{Config, NodeState};

use crate::messages::{append, appended, request_vote, vote};
use crate::subject::Subject;

/// Figure 8, (a) to (d): S1's entry of term 2 is on a majority and yet replaced, and nobody had applied it.
#[test]
fn an_entry_of_an_earlier_term_on_a_majority_may_still_be_replaced() {
    let (mut s1, mut s2, mut s3) = c();
    assert_eq!([s1.log(), s2.log(), s3.log()], [vec![1, 2, 4], vec![1, 2], vec![1, 2]], "(c): on S1, S2 and S3");
    assert_eq!(s1.commit(), 0, "by counting, it would be committed now");

    // (d) S5 is elected by S2, S3 and S4, since its last entry is of term 3; and replaces the entry of term 2.
    for node in [&mut s2, &mut s3] {
        assert_eq!(node.receive(5, request_vote(5, (2, 3))).sent, [(5, vote(5, true))]);
    }
    for node in [&mut s1, &mut s2, &mut s3] {
        let reaction = node.receive(5, append(5, (1, 1), &[3, 5], 3));
        assert_eq!((node.log(), reaction.applied), (vec![1, 3, 5], vec!["1@1".to_owned(), "2@3".to_owned(), "3@5".to_owned()]));
    }
}

/// Figure 8, (e): with an entry of its own term on a majority, S1 commits both, and S5 can't win.
#[test]
fn an_entry_of_the_own_term_on_a_majority_can_not() {
    let (mut s1, mut s2, mut s3) = c();
    for (peer, node) in [(2, &mut s2), (3, &mut s3)] {
        let answer = node.receive(1, append(4, (2, 2), &[4], 0)).answer_to(1);
        assert_eq!(answer, appended(4, 3));
        s1.receive(peer, answer);
    }
    assert_eq!(s1.commit(), 3);
    for node in [&mut s2, &mut s3] {
        assert_eq!(node.receive(5, request_vote(5, (2, 3))).sent, [(5, vote(5, false))]);
    }
}

/// S1, S2 and S3 after (c): S1 leads term 4, and has given its entry of term 2 to S2 and S3, but not yet that of term 4.
fn c() -> (Subject, Subject, Subject) {
    // (a) S1 leads term 2 and has replicated its entry to S2. (b) S1 crashes; S3 votes for S5 in term 3. S5 crashes.
    let mut s3 = server(3, &[1]);
    s3.receive(5, request_vote(3, (1, 1)));
    let mut s1 = server(1, &[1, 2]);
    let mut s2 = server(2, &[1, 2]);

    // (c) S1 restarts, hears of term 3, and is elected in term 4 by S2 and S3.
    s1.receive(3, vote(3, false));
    s1.stand();
    for (peer, node) in [(2, &mut s2), (3, &mut s3)] {
        let answer = node.receive(1, request_vote(4, (2, 2))).answer_to(1);
        s1.receive(peer, answer);
    }
    assert_eq!((s1.state(), s1.term()), (NodeState::Leader, 4));

    // Both get the entry of term 2, and not yet that of term 4.
    for (peer, node) in [(2, &mut s2), (3, &mut s3)] {
        let answer = node.receive(1, append(4, (1, 1), &[2], 0)).answer_to(1);
        assert_eq!(answer, appended(4, 2));
        s1.receive(peer, answer);
    }
    (s1, s2, s3)
}

fn server(id: u64, log: &[u64]) -> Subject {
    Subject::of(Config::new(id, vec![1, 2, 3, 4, 5]), log)
}
