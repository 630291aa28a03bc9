//! What is done with a damaged journal is for its owner to say: nothing, a cut, or reading alone.

use std::sync::Arc;

use amaters_cluster_core::{GroupId, Operation, Ticket};

use super::faulty::FaultyDisk;
use super::support::{Collector, Reports, SEGMENT, append, damage, dir, file, open, operations, places, saved_state, written};
use crate::persistence::FilePersistence;
use crate::wal::{CorruptionPolicy, WalDiagnostics, WalError, WalOptions, WalWriter};

struct Opened {
    writer: WalWriter,
    reports: Reports,
    found: Vec<Operation>,
    seen: WalDiagnostics,
}

fn options(policy: CorruptionPolicy) -> WalOptions {
    WalOptions { on_corruption: policy, ..WalOptions::with_segment_size(SEGMENT) }
}

fn open_under(disk: &FaultyDisk, policy: CorruptionPolicy) -> Result<Opened, WalError> {
    let (report, reports) = std::sync::mpsc::channel();
    let on_durable = Box::new(move |durable| drop(report.send(durable)));
    let mut collector = Collector::default();
    let (writer, seen) = WalWriter::open_on(Arc::new(disk.clone()), dir(), &options(policy), on_durable, |located| {
        collector.take(&located);
        Ok::<_, WalError>(())
    })?;
    Ok(Opened { writer, reports, found: collector.found, seen })
}

/// Forty operations over some segments, and the n-th damaged.
fn damaged(n: usize) -> FaultyDisk {
    let disk = written(40);
    let (number, start, _) = places(&disk)[n - 1];
    disk.edit(&file(number), |image| image[start + 20] ^= 1);
    disk
}

fn contents(disk: &FaultyDisk) -> Vec<(std::path::PathBuf, Option<Vec<u8>>)> {
    disk.names().into_iter().map(|name| (name.clone(), disk.get(&name))).collect()
}

#[test]
fn a_damaged_journal_is_refused_unless_something_else_is_asked_for() {
    for policy in [CorruptionPolicy::default(), CorruptionPolicy::Refuse, CorruptionPolicy::Repair] {
        let disk = damaged(20);
        let before = contents(&disk);
        assert_eq!(damage(open_under(&disk, policy)).sequence, 21, "with the hard state that the second segment repeats");
        assert_eq!(contents(&disk), before, "a journal on its own has nobody to repair it from");
    }
}

#[test]
fn a_whole_or_torn_journal_is_the_same_under_each_policy() {
    for policy in [CorruptionPolicy::Refuse, CorruptionPolicy::Repair, CorruptionPolicy::Cut, CorruptionPolicy::ReadOnly] {
        let disk = written(40);
        let (number, _, end) = places(&disk)[39];
        disk.edit(&file(number), |image| image[end - 1] ^= 1);
        let Opened { writer, reports, found, seen } = open_under(&disk, policy).unwrap();
        assert_eq!(found, operations(1..=39), "a torn write was never relied on");
        assert!(seen.torn_bytes > 0 && (seen.corrupt_bytes, seen.corrupt_segments, seen.read_only) == (0, 0, false), "{seen:?}");
        writer.submit(GroupId(0), Ticket(7), operations([40]));
        drop(writer);
        assert_eq!(reports.iter().last().unwrap().unwrap(), Ticket(7));
        assert_eq!(open(&disk).unwrap().1, operations(1..=40));
    }
}

#[test]
fn a_cut_keeps_all_before_the_damage_says_what_is_lost_and_goes_on() {
    for n in 1..=39 {
        let disk = damaged(n);
        let Opened { writer, reports, found, seen } = open_under(&disk, CorruptionPolicy::Cut).unwrap();
        let kept: Vec<_> = (1..n as u64).chain([39]).collect();
        assert_eq!(found, operations(kept.clone()), "operation 39 is the newest hard state, of which there is a copy");
        assert!(seen.corrupt_bytes > 50 && seen.corrupt_segments >= 1 && !seen.read_only, "{n}: {seen:?}");
        writer.submit(GroupId(0), Ticket(1), vec![append(100)]);
        drop(writer);
        assert_eq!(reports.iter().last().unwrap().unwrap(), Ticket(1));
        disk.power_up(|| false);
        let again = open_under(&disk, CorruptionPolicy::Cut).unwrap();
        assert_eq!(again.found, [operations(kept), vec![append(100)]].concat(), "all of it is durable, the cut too");
        assert_eq!((again.seen.corrupt_bytes, again.seen.corrupt_segments), (0, 0), "it is cut once");
    }
}

