//! Sums a journal up for people, without touching it.

use std::collections::BTreeMap;
use std::path::Path;

use amaters_cluster_core::LogIndex;

use super::error::{Damage, WalError};
use super::reader::WalReader;
use super::record::Body;
use super::{Located, WalDiagnostics};

/// How often a journal is read before what looks wrong is believed: a node may be writing.
const LOOKS: usize = 5;

/// What a journal holds, and in what shape it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The segments with records, ascending.
    pub segments: Vec<SegmentSummary>,
    /// The shape.
    pub verdict: Verdict,
}

/// What one segment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentSummary {
    /// The segment's number.
    pub number: u64,
    /// The sequence number of its first record.
    pub first_sequence: u64,
    /// The sequence number of its last record.
    pub last_sequence: u64,
    /// Hard states.
    pub hard_states: u64,
    /// Appends.
    pub appends: u64,
    /// Marks.
    pub marks: u64,
    /// Compactions.
    pub compactions: u64,
    /// Releases.
    pub releases: u64,
    /// Entries of its appends.
    pub entries: u64,
    /// The lowest log index of its appends; 0 for none.
    pub first_index: LogIndex,
    /// The highest log index of its appends; 0 for none.
    pub last_index: LogIndex,
    /// Bytes up to the end of its last record.
    pub bytes: u64,
}

/// The shape of a journal.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every record is whole.
    Clean(WalDiagnostics),
    /// A torn group at the end, which the next start cuts.
    Torn(WalDiagnostics),
    /// Something durable can't be read any more: a node does not start with it.
    Damaged(Damage),
}

/// Reads the journal in `dir`, a node's `wal` directory, whether a node runs there or not. Changes nothing.
///
/// # Errors
/// There is no such directory, the system fails, or the format is unknown.
pub fn inspect(dir: &Path) -> Result<Inspection, WalError> {
    of(&WalReader::new(dir))
}

pub(crate) fn of(reader: &WalReader) -> Result<Inspection, WalError> {
    let mut seen = look(reader);
    for _ in 1..LOOKS {
        // A segment that was released goes between the look at the directory and that at the segment.
        let Err(WalError::Io { source, .. }) = &seen else { break };
        if source.kind() != std::io::ErrorKind::NotFound {
            break;
        }
        seen = look(reader);
    }
    let mut seen = seen?;
    for _ in 1..LOOKS {
        if matches!(seen.verdict, Verdict::Clean(_)) {
            break;
        }
        // A group that was being written is whole by now, or has gone further.
        let again = look(reader)?;
        if again.verdict == seen.verdict {
            break;
        }
        seen = again;
    }
    Ok(seen)
}

fn look(reader: &WalReader) -> Result<Inspection, WalError> {
    let mut segments = BTreeMap::new();
    let read = reader.read(|located| {
        segments.entry(located.segment).or_insert_with(SegmentSummary::default).count(&located);
        Ok(())
    });
    let verdict = match read {
        Ok(diagnostics) if diagnostics.torn_bytes == 0 => Verdict::Clean(diagnostics),
        Ok(diagnostics) => Verdict::Torn(diagnostics),
        Err(WalError::Damaged(damage)) => Verdict::Damaged(*damage),
        Err(error) => return Err(error),
    };
    Ok(Inspection { segments: segments.into_values().collect(), verdict })
}

impl SegmentSummary {
    fn count(&mut self, located: &Located<'_>) {
        let Located { segment, offset, record } = *located;
        if self.number == 0 {
            self.number = segment;
            self.first_sequence = record.sequence;
        }
        self.last_sequence = record.sequence;
        self.bytes = offset + record.body.record_bytes().map_or(0, u64::from);
        match record.body {
            Body::HardState(_) => self.hard_states += 1,
            Body::Mark => self.marks += 1,
            Body::Compact { .. } => self.compactions += 1,
            Body::Release { .. } => self.releases += 1,
            Body::Append { first, count, .. } => {
                self.appends += 1;
                self.entries += u64::from(count);
                if self.first_index.is_none() || first < self.first_index {
                    self.first_index = first;
                }
                let last = LogIndex(first.0.saturating_add(u64::from(count))).previous();
                self.last_index = self.last_index.max(last);
            }
        }
    }
}
