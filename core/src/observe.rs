//! What a node tells of the others: who is silent, and who leads.

use crate::config::Config;
use crate::detector::{FailureDetector, HeartbeatConfig};
use crate::io::Effect;
use crate::node::Node;
use crate::types::{Instant, NodeId};

impl Node {
    /// Emits what has changed since the last tick.
    pub(crate) fn report_changes(&mut self, effects: &mut Vec<Effect>) {
        self.watch_peers();
        effects.extend(self.detector.check(self.now).into_iter().map(|event| Effect::Failure { event }));
        let (term, leader) = (self.persistent.current_term, self.leader());
        let (earlier, known) = self.reported_leader;
        // A term that nobody leads yet is news to nobody; one that the same node leads anew is.
        if leader != known || (!leader.is_none() && term != earlier) {
            self.reported_leader = (term, leader);
            effects.push(Effect::LeaderChanged { term, leader });
        }
    }

    /// A leader hears of all others, and so does everybody while there is no leader: all ask for votes and answer. A follower hears of its leader alone.
    pub(crate) fn watch_peers(&mut self) {
        let leader = self.leader();
        let hears_of = |peer: NodeId| leader.is_none() || leader == self.config.id || leader == peer;
        for peer in self.peers().collect::<Vec<_>>() {
            if hears_of(peer) { self.detector.watch(peer, self.now) } else { self.detector.unwatch(peer, self.now) }
        }
        self.detector.retain(|peer| self.membership.contains(peer));
    }

    /// A detector for these settings. Without a leader a sign of life comes with each try to elect one: that is no suspicious pause.
    pub(crate) fn new_detector(config: &Config, now: Instant) -> FailureDetector {
        let acceptable_pause = config.failure.acceptable_pause.max(config.election_timeout_max);
        FailureDetector::new(HeartbeatConfig { acceptable_pause, ..config.failure.clone() }, config.heartbeat_interval, now)
    }
}
