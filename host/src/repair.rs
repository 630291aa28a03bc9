//! What is done when a node's files are damaged, and how one that repairs itself begins.
//!
//! A node that has lost a part of its journal may have acknowledged what it lost. Under [`CorruptionPolicy::Repair`](crate::CorruptionPolicy::Repair) it comes back with its term and vote, which the journal
//! keeps a second copy of, and without any entry that is in doubt: it neither votes nor counts for a majority until the others have brought it everything
//! that it may have promised. `Config::repair` has the core do that; the data directory remembers it across restarts.
//!
//! ```text
//! DATA_DIR/identity        marked as repairing, before anything else is touched
//! DATA_DIR/wal.new/        the new journal, which begins with the saved hard state; a start finishes the renaming if a crash came between
//! DATA_DIR/wal.damaged/    the damaged one, for whoever looks into it; that of an earlier repair is removed
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use amaters_cluster_core::{GroupId, Operation, Ticket};
use thiserror::Error;

use crate::data_dir::{DataDir, DataDirError};
use crate::engine::EngineError;
use crate::error::RaftError;
use crate::snapshots::{SnapshotStoreError, StoredSnapshot, list_files};
use crate::wal::disk::sync_dir;
use crate::wal::{Body, SavedStateError, WalError, WalOptions, WalReader, WalWriter, saved_hard_state};

/// The group whose journal it is: a process serves one so far.
const GROUP: GroupId = GroupId(0);

/// Why a node can't repair itself.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RepairError {
    /// Nobody has what it lost.
    #[error("the journal is damaged, and there is no other node to repair it from: restore the data directory from a backup")]
    Alone,
    /// Term and vote are lost as well: under its old name the node could vote twice in a term.
    #[error(
        "the journal is damaged, and the copy of the node's term and vote can't be used ({reason}): remove the node from the cluster and add it anew, \
         with a new id and an empty directory (`ukehi member remove`, then `ukehi start --join`)"
    )]
    NoHardState {
        /// What is wrong with the copy.
        reason: String,
    },
    /// The system failed.
    #[error("can't {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory can't be marked.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The new journal can't be written, or the damaged one not be read at all.
    #[error(transparent)]
    Journal(#[from] WalError),
    /// The snapshots can't be listed.
    #[error(transparent)]
    Snapshots(#[from] SnapshotStoreError),
}

/// Whether a start failed for damage that others can repair: something durable in the journal can't be read, or it begins behind the last snapshot that makes sense.
///
/// # Errors
/// The disk fails.
pub fn is_damage(error: &RaftError, dir: &DataDir) -> Result<bool, RepairError> {
    match error {
        RaftError::Storage(error) => Ok(matches!(error.downcast_ref(), Some(WalError::Damaged(_)))),
        RaftError::Engine(EngineError::Journal(_) | EngineError::JournalRefused(_)) => lacks_snapshot(dir),
        _ => Ok(false),
    }
}

/// Whether the journal was compacted for a snapshot that is not there.
fn lacks_snapshot(dir: &DataDir) -> Result<bool, RepairError> {
    let mut first_needed = 1;
    WalReader::new(&dir.wal()).read(|located| {
        if let Body::Compact { first, .. } = located.record.body {
            first_needed = first.0;
        }
        Ok::<_, WalError>(())
    })?;
    let newest = newest_snapshots(dir)?.first().map_or(0, |stored| stored.id.index.0);
    Ok(first_needed > newest.saturating_add(1))
}

/// A directory that is not there holds none.
fn newest_snapshots(dir: &DataDir) -> Result<Vec<StoredSnapshot>, RepairError> {
    if dir.snapshots().is_dir() { Ok(list_files(&dir.snapshots())?) } else { Ok(Vec::new()) }
}

/// Puts the journal aside, and begins another with the saved hard state. The directory is marked as one that repairs itself before that.
///
/// # Errors
/// The node is alone in its cluster, its hard state is lost too, or the system fails.
pub fn begin(dir: &DataDir, options: &WalOptions) -> Result<(), RepairError> {
    // Others may have joined since: then the log has had other members.
    if dir.founders().len() == 1 && !dir.has_members_in_log() {
        return Err(RepairError::Alone);
    }
    let state = match saved_hard_state(&dir.wal(), GROUP) {
        Ok(Some(state)) => state,
        Ok(None) => return Err(RepairError::NoHardState { reason: "there is none".to_owned() }),
        Err(SavedStateError::Io { path, source }) => return Err(RepairError::Io { action: "read", path, source }),
        Err(error) => return Err(RepairError::NoHardState { reason: error.to_string() }),
    };
    dir.repair_begun()?;
    let (new, damaged) = (new_journal(dir.path()), dir.path().join("wal.damaged"));
    for old in [&new, &damaged] {
        match fs::remove_dir_all(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", old)(error)),
            _ => {}
        }
    }
    write_journal(&new, options, vec![Operation::HardState(state)])?;
    fs::rename(dir.wal(), &damaged).map_err(failed("put aside", &dir.wal()))?;
    finish_renaming(dir.path())
}

/// Begins a journal with these operations. They are durable when this returns.
pub(crate) fn write_journal(dir: &Path, options: &WalOptions, operations: Vec<Operation>) -> Result<(), WalError> {
    let (report, reports) = mpsc::channel();
    let on_durable = Box::new(move |durable| drop(report.send(durable)));
    let (writer, _) = WalWriter::open(dir, options, on_durable, |_| Ok::<_, WalError>(()))?;
    writer.submit(GROUP, Ticket(1), operations);
    let durable = reports.recv();
    drop(writer);
    durable.map_or_else(|_| Err(WalError::io("write", dir)(io::Error::other("the journal's thread was lost"))), |durable| durable.map(drop))
}

/// Gives a new journal its name, where a repair, or a crash in one, has left none of that name.
pub(crate) fn finish_renaming(dir: &Path) -> Result<(), RepairError> {
    let (new, wal) = (new_journal(dir), dir.join("wal"));
    fs::rename(&new, &wal).and_then(|()| sync_dir(dir)).map_err(failed("rename", &new))
}

/// Whether a crash has come between the two renames of a repair.
pub(crate) fn is_half_renamed(dir: &Path) -> bool {
    !dir.join("wal").exists() && new_journal(dir).is_dir() && dir.join("wal.damaged").is_dir()
}

fn new_journal(dir: &Path) -> PathBuf {
    dir.join("wal.new")
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RepairError {
    move |source| RepairError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
