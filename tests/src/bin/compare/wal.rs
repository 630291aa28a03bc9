//! The journal alone: appends against what the disk's syncs allow, and how fast it is read again.
//!
//! - *Append.* [`IN_FLIGHT`] submissions of one entry of 128 bytes wait at any time; what has come while one group was synced is the next. The rival writes as many bytes
//!   as an average group has into a file that was filled with zeros before, and syncs its data, over and over. The ratio is that of syncs a second.
//! - *Replay.* A journal of one entry a record is read as a start does: each segment, each checksum. Its files are in the system's memory then, and so they are
//!   for the rival, which reads their bytes and nothing else.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use amaters_cluster::wal::{Body, OnDurable, WalError, WalOptions, WalReader, WalWriter};
use amaters_cluster_core::{GroupId, LogIndex, Operation, Ticket};
use anyhow::{Context as _, ensure};

use crate::{Machine, Spread};

const GROUP: GroupId = GroupId(0);
const ENTRY_BYTES: usize = 128;
const IN_FLIGHT: u64 = 128;
const BLOCK_BYTES: usize = 4096;
/// As long as a segment of the journal.
const FILE_BYTES: u64 = 32 << 20;
/// Entries of the journal that is read.
const REPLAYED: u64 = 1_000_000;

pub(crate) fn measure(runs: u32, seconds: u32, home: &Path) -> anyhow::Result<()> {
    let length = Duration::from_secs(seconds.into());
    println!("the journal, on {}", Machine::look());
    println!("entries of {ENTRY_BYTES} bytes, {IN_FLIGHT} submissions in flight, {seconds} s a run\n");
    let mut group_bytes = append(home, Duration::from_secs(1))?.group_bytes();
    println!("{:>3}  {:>12} {:>12} {:>12}   {:>12}   {:>6}", "run", "entries/s", "groups/s", "bytes/group", "fdatasync/s", "ratio");
    let mut ratios = Vec::new();
    for run in 1..=runs {
        let alone_first = if run % 2 == 0 { Some(sync_alone(home, length, group_bytes)?) } else { None };
        let ours = append(home, length)?;
        group_bytes = ours.group_bytes();
        let alone = alone_first.map_or_else(|| sync_alone(home, length, group_bytes), Ok)?;
        let ratio = ours.groups_per_second() / alone;
        println!(
            "{run:>3}  {:>12.0} {:>12.0} {group_bytes:>12}   {alone:>12.0}   {ratio:>6.2}",
            ours.entries as f64 / ours.seconds,
            ours.groups_per_second()
        );
        ratios.push(ratio);
    }
    println!("\ngroups of the journal to fdatasync alone: {}", Spread::of(&mut ratios));
    replay(home)?;
    println!("afterwards: {}", Machine::look());
    Ok(())
}

/// What was appended.
struct Appended {
    entries: u64,
    groups: u64,
    bytes: u64,
    seconds: f64,
}

impl Appended {
    fn groups_per_second(&self) -> f64 {
        self.groups as f64 / self.seconds
    }

    /// Of an average group, in whole blocks as the journal writes them.
    fn group_bytes(&self) -> usize {
        usize::try_from(self.bytes / self.groups.max(1)).unwrap_or(usize::MAX).next_multiple_of(BLOCK_BYTES)
    }
}

type Reports = Receiver<Result<Ticket, WalError>>;

fn reporting() -> (OnDurable, Reports) {
    let (report, reports) = mpsc::channel();
    (Box::new(move |durable| drop(report.send(durable))), reports)
}

fn next(reports: &Reports) -> anyhow::Result<u64> {
    Ok(reports.recv().context("the journal's thread was lost")??.0)
}

fn submit(writer: &WalWriter, number: u64) {
    let entries = vec![b'x'; ENTRY_BYTES];
    writer.submit(GROUP, Ticket(number), vec![Operation::Append { first: LogIndex(number), count: 1, entries }]);
}

fn append(home: &Path, length: Duration) -> anyhow::Result<Appended> {
    let dir = tempfile::Builder::new().prefix("journal-").tempdir_in(home)?;
    let (on_durable, reports) = reporting();
    let (writer, _) = WalWriter::open(dir.path(), &WalOptions::default(), on_durable, |_| Ok::<_, WalError>(()))?;
    let (mut submitted, mut durable, mut groups) = (0, 0, 0);
    let began = Instant::now();
    while began.elapsed() < length {
        while submitted < durable + IN_FLIGHT {
            submitted += 1;
            submit(&writer, submitted);
        }
        durable = next(&reports)?;
        groups += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    drop(writer);
    let written = WalReader::new(dir.path()).read(|_| Ok::<_, WalError>(()))?;
    // What was still under way at the end is in the journal, too, but not in a group that was counted.
    Ok(Appended { entries: durable, groups, bytes: durable * written.bytes / written.records.max(1), seconds })
}

/// Writes and syncs a second.
fn sync_alone(home: &Path, length: Duration, bytes: usize) -> anyhow::Result<f64> {
    let mut file = tempfile::tempfile_in(home)?;
    fill(&mut file)?;
    let piece = vec![b'x'; bytes];
    let (mut at, mut syncs) = (0, 0_u64);
    let began = Instant::now();
    while began.elapsed() < length {
        if at + bytes as u64 > FILE_BYTES {
            at = 0;
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&piece)?;
        file.sync_data()?;
        at += bytes as u64;
        syncs += 1;
    }
    Ok(syncs as f64 / began.elapsed().as_secs_f64())
}

fn fill(file: &mut File) -> anyhow::Result<()> {
    let zeros = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES >> 20 {
        file.write_all(&zeros)?;
    }
    Ok(file.sync_all()?)
}

fn replay(home: &Path) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("journal-").tempdir_in(home)?;
    let (on_durable, reports) = reporting();
    let (writer, _) = WalWriter::open(dir.path(), &WalOptions::default(), on_durable, |_| Ok::<_, WalError>(()))?;
    (1..=REPLAYED).for_each(|number| submit(&writer, number));
    while next(&reports)? < REPLAYED {}
    drop(writer);

    let (mut entries_per_second, mut of_reading) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let began = Instant::now();
        let mut entries = 0;
        WalReader::new(dir.path()).read(|located| {
            if let Body::Append { count, .. } = located.record.body {
                entries += u64::from(count);
            }
            Ok::<_, WalError>(())
        })?;
        let replayed = began.elapsed().as_secs_f64();
        ensure!(entries == REPLAYED, "{entries} entries were read of {REPLAYED}");
        let read = read_alone(dir.path())?;
        entries_per_second.push(entries as f64 / replayed);
        of_reading.push(read / replayed);
    }
    println!(
        "replay: {:.2} million entries a second; {} of reading the files alone",
        Spread::of(&mut entries_per_second).median / 1e6,
        Spread::of(&mut of_reading)
    );
    Ok(())
}

/// Seconds.
fn read_alone(dir: &Path) -> anyhow::Result<f64> {
    let began = Instant::now();
    for file in fs::read_dir(dir)? {
        std::hint::black_box(fs::read(file?.path())?);
    }
    Ok(began.elapsed().as_secs_f64())
}
