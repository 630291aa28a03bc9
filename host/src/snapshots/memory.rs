//! Snapshots that last as long as the process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amaters_cluster_core::EntryId;

use super::{OnSnapshot, SnapshotJob, SnapshotReport, SnapshotStore, SnapshotStoreError, StoredSnapshot};

/// Snapshots in memory: [`RaftNode::new`](crate::RaftNode::new) uses it. A job is reported before [`SnapshotStore::submit`] returns.
pub struct MemorySnapshots {
    complete: Arc<Mutex<BTreeMap<EntryId, Vec<u8>>>>,
    partial: Option<(EntryId, Vec<u8>)>,
    on_report: OnSnapshot,
}

impl MemorySnapshots {
    /// The same snapshots for another instance of the node.
    #[must_use]
    pub fn open(&self, on_report: OnSnapshot) -> Self {
        Self { complete: Arc::clone(&self.complete), partial: None, on_report }
    }

    /// No thread panics while it holds the lock; were one to, the snapshots are still whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<EntryId, Vec<u8>>> {
        self.complete.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&mut self, id: EntryId, offset: u64, part: &[u8]) -> Option<SnapshotReport> {
        if offset == 0 {
            self.partial = Some((id, Vec::new()));
        }
        let (_, bytes) = self.partial.as_mut().filter(|(begun, bytes)| *begun == id && bytes.len() as u64 == offset)?;
        bytes.extend_from_slice(part);
        Some(SnapshotReport::Written { id, end: bytes.len() as u64 })
    }
}

impl Default for MemorySnapshots {
    /// No snapshots, and nobody to report to: [`MemorySnapshots::open`] gives a store that reports.
    fn default() -> Self {
        Self { complete: Arc::default(), partial: None, on_report: Box::new(drop) }
    }
}

impl SnapshotStore for MemorySnapshots {
    fn list(&mut self) -> Result<Vec<StoredSnapshot>, SnapshotStoreError> {
        let mut all: Vec<_> = self.lock().iter().map(|(id, bytes)| StoredSnapshot { id: *id, bytes: bytes.len() as u64 }).collect();
        all.sort_unstable_by_key(|stored| std::cmp::Reverse((stored.id.index, stored.id.term)));
        Ok(all)
    }

    fn read(&mut self, id: EntryId, offset: u64, max_bytes: usize) -> Result<Vec<u8>, SnapshotStoreError> {
        let complete = self.lock();
        let bytes = complete.get(&id).ok_or(SnapshotStoreError::Missing { id })?;
        Ok(part_of(bytes, offset, max_bytes))
    }

    fn put_aside(&mut self, id: EntryId) -> Result<(), SnapshotStoreError> {
        self.lock().remove(&id);
        Ok(())
    }

    fn submit(&mut self, job: SnapshotJob) {
        let report = match job {
            SnapshotJob::Write { id, offset, bytes } => self.write(id, offset, &bytes),
            SnapshotJob::Finish { id } => self.partial.take_if(|(begun, _)| *begun == id).map(|(id, bytes)| {
                self.lock().insert(id, bytes);
                SnapshotReport::Stored { id }
            }),
            SnapshotJob::Discard { id } => {
                self.partial.take_if(|(begun, _)| *begun == id);
                None
            }
            SnapshotJob::Retain { ids } => {
                self.lock().retain(|id, _| ids.contains(id));
                None
            }
            SnapshotJob::Read { id, reader, offset, max_bytes } => {
                let bytes = self.lock().get(&id).map(|bytes| part_of(bytes, offset, max_bytes)).unwrap_or_default();
                Some(SnapshotReport::Read { id, reader, offset, bytes })
            }
        };
        if let Some(report) = report {
            (self.on_report)(Ok(report));
        }
    }
}

fn part_of(bytes: &[u8], offset: u64, max_bytes: usize) -> Vec<u8> {
    let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
    rest[..rest.len().min(max_bytes)].to_vec()
}

impl fmt::Debug for MemorySnapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySnapshots").field("snapshots", &self.lock().len()).finish_non_exhaustive()
    }
}
