//! What nobody may find on a disk, between nodes, or in a line of a log; and what no two seals share.

use std::collections::HashMap;

use amaters_cluster_core::message::{AppendEntriesRequest, Envelope, Message};
use amaters_cluster_core::sealing::{ChainedEntry, LogIntegrityVerifier, LogName};
use amaters_cluster_core::{ChainSpan, EntryKind, GroupId, Input, Origin};
use amaters_cluster_tests::cluster::{encryption, key_of, ring_of};

use super::*;

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_command_is_found_in_no_journal_no_snapshot_and_no_entry_on_its_way() {
    let secret = b"the value that nobody may read";
    let mut cluster = Cluster::sealed(3, |config| config.snapshots.policy.entries = Some(4));
    cluster.elect(NODE_1);
    for _ in 0..10 {
        cluster.propose(NODE_1, secret.to_vec());
        cluster.settle();
    }
    cluster.run(SECOND);
    let mut seen = 0;
    for event in cluster.take_events() {
        let bytes = match event {
            Event::Sent(envelope) => wire::encode_envelope(&envelope),
            Event::Submitted(_, _, operations) => format!("{operations:?}").into_bytes(),
            Event::WroteSnapshot(_, _, _, bytes) => bytes,
            _ => continue,
        };
        seen += 1;
        assert!(!holds(&bytes, secret));
    }
    assert!(seen > 50 && cluster.member(NODE_3).vault.newest().is_some_and(|(_, bytes)| !holds(bytes, secret)));
    assert!(cluster.member(NODE_3).machine.iter().all(|committed| committed.command == secret[..]), "machines read it");
}

/// Indexes are written again in later terms, nodes start again and again: whatever they seal has a key and nonce of its own.
#[test]
pub(super) fn h50_no_start_term_or_truncation_brings_a_key_and_nonce_back() {
    let mut cluster = sealed(3);
    let mut sealed_with: HashMap<_, LogEntry> = HashMap::new();
    for round in 0..8 {
        let leader = cluster.leader().expect("one leads");
        let follower = NodeId(1 + leader.0 % 3);
        cluster.isolate(leader);
        cluster.propose(leader, format!("lost in round {round}"));
        cluster.tick(leader);
        cluster.complete_all(leader);
        note(&cluster, &mut sealed_with);
        cluster.elect(follower);
        cluster.propose(follower, format!("kept in round {round}"));
        cluster.settle();
        note(&cluster, &mut sealed_with);
        cluster.crash(leader, 0);
        cluster.heal();
        cluster.restart(leader);
        cluster.run(2 * SECOND);
    }
    assert!(sealed_with.len() >= 16, "{}", sealed_with.len());
}

fn note(cluster: &Cluster, sealed_with: &mut HashMap<String, LogEntry>) {
    for entry in cluster.ids().into_iter().flat_map(|id| entries(cluster, id)) {
        let Some(payload) = entry.payload() else { continue };
        let header = *EncryptedPayload::parse(payload.clone()).expect("it is sealed").header();
        let known = sealed_with.entry(format!("{header:?}")).or_insert_with(|| entry.clone());
        assert_eq!((known.id, known.payload()), (entry.id, entry.payload()), "one key and nonce has sealed two payloads");
    }
}

/// Whoever has the key could give a moved ciphertext the right links. The seal itself still tells its place.
#[test]
pub(super) fn h51_a_ciphertext_that_was_moved_with_the_right_links_is_not_applied() {
    let mut cluster = sealed(3);
    write(&mut cluster, &["pay 100"]);
    let (stolen, last) = (entries(&cluster, NODE_2)[1].clone(), cluster.node(NODE_2).expect("it is up").log().last());
    let Some(payload) = stolen.payload().cloned() else { panic!("a command") };
    let origin = Origin { node: NODE_3, run: 1, sequence: 1 };
    let moved =
        LogEntry { id: EntryId { index: last.index.next(), ..last }, kind: EntryKind::Command { origin, payload: payload.clone() } };
    let before = cluster.node(NODE_2).and_then(|node| node.log().chain_end()).expect("it is sealed");
    let log = LogName::new(encryption().cluster, GroupId(0)).expect("a short name");
    let verifier = LogIntegrityVerifier::new(&log, &ring_of([1]), VERSION_1).expect("the key is there");
    let entry = ChainedEntry { id: moved.id, kind: 1, beside: &[3, 1, 1], payload: &payload };
    let chain = Some(ChainSpan { before, last: verifier.link(&before.link, &entry) });
    let request =
        AppendEntriesRequest { term: last.term, session: 1, prev_log: last, leader_commit: moved.id.index, chain, entries: vec![moved] };
    let envelope = Envelope { group: GroupId(0), from: NODE_1, to: NODE_2, message: Message::AppendEntriesRequest(request) };
    cluster.take_events();
    cluster.input(NODE_2, Input::Receive { sender: NODE_1, envelope: wire::encode_envelope(&envelope) });
    cluster.tick(NODE_2);
    cluster.tick(NODE_2);
    assert_eq!(commands(&cluster, NODE_2), ["pay 100"], "it is not paid twice");
    let alarms = alarms(&mut cluster, NODE_2);
    let names = format!("the payload of entry {} does not match its tag", id(3, 1));
    assert!(alarms.iter().any(|line| line.contains(&names)), "{alarms:?}");
}

#[test]
pub(super) fn h53_no_line_of_a_node_and_nothing_that_prints_it_shows_a_key() {
    let mut cluster = sealed(3);
    write(&mut cluster, &["one"]);
    give_to_all(&mut cluster, VERSION_2);
    cluster.rotate_key(NODE_1, VERSION_2);
    cluster.run(SECOND);
    cluster.crash(NODE_3, 0);
    cluster.member_mut(NODE_3).keys = ring_of([1]);
    let error = cluster.try_restart(NODE_3).expect_err("it lacks the key");
    let shown = format!("{:?} {error} {error:?} {:?} {:?}", cluster.take_events(), cluster.node(NODE_1), cluster.member(NODE_1).config);
    for version in [VERSION_1, VERSION_2] {
        let key = key_of(version);
        let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let texts = [hex.clone(), hex.to_uppercase(), format!("{:?}", key.as_bytes()), format!("{:02x?}", key.as_bytes())];
        for text in texts {
            // Part of it is too much.
            let part = &text[text.len() / 2..text.len() / 2 + 24];
            assert!(!shown.contains(part), "a key is shown as {part}");
        }
    }
}
