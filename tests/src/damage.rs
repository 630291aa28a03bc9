//! What a bad disk does to the files of a node that is down.

use std::fs;
use std::path::{Path, PathBuf};

use amaters_cluster::wal::{WalError, WalReader};

/// Changes a byte of a record that was durable beyond doubt: a later one was written when it was. `place`, from 0 to 1, says how far into the journal. Gives the
/// segment, or nothing where the journal is too short for such a record.
pub fn flip_in_wal(data_dir: &Path, place: f64) -> Option<PathBuf> {
    let wal = data_dir.join("wal");
    let (mut records, mut proven) = (Vec::new(), 0);
    let read = WalReader::new(&wal).read(|located| {
        proven = proven.max(located.record.synced);
        records.push((located.segment, located.offset, located.record.sequence));
        Ok::<_, WalError>(())
    });
    read.expect("the journal is whole before it is damaged");
    records.retain(|(_, _, sequence)| *sequence <= proven);
    let (segment, offset, _) = records.get(nth(place, records.len()))?;
    let path = wal.join(format!("{segment:016x}.wal"));
    // Behind the length, the type and the group: a byte of the record's own number.
    flip(&path, offset + 15);
    Some(path)
}

/// Changes a byte of the newest snapshot, and gives its file; nothing where there is none.
pub fn flip_in_newest_snapshot(data_dir: &Path, place: f64) -> Option<PathBuf> {
    let path = snapshots(data_dir).pop()?;
    let bytes = fs::metadata(&path).expect("a snapshot has a size").len();
    let at = nth(place, usize::try_from(bytes).expect("it fits into memory"));
    flip(&path, at as u64);
    Some(path)
}

/// The files of complete snapshots, oldest first.
pub fn snapshots(data_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data_dir.join("snapshots")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|extension| extension == "snap")).collect();
    files.sort(); // indices of a fixed width
    files
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).expect("the file can be read");
    bytes[usize::try_from(at).expect("the place is in memory")] ^= 0x20;
    fs::write(path, bytes).expect("the file can be written");
}

/// The element that stands at this share of `count`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of records and bytes here are small and positive")]
fn nth(place: f64, count: usize) -> usize {
    ((place * count as f64) as usize).min(count.saturating_sub(1))
}