#[test]
fn a_cut_that_would_leave_nothing_is_refused() {
    let disk = written(40);
    disk.delete(&file(1));
    let before = contents(&disk);
    damage(open_under(&disk, CorruptionPolicy::Cut));
    assert_eq!(contents(&disk), before);
}

#[test]
fn read_only_gives_what_is_before_the_damage_refuses_the_rest_and_changes_nothing() {
    for n in 1..=39 {
        let disk = damaged(n);
        let before = contents(&disk);
        let Opened { writer, reports, found, seen } = open_under(&disk, CorruptionPolicy::ReadOnly).unwrap();
        assert_eq!(found, operations(1..n as u64));
        assert!(seen.read_only && seen.corrupt_bytes > 50 && seen.torn_bytes == 0, "{n}: {seen:?}");
        for ticket in 1..=3 {
            writer.submit(GroupId(0), Ticket(ticket), vec![append(100)]);
        }
        drop(writer);
        let reports: Vec<_> = reports.iter().collect();
        assert_eq!(reports.len(), 3, "each submission is answered");
        for report in reports {
            let error = report.expect_err("nothing is written").to_string();
            assert!(error.contains("read-only") && error.contains("is damaged at byte"), "{error}");
        }
        assert_eq!(contents(&disk), before);
    }
}

#[test]
fn read_only_gives_what_is_before_a_lost_segment_and_nothing_behind_it() {
    let disk = written(40);
    disk.delete(&file(2));
    let Opened { found, seen, .. } = open_under(&disk, CorruptionPolicy::ReadOnly).unwrap();
    assert_eq!(found, operations(1..=15));
    assert!(seen.read_only && seen.corrupt_segments >= 2 && seen.last_sequence == 15, "{seen:?}");
    disk.delete(&file(1));
    let Opened { found, seen, .. } = open_under(&disk, CorruptionPolicy::ReadOnly).unwrap();
    assert!(found.is_empty() && seen.read_only && seen.records == 0);
}

#[test]
fn read_only_serves_a_journal_whose_vote_is_lost_and_a_cut_takes_that_back_from_its_copy() {
    let lost = written(6);
    let (number, start, _) = places(&lost)[5];
    lost.edit(&file(number), |image| image[start + 20] ^= 1);
    let opened = open_under(&lost, CorruptionPolicy::ReadOnly).unwrap();
    assert!(opened.found == operations(1..=5) && opened.seen.read_only, "the copy alone has the last hard state");
    drop(opened);
    assert_eq!(saved_state(&lost).unwrap().as_deref(), Some(&b"state 6"[..]));
    let opened = open_under(&lost, CorruptionPolicy::Cut).unwrap();
    assert_eq!(opened.found, operations(1..=6));
}

#[test]
fn a_failed_disk_and_a_newer_format_are_refused_under_each_policy() {
    for policy in [CorruptionPolicy::Cut, CorruptionPolicy::ReadOnly] {
        let disk = damaged(20);
        disk.fail_next(super::faulty::Call::Read, std::io::ErrorKind::Other);
        assert!(matches!(open_under(&disk, policy).err(), Some(WalError::Io { .. })), "a read error is no damage");
        let disk = written(40);
        disk.edit(&file(1), |image| image[8] = 9);
        assert!(matches!(open_under(&disk, policy).err(), Some(WalError::UnsupportedFormat { got: 9, .. })));
    }
}

#[test]
fn a_node_is_refused_a_journal_that_it_can_only_read() {
    let dir = tempfile::tempdir().unwrap();
    let error = FilePersistence::open(dir.path(), options(CorruptionPolicy::ReadOnly), Box::new(drop)).expect_err("it could not vote");
    assert!(matches!(error, WalError::ReadOnlyNode), "{error}");
}
