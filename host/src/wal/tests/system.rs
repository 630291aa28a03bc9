//! On a real disk, through the public types.

use std::fs;
use std::sync::mpsc;

use amaters_cluster_core::{GroupId, LogIndex, Operation, Ticket};

use super::support::{operation, operations};
use crate::error::RaftError;
use crate::persistence::{FilePersistence, MemoryPersistence, OnDurable, RaftPersistence};
use crate::wal::{self, Verdict, WalError, WalOptions, WalWriter};

fn reporting() -> (OnDurable, mpsc::Receiver<Result<Ticket, WalError>>) {
    let (report, reports) = mpsc::channel();
    (Box::new(move |durable| drop(report.send(durable))), reports)
}

fn recovered(persistence: &mut dyn RaftPersistence) -> Vec<Operation> {
    let mut found = Vec::new();
    persistence
        .recover(&mut |chunk| {
            assert!(!chunk.is_empty());
            found.extend(chunk);
            Ok(())
        })
        .unwrap();
    // Each segment begins with the hard state that holds.
    let mut state = None;
    found.retain(|operation| match operation {
        Operation::HardState(bytes) => state.replace(bytes.clone()).as_ref() != Some(bytes),
        _ => true,
    });
    found
}

#[test]
fn what_was_submitted_is_there_after_every_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data/wal");
    for run in 0..4_u64 {
        let (on_durable, reports) = reporting();
        let mut journal = FilePersistence::open(&path, WalOptions::with_segment_size(64 << 10), on_durable).unwrap();
        assert_eq!(recovered(&mut journal), operations(1..=run * 1000));
        for ticket in 1..=500 {
            let n = run * 1000 + ticket * 2 - 1;
            journal.submit(Ticket(ticket), vec![operation(n), operation(n + 1)]);
        }
        drop(journal);
        let tickets: Vec<_> = reports.iter().map(Result::unwrap).collect();
        assert!(tickets.is_sorted(), "reports come in order");
        assert_eq!(tickets.last(), Some(&Ticket(500)), "all is written before the journal is let go");
    }
    assert!(fs::read_dir(&path).unwrap().count() > 3, "over several segments");
    let seen = wal::inspect(&path).unwrap();
    let Verdict::Clean(diagnostics) = seen.verdict else { panic!("{:?}", seen.verdict) };
    // One mark for each orderly end, and a hard state at the beginning of each segment but the first.
    assert_eq!((diagnostics.records, diagnostics.torn_bytes), (4004 + seen.segments.len() as u64 - 1, 0));
    assert_eq!(seen.segments.iter().map(|segment| segment.marks).sum::<u64>(), 4);
    assert_eq!(seen.segments.iter().map(|segment| segment.last_index.0).max(), Some(4000));
}

#[test]
fn inspection_tells_torn_from_damaged_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("0000000000000001.wal");
    let (on_durable, _reports) = reporting();
    let mut journal = FilePersistence::open(dir.path(), WalOptions::with_segment_size(4096), on_durable).unwrap();
    recovered(&mut journal);
    journal.submit(Ticket(1), operations(1..=4));
    drop(journal);
    let clean = fs::read(&file).unwrap();

    let mut torn = clean.clone();
    let end = torn.iter().rposition(|byte| *byte != 0).unwrap();
    torn[end] ^= 1;
    fs::write(&file, &torn).unwrap();
    let seen = wal::inspect(dir.path()).unwrap();
    assert!(matches!(seen.verdict, Verdict::Torn(diagnostics) if diagnostics.records == 4 && diagnostics.torn_bytes == 33), "{seen:?}");
    assert_eq!(fs::read(&file).unwrap(), torn);

    let mut damaged = clean;
    damaged[80] ^= 1;
    fs::write(&file, &damaged).unwrap();
    let seen = wal::inspect(dir.path()).unwrap();
    assert!(matches!(seen.verdict, Verdict::Damaged(_)), "{seen:?}");
    assert_eq!(fs::read(&file).unwrap(), damaged);
}

#[test]
fn inspection_beside_a_writer_never_cries_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (on_durable, reports) = reporting();
    let mut journal = FilePersistence::open(dir.path(), WalOptions::with_segment_size(256 << 10), on_durable).unwrap();
    recovered(&mut journal);
    for ticket in 1..=200 {
        journal.submit(Ticket(ticket), vec![Operation::HardState(vec![1; 3000])]);
        let seen = wal::inspect(dir.path()).unwrap();
        assert!(!matches!(seen.verdict, Verdict::Damaged(_)), "{:?}", seen.verdict);
    }
    drop(journal);
    assert_eq!(reports.iter().last().unwrap().unwrap(), Ticket(200));
}

#[test]
fn records_of_another_group_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (on_durable, _reports) = reporting();
    let (writer, _) = WalWriter::open(dir.path(), &WalOptions::with_segment_size(4096), on_durable, |_| Ok::<_, WalError>(())).unwrap();
    writer.submit(GroupId(7), Ticket(1), vec![operation(1)]);
    drop(writer);
    let (on_durable, _reports) = reporting();
    let mut journal = FilePersistence::open(dir.path(), WalOptions::default(), on_durable).unwrap();
    let Err(RaftError::Storage(error)) = journal.recover(&mut |_| Ok(())) else { panic!("records of group 7 were taken") };
    assert!(error.to_string().contains("group 7"), "{error}");
}

#[test]
fn memory_is_durable_at_once_and_outlives_an_instance() {
    let journal = MemoryPersistence::default();
    for run in 0..3 {
        let (on_durable, reports) = reporting();
        let mut instance = journal.open(on_durable);
        assert_eq!(recovered(&mut instance), operations(1..=run * 2));
        instance.submit(Ticket(1), operations(run * 2 + 1..=run * 2 + 2));
        assert_eq!(reports.try_recv().unwrap().unwrap(), Ticket(1));
    }
}

#[test]
fn memory_forgets_what_a_compaction_lets_go_and_no_cut_comes_undone() {
    let journal = MemoryPersistence::default();
    let (on_durable, _reports) = reporting();
    let mut instance = journal.open(on_durable);
    let append = |first, count| Operation::Append { first: LogIndex(first), count, entries: Vec::new() };
    let compact = |first| Operation::Compact { first: LogIndex(first), base: Vec::new() };
    let state = |n: u8| Operation::HardState(vec![n]);
    // Entries 10 to 19 are cut to 16 by an append that would itself be done with.
    let all = vec![state(1), append(1, 9), append(10, 10), append(15, 2), state(2), compact(17)];
    instance.submit(Ticket(1), all.clone());
    assert_eq!(
        recovered(&mut instance),
        [vec![state(1)], all[2..].to_vec()].concat(),
        "terms of entries are checked against the state before them"
    );
    instance.submit(Ticket(2), vec![append(17, 5), state(3), compact(20)]);
    assert_eq!(recovered(&mut instance), [state(2), append(17, 5), state(3), compact(20)]);
}
