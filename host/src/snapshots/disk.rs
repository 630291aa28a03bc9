//! Snapshots in files, and the thread that reads and writes them.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use amaters_cluster_core::EntryId;

use super::files::Files;
use super::{OnSnapshot, SnapshotJob, SnapshotReport, SnapshotStore, SnapshotStoreError, StoredSnapshot};
use crate::wal::disk::{self, Disk, SystemDisk};

/// The most bytes of parts that wait to be written. A core that asks for more than this ahead has lost count, or the disk stands still: the snapshot fails.
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// Snapshots in the files of a directory. Dropping it waits until the job at hand is done, and forgets the others.
pub struct DiskSnapshotStore {
    shared: Arc<Shared>,
    files: Arc<Mutex<Files>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Work>,
    bytes: usize,
    ended: bool,
}

enum Work {
    Job(SnapshotJob),
    /// A part did not fit the queue.
    GiveUp(EntryId),
}

impl DiskSnapshotStore {
    /// The snapshots in `dir`, which is created if there is none. What a crash has left of one is removed.
    ///
    /// # Errors
    /// The disk fails.
    pub fn open(dir: &Path, on_report: OnSnapshot) -> Result<Self, SnapshotStoreError> {
        disk::create_dir(dir).map_err(SnapshotStoreError::io("create", dir))?;
        Self::open_on(Arc::new(SystemDisk), dir, on_report)
    }

    pub(super) fn open_on(disk: Arc<dyn Disk>, dir: &Path, on_report: OnSnapshot) -> Result<Self, SnapshotStoreError> {
        let files = Arc::new(Mutex::new(Files::open(disk, dir)?));
        let shared = Arc::new(Shared::default());
        let (working, worked_on) = (Arc::clone(&shared), Arc::clone(&files));
        let thread = thread::Builder::new().name("snapshots".to_owned()).spawn(move || work(&working, &worked_on, on_report));
        let thread = Some(thread.map_err(SnapshotStoreError::io("start a thread for", dir))?);
        Ok(Self { shared, files, thread })
    }
}

impl SnapshotStore for DiskSnapshotStore {
    fn list(&mut self) -> Result<Vec<StoredSnapshot>, SnapshotStoreError> {
        lock(&self.files).list()
    }

    fn read(&mut self, id: EntryId, offset: u64, max_bytes: usize) -> Result<Vec<u8>, SnapshotStoreError> {
        lock(&self.files).read(id, offset, max_bytes)
    }

    fn put_aside(&mut self, id: EntryId) -> Result<(), SnapshotStoreError> {
        lock(&self.files).put_aside(id)
    }

    fn submit(&mut self, job: SnapshotJob) {
        let mut queue = lock(&self.shared.queue);
        // What comes after a failure is dropped: it was reported.
        if queue.ended {
            return;
        }
        let work = match job {
            SnapshotJob::Write { id, bytes, .. } if queue.bytes > 0 && queue.bytes + bytes.len() > MAX_QUEUED_BYTES => Work::GiveUp(id),
            job => Work::Job(job),
        };
        queue.bytes += work.bytes();
        queue.jobs.push_back(work);
        drop(queue);
        self.shared.filled.notify_one();
    }
}

impl Drop for DiskSnapshotStore {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.ended = true;
        queue.jobs.clear();
        drop(queue);
        self.shared.filled.notify_one();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the snapshots' thread panicked: its log line says where");
        }
    }
}

impl fmt::Debug for DiskSnapshotStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskSnapshotStore").finish_non_exhaustive()
    }
}

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Self::Job(SnapshotJob::Write { bytes, .. }) => bytes.len(),
            Self::Job(_) | Self::GiveUp(_) => 0,
        }
    }
}

impl Shared {
    /// The next job; none once the store has been dropped.
    fn next(&self) -> Option<Work> {
        let queue = lock(&self.queue);
        let waited = self.filled.wait_while(queue, |queue| queue.jobs.is_empty() && !queue.ended);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
        let work = queue.jobs.pop_front()?;
        queue.bytes -= work.bytes();
        Some(work)
    }
}

/// The thread's life.
fn work(shared: &Shared, files: &Mutex<Files>, mut on_report: OnSnapshot) {
    while let Some(work) = shared.next() {
        let done = carry_out(&mut lock(files), work);
        match done {
            Ok(Some(report)) => on_report(Ok(report)),
            Ok(None) => {}
            Err(error) => {
                let mut queue = lock(&shared.queue);
                queue.ended = true;
                queue.jobs.clear();
                drop(queue);
                on_report(Err(error));
                return;
            }
        }
    }
}

fn carry_out(files: &mut Files, work: Work) -> Result<Option<SnapshotReport>, SnapshotStoreError> {
    match work {
        Work::Job(SnapshotJob::Write { id, offset, bytes }) => files.write(id, offset, &bytes),
        Work::Job(SnapshotJob::Finish { id }) => files.finish(id),
        Work::Job(SnapshotJob::Discard { id }) => {
            files.discard(id);
            Ok(None)
        }
        Work::Job(SnapshotJob::Retain { ids }) => files.retain(&ids).map(|()| None),
        Work::Job(SnapshotJob::Read { id, reader, offset, max_bytes }) => {
            let bytes = match files.read(id, offset, max_bytes) {
                Err(SnapshotStoreError::Missing { .. }) => Vec::new(),
                read => read?,
            };
            Ok(Some(SnapshotReport::Read { id, reader, offset, bytes }))
        }
        Work::GiveUp(id) => {
            files.discard(id);
            let reason = format!("the disk is more than {} MiB behind", MAX_QUEUED_BYTES >> 20);
            Ok(Some(SnapshotReport::Failed { id, reason }))
        }
    }
}

/// No thread panics while it holds one of these locks; were one to, what they guard is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
