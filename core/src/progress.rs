//! What a leader knows of one peer's log, and what it has under way to it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::catch_up::CatchUp;
use crate::log::RaftLog;
use crate::message::Session;
use crate::sealing::{KeyVersion, SnapshotKeys};
use crate::snapshot::Sending;
use crate::types::{EntryId, Instant, LogIndex};

/// A leader's view of a peer: `next_index` and `match_index` of the Raft paper (figure 2), and a window of requests under way.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// The last index known to equal the leader's and to be durable there.
    pub(crate) match_index: LogIndex,
    /// The next index to send.
    pub(crate) next_index: LogIndex,
    /// When the peer was last heard of in this term.
    pub(crate) heard_at: Instant,
    /// The last round of reads that the peer has confirmed.
    pub(crate) round: u64,
    /// Until when the peer's promise lets this leader serve reads.
    pub(crate) lease_end: Instant,
    /// The highest commit index that was sent.
    pub(crate) commit_sent: LogIndex,
    /// The peer's life: answers from another one are too late.
    pub(crate) session: Session,
    /// How far behind the peer is in time.
    pub(crate) catch_up: CatchUp,
    /// Whether the peer repairs itself: then it is served, and counts for no majority.
    pub(crate) repairing: bool,
    /// The run in which it said so, as far as it has.
    pub(crate) repair_run: u64,
    /// The version of the key that it was asked for, if it holds that.
    pub(crate) held_version: KeyVersion,
    /// Whether its disk is full, by its last word to this leader.
    pub(crate) disk_full: Option<bool>,
    /// Set if the peer is no member any more. It is served on for a while, so that it hears of that.
    pub(crate) leaving: Option<Leaving>,
    mode: Mode,
}

/// A removed peer.
#[derive(Clone, Debug)]
pub(crate) struct Leaving {
    /// When it was removed.
    pub(crate) since: Instant,
    /// Its address as a member.
    pub(crate) address: String,
}

/// How entries are sent.
#[derive(Clone, Debug)]
enum Mode {
    /// Where the logs agree is unknown: one request at a time.
    Probe {
        /// When the last one left; none if one may leave.
        sent_at: Option<Instant>,
    },
    /// The logs agree up to `next_index`: requests leave without waiting for answers.
    Replicate {
        /// The last index of each request under way.
        inflight: VecDeque<LogIndex>,
        /// When the first of them left, or the last answer came.
        since: Instant,
    },
    /// The leader's log no longer has what the peer lacks: it gets the snapshot in its place.
    Snapshot(Box<Sending>),
}

impl Progress {
    /// A peer of a new leader whose last index is `last_index`.
    pub(crate) fn new(last_index: LogIndex, session: Session, now: Instant) -> Self {
        Self {
            match_index: LogIndex::NONE,
            next_index: last_index.next(),
            heard_at: now,
            round: 0,
            lease_end: Instant::default(),
            commit_sent: LogIndex::NONE,
            session,
            catch_up: CatchUp::new(last_index, now),
            repairing: false,
            repair_run: 0,
            held_version: KeyVersion::NONE,
            disk_full: None,
            leaving: None,
            mode: Mode::Probe { sent_at: None },
        }
    }

    /// Whether a request with entries from `next_index` may leave: a probe at any time, others in a round. One that got no answer for `retry` counts
    /// as lost.
    pub(crate) fn may_send(&mut self, now: Instant, round: bool, last_index: LogIndex, max_inflight: usize, retry: Duration) -> bool {
        if let Mode::Replicate { inflight, since } = &self.mode
            && !inflight.is_empty()
            && now.since(*since) >= retry
        {
            self.next_index = self.match_index.next();
            self.mode = Mode::Probe { sent_at: None };
        }
        match &self.mode {
            // A probe goes out even with nothing to send: its answer tells where the logs agree.
            Mode::Probe { sent_at } => sent_at.is_none_or(|sent| now.since(sent) >= retry),
            Mode::Snapshot(_) => false,
            Mode::Replicate { inflight, .. } => round && self.next_index <= last_index && inflight.len() < max_inflight,
        }
    }

    /// A request with entries up to `last` has left.
    pub(crate) fn sent(&mut self, now: Instant, last: LogIndex, commit: LogIndex) {
        self.commit_sent = commit;
        match &mut self.mode {
            Mode::Probe { sent_at } => *sent_at = Some(now),
            Mode::Snapshot(_) => {}
            Mode::Replicate { inflight, since } => {
                if inflight.is_empty() {
                    *since = now;
                }
                inflight.push_back(last);
                self.next_index = last.next();
            }
        }
    }

