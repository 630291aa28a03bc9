//! The state machine of the product: an ordered map from keys to values.
//!
//! [`KeyValue`] is what the log's commands change and what queries are answered from. Commands and answers are values of [`Write`], [`Query`] and
//! [`Reply`], whose `encode` and `decode` make the opaque bytes of the log and back. Every node runs the same commands in the same order, so nothing here
//! may depend on time, randomness, a node's settings or its version beyond what the bytes themselves say: the limits are constants, and a
//! command that this version does not know is answered with [`Failure::NotUnderstood`] and changes nothing.
//!
//! For snapshots the state comes out in pieces without being stopped: `view` has how, `pieces` what they hold.
//!
//! Results are those of Redis' string commands, which the front end in [`resp`](crate::resp) words.

mod codec;
mod fences;
mod glob;
mod number;
mod pieces;
mod table;
#[cfg(test)]
mod tests;
mod view;

use amaters_cluster_core::{Committed, EntryId};
use bytes::Bytes;

use crate::state_machine::{ApplyResult, Piece, RestoreError, StateMachine};

use fences::Fences;
use pieces::{Giving, Taking};

pub use codec::{Condition, Failure, Query, Reply, Write};
pub(crate) use glob::matches as glob_matches;
pub(crate) use number::parse_i64;
/// Bytes that are borrowed from a command.
pub use serde_bytes::Bytes as Slice;

use table::Table;

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 64 << 10;
/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 1 << 20;
/// The longest pattern of a scan, in bytes: matching costs up to the product of the lengths of pattern and key.
pub const MAX_PATTERN_BYTES: usize = 1 << 10;
/// The most bytes of values in one answer to [`Query::MGet`].
pub const MAX_ANSWER_BYTES: usize = 16 << 20;
/// The longest name of a fence, in bytes.
pub const MAX_FENCE_NAME_BYTES: usize = 256;
/// The most fences: with names and tokens they take some 20 MiB. [`Write::FenceDrop`] makes room.
pub const MAX_FENCES: usize = 64 << 10;
/// The most keys that one [`Query::Scan`] looks at.
pub const MAX_SCAN_COUNT: u32 = 1 << 10;
/// A scan ends early once it has looked at this many bytes of keys, so that long keys don't hold up the node.
const MAX_SCAN_BYTES: usize = 256 << 10;

/// An ordered map from keys to values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    entries: Table,
    fences: Fences,
    /// How far the captured state has been given.
    giving: Option<Giving>,
    /// How far another state has come.
    taking: Option<Taking>,
}

impl StateMachine for KeyValue {
    fn apply(&mut self, commands: &[Committed]) -> Vec<ApplyResult> {
        commands.iter().map(|it| self.write(EntryId { term: it.term, index: it.index }, &it.command)).collect()
    }

    fn query(&self, query: &[u8]) -> ApplyResult {
        match Query::decode(query) {
            Some(query) => self.answer(&query).encode(),
            None => Reply::Failed(Failure::NotUnderstood).encode(),
        }
    }

    fn capture(&mut self) {
        self.entries.capture();
        self.fences.capture();
        self.giving = Some(Giving::default());
    }

    fn next_piece(&mut self, max_bytes: usize) -> Piece {
        // Without a capture there is nothing, not even the end that every whole state has.
        let Some(giving) = &mut self.giving else { return Piece { bytes: Vec::new(), last: true } };
        giving.next(&mut self.entries, &mut self.fences, max_bytes)
    }

    fn release(&mut self) {
        self.entries.release();
        self.fences.release();
        self.giving = None;
    }

    fn clear(&mut self) {
        self.release();
        self.entries.clear();
        self.fences = Fences::default();
        self.taking = Some(Taking::default());
    }

    fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        let taking = self.taking.as_mut().ok_or_else(|| RestoreError::new("a piece came where none belongs"))?;
        taking.next(piece, &mut self.entries, &mut self.fences)
    }

    fn restored(&mut self) -> Result<(), RestoreError> {
        self.taking.take().unwrap_or_default().finish()
    }
}

impl KeyValue {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries out one encoded [`Write`], and gives its encoded [`Reply`]. `entry` is the one that holds it in the log.
    pub fn write(&mut self, entry: EntryId, command: &[u8]) -> Bytes {
        let Some(command) = Write::decode(command) else { return Reply::Failed(Failure::NotUnderstood).encode() };
        if let Err(failure) = command.check() {
            return Reply::Failed(failure).encode();
        }
        match command {
            Write::Set { key, value, condition, get } => self.set(key, value, condition, get),
            Write::GetDel { key } => value_reply(self.entries.remove(&key[..]).as_deref()).encode(),
            Write::MSet(pairs) => {
                for (key, value) in pairs {
                    self.entries.put(key, value);
                }
                Reply::Done.encode()
            }
            Write::Del(keys) => count(keys.iter().filter(|key| self.entries.remove(&key[..]).is_some()).count()).encode(),
            Write::IncrBy { key, by } => self.increment(key, by).encode(),
            Write::Append { key, value } => self.append(key, value).encode(),
            Write::FlushAll => {
                self.entries.clear();
                Reply::Done.encode()
            }
            Write::FenceNext { name } => self.fences.next(name, entry).map_or_else(Reply::Failed, Reply::Token).encode(),
            Write::FenceDrop { name } => count(usize::from(self.fences.remove(name))).encode(),
            Write::FencedSet { name, token, key, value, condition, get } => match self.fences.admits(name, token) {
                Ok(()) => self.set(key, value, condition, get),
                Err(stale) => Reply::Failed(stale).encode(),
            },
        }
    }

