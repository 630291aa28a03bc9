//! What a report promises in each mode, when the power fails and when only the process does.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use amaters_cluster_core::{GroupId, LogIndex, Operation, Ticket};

use super::faulty::{Call, FaultyDisk};
use super::support::{
    Coin, Reports, SEGMENT, append, compaction, dir, open, operation, operations, places, read, saved_state, segments, writer_with,
};
use crate::persistence::FilePersistence;
use crate::wal::{SyncMode, Verdict, WalError, WalOptions, WalReader, WalWriter, inspect};

/// Longer than any test runs.
const EVER: Duration = Duration::from_secs(3600);

/// What a busy machine may need for anything that happens at once.
const SOON: Duration = Duration::from_secs(20);

/// Long enough for a report that must not come to have come.
const MOMENT: Duration = Duration::from_millis(300);

fn options(segment_size: u64, sync: SyncMode) -> WalOptions {
    WalOptions { sync, ..WalOptions::with_segment_size(segment_size) }
}

fn submit(writer: &WalWriter, n: u64) {
    writer.submit(GroupId(0), Ticket(n), vec![operation(n)]);
}

fn next(reports: &Reports) -> u64 {
    reports.recv_timeout(SOON).expect("a report comes").expect("nothing fails").0
}

/// Runs until the power goes, or 60 operations are there. Gives the last ticket that was reported.
fn run(disk: &FaultyDisk, sync: SyncMode, power: usize) -> u64 {
    let (writer, reports) = writer_with(disk, &options(SEGMENT, sync));
    disk.lose_power_after(power);
    (1..=60).for_each(|n| submit(&writer, n));
    drop(writer);
    reports.iter().filter_map(Result::ok).last().map_or(0, |ticket| ticket.0)
}

#[test]
fn what_is_reported_outlives_a_loss_of_power_unless_it_is_left_to_the_system() {
    let few = SyncMode::Batched { count: 7, delay: Duration::from_millis(1) };
    for mode in [SyncMode::EveryWrite, SyncMode::default(), few] {
        for power in 0..40 {
            let mut coin = Coin(power as u64);
            let disk = FaultyDisk::default();
            let reported = run(&disk, mode, power * 3);
            disk.power_up(|| coin.flip());
            let (_, found, _) = open(&disk).unwrap_or_else(|error| panic!("{mode:?}, {power}: {error}"));
            assert!(found.len() as u64 >= reported, "{mode:?}, {power}: {reported} were reported, {} are there", found.len());
            assert_eq!(found, operations(1..=found.len() as u64), "{mode:?}, {power}");
        }
    }
}

#[test]
fn left_to_the_system_the_power_takes_a_part_of_the_last_segment_and_leaves_no_damage() {
    let mut lost = 0;
    for power in 0..60 {
        for seed in 0..4 {
            let mut coin = Coin(seed * 100 + power as u64);
            let disk = FaultyDisk::default();
            let (writer, reports) = writer_with(&disk, &options(SEGMENT, SyncMode::System));
            disk.lose_power_after(power);
            let mut reported = 0;
            for n in 1..=60 {
                submit(&writer, n);
                match reports.recv_timeout(SOON).expect("a report comes") {
                    Ok(ticket) => reported = ticket.0,
                    Err(_) => break,
                }
            }
            // All that stands in a segment before the one in use was synced.
            let shown = disk.while_on(|| places(&disk));
            let current = shown.last().map_or(1, |(segment, ..)| *segment);
            let synced = shown.iter().filter(|(segment, ..)| *segment < current).count() as u64;
            disk.power_up(|| coin.flip());
            let (_, found, _) = open(&disk).unwrap_or_else(|error| panic!("call {power}, seed {seed}: {error}"));
            assert_eq!(found, operations(1..=found.len() as u64), "call {power}, seed {seed}: no hole");
            assert!(found.len() as u64 >= synced, "call {power}, seed {seed}: {synced} were synced, {} are there", found.len());
            lost += reported.saturating_sub(found.len() as u64);
        }
    }
    assert!(lost > 100, "{lost}: this is what the mode may cost, and a sync of each group would not");
}

