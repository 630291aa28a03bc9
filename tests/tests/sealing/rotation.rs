//! The key of a running cluster changes.

use amaters_cluster_core::message::{Envelope, HeartbeatRequest, Message, NamedKey};
use amaters_cluster_core::{GroupId, Input, Member, MembershipChange, Rejection, SessionChange, SessionId, SessionStamp};
use amaters_cluster_tests::cluster::{Outcome, key_of, ring_of};

use super::*;

fn rotate(cluster: &mut Cluster, version: KeyVersion) {
    give_to_all(cluster, version);
    let changed = cluster.rotate_key(NODE_1, version);
    cluster.run(SECOND);
    assert_eq!(cluster.outcome(changed), Some(Outcome::Done), "version {version}");
}

#[test]
fn all_nodes_change_at_one_entry_and_what_came_before_stays_readable() {
    let mut cluster = sealed(3);
    write(&mut cluster, &["one"]);
    rotate(&mut cluster, VERSION_2);
    write(&mut cluster, &["two"]);
    rotate(&mut cluster, VERSION_3);
    write(&mut cluster, &["three"]);
    for id in cluster.ids() {
        let log = entries(&cluster, id);
        let versions: Vec<_> = log.iter().filter_map(|entry| Some((entry.id.index.0, version_of(entry).or(entry.switch())?.0))).collect();
        assert_eq!(versions, [(2, 1), (3, 2), (4, 2), (5, 3), (6, 3)], "the changes are entries 3 and 5, at node {id}");
        assert_eq!(status(&cluster, id).version, VERSION_3);
    }
    for id in cluster.ids() {
        cluster.crash(id, 0);
        cluster.restart(id);
    }
    cluster.run(3 * SECOND);
    for id in cluster.ids() {
        assert_eq!(commands(&cluster, id), ["one", "two", "three"], "node {id} read all of it again");
    }
}

#[test]
pub(super) fn h52_what_earlier_keys_have_sealed_is_applied_after_a_restart() {
    all_nodes_change_at_one_entry_and_what_came_before_stays_readable();
}

#[test]
pub(super) fn a_change_waits_for_every_voter_to_hold_the_key() {
    let mut cluster = sealed(3);
    for id in [NODE_1, NODE_2] {
        cluster.give_key(id, VERSION_2);
        cluster.load_keys(id);
    }
    let changed = cluster.rotate_key(NODE_1, VERSION_2);
    cluster.take_events();
    cluster.run(SECOND);
    assert_eq!(cluster.outcome(changed), None, "node 3 lacks it");
    let events = cluster.take_events();
    assert!(events.iter().any(|event| matches!(event, Event::WantsKey(NODE_3, VERSION_2))), "and was told to look for it");
    assert_eq!(status(&cluster, NODE_1).version, VERSION_1);
    cluster.give_key(NODE_3, VERSION_2);
    cluster.run(SECOND);
    assert_eq!(cluster.outcome(changed), Some(Outcome::Done));
    write(&mut cluster, &["x"]);
    assert_eq!(entries(&cluster, NODE_3).last().and_then(version_of), Some(VERSION_2));
}

/// Somebody has made a new version on each machine, instead of one for all.
#[test]
pub(super) fn a_voter_that_has_another_key_of_that_version_keeps_the_old_one_in_use() {
    let mut cluster = sealed(3);
    let other = amaters_cluster_core::LogEncryptionKey::from_bytes(&[0x77; 32]).expect("a key");
    cluster.member_mut(NODE_3).keys.insert(VERSION_2, other).expect("new");
    for id in [NODE_1, NODE_2] {
        cluster.give_key(id, VERSION_2);
    }
    for id in cluster.ids() {
        cluster.load_keys(id);
    }
    let changed = cluster.rotate_key(NODE_1, VERSION_2);
    cluster.take_events();
    cluster.run(3 * SECOND);
    assert_eq!(cluster.outcome(changed), Some(Outcome::Rejected(Rejection::KeyNotHeld)), "what one seals the others could not read");
    let alarms = alarms(&mut cluster, NODE_3);
    assert!(alarms.iter().any(|line| line.contains("node 1 holds another key as version 2")), "{alarms:?}");
    write(&mut cluster, &["x"]);
    for id in cluster.ids() {
        assert_eq!((status(&cluster, id).version, commands(&cluster, id)), (VERSION_1, vec!["x".to_owned()]), "at node {id}");
    }
}

