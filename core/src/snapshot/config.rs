//! When a snapshot is taken, and what is kept of the log then.

use crate::config::{ConfigError, check};

/// The settings of snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// When one is taken.
    pub policy: SnapshotPolicy,
    /// How many are kept, and the log on disk from the oldest of them on, so that a damaged one can be done without: 1 to 16 (default 2).
    pub keep: usize,
    /// How many entries before the last snapshot stay in memory (default 10,000): followers that are no farther behind need no snapshot.
    pub tail_entries: u64,
    /// The bytes of state in one piece, and of a snapshot in one envelope: 1 KiB to 1 MiB (default 64 KiB). Between two pieces the node does its other work.
    pub chunk_bytes: usize,
    /// The most bytes a second that a snapshot is taken, sent or read with: 64 KiB and up (default 128 MiB).
    pub max_bytes_per_second: u64,
}

/// When a snapshot is taken: whatever comes first. Snapshots are taken on demand, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// After so many entries since the last one: 1 and up (default: whatever their number).
    pub entries: Option<u64>,
    /// After so many bytes of memory that entries since the last one take: 4 KiB and up (default 64 MiB). Where the last snapshot was larger than that, its size
    /// counts instead, as long as half of the memory for the log allows: so the work for snapshots stays in proportion to that of the log.
    pub bytes: Option<u64>,
}

impl SnapshotPolicy {
    /// Only on demand. The log grows to its bound then.
    pub const NEVER: Self = Self { entries: None, bytes: None };
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self { entries: None, bytes: Some(64 << 20) }
    }
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self { policy: SnapshotPolicy::default(), keep: 2, tail_entries: 10_000, chunk_bytes: 64 << 10, max_bytes_per_second: 128 << 20 }
    }
}

impl SnapshotConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first setting that is out of its range, what came and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let SnapshotPolicy { entries, bytes } = self.policy;
        check("snapshot_every_entries", format!("{entries:?}"), "1 or more", entries.is_none_or(|entries| entries >= 1))?;
        check("snapshot_every_bytes", format!("{bytes:?}"), "4096 or more", bytes.is_none_or(|bytes| bytes >= 4096))?;
        check("snapshots_kept", self.keep.to_string(), "1 to 16", (1..=16).contains(&self.keep))?;
        let chunk = self.chunk_bytes;
        check("snapshot_chunk_bytes", chunk.to_string(), "1024 to 1048576", (1 << 10..=1 << 20).contains(&chunk))?;
        let rate = self.max_bytes_per_second;
        check("snapshot_bytes_per_second", rate.to_string(), "65536 or more", rate >= 64 << 10)
    }
}
