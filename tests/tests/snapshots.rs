//! Snapshots, the logs that they shorten, and nodes that come back from damage, as stories of a cluster; the rows of the list of hazards that are about them.

use std::time::Duration;

use amaters_cluster_core::message::{Envelope, InstallSnapshotRequest, Message};
use amaters_cluster_core::planted::Bug;
use amaters_cluster_core::types::GroupId;
use amaters_cluster_core::{
    Effect, EntryId, Input, LogIndex, Member, MembershipChange, Node, NodeId, NodeState, Rejection, SessionChange, SnapshotError,
    StoredSnapshot, Term, wire,
};
use amaters_cluster_tests::cluster::{Cluster, Event, Outcome};
use amaters_cluster_tests::planted::seen_to_fail;

const SECOND: Duration = Duration::from_secs(1);
const NODE_1: NodeId = NodeId(1);
const NODE_2: NodeId = NodeId(2);
const NODE_3: NodeId = NodeId(3);
const NODE_4: NodeId = NodeId(4);

/// A cluster that takes a snapshot after every ten entries, keeps one, and nothing of the log before it; led by node 1.
fn compacting(nodes: u64) -> Cluster {
    let mut cluster = Cluster::with(nodes, |config| {
        config.snapshots.policy.entries = Some(10);
        config.snapshots.tail_entries = 0;
        config.snapshots.keep = 1;
        config.snapshots.chunk_bytes = 1024;
    });
    cluster.elect(NODE_1);
    cluster
}

fn write(cluster: &mut Cluster, id: NodeId, count: usize) {
    for number in 0..count {
        cluster.propose(id, format!("{number}"));
        cluster.settle();
    }
}

fn base(cluster: &Cluster, id: NodeId) -> LogIndex {
    cluster.node(id).map(|node| node.log().base().index).unwrap_or_default()
}

fn applied(cluster: &Cluster, id: NodeId) -> Vec<LogIndex> {
    cluster.member(id).machine.iter().map(|committed| committed.index).collect()
}

#[test]
fn a_cluster_lives_in_bounded_space() {
    let mut cluster = compacting(3);
    write(&mut cluster, NODE_2, 200);
    for id in cluster.ids() {
        let node = cluster.node(id).expect("it is up");
        assert!(node.log().iter_from(LogIndex(1)).count() <= 20, "node {id} holds {:?} to {}", node.log().base(), node.log().last());
        assert_eq!(cluster.member(id).machine.len(), 200, "and has forgotten nothing at node {id}");
    }
}

#[test]
fn a_log_that_fills_its_memory_makes_room_for_itself() {
    let mut cluster = Cluster::with(3, |config| {
        config.max_command_bytes = 64 << 10;
        config.max_pending_bytes = 256 << 10;
        config.max_log_bytes = 256 << 10; // and the usual policy wants 64 MiB first, and a tail of 10,000 entries
    });
    cluster.elect(NODE_1);
    for _ in 0..40 {
        let token = cluster.propose(NODE_2, vec![b'x'; 32 << 10]);
        cluster.settle();
        assert!(matches!(cluster.outcome(token), Some(Outcome::Applied(_))), "{:?}", cluster.outcome(token));
        cluster.run(Duration::from_millis(200)); // a snapshot takes its time
    }
    assert!(cluster.node(NODE_1).expect("it is up").log().bytes() <= 256 << 10);
}

#[test]
fn h16_a_leader_that_has_compacted_everything_sends_a_snapshot() {
    let mut cluster = compacting(3);
    cluster.isolate(NODE_3);
    write(&mut cluster, NODE_1, 39);
    assert_eq!(base(&cluster, NODE_1), cluster.node(NODE_1).expect("it is up").log().last().index, "nothing is left of the log");
    cluster.heal();
    cluster.run(SECOND);
    assert_eq!(applied(&cluster, NODE_3), applied(&cluster, NODE_1));
    assert!(base(&cluster, NODE_3) > LogIndex(1), "it had no other way");
}

