//! A full disk: what is there stays, what comes waits, and goes on once there is space.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use amaters_cluster_core::{GroupId, Operation, Ticket};

use super::faulty::FaultyDisk;
use super::support::{Reports, append, file, open, read, writer};
use crate::wal::WalWriter;
use crate::wal::error::WalError;

/// Longer than a look at the disk, so that a report that must not come would have.
const MOMENT: Duration = Duration::from_millis(700);

fn submit(writer: &WalWriter, n: u64) {
    writer.submit(GroupId(0), Ticket(n), vec![append(n)]);
}

fn durable(reports: &Reports) -> u64 {
    reports.recv_timeout(Duration::from_secs(10)).expect("it is written").expect("nothing fails").0
}

fn nothing_comes(reports: &Reports) {
    assert!(matches!(reports.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout)));
}

fn wait_until(holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(10), "it never holds");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A writer on a disk that is full since the first entry, and how many entries there was room for.
fn filled(disk: &FaultyDisk) -> (WalWriter, Reports, u64) {
    let (writer, reports) = writer(disk);
    submit(&writer, 1);
    assert_eq!(durable(&reports), 1);
    disk.set_full(true);
    let mut last = 1;
    loop {
        submit(&writer, last + 1);
        match reports.recv_timeout(MOMENT) {
            Ok(report) => last = report.expect("nothing fails").0,
            Err(_) => return (writer, reports, last),
        }
    }
}

#[test]
fn a_full_disk_is_told_while_there_is_room_in_the_segment_and_nothing_fails_when_there_is_none() {
    let disk = FaultyDisk::default();
    let (writer, reports) = writer(&disk);
    assert!(!writer.lacks_space());
    disk.set_full(true);
    let mut last = 5; // a third of the segment: the next one is being prepared
    for n in 1..=last {
        submit(&writer, n);
        assert_eq!(durable(&reports), n);
    }
    wait_until(|| writer.lacks_space());
    submit(&writer, last + 1);
    assert_eq!(durable(&reports), last + 1, "there is room left when it is told");

    (last + 2..=last + 40).for_each(|n| submit(&writer, n));
    while let Ok(report) = reports.recv_timeout(MOMENT) {
        last = report.expect("nothing fails").0;
    }
    assert!(disk.get(&file(2)).is_none());

    disk.set_full(false);
    let all = last.max(40);
    while last < all {
        last = durable(&reports);
    }
    assert!(!writer.lacks_space());
    drop(writer);
    let found = read(&disk).unwrap().0;
    assert_eq!(found[..40], (1..=40).map(append).collect::<Vec<_>>());
}

#[test]
fn a_vote_on_a_full_disk_is_durable_once_there_is_space_for_its_copy() {
    let disk = FaultyDisk::default();
    let (writer, reports) = writer(&disk);
    disk.set_full(true);
    writer.submit(GroupId(0), Ticket(1), vec![Operation::HardState(b"a vote".to_vec())]);
    nothing_comes(&reports);
    assert!(writer.lacks_space());
    disk.set_full(false);
    assert_eq!(durable(&reports), 1);
    wait_until(|| !writer.lacks_space());
}

#[test]
fn a_writer_that_waits_for_space_can_be_dropped_and_what_it_reported_is_there() {
    let disk = FaultyDisk::default();
    let (writer, reports, last) = filled(&disk);
    let began = Instant::now();
    drop(writer);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(reports.recv().is_err(), "what found no space is neither durable nor a failure of the next journal's");
    let (_, found, _) = open(&disk.copy_durable()).unwrap();
    assert_eq!(found, (1..=last).map(append).collect::<Vec<_>>());
}

#[test]
fn a_start_on_a_full_disk_says_so_at_once() {
    let disk = FaultyDisk::default();
    disk.set_full(true);
    let error = open(&disk).err().expect("there is no room for a journal");
    assert!(matches!(error, WalError::DiskFull { .. }), "{error}");
}
