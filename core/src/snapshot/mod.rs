//! Snapshots: what has been applied, in place of the log that led to it (Raft paper, §7).
//!
//! A snapshot holds the state machine's state, the table of sessions and the members, all as of one entry, which names it. The node decides when one is taken,
//! what is in it and what it replaces; the host keeps the bytes. Nothing here holds a whole one in memory, and nothing waits for it:
//!
//! - `taking`: the state machine captures its state, and gives it in pieces while commands go on. Each becomes a frame, and is written.
//! - `sending`: a leader whose log no longer reaches back to what a peer lacks brings it its last snapshot, a few parts at a time.
//! - `installing`: a follower writes the parts as they come and checks them. Once the whole is durable, the state machine's state is replaced from it, and
//!   then the log's beginning.
//! - `format`: the bytes.
//! - `new_cluster`: a backup's, with other members: what a new cluster begins with.
//!
//! Once a snapshot is durable, the log in memory goes down to a tail for followers that are a little behind. The log on disk goes back to the oldest snapshot
//! that is kept: a node whose newest one is damaged starts from the one before.

mod config;
mod form;
mod format;
mod installing;
mod new_cluster;
mod sending;
mod taking;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::chain::ChainPoint;
use crate::io::{Effect, LogLevel};
use crate::node::Node;
use crate::status::SnapshotStatus;
use crate::types::{EntryId, Instant, LogIndex, Token};

pub use config::{SnapshotConfig, SnapshotPolicy};
pub use form::SnapshotForm;
pub use format::{SnapshotError, SnapshotMetadata};
use installing::{Receiving, Restoring};
pub use new_cluster::NewCluster;
pub(crate) use sending::Sending;
use taking::Taking;

/// How many pieces may be on their way at once.
const WINDOW: u64 = 4;

/// How long to wait after a snapshot that could not be written.
const RETRY: Duration = Duration::from_secs(5);

/// A snapshot that is durable here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// The last entry that it holds.
    pub id: EntryId,
    /// Its size.
    pub bytes: u64,
}

/// A snapshot that this node counts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) id: EntryId,
    pub(crate) bytes: u64,
    /// Where the chain stands behind its last entry; none where the log is not sealed.
    pub(crate) point: Option<ChainPoint>,
}

/// The snapshots of a node.
#[derive(Debug, Default)]
#[cfg_attr(feature = "model-checking", derive(Clone))]
pub(crate) struct Snapshots {
    /// Those that are durable here and of use, the latest last.
    kept: VecDeque<Kept>,
    /// The last entry of the one that this run has started from.
    restored: LogIndex,
    /// What storage was last told to retain.
    retained: BTreeSet<EntryId>,
    /// Bytes of entries that were applied since the last one.
    applied_bytes: usize,
    taking: Option<Taking>,
    receiving: Option<Receiving>,
    restoring: Option<Restoring>,
    /// Who wants one now.
    wanted: Vec<Token>,
    /// A peer needs one, and there is none.
    needed: bool,
    /// No other is begun before.
    not_before: Instant,
    /// What is to leave with the next tick.
    effects: Vec<Effect>,
}

impl Snapshots {
    /// The last one.
    pub(crate) fn latest(&self) -> Option<Kept> {
        self.kept.back().copied()
    }

    /// The last entry of the snapshot that this run has started from: what a journal holds up to there was applied before.
    pub(crate) fn restored_index(&self) -> LogIndex {
        self.restored
    }

    /// Whether the state is being replaced: nothing can be applied, and nothing be read.
    pub(crate) fn is_restoring(&self) -> bool {
        self.restoring.is_some()
    }

    /// An entry was applied.
    pub(crate) fn applied(&mut self, bytes: usize) {
        self.applied_bytes += bytes;
    }

    pub(crate) fn status(&self) -> SnapshotStatus {
        SnapshotStatus {
            latest: self.latest().map(|stored| stored.id),
            latest_bytes: self.latest().map_or(0, |stored| stored.bytes),
            taking: self.taking.as_ref().map(Taking::id),
            receiving: self.receiving.as_ref().map(Receiving::id),
            received_bytes: self.receiving.as_ref().map_or(0, Receiving::bytes),
            restoring: self.is_restoring(),
        }
    }

    /// What kept a snapshot from being taken or received is over.
    pub(crate) fn expect_again(&mut self, now: Instant) {
        self.not_before = now;
    }

    fn latest_index(&self) -> LogIndex {
        self.latest().map_or(LogIndex::NONE, |stored| stored.id.index)
    }

