//! Somebody without a key changes the disk of a node that is down.

use amaters_cluster_core::{ChainError, Config, EntryKind, JournalError, Node};
use amaters_cluster_tests::cluster::encryption;

use super::*;

/// The settings and the journal of a follower with three commands.
fn kept() -> (Config, Vec<Operation>) {
    let mut cluster = sealed(3);
    write(&mut cluster, &["one", "two", "three"]);
    (cluster.member(NODE_2).config.clone(), cluster.member(NODE_2).disk.journal().to_vec())
}

fn start(config: &Config, journal: &[Operation]) -> Result<Node, JournalError> {
    let mut node = Node::new(config.clone()).expect("the configuration is valid");
    journal.iter().try_for_each(|operation| node.recover(operation.clone()))?;
    node.start(amaters_cluster_core::Instant(1))?;
    Ok(node)
}

/// The journal with other entries in the record that holds this index, beside the links that were there.
fn with_entries(journal: &[Operation], index: u64, change: impl Fn(&mut Vec<LogEntry>)) -> Vec<Operation> {
    let changed = |operation: &Operation| match operation {
        Operation::Append { first, count, entries } if (first.0..first.0 + u64::from(*count)).contains(&index) => {
            let (mut entries, span) = wire::decode_entries(*first, *count, entries).expect("a node writes what it can read");
            change(&mut entries);
            wire::append_operation(&entries.iter().collect::<Vec<_>>(), span)
        }
        other => other.clone(),
    };
    journal.iter().map(changed).collect()
}

fn payload_of(journal: &[Operation], config: &Config, index: u64) -> amaters_cluster_core::Payload {
    let node = start(config, journal).expect("it is whole");
    node.log().get(LogIndex(index)).and_then(LogEntry::payload).cloned().expect("a command")
}

fn set_payload(entry: &mut LogEntry, bytes: amaters_cluster_core::Payload) {
    if let EntryKind::Command { payload, .. } = &mut entry.kind {
        *payload = bytes;
    }
}

/// Every bit of every record of entries: ciphertext, tag, header, order, origin, links.
#[test]
fn each_flipped_bit_of_the_stored_log_is_refused_by_name() {
    let (config, journal) = kept();
    start(&config, &journal).expect("it is whole");
    let mut by_chain = 0;
    for (position, operation) in journal.iter().enumerate() {
        let Operation::Append { first, count, entries } = operation else { continue };
        for bit in 0..entries.len() * 8 {
            let (mut damaged, mut bytes) = (journal.clone(), entries.clone());
            bytes[bit / 8] ^= 1 << (bit % 8);
            damaged[position] = Operation::Append { first: *first, count: *count, entries: bytes };
            match start(&config, &damaged).map(|_| ()) {
                Ok(()) => panic!("bit {bit} of the record at {first} was flipped, and nobody saw it"),
                Err(JournalError::Chain(error)) => {
                    by_chain += 1;
                    assert!(error.to_string().contains("entr"), "it names where: {error}");
                }
                // Not even an encoding any more, or one that names a version that there never was.
                Err(JournalError::Malformed(_) | JournalError::Incoherent { .. } | JournalError::MissingKey(_)) => {}
                Err(other) => panic!("bit {bit} of the record at {first}: {other}"),
            }
        }
    }
    assert!(by_chain > 3000, "most bits are in links, ciphertexts and tags: {by_chain}");
}

/// Chain and payload name the first entry that can't be right.
#[test]
pub(super) fn h54_an_edited_moved_or_swapped_entry_on_disk_is_refused() {
    let (config, journal) = kept();
    let (second, third) = (payload_of(&journal, &config, 3), payload_of(&journal, &config, 4));
    let refused = |journal: &[Operation]| match start(&config, journal).map(|_| ()) {
        Err(JournalError::Chain(error)) => error,
        other => panic!("a changed log is refused by its chain, got {other:?}"),
    };
    let broken = |error: ChainError, at: u64| {
        assert!(matches!(error, ChainError::Broken { first, .. } if first.0 == at), "entry {at} is named: {error}");
    };
    broken(refused(&with_entries(&journal, 3, |entries| set_payload(&mut entries[0], third.clone()))), 3);
    let swapped = with_entries(&journal, 3, |entries| set_payload(&mut entries[0], third.clone()));
    broken(refused(&with_entries(&swapped, 4, |entries| set_payload(&mut entries[0], second.clone()))), 3);
    broken(refused(&with_entries(&journal, 4, |entries| entries[0].kind = EntryKind::NoOp)), 4);
    broken(
        refused(&with_entries(&journal, 4, |entries| {
            if let EntryKind::Command { origin, .. } = &mut entries[0].kind {
                origin.sequence += 1; // whose client is told
            }
        })),
        4,
    );
    let plain = refused(&with_entries(&journal, 3, |entries| set_payload(&mut entries[0], "x=1".into())));
    assert!(matches!(plain, ChainError::Payload { id, .. } if id.index.0 == 3), "{plain}");
    let switched = refused(&with_entries(&journal, 3, |entries| entries[0].kind = EntryKind::KeyVersion(VERSION_1)));
    assert!(matches!(switched, ChainError::Backwards { .. }), "{switched}");
}

