//! What is done with committed entries, each once and in the order of the log.

use crate::entry::{EntryKind, Payload};
use crate::io::{Committed, Effect, LogLevel, Reply};
use crate::node::Node;
use crate::planted::Bug;
use crate::sessions::Applied;
use crate::types::LogTime;

/// The most that is applied in one tick: after a restart, a whole log is committed at once, and no driver takes that in one piece.
const MAX_APPLY_BYTES: usize = 4 << 20;

impl Node {
    /// Applies what is committed. Commands go to the host's state machine, but for those that a session has carried out before.
    pub(crate) fn apply(&mut self, effects: &mut Vec<Effect>) {
        if self.snapshots.is_restoring() {
            return;
        }
        let mut commands = Vec::new();
        let mut unreadable = None;
        let sealing = &mut self.sealing;
        let mut open = |id, payload: &Payload| match sealing {
            None => Ok(payload.clone()),
            Some(sealing) => sealing.open(id, payload),
        };
        for entry in self.log.take_committed(MAX_APPLY_BYTES) {
            self.snapshots.applied(entry.size());
            if entry.id.term > self.applied_term {
                self.applied_term = entry.id.term;
                self.proposals.reclaim_before(entry.id.term);
            }
            let own = entry.origin().filter(|origin| origin.node == self.config.id);
            let token = own.and_then(|origin| self.proposals.resolve(origin.run, origin.sequence, self.now));
            let (index, term) = (entry.id.index, entry.id.term);
            match &entry.kind {
                EntryKind::NoOp | EntryKind::Configuration(_) | EntryKind::KeyVersion(_) => {}
                EntryKind::Command { payload, .. } => match open(entry.id, payload) {
                    Ok(command) => commands.push(Committed { index, term, token, command, result_wanted: false }),
                    Err(error) => {
                        unreadable = Some(error);
                        break;
                    }
                },
                EntryKind::SessionCommand { time, stamp, payload, .. } => {
                    let time = if self.config.has_bug(Bug::ExpireByOwnClock) { LogTime(self.now.0 / 1_000_000) } else { *time };
                    let first = self.sessions.command(index, time, stamp, token);
                    if first || self.config.has_bug(Bug::RepeatCarriedOut) {
                        match open(entry.id, payload) {
                            Ok(command) => commands.push(Committed { index, term, token, command, result_wanted: first }),
                            Err(error) => {
                                unreadable = Some(error);
                                break;
                            }
                        }
                    }
                }
                EntryKind::Session { time, change, .. } => self.sessions.change(index, *time, *change, token),
            }
        }
        if let Some(error) = unreadable {
            // The chain has let it pass: another holder of the key has sealed it wrongly.
            self.diverge(format!("a committed entry can't be opened: {error}"));
        }
        self.membership.forget_before(self.log.applied_index());
        if commands.len() > 1 && self.config.has_bug(Bug::ApplyTogetherTwice) {
            commands.extend(commands.clone());
        }
        if !commands.is_empty() {
            effects.push(Effect::Apply { commands });
        }
        self.answer_sessions(effects);
    }

    /// Says what sessions have answered.
    fn answer_sessions(&mut self, effects: &mut Vec<Effect>) {
        let mut replies = Vec::new();
        for (token, answer) in self.sessions.take_answers() {
            match answer {
                Ok((index, result)) => replies.push(Reply { token, index, result }),
                Err(reason) => self.reject(token, reason),
            }
        }
        if !replies.is_empty() {
            effects.push(Effect::Reply { replies });
        }
    }

    /// Results of commands of sessions, from the host's state machine.
    pub(crate) fn take_results(&mut self, results: Vec<Applied>) {
        if let Err(index) = self.sessions.applied(results) {
            self.note(
                LogLevel::Error,
                format!("the host gave a result for entry {index}, which is not the next that was wanted: it is ignored"),
            );
        }
    }
}
