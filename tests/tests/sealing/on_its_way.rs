//! Somebody without a key changes what nodes send to each other.

use amaters_cluster_core::message::{AppendEntriesRequest, Envelope, Message};
use amaters_cluster_core::{Effect, EntryKind, GroupId, Input, Node};

use super::*;

/// A cluster in which node 2 is about to get a command, and the request that brings it.
fn request() -> (Cluster, AppendEntriesRequest) {
    let mut cluster = sealed(3);
    write(&mut cluster, &["before"]);
    cluster.propose(NODE_1, "a secret that is longer than one block");
    cluster.tick(NODE_1);
    let request = cluster.pool().iter().find_map(|message| match &message.envelope.message {
        Message::AppendEntriesRequest(request) if message.envelope.to == NODE_2 && !request.entries.is_empty() => Some(request.clone()),
        _ => None,
    });
    (cluster, request.expect("the entry is on its way"))
}

fn encoded(request: AppendEntriesRequest) -> Vec<u8> {
    wire::encode_envelope(&Envelope { group: GroupId(0), from: NODE_1, to: NODE_2, message: Message::AppendEntriesRequest(request) })
}

/// Node 2, and what it says, after an envelope came.
fn after(cluster: &Cluster, envelope: Vec<u8>) -> (Node, Vec<String>) {
    let (mut node, now) = (cluster.node(NODE_2).expect("it is up").clone(), cluster.member(NODE_2).clock);
    let mut effects = Vec::new();
    for input in [Input::Receive { sender: NODE_1, envelope }, Input::Tick] {
        node.step(now, input, &mut effects);
    }
    let lines = effects.into_iter().filter_map(|effect| match effect {
        Effect::Log { level: LogLevel::Warn | LogLevel::Error, message } => Some(message),
        Effect::Diverged { reason } => Some(reason),
        _ => None,
    });
    let lines = lines.collect();
    (node, lines)
}

/// Whatever bit flips, a log never holds an entry that nobody wrote.
#[test]
fn each_flipped_bit_on_the_way_is_refused_or_harmless() {
    let (cluster, request) = request();
    let (genuine, bytes) = (request.entries[0].clone(), encoded(request.clone()));
    let last = cluster.node(NODE_2).expect("it is up").log().last().index;
    let (taken, said) = after(&cluster, bytes.clone());
    assert_eq!((taken.log().last(), said.len()), (genuine.id, 0), "unchanged, it is taken");
    let payload = genuine.payload().expect("a command");
    let at = bytes.windows(payload.len()).position(|part| part == &payload[..]).expect("it is in the envelope");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (node, said) = after(&cluster, flipped);
        let new = node.log().iter_from(last.next()).collect::<Vec<_>>();
        assert!(new.is_empty() || new == [&genuine], "bit {bit}: {new:?}");
        if (at..at + payload.len()).contains(&(bit / 8)) {
            assert!(new.is_empty(), "bit {bit} of the sealed payload was flipped, and it was taken");
            let [line] = &said[..] else { panic!("bit {bit}: it is said once what is wrong, got {said:?}") };
            let names = ["are not what the holders of the key have written", "is not sealed as it should be", "of the key"];
            assert!(names.iter().any(|name| line.contains(name)), "bit {bit}: {line}");
        }
    }
}

#[test]
pub(super) fn h54_entries_that_were_edited_moved_or_left_out_on_the_way_are_refused() {
    let (cluster, request) = request();
    let refused = |change: &dyn Fn(&mut AppendEntriesRequest)| {
        let mut changed = request.clone();
        change(&mut changed);
        let (node, said) = after(&cluster, encoded(changed));
        assert_eq!(node.log().last().index, request.prev_log.index, "nothing is taken");
        assert!(said.iter().any(|line| line.contains("are not what the holders of the key have written there")), "{said:?}");
    };
    let earlier = entries(&cluster, NODE_2)[1].payload().cloned().expect("a command");
    refused(&|request| {
        if let EntryKind::Command { payload, .. } = &mut request.entries[0].kind {
            *payload = earlier.clone(); // moved here from its own place
        }
    });
    refused(&|request| request.entries[0].kind = EntryKind::NoOp);
    refused(&|request| request.entries.insert(0, LogEntry { id: request.entries[0].id, kind: EntryKind::NoOp }));
    refused(&|request| request.entries.clear());
    let span = request.chain.expect("it is sealed");
    refused(&|request| request.chain = Some(amaters_cluster_core::ChainSpan { last: span.before.link, ..span }));
}

#[test]
fn nodes_that_seal_and_nodes_that_do_not_take_nothing_from_each_other() {
    let (cluster, request) = request();
    let (node, said) = after(&cluster, encoded(AppendEntriesRequest { chain: None, ..request.clone() }));
    assert_eq!(node.log().last().index, request.prev_log.index);
    assert!(
        said[0]
            .contains("unsealed entries came where sealed ones were expected: either all nodes of a cluster seal their logs, or none does")
    );

    let mut plain = Cluster::new(3);
    plain.elect(NODE_1);
    write(&mut plain, &["before"]);
    let (node, said) = after(&plain, encoded(request.clone()));
    assert_eq!(node.log().last().index, request.prev_log.index);
    assert!(said[0].contains("sealed entries came where unsealed ones were expected"), "{said:?}");
}
