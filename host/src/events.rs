//! What a node notices of the others and of its leader, for those who want to know: subscribers, metrics, the log.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use amaters_cluster_core::{ConfigError, FailoverConfig, FailoverCoordinator, FailoverEvent, FailureEvent, NodeId, Term};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::sync::broadcast;

/// How many events a subscriber may be behind before it misses the oldest.
const BACKLOG: usize = 256;

/// Something that a node noticed. Each change comes once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// A peer counts as failed, or no longer.
    Failure(FailureEvent),
    /// The leader is lost, or another one is known.
    Failover(FailoverEvent),
}

/// Passes on what a node notices. Outlives the instances of its component.
pub(crate) struct Events {
    subscribers: broadcast::Sender<NodeEvent>,
    known: Mutex<Known>,
    failures: IntCounterVec,
    recoveries: IntCounterVec,
    leader_changes: IntCounter,
}

/// What subscribers have been told.
struct Known {
    failed: BTreeSet<NodeId>,
    coordinator: FailoverCoordinator,
}

impl Events {
    pub(crate) fn new(config: FailoverConfig, registry: &Registry) -> Result<Self, ConfigError> {
        let coordinator = FailoverCoordinator::new(config)?;
        let by_peer = |name: &str, help: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &["peer"]).expect("the name is valid");
            // A second node on the same registry shares nothing with the first: its counts are just not shown.
            let _ = registry.register(Box::new(counters.clone()));
            counters
        };
        let leader_changes =
            IntCounter::new("amaters_cluster_leader_changes_total", "Leaders that came to be known").expect("the name is valid");
        let _ = registry.register(Box::new(leader_changes.clone()));
        Ok(Self {
            subscribers: broadcast::Sender::new(BACKLOG),
            known: Mutex::new(Known { failed: BTreeSet::new(), coordinator }),
            failures: by_peer("amaters_cluster_peer_failures_total", "How often a peer came to count as failed"),
            recoveries: by_peer("amaters_cluster_peer_recoveries_total", "How often a peer that counted as failed was heard of again"),
            leader_changes,
        })
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<NodeEvent> {
        self.subscribers.subscribe()
    }

    /// The core's verdict on a peer has changed.
    pub(crate) fn peer_changed(&self, event: FailureEvent) {
        let mut known = self.lock();
        self.tell_failure(&mut known, event);
        let events = known.coordinator.peer_changed(event);
        self.tell_failover(events);
    }

    /// The core knows of another leader.
    pub(crate) fn leader_changed(&self, term: Term, leader: NodeId) {
        let events = self.lock().coordinator.leader_changed(term, leader);
        self.tell_failover(events);
    }

    /// Another instance of the component begins: it trusts everybody, and knows of no leader. Subscribers learn what has changed by that.
    pub(crate) fn begin_anew(&self) {
        let mut known = self.lock();
        for peer in known.failed.clone() {
            self.tell_failure(&mut known, FailureEvent::Recovered { peer });
        }
        let term = known.coordinator.term();
        let events = known.coordinator.leader_changed(term, NodeId::NONE);
        self.tell_failover(events);
    }

    fn tell_failure(&self, known: &mut Known, event: FailureEvent) {
        match event {
            FailureEvent::Failed { peer } => {
                known.failed.insert(peer);
                self.failures.with_label_values(&[&peer.to_string()]).inc();
                tracing::warn!("node {peer} counts as failed: nothing is heard of it");
            }
            FailureEvent::Recovered { peer } => {
                known.failed.remove(&peer);
                self.recoveries.with_label_values(&[&peer.to_string()]).inc();
                tracing::info!("node {peer} is back");
            }
        }
        self.tell(NodeEvent::Failure(event));
    }

    fn tell_failover(&self, events: Vec<FailoverEvent>) {
        for event in events {
            match event {
                FailoverEvent::LeaderLost { leader, term } => tracing::info!("node {leader}, which led term {term}, is lost as the leader"),
                FailoverEvent::LeaderKnown { .. } => self.leader_changes.inc(),
                FailoverEvent::RetryAfter { .. } | FailoverEvent::Redirect { .. } => {}
            }
            self.tell(NodeEvent::Failover(event));
        }
    }

    fn tell(&self, event: NodeEvent) {
        let _ = self.subscribers.send(event); // there may be no subscriber
    }

    /// No thread panics while it holds the lock; were one to, what is known is still whole.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("subscribers", &self.subscribers.receiver_count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    fn drain(subscriber: &mut broadcast::Receiver<NodeEvent>) -> Vec<NodeEvent> {
        std::iter::from_fn(|| subscriber.try_recv().ok()).collect()
    }

    #[test]
    fn subscribers_are_told_each_change_and_what_it_means_for_the_leader() {
        let events = Events::new(FailoverConfig::default(), &Registry::new()).expect("defaults are valid");
        let mut subscriber = events.subscribe();
        events.leader_changed(Term(1), ONE);
        events.peer_changed(FailureEvent::Failed { peer: ONE });
        events.leader_changed(Term(1), NodeId::NONE);
        events.leader_changed(Term(2), TWO);
        let wait = FailoverConfig::default().retry_min;
        assert_eq!(
            drain(&mut subscriber),
            [
                NodeEvent::Failover(FailoverEvent::LeaderKnown { leader: ONE, term: Term(1) }),
                NodeEvent::Failure(FailureEvent::Failed { peer: ONE }),
                NodeEvent::Failover(FailoverEvent::LeaderLost { leader: ONE, term: Term(1) }),
                NodeEvent::Failover(FailoverEvent::RetryAfter { wait }),
                NodeEvent::Failover(FailoverEvent::LeaderKnown { leader: TWO, term: Term(2) }),
                NodeEvent::Failover(FailoverEvent::Redirect { from: ONE, to: TWO }),
            ]
        );
        assert_eq!((events.failures.with_label_values(&["1"]).get(), events.leader_changes.get()), (1, 2));
    }

    #[test]
    fn another_instance_trusts_everybody_and_subscribers_know_it() {
        let events = Events::new(FailoverConfig::default(), &Registry::new()).expect("defaults are valid");
        events.leader_changed(Term(1), ONE);
        events.peer_changed(FailureEvent::Failed { peer: TWO });
        let mut subscriber = events.subscribe();
        events.begin_anew();
        assert_eq!(
            drain(&mut subscriber),
            [
                NodeEvent::Failure(FailureEvent::Recovered { peer: TWO }),
                NodeEvent::Failover(FailoverEvent::LeaderLost { leader: ONE, term: Term(1) }),
                NodeEvent::Failover(FailoverEvent::RetryAfter { wait: FailoverConfig::default().retry_min }),
            ]
        );
        events.begin_anew();
        assert_eq!(drain(&mut subscriber), [], "nothing has changed since");
    }
}
