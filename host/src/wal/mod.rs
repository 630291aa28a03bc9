//! The journal on disk: a write-ahead log of operations, in segments.
//!
//! [`WalWriter`] adds to it, [`WalReader`] reads it, [`inspect()`] sums it up. `journal` encodes, writes and syncs; `reader` decides what is good, torn
//! or damaged, and `recovery` puts the end in order before anything is added.
//!
//! # Grammar
//!
//! A journal is a directory of segments, numbered from 1 without a gap: `0000000000000001.wal`, the number in hexadecimal. Once a release says so, the first ones
//! are removed. A name that ends in `.wal.tmp` is a segment that is still being prepared. A segment is a header, records, and zeros up to its end. All numbers
//! are little endian.
//!
//! ```text
//! header:  magic "UKEHIWAL" | format u32 = 1 | journal u64 | number u64 | first sequence u64 | crc u32                   40 bytes
//! record:  length u32 | type u8 | group u64 | sequence u64 | synced u64 | payload | crc u32                       33 and payload
//! ```
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | journal | 8 | drawn at random when the journal begins; the same in each of its segments |
//! | first sequence | 8 | of the first record in the segment; the header is written with that record, once all earlier ones are durable |
//! | length | 4 | of the whole record, itself and the checksum included: 33 to 1 GiB. **Zero ends the segment's records**, and so does the end of the file |
//! | type | 1 | 1 hard state: the payload is the encoded state. 2 append: first index u64, count u32, encoded entries. 3 mark: no payload. 4 compact: first index u64, encoded base. 5 release: first segment u64 |
//! | group | 8 | whose operation it is; 0 for marks and releases, which are the journal's own |
//! | sequence | 8 | 1 for the first record, and 1 more for each, across segments: a hole shows |
//! | synced | 8 | the highest sequence known to be durable when this record was written, less than its own |
//! | crc | 4 | CRC-32 (IEEE) of the journal's number, then **all bytes of the record or header before it, the length included** |
//!
//! The journal's number in the checksum makes a record worthless in any other journal, and keeps a client from hiding a record in a value.
//!
//! Records written with one call and made durable with one sync are a *group*. A group never spans segments, and the next one is written only after
//! the one before is durable. (A *submission*, the operations of one call, may be divided where a segment is full.) So of all groups the last alone can be torn, in any order of its pages. `synced` is what tells its remains from damage.
//!
//! [`SyncMode`] says how groups come about. Under [`SyncMode::System`] nothing waits for a sync, and all records since the last one are one group, however many writes they took: their
//! `synced` stays what it was. A sync comes before a segment is begun, before a release and after it, and at the end; hard states are copied after each, as below.
//!
//! # Compaction
//!
//! A segment, but for the first, begins with each group's hard state: any of them may become the first one. A compact record says that a group needs no entry before `first`. Once it is durable, a segment may go if all appends in it lie before `first` and the group's
//! latest hard state and compact record stand behind it, for each group in it; and if all segments before it may go, and the one behind it begins as it should. Then a release is written, which names the
//! first segment that stays, never one behind that which is being written. When it is durable, a thread of its own removes the files, and syncs the directory. A crash in between leaves
//! files, any of them: the next start removes them (row p). The segment with a release stays until a later release is durable, so that the journal always tells where it begins.
//!
//! # The hard state's copy
//!
//! A node whose journal is damaged can fetch entries from others, but not its own term and vote. So each group's newest hard state stands in a file of its own too,
//! `hard-state-` and the group's number: written beside and renamed, after the record that it copies is durable, and before that is reported. `hard_state` has its grammar. A start
//! writes it again where it is not what the journal says, unless the journal lacks what it says (row r).
//!
//! # Recovery
//!
//! The first record that is missing or bad, number *s*, ends the journal. What that means depends on what stands behind it:
//!
//! | row | cause | what is seen | what is done |
//! |---|---|---|---|
//! | a | first start | no segment | the first one is prepared with its header, made durable, and only then named |
//! | b | none: a stop, or a crash between groups | zeros, or the end of the file, behind the last record | records are added there |
//! | c | crash while a group was written | *s* is bad or zeros, and behind it neither a record that was written when *s* was durable (`synced` ≥ *s*) nor a used segment; intact records of the same group may follow | torn: the rest of the segment is zeroed and synced before anything is added |
//! | d | crash while the first group of a segment was written | as c, with the header in the place of *s* | as c, from the segment's start |
//! | e | crash before a prepared segment was used | blank segments at the end | removed |
//! | f | crash while a segment was prepared | a temporary name | removed |
//! | g | the process died before the sync of the last group, or of its failure | the last group is intact, and nothing proves that it is on disk | written again and synced before it counts: its pages may be in memory alone, and marked clean |
//! | h | damage | *s* is bad, and a record with `synced` ≥ *s* follows | refused |
//! | i | a lost write | *s* is zeros, and a record with `synced` ≥ *s* follows | refused |
//! | j | damage, a lost write, a file cut short | *s* is missing or bad, and a later segment is in use | refused |
//! | k | a lost file | a number is missing, and no release names a later one | refused |
//! | l | damage | the first segment has no good header | refused |
//! | m | files of different journals or places in one directory | a whole header with the wrong journal, number or first sequence | refused |
//! | n | a downgrade | an unknown format, or a whole record of an unknown type | refused |
//! | o | the disk fails | a read error | refused |
//! | p | crash while released segments were removed | segments, with or without gaps between them, before the one that the last release names | removed, once the end is in order |
//! | q | crash between a hard state and its copy; damage to the copy | the copy is missing or bad, is another journal's, or has a hard state that is not the journal's last one | written anew |
//! | r | damage to the last group, or a lost write or file | the copy is whole and this journal's, or there is no segment; and no record has its hard state | refused |
//!
//! What is refused is never changed: the error names file, place, what was expected and found, and what to do. [`CorruptionPolicy`] has what else can be done with rows h to m and r.
//!
//! Row r can't be a crash. A copy is written only after the group with its hard state was synced, by a start as well: whenever power goes, a hard state that is in a copy is in a durable
//! record. It stays in one: a segment is removed only after a release behind it is durable, and by then the copies of all hard states before that release are, while each group's latest stands
//! in a segment that stays. Nor does a hard state come twice (terms grow, and a vote is given once in a term), so that an older record can't pass for the lost one. The other order, the record without its copy,
//! is row q. `ukehi wal repair --cut` takes what a copy alone has back into the journal.
//!
//! Damage to the last group, while nothing behind it proves that it was durable and no hard state is in it, can't be told from a torn write. A journal that is closed in order
//! ends with a mark, which proves it; so does each group for the one before. What such damage takes is entries that this node alone may have acknowledged: never a vote.
//!
//! # Failure
//!
//! What needs a new file, the next segment or the copy of a hard state, waits while the disk is full, and is tried again with another file (`space`). The next segment is prepared when a quarter of the one
//! in use is full, so that a full disk is known while there is room for what was submitted.
//!
//! Any other failed write or sync is reported once, and ends the writer. Neither is ever tried again: after a failed sync the system may have dropped the
//! pages, and a second sync succeeds without them. The next start reads what is there (row g).