    /// The peer answers: a probe that got no answer for a heartbeat interval was lost, since the way is open.
    pub(crate) fn alive(&mut self, now: Instant, interval: Duration) {
        self.heard_at = now;
        if let Mode::Probe { sent_at } = &mut self.mode {
            *sent_at = sent_at.filter(|sent| now.since(*sent) < interval);
        }
    }

    /// The peer holds everything up to `match_index`, durably.
    pub(crate) fn appended(&mut self, now: Instant, match_index: LogIndex) {
        self.match_index = self.match_index.max(match_index);
        self.next_index = self.next_index.max(self.match_index.next());
        match &mut self.mode {
            Mode::Probe { .. } => {
                self.mode = Mode::Replicate { inflight: VecDeque::new(), since: now };
            }
            Mode::Snapshot(_) => {} // of entries that were sent before
            Mode::Replicate { inflight, since } => {
                *since = now;
                while inflight.pop_front_if(|last| *last <= match_index).is_some() {}
            }
        }
    }

    /// The peer lacks the entry at `rejected`, and tells what it has there. A late answer changes nothing.
    pub(crate) fn conflicted(&mut self, now: Instant, log: &RaftLog, rejected: LogIndex, conflict: EntryId, first_of_term: LogIndex) {
        let late = match &self.mode {
            Mode::Probe { .. } => rejected != self.next_index.previous(),
            Mode::Replicate { .. } => rejected <= self.match_index,
            Mode::Snapshot(_) => true,
        };
        if late {
            return;
        }
        let agreed = last_possible_match(log, conflict, first_of_term);
        let next_index = agreed.next().min(rejected).max(self.match_index.next());
        // A peer that refuses what it has acknowledged has lost it. There is nothing else to try, so the next try waits like one without an answer.
        let stuck = matches!(self.mode, Mode::Probe { .. }) && next_index >= self.next_index;
        self.next_index = next_index;
        self.mode = Mode::Probe { sent_at: stuck.then_some(now) };
    }
}

// Snapshots and repair.
impl Progress {
    /// What the peer has, as far as majorities are concerned.
    pub(crate) fn counted_match(&self) -> LogIndex {
        if self.repairing { LogIndex::NONE } else { self.match_index }
    }

    /// Whether the peer lacks entries that the log, which begins behind `base`, no longer has.
    pub(crate) fn needs_snapshot(&self, base: LogIndex) -> bool {
        self.next_index.previous() < base && !matches!(self.mode, Mode::Snapshot(_))
    }

    pub(crate) fn begin_snapshot(&mut self, id: EntryId, keys: Option<SnapshotKeys>, now: Instant) {
        self.mode = Mode::Snapshot(Box::new(Sending::new(id, keys, now)));
    }

    /// The snapshot that is on its way to the peer.
    pub(crate) fn sending(&mut self) -> Option<&mut Sending> {
        if let Mode::Snapshot(sending) = &mut self.mode { Some(sending) } else { None }
    }

    /// The peer has everything up to the last entry of a snapshot.
    pub(crate) fn snapshot_installed(&mut self, now: Instant, last: LogIndex) {
        self.mode = Mode::Probe { sent_at: None };
        self.appended(now, last);
    }

    /// The snapshot can't be sent any more.
    pub(crate) fn snapshot_failed(&mut self) {
        self.mode = Mode::Probe { sent_at: None };
    }
}

#[cfg(feature = "model-checking")]
impl Progress {
    pub(crate) fn shift(&mut self, shift: crate::canonical::Shift) {
        [&mut self.heard_at, &mut self.lease_end].into_iter().for_each(|time| shift.apply(time));
        match &mut self.mode {
            Mode::Probe { sent_at: Some(time) } | Mode::Replicate { since: time, .. } => shift.apply(time),
            Mode::Probe { sent_at: None } => {}
            Mode::Snapshot(sending) => sending.shift(shift),
        }
    }
}

