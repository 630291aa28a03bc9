//! A second copy of each group's newest hard state, outside of the segments: what a node needs to repair itself when its journal is damaged.
//!
//! ```text
//! file: magic "UKEHIHST" | format u32 = 1 | journal u64 | group u64 | state | crc u32          32 bytes and the state
//! ```
//!
//! Numbers are little endian. The checksum is CRC-32 (IEEE) of the journal's number and of all bytes before it, as in a segment. The format is the journal's.
//!
//! A copy is written after the group that it copies was synced, and the next group after the copy is durable. So the journal's last but one hard state, or a later one, is always
//! in the copy, and what is in the copy is always in the journal. [`all`] is for the start that makes sure of the latter.

use std::io;
use std::path::{Path, PathBuf};

use amaters_cluster_core::GroupId;
use thiserror::Error;

use super::disk::{Disk, SystemDisk};
use super::error::WalError;
use super::record::{checksum, u32_at, u64_at};
use super::segment::FORMAT;

const MAGIC: &[u8; 8] = b"UKEHIHST";
const NAME: &str = "hard-state-";
const TEMPORARY: &str = ".tmp";

/// Bytes before the state.
const BEFORE: usize = 8 + 4 + 8 + 8;

/// The copy can't be relied on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SavedStateError {
    /// The operating system refused or failed.
    #[error("can't read {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is damaged, or another group's.
    #[error("{} is damaged: its checksum does not fit, or it belongs elsewhere", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Another version wrote it.
    #[error("{} has format {got}, and this version reads format {FORMAT}: start the version that wrote it, or a newer one", .path.display())]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        got: u32,
    },
}

/// Reads the copy of a group's newest hard state from the journal's directory; none where there is no such file.
///
/// # Errors
/// It can't be read, is damaged, or is of an unknown format.
pub fn saved_hard_state(dir: &Path, group: GroupId) -> Result<Option<Vec<u8>>, SavedStateError> {
    read(&SystemDisk, dir, group)
}

pub(crate) fn read(disk: &dyn Disk, dir: &Path, group: GroupId) -> Result<Option<Vec<u8>>, SavedStateError> {
    Ok(read_copy(disk, dir, group)?.map(|copy| copy.state))
}

/// A copy that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedCopy {
    /// The journal whose record it copies.
    pub(crate) journal: u64,
    pub(crate) group: GroupId,
    pub(crate) state: Vec<u8>,
}

/// The copies in a directory that are whole. The others say nothing.
///
/// # Errors
/// The system fails. That is no damaged copy: what it would have said is not known.
pub(crate) fn all(disk: &dyn Disk, dir: &Path) -> Result<Vec<SavedCopy>, WalError> {
    let names = disk.list(dir).map_err(WalError::io("list", dir))?;
    let groups = names.iter().filter_map(|name| name.strip_prefix(NAME)?.parse().ok().map(GroupId));
    let mut copies = Vec::new();
    for group in groups {
        match read_copy(disk, dir, group) {
            Ok(copy) => copies.extend(copy),
            Err(SavedStateError::Io { path, source }) => return Err(WalError::io("read", &path)(source)),
            Err(SavedStateError::Damaged { .. } | SavedStateError::UnsupportedFormat { .. }) => {}
        }
    }
    Ok(copies)
}

fn read_copy(disk: &dyn Disk, dir: &Path, group: GroupId) -> Result<Option<SavedCopy>, SavedStateError> {
    let path = path(dir, group);
    let image = match disk.read(&path) {
        Ok(image) => image,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SavedStateError::Io { path, source }),
    };
    match u32_at(&image, 8) {
        Some(got) if image.starts_with(MAGIC) && got != FORMAT => return Err(SavedStateError::UnsupportedFormat { path, got }),
        _ => {}
    }
    let journal = u64_at(&image, 12).unwrap_or_default();
    let end = image.len().saturating_sub(4).max(BEFORE);
    match image.get(BEFORE..end) {
        Some(state) if self::image(journal, group, state) == image => Ok(Some(SavedCopy { journal, group, state: state.to_vec() })),
        _ => Err(SavedStateError::Damaged { path }),
    }
}

/// Writes the copies that are not what they should be.
pub(crate) fn renew<'s>(
    disk: &dyn Disk,
    dir: &Path,
    journal: u64,
    states: impl Iterator<Item = (GroupId, &'s [u8])>,
) -> Result<(), WalError> {
    for (group, state) in states {
        if !disk.read(&path(dir, group)).is_ok_and(|found| found == image(journal, group, state)) {
            write(disk, dir, journal, group, state)?;
        }
    }
    Ok(())
}

/// Writes a copy, beside and renamed. It is durable when this returns.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, journal: u64, group: GroupId, state: &[u8]) -> Result<(), WalError> {
    let path = path(dir, group);
    let image = image(journal, group, state);
    let write = || {
        let temporary = dir.join(format!("{NAME}{group}{TEMPORARY}"));
        let mut file = disk.create(&temporary)?;
        file.write_at(&image, 0)?;
        file.sync()?;
        disk.rename(&temporary, &path)?;
        disk.sync_dir(dir)
    };
    write().map_err(WalError::space("write", dir, &path, image.len() as u64))
}

/// Whether the name is that of a copy whose writing a crash has ended.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.strip_prefix(NAME).is_some_and(|rest| rest.ends_with(TEMPORARY))
}

/// The file of a group's copy.
pub(crate) fn path(dir: &Path, group: GroupId) -> PathBuf {
    dir.join(format!("{NAME}{group}"))
}

fn image(journal: u64, group: GroupId, state: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BEFORE + state.len() + 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&journal.to_le_bytes());
    bytes.extend_from_slice(&group.0.to_le_bytes());
    bytes.extend_from_slice(state);
    let sum = checksum(journal, &bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}
