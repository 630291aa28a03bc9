//! Snapshots of a sealed cluster.

use amaters_cluster_core::message::{Envelope, InstallSnapshotRequest, Message};
use amaters_cluster_core::{GroupId, Input, JournalError, Member, MembershipChange, SnapshotError};
use amaters_cluster_tests::cluster::{Outcome, lacking, ring_of};

use super::*;

/// A cluster that takes a snapshot after every ten entries, keeps so many, and nothing of the log before the oldest.
fn compacting(keep: usize) -> Cluster {
    let mut cluster = Cluster::sealed(3, |config| {
        config.snapshots.policy.entries = Some(10);
        config.snapshots.tail_entries = 0;
        config.snapshots.keep = keep;
        config.snapshots.chunk_bytes = 1024;
    });
    cluster.elect(NODE_1);
    cluster
}

fn write_many(cluster: &mut Cluster, count: usize) {
    for number in 0..count {
        cluster.propose(NODE_1, format!("{number}"));
        cluster.settle();
    }
    cluster.run(Duration::from_millis(200));
}

#[test]
fn a_restart_begins_with_a_sealed_snapshot_and_goes_on_with_the_log() {
    let mut cluster = compacting(1);
    write_many(&mut cluster, 25);
    let (before, head) = (commands(&cluster, NODE_2), status(&cluster, NODE_2).head);
    assert!(cluster.node(NODE_2).expect("it is up").log().base().index > LogIndex(10));
    cluster.crash(NODE_2, 0);
    cluster.restart(NODE_2);
    assert_eq!(status(&cluster, NODE_2).head, head, "the chain goes on from where the snapshot says");
    cluster.run(SECOND);
    assert_eq!(commands(&cluster, NODE_2), before);
}

#[test]
fn a_follower_that_lacks_much_gets_a_sealed_snapshot_and_chains_on_behind_it() {
    let mut cluster = compacting(1);
    cluster.isolate(NODE_3);
    write_many(&mut cluster, 39);
    cluster.heal();
    cluster.run(2 * SECOND);
    write_many(&mut cluster, 3);
    assert_eq!(commands(&cluster, NODE_3), commands(&cluster, NODE_1));
    assert_eq!(status(&cluster, NODE_3).head, status(&cluster, NODE_1).head);
}

#[test]
fn a_snapshot_without_its_key_is_named_and_not_put_aside_as_damaged() {
    let mut cluster = compacting(1);
    give_to_all(&mut cluster, VERSION_2);
    let changed = cluster.rotate_key(NODE_1, VERSION_2);
    cluster.run(SECOND);
    assert_eq!(cluster.outcome(changed), Some(Outcome::Done));
    write_many(&mut cluster, 25);
    cluster.crash(NODE_2, 0);
    let stored = cluster.member(NODE_2).vault.stored();
    cluster.member_mut(NODE_2).keys = ring_of([1]);
    let error = cluster.try_restart(NODE_2).expect_err("it lacks the key");
    assert!(matches!(error, JournalError::Snapshot(SnapshotError::MissingKey(_))) && lacking(&error) == Some(VERSION_2), "{error:?}");
    assert_eq!(cluster.member(NODE_2).vault.stored(), stored);
    cluster.member_mut(NODE_2).keys = ring_of([2]);
    cluster.restart(NODE_2);
    cluster.run(SECOND);
    assert_eq!(commands(&cluster, NODE_2), commands(&cluster, NODE_1));
}

/// Whoever has found an old key can still seal snapshots with it: they take nobody's state.
#[test]
fn a_snapshot_of_an_earlier_key_than_the_one_in_use_is_refused() {
    let mut old = compacting(1);
    write_many(&mut old, 40);
    let (forged, bytes) = old.member(NODE_1).vault.newest().map(|(id, bytes)| (id, bytes.to_vec())).expect("there is one");

    let mut cluster = sealed(3);
    give_to_all(&mut cluster, VERSION_2);
    let changed = cluster.rotate_key(NODE_1, VERSION_2);
    cluster.run(SECOND);
    assert_eq!(cluster.outcome(changed), Some(Outcome::Done));
    write(&mut cluster, &["genuine"]);
    assert!(forged.index > entries(&cluster, NODE_2).last().expect("some").id.index, "it would replace all");
    cluster.take_events();
    let request = InstallSnapshotRequest { term: Term(1), session: 0, snapshot: forged, offset: 0, data: bytes.into(), done: true };
    let envelope = Envelope { group: GroupId(0), from: NODE_1, to: NODE_2, message: Message::InstallSnapshotRequest(request) };
    cluster.input(NODE_2, Input::Receive { sender: NODE_1, envelope: wire::encode_envelope(&envelope) });
    cluster.run(SECOND);
    let alarms = alarms(&mut cluster, NODE_2);
    assert!(alarms.iter().any(|line| line.contains("of version 1 of the key, expected 2")), "{alarms:?}");
    assert_eq!((commands(&cluster, NODE_2), status(&cluster, NODE_2).version), (vec!["genuine".to_owned()], VERSION_2));
}

