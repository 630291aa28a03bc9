//! What those who send requests to a cluster need at a change of its leader: that it is lost, who leads now, where to go, when to try again.
//!
//! Any node takes requests and passes them on; whoever goes to the leader saves a hop, and whoever is told when there is none need not find out by a time-out. A
//! [`FailoverCoordinator`] makes that of what it is told: by a node's own effects where it is embedded, by statuses and answers where it is a client's.

use std::time::Duration;

use crate::config::{ConfigError, check};
use crate::detector::FailureEvent;
#[cfg(feature = "planted-bugs")]
use crate::planted::{self, Bug};
use crate::types::{NodeId, Term};

/// How long to wait while there is no leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverConfig {
    /// The wait before the first try: 1 ms to 60 s (default 100 ms: an election with the default timeouts takes 150 to 300 ms). Each try without success doubles it.
    pub retry_min: Duration,
    /// The longest wait: `retry_min` to 60 s (default 2 s, as long as a node keeps a request).
    pub retry_max: Duration,
}

/// A step of a fail-over. Each is reported once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailoverEvent {
    /// The leader is gone, and no other is known. Requests to it come to nothing.
    LeaderLost {
        /// Who led.
        leader: NodeId,
        /// The term that it led.
        term: Term,
    },
    /// Comes after [`Self::LeaderLost`], and after each try while there is none: when to try again.
    RetryAfter {
        /// The time from now.
        wait: Duration,
    },
    /// A leader is known.
    LeaderKnown {
        /// Who leads.
        leader: NodeId,
        /// The term that it leads.
        term: Term,
    },
    /// Comes after [`Self::LeaderKnown`] where another node led before: what went there goes elsewhere from now on.
    Redirect {
        /// Who led before.
        from: NodeId,
        /// Who leads.
        to: NodeId,
    },
}

/// Follows a cluster's leader.
///
/// ```
/// use amaters_cluster_core::{FailoverConfig, FailoverCoordinator, FailoverEvent, FailureEvent, NodeId, Term};
///
/// let mut coordinator = FailoverCoordinator::new(FailoverConfig::default())?;
/// let (one, two) = (NodeId(1), NodeId(2));
/// assert_eq!(coordinator.leader_changed(Term(1), one), [FailoverEvent::LeaderKnown { leader: one, term: Term(1) }]);
///
/// // One report of its failure is enough, and a second one changes nothing.
/// let failed = FailureEvent::Failed { peer: one };
/// assert_eq!(coordinator.peer_changed(failed)[0], FailoverEvent::LeaderLost { leader: one, term: Term(1) });
/// assert_eq!(coordinator.peer_changed(failed), []);
///
/// let events = coordinator.leader_changed(Term(2), two);
/// assert_eq!(events, [FailoverEvent::LeaderKnown { leader: two, term: Term(2) }, FailoverEvent::Redirect { from: one, to: two }]);
/// # Ok::<(), amaters_cluster_core::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FailoverCoordinator {
    config: FailoverConfig,
    term: Term,
    /// None while it is lost.
    leader: NodeId,
    /// The last one that was known.
    last_leader: NodeId,
    /// The wait before the next try.
    wait: Duration,
    /// How many more reports it wants, by a bug that was put in.
    #[cfg(feature = "planted-bugs")]
    more_reports: u32,
}

impl Default for FailoverConfig {
    fn default() -> Self {
        Self { retry_min: Duration::from_millis(100), retry_max: Duration::from_secs(2) }
    }
}

impl FailoverConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first setting that is out of its range, what came and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        const MINUTE: Duration = Duration::from_secs(60);
        let Self { retry_min, retry_max } = *self;
        check("retry_min", format!("{retry_min:?}"), "1 ms to 60 s", (Duration::from_millis(1)..=MINUTE).contains(&retry_min))?;
        let expected = format!("retry_min ({retry_min:?}) to 60 s");
        check("retry_max", format!("{retry_max:?}"), &expected, (retry_min..=MINUTE).contains(&retry_max))
    }
}

