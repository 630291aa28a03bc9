//! Two logs of the holders of one key that can't both be true: a node that comes upon that stops, and drops nothing.

use amaters_cluster_core::message::{Envelope, InstallSnapshotRequest, Message};
use amaters_cluster_core::{GroupId, Input};

use super::*;

/// Two clusters that were started alike, by mistake, with one key: a follower of the first, and what the leader of the second says to it.
fn two_logs_of_one_key(from: u64) -> (Cluster, Vec<Envelope>) {
    let mut ours = sealed(3);
    write(&mut ours, &["ours"]);
    let mut theirs = sealed(3);
    write(&mut theirs, &["theirs"]);
    assert_eq!(entries(&ours, NODE_2)[1].id, entries(&theirs, NODE_2)[1].id, "the same term and index");
    theirs.take_events();
    theirs.propose(NODE_1, "more");
    theirs.tick(NODE_1);
    let log = entries(&theirs, NODE_1);
    let mut said: Vec<_> = theirs.pool().iter().filter(|message| message.envelope.to == NODE_2).map(|it| (*it.envelope).clone()).collect();
    said.retain(|envelope| matches!(&envelope.message, Message::AppendEntriesRequest(request) if !request.entries.is_empty()));
    for envelope in &mut said {
        let Message::AppendEntriesRequest(request) = &mut envelope.message else { continue };
        // As it would be if the leader sent more of its log.
        let node = theirs.node(NODE_1).expect("it is up").log();
        let prev = log[usize::try_from(from).expect("small") - 2].id;
        request.prev_log = prev;
        request.entries.retain(|entry| entry.id.index.0 > 3);
        request.entries.splice(0..0, log.iter().filter(|entry| (from..=3).contains(&entry.id.index.0)).cloned());
        let last = node.point_at(LogIndex(3)).expect("it is sealed").link;
        request.chain = Some(amaters_cluster_core::ChainSpan { before: node.point_at(prev.index).expect("it is sealed"), last });
    }
    assert!(!said.is_empty());
    (ours, said)
}

#[test]
pub(super) fn a_follower_whose_chain_disagrees_at_the_same_place_stops_and_truncates_nothing() {
    for from in [2, 3] {
        let (mut cluster, said) = two_logs_of_one_key(from);
        let before = entries(&cluster, NODE_2);
        cluster.take_events();
        for envelope in &said {
            let input = Input::Receive { sender: NODE_1, envelope: wire::encode_envelope(envelope) };
            cluster.input(NODE_2, input);
            cluster.tick(NODE_2);
        }
        let alarms = alarms(&mut cluster, NODE_2);
        assert!(alarms.iter().any(|line| line.contains("node 1's log and this one's are not one log")), "{alarms:?}");
        assert_eq!(entries(&cluster, NODE_2), before, "nothing is dropped");
        // It does and says nothing else from then on: whoever led it commits by the others.
        cluster.propose(NODE_1, "without node 2");
        cluster.run(SECOND);
        assert_eq!(entries(&cluster, NODE_2), before);
        assert_eq!(commands(&cluster, NODE_3), ["ours", "without node 2"]);
        let events = cluster.take_events();
        assert!(events.iter().all(|event| !matches!(event, Event::Sent(envelope) if envelope.from == NODE_2)), "it is silent");
        assert!(events.iter().any(|event| matches!(event, Event::Diverged(NODE_2, _))), "and says so again and again");
        // Nothing of that is on its disk: it starts again from what it had.
        cluster.crash(NODE_2, 0);
        cluster.restart(NODE_2);
        cluster.run(SECOND);
        assert_eq!(commands(&cluster, NODE_2), ["ours", "without node 2"]);
    }
}

/// The snapshot is genuine, but of another history; and while it came, the log has got to the entry that it is named after.
#[test]
fn a_snapshot_that_comes_while_the_log_overtakes_it_and_disagrees_stops_the_node() {
    let taking = |command: &str| {
        let mut cluster = Cluster::sealed(3, |config| config.snapshots.policy.entries = Some(5));
        cluster.elect(NODE_1);
        cluster.isolate(NODE_3);
        write(&mut cluster, &[command, "2", "3", "4"]);
        cluster
    };
    let (mut ours, theirs) = (taking("ours"), taking("theirs"));
    let (snapshot, bytes) = theirs.member(NODE_2).vault.newest().expect("there is one");
    let data = bytes.to_vec().into();
    let request = InstallSnapshotRequest { term: Term(1), session: 1, snapshot, offset: 0, data, done: true };
    let envelope = Envelope { group: GroupId(0), from: NODE_1, to: NODE_3, message: Message::InstallSnapshotRequest(request) };
    ours.input(NODE_3, Input::Receive { sender: NODE_1, envelope: wire::encode_envelope(&envelope) });
    ours.tick(NODE_3);
    assert!(ours.member(NODE_3).vault.is_busy(), "it is being written");
    // Meanwhile its own leader has its say.
    let behind = |cluster: &Cluster| cluster.node(NODE_3).is_some_and(|node| node.log().commit_index() < snapshot.index);
    ours.heal();
    for _ in 0..100 {
        ours.advance(Duration::from_millis(10));
        ours.tick_all();
        for id in ours.ids() {
            ours.complete_all(id);
        }
        (0..ours.pool().len()).for_each(|_| drop(ours.deliver(0)));
    }
    assert!(!behind(&ours), "the log has overtaken it");
    let before = entries(&ours, NODE_3);
    ours.take_events();
    while ours.answer(NODE_3) {
        ours.tick(NODE_3);
    }
    ours.tick(NODE_3);
    let alarms = alarms(&mut ours, NODE_3);
    assert!(alarms.iter().any(|line| line.contains("and the log are not of one log")), "{alarms:?}");
    assert_eq!(entries(&ours, NODE_3), before, "nothing is dropped");
}
