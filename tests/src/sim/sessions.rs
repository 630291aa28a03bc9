//! What sessions should do, in the plainest words: the reference that nodes are compared with.
//!
//! The reference reads committed entries one after the other, and keeps all it has ever seen. Each attempt of a command names its request, so that
//! what a node tells can be compared with what the reference says of that very attempt.

use std::collections::{BTreeMap, BTreeSet};

use amaters_cluster_core::sessions::{MAX_OPEN_COMMANDS, MAX_SESSION_TIMEOUT, MIN_SESSION_TIMEOUT, SessionImage};
use amaters_cluster_core::{
    EntryKind, LogEntry, LogIndex, NodeId, Rejection, Reply, SessionChange, SessionId, SessionStamp, Sessions, Token,
};

use super::Check;

/// All that sessions have done.
#[derive(Default)]
pub(super) struct Reference {
    time: u64,
    sessions: BTreeMap<SessionId, Open>,
    /// How many commands have been carried out, of sessions and others.
    commands: u64,
    /// Commands of sessions that were carried out, ever: where, and what they gave.
    done: BTreeMap<Place, (LogIndex, String)>,
    attempts: BTreeMap<Token, Attempt>,
    by_index: BTreeMap<LogIndex, Token>,
    /// What the first node had that had applied so much and all results for it.
    images: BTreeMap<LogIndex, SessionImage>,
    /// Up to where a node was compared with those.
    compared: BTreeMap<NodeId, LogIndex>,
}

/// A command's place: its session and its sequence.
type Place = (SessionId, u64);

struct Open {
    timeout: u64,
    heard_at: u64,
    acknowledged: u64,
    carried_out: BTreeSet<u64>,
}

/// What is due to a committed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    First,
    Repeated,
    Refused(Rejection),
}

struct Attempt {
    index: LogIndex,
    place: Place,
    due: Due,
}

/// The command of an attempt: its request, and as many dots as `bytes` asks for.
pub(super) fn session_command_of(token: Token, bytes: usize) -> Vec<u8> {
    format!("{:.<bytes$}", format!("={token}.plaintext.")).into_bytes()
}

/// The request of an attempt.
pub(super) fn attempt_of(command: &[u8]) -> Option<Token> {
    let digits = command.strip_prefix(b"=")?.split(|byte| *byte == b'.').next()?;
    Some(Token(str::from_utf8(digits).ok()?.parse().ok()?))
}

impl Reference {
    /// An entry is committed.
    pub(super) fn book(&mut self, entry: &LogEntry) -> Check {
        if let Some(time) = entry.time() {
            if time.0 < self.time {
                return Err(format!("the log's time falls from {} to {time} at entry {}", self.time, entry.id));
            }
            self.time = time.0;
            self.sessions.retain(|_, open| time.0 - open.heard_at < open.timeout);
        }
        match &entry.kind {
            EntryKind::NoOp | EntryKind::Configuration(_) | EntryKind::KeyVersion(_) => {}
            EntryKind::Command { .. } => self.commands += 1,
            EntryKind::SessionCommand { stamp, payload, .. } => {
                let Some(token) = attempt_of(payload) else {
                    return Err(format!("entry {} holds a command that nobody proposed", entry.id));
                };
                let due = self.command(stamp);
                let place = (stamp.session, stamp.sequence);
                if self.attempts.insert(token, Attempt { index: entry.id.index, place, due }).is_some() {
                    return Err(format!("the one attempt {token} is committed again at {}", entry.id));
                }
                self.by_index.insert(entry.id.index, token);
                if due == Due::First {
                    self.commands += 1;
                    if let Some((before, _)) = self.done.insert(place, (entry.id.index, self.commands.to_string())) {
                        return Err(format!("exactly once: {place:?} is carried out at {before} and at {}", entry.id));
                    }
                }
            }
            EntryKind::Session { change, .. } => self.change(entry.id.index, change),
        }
        Ok(())
    }

    fn command(&mut self, stamp: &SessionStamp) -> Due {
        let Some(open) = self.sessions.get_mut(&stamp.session) else { return Due::Refused(Rejection::SessionExpired) };
        open.heard_at = self.time;
        open.acknowledged = open.acknowledged.max(stamp.acknowledged);
        if stamp.sequence < open.acknowledged {
            return Due::Refused(Rejection::ResponseDropped);
        }
        if stamp.sequence >= open.acknowledged + MAX_OPEN_COMMANDS {
            return Due::Refused(Rejection::SessionFull);
        }
        if open.carried_out.insert(stamp.sequence) { Due::First } else { Due::Repeated }
    }

    fn change(&mut self, index: LogIndex, change: &SessionChange) {
        match *change {
            SessionChange::Open { timeout_ms } => {
                let bound = |timeout: std::time::Duration| u64::try_from(timeout.as_millis()).expect("a day at most");
                let timeout = timeout_ms.clamp(bound(MIN_SESSION_TIMEOUT), bound(MAX_SESSION_TIMEOUT));
                let open = Open { timeout, heard_at: self.time, acknowledged: 1, carried_out: BTreeSet::new() };
                self.sessions.insert(SessionId(index.0), open);
            }
            SessionChange::KeepAlive { session, acknowledged } => {
                if let Some(open) = self.sessions.get_mut(&session) {
                    open.heard_at = self.time;
                    open.acknowledged = open.acknowledged.max(acknowledged);
                }
            }
            SessionChange::Close { session } => drop(self.sessions.remove(&session)),
        }
    }

    /// The attempt at an index of the log, and what is due to it; none where there is no command of a session.
    pub(super) fn attempt_at(&self, index: LogIndex) -> Option<(Token, Due)> {
        let token = self.by_index.get(&index)?;
        Some((*token, self.attempts[token].due))
    }

    /// Where an attempt is in the log; none for other requests.
    pub(super) fn index_of(&self, token: Token) -> Option<LogIndex> {
        self.attempts.get(&token).map(|attempt| attempt.index)
    }

    /// What a node answers to an attempt by itself is what its first one gave. Whether it was an attempt at all.
    pub(super) fn check_reply(&self, node: NodeId, reply: &Reply) -> Result<bool, String> {
        let Some(Attempt { place, due, .. }) = self.attempts.get(&reply.token) else { return Ok(false) };
        let first = self.done.get(place).map(|(index, result)| (*index, result.as_bytes()));
        if *due == Due::Repeated && first == Some((reply.index, &reply.result[..])) {
            return Ok(true);
        }
        Err(format!("node {node} answers {reply:?} for {place:?}, to which {due:?} was due, and which gave {first:?} first"))
    }

    /// Whether a node may turn an attempt down for this reason.
    pub(super) fn check_refusal(&self, node: NodeId, token: Token, reason: Rejection) -> Check {
        match self.attempts.get(&token) {
            Some(Attempt { due: Due::Refused(due), .. }) if *due == reason => Ok(()),
            attempt => {
                Err(format!("node {node} refuses attempt {token} ({reason:?}), to which {:?} was due", attempt.map(|attempt| attempt.due)))
            }
        }
    }

    /// All nodes have the same sessions where they have applied as much.
    pub(super) fn check_image(&mut self, node: NodeId, applied: LogIndex, sessions: &Sessions) -> Check {
        if self.compared.get(&node) == Some(&applied) {
            return Ok(());
        }
        let Some(image) = sessions.image() else { return Ok(()) };
        self.compared.insert(node, applied);
        match self.images.entry(applied).or_insert_with(|| image.clone()) {
            known if *known == image => Ok(()),
            known => Err(format!("node {node} has other sessions at entry {applied}: {image:?}, and elsewhere {known:?}")),
        }
    }
}