impl FailoverCoordinator {
    /// A coordinator that knows of no leader yet.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn new(config: FailoverConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let wait = config.retry_min;
        Ok(Self {
            config,
            term: Term::NONE,
            leader: NodeId::NONE,
            last_leader: NodeId::NONE,
            wait,
            #[cfg(feature = "planted-bugs")]
            more_reports: if planted::of_this_thread() == Some(Bug::WaitForMoreReports) { 2 } else { 0 },
        })
    }

    /// The leader, as far as is known; or none.
    #[must_use]
    pub fn leader(&self) -> NodeId {
        self.leader
    }

    /// The latest term that was heard of.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// A node says who leads a term, or that nobody does. What it says of an earlier term is old news.
    pub fn leader_changed(&mut self, term: Term, leader: NodeId) -> Vec<FailoverEvent> {
        if term < self.term || (term == self.term && leader == self.leader) {
            return Vec::new();
        }
        if leader.is_none() {
            let lost = self.lose_leader();
            self.term = term;
            return lost;
        }
        let from = std::mem::replace(&mut self.last_leader, leader);
        (self.term, self.leader, self.wait) = (term, leader, self.config.retry_min);
        let mut events = vec![FailoverEvent::LeaderKnown { leader, term }];
        if !from.is_none() && from != leader {
            events.push(FailoverEvent::Redirect { from, to: leader });
        }
        events
    }

    /// A failure detector has reported a change. It reports each once: one report of the leader's failure must be enough.
    pub fn peer_changed(&mut self, event: FailureEvent) -> Vec<FailoverEvent> {
        match event {
            #[cfg(feature = "planted-bugs")]
            FailureEvent::Failed { peer } if peer == self.leader && self.more_reports > 0 => {
                self.more_reports -= 1;
                Vec::new()
            }
            FailureEvent::Failed { peer } if peer == self.leader => self.lose_leader(),
            FailureEvent::Failed { .. } | FailureEvent::Recovered { .. } => Vec::new(),
        }
    }

    /// A try came to nothing for want of a leader: when to try again. Grows from [`FailoverConfig::retry_min`] to [`FailoverConfig::retry_max`] until a
    /// leader is known.
    pub fn retry_after(&mut self) -> FailoverEvent {
        let wait = self.wait;
        self.wait = (wait * 2).min(self.config.retry_max);
        FailoverEvent::RetryAfter { wait }
    }

    fn lose_leader(&mut self) -> Vec<FailoverEvent> {
        let leader = std::mem::take(&mut self.leader);
        if leader.is_none() {
            return Vec::new();
        }
        vec![FailoverEvent::LeaderLost { leader, term: self.term }, self.retry_after()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);
    const MS: Duration = Duration::from_millis(1);

    fn coordinator() -> FailoverCoordinator {
        FailoverCoordinator::new(FailoverConfig::default()).expect("defaults are valid")
    }

    fn known(leader: NodeId, term: u64) -> FailoverEvent {
        FailoverEvent::LeaderKnown { leader, term: Term(term) }
    }

    fn lost(leader: NodeId, term: u64) -> [FailoverEvent; 2] {
        [FailoverEvent::LeaderLost { leader, term: Term(term) }, FailoverEvent::RetryAfter { wait: 100 * MS }]
    }

    #[test]
    fn each_change_is_told_once() {
        let mut it = coordinator();
        assert_eq!(it.leader_changed(Term(0), NodeId::NONE), [], "nobody led before");
        assert_eq!(it.leader_changed(Term(1), ONE), [known(ONE, 1)]);
        assert_eq!(it.leader_changed(Term(1), ONE), []);
        assert_eq!(it.leader_changed(Term(1), NodeId::NONE), lost(ONE, 1));
        assert_eq!(it.leader_changed(Term(2), NodeId::NONE), []);
        assert_eq!(it.leader_changed(Term(3), TWO), [known(TWO, 3), FailoverEvent::Redirect { from: ONE, to: TWO }]);
        assert_eq!(it.leader_changed(Term(1), ONE), [], "another node is behind");
        assert_eq!(it.leader_changed(Term(4), NodeId::NONE), lost(TWO, 3));
        assert_eq!(it.leader_changed(Term(5), TWO), [known(TWO, 5)], "the same one leads again: nobody has to go elsewhere");
    }

    #[test]
    fn a_leader_that_hands_over_is_not_lost() {
        let mut it = coordinator();
        it.leader_changed(Term(1), ONE);
        assert_eq!(it.leader_changed(Term(2), TWO), [known(TWO, 2), FailoverEvent::Redirect { from: ONE, to: TWO }]);
        assert_eq!((it.leader(), it.term()), (TWO, Term(2)));
    }

    #[test]
    fn a_failure_counts_if_it_is_the_leaders() {
        let mut it = coordinator();
        it.leader_changed(Term(1), ONE);
        assert_eq!(it.peer_changed(FailureEvent::Failed { peer: TWO }), []);
        assert_eq!(it.peer_changed(FailureEvent::Recovered { peer: ONE }), []);
        assert_eq!(it.peer_changed(FailureEvent::Failed { peer: ONE }), lost(ONE, 1));
        assert_eq!(it.leader_changed(Term(1), NodeId::NONE), [], "it is known to be lost");
    }

    #[test]
    fn tries_become_rarer_until_there_is_a_leader() {
        let mut it = coordinator();
        let mut waits = || -> Vec<_> {
            let wait = |event| if let FailoverEvent::RetryAfter { wait } = event { wait.as_millis() } else { panic!("{event:?}") };
            (0..7).map(|_| wait(it.retry_after())).collect()
        };
        assert_eq!(waits(), [100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(waits()[0], 2000);
        it.leader_changed(Term(1), ONE);
        assert_eq!(it.retry_after(), FailoverEvent::RetryAfter { wait: 100 * MS });
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let config = FailoverConfig { retry_min: 3_000 * MS, ..FailoverConfig::default() };
        assert_eq!(config.validate().expect_err("invalid").to_string(), "retry_max is 2s: expected retry_min (3s) to 60 s");
        let config = FailoverConfig { retry_min: Duration::ZERO, ..FailoverConfig::default() };
        assert_eq!(config.validate().expect_err("invalid").to_string(), "retry_min is 0ns: expected 1 ms to 60 s");
    }
}
