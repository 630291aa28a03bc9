//! The log in memory, over what storage keeps.

use std::collections::VecDeque;

use thiserror::Error;

use crate::chain::{Chain, ChainError, ChainPoint, ChainSpan};
use crate::entry::LogEntry;
use crate::sealing::{ChainLink, KeyRing};
use crate::types::{EntryId, LogIndex, LogTime, Term};

/// The log of a node, with how far it is committed and applied. A snapshot stands for its beginning, up to the log's base.
///
/// Invariants, asserted where the log changes:
///
/// 1. Indexes are contiguous, from the one behind the base.
/// 2. Terms never fall from one entry to the next.
/// 3. A committed entry is never replaced, and never removed but for a snapshot that holds it.
/// 4. base ≤ applied ≤ committed ≤ last. (While storage gives the log back, the base may be ahead.)
/// 5. The commit index never falls.
/// 6. A sealed log has a link for each entry.
#[derive(Clone, Debug, Default)]
pub struct RaftLog {
    /// The entry before the first one; zeros where the log begins with entry 1.
    base: EntryId,
    entries: VecDeque<LogEntry>,
    bytes: usize,
    time: LogTime,
    commit_index: LogIndex,
    applied_index: LogIndex,
    /// The links, if the log is sealed.
    chain: Option<Chain>,
}

/// Entries from a leader that can't belong to this log. The sender is faulty, or this node's storage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LogConflict {
    /// Not consecutive, or with falling terms.
    #[error("entry {got} comes where the log expects one with index {expected} and a term no lower than its predecessor's")]
    Malformed {
        /// The entry that came.
        got: EntryId,
        /// The index that was due.
        expected: LogIndex,
    },
    /// They would replace a committed entry.
    #[error("entry {got} would replace the committed entry {committed}: two logs have diverged, and no data of either may be dropped")]
    Committed {
        /// The entry that came.
        got: EntryId,
        /// What the log holds there.
        committed: EntryId,
    },
}

