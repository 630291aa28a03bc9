//! Snapshots on a disk that loses power, fails and forgets.

mod crash_points;
mod flips;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, mpsc};

use amaters_cluster_core::{EntryId, LogIndex, NodeId, Term};

use super::files::{Files, id_of};
use super::{DiskSnapshotStore, MemorySnapshots, OnSnapshot, SnapshotJob, SnapshotReport, SnapshotStore, SnapshotStoreError};
use crate::wal::tests::faulty::{Call, FaultyDisk};
use crate::wal::tests::support::Coin;

fn dir() -> &'static Path {
    Path::new("/snapshots")
}

fn id(index: u64) -> EntryId {
    EntryId { index: LogIndex(index), term: Term(2) }
}

type Reports = mpsc::Receiver<Result<SnapshotReport, SnapshotStoreError>>;

fn reporting() -> (OnSnapshot, Reports) {
    let (report, reports) = mpsc::channel();
    (Box::new(move |it| drop(report.send(it))), reports)
}

fn store(disk: &FaultyDisk) -> (DiskSnapshotStore, Reports) {
    let (on_report, reports) = reporting();
    (DiskSnapshotStore::open_on(Arc::new(disk.clone()), dir(), on_report).unwrap(), reports)
}

fn write(id: EntryId, offset: u64, bytes: &[u8]) -> SnapshotJob {
    SnapshotJob::Write { id, offset, bytes: bytes.to_vec() }
}

