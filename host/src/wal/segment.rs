//! One file of the journal: its name, its header, and how a new one comes to be.

use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskFile};
use super::error::{Flaw, WalError};
use super::record::{checksum, u32_at, u64_at};

/// The format that this version writes, and the only one that it reads.
pub(crate) const FORMAT: u32 = 1;

/// Bytes of a segment's header.
pub(crate) const HEADER_BYTES: usize = 8 + 4 + 8 + 8 + 8 + 4;

const MAGIC: &[u8; 8] = b"UKEHIWAL";
const EXTENSION: &str = ".wal";
const TEMPORARY: &str = ".tmp";

/// What fills a new segment, and how much of it at once. Beside a journal in use each piece is synced before the next: a disk that gets all of
/// a segment to write in one go makes the small writes of the journal wait behind it.
static ZEROS: [u8; 4 << 20] = [0; 4 << 20];

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Names the journal: drawn at random when it begins.
    pub(crate) journal: u64,
    /// The segment's number, as in its name.
    pub(crate) number: u64,
    /// The sequence number of its first record. All earlier records were durable before this was written.
    pub(crate) first_sequence: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&self.journal.to_le_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.first_sequence.to_le_bytes());
        let sum = checksum(self.journal, &bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the header of a segment.
    ///
    /// # Errors
    /// There is none, or not a whole one. A known magic with an unknown format is told apart: the bytes behind it may mean anything.
    pub(crate) fn decode(path: &Path, image: &[u8]) -> Result<Result<Self, Flaw>, WalError> {
        let is_ours = image.starts_with(MAGIC);
        match u32_at(image, 8) {
            // Zero is what a torn write leaves there.
            Some(got) if is_ours && got != FORMAT && got != 0 => {
                return Err(WalError::UnsupportedFormat { path: path.to_owned(), got });
            }
            _ => {}
        }
        Ok(Self::parse(image).filter(|_| is_ours).ok_or(Flaw::Header))
    }

    fn parse(image: &[u8]) -> Option<Self> {
        let header = Self { journal: u64_at(image, 12)?, number: u64_at(image, 20)?, first_sequence: u64_at(image, 28)? };
        let intact = u32_at(image, 36)? == checksum(header.journal, image.get(..36)?) && u32_at(image, 8)? == FORMAT;
        intact.then_some(header)
    }
}

/// The file of a segment.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}{EXTENSION}"))
}

/// The number of the segment of that name.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION)?;
    let canonical = digits.len() == 16 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(digits, 16).ok().filter(|_| canonical)
}

/// Whether the name is that of a segment whose preparation a crash has ended.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.strip_suffix(TEMPORARY).is_some_and(|name| number_of(name).is_some())
}

/// Makes a segment of zeros, durable under its name: from then on a sync need not wait for metadata.
///
/// Without a header it is blank, and no part of the journal yet. The first one has its header from the start, so that a first segment without
/// a good one is damaged beyond doubt.
///
/// # Errors
/// There is no space, or the system failed.
pub(crate) fn prepare(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    bytes: u64,
    header: Option<&Header>,
) -> Result<Box<dyn DiskFile>, WalError> {
    let path = path(dir, number);
    let temporary = dir.join(format!("{number:016x}{EXTENSION}{TEMPORARY}"));
    let fill = || {
        let mut file = disk.create(&temporary)?;
        let mut done = 0;
        while done < bytes {
            let piece = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(ZEROS.len());
            file.write_at(&ZEROS[..piece], done)?;
            done += piece as u64;
            if header.is_none() {
                file.sync()?;
            }
        }
        if let Some(header) = header {
            file.write_at(&header.encode(), 0)?;
        }
        file.sync()?;
        disk.rename(&temporary, &path)?;
        disk.sync_dir(dir)?;
        Ok(file)
    };
    fill().map_err(|error| {
        // Half a segment is of no use, and what is left of the disk may be needed. The next start removes it otherwise.
        let _ = disk.remove(&temporary);
        WalError::space("prepare", dir, &path, bytes)(error)
    })
}