#[test]
pub(super) fn h54_records_that_were_left_out_put_in_another_order_or_brought_back_are_refused() {
    let (config, journal) = kept();
    let appends: Vec<usize> = (0..journal.len()).filter(|at| matches!(journal[*at], Operation::Append { .. })).collect();
    for (&a, &b) in appends.iter().zip(&appends[1..]) {
        let mut swapped = journal.clone();
        swapped.swap(a, b);
        start(&config, &swapped).expect_err("records in another order");
        let mut without = journal.clone();
        without.remove(a);
        start(&config, &without).expect_err("a record is left out");
    }
    // Of an earlier term, and once replaced: its links lead to another end than what follows goes on from.
    let mut cluster = sealed(3);
    cluster.isolate(NODE_1);
    cluster.propose(NODE_1, "of term 1");
    cluster.tick(NODE_1);
    cluster.complete_all(NODE_1);
    cluster.elect(NODE_2);
    cluster.heal();
    cluster.run(SECOND);
    cluster.propose(NODE_2, "of term 2");
    cluster.settle();
    let member = cluster.member(NODE_1);
    let journal = member.disk.journal();
    let old = journal.iter().find(|operation| matches!(operation, Operation::Append { first, .. } if first.0 == 2)).expect("of term 1");
    let mut rolled_back: Vec<_> = journal.to_vec();
    let new = rolled_back.iter_mut().rfind(|operation| matches!(operation, Operation::Append { first, .. } if first.0 == 2));
    *new.expect("of term 2") = old.clone();
    assert_ne!(rolled_back, journal, "it was replaced");
    start(&member.config, journal).expect("it is whole");
    start(&member.config, &rolled_back).expect_err("an entry of an earlier term is brought back");
}

/// By itself the beginning of a log is a log: that it was cut shows by the head that was noted before.
#[test]
pub(super) fn h54_a_log_that_was_cut_has_another_head() {
    let mut cluster = sealed(3);
    write(&mut cluster, &["one", "two"]);
    let before = status(&cluster, NODE_2);
    assert_eq!(before.head_index, LogIndex(3));
    assert_eq!(status(&cluster, NODE_1).head, before.head, "whoever has the log has the same head");
    let (config, mut journal) = (cluster.member(NODE_2).config.clone(), cluster.member(NODE_2).disk.journal().to_vec());
    while !matches!(journal.pop(), Some(Operation::Append { .. }) | None) {}
    let cut = start(&config, &journal).expect("nothing contradicts itself").status(amaters_cluster_core::Instant(1)).encryption;
    let cut = cut.expect("it is sealed");
    assert!(cut.head != before.head && cut.head_index < before.head_index, "{cut:?}");
}

#[test]
pub(super) fn h51_the_log_of_another_cluster_or_group_is_refused() {
    let (config, journal) = kept();
    let mut other = config.clone();
    other.encryption = Some(amaters_cluster_core::Encryption { cluster: "invoices".to_owned(), ..encryption() });
    assert!(matches!(start(&other, &journal), Err(JournalError::Chain(ChainError::Broken { first: LogIndex(1), .. }))));
    let group = Config { group: amaters_cluster_core::GroupId(1), ..config };
    assert!(matches!(start(&group, &journal), Err(JournalError::Chain(ChainError::Broken { first: LogIndex(1), .. }))));
}

#[test]
fn a_sealed_and_an_unsealed_log_are_never_taken_for_each_other() {
    let (config, journal) = kept();
    let unsealed = Config { encryption: None, ..config.clone() };
    let error = start(&unsealed, &journal).expect_err("it is sealed").to_string();
    assert!(error.contains("sealed entries came where unsealed ones were expected"), "{error}");
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    write(&mut cluster, &["one"]);
    let error = start(&config, cluster.member(NODE_2).disk.journal()).expect_err("it is not sealed").to_string();
    assert!(error.contains("unsealed entries came where sealed ones were expected"), "{error}");
}
