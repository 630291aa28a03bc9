//! The files of snapshots, and what is done to them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use amaters_cluster_core::{EntryId, LogIndex, Term};

use super::{SnapshotReport, SnapshotStoreError, StoredSnapshot};
use crate::wal::disk::{Disk, DiskFile, SystemDisk};

const EXTENSION: &str = ".snap";
const TEMPORARY: &str = ".tmp";
const BAD: &str = ".bad";

/// How much is written before it is synced.
const SYNC_BYTES: u64 = 4 << 20;

/// A directory of snapshots, and the one that is being written.
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    partial: Option<Partial>,
}

struct Partial {
    id: EntryId,
    file: Box<dyn DiskFile>,
    end: u64,
    synced: u64,
}

/// What ends a job without what it was to give.
enum Failure {
    /// This snapshot can't be written.
    Snapshot(String),
    /// Nothing can be relied on any more.
    Store(SnapshotStoreError),
}

impl From<SnapshotStoreError> for Failure {
    fn from(error: SnapshotStoreError) -> Self {
        Self::Store(error)
    }
}

impl Files {
    /// The snapshots in a directory that exists. What a crash has left of one is removed.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, SnapshotStoreError> {
        let this = Self { disk, dir: dir.to_owned(), partial: None };
        for name in this.names()?.iter().filter(|name| name.strip_suffix(TEMPORARY).is_some_and(|name| id_of(name).is_some())) {
            let path = dir.join(name);
            this.disk.remove(&path).map_err(SnapshotStoreError::io("remove", &path))?;
        }
        Ok(this)
    }

    /// The snapshots in a directory that a node may be writing to: only to be read.
    pub(super) fn beside(dir: &Path) -> Self {
        Self { disk: Arc::new(SystemDisk), dir: dir.to_owned(), partial: None }
    }

    fn names(&self) -> Result<Vec<String>, SnapshotStoreError> {
        self.disk.list(&self.dir).map_err(SnapshotStoreError::io("list", &self.dir))
    }

    fn ids(&self) -> Result<Vec<EntryId>, SnapshotStoreError> {
        let mut ids: Vec<_> = self.names()?.iter().filter_map(|name| id_of(name)).collect();
        ids.sort_unstable_by_key(|id| std::cmp::Reverse((id.index, id.term)));
        Ok(ids)
    }

    /// Newest first.
    pub(super) fn list(&self) -> Result<Vec<StoredSnapshot>, SnapshotStoreError> {
        let stored = |id| {
            let path = self.path(id);
            let bytes = self.disk.size(&path).map_err(SnapshotStoreError::io("look at", &path))?;
            Ok(StoredSnapshot { id, bytes })
        };
        self.ids()?.into_iter().map(stored).collect()
    }

    pub(super) fn read(&self, id: EntryId, offset: u64, max_bytes: usize) -> Result<Vec<u8>, SnapshotStoreError> {
        let path = self.path(id);
        self.disk.read_at(&path, offset, max_bytes).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SnapshotStoreError::Missing { id },
            _ => SnapshotStoreError::io("read", &path)(error),
        })
    }

    /// Only the last one that was put aside is kept: they would fill the disk.
    pub(super) fn put_aside(&self, id: EntryId) -> Result<(), SnapshotStoreError> {
        for name in self.names()?.iter().filter(|name| name.strip_suffix(BAD).is_some_and(|name| id_of(name).is_some())) {
            let path = self.dir.join(name);
            self.disk.remove(&path).map_err(SnapshotStoreError::io("remove", &path))?;
        }
        let path = self.path(id);
        self.disk.rename(&path, &with(&path, BAD)).map_err(SnapshotStoreError::io("put aside", &path))?;
        self.disk.sync_dir(&self.dir).map_err(SnapshotStoreError::io("sync", &self.dir))
    }

    /// Writes a part. Nothing comes of one that belongs to no snapshot that was begun: that was reported when it ended.
    pub(super) fn write(&mut self, id: EntryId, offset: u64, bytes: &[u8]) -> Result<Option<SnapshotReport>, SnapshotStoreError> {
        let written = self.try_write(id, offset, bytes);
        self.or_failed(id, written)
    }

    fn try_write(&mut self, id: EntryId, offset: u64, bytes: &[u8]) -> Result<Option<SnapshotReport>, Failure> {
        if offset == 0 {
            self.drop_partial();
            let path = with(&self.path(id), TEMPORARY);
            let file = self.disk.create(&path).map_err(|error| no_snapshot("create", &path, &error))?;
            self.partial = Some(Partial { id, file, end: 0, synced: 0 });
        }
        let path = with(&self.path(id), TEMPORARY);
        let Some(partial) = self.partial.as_mut().filter(|partial| (partial.id, partial.end) == (id, offset)) else { return Ok(None) };
        partial.file.write_at(bytes, offset).map_err(|error| no_snapshot("write", &path, &error))?;
        partial.end += bytes.len() as u64;
        if partial.end - partial.synced >= SYNC_BYTES {
            partial.sync(&path)?;
        }
        Ok(Some(SnapshotReport::Written { id, end: partial.end }))
    }

    /// Makes the snapshot durable, and gives it its name.
    pub(super) fn finish(&mut self, id: EntryId) -> Result<Option<SnapshotReport>, SnapshotStoreError> {
        let finished = self.try_finish(id);
        self.or_failed(id, finished)
    }

    fn try_finish(&mut self, id: EntryId) -> Result<Option<SnapshotReport>, Failure> {
        let path = self.path(id);
        let temporary = with(&path, TEMPORARY);
        let Some(partial) = self.partial.as_mut().filter(|partial| partial.id == id) else { return Ok(None) };
        partial.sync(&temporary)?;
        self.disk.rename(&temporary, &path).map_err(|error| no_snapshot("rename", &temporary, &error))?;
        self.partial = None;
        self.disk.sync_dir(&self.dir).map_err(SnapshotStoreError::io("sync", &self.dir))?;
        Ok(Some(SnapshotReport::Stored { id }))
    }

    fn or_failed(
        &mut self,
        id: EntryId,
        done: Result<Option<SnapshotReport>, Failure>,
    ) -> Result<Option<SnapshotReport>, SnapshotStoreError> {
        match done {
            Ok(report) => Ok(report),
            Err(Failure::Snapshot(reason)) => {
                self.drop_partial();
                Ok(Some(SnapshotReport::Failed { id, reason }))
            }
            Err(Failure::Store(error)) => Err(error),
        }
    }

    /// Forgets what was written of a snapshot.
    pub(super) fn discard(&mut self, id: EntryId) {
        if self.partial.as_ref().is_some_and(|partial| partial.id == id) {
            self.drop_partial();
        }
    }

    fn drop_partial(&mut self) {
        if let Some(Partial { id, file, .. }) = self.partial.take() {
            drop(file);
            let path = with(&self.path(id), TEMPORARY);
            if let Err(error) = self.disk.remove(&path) {
                tracing::warn!("{} stays until the next start: {error}", path.display());
            }
        }
    }

    /// Removes the others. What can't be removed is tried again with the next snapshot.
    pub(super) fn retain(&self, ids: &[EntryId]) -> Result<(), SnapshotStoreError> {
        let mut removed = false;
        for id in self.ids()?.into_iter().filter(|id| !ids.contains(id)) {
            let path = self.path(id);
            match self.disk.remove(&path) {
                Ok(()) => removed = true,
                Err(error) => tracing::warn!("the snapshot {} is no longer needed, and stays: {error}", path.display()),
            }
        }
        if removed { self.disk.sync_dir(&self.dir).map_err(SnapshotStoreError::io("sync", &self.dir)) } else { Ok(()) }
    }

    fn path(&self, id: EntryId) -> PathBuf {
        self.dir.join(format!("{:016x}-{:016x}{EXTENSION}", id.index.0, id.term.0))
    }
}

impl Partial {
    fn sync(&mut self, path: &Path) -> Result<(), Failure> {
        self.synced = self.end;
        self.file.sync().map_err(|error| match error.kind() {
            // The file goes, so nothing relies on what was not written.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => no_snapshot("sync", path, &error),
            _ => Failure::Store(SnapshotStoreError::io("sync", path)(error)),
        })
    }
}

fn no_snapshot(action: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::Snapshot(format!("can't {action} {}: {error}", path.display()))
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The snapshot of that name, if it is complete.
pub(super) fn id_of(name: &str) -> Option<EntryId> {
    let (index, term) = name.strip_suffix(EXTENSION)?.split_once('-')?;
    let number = |digits: &str| {
        let canonical = digits.len() == 16 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        u64::from_str_radix(digits, 16).ok().filter(|_| canonical)
    };
    Some(EntryId { index: LogIndex(number(index)?), term: Term(number(term)?) })
}
