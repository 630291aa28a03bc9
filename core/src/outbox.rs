//! Keeps the durability contract: what waits for the disk, and what may leave.
//!
//! The contract itself is written beside [`Effect`]. Here is the book-keeping: which submission covers which part of the
//! log, and which messages wait for which submission.

use std::collections::VecDeque;

use crate::chain::ChainPoint;
use crate::io::{Effect, LogLevel};
use crate::log::RaftLog;
use crate::message::{Envelope, Message};
use crate::sealing::KeyVersion;
use crate::types::{EntryId, GroupId, Instant, LogIndex, NodeId, Ticket};
use crate::wire::{self, PersistentState};

/// Unsaved changes, submissions under way, and messages that wait for them.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    hard_state_changed: bool,
    unsaved_from: Option<LogIndex>,
    /// What the log on disk is to begin with from now on.
    base: Option<(EntryId, Option<ChainPoint>)>,
    /// What it was told to begin with last.
    told_base: LogIndex,
    submitted: Ticket,
    durable: Ticket,
    durable_index: LogIndex,
    under_way: VecDeque<Submission>,
    /// The version of the key where the log on disk begins, since a beginning of this run is durable.
    durable_base_version: Option<KeyVersion>,
    /// Since when storage has completed nothing of what is under way.
    waiting_since: Option<Instant>,
    /// Messages that speak for what has changed since the last submission.
    fresh: Vec<(NodeId, Message)>,
    /// Messages that wait for a submission.
    held: VecDeque<Held>,
}

#[derive(Clone, Debug)]
struct Submission {
    ticket: Ticket,
    /// What is durable of the log as it is now, once this submission is.
    last_index: LogIndex,
    /// The version of the key where the log on disk begins from then on, if it says so.
    base_version: Option<KeyVersion>,
}

#[derive(Clone, Debug)]
struct Held {
    until: Ticket,
    to: NodeId,
    message: Message,
}

impl Outbox {
    /// For a log that storage gave back up to `durable_index`.
    pub(crate) fn new(durable_index: LogIndex) -> Self {
        Self {
            hard_state_changed: false,
            unsaved_from: None,
            base: None,
            told_base: LogIndex::NONE,
            submitted: Ticket::NONE,
            durable: Ticket::NONE,
            durable_index,
            under_way: VecDeque::new(),
            durable_base_version: None,
            waiting_since: None,
            fresh: Vec::new(),
            held: VecDeque::new(),
        }
    }

    /// The last index that is durable.
    pub(crate) fn durable_index(&self) -> LogIndex {
        self.durable_index
    }

    /// The version of the key where the log on disk begins; none before this run has told where that is, durably. Not before then are earlier versions of no more use: a
    /// crash brings back what they opened. With `early`, a planted bug, what is under way counts.
    pub(crate) fn durable_base_version(&self, early: bool) -> Option<KeyVersion> {
        let told = self.under_way.iter().rev().filter(|_| early).find_map(|submission| submission.base_version);
        told.or(self.durable_base_version)
    }

    /// Since when nothing has become durable, although something waits to.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    /// Term or vote changed.
    pub(crate) fn hard_state_changed(&mut self) {
        self.hard_state_changed = true;
    }

    /// The log changed from an index on. What was on its way to disk beyond it no longer counts.
    pub(crate) fn log_changed(&mut self, from: LogIndex) {
        self.unsaved_from = Some(self.unsaved_from.map_or(from, |earlier| earlier.min(from)));
        self.durable_index = self.durable_index.min(from.previous());
        for submission in &mut self.under_way {
            submission.last_index = submission.last_index.min(from.previous());
        }
    }

    /// The log on disk need not go back further than this: a durable snapshot holds the rest.
    pub(crate) fn compact(&mut self, base: EntryId, point: Option<ChainPoint>) {
        // A snapshot from a leader may have come after one that is kept beside it.
        if base.index > self.told_base {
            self.told_base = base.index;
            self.base = Some((base, point));
        }
    }

    /// The log on disk begins behind this index already.
    pub(crate) fn begins_behind(&mut self, base: LogIndex) {
        self.told_base = self.told_base.max(base);
    }