/// What storage gives back is not this log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum RecoverError {
    #[error(transparent)]
    Log(#[from] LogConflict),
    #[error(transparent)]
    Chain(#[from] ChainError),
}

impl RaftLog {
    /// The last entry's name; that of the base where there are none.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.entries.back().map_or(self.base, |entry| entry.id)
    }

    /// The entry before the first one; zeros where the log begins with entry 1.
    #[must_use]
    pub fn base(&self) -> EntryId {
        self.base
    }

    /// The last index known to be committed.
    #[must_use]
    pub fn commit_index(&self) -> LogIndex {
        self.commit_index
    }

    /// The last index handed to the state machine.
    #[must_use]
    pub fn applied_index(&self) -> LogIndex {
        self.applied_index
    }

    /// About how many bytes the log takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The latest time that any entry carried, of those that are or ever were in this log.
    #[must_use]
    pub fn time(&self) -> LogTime {
        self.time
    }

    /// The entry at an index.
    #[must_use]
    pub fn get(&self, index: LogIndex) -> Option<&LogEntry> {
        self.entries.get(self.position(index)?)
    }

    /// The term at an index; 0 for index 0, none before the base and beyond the end.
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.index { Some(self.base.term) } else { self.get(index).map(|entry| entry.id.term) }
    }

    /// Whether the log holds this very entry: then, by the log matching property, it holds all before it too (Raft paper, §5.3).
    #[must_use]
    pub fn contains(&self, id: EntryId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// Entries from an index on.
    pub fn iter_from(&self, from: LogIndex) -> impl Iterator<Item = &LogEntry> {
        self.entries.range(self.position(from).unwrap_or(0).min(self.entries.len())..)
    }

    /// Entries from an index on, up to `max_bytes` of memory: at least one, if there is one.
    #[must_use]
    pub fn batch(&self, from: LogIndex, max_bytes: usize) -> Vec<LogEntry> {
        let mut bytes = 0;
        self.iter_from(from)
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.size();
                first || bytes <= max_bytes
            })
            .cloned()
            .collect()
    }

    /// The first index behind the base of the term that the log holds at `index`.
    #[must_use]
    pub fn first_of_term_at(&self, index: LogIndex) -> LogIndex {
        let Some(term) = self.term_at(index) else { return self.last().index.next() };
        self.index_of(self.entries.partition_point(|entry| entry.id.term < term))
    }

    /// The last index whose term is at most `term`; the one before the base where even that one's is higher.
    #[must_use]
    pub fn last_at_or_before(&self, term: Term) -> LogIndex {
        if self.base.term > term {
            return self.base.index.previous();
        }
        self.index_of(self.entries.partition_point(|entry| entry.id.term <= term)).previous()
    }

    /// Adds an entry at the end.
    ///
    /// # Panics
    /// If it isn't the next one, or isn't sealed as the log is: a bug of this node.
    pub fn push(&mut self, entry: LogEntry) {
        let link = self.chain.as_ref().map(|chain| chain.next_link(&entry).expect("invariant 6: a node seals its own entries"));
        self.add(entry, link);
    }

    fn add(&mut self, entry: LogEntry, link: Option<ChainLink>) {
        let last = self.last();
        assert_eq!(entry.id.index, last.index.next(), "invariant 1: indexes are contiguous");
        assert!(entry.id.term >= last.term, "invariant 2: terms never fall");
        self.bytes += entry.size();
        self.time = self.time.max(entry.time().unwrap_or_default());
        if let (Some(chain), Some(link)) = (&mut self.chain, link) {
            chain.push(&entry, link);
        }
        self.entries.push_back(entry);
        assert!(self.chain.as_ref().is_none_or(|chain| chain.len() == self.entries.len()), "invariant 6: each entry has a link");
    }

    /// Takes in entries from a leader whose predecessor the log holds (AppendEntries rules 3 and 4, Raft paper, figure 2).
    ///
    /// Only a real conflict removes anything: entries that are here already stay, and so does what follows them, since a delayed or
    /// repeated request must not undo a later one. Returns the first index that was written, if any was.
    ///
    /// `links` are those that [`RaftLog::verify`] gave for these very entries: none where the log is not sealed.
    ///
    /// # Errors
    /// The entries can't be right. The log is as it was.
    pub fn splice(&mut self, prev: EntryId, entries: Vec<LogEntry>, links: &[ChainLink]) -> Result<Option<LogIndex>, LogConflict> {
        let mut before = prev;
        for entry in &entries {
            if entry.id.index != before.index.next() || entry.id.term < before.term {
                return Err(LogConflict::Malformed { got: entry.id, expected: before.index.next() });
            }
            before = entry.id;
        }
        let Some(new) = entries.iter().position(|entry| !self.contains(entry.id)) else { return Ok(None) };
        let first = entries[new].id;
        if first.index <= self.commit_index {
            let committed = EntryId { index: first.index, term: self.term_at(first.index).unwrap_or_default() };
            return Err(LogConflict::Committed { got: first, committed });
        }
        self.truncate_from(first.index);
        for (position, entry) in entries.into_iter().enumerate().skip(new) {
            self.add(entry, links.get(position).copied());
        }
        Ok(Some(first.index))
    }

    /// Removes what stands at an index and after it.
    pub(crate) fn truncate_from(&mut self, from: LogIndex) {
        assert!(from > self.commit_index, "invariant 3: committed entries stay");
        while self.last().index >= from
            && let Some(entry) = self.entries.pop_back()
        {
            self.bytes -= entry.size();
            self.chain.iter_mut().for_each(Chain::pop_back);
        }
    }

    /// Marks everything up to an index as committed.
    ///
    /// # Panics
    /// If the log isn't that long: a bug of this node.
    pub fn commit_to(&mut self, index: LogIndex) {
        assert!(index <= self.last().index, "invariant 4: committed entries are in the log");
        self.commit_index = self.commit_index.max(index); // invariant 5
    }

    /// Committed entries that are yet to be applied, up to `max_bytes` of memory and at least one, if there is one; they count as applied from
    /// here on.
    pub fn take_committed(&mut self, max_bytes: usize) -> impl Iterator<Item = &LogEntry> {
        let from = self.position(self.applied_index.next()).unwrap_or(0);
        let committed = self.position(self.commit_index.next()).unwrap_or(0);
        let mut bytes = 0;
        let fits = |entry: &&LogEntry| {
            let first = bytes == 0;
            bytes += entry.size();
            first || bytes <= max_bytes
        };
        let to = from + self.entries.range(from..committed).take_while(fits).count();
        self.applied_index = self.index_of(to).previous();
        self.entries.range(from..to)
    }

    /// Where an index stands in the queue; none for the base and before.
    fn position(&self, index: LogIndex) -> Option<usize> {
        usize::try_from(index.0.checked_sub(self.base.index.0 + 1)?).ok()
    }

    /// The index at a place in the queue.
    fn index_of(&self, position: usize) -> LogIndex {
        LogIndex(self.base.index.0 + 1 + position as u64)
    }
}

