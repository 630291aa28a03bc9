//! What operators do to a cluster that runs.

use amaters_cluster_core::message::Message;
use amaters_cluster_core::{ConfigState, Member, MembershipChange, NodeId, NodeState};

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

    /// The leader that a message of the pool is the farewell of, and its successor.
    pub(super) fn who_hands_over(&self, position: usize) -> Option<(NodeId, NodeId)> {
        let envelope = &self.cluster.pool()[position].envelope;
        matches!(envelope.message, Message::TimeoutNowRequest(_)).then_some((envelope.from, envelope.to))
    }

    /// Who has handed over is often cut off: its machine is about to go. It may still believe that it leads. Clients go on at its successor, and a
    /// little later one comes to the old leader.
    pub(super) fn leave_behind(&mut self, old: NodeId, successor: NodeId) -> Check {
        if self.rng.u8(..4) == 0 {
            return Ok(());
        }
        self.cluster.isolate(old);
        self.trace.detail(|| format!("node {old} is cut off"));
        self.left_behind = Some((old, self.rng.u32(10..60)));
        self.propose_at(successor, 8, 0.0)
    }

    pub(super) fn ask_who_is_left_behind(&mut self) -> Check {
        match self.left_behind.take() {
            Some((old, 0)) => self.read_at(old, 0.0),
            Some((old, steps)) => {
                self.left_behind = Some((old, steps - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Asks a node, the leader as a rule, for other members. Most changes make sense; others are to be refused.
    pub(super) fn change_members(&mut self) -> Check {
        let leader = self.cluster.leader().filter(|_| self.rng.u8(..10) > 0);
        let id = leader.unwrap_or_else(|| self.any());
        let Some(node) = self.cluster.node(id) else { return Ok(()) };
        let (term, is_leader) = (node.persistent_state().current_term, node.state() == NodeState::Leader);
        let state = node.configuration().clone();
        let change = self.draw_change(&state);
        self.trace.detail(|| format!("request {}: node {id}: {change:?}", self.cluster.upcoming_token()));
        self.coverage.hit_if(is_leader, Rare::Changes);
        self.ledger.asked_for_other_members(id, term);
        self.cluster.change(id, change);
        self.moved(id, self.weather.bursts)
    }

    /// Adds nodes that are no members, removes those that are: as a rule.
    fn draw_change(&mut self, state: &ConfigState) -> MembershipChange {
        let sensible = self.rng.u8(..10) > 1;
        let kind = self.rng.u8(..10);
        let fits = |id: &NodeId| match kind {
            0..=3 => !state.contains(*id),
            4 | 5 => state.latest().learners.contains_key(id),
            _ => state.contains(*id),
        };
        let fitting: Vec<NodeId> = self.ids.iter().copied().filter(|id| !sensible || fits(id)).collect();
        let subject = if fitting.is_empty() { self.any() } else { fitting[self.rng.usize(..fitting.len())] };
        match kind {
            0 => MembershipChange::AddLearner(member(subject)),
            1..=3 => MembershipChange::AddVoter(member(subject)),
            4 => MembershipChange::Promote(subject),
            5 => MembershipChange::AddVoter(member(subject)),
            6 | 7 => MembershipChange::Remove(subject),
            _ => {
                let mut ids = self.ids.clone();
                self.rng.shuffle(&mut ids);
                ids.truncate(self.rng.usize(1..=ids.len().min(7)));
                MembershipChange::Replace(ids.into_iter().map(member).collect())
            }
        }
    }
}

/// A member with an address that nobody needs, but that travels.
fn member(id: NodeId) -> Member {
    Member { id, address: format!("node{id}") }
}
