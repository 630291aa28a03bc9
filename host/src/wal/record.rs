//! One record: an operation of one group, as bytes. The [module](super) has the grammar.

use amaters_cluster_core::{GroupId, LogIndex, Operation};
use crc32fast::Hasher;

use super::error::{Flaw, WalError};

/// Bytes of a record besides its payload: length, type, group, sequence, synced, checksum.
pub(crate) const OVERHEAD: usize = 4 + 1 + 8 + 8 + 8 + 4;

/// Bytes of an append's payload besides the entries: first index, count.
const APPEND_OVERHEAD: usize = 8 + 4;

/// Bytes of a compaction's payload besides the base, and all of a release's.
const NUMBER_BYTES: usize = 8;

/// The largest record: 1 GiB. A node submits a whole burst as one operation, so this must be more than any burst that fits its memory.
pub(crate) const MAX_RECORD_BYTES: usize = 1 << 30;

const HARD_STATE: u8 = 1;
const APPEND: u8 = 2;
const MARK: u8 = 3;
const COMPACT: u8 = 4;
const RELEASE: u8 = 5;

const SEQUENCE_AT: usize = 13;
const SYNCED_AT: usize = 21;
const PAYLOAD_AT: usize = 29;

/// A record of the journal, its payload borrowed from the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Whose operation it is.
    pub group: GroupId,
    /// Its place in the journal: from 1, growing by 1, across segments.
    pub sequence: u64,
    /// All records up to this one were durable when this one was written; less than `sequence`, 0 for none.
    pub synced: u64,
    /// What it says.
    pub body: Body<'a>,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// The hard state is this from here on.
    HardState(&'a [u8]),
    /// These entries replace whatever the log held at `first` and after it.
    Append {
        /// The index of the first entry.
        first: LogIndex,
        /// How many entries there are.
        count: u32,
        /// The entries, encoded by the core.
        entries: &'a [u8],
    },
    /// Entries before `first` are no longer needed: a snapshot holds what they did.
    Compact {
        /// The first index that is still needed.
        first: LogIndex,
        /// What the log begins with, encoded by the core.
        base: &'a [u8],
    },
    /// The journal begins with this segment: earlier ones say nothing that counts, and are removed. The journal's own; its group is 0.
    Release {
        /// The number of the first segment that is still needed.
        first_segment: u64,
    },
    /// Nothing but its `synced`: written when the journal is closed, so that its last records are known to have been durable.
    Mark,
}

/// What stands at a place where a record may begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded<'a> {
    /// A record, and how many bytes it takes.
    Record(Record<'a>, usize),
    /// Zeros where a length should be, or the end of the file.
    End,
    /// A whole record of a type that this version does not know.
    UnknownType(u8),
    /// Anything else.
    Bad(Flaw),
}

impl<'a> Body<'a> {
    pub(crate) fn of(operation: &'a Operation) -> Self {
        match operation {
            Operation::HardState(bytes) => Self::HardState(bytes),
            Operation::Append { first, count, entries } => Self::Append { first: *first, count: *count, entries },
            Operation::Compact { first, base } => Self::Compact { first: *first, base },
        }
    }

    /// The operation that the record keeps; none for a mark or a release.
    #[must_use]
    pub fn to_operation(self) -> Option<Operation> {
        match self {
            Self::HardState(bytes) => Some(Operation::HardState(bytes.to_vec())),
            Self::Append { first, count, entries } => Some(Operation::Append { first, count, entries: entries.to_vec() }),
            Self::Compact { first, base } => Some(Operation::Compact { first, base: base.to_vec() }),
            Self::Release { .. } | Self::Mark => None,
        }
    }

    /// How many bytes a record with this body takes.
    ///
    /// # Errors
    /// It would be larger than [`MAX_RECORD_BYTES`].
    pub(crate) fn record_bytes(self) -> Result<u32, WalError> {
        let payload = match self {
            Self::HardState(bytes) => bytes.len(),
            Self::Append { entries, .. } => APPEND_OVERHEAD + entries.len(),
            Self::Compact { base, .. } => NUMBER_BYTES + base.len(),
            Self::Release { .. } => NUMBER_BYTES,
            Self::Mark => 0,
        };
        let bytes = OVERHEAD + payload;
        u32::try_from(bytes).ok().filter(|_| bytes <= MAX_RECORD_BYTES).ok_or(WalError::TooLarge { bytes: bytes as u64 })
    }
}

