//! What the commands of sessions were answered.
//!
//! A response comes from the host some time after its command was applied here, and on each node at another moment. So that all nodes keep
//! the same responses, whatever happens to responses waits its turn in the log's order: behind a command whose result has yet to come, later
//! acknowledgements, repetitions and ends of sessions wait in line.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use super::table::Table;
use super::{Answer, Applied};
use crate::entry::Payload;
use crate::io::Rejection;
use crate::types::{LogIndex, SessionId, Token};

/// The largest response that is kept in any case, in bytes. Larger ones share the room below.
const SMALL_BYTES: usize = 64;
/// The most bytes of larger responses of one session.
const MAX_SESSION_BYTES: usize = 4 << 20;
/// The most bytes of larger responses of all sessions.
const MAX_TOTAL_BYTES: usize = 16 << 20;

/// Responses that clients may ask for again.
#[derive(Clone, Debug, Default)]
pub(super) struct Responses {
    /// What had no room is missing.
    kept: BTreeMap<Key, Applied>,
    /// Bytes of those that are not small.
    large_bytes: usize,
    line: VecDeque<Turn>,
}

/// A command: its session, and its number there.
pub(super) type Key = (SessionId, u64);

/// What has its turn in the log's order.
#[derive(Clone, Debug)]
enum Turn {
    /// The result of a command, once it has come.
    Expect(Key, LogIndex),
    /// A session's responses before this one are needed no more.
    Release(Key),
    /// A session ends.
    Forget(SessionId),
    /// A command was repeated: its proposer is told the first response.
    Answer(Key, Token),
}

impl Responses {
    /// A command goes to the host: its result will come.
    pub(super) fn expect(&mut self, key: Key, index: LogIndex) {
        self.line.push_back(Turn::Expect(key, index));
    }

    /// The client has all responses of a session before this one.
    pub(super) fn release(&mut self, session: SessionId, before: u64, answers: &mut Vec<Answer>) {
        self.line_up(Turn::Release((session, before)), answers);
    }

    /// A session ends.
    pub(super) fn forget(&mut self, session: SessionId, answers: &mut Vec<Answer>) {
        self.line_up(Turn::Forget(session), answers);
    }

    /// A command was repeated: its proposer is told the first response.
    pub(super) fn answer(&mut self, key: Key, token: Token, answers: &mut Vec<Answer>) {
        self.line_up(Turn::Answer(key, token), answers);
    }

    /// A result has come: it must be the first that is waited for. Gives its index otherwise.
    pub(super) fn came(&mut self, applied: Applied, answers: &mut Vec<Answer>) -> Result<(), LogIndex> {
        match self.line.front() {
            Some(Turn::Expect(key, index)) if *index == applied.index => self.keep(*key, applied),
            _ => return Err(applied.index),
        }
        self.line.pop_front();
        self.proceed(answers);
        Ok(())
    }

    fn line_up(&mut self, turn: Turn, answers: &mut Vec<Answer>) {
        self.line.push_back(turn);
        self.proceed(answers);
    }

    /// Takes all turns that wait for nothing.
    fn proceed(&mut self, answers: &mut Vec<Answer>) {
        while let Some(turn) = self.line.pop_front_if(|turn| !matches!(turn, Turn::Expect(..))) {
            match turn {
                Turn::Release(before) => self.drop_range(before.0, Bound::Excluded(before)),
                Turn::Forget(session) => self.drop_range(session, Bound::Included((session, u64::MAX))),
                Turn::Answer(key, token) => {
                    let first = self.kept.get(&key).map(|first| (first.index, first.result.clone()));
                    answers.push((token, first.ok_or(Rejection::ResponseDropped)));
                }
                Turn::Expect(..) => unreachable!("it was left in line"),
            }
        }
    }

    /// Keeps a response, if there is room.
    fn keep(&mut self, key: Key, applied: Applied) {
        let size = large_size(&applied.result);
        if size == 0 || self.large_bytes + size <= MAX_TOTAL_BYTES && self.large_bytes_of(key.0) + size <= MAX_SESSION_BYTES {
            self.large_bytes += size;
            self.kept.insert(key, applied);
        }
    }

    fn large_bytes_of(&self, session: SessionId) -> usize {
        self.kept.range((session, 0)..=(session, u64::MAX)).map(|(_, kept)| large_size(&kept.result)).sum()
    }

    fn drop_range(&mut self, session: SessionId, to: Bound<Key>) {
        while let Some((&key, _)) = self.kept.range((Bound::Included((session, 0)), to)).next() {
            self.large_bytes -= self.kept.remove(&key).map_or(0, |kept| large_size(&kept.result));
        }
    }

    /// Whether results are outstanding.
    pub(super) fn waits(&self) -> bool {
        !self.line.is_empty()
    }

    /// All responses; none while results are outstanding.
    pub(super) fn image(&self) -> Option<Vec<(SessionId, u64, Applied)>> {
        let all = self.kept.iter().map(|(key, applied)| (key.0, key.1, applied.clone())).collect();
        self.line.is_empty().then_some(all)
    }

    /// Responses as an image has them, in order; none if they are not those of this table.
    pub(super) fn from_image(responses: Vec<(SessionId, u64, Applied)>, table: &Table) -> Option<Self> {
        let mut this = Self::default();
        for (session, sequence, applied) in responses {
            let key = (session, sequence);
            if !table.was_carried_out(session, sequence) || this.kept.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return None;
            }
            this.large_bytes += large_size(&applied.result);
            this.kept.insert(key, applied);
        }
        (this.large_bytes <= MAX_TOTAL_BYTES).then_some(this)
    }
}

/// The bytes that a response takes of the common room.
fn large_size(result: &Payload) -> usize {
    if result.len() <= SMALL_BYTES { 0 } else { result.len() }
}