// Its chain.
impl RaftLog {
    /// An empty log that is sealed.
    pub(crate) fn sealed(chain: Chain) -> Self {
        Self { chain: Some(chain), ..Self::default() }
    }

    /// The node has got keys.
    pub(crate) fn take_keys(&mut self, keys: &KeyRing) {
        self.chain.iter_mut().for_each(|chain| chain.take_keys(keys));
    }

    /// Where the chain stands behind an entry of this log; none where the log is not sealed.
    #[must_use]
    pub fn point_at(&self, index: LogIndex) -> Option<ChainPoint> {
        self.chain.as_ref()?.point_at(index)
    }

    /// Where the chain ends.
    #[must_use]
    pub fn chain_end(&self) -> Option<ChainPoint> {
        self.chain.as_ref().map(Chain::end)
    }

    /// What vouches for the entries behind `prev`, up to `last`.
    pub(crate) fn span(&self, prev: LogIndex, last: LogIndex) -> Option<ChainSpan> {
        Some(ChainSpan { before: self.point_at(prev)?, last: self.point_at(last)?.link })
    }

    /// Checks entries behind one that this log has, and gives their links: none where the log is not sealed.
    ///
    /// # Errors
    /// They don't fit this log's chain. The log need not be wrong: see the error.
    pub fn verify(&self, prev: LogIndex, entries: &[LogEntry], span: Option<&ChainSpan>) -> Result<Vec<ChainLink>, ChainError> {
        self.expect_sealed(span.is_some())?;
        let (Some(chain), Some(span)) = (&self.chain, span) else { return Ok(Vec::new()) };
        let known = entries.iter().take_while(|entry| self.contains(entry.id));
        let mut links: Vec<_> = known.filter_map(|entry| chain.point_at(entry.id.index)).map(|point| point.link).collect();
        let (held, new) = entries.split_at(links.len());
        let from = chain.point_at(held.last().map_or(prev, |entry| entry.id.index)).expect("callers look for the entry before");
        links.extend(chain.links_from(from, new)?);
        if chain.believes_all() || chain.point_at(prev) == Some(span.before) && *links.last().unwrap_or(&from.link) == span.last {
            return Ok(links);
        }
        let last = entries.last().map_or(prev, |entry| entry.id.index);
        Err(if chain.is_genuine(span, entries) {
            ChainError::Diverged { at: held.last().map_or(self.id_at(prev), |entry| entry.id) }
        } else {
            ChainError::Broken { first: prev.next(), last, version: from.version }
        })
    }

    fn expect_sealed(&self, got: bool) -> Result<(), ChainError> {
        let name = |sealed| if sealed { "sealed" } else { "unsealed" };
        let expected = self.chain.is_some();
        if got == expected { Ok(()) } else { Err(ChainError::Mixed { got: name(got), expected: name(expected) }) }
    }