    /// The log begins anew behind this entry, which a durable snapshot holds.
    pub(crate) fn begin_at(&mut self, base: EntryId, point: Option<ChainPoint>) {
        self.compact(base, point);
        self.unsaved_from = None;
        self.durable_index = base.index;
        for submission in &mut self.under_way {
            submission.last_index = base.index;
        }
    }

    /// Whether somebody waits for what has changed, besides those who want entries replicated.
    pub(crate) fn has_something_to_say(&self) -> bool {
        self.hard_state_changed || !self.fresh.is_empty()
    }

    /// Sends a message once all that this node has changed so far is durable.
    pub(crate) fn send_when_durable(&mut self, to: NodeId, message: Message) {
        self.fresh.push((to, message));
    }

    /// Storage says that everything up to a ticket is durable. A ticket that was never given out is ignored: `false`.
    pub(crate) fn persisted(&mut self, ticket: Ticket, now: Instant) -> bool {
        if ticket > self.submitted {
            return false;
        }
        if ticket > self.durable {
            self.durable = ticket;
            self.waiting_since = (ticket < self.submitted).then_some(now);
        }
        while let Some(submission) = self.under_way.pop_front_if(|submission| submission.ticket <= ticket) {
            self.durable_index = self.durable_index.max(submission.last_index);
            self.durable_base_version = submission.base_version.or(self.durable_base_version);
        }
        true
    }

    /// Submits what has changed, as one unit: a vote and the entries that it speaks for become durable together.
    pub(crate) fn submit(&mut self, state: &PersistentState, log: &RaftLog, now: Instant, effects: &mut Vec<Effect>) {
        let mut operations = Vec::new();
        let base = self.base.take();
        if std::mem::take(&mut self.hard_state_changed) || base.is_some() {
            operations.push(wire::hard_state_operation(state));
        }
        let base_version = base.and_then(|(_, point)| point).map(|point| point.version);
        operations.extend(base.map(|(base, point)| wire::compact_operation(base, point)));
        if let Some(from) = self.unsaved_from.take() {
            let entries: Vec<_> = log.iter_from(from).collect();
            operations.push(wire::append_operation(&entries, log.span(from.previous(), log.last().index)));
        }
        if !operations.is_empty() {
            self.submitted = self.submitted.next();
            self.waiting_since = self.waiting_since.or(Some(now));
            self.under_way.push_back(Submission { ticket: self.submitted, last_index: log.last().index, base_version });
            effects.push(Effect::Persist { ticket: self.submitted, operations });
        }
        let until = self.submitted;
        self.held.extend(self.fresh.drain(..).map(|(to, message)| Held { until, to, message }));
    }

    /// The next message that need not wait any more; with `early`, a planted bug, the next one whatever it waits for.
    pub(crate) fn pop_released(&mut self, early: bool) -> Option<(NodeId, Message)> {
        let durable = self.durable;
        self.held.pop_front_if(|held| early || held.until <= durable).map(|held| (held.to, held.message))
    }
}

#[cfg(feature = "model-checking")]
impl Outbox {
    /// Counts tickets from the last one that is durable: the next one is 1, and storage must count along. What waits for the same ticket waits in no
    /// order and once, since the network may change the one and the other.
    pub(crate) fn canonicalize(&mut self, shift: crate::canonical::Shift) {
        self.waiting_since.iter_mut().for_each(|time| shift.apply(time));
        let durable = std::mem::take(&mut self.durable).0;
        let waiting = self.held.iter_mut().map(|held| &mut held.until);
        let under_way = self.under_way.iter_mut().map(|submission| &mut submission.ticket);
        for ticket in [&mut self.submitted].into_iter().chain(under_way).chain(waiting) {
            ticket.0 = ticket.0.saturating_sub(durable);
        }
        let mut held: Vec<_> = self.held.drain(..).map(|held| ((held.until, held.to, format!("{:?}", held.message)), held)).collect();
        held.sort_by(|(a, _), (b, _)| a.cmp(b));
        held.dedup_by(|(a, _), (b, _)| a == b);
        self.held.extend(held.into_iter().map(|(_, held)| held));
    }
}

/// What leaves with the next tick and waits for no disk: released messages, a leader's entries, lines for the log.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    group: GroupId,
    from: NodeId,
    effects: Vec<Effect>,
}

