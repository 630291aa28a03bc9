//! What operators do to a cluster that runs.

use amaters_cluster_core::message::Message;
use amaters_cluster_core::{NodeId, NodeState};

use super::Check;
use super::coverage::Rare;
use super::world::World;

impl World<'_> {
    /// Asks a node, the leader as a rule, to hand over: to a node that is named, or to the best.
    pub(super) fn transfer(&mut self) -> Check {
        let leader = self.cluster.leader().filter(|_| self.rng.u8(..10) > 0);
        let id = leader.unwrap_or_else(|| self.any());
        let to = if self.rng.bool() { self.any() } else { NodeId::NONE };
        let Some(node) = self.cluster.node(id) else { return Ok(()) };
        self.trace.detail(|| format!("request {}: node {id} hands over to node {to}", self.cluster.upcoming_token()));
        let term = node.persistent_state().current_term;
        self.coverage.hit_if(node.state() == NodeState::Leader, Rare::Transfers);
        self.ledger.asked_for_a_change(id, term);
        self.cluster.transfer(id, to);
        self.moved(id, self.weather.bursts)
    }

    /// The leader that a message of the pool is the farewell of.
    pub(super) fn who_hands_over(&self, position: usize) -> Option<NodeId> {
        let envelope = &self.cluster.pool()[position].envelope;
        matches!(envelope.message, Message::TimeoutNowRequest(_)).then_some(envelope.from)
    }

    /// Who has handed over is often cut off: its machine is about to go. It may still believe that it leads, and answer its clients.
    pub(super) fn leave_behind(&mut self, old: NodeId) {
        if self.rng.bool() {
            self.cluster.isolate(old);
            self.trace.detail(|| format!("node {old} is cut off"));
        }
    }
}