fn names(disk: &FaultyDisk) -> Vec<String> {
    disk.names().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// What holds of any store.
fn tells_the_story(store: &mut dyn SnapshotStore, reports: &Reports) {
    let next = || reports.recv().unwrap().unwrap();
    assert!(store.list().unwrap().is_empty());
    store.submit(write(id(7), 0, b"begun, and "));
    assert_eq!(next(), SnapshotReport::Written { id: id(7), end: 11 });
    store.submit(write(id(7), 0, b"anew"));
    store.submit(write(id(7), 4, b"!"));
    assert_eq!((next(), next()), (SnapshotReport::Written { id: id(7), end: 4 }, SnapshotReport::Written { id: id(7), end: 5 }));
    store.submit(SnapshotJob::Read { id: id(7), reader: NodeId(3), offset: 0, max_bytes: 9 });
    assert_eq!(next(), SnapshotReport::Read { id: id(7), reader: NodeId(3), offset: 0, bytes: Vec::new() }, "it is not complete");
    store.submit(SnapshotJob::Finish { id: id(7) });
    assert_eq!(next(), SnapshotReport::Stored { id: id(7) });
    for (offset, expected) in [(0, &b"ane"[..]), (3, b"w!"), (5, b""), (99, b"")] {
        store.submit(SnapshotJob::Read { id: id(7), reader: NodeId(3), offset, max_bytes: 3 });
        assert_eq!(next(), SnapshotReport::Read { id: id(7), reader: NodeId(3), offset, bytes: expected.to_vec() });
    }
    for n in [8, 9, 10] {
        store.submit(write(id(n), 0, b"x"));
        store.submit(SnapshotJob::Finish { id: id(n) });
        assert_eq!((next(), next()), (SnapshotReport::Written { id: id(n), end: 1 }, SnapshotReport::Stored { id: id(n) }));
    }
    store.submit(SnapshotJob::Retain { ids: vec![id(9), id(10)] });
    // What belongs to nothing that was begun comes to nothing.
    store.submit(write(id(11), 0, b"x"));
    store.submit(SnapshotJob::Discard { id: id(11) });
    store.submit(write(id(11), 1, b"x"));
    store.submit(SnapshotJob::Finish { id: id(11) });
    store.submit(SnapshotJob::Read { id: id(7), reader: NodeId(1), offset: 0, max_bytes: 3 });
    assert_eq!(next(), SnapshotReport::Written { id: id(11), end: 1 });
    assert_eq!(next(), SnapshotReport::Read { id: id(7), reader: NodeId(1), offset: 0, bytes: Vec::new() }, "it is gone");
    let list = |store: &mut dyn SnapshotStore| store.list().unwrap().iter().map(|it| (it.id.index.0, it.bytes)).collect::<Vec<_>>();
    assert_eq!(list(store), [(10, 1), (9, 1)], "newest first");
    store.put_aside(id(10)).unwrap();
    assert_eq!(list(store), [(9, 1)]);
    assert_eq!(store.read(id(9), 0, 10).unwrap(), b"x");
    assert!(matches!(store.read(id(10), 0, 10), Err(SnapshotStoreError::Missing { .. })));
}

#[test]
fn a_store_on_disk_keeps_what_it_says() {
    let disk = FaultyDisk::default();
    let (mut store, reports) = store(&disk);
    tells_the_story(&mut store, &reports);
    drop(store);
    assert_eq!(names(&disk), ["0000000000000009-0000000000000002.snap", "000000000000000a-0000000000000002.snap.bad"]);
}

#[test]
fn a_store_in_memory_keeps_what_it_says_and_outlives_an_instance() {
    let memory = MemorySnapshots::default();
    let (on_report, reports) = reporting();
    tells_the_story(&mut memory.open(on_report), &reports);
    let (on_report, _reports) = reporting();
    assert_eq!(memory.open(on_report).list().unwrap().len(), 1);
}

#[test]
fn on_a_real_disk_a_restart_finds_what_was_complete() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("data/snapshots");
    let (on_report, reports) = reporting();
    let mut store = DiskSnapshotStore::open(&dir, on_report).unwrap();
    tells_the_story(&mut store, &reports);
    let large = vec![7; 9 << 20];
    store.submit(write(id(20), 0, &large));
    store.submit(SnapshotJob::Finish { id: id(20) });
    store.submit(write(id(21), 0, &large));
    (0..3).for_each(|_| drop(reports.recv().unwrap().unwrap()));
    drop(store);
    let (on_report, _reports) = reporting();
    let mut store = DiskSnapshotStore::open(&dir, on_report).unwrap();
    let list: Vec<_> = store.list().unwrap().iter().map(|it| (it.id.index.0, it.bytes)).collect();
    assert_eq!(list, [(20, 9 << 20), (9, 1)]);
    assert_eq!(store.read(id(20), 8 << 20, 2 << 20).unwrap().len(), 1 << 20);
    assert!(std::fs::read_dir(&dir).unwrap().all(|it| !it.unwrap().file_name().to_str().unwrap().ends_with(".tmp")));
}

#[test]
fn h36_a_snapshot_that_was_reported_is_there_wherever_the_power_goes() {
    let run = |disk: &FaultyDisk| {
        let mut stored = Vec::new();
        let Ok(mut files) = Files::open(Arc::new(disk.clone()), dir()) else { return stored };
        for n in 1..=4 {
            let bytes = [n; 100];
            let half = |files: &mut Files, at: u64| {
                let part = if at == 0 { &bytes[..50] } else { &bytes[50..] };
                matches!(files.write(id(n.into()), at, part), Ok(Some(SnapshotReport::Written { .. })))
            };
            if !half(&mut files, 0) || !half(&mut files, 50) {
                break;
            }
            match files.finish(id(n.into())) {
                Ok(Some(SnapshotReport::Stored { .. })) => stored.push(n),
                _ => break,
            }
        }
        stored
    };
    let calls = {
        let disk = FaultyDisk::default();
        assert_eq!(run(&disk), [1, 2, 3, 4]);
        disk.calls().len()
    };
    for at in 0..calls {
        for seed in 0..20 {
            let mut coin = Coin(seed * 1000 + at as u64);
            let disk = FaultyDisk::default();
            disk.lose_power_after(at);
            let stored = run(&disk);
            disk.power_up(|| coin.flip());
            let files = Files::open(Arc::new(disk.clone()), dir()).unwrap();
            let found = files.list().unwrap();
            for n in stored {
                assert!(found.iter().any(|it| it.id == id(n.into())), "call {at}, seed {seed}: snapshot {n} is gone");
            }
            // Whatever has a name is whole: it was synced before it got one.
            for it in found {
                let expected = vec![u8::try_from(it.id.index.0).unwrap(); 100];
                assert_eq!(files.read(it.id, 0, 1000).unwrap(), expected, "call {at}, seed {seed}");
            }
        }
    }
}

