//! The chain through a sealed log: a link for each entry in memory, and which version of the key holds where.
//!
//! A leader makes the links of its entries, everybody else checks them: when entries come from a peer, when storage gives them back, when a snapshot takes the place of the
//! log's beginning. Between nodes and on disk consecutive entries have two links beside them, the one before the first and that of the last ([`ChainSpan`]): all between follow
//! from the entries. Links are not part of an entry, so that an unsealed log has none.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::entry::{EntryKind, LogEntry};
use crate::planted::Bug;
use crate::sealing::{
    ChainLink, ChainedEntry, EncryptedPayload, KeyRing, KeyVersion, LogIntegrityVerifier, LogName, MissingKey, SealingError,
};
use crate::types::{EntryId, LogIndex};

/// Where the chain stands behind an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainPoint {
    /// The entry's link.
    pub link: ChainLink,
    /// The version that the next entry is sealed and linked with.
    pub version: KeyVersion,
}

/// What vouches for consecutive entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainSpan {
    /// Behind the entry before the first one.
    pub before: ChainPoint,
    /// The link of the last one; that of `before` where there are none.
    pub last: ChainLink,
}

/// Entries that don't fit the chain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChainError {
    /// A version of the key is needed that is not there.
    #[error(transparent)]
    MissingKey(#[from] MissingKey),
    /// The chain does not lead from the one link to the other.
    #[error(
        "entries {first} to {last} are not what the holders of the key have written there: they were changed, moved, left out, or linked with another key that is called version {version}"
    )]
    Broken {
        /// The first entry.
        first: LogIndex,
        /// The last one.
        last: LogIndex,
        /// The version of the first.
        version: KeyVersion,
    },
    /// Two chains of the key's holders: what both logs hold at this entry, or before it, differs.
    #[error("the logs differ at entry {at} or before, where they must be equal, and both were written with the cluster's key")]
    Diverged {
        /// An entry that both have.
        at: EntryId,
    },
    /// A payload that can't be sealed as it should be.
    #[error("the payload of entry {id} is not sealed as it should be")]
    Payload {
        /// The entry.
        id: EntryId,
        /// Why.
        source: SealingError,
    },
    /// A payload that is sealed with another version than the one that holds.
    #[error("the payload of entry {id} is sealed with version {got} of the key where version {expected} holds")]
    Version {
        /// The entry.
        id: EntryId,
        /// What came.
        got: KeyVersion,
        /// What holds.
        expected: KeyVersion,
    },
    /// A change of the key to an earlier version.
    #[error("entry {id} changes from version {from} of the key to version {to}: versions only grow")]
    Backwards {
        /// The entry.
        id: EntryId,
        /// What holds.
        from: KeyVersion,
        /// What it wants.
        to: KeyVersion,
    },
    /// Sealed entries where the log is not, or the other way round.
    #[error("{got} entries came where {expected} ones were expected: either all nodes of a cluster seal their logs, or none does")]
    Mixed {
        /// What came.
        got: &'static str,
        /// What was expected.
        expected: &'static str,
    },
}

/// The links of a log in memory. [`RaftLog`](crate::RaftLog) keeps it in step with its entries.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    log: LogName,
    verifiers: BTreeMap<KeyVersion, LogIntegrityVerifier>,
    /// Behind the log's base.
    base: ChainPoint,
    base_index: LogIndex,
    links: VecDeque<ChainLink>,
    /// The entries behind the base that change the version, and to what.
    switches: VecDeque<(LogIndex, KeyVersion)>,
    bug: Option<Bug>,
}

/// The version that a log begins with.
const FIRST: KeyVersion = KeyVersion(1);

impl Chain {
    /// The chain of an empty log.
    ///
    /// # Errors
    /// There is no key at all.
    pub(crate) fn new(log: LogName, keys: &KeyRing, bug: Option<Bug>) -> Result<Self, MissingKey> {
        let newest = keys.versions().last().unwrap_or(FIRST);
        let genesis = LogIntegrityVerifier::new(&log, keys, newest)?.genesis();
        let base = ChainPoint { link: genesis, version: FIRST };
        let (links, switches) = (VecDeque::new(), VecDeque::new());
        let mut chain = Self { log, verifiers: BTreeMap::new(), base, base_index: LogIndex::NONE, links, switches, bug };
        chain.take_keys(keys);
        Ok(chain)
    }

    /// Takes in versions that are new.
    pub(crate) fn take_keys(&mut self, keys: &KeyRing) {
        for version in keys.versions() {
            if let Ok(verifier) = LogIntegrityVerifier::new(&self.log, keys, version) {
                self.verifiers.entry(version).or_insert(verifier);
            }
        }
    }

    /// How many entries have a link.
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// Where the chain stands behind an entry; none before the base and beyond the end.
    pub(crate) fn point_at(&self, index: LogIndex) -> Option<ChainPoint> {
        if index == self.base_index {
            return Some(self.base);
        }
        let position = usize::try_from(index.0.checked_sub(self.base_index.0 + 1)?).ok()?;
        let version = self.switches.iter().rev().find(|(switch, _)| *switch <= index).map_or(self.base.version, |(_, version)| *version);
        Some(ChainPoint { link: *self.links.get(position)?, version })
    }