#[test]
fn left_to_the_system_nothing_is_synced_and_a_crash_of_the_process_alone_loses_nothing() {
    let disk = FaultyDisk::default();
    let (writer, reports) = writer_with(&disk, &options(64 << 10, SyncMode::System));
    let syncs = |disk: &FaultyDisk| disk.calls().iter().filter(|call| **call == Call::Sync).count();
    let before = syncs(&disk);
    for n in 1..=50 {
        submit(&writer, n);
        assert_eq!(next(&reports), n);
    }
    assert_eq!(syncs(&disk), before);
    assert_eq!(saved_state(&disk).unwrap(), None, "a copy of a hard state would say that its record is durable");
    let mut claims = Vec::new();
    let walked = WalReader::on(Arc::new(disk.clone()), dir()).read(|located| {
        claims.push(located.record.synced);
        Ok::<_, WalError>(())
    });
    walked.unwrap();
    assert_eq!(claims, [0; 50], "no record claims what was not synced");
    assert_eq!(disk.copy_durable().names(), disk.names());
    assert!(read_all(&disk.copy_durable()).is_empty(), "a loss of power would take it all");
    // The system has it all, and the next start makes it durable.
    let after = disk.copy();
    let (_, found, _) = open(&after).unwrap();
    assert_eq!(found, operations(1..=50));
    assert_eq!(read_all(&after.copy_durable()), operations(1..=50));
    // An orderly end makes it durable as well, and proves that.
    drop(writer);
    let (found, diagnostics) = read(&disk.copy_durable()).unwrap();
    assert_eq!((found, diagnostics.records), (operations(1..=50), 51), "50, and a mark");
    assert!(saved_state(&disk.copy_durable()).unwrap().is_some());
}

fn read_all(disk: &FaultyDisk) -> Vec<Operation> {
    read(disk).unwrap().0
}

#[test]
fn left_to_the_system_segments_go_only_once_what_they_rest_on_is_durable() {
    for power in 0..120 {
        for seed in 0..4 {
            let mut coin = Coin(seed * 1000 + power as u64);
            let disk = FaultyDisk::default();
            let (writer, reports) = writer_with(&disk, &options(SEGMENT, SyncMode::System));
            disk.lose_power_after(power);
            for n in 1..=40 {
                writer.submit(GroupId(0), Ticket(2 * n), vec![append(n)]);
                if n % 15 == 0 {
                    writer.submit(GroupId(0), Ticket(2 * n + 1), compaction(n - 3).to_vec());
                }
            }
            drop(writer);
            drop(reports);
            disk.power_up(|| coin.flip());
            let (_, found, _) = open(&disk).unwrap_or_else(|error| panic!("call {power}, seed {seed}: {error}"));
            let first = found.iter().find_map(|it| match it {
                Operation::Append { first, .. } => Some(first.0),
                _ => None,
            });
            let compacted = found.iter().filter_map(|it| match it {
                Operation::Compact { first, .. } => Some(first.0),
                _ => None,
            });
            let needed = compacted.max().unwrap_or(1);
            assert!(first.is_none_or(|first| first <= needed), "call {power}, seed {seed}: entries from {first:?} on, {needed} is needed");
        }
    }
    let disk = FaultyDisk::default();
    let (writer, _reports) = writer_with(&disk, &options(SEGMENT, SyncMode::System));
    (1..=40).for_each(|n| writer.submit(GroupId(0), Ticket(n), vec![append(n)]));
    writer.submit(GroupId(0), Ticket(41), compaction(40).to_vec());
    drop(writer);
    assert!(!segments(&disk).contains(&1), "segments do go");
}

