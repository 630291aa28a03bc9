//! Where a node's snapshots are kept. What is in them is the core's affair: here they are names and bytes.
//!
//! A snapshot is named by the last entry of the log that it holds. [`DiskSnapshotStore`] keeps each in a file:
//!
//! ```text
//! DATA_DIR/snapshots/0000000000000abc-0000000000000002.snap       complete: index and term in hexadecimal
//!                    ….snap.tmp                                   being written; a start removes it
//!                    ….snap.bad                                   could not be read back: kept for whoever looks into it, the last one alone
//! ```
//!
//! A file is synced before it gets its name, and the directory after it. While it is written it is synced every few MiB: a disk that gets all of it at once
//! makes the journal's small writes wait behind it.
//!
//! | what fails | what follows |
//! |---|---|
//! | a write, or there is no space | the partial file is removed, the core hears of it, and the node goes on with its log |
//! | a sync, of a file or the directory | the node ends, as with the journal: what is on disk is not known any more |
//! | reading a complete snapshot back | the node ends |
//! | removing | a line in the log |

mod disk;
mod files;
mod memory;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use amaters_cluster_core::{EntryId, NodeId};
use thiserror::Error;

pub use amaters_cluster_core::StoredSnapshot;
pub use disk::DiskSnapshotStore;
pub use memory::MemorySnapshots;

/// Keeps a node's snapshots. The node's own thread calls it, so [`SnapshotStore::submit`] must not wait for a disk.
///
/// What comes of a job is told to the [`OnSnapshot`] that a store is opened with. Jobs are carried out in their order.
pub trait SnapshotStore: Send + 'static {
    /// The complete snapshots, newest first. Called before the first job.
    ///
    /// # Errors
    /// The disk fails.
    fn list(&mut self) -> Result<Vec<StoredSnapshot>, SnapshotStoreError>;

    /// A part of a complete snapshot, of up to `max_bytes`; nothing at its end. Called before the first job: it waits for the disk.
    ///
    /// # Errors
    /// The disk fails, or there is no such snapshot.
    fn read(&mut self, id: EntryId, offset: u64, max_bytes: usize) -> Result<Vec<u8>, SnapshotStoreError>;

    /// A complete snapshot makes no sense: it is put aside, and not listed any more. Called before the first job.
    ///
    /// # Errors
    /// The disk fails.
    fn put_aside(&mut self, id: EntryId) -> Result<(), SnapshotStoreError>;

    /// Takes a job, and returns at once.
    fn submit(&mut self, job: SnapshotJob);
}

/// What a store is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotJob {
    /// Write a part. Offset 0 begins the snapshot, anew if it was begun before; others go on where the part before has ended. One is written at a time.
    Write {
        /// The snapshot.
        id: EntryId,
        /// Where the part belongs, in bytes from the start.
        offset: u64,
        /// The part.
        bytes: Vec<u8>,
    },
    /// Make it durable, and only then let it be found.
    Finish {
        /// The snapshot.
        id: EntryId,
    },
    /// Forget what was written of it.
    Discard {
        /// The snapshot.
        id: EntryId,
    },
    /// Remove all complete snapshots but these.
    Retain {
        /// Those that stay.
        ids: Vec<EntryId>,
    },
    /// Read a part of a complete snapshot.
    Read {
        /// The snapshot.
        id: EntryId,
        /// Who it is for: comes back with the bytes.
        reader: NodeId,
        /// From where, in bytes.
        offset: u64,
        /// How much, at most.
        max_bytes: usize,
    },
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotReport {
    /// Of [`SnapshotJob::Write`]: all bytes before `end` are written, if not durable.
    Written {
        /// The snapshot.
        id: EntryId,
        /// In bytes from the start.
        end: u64,
    },
    /// Of [`SnapshotJob::Finish`]: the snapshot is durable, and is there after a restart.
    Stored {
        /// The snapshot.
        id: EntryId,
    },
    /// Of [`SnapshotJob::Read`].
    Read {
        /// The snapshot.
        id: EntryId,
        /// As in the job.
        reader: NodeId,
        /// As in the job.
        offset: u64,
        /// What stands there; nothing at the end, and where there is no such snapshot.
        bytes: Vec<u8>,
    },
    /// The snapshot can't be written, and what there was of it is gone.
    Failed {
        /// The snapshot.
        id: EntryId,
        /// Why, for an operator.
        reason: String,
    },
}

/// Is called with what came of each job, from any thread; or once, and for the last time, with the failure that has ended the store.
pub type OnSnapshot = Box<dyn FnMut(Result<SnapshotReport, SnapshotStoreError>) + Send>;

/// Why snapshots can't be kept. The node ends.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotStoreError {
    /// The operating system refused or failed.
    #[error("can't {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A new one could not be written.
    #[error("{reason}")]
    NotWritten {
        /// Why, for an operator.
        reason: String,
    },
    /// There is none of this name.
    #[error("there is no snapshot {id}")]
    Missing {
        /// The name.
        id: EntryId,
    },
}

/// The complete snapshots in a directory, newest first, whether a node runs there or not. Changes nothing.
pub(crate) fn list_files(dir: &Path) -> Result<Vec<StoredSnapshot>, SnapshotStoreError> {
    files::Files::beside(dir).list()
}

/// A part of a complete snapshot in a directory, as [`SnapshotStore::read`].
pub(crate) fn read_file(dir: &Path, id: EntryId, offset: u64, max_bytes: usize) -> Result<Vec<u8>, SnapshotStoreError> {
    files::Files::beside(dir).read(id, offset, max_bytes)
}

/// A snapshot that is being written into a directory that no node uses.
pub(crate) struct NewSnapshot {
    files: files::Files,
    id: EntryId,
    end: u64,
}

impl NewSnapshot {
    /// Begins one in a directory that exists.
    pub(crate) fn begin(dir: &Path, id: EntryId) -> Result<Self, SnapshotStoreError> {
        let mut this = Self { files: files::Files::beside(dir), id, end: 0 };
        this.push(&[])?;
        Ok(this)
    }

    /// Adds bytes to it.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotStoreError> {
        let report = self.files.write(self.id, self.end, bytes)?;
        self.end += bytes.len() as u64;
        or_not_written(report)
    }

    /// Makes it durable, and gives it its name.
    pub(crate) fn finish(mut self) -> Result<(), SnapshotStoreError> {
        or_not_written(self.files.finish(self.id)?)
    }
}

fn or_not_written(report: Option<SnapshotReport>) -> Result<(), SnapshotStoreError> {
    match report {
        Some(SnapshotReport::Written { .. } | SnapshotReport::Stored { .. }) => Ok(()),
        Some(SnapshotReport::Failed { reason, .. }) => Err(SnapshotStoreError::NotWritten { reason }),
        Some(SnapshotReport::Read { .. }) | None => Err(SnapshotStoreError::NotWritten { reason: "the snapshot was not begun".to_owned() }),
    }
}

impl SnapshotStoreError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
