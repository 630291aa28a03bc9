//! How the journal is written, and opened.

use std::time::Duration;

/// How the journal is written, and opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// Bytes of a new segment. A record that is larger gets a segment of its own size.
    ///
    /// Default: 32 MiB. New segments are filled with zeros, and a first start must not take long over that: this much took 35 ms on a plain
    /// disk, and 64 MiB up to 200.
    pub segment_size: u64,
    /// When what was submitted is made durable.
    pub sync: SyncMode,
    /// What opening the journal does when it is damaged.
    pub on_corruption: CorruptionPolicy,
}

impl WalOptions {
    /// The defaults, but for the bytes of a new segment.
    #[must_use]
    pub const fn with_segment_size(segment_size: u64) -> Self {
        Self { segment_size, sync: SyncMode::AT_ONCE, on_corruption: CorruptionPolicy::Refuse }
    }
}

impl Default for WalOptions {
    fn default() -> Self {
        Self::with_segment_size(32 << 20)
    }
}

/// When what was submitted to the journal is made durable, and so what a report means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Each submission is written and synced by itself, and reported when it is durable. For whoever submits one at a time, or measures: many at a time wait
    /// for a sync each.
    EveryWrite,
    /// Submissions are written and synced together, and reported when they are durable. A group is begun once `count` of them wait, or 4 MiB, or the first one has waited for `delay`;
    /// it takes all that wait by then. Nobody waits for more when the writer is dropped.
    ///
    /// Whatever comes while one group is being synced can only wait for the next: with a `count` of 1, the default, groups are as large as the disk is slow, and
    /// nobody waits for anything but the disk.
    Batched {
        /// The number of submissions that need not wait for more: 0 is taken for 1.
        count: usize,
        /// The longest that a submission waits for others. Without meaning for a count of 1.
        delay: Duration,
    },
    /// Submissions are written, and reported then: it is left to the system when they reach the disk. **A report does not mean durable.** If the process dies, all that was
    /// reported is there. If the power fails, the latest of it may be gone: a part of the last segment, since a segment is synced before the next one
    /// is begun, and before earlier ones are removed. What is left is without a hole, and is no damage. A writer that is dropped syncs first.
    ///
    /// Not for a Raft node, which would forget votes and what it has acknowledged: [`FilePersistence`](crate::persistence::FilePersistence) refuses it.
    System,
}

impl SyncMode {
    /// No submission waits for another.
    const AT_ONCE: Self = Self::Batched { count: 1, delay: Duration::ZERO };
}

impl Default for SyncMode {
    fn default() -> Self {
        Self::AT_ONCE
    }
}

/// What is done when something durable is damaged. What a crash tore is no damage, and is cut under each of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CorruptionPolicy {
    /// The journal is not opened, and a node does not start: the error says what is damaged. Nothing is changed.
    #[default]
    Refuse,
    /// A node puts the damaged journal aside, and has the others bring it what it lacks. Until then it neither votes nor counts for a majority ([`repair`](crate::repair)).
    /// A journal on its own has no others: it is refused.
    Repair,
    /// The journal is cut where the damage begins, as by `ukehi wal repair --cut`, and goes on from there; the log and [`WalDiagnostics`](super::WalDiagnostics) say what was lost. **A node may so
    /// forget what it has acknowledged**, which others may have committed for that: for a node alone, or as a last resort. Newest term and vote come back from their
    /// copy where that is whole. What has no whole record before the damage is refused. A journal is read twice under this policy.
    Cut,
    /// Everything before the damage is given, and nothing is changed: each submission is refused with [`WalError::ReadOnly`](super::WalError::ReadOnly). For whoever wants to get at what is left.
    /// A journal is read twice under this policy. Not for a Raft node, which [`FilePersistence`](crate::persistence::FilePersistence) refuses to open so.
    ReadOnly,
}