#[test]
fn a_full_disk_costs_the_snapshot_and_nothing_else() {
    for (call, kind) in [
        (Call::Create, ErrorKind::StorageFull),
        (Call::Write, ErrorKind::StorageFull),
        (Call::Write, ErrorKind::Other),
        (Call::Rename, ErrorKind::Other),
        (Call::Sync, ErrorKind::StorageFull),
    ] {
        let disk = FaultyDisk::default();
        let (mut store, reports) = store(&disk);
        disk.fail_next(call, kind);
        store.submit(write(id(1), 0, b"part"));
        store.submit(SnapshotJob::Finish { id: id(1) });
        let reports = std::iter::from_fn(|| reports.recv().ok());
        let failed = reports.map(Result::unwrap).find(|report| !matches!(report, SnapshotReport::Written { .. })).unwrap();
        assert!(
            matches!(&failed, SnapshotReport::Failed { id: it, reason } if *it == id(1) && reason.starts_with("can't ")),
            "{call:?}: {failed:?}"
        );
        store.submit(SnapshotJob::Read { id: id(9), reader: NodeId(1), offset: 0, max_bytes: 1 });
        drop(store);
        assert!(names(&disk).is_empty(), "{call:?}: its space is given back");
    }
}

#[test]
fn h31_a_failed_sync_ends_the_store_and_is_never_tried_again() {
    for call in [Call::Sync, Call::SyncDir] {
        let disk = FaultyDisk::default();
        let (mut store, reports) = store(&disk);
        disk.fail_next(call, ErrorKind::Other);
        store.submit(write(id(1), 0, b"part"));
        assert!(reports.recv().unwrap().is_ok());
        store.submit(SnapshotJob::Finish { id: id(1) });
        assert!(matches!(reports.recv().unwrap(), Err(SnapshotStoreError::Io { action: "sync", .. })), "{call:?}");
        let calls = disk.calls().len();
        store.submit(SnapshotJob::Finish { id: id(1) });
        drop(store);
        assert!(reports.recv().is_err(), "no report follows a failure");
        assert_eq!(disk.calls().len(), calls);
    }
}

#[test]
fn h38_a_complete_snapshot_that_can_not_be_read_is_no_end_of_it() {
    let disk = FaultyDisk::default();
    let (mut store, reports) = store(&disk);
    store.submit(write(id(1), 0, b"part"));
    store.submit(SnapshotJob::Finish { id: id(1) });
    (0..2).for_each(|_| drop(reports.recv().unwrap().unwrap()));
    disk.fail_next(Call::Read, ErrorKind::Other);
    store.submit(SnapshotJob::Read { id: id(1), reader: NodeId(1), offset: 0, max_bytes: 1 });
    assert!(matches!(reports.recv().unwrap(), Err(SnapshotStoreError::Io { action: "read", .. })));
}

#[test]
fn names_are_read_as_they_are_written() {
    assert_eq!(id_of("0000000000000abc-0000000000000002.snap"), Some(EntryId { index: LogIndex(0xabc), term: Term(2) }));
    for name in
        ["0000000000000abc.snap", "0000000000000ABC-0000000000000002.snap", "abc-2.snap", "0000000000000abc-0000000000000002.snap.tmp"]
    {
        assert_eq!(id_of(name), None, "{name}");
    }
}