impl Mail {
    pub(crate) fn new(group: GroupId, from: NodeId) -> Self {
        Self { group, from, effects: Vec::new() }
    }

    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        let envelope = Envelope { group: self.group, from: self.from, to, message };
        self.effects.push(Effect::Send { to, envelope: wire::encode_envelope(&envelope) });
    }

    /// Sends a message that is large and in no hurry.
    pub(crate) fn send_bulk(&mut self, to: NodeId, message: Message) {
        let envelope = Envelope { group: self.group, from: self.from, to, message };
        self.effects.push(Effect::SendBulk { to, envelope: wire::encode_envelope(&envelope) });
    }

    pub(crate) fn note(&mut self, level: LogLevel, message: String) {
        self.effects.push(Effect::Log { level, message });
    }

    pub(crate) fn leave(&mut self, effects: &mut Vec<Effect>) {
        effects.append(&mut self.effects);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{EntryKind, LogEntry};
    use crate::message::HeartbeatResponse;
    use crate::types::Term;

    fn log(length: u64) -> RaftLog {
        let mut log = RaftLog::default();
        for index in 1..=length {
            log.push(LogEntry { id: EntryId { index: LogIndex(index), term: Term(1) }, kind: EntryKind::NoOp });
        }
        log
    }

    fn message(round: u64) -> Message {
        Message::HeartbeatResponse(HeartbeatResponse {
            term: Term(1),
            session: 1,
            round,
            promise: None,
            repairing: false,
            key: KeyVersion::NONE,
            disk_full: false,
        })
    }

    fn submit(outbox: &mut Outbox, log: &RaftLog) -> Vec<Effect> {
        let mut effects = Vec::new();
        outbox.submit(&PersistentState::default(), log, Instant(5), &mut effects);
        effects
    }

    #[test]
    fn a_message_waits_for_all_that_changed_before_it() {
        let mut outbox = Outbox::new(LogIndex(0));
        outbox.send_when_durable(NodeId(2), message(1));
        submit(&mut outbox, &log(0));
        assert_eq!(outbox.pop_released(false), Some((NodeId(2), message(1))), "nothing had changed");

        outbox.hard_state_changed();
        outbox.send_when_durable(NodeId(2), message(2));
        assert_eq!(submit(&mut outbox, &log(0)).len(), 1);
        assert_eq!(outbox.pop_released(false), None);
        assert!(outbox.persisted(Ticket(1), Instant(9)));
        assert_eq!(outbox.pop_released(false), Some((NodeId(2), message(2))));
    }

    #[test]
    fn a_late_completion_does_not_speak_for_entries_that_were_replaced() {
        let mut outbox = Outbox::new(LogIndex(0));
        outbox.log_changed(LogIndex(1));
        submit(&mut outbox, &log(5));
        outbox.log_changed(LogIndex(3));
        submit(&mut outbox, &log(4));
        assert!(outbox.persisted(Ticket(1), Instant(9)));
        assert_eq!(outbox.durable_index(), LogIndex(2));
        assert!(outbox.persisted(Ticket(2), Instant(9)));
        assert_eq!(outbox.durable_index(), LogIndex(4));
    }

    #[test]
    fn a_ticket_that_was_never_given_out_counts_for_nothing() {
        let mut outbox = Outbox::new(LogIndex(0));
        outbox.log_changed(LogIndex(1));
        submit(&mut outbox, &log(1));
        assert!(!outbox.persisted(Ticket(2), Instant(9)));
        assert_eq!(outbox.durable_index(), LogIndex(0));
    }
    #[test]
    fn storage_is_waited_for_from_its_last_progress_on() {
        let mut outbox = Outbox::new(LogIndex(0));
        assert_eq!(outbox.waiting_since(), None);
        for index in [1, 2] {
            outbox.log_changed(LogIndex(index));
            submit(&mut outbox, &log(index));
            assert_eq!(outbox.waiting_since(), Some(Instant(5)));
        }
        assert!(outbox.persisted(Ticket(1), Instant(9)));
        assert_eq!(outbox.waiting_since(), Some(Instant(9)), "the second is under way");
        assert!(outbox.persisted(Ticket(1), Instant(11)));
        assert_eq!(outbox.waiting_since(), Some(Instant(9)), "nothing new");
        assert!(outbox.persisted(Ticket(2), Instant(12)));
        assert_eq!(outbox.waiting_since(), None);
    }
}