#[test]
fn every_write_has_a_sync_of_its_own_however_many_wait() {
    let disk = FaultyDisk::default();
    let (writer, reports) = writer_with(&disk, &options(64 << 10, SyncMode::EveryWrite));
    let before = disk.calls().len();
    (1..=20).for_each(|n| writer.submit(GroupId(0), Ticket(n), vec![append(2 * n), append(2 * n + 1)]));
    let reported: Vec<_> = (1..=20).map(|_| next(&reports)).collect();
    assert_eq!(reported, (1..=20).collect::<Vec<_>>());
    assert_eq!(disk.calls()[before..], [Call::Write, Call::Sync].repeat(20));
}

#[test]
fn a_batch_is_written_when_it_has_its_count_and_with_one_sync() {
    let disk = FaultyDisk::default();
    let (writer, reports) = writer_with(&disk, &options(64 << 10, SyncMode::Batched { count: 4, delay: EVER }));
    let before = disk.calls().len();
    (1..=3).for_each(|n| writer.submit(GroupId(0), Ticket(n), vec![append(n)]));
    assert!(matches!(reports.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout)), "three of four wait");
    writer.submit(GroupId(0), Ticket(4), vec![append(4)]);
    assert_eq!(next(&reports), 4);
    assert_eq!(disk.calls()[before..], [Call::Write, Call::Sync]);
    assert_eq!(read_all(&disk.copy_durable()), (1..=4).map(append).collect::<Vec<_>>());
}

#[test]
fn a_batch_waits_no_longer_than_its_time_whatever_comes_meanwhile() {
    let delay = Duration::from_millis(200);
    let disk = FaultyDisk::default();
    let (writer, reports) = writer_with(&disk, &options(64 << 10, SyncMode::Batched { count: 1_000_000, delay }));
    for n in 1..=3 {
        let began = Instant::now();
        submit(&writer, n * 1000);
        let mut later = n * 1000;
        // Each later one would put it off, if the wait were counted from the last.
        let reported = loop {
            match reports.recv_timeout(Duration::from_millis(20)) {
                Ok(report) => break report.expect("nothing fails").0,
                Err(_) => assert!(began.elapsed() < SOON, "it waits for the last"),
            }
            later += 1;
            submit(&writer, later);
        };
        assert!(began.elapsed() >= delay && (n * 1000..=later).contains(&reported), "{reported} after {:?}", began.elapsed());
        while reports.recv_timeout(Duration::from_millis(500)).is_ok() {}
    }
}

#[test]
fn a_batch_that_is_large_enough_or_whose_writer_goes_waits_for_nobody() {
    let disk = FaultyDisk::default();
    let mode = SyncMode::Batched { count: 1000, delay: EVER };
    let (writer, reports) = writer_with(&disk, &options(16 << 20, mode));
    let large = Operation::Append { first: LogIndex(1), count: 1, entries: vec![7; 5 << 20] };
    writer.submit(GroupId(0), Ticket(1), vec![large]);
    assert_eq!(next(&reports), 1);
    writer.submit(GroupId(0), Ticket(2), vec![append(2)]);
    let began = Instant::now();
    drop(writer);
    assert!(began.elapsed() < SOON);
    assert_eq!(next(&reports), 2);
}

#[test]
fn a_node_is_refused_a_journal_that_nobody_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wal");
    let error = FilePersistence::open(&path, options(SEGMENT, SyncMode::System), Box::new(drop)).expect_err("it would forget votes");
    assert!(matches!(error, WalError::SyncRequired) && error.to_string().contains("SyncMode::Batched"), "{error}");
    assert!(!path.exists());
    // On its own the journal works so, on a real disk.
    let (writer, _) = WalWriter::open(&path, &options(4096, SyncMode::System), Box::new(drop), |_| Ok::<_, WalError>(())).unwrap();
    (1..=200).for_each(|n| submit(&writer, n));
    drop(writer);
    assert!(matches!(inspect(&path).unwrap().verdict, Verdict::Clean(seen) if seen.segments > 2));
}