mod cut;
mod error;
mod hard_state;
mod inspect;
mod journal;
mod ledger;
mod options;
mod policy;
mod reader;
mod record;
mod recovery;
mod remains;
mod scan;
mod segment;
mod space;
mod writer;

pub(crate) mod disk;

#[cfg(test)]
pub(crate) mod tests;

use amaters_cluster_core::Ticket;

pub use cut::{Cut, carry_out_cut, plan_cut};
pub use error::{Damage, WalError};
pub use hard_state::{SavedStateError, saved_hard_state};
pub use inspect::{Inspection, SegmentSummary, Verdict, inspect};
pub use options::{CorruptionPolicy, SyncMode, WalOptions};
pub use reader::{Located, WalReader};
pub use record::{Body, Record};
pub use writer::WalWriter;

/// Is called on the journal's thread: with the last durable ticket (under [`SyncMode::System`], the last one that is written), or once, and for the last time, with the
/// failure that has ended it. A journal that is read-only ([`CorruptionPolicy::ReadOnly`]) gives each submission a failure of its own.
pub type OnDurable = Box<dyn FnMut(Result<Ticket, WalError>) + Send>;

/// What was found in a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalDiagnostics {
    /// The number of the first segment; 0 for none.
    pub first_segment: u64,
    /// Segments that were released, and are still there: a start removes them.
    pub left_over_segments: u64,
    /// Segments in use.
    pub segments: u64,
    /// Segments prepared ahead.
    pub blank_segments: u64,
    /// Valid records.
    pub records: u64,
    /// Bytes of valid records.
    pub bytes: u64,
    /// Bytes of a torn group behind the last valid record: a start cuts them.
    pub torn_bytes: u64,
    /// The sequence number of the last valid record; 0 for none.
    pub last_sequence: u64,
    /// Bytes from the first damage on, the zeros at the ends of segments not counted: what was cut when the journal was opened, or what a read-only one does not give. Zero for none.
    pub corrupt_bytes: u64,
    /// The segments with those bytes, or whose place a missing one has left: the damaged one, and all behind it. Zero for none.
    pub corrupt_segments: u64,
    /// Whether the journal was damaged, and is open for reading alone.
    pub read_only: bool,
}