    /// Where it ends.
    pub(crate) fn end(&self) -> ChainPoint {
        ChainPoint {
            link: self.links.back().copied().unwrap_or(self.base.link),
            version: self.switches.back().map_or(self.base.version, |(_, version)| *version),
        }
    }

    /// The links of entries behind a point.
    pub(crate) fn links_from(&self, mut at: ChainPoint, entries: &[LogEntry]) -> Result<Vec<ChainLink>, ChainError> {
        let mut beside = Vec::new();
        let mut links = Vec::with_capacity(entries.len());
        for entry in entries {
            check_payload(entry, at.version)?;
            at.link = self.verifier(at.version)?.link(&at.link, &chained(entry, &mut beside));
            if let Some(to) = entry.switch() {
                if to <= at.version {
                    return Err(ChainError::Backwards { id: entry.id, from: at.version, to });
                }
                self.verifier(to)?; // nobody takes an entry behind which it could read nothing
                at.version = to;
            }
            links.push(at.link);
        }
        Ok(links)
    }

    /// Whether links that entries bring count for nothing: a planted bug.
    pub(crate) fn believes_all(&self) -> bool {
        self.bug == Some(Bug::LinksUnchecked)
    }

    /// Whether entries lead from the one link of a span to its other, by somebody who has the key.
    pub(crate) fn is_genuine(&self, span: &ChainSpan, entries: &[LogEntry]) -> bool {
        self.links_from(span.before, entries).is_ok_and(|links| links.last() == Some(&span.last))
    }

    /// The link of an entry that comes next, by this node itself.
    ///
    /// # Errors
    /// The entry is not sealed as it should be, or a key is missing.
    pub(crate) fn next_link(&self, entry: &LogEntry) -> Result<ChainLink, ChainError> {
        Ok(self.links_from(self.end(), std::slice::from_ref(entry))?[0])
    }

    /// The log has another entry at its end.
    pub(crate) fn push(&mut self, entry: &LogEntry, link: ChainLink) {
        self.links.push_back(link);
        if let Some(version) = entry.switch() {
            self.switches.push_back((entry.id.index, version));
        }
    }

    /// The log has lost its last entry.
    pub(crate) fn pop_back(&mut self) {
        self.links.pop_back();
        let last = LogIndex(self.base_index.0 + self.links.len() as u64);
        while self.switches.pop_back_if(|(index, _)| *index > last).is_some() {}
    }

    /// The log has let go of its first entry.
    pub(crate) fn pop_front(&mut self) {
        let Some(link) = self.links.pop_front() else { return };
        self.base.link = link;
        self.base_index = self.base_index.next();
        while let Some((_, version)) = self.switches.pop_front_if(|(index, _)| *index <= self.base_index) {
            self.base.version = version;
        }
    }

    /// The log begins anew behind an entry.
    pub(crate) fn begin_at(&mut self, index: LogIndex, point: ChainPoint) {
        self.links.clear();
        self.switches.clear();
        (self.base, self.base_index) = (point, index);
    }

    fn verifier(&self, version: KeyVersion) -> Result<&LogIntegrityVerifier, MissingKey> {
        self.verifiers.get(&version).ok_or_else(|| MissingKey { wanted: version, held: self.verifiers.keys().copied().collect() })
    }
}

fn check_payload(entry: &LogEntry, expected: KeyVersion) -> Result<(), ChainError> {
    let Some(payload) = entry.payload() else { return Ok(()) };
    let id = entry.id;
    let sealed = EncryptedPayload::parse(payload.clone()).map_err(|source| ChainError::Payload { id, source })?;
    let got = sealed.header().version;
    if got == expected { Ok(()) } else { Err(ChainError::Version { id, got, expected }) }
}

/// An entry as the chain takes it in: its kind by number, its payload, and what is stored beside the two in postcard's encoding.
fn chained<'a>(entry: &'a LogEntry, beside: &'a mut Vec<u8>) -> ChainedEntry<'a> {
    beside.clear();
    let mut put = |value: &dyn Fn(Vec<u8>) -> postcard::Result<Vec<u8>>| {
        *beside = value(std::mem::take(beside)).expect("plain data always has an encoding");
    };
    let kind = match &entry.kind {
        EntryKind::NoOp => 0,
        EntryKind::Command { origin, .. } => {
            put(&|to| postcard::to_extend(origin, to));
            1
        }
        EntryKind::SessionCommand { origin, time, stamp, .. } => {
            put(&|to| postcard::to_extend(&(origin, time, stamp), to));
            2
        }
        EntryKind::Session { origin, time, change } => {
            put(&|to| postcard::to_extend(&(origin, time, change), to));
            3
        }
        EntryKind::Configuration(state) => {
            put(&|to| postcard::to_extend(state, to));
            4
        }
        EntryKind::KeyVersion(version) => {
            put(&|to| postcard::to_extend(version, to));
            5
        }
    };
    ChainedEntry { id: entry.id, kind, beside, payload: entry.payload().map_or(&[], |payload| payload) }
}

#[cfg(test)]
mod tests;