#[test]
fn h16_a_request_behind_a_snapshot_names_the_term_of_its_last_entry() {
    let mut cluster = compacting(3);
    write(&mut cluster, NODE_1, 39);
    let last = cluster.node(NODE_1).expect("it is up").log().last();
    assert_eq!(base(&cluster, NODE_1), last.index);
    cluster.crash(NODE_2, 0);
    cluster.restart(NODE_2);
    cluster.take_events();
    cluster.isolate(NODE_1);
    cluster.elect(NODE_2);
    let requests = cluster.take_events().into_iter().filter_map(|event| match event {
        Event::Sent(envelope) => Some(envelope),
        _ => None,
    });
    let first = requests.filter_map(|envelope| match &envelope.message {
        Message::AppendEntriesRequest(request) => Some(request.prev_log),
        _ => None,
    });
    assert!(first.clone().count() > 0);
    assert!(first.into_iter().all(|prev| !prev.term.is_none()), "nothing speaks of term 0, which no entry has");
}

#[test]
fn h17_the_members_come_with_the_snapshot() {
    let mut cluster = compacting(3);
    cluster.isolate(NODE_3);
    cluster.put_up_spare(NODE_4, NODE_1);
    let added = cluster.change(NODE_1, MembershipChange::AddVoter(Member { id: NODE_4, address: "four".to_owned() }));
    cluster.run(SECOND);
    assert_eq!(cluster.outcome(added), Some(Outcome::Done));
    write(&mut cluster, NODE_1, 40);
    cluster.heal();
    cluster.run(SECOND);
    assert!(base(&cluster, NODE_3) > LogIndex(20), "its log begins behind the change");
    for id in [NODE_3, NODE_4] {
        assert!(cluster.node(id).expect("it is up").configuration().is_voter(NODE_4), "node {id} knows of the new member");
    }
    cluster.crash(NODE_3, 0);
    cluster.restart(NODE_3);
    assert!(cluster.node(NODE_3).expect("it is up").configuration().is_voter(NODE_4), "after a restart, too");
    let (_, told) = cluster.member(NODE_3).told.clone();
    assert!(told.iter().any(|member| member.address == "four"), "and its host knows the way there");
}

/// A part of a snapshot as a leader of this term would send it.
fn part(from: NodeId, to: NodeId, term: Term, snapshot: EntryId, data: &[u8]) -> Input {
    let request = InstallSnapshotRequest { term, session: 1, snapshot, offset: 0, data: data.to_vec().into(), done: true };
    let envelope = Envelope { group: GroupId(0), from, to, message: Message::InstallSnapshotRequest(request) };
    Input::Receive { sender: from, envelope: wire::encode_envelope(&envelope) }
}

#[test]
fn h17_a_late_snapshot_wipes_no_committed_entries() {
    let mut cluster = compacting(3);
    write(&mut cluster, NODE_1, 10);
    let (id, bytes) = cluster.member(NODE_1).vault.newest().map(|(id, bytes)| (id, bytes.to_vec())).expect("there is one");
    write(&mut cluster, NODE_1, 5);
    let before = (applied(&cluster, NODE_2), cluster.node(NODE_2).expect("it is up").log().last());
    let term = cluster.node(NODE_1).expect("it is up").persistent_state().current_term;
    cluster.input(NODE_2, part(NODE_1, NODE_2, term, id, &bytes));
    cluster.settle();
    assert_eq!((applied(&cluster, NODE_2), cluster.node(NODE_2).expect("it is up").log().last()), before);
}

#[test]
fn h17_a_snapshot_that_contradicts_the_log_is_refused() {
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    write(&mut cluster, NODE_1, 5);
    let before = applied(&cluster, NODE_2);
    let foreign = EntryId { index: LogIndex(4), term: Term(9) };
    cluster.take_events();
    cluster.input(NODE_2, part(NODE_1, NODE_2, Term(9), foreign, b"whatever"));
    cluster.tick(NODE_2);
    let complained = cluster
        .take_events()
        .into_iter()
        .any(|event| matches!(event, Event::Noted(NODE_2, _, text) if text.contains("would replace the committed entry 4@1")));
    assert!(complained, "two logs have diverged, and it says so");
    assert_eq!(applied(&cluster, NODE_2), before);
}

#[test]
fn h18_a_snapshot_is_sent_once() {
    let mut cluster = compacting(3);
    cluster.isolate(NODE_3);
    write(&mut cluster, NODE_1, 40);
    cluster.heal();
    cluster.take_events();
    cluster.run(5 * SECOND);
    let sent = cluster.take_events().into_iter().filter(|event| {
        matches!(event, Event::Sent(envelope)
            if matches!(&envelope.message, Message::InstallSnapshotRequest(request) if request.done))
    });
    assert_eq!(sent.count(), 1, "its answer moves the leader on");
    let at_leader = cluster.node(NODE_1).expect("it is up").status(cluster.member(NODE_1).clock);
    let peer = at_leader.peers.iter().find(|peer| peer.id == NODE_3).expect("it is a member");
    assert_eq!(peer.match_index, at_leader.last_index);
}

