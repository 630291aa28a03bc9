//! Bugs that real implementations had: one test each, named after its row.

use std::io::ErrorKind;

use amaters_cluster_core::{GroupId, Ticket};

use super::faulty::{Call, FaultyDisk};
use super::support::{SEGMENT, append, damage, dir, file, open, operation, operations, places, read, write, writer, written};
use crate::wal::error::WalError;
use crate::wal::{hard_state, segment};

#[test]
fn h30_a_failed_write_or_sync_is_reported_once_and_nothing_after_it_is_durable() {
    for call in [Call::Write, Call::Sync] {
        let disk = FaultyDisk::default();
        let (writer, reports) = writer(&disk);
        writer.submit(GroupId(0), Ticket(1), vec![operation(1)]);
        assert_eq!(reports.recv().unwrap().unwrap(), Ticket(1));
        disk.fail_next(call, ErrorKind::Other);
        writer.submit(GroupId(0), Ticket(2), vec![operation(2)]);
        assert!(matches!(reports.recv().unwrap(), Err(WalError::Io { .. })));
        writer.submit(GroupId(0), Ticket(3), vec![operation(3)]);
        drop(writer);
        assert!(reports.recv().is_err(), "no report follows a failure");
    }
}

#[test]
fn h31_a_failed_write_or_sync_is_never_tried_again() {
    for call in [Call::Write, Call::Sync] {
        let disk = FaultyDisk::default();
        let (writer, reports) = writer(&disk);
        writer.submit(GroupId(0), Ticket(1), vec![operation(1)]);
        assert_eq!(reports.recv().unwrap().unwrap(), Ticket(1));
        let before = disk.calls().len();
        disk.fail_next(call, ErrorKind::Other);
        writer.submit(GroupId(0), Ticket(2), vec![operation(2)]);
        assert!(reports.recv().unwrap().is_err());
        writer.submit(GroupId(0), Ticket(3), vec![operation(3)]);
        drop(writer);
        let calls = disk.calls().split_off(before);
        let expected = if call == Call::Write { vec![Call::Write] } else { vec![Call::Write, Call::Sync] };
        assert_eq!(calls, expected, "not even a mark is written");
    }
}

#[test]
fn h32_a_torn_tail_is_gone_before_anything_is_added() {
    let disk = written(5);
    let (_, start, _) = places(&disk)[4];
    disk.edit(&file(1), |image| image[start + 30] ^= 1);
    let (mut journal, found, _) = open(&disk).unwrap();
    assert_eq!(found, operations(1..=4));
    // Shorter than what stood there: a rest of it would stand behind.
    write(&mut journal, &[operation(6)]).unwrap();
    drop(journal);
    disk.power_up(|| false);
    let (mut journal, found, diagnostics) = open(&disk).unwrap();
    assert_eq!((found, diagnostics.torn_bytes), (operations([1, 2, 3, 4, 6]), 0));
    write(&mut journal, &[operation(7)]).unwrap();
    drop(journal);
    assert_eq!(read(&disk).unwrap().0, operations([1, 2, 3, 4, 6, 7]));
}

#[test]
fn h33_damage_in_one_segment_leaves_no_hole_in_the_log() {
    let disk = written(40);
    for number in 1..=2 {
        let (_, start, _) = *places(&disk).iter().rfind(|(segment, ..)| *segment == number).unwrap();
        let disk = disk.copy();
        disk.edit(&file(number), |image| image[start..].fill(0));
        let names = disk.names();
        assert_eq!(damage(open(&disk)).path, file(number));
        assert_eq!(disk.names(), names, "no segment is removed");
    }
}

#[test]
fn h34_a_damaged_length_is_no_end() {
    let disk = written(6);
    let (_, start, _) = places(&disk)[2];
    for length in [0_u32, 1, 32, 33, 34, 1000, 1 << 30, u32::MAX] {
        let disk = disk.copy();
        disk.edit(&file(1), |image| image[start..start + 4].copy_from_slice(&length.to_le_bytes()));
        assert_eq!(damage(open(&disk)).sequence, 3, "length {length}");
    }
}

#[test]
fn h35_replacing_entries_is_one_record_so_no_crash_comes_between() {
    let disk = written(4);
    let (mut journal, ..) = open(&disk).unwrap();
    let before = disk.calls().len();
    let replacement = amaters_cluster_core::Operation::Append { first: 2.into(), count: 1, entries: b"instead".to_vec() };
    write(&mut journal, std::slice::from_ref(&replacement)).unwrap();
    assert_eq!(disk.calls().split_off(before)[..2], [Call::Write, Call::Sync], "nothing is removed, cut or rewritten");
    drop(journal);
    let (found, _) = read(&disk).unwrap();
    assert_eq!(found, [operations(1..=4), vec![replacement]].concat());
}

#[test]
fn h36_a_segments_name_is_durable_before_it_is_used() {
    let disk = FaultyDisk::default();
    let (mut journal, ..) = open(&disk).unwrap();
    for n in 1..=60 {
        write(&mut journal, &[operation(n)]).unwrap();
        // Of the directory, only what was synced is left after this.
        let after = disk.copy_durable();
        assert_eq!(read(&after).unwrap().0, operations(1..=n));
    }
}

#[test]
fn h38_a_read_error_ends_neither_the_journal_nor_goes_unnoticed() {
    let disk = written(40);
    disk.fail_next(Call::Read, ErrorKind::UnexpectedEof);
    let error = read(&disk).expect_err("the error is passed on").to_string();
    assert!(error.starts_with("can't read /wal/hard-state-0"), "{error}");
    disk.delete(&hard_state::path(dir(), GroupId(0)));
    disk.fail_next(Call::Read, ErrorKind::UnexpectedEof);
    let error = read(&disk).expect_err("the error is passed on").to_string();
    assert!(error.starts_with("can't read /wal/0000000000000001.wal"), "{error}");
}

#[test]
fn a_full_disk_says_so_and_the_node_comes_back() {
    let disk = FaultyDisk::default();
    let (writer, reports) = writer(&disk);
    disk.fail_next(Call::Write, ErrorKind::StorageFull);
    writer.submit(GroupId(0), Ticket(1), vec![operation(1)]);
    let error = reports.recv().unwrap().unwrap_err().to_string();
    assert!(error.starts_with("no space for 72 bytes in /wal"), "{error}");
    drop(writer);
    let (mut journal, found, _) = open(&disk).unwrap();
    assert!(found.is_empty());
    write(&mut journal, &[operation(1)]).unwrap();
}

#[test]
fn half_a_segment_gives_its_space_back() {
    for call in [Call::Write, Call::Sync, Call::Rename] {
        let disk = FaultyDisk::default();
        disk.fail_next(call, ErrorKind::StorageFull);
        let error = segment::prepare(&disk, dir(), 1, SEGMENT, None).err().expect("the error is passed on");
        assert!(matches!(error, WalError::DiskFull { needed: SEGMENT, .. }), "{error}");
        assert!(disk.names().is_empty());
    }
}

#[test]
fn any_other_failure_to_prepare_a_segment_ends_the_writer_when_it_is_needed() {
    let disk = FaultyDisk::default();
    let (mut journal, ..) = open(&disk).unwrap();
    disk.fail_next(Call::Rename, ErrorKind::Other);
    let failed = (1..=40).find(|n| write(&mut journal, &[append(*n)]).is_err());
    assert_eq!(failed, Some(14), "the first record of the second segment");
}