/// The last index at which the logs may agree, given what the peer holds where it refused (dissertation, §3.5).
fn last_possible_match(log: &RaftLog, conflict: EntryId, first_of_term: LogIndex) -> LogIndex {
    let candidate = log.last_at_or_before(conflict.term).min(conflict.index);
    if log.term_at(candidate) == Some(conflict.term) { candidate } else { candidate.min(first_of_term.previous()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{EntryKind, LogEntry};
    use crate::types::Term;

    const RETRY: Duration = Duration::from_millis(150);

    fn log(terms: &[u64]) -> RaftLog {
        let mut log = RaftLog::default();
        for (index, term) in (1..).zip(terms) {
            log.push(LogEntry { id: EntryId { index: LogIndex(index), term: Term(*term) }, kind: EntryKind::NoOp });
        }
        log
    }

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    fn id(index: u64, term: u64) -> EntryId {
        EntryId { index: LogIndex(index), term: Term(term) }
    }

    #[test]
    fn a_probe_waits_for_its_answer_then_requests_flow() {
        let mut peer = Progress::new(LogIndex(5), 1, at(0));
        assert!(peer.may_send(at(0), true, LogIndex(5), 2, RETRY));
        peer.sent(at(0), LogIndex(5), LogIndex(0));
        assert!(!peer.may_send(at(4), true, LogIndex(6), 2, RETRY));
        peer.appended(at(5), LogIndex(5));
        for last in [6, 7] {
            assert!(peer.may_send(at(last), true, LogIndex(9), 2, RETRY));
            peer.sent(at(last), LogIndex(last), LogIndex(0));
            assert!(!peer.may_send(at(last), false, LogIndex(9), 2, RETRY), "entries wait for the next round");
        }
        assert!(!peer.may_send(at(20), true, LogIndex(9), 2, RETRY), "the window is full");
        peer.appended(at(30), LogIndex(6));
        assert!(peer.may_send(at(30), true, LogIndex(9), 2, RETRY));
    }

    #[test]
    fn requests_without_an_answer_are_sent_again() {
        let mut peer = Progress::new(LogIndex(1), 1, at(0));
        peer.appended(at(0), LogIndex(1));
        peer.sent(at(0), LogIndex(3), LogIndex(0));
        assert!(!peer.may_send(at(149), true, LogIndex(3), 8, RETRY));
        assert!(peer.may_send(at(150), true, LogIndex(3), 8, RETRY));
        assert_eq!(peer.next_index, LogIndex(2));
    }

    #[test]
    fn a_shorter_log_is_found_in_one_step() {
        let mut peer = Progress::new(LogIndex(9), 1, at(0));
        let log = log(&[1, 1, 1, 2, 2, 2, 2, 2, 2]);
        peer.conflicted(at(0), &log, LogIndex(9), id(2, 1), LogIndex(1));
        assert_eq!(peer.next_index, LogIndex(3));
    }

    #[test]
    fn a_term_that_the_leader_lacks_is_skipped_whole() {
        let mut peer = Progress::new(LogIndex(6), 1, at(0));
        let log = log(&[1, 1, 1, 4, 4, 4]);
        peer.conflicted(at(0), &log, LogIndex(6), id(6, 3), LogIndex(3));
        assert_eq!(peer.next_index, LogIndex(3));
    }

    #[test]
    fn a_late_conflict_changes_nothing() {
        let mut peer = Progress::new(LogIndex(4), 1, at(0));
        peer.appended(at(0), LogIndex(4));
        peer.conflicted(at(0), &log(&[1, 1, 1, 1]), LogIndex(3), id(2, 1), LogIndex(1));
        assert_eq!(peer.next_index, LogIndex(5));
    }

    #[test]
    fn a_peer_that_lost_what_it_acknowledged_is_not_asked_without_end() {
        let mut peer = Progress::new(LogIndex(3), 1, at(0));
        let log = log(&[1, 1, 1, 1, 1]);
        peer.appended(at(0), LogIndex(4));
        peer.sent(at(0), LogIndex(5), LogIndex(0));
        assert!(peer.may_send(at(150), true, LogIndex(5), 2, RETRY), "without an answer it is probed");
        peer.sent(at(150), LogIndex(5), LogIndex(0));
        peer.conflicted(at(151), &log, LogIndex(4), id(0, 0), LogIndex(1));
        assert!(!peer.may_send(at(152), true, LogIndex(5), 2, RETRY), "the same again would be refused again");
        assert!(peer.may_send(at(301), true, LogIndex(5), 2, RETRY));
    }
}
