//! Short words for the tests.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use amaters_cluster_core::{GroupId, LogIndex, Operation, Ticket};

use super::faulty::FaultyDisk;
use crate::wal::disk::Disk;
use crate::wal::error::{Damage, WalError};
use crate::wal::journal::Journal;
use crate::wal::reader::WalReader;
use crate::wal::record::Body;
use crate::wal::segment::{self, HEADER_BYTES};
use crate::wal::space::Space;
use crate::wal::{Located, SavedStateError, WalDiagnostics, WalOptions, WalWriter, hard_state, recovery};

/// Some 15 short records fit.
pub(crate) const SEGMENT: u64 = 1024;

pub(crate) fn dir() -> &'static Path {
    Path::new("/wal")
}

pub(crate) fn file(number: u64) -> PathBuf {
    segment::path(dir(), number)
}

/// The n-th operation of a test: all differ.
pub(crate) fn operation(n: u64) -> Operation {
    if n.is_multiple_of(3) {
        return Operation::HardState(format!("state {n}").into_bytes());
    }
    Operation::Append { first: LogIndex(n), count: 1, entries: format!("entry {n}, ").repeat(3).into_bytes() }
}

pub(crate) fn operations(numbers: impl IntoIterator<Item = u64>) -> Vec<Operation> {
    numbers.into_iter().map(operation).collect()
}

/// Collects operations, but for the hard state that each segment repeats at its beginning.
#[derive(Default)]
pub(crate) struct Collector {
    pub(crate) found: Vec<Operation>,
    state: Option<Vec<u8>>,
}

impl Collector {
    /// Takes a record. Whether it is more than a repetition.
    pub(crate) fn take(&mut self, located: &Located<'_>) -> bool {
        if let Body::HardState(bytes) = located.record.body {
            let repeats = located.offset == HEADER_BYTES as u64 && self.state.as_deref() == Some(bytes);
            self.state = Some(bytes.to_vec());
            if repeats {
                return false;
            }
        }
        self.found.extend(located.record.body.to_operation());
        true
    }
}

/// Recovers, and gives what there was.
pub(crate) fn open(disk: &FaultyDisk) -> Result<(Journal, Vec<Operation>, WalDiagnostics), WalError> {
    open_with(disk, SEGMENT)
}

pub(crate) fn open_with(disk: &FaultyDisk, segment_size: u64) -> Result<(Journal, Vec<Operation>, WalDiagnostics), WalError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut collector = Collector::default();
    let (end, diagnostics) = recovery::recover(&disk, dir(), segment_size, |located| {
        collector.take(&located);
        Ok::<_, WalError>(())
    })?;
    Ok((Journal::new(disk, dir().to_owned(), segment_size, Space::default(), end), collector.found, diagnostics))
}

/// The hard state's copy.
pub(crate) fn saved_state(disk: &FaultyDisk) -> Result<Option<Vec<u8>>, SavedStateError> {
    hard_state::read(disk, dir(), GroupId(0))
}

/// Writes a group.
pub(crate) fn write(journal: &mut Journal, group: &[Operation]) -> Result<(), WalError> {
    for operation in group {
        journal.push(GroupId(0), Body::of(operation))?;
    }
    journal.flush()
}

/// The n-th operation as a compaction: with the hard state before it, as the core submits them.
pub(crate) fn compaction(n: u64) -> [Operation; 2] {
    let hard_state = Operation::HardState(b"state".to_vec());
    [hard_state, Operation::Compact { first: LogIndex(n), base: format!("base {n}").into_bytes() }]
}

/// The n-th entry.
pub(crate) fn append(n: u64) -> Operation {
    Operation::Append { first: LogIndex(n), count: 1, entries: format!("entry {n}, ").repeat(3).into_bytes() }
}

/// The numbers of the segments that are there.
pub(crate) fn segments(disk: &FaultyDisk) -> Vec<u64> {
    let numbers = disk.names().into_iter().filter_map(|path| segment::number_of(path.file_name()?.to_str()?));
    numbers.collect()
}

/// A disk with operations 1 to `last`, each a group of its own, and no mark at the end.
pub(crate) fn written(last: u64) -> FaultyDisk {
    let disk = FaultyDisk::default();
    let (mut journal, ..) = open(&disk).unwrap();
    for n in 1..=last {
        write(&mut journal, &[operation(n)]).unwrap();
    }
    disk
}

/// Reads without changing anything.
pub(crate) fn read(disk: &FaultyDisk) -> Result<(Vec<Operation>, WalDiagnostics), WalError> {
    let mut collector = Collector::default();
    let diagnostics = WalReader::on(Arc::new(disk.clone()), dir()).read(|located| {
        collector.take(&located);
        Ok::<_, WalError>(())
    })?;
    Ok((collector.found, diagnostics))
}

/// Where each record stands that is more than a repetition: segment, start, end.
pub(crate) fn places(disk: &FaultyDisk) -> Vec<(u64, usize, usize)> {
    let (mut places, mut collector) = (Vec::new(), Collector::default());
    let reader = WalReader::on(Arc::new(disk.clone()), dir());
    let read = reader.read(|located| {
        let start = usize::try_from(located.offset).unwrap();
        let bytes = usize::try_from(located.record.body.record_bytes()?).unwrap();
        if collector.take(&located) {
            places.push((located.segment, start, start + bytes));
        }
        Ok::<_, WalError>(())
    });
    read.unwrap();
    places
}

/// Expects damage.
pub(crate) fn damage<T>(result: Result<T, WalError>) -> Damage {
    match result {
        Err(WalError::Damaged(damage)) => *damage,
        Err(other) => panic!("expected damage, got {other}"),
        Ok(_) => panic!("damage went unnoticed"),
    }
}

/// What a writer reports.
pub(crate) type Reports = mpsc::Receiver<Result<Ticket, WalError>>;

/// A writer, and what it reports.
pub(crate) fn writer(disk: &FaultyDisk) -> (WalWriter, Reports) {
    writer_with(disk, &WalOptions::with_segment_size(SEGMENT))
}

pub(crate) fn writer_with(disk: &FaultyDisk, options: &WalOptions) -> (WalWriter, Reports) {
    let (report, reports) = mpsc::channel();
    let on_durable = Box::new(move |durable| {
        let _ = report.send(durable); // the test may have seen enough
    });
    let (writer, _) = WalWriter::open_on(Arc::new(disk.clone()), dir(), options, on_durable, |_| Ok::<_, WalError>(())).unwrap();
    (writer, reports)
}

/// A small generator, so that a seed is all that it takes to see a failure again.
pub(crate) struct Coin(pub(crate) u64);

impl Coin {
    pub(crate) fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn flip(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }
}
