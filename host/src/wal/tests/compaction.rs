//! The journal lets go of what a snapshot holds, and of nothing else.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use amaters_cluster_core::{GroupId, LogIndex, Operation, Ticket};

use super::faulty::{Call, FaultyDisk};
use super::support::{Coin, append, compaction, damage, dir, file, open, operation, read, segments, write, writer};
use crate::wal::error::WalError;
use crate::wal::journal::Journal;
use crate::wal::ledger::Ledger;
use crate::wal::record::Body;
use crate::wal::{hard_state, segment};

/// What a log is after these operations: its first index, its entries, the hard state.
type Replayed = (u64, BTreeMap<u64, Vec<u8>>, Option<Vec<u8>>);

/// As the core takes operations back: an append replaces what stands at its first index and behind.
fn replay(operations: &[Operation]) -> Replayed {
    let (mut first_needed, mut log, mut state) = (1, BTreeMap::new(), None);
    for operation in operations {
        match operation {
            Operation::HardState(bytes) => state = Some(bytes.clone()),
            Operation::Append { first, entries, .. } => {
                log.split_off(&first.0);
                log.insert(first.0, entries.clone());
            }
            Operation::Compact { first, .. } => first_needed = first.0.max(first_needed),
        }
    }
    (first_needed, log.split_off(&first_needed), state)
}

/// Writes a group, and lets go of what may go.
fn write_and_release(journal: &mut Journal, group: &[Operation]) -> Result<(), WalError> {
    write(journal, group)?;
    journal.release()
}

/// Appends entry after entry, with a compaction after each tenth.
fn run(disk: &FaultyDisk, until: u64) -> Result<(), (u64, WalError)> {
    let (mut journal, found, _) = open(disk).map_err(|error| (0, error))?;
    let last = replay(&found).1.last_key_value().map_or(0, |(last, _)| *last);
    for n in last + 1..=until {
        write_and_release(&mut journal, &[append(n)]).map_err(|error| (n - 1, error))?;
        if n % 10 == 0 {
            write_and_release(&mut journal, &compaction(n - 4)).map_err(|error| (n, error))?;
        }
    }
    Ok(())
}

#[test]
fn a_journal_that_is_compacted_stays_small_and_comes_back_whole() {
    let disk = FaultyDisk::default();
    let mut most = 0;
    for until in (20..=1000).step_by(20) {
        run(&disk, until).unwrap();
        most = most.max(segments(&disk).len());
        let (first, log, state) = replay(&read(&disk).unwrap().0);
        assert_eq!((first, state.as_deref()), (until - 4, Some(&b"state"[..])));
        assert!(log.keys().copied().eq(first..=until));
    }
    assert!(most <= 4, "{most} segments at once");
    assert!(segments(&disk)[0] > 50, "{:?}", segments(&disk));
}

#[test]
fn nothing_that_is_needed_is_lost_wherever_the_power_goes() {
    let calls = {
        let disk = FaultyDisk::default();
        run(&disk, 60).unwrap();
        disk.calls().len()
    };
    for at in 0..calls {
        for seed in 0..4 {
            let mut coin = Coin(seed * 10_000 + at as u64);
            let disk = FaultyDisk::default();
            disk.lose_power_after(at);
            let mut durable = run(&disk, 60).map_or_else(|(durable, _)| durable, |()| 60);
            for _ in 0..2 {
                disk.power_up(|| coin.flip());
                disk.lose_power_after(usize::try_from(coin.next() % 40).unwrap());
                durable = run(&disk, 90).map_or_else(|(more, _)| more.max(durable), |()| 90);
            }
            disk.power_up(|| coin.flip());
            let (_, found, _) = open(&disk).unwrap_or_else(|error| panic!("call {at}, seed {seed}: {error}"));
            let (first, log, _) = replay(&found);
            let last = log.last_key_value().map_or(first - 1, |(last, _)| *last);
            assert!(last >= durable, "call {at}, seed {seed}: {durable} was durable, {last} is the last");
            assert!(log.keys().copied().eq(first..=last), "call {at}, seed {seed}: no hole");
            assert!(
                log.iter().all(|(n, entries)| append(*n) == Operation::Append { first: LogIndex(*n), count: 1, entries: entries.clone() })
            );
        }
    }
}

#[test]
fn a_segment_goes_only_with_all_before_it_and_only_when_nothing_in_it_counts() {
    let disk = FaultyDisk::default();
    let (mut journal, ..) = open(&disk).unwrap();
    // An entry far ahead, which another leader's entries then replace: as long as it might count, its segment stays, and so does what cuts it.
    write_and_release(&mut journal, &[append(40)]).unwrap();
    for n in 1..=39 {
        write_and_release(&mut journal, &[append(n)]).unwrap();
    }
    write_and_release(&mut journal, &compaction(39)).unwrap();
    assert_eq!(segments(&disk)[0], 1);
    write_and_release(&mut journal, &compaction(41)).unwrap();
    drop(journal);
    assert!(segments(&disk)[0] > 1);
    assert!(replay(&read(&disk).unwrap().0).1.is_empty());
}

#[test]
fn a_group_that_is_not_compacted_keeps_its_segments() {
    let disk = FaultyDisk::default();
    let (mut journal, ..) = open(&disk).unwrap();
    journal.push(GroupId(7), Body::HardState(b"another's")).unwrap();
    for n in 1..=40 {
        write_and_release(&mut journal, &[append(n)]).unwrap();
    }
    write_and_release(&mut journal, &compaction(41)).unwrap();
    assert_eq!(segments(&disk)[0], 1);
    journal.push(GroupId(7), Body::HardState(b"another's")).unwrap();
    write_and_release(&mut journal, &compaction(41)).unwrap();
    drop(journal);
    assert_eq!(segments(&disk)[0], 1, "the other group has never been compacted");
}

