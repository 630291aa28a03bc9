//! A simulated disk: a journal whose end is not durable yet, and what a crash leaves of it.

use std::collections::VecDeque;

use amaters_cluster_core::{EntryId, LogIndex, Operation, PersistentState, Term, Ticket, wire};

/// The disk of one node.
///
/// Submissions become durable in their order. A crash keeps any number of operations from the front of what was not durable yet: whole
/// submissions, then perhaps a part of one, and never one from behind a missing one. An operation is one checksummed record: it is there or not.
#[derive(Debug, Default)]
pub struct Disk {
    journal: Vec<Operation>,
    durable: Image,
    under_way: VecDeque<(Ticket, Vec<Operation>)>,
}

/// What a node would find if it started from a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Term and vote.
    pub state: PersistentState,
    /// The last entry of a snapshot that stands for the beginning of the log; zeros for none.
    pub base: EntryId,
    /// The term of each entry behind it.
    pub terms: Vec<Term>,
}

/// What a crash did to the operations that were not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remains {
    /// How many are there.
    pub kept: usize,
    /// How many are gone.
    pub lost: usize,
    /// Whether a submission was cut in two.
    pub torn: bool,
}

impl Disk {
    /// Takes operations. They are durable once [`Self::complete`] says so.
    pub fn submit(&mut self, ticket: Ticket, operations: Vec<Operation>) {
        self.under_way.push_back((ticket, operations));
    }

    /// Makes everything up to a ticket durable. Whether that was anything new.
    pub fn complete(&mut self, up_to: Ticket) -> bool {
        let before = self.journal.len();
        while let Some((_, operations)) = self.under_way.pop_front_if(|(ticket, _)| *ticket <= up_to) {
            operations.into_iter().for_each(|operation| self.keep(operation));
        }
        self.journal.len() > before
    }

    /// The machine loses its power: the first `keep` of the operations that were not durable are there, the others are not.
    pub fn crash(&mut self, keep: usize) -> Remains {
        let mut remains = Remains { kept: 0, lost: 0, torn: false };
        for (_, operations) in std::mem::take(&mut self.under_way) {
            let fits = operations.len().min(keep - remains.kept);
            remains.torn |= fits > 0 && fits < operations.len();
            remains.lost += operations.len() - fits;
            remains.kept += fits;
            operations.into_iter().take(fits).for_each(|operation| self.keep(operation));
        }
        remains
    }

    /// The journal is damaged, and what can't be trusted is gone: all but the hard state, of which there are two copies.
    pub fn lose_log(&mut self) {
        assert!(self.under_way.is_empty(), "it is found out at a start");
        let state = wire::hard_state_operation(&self.durable.state);
        *self = Self::default();
        self.keep(state);
    }

    /// Somebody changes what is durable. What [`Self::durable`] tells stays what it was.
    pub fn tamper(&mut self, change: impl FnOnce(&mut Vec<Operation>)) {
        change(&mut self.journal);
    }

    /// What is durable, in its order.
    #[must_use]
    pub fn journal(&self) -> &[Operation] {
        &self.journal
    }

    /// What a node would find that started from what is durable.
    #[must_use]
    pub fn durable(&self) -> &Image {
        &self.durable
    }

    /// Submissions that are not durable yet, in their order.
    pub fn under_way(&self) -> impl ExactSizeIterator<Item = (Ticket, &[Operation])> {
        self.under_way.iter().map(|(ticket, operations)| (*ticket, operations.as_slice()))
    }

    /// How many operations are not durable yet.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.under_way.iter().map(|(_, operations)| operations.len()).sum()
    }

    fn keep(&mut self, operation: Operation) {
        self.durable.take(&operation);
        self.journal.push(operation);
    }
}

impl Image {
    /// The term of the entry at an index; none beyond the end, and before the base.
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let position = usize::try_from(index.0.checked_sub(self.base.index.0 + 1)?).ok()?;
        self.terms.get(position).copied()
    }

    /// Whether an entry that is committed is there: by itself, or in the snapshot that stands for it.
    #[must_use]
    pub fn holds(&self, committed: EntryId) -> bool {
        committed.index < self.base.index || self.term_at(committed.index) == Some(committed.term)
    }

    /// The last index.
    #[must_use]
    pub fn last(&self) -> LogIndex {
        LogIndex(self.base.index.0 + self.terms.len() as u64)
    }

    fn take(&mut self, operation: &Operation) {
        match operation {
            Operation::HardState(bytes) => self.state = wire::decode_hard_state(bytes).expect("a node writes what it can read"),
            Operation::Append { first, count, entries } => {
                let (entries, _) = wire::decode_entries(*first, *count, entries).expect("a node writes what it can read");
                assert!(*first <= self.last().next(), "an append at {first} leaves a gap behind entry {}", self.last());
                let new = entries.iter().filter(|entry| entry.id.index > self.base.index);
                let before = first.previous().0.saturating_sub(self.base.index.0);
                self.terms.truncate(usize::try_from(before).expect("a log fits into memory"));
                self.terms.extend(new.map(|entry| entry.id.term));
            }
            Operation::Compact { first, base } => {
                let (base, _) = wire::decode_base(*first, base).expect("a node writes what it can read");
                if self.term_at(base.index) == Some(base.term) {
                    let dropped = usize::try_from(base.index.0 - self.base.index.0).expect("a log fits into memory");
                    self.terms.drain(..dropped);
                } else {
                    self.terms.clear();
                }
                self.base = base;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(term: u64) -> Operation {
        wire::hard_state_operation(&PersistentState { current_term: Term(term), ..PersistentState::default() })
    }

    fn disk() -> Disk {
        let mut disk = Disk::default();
        disk.submit(Ticket(1), vec![state(1)]);
        disk.submit(Ticket(2), vec![state(2), state(3)]);
        disk.submit(Ticket(3), vec![state(4)]);
        disk
    }

    #[test]
    fn submissions_become_durable_in_order() {
        let mut disk = disk();
        assert!(disk.complete(Ticket(2)));
        assert_eq!(disk.journal(), [state(1), state(2), state(3)]);
        assert!(!disk.complete(Ticket(2)), "nothing new");
        assert_eq!(disk.crash(0), Remains { kept: 0, lost: 1, torn: false });
        assert_eq!(disk.durable().state.current_term, Term(3));
    }

    #[test]
    fn a_crash_keeps_a_prefix_and_may_tear_a_submission() {
        for (keep, torn) in [(0, false), (1, false), (2, true), (3, false), (4, false)] {
            let mut disk = disk();
            assert_eq!(disk.crash(keep), Remains { kept: keep, lost: 4 - keep, torn }, "keep {keep}");
            assert_eq!(disk.journal().len(), keep);
            assert_eq!(disk.unsynced(), 0);
        }
    }
}
