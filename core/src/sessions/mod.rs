//! Client sessions: a command is carried out once, however often a client repeats it (dissertation, §6.3).
//!
//! A client opens a session and numbers its commands. One that it got no answer to it repeats under the same number, at any node: the
//! command is carried out if it was not before, and answered with its first response otherwise. With each command the client says which
//! responses it has: those need not be kept any longer.
//!
//! The table of sessions is part of the replicated state. It changes by the log's entries alone, so that all nodes agree on it:
//!
//! - `table` says which sessions there are, and which of their commands were carried out. It decides as an entry is applied.
//! - `responses` keeps what was answered. Responses come from the host's state machine, and so after the decision: what happens to them
//!   happens in the log's order all the same.
//!
//! Time is the log's own. A leader gives each entry of a session the time on its clock, counted from the latest time in its log: so the
//! log's time never goes back, and runs no faster than the leaders' clocks. Sessions expire as an entry is applied, by the time that it carries.
//!
//! Departures from the dissertation: a session ends after a silence that the client chose when it opened it, as well as when there are too
//! many; and it may have [`MAX_OPEN_COMMANDS`] commands without an answer, which may be carried out in another order than they were numbered in.

mod responses;
mod table;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::entry::Payload;
use crate::io::Rejection;
use crate::types::{LogIndex, LogTime, SessionId, Token};
use crate::wire::WireError;

use responses::Responses;
use table::{Table, Verdict};

/// The most sessions. One more ends the one that would expire next.
pub const MAX_SESSIONS: usize = 10_000;
/// The most commands of a session without an acknowledged response.
pub const MAX_OPEN_COMMANDS: u64 = u64::BITS as u64;
/// The shortest silence that ends a session.
pub const MIN_SESSION_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest silence that a session outlives.
pub const MAX_SESSION_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Places a command in its client's session. All numbers are below 2^62.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStamp {
    /// The session.
    pub session: SessionId,
    /// The command's number in the session, from 1. A repeated command has the same again.
    pub sequence: u64,
    /// The client has the responses of all commands before this one: from 1, up to `sequence`.
    pub acknowledged: u64,
}

/// What happens to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionChange {
    /// A session begins: its id is the index of this entry.
    Open {
        /// It ends after this much silence, in milliseconds of the log's time: 1 s to 24 h, taken as the nearest of these where it is neither.
        timeout_ms: u64,
    },
    /// A sign of life.
    KeepAlive {
        /// The session.
        session: SessionId,
        /// The client has the responses of all commands before this one.
        acknowledged: u64,
    },
    /// The session ends.
    Close {
        /// The session.
        session: SessionId,
    },
}

/// The result of a command, back from the host's state machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The command's place in the log.
    pub index: LogIndex,
    /// What the state machine said.
    pub result: Payload,
}

/// The sessions of all clients, and who waits here for what.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    table: Table,
    responses: Responses,
    /// Answers to this node's own host.
    answers: Vec<Answer>,
}

/// What is said to a proposal.
pub(crate) type Answer = (Token, Result<(LogIndex, Payload), Rejection>);

/// The replicated state of all sessions at a place of the log: equal on all nodes that have applied as much.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionImage {
    time: LogTime,
    sessions: Vec<(SessionId, table::Session)>,
    responses: Vec<(SessionId, u64, Applied)>,
}

impl SessionStamp {
    /// The stamp of the command that follows `count` commands later, from a client that leaves no more than [`MAX_OPEN_COMMANDS`] without an answer.
    #[must_use]
    pub fn later(self, count: u64) -> Self {
        let sequence = self.sequence.saturating_add(count);
        Self { sequence, acknowledged: self.acknowledged.max((sequence + 1).saturating_sub(MAX_OPEN_COMMANDS)), ..self }
    }
}

// Entries are applied.
impl Sessions {
    /// A command of a session is applied: whether the host carries it out. If so, its result has to come back by [`Sessions::applied`].
    pub(crate) fn command(&mut self, index: LogIndex, time: LogTime, stamp: &SessionStamp, token: Option<Token>) -> bool {
        self.expire(time);
        let verdict = self.table.command(stamp);
        self.responses.release(stamp.session, self.table.acknowledged(stamp.session), &mut self.answers);
        let key = (stamp.session, stamp.sequence);
        match (verdict, token) {
            (Verdict::First, _) => self.responses.expect(key, index),
            (Verdict::Repeated, Some(token)) => self.responses.answer(key, token, &mut self.answers),
            (Verdict::Refused(reason), Some(token)) => self.answers.push((token, Err(reason))),
            (Verdict::Repeated | Verdict::Refused(_), None) => {}
        }
        verdict == Verdict::First
    }

    /// A session is opened, kept or closed.
    pub(crate) fn change(&mut self, index: LogIndex, time: LogTime, change: SessionChange, token: Option<Token>) {
        self.expire(time);
        let session = match change {
            SessionChange::Open { timeout_ms } => {
                let id = SessionId(index.0);
                if let Some(ended) = self.table.open(id, Duration::from_millis(timeout_ms)) {
                    self.responses.forget(ended, &mut self.answers);
                }
                Some(id)
            }
            SessionChange::KeepAlive { session, acknowledged } => {
                let alive = self.table.keep_alive(session, acknowledged);
                self.responses.release(session, self.table.acknowledged(session), &mut self.answers);
                alive.then_some(session)
            }
            SessionChange::Close { session } => {
                self.responses.forget(session, &mut self.answers);
                self.table.close(session).then_some(session)
            }
        };
        if let Some(token) = token {
            let answer = session.map(|session| (LogIndex(session.0), Payload::new())).ok_or(Rejection::SessionExpired);
            self.answers.push((token, answer));
        }
    }

    fn expire(&mut self, time: LogTime) {
        for session in self.table.advance(time) {
            self.responses.forget(session, &mut self.answers);
        }
    }

    /// The results of commands that were carried out, in the order of the log. Gives the index of the first that nobody waits for.
    pub(crate) fn applied(&mut self, results: Vec<Applied>) -> Result<(), LogIndex> {
        results.into_iter().try_for_each(|applied| self.responses.came(applied, &mut self.answers))
    }

    /// What this node's host is to be told.
    pub(crate) fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }
}

// What can be looked at, and kept.
impl Sessions {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The latest time that an applied entry carried.
    #[must_use]
    pub fn time(&self) -> LogTime {
        self.table.time()
    }

    /// Whether commands were given to the host whose results are yet to come.
    pub(crate) fn waits_for_results(&self) -> bool {
        self.responses.waits()
    }

    /// The replicated state as of the last applied entry; none while results are outstanding.
    #[must_use]
    pub fn image(&self) -> Option<SessionImage> {
        if self.waits_for_results() {
            return None;
        }
        let responses = self.responses.image()?;
        Some(SessionImage { time: self.table.time(), sessions: self.table.image(), responses })
    }

    /// Sessions as another node, or an earlier run, had them.
    ///
    /// # Errors
    /// No node has sessions like these.
    pub fn from_image(image: SessionImage) -> Result<Self, WireError> {
        let sessions = Table::from_image(image.time, image.sessions)
            .and_then(|table| Some(Self { responses: Responses::from_image(image.responses, &table)?, table, answers: Vec::new() }));
        sessions.ok_or_else(|| WireError::Malformed { what: "session table", reason: "its parts don't fit together".to_owned() })
    }
}

#[cfg(test)]
mod tests;