    fn id_at(&self, index: LogIndex) -> EntryId {
        EntryId { index, term: self.term_at(index).unwrap_or_default() }
    }
}

// Its beginning.
impl RaftLog {
    /// Drops entries up to an index, which a durable snapshot holds. The log has it, and applied it.
    pub(crate) fn compact_to(&mut self, index: LogIndex) {
        assert!(index <= self.applied_index, "invariant 4: what is dropped was applied");
        self.drop_to(index);
    }

    fn drop_to(&mut self, index: LogIndex) {
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.id.index <= index) {
            self.bytes -= entry.size();
            self.base = entry.id;
            self.chain.iter_mut().for_each(Chain::pop_front);
        }
    }

    /// A snapshot up to this entry has taken the place of the state: everything in it is committed and applied. What the log holds behind it stays if the log
    /// holds that very entry; otherwise the log begins anew (Raft paper, figure 13, steps 6 and 7). Whether anything of it stays.
    ///
    /// `point` is where the chain stands behind the entry, by the snapshot: none where the log is not sealed.
    ///
    /// # Errors
    /// The log has this very entry, and another chain up to there.
    ///
    /// # Panics
    /// If the log has committed another entry in its place: callers look.
    pub(crate) fn install(&mut self, last: EntryId, point: Option<ChainPoint>) -> Result<bool, ChainError> {
        let stays = self.contains(last);
        if stays && self.point_at(last.index) != point {
            return Err(ChainError::Diverged { at: last });
        }
        if !stays {
            assert!(last.index > self.commit_index, "invariant 3: committed entries stay");
            self.begin_at(last, point);
        }
        self.commit_index = self.commit_index.max(last.index);
        self.applied_index = self.applied_index.max(last.index);
        Ok(stays)
    }

    /// Forgets all entries: the next one follows `base`.
    fn begin_at(&mut self, base: EntryId, point: Option<ChainPoint>) {
        self.entries.clear();
        self.bytes = 0;
        self.base = base;
        if let (Some(chain), Some(point)) = (&mut self.chain, point) {
            chain.begin_at(base.index, point);
        }
    }

    /// Storage gives entries back. They may begin anywhere, since storage drops what is no longer needed; what precedes them is told by
    /// [`RaftLog::rebase`]. What the log has from the first of them on is replaced.
    ///
    /// # Errors
    /// They leave a gap, fall in term, or don't fit the chain.
    pub(crate) fn recover(&mut self, mut entries: Vec<LogEntry>, span: Option<&ChainSpan>) -> Result<LogIndex, RecoverError> {
        let Some(first) = entries.first().map(|entry| entry.id.index) else { return Ok(self.last().index.next()) };
        if self.last() == EntryId::default() && first > LogIndex(1) {
            self.base.index = first.previous();
            if let Some(span) = span {
                self.begin_on_trust(first, span.before);
            }
        }
        let mut span = span.copied();
        if first <= self.base.index {
            entries.retain(|entry| entry.id.index > self.base.index);
            let base = self.point_at(self.base.index);
            span = span.zip(base).map(|(span, before)| ChainSpan { before, ..span });
        }
        if entries.is_empty() {
            return Ok(first);
        }
        let from = first.max(self.base.index.next());
        if from > self.last().index.next() {
            return Err(LogConflict::Malformed { got: entries[0].id, expected: self.last().index.next() }.into());
        }
        self.truncate_from(from);
        let links = self.verify(self.last().index, &entries, span.as_ref())?;
        self.splice(self.last(), entries, &links)?;
        Ok(first)
    }

    /// Storage gives the log back from `first` on. That the chain stands at `before` there is yet to show: when it has led to where a snapshot vouches for.
    pub(crate) fn begin_on_trust(&mut self, first: LogIndex, before: ChainPoint) {
        self.begin_at(EntryId { index: first.previous(), term: Term::NONE }, Some(before));
    }

    /// Storage has given entries back that can't be read, the last of them this one.
    pub(crate) fn pass_over(&mut self, last: EntryId, behind: ChainPoint) {
        self.begin_at(last, Some(behind));
    }

    /// Storage says what the log begins with: the entries up to there are in a snapshot.
    ///
    /// # Errors
    /// It does not fit the chain.
    pub(crate) fn rebase(&mut self, base: EntryId, point: Option<ChainPoint>) -> Result<(), ChainError> {
        self.expect_sealed(point.is_some())?;
        if base.index >= self.base.index && self.contains(base) && self.point_at(base.index) != point {
            return Err(ChainError::Diverged { at: base });
        }
        if self.base.index == base.index {
            self.base = base;
        } else if base.index < self.base.index {
            // It has begun later before.
        } else if self.contains(base) {
            self.drop_to(base.index);
        } else {
            self.begin_at(base, point);
        }
        Ok(())
    }

    /// Whether it is known what the log begins with.
    pub(crate) fn is_anchored(&self) -> bool {
        self.base.index.is_none() || !self.base.term.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryKind;

    fn id(index: u64, term: u64) -> EntryId {
        EntryId { index: LogIndex(index), term: Term(term) }
    }

    fn entries(first: u64, terms: &[u64]) -> Vec<LogEntry> {
        (first..).zip(terms).map(|(index, term)| LogEntry { id: id(index, *term), kind: EntryKind::NoOp }).collect()
    }

    fn log(terms: &[u64]) -> RaftLog {
        let mut log = RaftLog::default();
        entries(1, terms).into_iter().for_each(|entry| log.push(entry));
        log
    }

    fn terms(log: &RaftLog) -> Vec<u64> {
        log.iter_from(LogIndex(1)).map(|entry| entry.id.term.0).collect()
    }

    #[test]
    fn a_repeated_request_removes_nothing_that_came_after_it() {
        let mut log = log(&[1, 1, 1, 2]);
        assert_eq!(log.splice(id(0, 0), entries(1, &[1, 1]), &[]), Ok(None));
        assert_eq!(terms(&log), [1, 1, 1, 2]);
    }

    #[test]
    fn a_conflict_replaces_the_tail_from_there() {
        let mut log = log(&[1, 1, 2, 2]);
        assert_eq!(log.splice(id(1, 1), entries(2, &[1, 3]), &[]), Ok(Some(LogIndex(3))));
        assert_eq!(terms(&log), [1, 1, 3]);
    }

    #[test]
    fn committed_entries_are_never_replaced() {
        let mut log = log(&[1, 1, 1]);
        log.commit_to(LogIndex(2));
        assert_eq!(log.splice(id(1, 1), entries(2, &[2]), &[]), Err(LogConflict::Committed { got: id(2, 2), committed: id(2, 1) }));
        assert_eq!(terms(&log), [1, 1, 1]);
    }

    #[test]
    fn entries_that_leave_a_gap_or_fall_in_term_are_refused() {
        let mut log = log(&[3]);
        let gap = entries(3, &[3]);
        assert_eq!(log.splice(id(1, 3), gap, &[]), Err(LogConflict::Malformed { got: id(3, 3), expected: LogIndex(2) }));
        assert_eq!(log.splice(id(1, 3), entries(2, &[2]), &[]), Err(LogConflict::Malformed { got: id(2, 2), expected: LogIndex(2) }));
    }

    #[test]
    fn each_committed_entry_is_taken_once() {
        let mut log = log(&[1, 1, 1]);
        log.commit_to(LogIndex(2));
        assert_eq!(log.take_committed(1 << 20).map(|entry| entry.id.index.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(log.take_committed(1 << 20).count(), 0);
        log.commit_to(LogIndex(3));
        assert_eq!(log.take_committed(1 << 20).map(|entry| entry.id.index.0).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_long_log_is_taken_in_pieces() {
        let mut log = log(&[1, 1, 1]);
        log.commit_to(LogIndex(3));
        let size = log.bytes() / 3;
        assert_eq!(log.take_committed(size * 2).count(), 2);
        assert_eq!(log.applied_index(), LogIndex(2));
        assert_eq!(log.take_committed(1).count(), 1, "one at least");
        assert_eq!(log.take_committed(1).count(), 0);
    }

    #[test]
    fn a_batch_holds_at_least_one_entry() {
        let log = log(&[1, 1, 1]);
        assert_eq!(log.batch(LogIndex(2), 1).len(), 1);
        assert_eq!(log.batch(LogIndex(2), 1 << 20).len(), 2);
        assert_eq!(log.batch(LogIndex(4), 1 << 20).len(), 0);
    }

    #[test]
    fn a_log_without_its_beginning_finds_the_rest() {
        let mut log = log(&[1, 1, 3, 3, 5]);
        log.commit_to(LogIndex(4));
        assert_eq!(log.take_committed(1 << 20).count(), 4);
        log.compact_to(LogIndex(3));
        assert_eq!((log.base(), log.last()), (id(3, 3), id(5, 5)));
        assert_eq!(log.term_at(LogIndex(3)), Some(Term(3)));
        assert_eq!(log.term_at(LogIndex(2)), None, "nobody knows any more");
        assert!(log.contains(id(3, 3)) && !log.contains(id(0, 0)));
        assert_eq!(log.batch(LogIndex(4), 1 << 20).len(), 2);
        assert_eq!((log.last_at_or_before(Term(3)), log.last_at_or_before(Term(2))), (LogIndex(4), LogIndex(2)));
        log.commit_to(LogIndex(5));
        assert_eq!(log.take_committed(1 << 20).map(|entry| entry.id.index.0).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn a_snapshot_keeps_what_follows_its_last_entry_and_nothing_that_contradicts_it() {
        let mut agreeing = log(&[1, 1, 2, 2]);
        assert!(agreeing.install(id(3, 2), None).unwrap());
        assert_eq!((agreeing.last(), agreeing.applied_index()), (id(4, 2), LogIndex(3)));
        let mut conflicting = log(&[1, 1, 1, 1]);
        assert!(!conflicting.install(id(3, 2), None).unwrap());
        assert_eq!((conflicting.last(), conflicting.bytes()), (id(3, 2), 0));
        conflicting.push(LogEntry { id: id(4, 3), kind: EntryKind::NoOp });
        assert_eq!(conflicting.commit_index(), LogIndex(3));
    }

    #[test]
    fn storage_gives_back_a_log_whose_beginning_it_has_dropped() {
        let mut log = RaftLog::default();
        log.recover(entries(7, &[2, 2, 2]), None).unwrap();
        assert!(!log.is_anchored());
        log.rebase(id(8, 2), None).unwrap();
        assert_eq!((log.base(), log.last(), log.is_anchored()), (id(8, 2), id(9, 2), true));
        log.recover(entries(8, &[2, 2, 3]), None).unwrap();
        assert_eq!((log.base(), log.last()), (id(8, 2), id(10, 3)));
        log.rebase(id(20, 4), None).unwrap();
        assert_eq!((log.base(), log.last()), (id(20, 4), id(20, 4)), "a snapshot from a leader took its place");
        log.recover(entries(22, &[4]), None).unwrap_err();
    }

    #[test]
    fn the_bounds_of_terms_are_found() {
        let log = log(&[1, 1, 3, 3, 5]);
        assert_eq!(log.first_of_term_at(LogIndex(4)), LogIndex(3));
        assert_eq!(log.last_at_or_before(Term(3)), LogIndex(4));
        assert_eq!(log.last_at_or_before(Term(2)), LogIndex(2));
        assert_eq!(log.last_at_or_before(Term(0)), LogIndex(0));
    }
}
