//! Which sessions there are, and which of their commands were carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{MAX_OPEN_COMMANDS, MAX_SESSION_TIMEOUT, MAX_SESSIONS, MIN_SESSION_TIMEOUT, SessionStamp};
use crate::io::Rejection;
use crate::types::{LogTime, SessionId};
use crate::wire::LIMIT;

/// All sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    time: LogTime,
    sessions: BTreeMap<SessionId, Session>,
    /// The same by when they end.
    ends: BTreeSet<(LogTime, SessionId)>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    timeout_ms: u64,
    ends: LogTime,
    /// The first command whose response the client may still ask for.
    acknowledged: u64,
    /// A bit for each command from that one on, the lowest first: whether it was carried out.
    carried_out: u64,
}

/// What is to be done about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is carried out.
    First,
    /// It was: the first response is its answer.
    Repeated,
    /// It is not carried out.
    Refused(Rejection),
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn time(&self) -> LogTime {
        self.time
    }

    /// Time has passed. Gives the sessions that this ends.
    pub(super) fn advance(&mut self, time: LogTime) -> Vec<SessionId> {
        self.time = self.time.max(time);
        let now = self.time;
        let mut ended = Vec::new();
        while let Some(&(_, session)) = self.ends.first().filter(|(ends, _)| *ends <= now) {
            self.close(session);
            ended.push(session);
        }
        ended
    }

    /// A session begins. Where there are too many, another gives way.
    pub(super) fn open(&mut self, id: SessionId, timeout: Duration) -> Option<SessionId> {
        let crowded = self.sessions.len() >= MAX_SESSIONS;
        let gives_way = self.ends.first().filter(|_| crowded).map(|(_, session)| *session);
        if let Some(session) = gives_way {
            self.close(session);
        }
        let timeout_ms = u64::try_from(timeout.clamp(MIN_SESSION_TIMEOUT, MAX_SESSION_TIMEOUT).as_millis()).expect("it is a day at most");
        let ends = LogTime(self.time.0 + timeout_ms);
        self.sessions.insert(id, Session { timeout_ms, ends, acknowledged: 1, carried_out: 0 });
        self.ends.insert((ends, id));
        gives_way
    }

    /// A session ends: whether it was there.
    pub(super) fn close(&mut self, id: SessionId) -> bool {
        self.sessions.remove(&id).is_some_and(|session| self.ends.remove(&(session.ends, id)))
    }

    /// A sign of life of a session: whether it is there.
    pub(super) fn keep_alive(&mut self, id: SessionId, acknowledged: u64) -> bool {
        self.touch(id).map(|session| session.acknowledge(acknowledged)).is_some()
    }

    /// A command of a session.
    pub(super) fn command(&mut self, stamp: &SessionStamp) -> Verdict {
        let Some(session) = self.touch(stamp.session) else { return Verdict::Refused(Rejection::SessionExpired) };
        session.acknowledge(stamp.acknowledged);
        match stamp.sequence.checked_sub(session.acknowledged) {
            None => Verdict::Refused(Rejection::ResponseDropped),
            Some(place) if place >= MAX_OPEN_COMMANDS => Verdict::Refused(Rejection::SessionFull),
            Some(place) if session.carried_out & (1 << place) != 0 => Verdict::Repeated,
            Some(place) => {
                session.carried_out |= 1 << place;
                Verdict::First
            }
        }
    }

    /// Whether a command was carried out whose response the client may still ask for.
    pub(super) fn was_carried_out(&self, id: SessionId, sequence: u64) -> bool {
        self.sessions.get(&id).is_some_and(|session| {
            let place = sequence.checked_sub(session.acknowledged).filter(|place| *place < MAX_OPEN_COMMANDS);
            place.is_some_and(|place| session.carried_out & (1 << place) != 0)
        })
    }

    /// The first command whose response has to be kept; 0 where there is no such session.
    pub(super) fn acknowledged(&self, id: SessionId) -> u64 {
        self.sessions.get(&id).map_or(0, |session| session.acknowledged)
    }

    fn touch(&mut self, id: SessionId) -> Option<&mut Session> {
        let session = self.sessions.get_mut(&id)?;
        self.ends.remove(&(session.ends, id));
        session.ends = LogTime(self.time.0 + session.timeout_ms);
        self.ends.insert((session.ends, id));
        Some(session)
    }

    pub(super) fn image(&self) -> Vec<(SessionId, Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session.clone())).collect()
    }

    /// A table as an image has it; none if that can't be one.
    pub(super) fn from_image(time: LogTime, sessions: Vec<(SessionId, Session)>) -> Option<Self> {
        let sane = time.0 < LIMIT
            && sessions.len() <= MAX_SESSIONS
            && sessions.is_sorted_by(|(one, _), (next, _)| one < next)
            && sessions.iter().all(|(id, session)| (1..LIMIT).contains(&id.0) && session.is_sane());
        let ends = sessions.iter().map(|(id, session)| (session.ends, *id)).collect();
        sane.then(|| Self { time, sessions: sessions.into_iter().collect(), ends })
    }
}

impl Session {
    /// The client has the responses of all commands before this one.
    fn acknowledge(&mut self, acknowledged: u64) {
        let more = acknowledged.saturating_sub(self.acknowledged);
        self.acknowledged += more;
        self.carried_out = u32::try_from(more).ok().and_then(|more| self.carried_out.checked_shr(more)).unwrap_or_default();
    }

    /// Whether its numbers leave room to count on.
    fn is_sane(&self) -> bool {
        self.timeout_ms < LIMIT && self.ends.0 < LIMIT && (1..LIMIT).contains(&self.acknowledged)
    }
}