#[test]
fn a_snapshot_that_is_interrupted_goes_on_where_it_was() {
    let mut cluster = compacting(3);
    cluster.isolate(NODE_3);
    for number in 0..39 {
        cluster.propose(NODE_1, format!("{number}{}", "x".repeat(500)));
        cluster.settle();
    }
    cluster.heal();
    cluster.advance(Duration::from_millis(50));
    let mut lost = 0;
    let mut offsets = Vec::new();
    for _ in 0..4000 {
        cluster.advance(Duration::from_millis(1));
        cluster.tick_all();
        for id in cluster.ids() {
            cluster.complete_all(id);
            while cluster.answer(id) {}
        }
        while let Some(first) = cluster.pool().first() {
            match &first.envelope.message {
                Message::InstallSnapshotRequest(request) if lost < 3 && request.offset > 5000 => {
                    lost += 1;
                    cluster.drop_message(0);
                    continue;
                }
                Message::InstallSnapshotRequest(request) => offsets.push(request.offset),
                _ => {}
            }
            cluster.deliver(0);
        }
    }
    assert_eq!((lost, applied(&cluster, NODE_3).len()), (3, 39));
    assert_eq!(offsets.iter().filter(|offset| **offset == 0).count(), 1, "nothing was sent from the start again: {offsets:?}");
}

#[test]
fn h37_a_restart_begins_with_the_snapshot_and_a_log_that_starts_after_it() {
    let mut cluster = compacting(3);
    let session = cluster.change_session(NODE_1, SessionChange::Open { timeout_ms: 60_000 });
    cluster.settle();
    assert!(matches!(cluster.outcome(session), Some(Outcome::Replied(_))));
    write(&mut cluster, NODE_1, 33);
    let before = applied(&cluster, NODE_1);
    for id in cluster.ids() {
        cluster.crash(id, 0);
    }
    for id in cluster.ids() {
        cluster.restart(id);
        assert!(base(&cluster, id) > LogIndex(1), "the log of node {id} starts after its snapshot");
        assert!(!cluster.node(id).expect("it is up").sessions().is_empty(), "sessions are in the snapshot");
    }
    cluster.run(2 * SECOND);
    for id in cluster.ids() {
        assert_eq!(applied(&cluster, id), before, "at node {id}");
    }
}

#[test]
fn h37_a_journal_that_starts_after_a_snapshot_that_is_missing_is_refused() {
    let mut cluster = compacting(1);
    write(&mut cluster, NODE_1, 33);
    cluster.crash(NODE_1, 0);
    let member = cluster.member(NODE_1);
    let mut node = Node::new(member.config.clone()).expect("the configuration is valid");
    for operation in member.disk.journal() {
        node.recover(operation.clone()).expect("each operation by itself is fine");
    }
    let error = node.start(member.clock).expect_err("nothing holds what came before").to_string();
    assert!(error.contains("no snapshot") && error.contains("are lost"), "{error}");
}

#[test]
fn h40_a_snapshot_that_was_damaged_on_the_way_is_not_installed() {
    let mut cluster = compacting(3);
    cluster.isolate(NODE_3);
    write(&mut cluster, NODE_1, 39);
    let (id, bytes) = cluster.member(NODE_1).vault.newest().map(|(id, bytes)| (id, bytes.to_vec())).expect("there is one");
    let term = cluster.node(NODE_1).expect("it is up").persistent_state().current_term;
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        cluster.input(NODE_3, part(NODE_1, NODE_3, term, id, &damaged));
        cluster.tick(NODE_3);
        while cluster.answer(NODE_3) {}
        cluster.tick(NODE_3);
    }
    assert_eq!(cluster.member(NODE_3).vault.newest(), None);
    assert!(applied(&cluster, NODE_3).is_empty());
}