/// Asking a source of keys may cost a program's run: however many versions a peer names, it is asked once a second.
#[test]
fn a_source_of_keys_is_not_asked_more_often_for_more_versions() {
    let mut cluster = sealed(3);
    cluster.take_events();
    for step in 0..100 {
        let heartbeat = HeartbeatRequest {
            term: Term(1),
            session: 0,
            commit_index: LogIndex(1),
            round: 0,
            sent_at: None,
            failed: Vec::new(),
            doubtful: Vec::new(),
            key: Some(NamedKey { version: KeyVersion(70 + step % 2), fingerprint: key_of(VERSION_1).fingerprint() }),
        };
        let envelope = Envelope { group: GroupId(0), from: NODE_1, to: NODE_2, message: Message::HeartbeatRequest(heartbeat) };
        cluster.input(NODE_2, Input::Receive { sender: NODE_1, envelope: wire::encode_envelope(&envelope) });
        cluster.pass(NODE_2, Duration::from_millis(10));
        cluster.tick(NODE_2);
    }
    let asked = cluster.take_events().iter().filter(|event| matches!(event, Event::WantsKey(NODE_2, _))).count();
    assert!((1..=2).contains(&asked), "within a second: {asked}");
}

#[test]
fn a_change_that_a_voter_has_no_key_for_is_given_up_and_names_it() {
    let mut cluster = sealed(3);
    for id in [NODE_1, NODE_3] {
        cluster.give_key(id, VERSION_2);
        cluster.load_keys(id);
    }
    let changed = cluster.rotate_key(NODE_1, VERSION_2);
    cluster.take_events();
    cluster.run(3 * SECOND);
    assert_eq!(cluster.outcome(changed), Some(Outcome::Rejected(Rejection::KeyNotHeld)));
    assert!(
        alarms(&mut cluster, NODE_1).iter().any(|line| line.contains("node 2 did not say in time that it holds this key as version 2"))
    );
    write(&mut cluster, &["x"]);
    assert_eq!(entries(&cluster, NODE_2).last().and_then(version_of), Some(VERSION_1), "everything goes on as it was");
}

#[test]
fn only_the_leader_of_a_sealed_cluster_changes_to_a_later_version() {
    let mut cluster = sealed(3);
    rotate(&mut cluster, VERSION_2);
    let ask = |cluster: &mut Cluster, id, version| {
        let token = cluster.rotate_key(id, version);
        cluster.tick(id);
        cluster.outcome(token)
    };
    let refused = |reason| Some(Outcome::Rejected(reason));
    assert_eq!(ask(&mut cluster, NODE_1, VERSION_2), refused(Rejection::KeyVersionInUse));
    assert_eq!(ask(&mut cluster, NODE_1, VERSION_1), refused(Rejection::KeyVersionInUse));
    assert_eq!(ask(&mut cluster, NODE_2, VERSION_3), refused(Rejection::NotLeader));
    assert_eq!(ask(&mut cluster, NODE_1, VERSION_3), None, "it is asked about");
    assert_eq!(ask(&mut cluster, NODE_1, KeyVersion(4)), refused(Rejection::ChangeUnderWay));
    let mut plain = Cluster::new(1);
    plain.elect(NODE_1);
    assert_eq!(ask(&mut plain, NODE_1, VERSION_2), refused(Rejection::NotEncrypted));
}

#[test]
fn a_change_that_nobody_committed_is_undone_with_its_entry() {
    let mut cluster = sealed(3);
    write(&mut cluster, &["one"]);
    give_to_all(&mut cluster, VERSION_2);
    let changed = cluster.rotate_key(NODE_1, VERSION_2);
    for _ in 0..2 {
        cluster.tick_all(); // it asks, and they answer
        (0..cluster.pool().len()).for_each(|_| drop(cluster.deliver(0)));
    }
    cluster.isolate(NODE_1);
    cluster.tick(NODE_1);
    assert_eq!(status(&cluster, NODE_1).version, VERSION_2, "it stands in its log");
    cluster.elect(NODE_2);
    cluster.heal();
    cluster.run(SECOND);
    assert_eq!(cluster.outcome(changed), Some(Outcome::Rejected(Rejection::UnknownOutcome)));
    cluster.propose(NODE_2, "two");
    cluster.run(SECOND);
    for id in cluster.ids() {
        assert_eq!(status(&cluster, id).version, VERSION_1, "at node {id}");
        assert_eq!(entries(&cluster, id).last().and_then(version_of), Some(VERSION_1));
        assert_eq!(commands(&cluster, id), ["one", "two"]);
    }
}

/// A leader that its last change of the membership has left out goes on until that is committed, and counts itself in nothing; but it seals.
#[test]
fn a_leader_that_is_no_voter_changes_to_no_key_that_it_lacks() {
    let mut cluster = sealed(3);
    for id in [NODE_2, NODE_3] {
        cluster.give_key(id, VERSION_2);
        cluster.load_keys(id);
    }
    let changed = cluster.rotate_key(NODE_1, VERSION_2);
    cluster.run(Duration::from_millis(200)); // the others say that they hold it
    cluster.change(NODE_1, MembershipChange::Remove(NODE_1));
    cluster.tick(NODE_1);
    cluster.run(Duration::from_millis(100));
    cluster.run(3 * SECOND);
    assert!(matches!(cluster.outcome(changed), Some(Outcome::Rejected(_))), "{:?}", cluster.outcome(changed));
    assert!(cluster.leader().is_some_and(|leader| leader != NODE_1));
}