#[test]
fn a_segment_that_was_released_is_not_missed_and_one_that_was_not_is() {
    let disk = FaultyDisk::default();
    run(&disk, 200).unwrap();
    let numbers = segments(&disk);
    assert!(numbers.len() > 1 && numbers[0] > 3, "{numbers:?}");
    read(&disk).unwrap();
    disk.delete(&file(numbers[0]));
    let found = damage(read(&disk));
    assert_eq!(found.got, "no such file");
    assert!(found.proof.contains("no record says that it was released"), "{}", found.proof);
}

#[test]
fn what_waits_for_a_group_is_told_before_segments_go() {
    let disk = FaultyDisk::default();
    let (writer, reports) = writer(&disk);
    for n in 1..=40 {
        writer.submit(GroupId(0), Ticket(n), vec![append(n)]);
        assert_eq!(reports.recv().unwrap().unwrap(), Ticket(n));
    }
    disk.fail_next(Call::Remove, ErrorKind::PermissionDenied);
    writer.submit(GroupId(0), Ticket(41), compaction(41).to_vec());
    assert_eq!(reports.recv().unwrap().unwrap(), Ticket(41));
    drop(writer);
    assert!(reports.recv().is_err(), "segments that stay are no failure");
    assert_eq!(segments(&disk)[0], 1);
    drop(open(&disk).unwrap());
    assert!(segments(&disk)[0] > 1, "the next start removes them");
}

#[test]
fn a_segment_begins_with_the_hard_state_so_that_any_may_become_the_first() {
    let disk = FaultyDisk::default();
    let (mut journal, ..) = open(&disk).unwrap();
    write(&mut journal, &[operation(3)]).unwrap();
    for n in 1..=60 {
        write_and_release(&mut journal, &[append(n)]).unwrap();
    }
    write_and_release(&mut journal, &compaction(40)).unwrap();
    drop(journal);
    assert!(segments(&disk)[0] > 1);
    let (found, _) = read(&disk).unwrap();
    assert_eq!(found[0], operation(3), "terms of entries are checked against it");
}

#[test]
fn a_segment_that_does_not_begin_with_the_hard_state_becomes_no_first_one() {
    let (state, entry) = (Body::HardState(b"state"), Body::Append { first: LogIndex(1), count: 1, entries: b"" });
    let compact = Body::Compact { first: LogIndex(2), base: b"" };
    let releasable = |last: &[Body<'_>]| {
        let mut ledger = Ledger::default();
        // As a version wrote them that did not repeat the hard state.
        for (segment, bodies) in [(1, &[state, entry][..]), (2, &[entry]), (3, last)] {
            bodies.iter().for_each(|body| ledger.note(segment, GroupId(0), *body));
        }
        ledger.releasable(3)
    };
    assert_eq!(releasable(&[state, compact, entry]), Some(3));
    assert_eq!(releasable(&[entry, state, compact]), None);
    assert_eq!(releasable(&[compact]), None, "the only hard state stands in the first");
}

#[test]
fn a_hard_state_has_a_second_copy_before_it_is_reported_durable() {
    let disk = FaultyDisk::default();
    let (writer, reports) = writer(&disk);
    for n in 1..=30 {
        writer.submit(GroupId(0), Ticket(n), vec![operation(3 * n), append(n)]);
        assert_eq!(reports.recv().unwrap().unwrap(), Ticket(n));
        let saved = hard_state::read(&disk.copy_durable(), dir(), GroupId(0)).unwrap();
        assert_eq!(saved, Some(format!("state {}", 3 * n).into_bytes()));
    }
}

#[test]
fn a_copy_that_can_not_be_written_ends_the_writer() {
    // The copy is written after the segment: its calls are the second of their kind.
    for call in [Call::Create, Call::Rename, Call::SyncDir] {
        let disk = FaultyDisk::default();
        let (writer, reports) = writer(&disk);
        disk.fail_next(call, ErrorKind::Other);
        writer.submit(GroupId(0), Ticket(1), vec![operation(3)]);
        assert!(matches!(reports.recv().unwrap(), Err(WalError::Io { .. })), "{call:?}");
    }
}

#[test]
fn the_same_hard_state_is_not_written_twice() {
    let disk = FaultyDisk::default();
    let (mut journal, ..) = open(&disk).unwrap();
    write(&mut journal, &[operation(3)]).unwrap();
    let before = disk.calls().len();
    write(&mut journal, &[operation(3), append(1)]).unwrap();
    assert_eq!(disk.calls().split_off(before), [Call::Write, Call::Sync]);
    drop(journal);
    let before = disk.calls().len();
    drop(open(&disk).unwrap());
    assert!(!disk.calls().split_off(before).contains(&Call::Create), "nor by a start");
}

#[test]
fn a_copy_of_another_group_or_version_is_told_apart() {
    let disk = FaultyDisk::default();
    drop(open(&disk).unwrap());
    assert!(hard_state::read(&disk, dir(), GroupId(0)).unwrap().is_none());
    hard_state::write(&disk, dir(), 1, GroupId(3), b"state").unwrap();
    let good = disk.get(&dir().join("hard-state-3")).unwrap();
    disk.put(&dir().join("hard-state-0"), good.clone());
    assert!(matches!(hard_state::read(&disk, dir(), GroupId(0)), Err(hard_state::SavedStateError::Damaged { .. })));
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        disk.put(&dir().join("hard-state-3"), bad);
        assert!(hard_state::read(&disk, dir(), GroupId(3)).is_err(), "byte {at}");
    }
    assert!(segment::number_of("hard-state-3").is_none());
}