#[test]
fn h40_a_leader_whose_snapshot_is_damaged_on_its_disk_takes_another() {
    let mut cluster = compacting(3);
    cluster.isolate(NODE_3);
    write(&mut cluster, NODE_1, 42);
    let (id, bytes) = cluster.member(NODE_1).vault.newest().map(|(id, bytes)| (id, bytes.len())).expect("there is one");
    cluster.member_mut(NODE_1).vault.flip(id, bytes * 4);
    cluster.heal();
    cluster.run(2 * SECOND);
    assert_eq!(applied(&cluster, NODE_3), applied(&cluster, NODE_1), "it came by a good one");
    assert!(cluster.member(NODE_1).vault.newest().is_some_and(|(newest, _)| newest > id));
}

#[test]
fn a_damaged_snapshot_is_refused_at_a_restart_and_the_one_before_it_does() {
    let mut cluster = Cluster::with(1, |config| {
        config.snapshots.policy.entries = Some(10);
        config.snapshots.tail_entries = 0;
    });
    cluster.elect(NODE_1);
    write(&mut cluster, NODE_1, 45);
    let before = applied(&cluster, NODE_1);
    let (newest, bytes) = cluster.member(NODE_1).vault.newest().map(|(id, bytes)| (id, bytes.to_vec())).expect("there is one");
    cluster.crash(NODE_1, 0);
    let mut node = Node::new(cluster.member(NODE_1).config.clone()).expect("the configuration is valid");
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    let refused = node.restore(&damaged, &mut Vec::<Effect>::new()).expect_err("it is damaged");
    assert!(matches!(refused, SnapshotError::Damaged { .. }), "{refused}");

    cluster.member_mut(NODE_1).vault.lose(newest);
    cluster.restart(NODE_1);
    cluster.run(SECOND);
    assert_eq!(applied(&cluster, NODE_1), before, "the log on disk goes back to the one before");
}

/// A node alone that has as many snapshots as it keeps.
fn keeping(count: usize) -> Cluster {
    let mut cluster = Cluster::with(1, |config| {
        config.snapshots.policy.entries = Some(10);
        config.snapshots.tail_entries = 0;
        config.snapshots.keep = count;
    });
    cluster.elect(NODE_1);
    write(&mut cluster, NODE_1, 45);
    assert_eq!(cluster.member(NODE_1).vault.stored().len(), count);
    cluster
}

fn restart(cluster: &mut Cluster) {
    cluster.crash(NODE_1, 0);
    cluster.restart(NODE_1);
    cluster.run(SECOND);
}

#[test]
fn a_restart_keeps_the_older_snapshot_and_falls_back_on_it_later() {
    let mut cluster = keeping(2);
    let (before, kept) = (applied(&cluster, NODE_1), cluster.member(NODE_1).vault.stored());
    restart(&mut cluster);
    assert_eq!(cluster.member(NODE_1).vault.stored(), kept, "no new one was taken, and both are there");

    let newest = kept[1];
    cluster.crash(NODE_1, 0);
    cluster.member_mut(NODE_1).vault.flip(newest.id, usize::try_from(newest.bytes).expect("it is small") * 4);
    cluster.restart(NODE_1);
    cluster.run(SECOND);
    assert_eq!(applied(&cluster, NODE_1), before, "the older one and the log behind it give the same");
    assert_eq!(cluster.member(NODE_1).vault.stored()[0], kept[0]);
}

#[test]
fn after_a_restart_one_new_snapshot_shortens_the_log_on_disk() {
    let mut cluster = keeping(3);
    let before = cluster.member(NODE_1).vault.stored();
    restart(&mut cluster);
    assert_eq!(cluster.member(NODE_1).disk.durable().base, before[0].id, "the log still goes back to the oldest");
    write(&mut cluster, NODE_1, 10);
    let after = cluster.member(NODE_1).vault.stored();
    assert_eq!((after.len(), &after[..2]), (3, &before[1..]), "one was taken since");
    assert_eq!(cluster.member(NODE_1).disk.durable().base, before[1].id);
}

#[test]
fn members_that_changed_between_two_snapshots_are_those_of_the_newer_one_after_a_restart() {
    let mut cluster = keeping(2);
    cluster.put_up_spare(NODE_2, NODE_1);
    let added = cluster.change(NODE_1, MembershipChange::AddLearner(Member { id: NODE_2, address: "two".to_owned() }));
    cluster.run(SECOND);
    assert_eq!(cluster.outcome(added), Some(Outcome::Done));
    let version = cluster.node(NODE_1).expect("it is up").configuration().version();
    write(&mut cluster, NODE_1, 10);
    let kept = cluster.member(NODE_1).vault.stored();
    assert!(kept[0].id.index < version && version < kept[1].id.index, "the change is between {kept:?}");
    restart(&mut cluster);
    assert_eq!(cluster.member(NODE_1).vault.stored(), kept);
    assert_eq!(cluster.node(NODE_1).expect("it is up").configuration().version(), version);
}