    fn keep(&mut self, stored: Kept, keep: usize) {
        self.kept.retain(|earlier| earlier.id != stored.id);
        self.kept.push_back(stored);
        while self.kept.len() > keep {
            self.kept.pop_front();
        }
        self.needed = false;
    }
}

impl Node {
    /// Does what is due for snapshots. Comes before entries are applied: what is captured holds none of those.
    pub(crate) fn drive_snapshots(&mut self, effects: &mut Vec<Effect>) {
        self.begin_restoring();
        self.begin_taking();
        self.go_on_taking();
        self.send_snapshots();
        self.retain_snapshots();
        effects.append(&mut self.snapshots.effects);
    }

    /// A snapshot is durable: the host says so.
    pub(crate) fn snapshot_stored(&mut self, id: EntryId) {
        if !self.taken(id) && !self.received(id) {
            // It was given up, and storage is yet to hear of that. The file goes with the next that is kept.
            self.note(LogLevel::Debug, format!("snapshot {id} is durable, and not wanted any more"));
        }
    }

    /// A snapshot could not be written.
    pub(crate) fn snapshot_failed(&mut self, id: EntryId, reason: &str) {
        self.counters.snapshots_failed += 1;
        self.note(LogLevel::Warn, format!("snapshot {id} could not be written, and will be tried again: {reason}"));
        self.snapshots.not_before = self.now + RETRY;
        if self.snapshots.taking.as_ref().is_some_and(|taking| taking.id() == id) {
            self.stop_taking();
        }
        self.snapshots.receiving.take_if(|receiving| receiving.id() == id);
    }

    /// Some bytes of a snapshot are written.
    pub(crate) fn snapshot_written(&mut self, id: EntryId, end: u64) {
        if let Some(taking) = self.snapshots.taking.as_mut().filter(|taking| taking.id() == id) {
            taking.written(end);
        } else {
            self.part_written(id, end);
        }
    }

    /// Only snapshots that the log on disk goes back to are of use beside the latest: from others there is no way on.
    fn forget_unconnected(&mut self, base: LogIndex) {
        let latest = self.snapshots.latest();
        self.snapshots.kept.retain(|stored| stored.id.index >= base || Some(*stored) == latest);
    }

    /// A snapshot is durable, and stands for the log up to its last entry. What is not needed beside it goes.
    fn compact(&mut self) {
        let Some(latest) = self.snapshots.latest() else { return };
        self.shorten_log(latest.id.index);
        if self.snapshots.kept.len() == self.config.snapshots.keep
            && let Some(oldest) = self.snapshots.kept.front()
        {
            self.outbox.compact(oldest.id, oldest.point);
            self.forget_earlier_versions(*oldest);
        }
    }

    /// Drops from memory what a durable snapshot holds, but for a tail. Where even that takes much of the memory for the log, the tail goes too: without room
    /// for entries there would be no further snapshot, and so no room.
    fn shorten_log(&mut self, latest: LogIndex) {
        let tail = LogIndex(latest.0.saturating_sub(self.config.snapshots.tail_entries));
        // What is yet to be written to disk is taken from memory.
        let most = latest.min(self.outbox.durable_index()).min(self.log.applied_index());
        self.log.compact_to(tail.min(most));
        if self.log.bytes() > self.config.max_log_bytes / 4 {
            self.log.compact_to(most);
        }
    }

    /// What the log on disk needs no more, of an earlier version of the key, goes from memory too: who got it might lack the key, which may be retired.
    fn forget_earlier_versions(&mut self, oldest: Kept) {
        let base = self.log.point_at(self.log.base().index);
        if base.map(|point| point.version) < oldest.point.map(|point| point.version) {
            self.log.compact_to(oldest.id.index.min(self.outbox.durable_index()).min(self.log.applied_index()));
        }
    }

    /// Tells storage which snapshots are needed, if that has changed: those that are kept, and those that are being read.
    fn retain_snapshots(&mut self) {
        let sent = self.sent_snapshots();
        let snapshots = &mut self.snapshots;
        let read = snapshots.restoring.as_ref().and_then(Restoring::id);
        let ids: BTreeSet<_> = snapshots.kept.iter().map(|stored| stored.id).chain(sent).chain(read).collect();
        if ids != snapshots.retained && !ids.is_empty() {
            snapshots.effects.push(Effect::RetainSnapshots { ids: ids.iter().copied().collect() });
            snapshots.retained = ids;
        }
    }
}

/// How far `bytes` may have got in a time.
fn within_rate(bytes: u64, rate: u64, time: Duration) -> bool {
    let earned = u128::from(rate) * time.as_millis() / 1000;
    u128::from(bytes) <= earned + u128::from(rate) / 16 // what a host may do between two ticks
}
