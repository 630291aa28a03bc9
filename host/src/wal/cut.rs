//! The last resort: a damaged journal loses everything from the damage on.
//!
//! A node does this by itself under [`CorruptionPolicy::Cut`](super::CorruptionPolicy::Cut) alone: what is cut may have been acknowledged, and others may have committed it for that.

use std::path::Path;
use std::sync::Arc;

use amaters_cluster_core::GroupId;

use super::WalOptions;
use super::disk::{Disk, SystemDisk};
use super::error::{Damage, WalError};
use super::hard_state;
use super::inspect::{self, Verdict};
use super::reader::WalReader;
use super::record::Body;
use super::recovery;
use super::scan;
use super::segment::{self, Header};

/// A cut, and what goes with it.
#[derive(Debug, PartialEq, Eq)]
pub struct Cut {
    /// What is damaged.
    pub damage: Damage,
    /// The last log index of what stays; 0 for none.
    pub last_index: u64,
    /// The segments that go as a whole, ascending.
    pub removed: Vec<u64>,
    /// The bytes that are lost, those of records that would be whole included; the zeros at the ends of segments are none.
    pub lost_bytes: u64,
    /// Whether anything stays at all. Where nothing does, there is nothing to cut: the journal is lost.
    pub leaves_something: bool,
    /// Whether there is a copy of a hard state to go on with. Without one, a vote that is cut may be given again.
    pub keeps_hard_state: bool,
    /// The segment that is damaged, or missing.
    pub(super) number: u64,
    /// The last segment in which something stays; 0 for none.
    pub(super) last_kept: u64,
}

/// What a cut of the journal in `dir` would lose; none where it is not damaged. Changes nothing.
///
/// # Errors
/// The system fails, or the format is unknown.
pub fn plan_cut(dir: &Path) -> Result<Option<Cut>, WalError> {
    plan(&(Arc::new(SystemDisk) as Arc<dyn Disk>), dir)
}

pub(crate) fn plan(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Option<Cut>, WalError> {
    let reader = WalReader::on(Arc::clone(disk), dir);
    let Verdict::Damaged(mut damage) = inspect::of(&reader)?.verdict else { return Ok(None) };
    let segments = reader.segments()?;
    // The first damage counts: a cut behind it would leave it. What stands before a gap was not looked at yet.
    let kept = loop {
        let kept = kept_by(&segments, &damage);
        let found = match kept.last() {
            Some(last) if damage.offset == 0 && last + 1 < place_of(&damage).0 => Some(reader.gap_behind(*last, &damage)?),
            _ => reader.damage_of(&kept)?,
        };
        match found {
            Some(earlier) if place_of(&earlier) < place_of(&damage) => damage = earlier,
            _ => break kept,
        }
    };
    let (number, _) = place_of(&damage);
    let last_kept = kept.last().copied().unwrap_or_default();
    let mut last_index = 0;
    let stays = reader.read_before_damage(last_kept, |located| {
        if let Body::Append { first, count, .. } = located.record.body {
            last_index = last_index.max(first.0.saturating_add(u64::from(count)).saturating_sub(1));
        }
        Ok::<_, WalError>(())
    })?;
    if stays.last_sequence > 0 {
        // Behind a gap nobody knew it.
        damage.sequence = stays.last_sequence + 1;
    }
    // One that loses its header too would be a blank one, and nothing may be missing before such.
    let removed: Vec<_> = segments.into_iter().filter(|it| !kept.contains(it)).collect();
    let leaves_something = !kept.is_empty();
    let keeps_hard_state = leaves_something && has_copy(disk.as_ref(), dir, kept.first().copied().unwrap_or(number))?;
    let mut lost_bytes = if removed.contains(&number) { 0 } else { used_bytes(disk.as_ref(), dir, number, damage.offset)? };
    for &removed in &removed {
        lost_bytes += used_bytes(disk.as_ref(), dir, removed, 0)?;
    }
    Ok(Some(Cut { last_index, removed, lost_bytes, leaves_something, keeps_hard_state, number, last_kept, damage }))
}

/// The bytes from a place in a segment on, up to the zeros at its end. A segment that is missing has none.
fn used_bytes(disk: &dyn Disk, dir: &Path, number: u64, offset: u64) -> Result<u64, WalError> {
    let path = segment::path(dir, number);
    match disk.read(&path) {
        Ok(image) => Ok((scan::used(&image) as u64).saturating_sub(offset)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(WalError::io("read", &path)(error)),
    }
}

/// Whether a copy of a hard state is of the journal that this segment belongs to: others say nothing of it.
fn has_copy(disk: &dyn Disk, dir: &Path, segment: u64) -> Result<bool, WalError> {
    let path = segment::path(dir, segment);
    let image = disk.read(&path).map_err(WalError::io("read", &path))?;
    let Ok(header) = Header::decode(&path, &image)? else { return Ok(false) };
    Ok(hard_state::all(disk, dir)?.iter().any(|copy| copy.journal == header.journal))
}

/// The segments in which something stays.
fn kept_by(segments: &[u64], damage: &Damage) -> Vec<u64> {
    let place = place_of(damage);
    segments.iter().copied().filter(|number| (*number, 0) < place).collect()
}

/// The segment that is damaged or missing, and where in it.
fn place_of(damage: &Damage) -> (u64, u64) {
    let number = damage.path.file_name().and_then(|name| name.to_str()).and_then(segment::number_of).unwrap_or_default();
    (number, damage.offset)
}

/// Cuts the journal in `dir` as planned, and adds the hard states to it that only their copies have after that: gives their groups. Nobody else may use it: the
/// caller holds the lock of its data directory.
///
/// # Errors
/// The system fails, or the disk is full: the journal is as damaged as before, and may be cut again.
pub fn carry_out_cut(dir: &Path, cut: &Cut) -> Result<Vec<GroupId>, WalError> {
    carry_out(&(Arc::new(SystemDisk) as Arc<dyn Disk>), dir, cut)
}

pub(crate) fn carry_out(disk: &Arc<dyn Disk>, dir: &Path, cut: &Cut) -> Result<Vec<GroupId>, WalError> {
    remove_what_is_cut(disk.as_ref(), dir, cut)?;
    // Else the next start would find a vote in its copy that the journal lacks, and refuse.
    recovery::recover_cut(disk, dir, WalOptions::default().segment_size)
}

fn remove_what_is_cut(disk: &dyn Disk, dir: &Path, cut: &Cut) -> Result<(), WalError> {
    // The latest first, and each durably: a crash leaves no gap that would look like something else.
    for &number in cut.removed.iter().rev() {
        let path = segment::path(dir, number);
        disk.remove(&path).map_err(WalError::io("remove", &path))?;
        disk.sync_dir(dir).map_err(WalError::io("sync", dir))?;
    }
    let path = segment::path(dir, cut.number);
    let Ok(size) = disk.size(&path) else { return Ok(()) }; // it is missing, or was removed
    let zeros = vec![0; usize::try_from(size.saturating_sub(cut.damage.offset)).unwrap_or(usize::MAX)];
    let mut file = disk.open(&path).map_err(WalError::io("open", &path))?;
    file.write_at(&zeros, cut.damage.offset).and_then(|()| file.sync()).map_err(WalError::io("cut", &path))
}