#[test]
fn a_start_makes_up_for_a_shortening_of_the_log_that_a_crash_prevented() {
    let mut cluster = keeping(2);
    while cluster.member(NODE_1).vault.stored()[0].id == cluster.member(NODE_1).disk.durable().base {
        cluster.propose(NODE_1, "x");
        cluster.tick(NODE_1);
        cluster.complete_all(NODE_1);
        cluster.tick(NODE_1);
        while cluster.answer(NODE_1) {
            cluster.tick(NODE_1);
        }
    }
    let oldest = cluster.member(NODE_1).vault.stored()[0].id;
    restart(&mut cluster);
    assert_eq!(cluster.member(NODE_1).disk.durable().base, oldest);
}

#[test]
fn snapshots_that_the_log_does_not_go_back_to_are_forgotten_at_a_start() {
    let mut cluster = keeping(2);
    cluster.crash(NODE_1, 0);
    let member = cluster.member(NODE_1);
    let (kept, (_, newest)) = (member.vault.stored(), member.vault.newest().expect("there is one"));
    let named = |index: u64| StoredSnapshot { id: EntryId { index: LogIndex(index), term: Term(1) }, bytes: 1 };
    let after = kept[1].id.index.next().0;
    let retained = |others: &[StoredSnapshot]| {
        let (mut node, mut effects) = (Node::new(member.config.clone()).expect("the configuration is valid"), Vec::new());
        node.restore(newest, &mut effects).expect("it is whole");
        node.remember(others);
        member.disk.journal().iter().for_each(|operation| node.recover(operation.clone()).expect("it is whole"));
        node.start(member.clock).expect("nothing is missing");
        node.step(member.clock, Input::Tick, &mut effects);
        let retained = effects.into_iter().find_map(|effect| match effect {
            Effect::RetainSnapshots { ids } => Some(ids),
            _ => None,
        });
        retained.expect("storage hears what is of use")
    };
    let both = [kept[0].id, kept[1].id];
    assert_eq!(retained(&[]), both[1..], "whoever names none has none");
    assert_eq!(retained(&[kept[0]]), both);
    assert_eq!(retained(&[named(1), kept[0], kept[1], named(2), named(after)]), both, "in any order, with the restored one or without");
    assert_eq!(retained(&[named(1), named(2)]), both[1..], "from these there is no way on");
}

#[test]
fn h39_a_node_that_lost_its_log_helps_nobody_to_lead_who_lacks_what_it_had() {
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    cluster.isolate(NODE_3);
    write(&mut cluster, NODE_1, 3); // nodes 1 and 2 have these, and clients were told
    cluster.crash(NODE_2, 0);
    cluster.damage(NODE_2, false);
    cluster.restart(NODE_2);
    cluster.crash(NODE_1, 0);
    cluster.heal();
    cluster.run(5 * SECOND);
    assert_eq!(cluster.leader(), None, "nodes 2 and 3 would be a majority that remembers nothing");

    cluster.restart(NODE_1);
    cluster.run(5 * SECOND);
    assert_eq!(cluster.leader(), Some(NODE_1));
    for id in cluster.ids() {
        assert_eq!(applied(&cluster, id).len(), 3, "node {id} has what was acknowledged");
        assert!(!cluster.node(id).expect("it is up").is_repairing());
    }
    cluster.crash(NODE_1, 0);
    cluster.run(5 * SECOND);
    assert!(cluster.leader().is_some(), "node 2 votes again");
}