    fn set(&mut self, key: &Slice, value: &Slice, condition: Condition, get: bool) -> Bytes {
        let old = if get || condition != Condition::Always { self.entries.get(&key[..]) } else { None };
        let allowed = match condition {
            Condition::Always => true,
            Condition::IfAbsent => old.is_none(),
            Condition::IfPresent => old.is_some(),
        };
        let reply = match (get, allowed) {
            (true, _) => value_reply(old).encode(),
            (false, true) => Reply::Done.encode(),
            (false, false) => Reply::Value(None).encode(),
        };
        if allowed {
            self.entries.put(key, value);
        }
        reply
    }

    fn increment(&mut self, key: &Slice, by: i64) -> Reply<'static> {
        let old = match self.entries.get(&key[..]) {
            Some(old) => parse_i64(old),
            None => Some(0),
        };
        let Some(old) = old else { return Reply::Failed(Failure::NotAnInteger) };
        let Some(new) = old.checked_add(by) else { return Reply::Failed(Failure::Overflow) };
        self.entries.put(key, new.to_string().as_bytes());
        Reply::Integer(new)
    }

    fn append(&mut self, key: &Slice, value: &Slice) -> Reply<'static> {
        let old = self.entries.get(key).unwrap_or_default();
        let length = old.len() + value.len();
        if length > MAX_VALUE_BYTES {
            return Reply::Failed(Failure::ValueTooLong { bytes: length as u64 });
        }
        let new = [old, value].concat();
        self.entries.put(key, &new);
        count(length)
    }

    fn answer(&self, query: &Query<'_>) -> Reply<'_> {
        match query {
            Query::Get { key } => value_reply(self.entries.get(key)),
            Query::MGet(keys) => self.get_many(keys),
            Query::Exists(keys) => count(keys.iter().filter(|key| self.entries.get(key).is_some()).count()),
            Query::StrLen { key } => count(self.entries.get(key).map_or(0, <[u8]>::len)),
            Query::Type { key } => Reply::Type { exists: self.entries.get(key).is_some() },
            Query::DbSize => count(self.entries.len()),
            Query::Scan { after, count, pattern, kind } => self.scan(*after, *count, *pattern, *kind),
            Query::FenceCheck { name, token } => count(usize::from(self.fences.admits(name, *token).is_ok())),
        }
    }

    fn get_many(&self, keys: &[&Slice]) -> Reply<'_> {
        let mut bytes = 0;
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let value = self.entries.get(key);
            bytes += value.map_or(0, <[u8]>::len);
            if bytes > MAX_ANSWER_BYTES {
                return Reply::Failed(Failure::AnswerTooLong);
            }
            values.push(value.map(Slice::new));
        }
        Reply::Values(values)
    }

    /// Goes through keys in their order, so that a scan which resumes after the last key it saw misses none that was there all the time.
    fn scan(&self, after: Option<&Slice>, count: u32, pattern: Option<&Slice>, kind: Option<&Slice>) -> Reply<'_> {
        if pattern.is_some_and(|pattern| pattern.len() > MAX_PATTERN_BYTES) {
            return Reply::Failed(Failure::PatternTooLong);
        }
        if kind.is_some_and(|kind| !kind.eq_ignore_ascii_case(b"string")) {
            return Reply::Scanned { keys: Vec::new(), resume_after: None };
        }
        let mut rest = self.entries.keys_after(after.map(|after| &after[..]));
        let mut keys = Vec::new();
        let mut last = None;
        let mut bytes = 0;
        for key in rest.by_ref().take(count.clamp(1, MAX_SCAN_COUNT) as usize) {
            if pattern.is_none_or(|pattern| glob::matches(pattern, key)) {
                keys.push(Slice::new(key));
            }
            last = Some(Slice::new(key));
            bytes += key.len();
            if bytes > MAX_SCAN_BYTES {
                break;
            }
        }
        Reply::Scanned { keys, resume_after: last.filter(|_| rest.next().is_some()) }
    }
}

fn value_reply(value: Option<&[u8]>) -> Reply<'_> {
    Reply::Value(value.map(Slice::new))
}

fn count(number: usize) -> Reply<'static> {
    Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}