/// Appends the record's bytes to `out`.
///
/// # Errors
/// It would be larger than [`MAX_RECORD_BYTES`].
pub(crate) fn encode(journal: u64, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), WalError> {
    let length = record.body.record_bytes()?;
    let start = out.len();
    let tag = match record.body {
        Body::HardState(_) => HARD_STATE,
        Body::Append { .. } => APPEND,
        Body::Mark => MARK,
        Body::Compact { .. } => COMPACT,
        Body::Release { .. } => RELEASE,
    };
    out.extend_from_slice(&length.to_le_bytes());
    out.push(tag);
    out.extend_from_slice(&record.group.0.to_le_bytes());
    out.extend_from_slice(&record.sequence.to_le_bytes());
    out.extend_from_slice(&record.synced.to_le_bytes());
    match record.body {
        Body::HardState(bytes) => out.extend_from_slice(bytes),
        Body::Append { first, count, entries } => {
            out.extend_from_slice(&first.0.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
            out.extend_from_slice(entries);
        }
        Body::Compact { first, base } => {
            out.extend_from_slice(&first.0.to_le_bytes());
            out.extend_from_slice(base);
        }
        Body::Release { first_segment } => out.extend_from_slice(&first_segment.to_le_bytes()),
        Body::Mark => {}
    }
    let sum = checksum(journal, &out[start..]);
    out.extend_from_slice(&sum.to_le_bytes());
    Ok(())
}

/// Reads what stands at the start of `bytes`.
pub(crate) fn decode(journal: u64, bytes: &[u8]) -> Decoded<'_> {
    let Some(got) = u32_at(bytes, 0).filter(|length| *length != 0) else { return Decoded::End };
    let Some(record) = usize::try_from(got).ok().filter(|length| *length >= OVERHEAD).and_then(|length| bytes.get(..length)) else {
        return Decoded::Bad(Flaw::Length { got });
    };
    let (covered, sum) = record.split_at(record.len() - 4);
    let (expected, got) = (checksum(journal, covered), u32_at(sum, 0).unwrap_or_default());
    if expected != got {
        return Decoded::Bad(Flaw::Checksum { got, expected });
    }
    parse(covered).map_or_else(|bad| bad, |parsed| Decoded::Record(parsed, record.len()))
}

/// The sequence and synced fields of what may be a record, unchecked.
pub(crate) fn claims(bytes: &[u8]) -> Option<(u64, u64)> {
    Some((u64_at(bytes, SEQUENCE_AT)?, u64_at(bytes, SYNCED_AT)?))
}

/// A journal's number goes into each checksum: neither a record of another journal, nor one that a client hides in a value, passes for one of this.
pub(crate) fn checksum(journal: u64, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&journal.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

/// The parts of a record whose checksum is right.
fn parse(covered: &[u8]) -> Result<Record<'_>, Decoded<'_>> {
    let bad = || Decoded::Bad(Flaw::Body);
    let tag = *covered.get(4).ok_or_else(bad)?;
    let group = GroupId(u64_at(covered, 5).ok_or_else(bad)?);
    let (sequence, synced) = claims(covered).filter(|(sequence, synced)| synced < sequence).ok_or_else(bad)?;
    let payload = covered.get(PAYLOAD_AT..).ok_or_else(bad)?;
    let body = match tag {
        HARD_STATE => Body::HardState(payload),
        APPEND => Body::Append {
            first: LogIndex(u64_at(payload, 0).ok_or_else(bad)?),
            count: u32_at(payload, 8).ok_or_else(bad)?,
            entries: payload.get(APPEND_OVERHEAD..).ok_or_else(bad)?,
        },
        MARK if payload.is_empty() => Body::Mark,
        COMPACT => {
            Body::Compact { first: LogIndex(u64_at(payload, 0).ok_or_else(bad)?), base: payload.get(NUMBER_BYTES..).ok_or_else(bad)? }
        }
        RELEASE if payload.len() == NUMBER_BYTES => Body::Release { first_segment: u64_at(payload, 0).ok_or_else(bad)? },
        MARK | RELEASE => return Err(bad()),
        unknown => return Err(Decoded::UnknownType(unknown)),
    };
    Ok(Record { group, sequence, synced, body })
}