#[test]
fn h39_an_acknowledgement_from_before_the_damage_commits_nothing_after_it() {
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    cluster.isolate(NODE_3);
    cluster.propose(NODE_1, "x");
    cluster.tick(NODE_1);
    while !cluster.pool().is_empty() {
        cluster.deliver(0);
    }
    cluster.tick(NODE_2);
    cluster.complete_all(NODE_2);
    cluster.tick(NODE_2); // the acknowledgement is under way, and node 1's own disk is slow
    let late = cluster.pool().iter().position(|message| matches!(message.envelope.message, Message::AppendEntriesResponse(_)));
    let late = cluster.drop_message(late.expect("node 2 acknowledges x"));
    cluster.crash(NODE_2, 0);
    cluster.damage(NODE_2, false);
    cluster.restart(NODE_2);
    cluster.member_mut(NODE_1).disk_stalled = true;
    let committed = cluster.node(NODE_1).expect("it is up").log().commit_index();
    // Node 2's question comes first.
    for _ in 0..20 {
        cluster.advance(Duration::from_millis(10));
        cluster.settle();
    }
    cluster.input(NODE_1, Input::Receive { sender: NODE_2, envelope: wire::encode_envelope(&late) });
    cluster.tick(NODE_1);
    assert_eq!(cluster.node(NODE_1).expect("it is up").log().commit_index(), committed, "it speaks of a life that is over");
}

#[test]
fn an_operator_takes_a_snapshot_and_another_waits_its_turn() {
    let mut cluster = Cluster::new(1);
    cluster.elect(NODE_1);
    write(&mut cluster, NODE_1, 3);
    let wanted = cluster.take_snapshot(NODE_1);
    cluster.tick(NODE_1);
    let too_soon = cluster.take_snapshot(NODE_1);
    cluster.settle();
    assert_eq!(cluster.outcome(wanted), Some(Outcome::Done));
    assert_eq!(cluster.outcome(too_soon), Some(Outcome::Rejected(Rejection::SnapshotUnderWay)));
    assert_eq!(cluster.member(NODE_1).vault.newest().map(|(id, _)| id), cluster.node(NODE_1).map(|node| node.log().last()));
    let again = cluster.take_snapshot(NODE_1);
    cluster.settle();
    assert_eq!(cluster.outcome(again), Some(Outcome::Done), "there is one of everything already");
}

#[test]
fn a_follower_without_room_for_a_snapshot_gets_it_when_there_is() {
    let mut cluster = compacting(3);
    cluster.isolate(NODE_3);
    write(&mut cluster, NODE_1, 39);
    cluster.heal();
    cluster.advance(Duration::from_millis(60));
    let mut failed = 0;
    for _ in 0..1200 {
        cluster.advance(Duration::from_millis(10));
        cluster.tick_all();
        for id in cluster.ids() {
            cluster.complete_all(id);
            if id == NODE_3 && failed < 2 && cluster.member_mut(id).vault.fail_next_write() {
                failed += 1;
            }
            while cluster.answer(id) {}
        }
        for _ in 0..cluster.pool().len() {
            cluster.deliver(0);
        }
    }
    assert_eq!((failed, applied(&cluster, NODE_3).len()), (2, 39));
    assert_eq!(cluster.node(NODE_3).map(|node| node.state()), Some(NodeState::Follower));
}

#[test]
fn h16_a_compacted_leader_that_sends_nothing_is_found() {
    seen_to_fail(Bug::CompactedSendsNothing, "assertion", h16_a_leader_that_has_compacted_everything_sends_a_snapshot);
}

#[test]
fn h16_a_request_that_speaks_of_term_0_is_found() {
    seen_to_fail(Bug::ForgetBaseTerm, "assertion", h16_a_request_behind_a_snapshot_names_the_term_of_its_last_entry);
}

#[test]
fn h17_a_snapshot_without_members_is_found() {
    seen_to_fail(Bug::MembersNotInSnapshot, "knows of the new member", h17_the_members_come_with_the_snapshot);
}

#[test]
fn h17_a_late_snapshot_that_counts_is_found() {
    seen_to_fail(Bug::LateSnapshotCounts, "", h17_a_late_snapshot_wipes_no_committed_entries);
    seen_to_fail(Bug::LateSnapshotCounts, "two logs have diverged", h17_a_snapshot_that_contradicts_the_log_is_refused);
}

#[test]
fn h18_a_snapshot_that_is_sent_for_ever_is_found() {
    seen_to_fail(Bug::InstalledMovesNothing, "moves the leader on", h18_a_snapshot_is_sent_once);
}

#[test]
fn h39_a_damaged_node_that_votes_is_found() {
    let test = h39_a_node_that_lost_its_log_helps_nobody_to_lead_who_lacks_what_it_had;
    seen_to_fail(Bug::DamagedVotes, "would be a majority that remembers nothing", test);
}
