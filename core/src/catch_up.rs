//! Whether a learner has caught up (dissertation, §4.2.1).
//!
//! Replication to it is cut into rounds: each ends when the learner has what the leader's log held at its beginning. A round that took less than an
//! election timeout says that the learner is so little behind that it holds up nobody once it votes.

use std::time::Duration;

use crate::types::{Instant, LogIndex};

/// How many rounds may be too slow before there is no hope: the learner is slower than the log grows.
const MAX_SLOW_ROUNDS: u32 = 10;

/// A leader's view of how far behind a peer is, in time.
#[derive(Clone, Debug)]
pub(crate) struct CatchUp {
    /// What ends the round.
    target: LogIndex,
    began_at: Instant,
    slow_rounds: u32,
    /// What the last round said.
    is_near: bool,
    /// The last index that the peer was known to have, and since when.
    reached: LogIndex,
    reached_at: Instant,
}

impl CatchUp {
    /// For a peer of which nothing is known, of a leader whose last index is `last`.
    pub(crate) fn new(last: LogIndex, now: Instant) -> Self {
        Self { target: last, began_at: now, slow_rounds: 0, is_near: false, reached: LogIndex::NONE, reached_at: now }
    }

    /// The peer holds everything up to `matched` of a log that ends at `last`; a round may take as long as `limit`.
    pub(crate) fn reached(&mut self, matched: LogIndex, last: LogIndex, now: Instant, limit: Duration) {
        if matched > self.reached {
            self.reached = matched;
            self.reached_at = now;
        }
        if matched < self.target {
            return;
        }
        // With nothing more to send there is no round to measure.
        self.is_near = matched >= last || now.since(self.began_at) < limit;
        self.slow_rounds += u32::from(!self.is_near);
        self.target = last;
        self.began_at = now;
    }

    /// Somebody waits for the peer from now on.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.slow_rounds = 0;
        self.reached_at = now;
    }

    /// Whether the last round was a short one.
    pub(crate) fn is_near(&self) -> bool {
        self.is_near
    }

    /// Whether it will not come near: too many rounds were slow, or nothing was heard of progress for longer than `patience`.
    pub(crate) fn is_hopeless(&self, now: Instant, patience: Duration) -> bool {
        self.slow_rounds >= MAX_SLOW_ROUNDS || now.since(self.reached_at) >= patience
    }
}

#[cfg(feature = "model-checking")]
impl CatchUp {
    pub(crate) fn shift(&mut self, shift: crate::canonical::Shift) {
        [&mut self.began_at, &mut self.reached_at].into_iter().for_each(|time| shift.apply(time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(150);

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn a_learner_is_near_once_a_round_took_less_than_an_election_timeout() {
        let mut learner = CatchUp::new(LogIndex(1000), at(0));
        learner.reached(LogIndex(500), LogIndex(1400), at(300), LIMIT);
        assert!(!learner.is_near(), "the round is not over");
        learner.reached(LogIndex(1000), LogIndex(1800), at(600), LIMIT);
        assert!(!learner.is_near(), "it took too long");
        learner.reached(LogIndex(1800), LogIndex(1900), at(700), LIMIT);
        assert!(learner.is_near());
    }

    #[test]
    fn a_learner_that_has_everything_is_near_however_long_nothing_came() {
        let mut learner = CatchUp::new(LogIndex(5), at(0));
        learner.reached(LogIndex(5), LogIndex(5), at(9000), LIMIT);
        assert!(learner.is_near());
    }

    #[test]
    fn there_is_no_hope_without_progress_or_after_ten_slow_rounds() {
        let patience = Duration::from_secs(6);
        let mut silent = CatchUp::new(LogIndex(5), at(0));
        assert!(!silent.is_hopeless(at(5999), patience));
        assert!(silent.is_hopeless(at(6000), patience));
        silent.begin(at(7000));
        assert!(!silent.is_hopeless(at(7001), patience));

        let mut slow = CatchUp::new(LogIndex(10), at(0));
        for round in 1..=10 {
            assert!(!slow.is_hopeless(at(round * 1000 - 1), patience), "round {round}");
            slow.reached(LogIndex(round * 10), LogIndex(round * 10 + 10), at(round * 1000), LIMIT);
        }
        assert!(slow.is_hopeless(at(10_000), patience));
    }
}
