//! Leases: reads without a round, while a majority has promised to elect nobody else (dissertation, §6.4.1).
//!
//! A leader that wants a lease says in each heartbeat when it left, by its own clock. A follower that grants one answers how long it will help
//! nobody else to lead, counted from when the heartbeat came, which is later. So the leader may count from when it left: but its clock may be
//! slower than the follower's, by as much as the configuration says, and it takes that off.
//!
//! - A promise is kept by not even looking at a request for a vote, as the dissertation has it for whoever hears from a leader (§4.2.3).
//! - It is not on disk. A node that starts knows nothing of what it promised before, and behaves as if it had just promised.
//! - A leader that tells its successor to stand breaks the promises itself, since a vote by transfer counts whatever was promised. That message may
//!   arrive at any time: the leader has no lease from then on until its term ends.
//!
//! Where clocks differ by more than was said, or a machine sleeps with its clock stopped, a read under a lease can be stale. So there are none by
//! default.

use std::time::Duration;

use crate::message::{HeartbeatRequest, Promise, RequestVoteRequest};
use crate::node::Node;
use crate::role::Role;
use crate::types::Instant;

impl Node {
    /// What a follower promises the leader whose heartbeat came: to elect nobody else for the shortest election timeout.
    pub(crate) fn promise(&mut self, request: &HeartbeatRequest) -> Option<Promise> {
        let since = request.sent_at.filter(|_| self.config.lease_reads && !self.is_repairing())?;
        let lasts = self.config.election_timeout_min;
        self.promised_until = self.promised_until.max(self.now + lasts);
        Some(Promise { since, lasts })
    }

    /// A start is no way out of a promise.
    pub(crate) fn renew_promises(&mut self) {
        if self.config.lease_reads {
            self.promised_until = self.now + self.config.election_timeout_min;
        }
    }

    /// Whether a promise forbids to look at a request for a vote: unless the leader itself wants the candidate to stand.
    pub(crate) fn has_promised_otherwise(&self, request: &RequestVoteRequest) -> bool {
        self.now < self.promised_until && !request.by_transfer && request.term >= self.persistent.current_term
    }

    /// Until when a promise lets its leader serve reads, by the leader's clock.
    pub(crate) fn lease_end(&self, promise: Promise) -> Instant {
        promise.since + shortened(promise.lasts, self.config.max_clock_drift)
    }

    /// Whether this node leads, and nobody else can by now.
    pub(crate) fn has_lease(&self, now: Instant) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let lease_end = |voter| leader.peers.get(&voter).map_or(Instant(u64::MAX), |progress| progress.lease_end);
        self.config.lease_reads && !leader.lease_given_up && now < self.membership.reached_by_quorum(lease_end)
    }

    /// Answers those who ask for a read index while there is a lease.
    pub(crate) fn answer_under_lease(&mut self) {
        let has_lease = self.has_lease(self.now);
        if let Role::Leader(leader) = &mut self.role
            && has_lease
            && self.log.commit_index() >= leader.first_index
        {
            let readers = leader.reads.take_all();
            self.counters.lease_reads += readers.len() as u64;
            self.answer_readers(self.log.commit_index(), readers);
        }
    }
}

/// What is left of a time on the slowest clock when it has passed on the fastest, which runs this many percent faster.
fn shortened(time: Duration, drift_percent: u32) -> Duration {
    time * 100 / (100 + drift_percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_clock_has_not_counted_on_when_the_fastest_is_done() {
        for drift in [1, 10, 33, 100] {
            let time = Duration::from_millis(150);
            let lease = shortened(time, drift);
            assert!(lease * (100 + drift) / 100 <= time, "{drift} %");
            assert!(lease * (100 + drift) / 100 > time - Duration::from_millis(1), "{drift} %: no more than needed");
        }
    }
}