/// Else the leader would send it again and again, as fast as the network goes.
#[test]
fn a_node_that_lacks_a_snapshots_key_lets_it_come_again_only_after_a_while() {
    let mut cluster = compacting(1);
    give_to_all(&mut cluster, VERSION_2);
    let changed = cluster.rotate_key(NODE_1, VERSION_2);
    cluster.run(SECOND);
    assert_eq!(cluster.outcome(changed), Some(Outcome::Done));
    cluster.put_up_spare(NODE_4, NODE_1);
    cluster.member_mut(NODE_4).keys = ring_of([1]);
    cluster.crash(NODE_4, 0);
    cluster.restart(NODE_4);
    write_many(&mut cluster, 40);
    cluster.take_events();
    cluster.change(NODE_1, MembershipChange::AddLearner(Member { id: NODE_4, address: "four".to_owned() }));
    cluster.run(4 * SECOND);
    let parts = |cluster: &mut Cluster| {
        let sent = cluster.take_events().into_iter().filter(|event| {
            matches!(event, Event::Sent(envelope) if envelope.to == NODE_4 && matches!(envelope.message, Message::InstallSnapshotRequest(_)))
        });
        sent.count()
    };
    let came = parts(&mut cluster);
    assert!((1..60).contains(&came), "in four seconds: {came}");
    cluster.give_key(NODE_4, VERSION_2);
    cluster.run(3 * SECOND);
    assert_eq!(commands(&cluster, NODE_4), commands(&cluster, NODE_1), "with the key it need not wait");
}

/// A snapshot says where the chain stands behind it, but one that was not read says nothing: the journal leads through it.
#[test]
fn an_older_snapshot_that_is_kept_gets_its_place_in_the_chain_from_the_journal() {
    let mut cluster = compacting(3);
    write_many(&mut cluster, 45);
    cluster.crash(NODE_2, 0);
    let stored = cluster.member(NODE_2).vault.stored();
    assert_eq!(stored.len(), 3);
    cluster.restart(NODE_2);
    // The log on disk is to begin behind the oldest that is kept beside the next one: that was not read.
    write_many(&mut cluster, 12);
    cluster.crash(NODE_2, 0);
    let newest = cluster.member(NODE_2).vault.newest().map(|(id, _)| id).expect("there is one");
    assert!(newest > stored[2].id);
    cluster.member_mut(NODE_2).vault.flip(newest, 700);
    cluster.restart(NODE_2);
    cluster.run(SECOND);
    assert_eq!(commands(&cluster, NODE_2), commands(&cluster, NODE_1), "it started from the one before");
    write_many(&mut cluster, 12);
    cluster.crash(NODE_2, 0);
    cluster.restart(NODE_2);
    cluster.run(SECOND);
    assert_eq!(status(&cluster, NODE_2).head, status(&cluster, NODE_1).head, "and what it wrote since holds together");
}

/// Both are genuine; they are not of one history.
#[test]
fn a_snapshot_of_another_history_and_the_log_are_not_joined() {
    let (mut ours, mut theirs) = (compacting(1), compacting(1));
    ours.propose(NODE_1, "ours");
    theirs.propose(NODE_1, "theirs");
    for cluster in [&mut ours, &mut theirs] {
        write_many(cluster, 12);
        cluster.crash(NODE_2, 0);
    }
    let name = |cluster: &Cluster| cluster.member(NODE_2).vault.newest().map(|(id, _)| id);
    assert_eq!(name(&ours), name(&theirs), "they have one name");
    std::mem::swap(&mut ours.member_mut(NODE_2).vault, &mut theirs.member_mut(NODE_2).vault);
    let error = ours.try_restart(NODE_2).expect_err("they don't fit");
    assert!(matches!(error, JournalError::Chain(_)), "{error:?}");
}

/// Storage drops what a snapshot stands for, and the log begins anywhere before it: on trust, until it comes to where the snapshot vouches for the chain.
#[test]
fn a_journal_without_its_beginning_is_as_good_and_its_first_link_is_checked_by_the_snapshot() {
    let mut cluster = compacting(1);
    write_many(&mut cluster, 25);
    let head = status(&cluster, NODE_2).head;
    cluster.crash(NODE_2, 0);
    let whole = cluster.member(NODE_2).disk.journal().to_vec();
    let base = cluster.member(NODE_2).disk.durable().base.index;
    let compaction = whole.iter().rposition(|operation| matches!(operation, Operation::Compact { .. })).expect("it was told so");
    assert!(compaction > 10 && base > LogIndex(10), "there is much to drop");
    let state = wire::hard_state_operation(&cluster.member(NODE_2).disk.durable().state); // which stays
    let left = |rest: &[Operation]| {
        let rest = rest.iter().filter(|operation| !matches!(operation, Operation::HardState(_))).cloned();
        [state.clone()].into_iter().chain(rest).collect::<Vec<_>>()
    };
    for dropped in 0..=compaction {
        cluster.member_mut(NODE_2).disk.tamper(|journal| *journal = left(&whole[dropped..]));
        cluster.restart(NODE_2);
        assert_eq!(status(&cluster, NODE_2).head, head, "without the first {dropped} operations");
        cluster.crash(NODE_2, 0);
    }
    // A record that is left says itself from which link it goes on: somebody who wants it to follow another history can change that.
    let appends = (compaction - 4..whole.len()).filter(|at| matches!(whole[*at], Operation::Append { .. }));
    for at in appends {
        let mut forged = whole.clone();
        let Operation::Append { entries, .. } = &mut forged[at] else { panic!("it holds entries") };
        entries[10] ^= 1; // within the link, behind the format's version
        cluster.member_mut(NODE_2).disk.tamper(|journal| *journal = left(&forged[at.min(compaction)..]));
        cluster.try_restart(NODE_2).expect_err("the link before its first entry is another");
    }
}
