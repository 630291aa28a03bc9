//! The journal's end, to which groups of records are added: encode, write once, sync once. Or later, where that is left to the system.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use amaters_cluster_core::GroupId;

use super::disk::{Disk, DiskFile};
use super::error::WalError;
use super::hard_state;
use super::record::{self, Body, Record};
use super::recovery::{self, Position};
use super::segment::{self, HEADER_BYTES, Header};
use super::space::Space;

/// How much memory the buffer keeps between groups.
const KEPT_BYTES: usize = 8 << 20;

/// What file systems and disks write in one piece, as a rule.
const BLOCK_BYTES: u64 = 4096;

/// The journal, open for records. After an error it must not be used again: nothing says what of the group is on disk.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_size: u64,
    /// Waits for it where there is none.
    space: Space,
    end: Position,
    /// Whether a group is synced as soon as it is written.
    syncs: bool,
    /// All records up to this one are durable.
    synced: u64,
    /// Bytes that were written since.
    unsynced: u64,
    /// Whether a record on disk says so.
    marked: bool,
    buffer: Vec<u8>,
    next: Option<JoinHandle<Result<Box<dyn DiskFile>, WalError>>>,
    /// Removes segments that were released.
    removing: Option<JoinHandle<()>>,
}

impl Journal {
    /// Goes on where recovery has ended.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, segment_size: u64, space: Space, end: Position) -> Self {
        let synced = end.next_sequence - 1;
        let marked = synced == 0;
        Self {
            disk,
            dir,
            segment_size,
            space,
            end,
            syncs: true,
            synced,
            unsynced: 0,
            marked,
            buffer: Vec::new(),
            next: None,
            removing: None,
        }
    }

    /// The same, which syncs only where the format needs it: a flush writes, and leaves the rest to the system.
    pub(crate) fn left_to_the_system(mut self) -> Self {
        self.syncs = false;
        self
    }

    /// Adds a record to the group. It is written, and durable as a rule, after [`Journal::flush`].
    ///
    /// # Errors
    /// It is too large; or a full segment was finished first, and that failed.
    pub(crate) fn push(&mut self, group: GroupId, body: Body<'_>) -> Result<(), WalError> {
        let bytes = u64::from(body.record_bytes()?);
        let at = self.end.offset + self.buffer.len() as u64;
        // A record that fits no segment gets one of its own, which grows.
        if at + bytes > self.end.capacity && at > HEADER_BYTES as u64 {
            self.flush()?;
            self.roll()?;
        }
        if self.end.offset <= HEADER_BYTES as u64 && self.buffer.is_empty() {
            // Any segment may become the first one: then it has to be read with the hard state that holds now.
            for (group, state) in self.end.ledger.hard_states() {
                self.encode(group, Body::HardState(&state))?;
            }
        }
        self.encode(group, body)
    }

    /// Writes all that was pushed, at once, and makes it durable, unless that is left to the system. What fails is never tried again.
    ///
    /// # Errors
    /// The disk is full, or the system failed.
    pub(crate) fn flush(&mut self) -> Result<(), WalError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = self.buffer.len() as u64;
        self.pad_to_block(bytes);
        let path = || segment::path(&self.dir, self.end.number);
        self.end
            .file
            .write_at(&self.buffer, self.end.offset)
            .map_err(|error| WalError::space("write", &self.dir, &path(), bytes)(error))?;
        self.end.offset += bytes;
        self.unsynced += bytes;
        self.marked = false;
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BYTES);
        if self.syncs {
            self.sync()?;
        }
        // Early enough to be ready when it is needed, and not before a node that idles needs it.
        if self.next.is_none() && self.end.offset > self.end.capacity / 4 {
            self.next = self.prepare_next();
        }
        Ok(())
    }

    /// Makes all that was written durable, and then the copies of hard states that were among it, which wait for space. Nothing may have been pushed since it was written.
    ///
    /// # Errors
    /// The disk is full, or the system failed.
    fn sync(&mut self) -> Result<(), WalError> {
        if self.unsynced == 0 {
            return Ok(());
        }
        let path = || segment::path(&self.dir, self.end.number);
        self.end.file.sync().map_err(|error| WalError::space("sync", &self.dir, &path(), self.unsynced)(error))?;
        self.synced = self.end.next_sequence - 1;
        self.unsynced = 0;
        for (group, state) in self.end.ledger.take_new_hard_states() {
            self.space.wait_for(self.disk.as_ref(), || hard_state::write(self.disk.as_ref(), &self.dir, self.end.journal, group, state))?;
        }
        Ok(())
    }

    /// Ends the write at the end of a block, with the zeros that stand there anyway. A block whose first write is whole need not be read for it, and
    /// the next group then finds its first block in memory.
    fn pad_to_block(&mut self, bytes: u64) {
        let end = self.end.offset + bytes;
        let padded = end.next_multiple_of(BLOCK_BYTES).min(self.end.capacity.max(end));
        let zeros = usize::try_from(padded - end).expect("less than a block");
        self.buffer.resize(self.buffer.len() + zeros, 0);
    }

    /// Lets go of segments that say nothing any more, if there are any since the last group. What waits for that group has been told before.
    ///
    /// # Errors
    /// The record that says so can't be written: as [`Journal::flush`].
    pub(crate) fn release(&mut self) -> Result<(), WalError> {
        let Some(first_segment) = self.end.ledger.releasable(self.end.number) else { return Ok(()) };
        // What the release relies on is durable before it, hard states' copies too, and it is before anything goes.
        self.sync()?;
        self.push(GroupId(0), Body::Release { first_segment })?;
        self.flush()?;
        self.sync()?;
        self.wait_for_removal();
        let (disk, dir) = (Arc::clone(&self.disk), self.dir.clone());
        let remove = move || {
            if let Err(error) = recovery::remove_released(disk.as_ref(), &dir, first_segment) {
                tracing::warn!("segments of the journal that are no longer needed stay until the next start: {error}");
            }
        };
        // Without a thread the next start does it.
        self.removing = thread::Builder::new().name("wal-release".to_owned()).spawn(remove).ok();
        Ok(())
    }

    fn wait_for_removal(&mut self) {
        if let Some(removing) = self.removing.take() {
            let _ = removing.join(); // whatever it left is removed by the next start
        }
    }

    /// Leaves a mark that proves the last group, so that damage to it is told from a torn write.
    ///
    /// # Errors
    /// As [`Journal::flush`]. Nothing is lost but the proof.
    pub(crate) fn close(&mut self) -> Result<(), WalError> {
        if !self.marked {
            self.sync()?;
            self.encode(GroupId(0), Body::Mark)?;
            self.flush()?;
            self.sync()?;
        }
        Ok(())
    }

    fn encode(&mut self, group: GroupId, body: Body<'_>) -> Result<(), WalError> {
        let sequence = self.end.next_sequence;
        if self.end.offset == 0 && self.buffer.is_empty() {
            let header = Header { journal: self.end.journal, number: self.end.number, first_sequence: sequence };
            self.buffer.extend_from_slice(&header.encode());
        }
        record::encode(self.end.journal, &Record { group, sequence, synced: self.synced, body }, &mut self.buffer)?;
        self.end.ledger.note(self.end.number, group, body);
        self.end.next_sequence += 1;
        Ok(())
    }

    /// Goes on in the next segment. Its header is written with its first group, and says that all before is durable.
    fn roll(&mut self) -> Result<(), WalError> {
        self.sync()?;
        let prepared = match self.next.take().map(JoinHandle::join) {
            None => self.preparation()(),
            Some(Ok(prepared)) => prepared,
            Some(Err(_)) => Err(WalError::io("prepare", &segment::path(&self.dir, self.end.number + 1))(std::io::Error::other(
                "the thread that prepares segments panicked",
            ))),
        };
        self.end.file = prepared?;
        self.end.number += 1;
        self.end.offset = 0;
        self.end.capacity = self.segment_size;
        Ok(())
    }

    /// Prepares the next segment, and waits for space where there is none.
    fn preparation(&self) -> impl FnOnce() -> Result<Box<dyn DiskFile>, WalError> + Send + 'static {
        let (disk, dir, number, size) = (Arc::clone(&self.disk), self.dir.clone(), self.end.number + 1, self.segment_size);
        let space = self.space.clone();
        move || space.wait_for(disk.as_ref(), || segment::prepare(disk.as_ref(), &dir, number, size, None))
    }

    fn prepare_next(&self) -> Option<JoinHandle<Result<Box<dyn DiskFile>, WalError>>> {
        // Without a thread it is prepared when it is needed.
        thread::Builder::new().name("wal-prepare".to_owned()).spawn(self.preparation()).ok()
    }
}

impl Drop for Journal {
    /// Whoever opens the journal next must find no thread at work in it.
    fn drop(&mut self) {
        self.space.close();
        if let Some(preparing) = self.next.take() {
            let _ = preparing.join(); // a segment that nobody needs any more
        }
        self.wait_for_removal();
    }
}