#[test]
fn commands_of_sessions_are_sealed_too_and_their_repetitions_answered_across_a_change() {
    let mut cluster = sealed(3);
    let opened = cluster.change_session(NODE_1, SessionChange::Open { timeout_ms: 60_000 });
    cluster.run(SECOND);
    let Some(Outcome::Replied(session)) = cluster.outcome(opened) else { panic!("a session is open") };
    let stamp = SessionStamp { session: SessionId(session.0), sequence: 1, acknowledged: 1 };
    let first = cluster.propose_in_session(NODE_2, stamp, "once");
    cluster.run(SECOND);
    rotate(&mut cluster, VERSION_2);
    let again = cluster.propose_in_session(NODE_3, stamp, "once");
    cluster.run(SECOND);
    let Some(Outcome::Applied(index)) = cluster.outcome(first) else { panic!("it is carried out") };
    assert_eq!(cluster.outcome(again), Some(Outcome::Replied(index)));
    let versions: Vec<_> = entries(&cluster, NODE_3).iter().filter_map(version_of).collect();
    assert_eq!((versions, commands(&cluster, NODE_3)), (vec![VERSION_1, VERSION_2], vec!["once".to_owned()]));
}

/// A cluster that keeps little: a snapshot after each ten entries, and nothing of the log before it on disk.
fn compacting() -> Cluster {
    let mut cluster = Cluster::sealed(3, |config| {
        config.snapshots.policy.entries = Some(10);
        config.snapshots.tail_entries = 1000; // in memory, all of it
        config.snapshots.keep = 1;
    });
    cluster.elect(NODE_1);
    cluster
}

#[test]
pub(super) fn a_version_is_retirable_once_the_disk_has_let_go_of_all_that_it_sealed_and_not_before() {
    let mut cluster = compacting();
    write(&mut cluster, &["one", "two", "three"]);
    rotate(&mut cluster, VERSION_2);
    write(&mut cluster, &["four"]);
    assert_eq!(status(&cluster, NODE_2).oldest_needed, VERSION_1, "the log on disk begins with what it sealed");

    // The snapshot is there, but the disk has yet to hear that the log begins behind it.
    cluster.member_mut(NODE_2).disk_stalled = true;
    write(&mut cluster, &["five", "six", "seven", "eight", "nine"]);
    let is_compaction = |operation: &Operation| matches!(operation, Operation::Compact { .. });
    assert!(cluster.member(NODE_2).disk.under_way().any(|(_, operations)| operations.iter().any(is_compaction)));
    assert_eq!(status(&cluster, NODE_2).oldest_needed, VERSION_1, "a crash would bring it back");
    cluster.member_mut(NODE_2).disk_stalled = false;
    write(&mut cluster, &["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"]);
    for id in cluster.ids() {
        assert_eq!(status(&cluster, id).oldest_needed, VERSION_2, "node {id}");
    }
}

/// Whatever a retired version has sealed is not asked for again: not by a restart, and not by who joins.
#[test]
fn a_cluster_lives_on_without_a_retired_version() {
    let mut cluster = compacting();
    write(&mut cluster, &["one", "two"]);
    rotate(&mut cluster, VERSION_2);
    write(&mut cluster, &["three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]);
    for id in cluster.ids() {
        assert_eq!(status(&cluster, id).oldest_needed, VERSION_2);
        cluster.member_mut(id).keys = ring_of([2]);
    }
    // With the journals as they were written: what is no longer needed has not been removed, and can't be read.
    for id in [NODE_2, NODE_3] {
        cluster.crash(id, 0);
        cluster.restart(id);
    }
    cluster.run(2 * SECOND);
    cluster.put_up_spare(NODE_4, NODE_1);
    cluster.member_mut(NODE_4).keys = ring_of([2]);
    cluster.crash(NODE_4, 0);
    cluster.restart(NODE_4);
    let leader = cluster.leader().expect("one leads");
    let added = cluster.change(leader, MembershipChange::AddVoter(Member { id: NODE_4, address: String::new() }));
    cluster.run(3 * SECOND);
    assert_eq!(cluster.outcome(added), Some(Outcome::Done));
    for id in cluster.ids() {
        assert_eq!(commands(&cluster, id).len(), 12, "node {id}");
    }
    assert_eq!(status(&cluster, NODE_4).missing, None);
}
