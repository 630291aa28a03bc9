//! Clients: they read, write, and compare and set, at any node.

use amaters_cluster_core::NodeId;

use super::Check;
use super::command::{Command, REGISTERS};
use super::linearizability::{Call, Value};
use super::world::World;

impl World<'_> {
    pub(super) fn propose(&mut self) -> Check {
        let id = self.any();
        let too_large = self.rng.u8(..100) == 0;
        let bytes = if too_large { 4096 } else { self.weather.command_bytes };
        self.propose_at(id, bytes, self.weather.bursts)
    }

    /// A write, or a compare-and-set: most expect what was found last, and some what nobody wrote.
    pub(super) fn propose_at(&mut self, id: NodeId, bytes: usize, bursts: f64) -> Check {
        let Some(node) = self.cluster.node(id) else { return Ok(()) };
        let token = self.cluster.upcoming_token();
        let register = self.rng.usize(..REGISTERS);
        let expected: Option<Value> = match self.rng.u8(..8) {
            0 => Some(token.0),
            1..=3 => Some(self.history.found(register)),
            _ => None,
        };
        let command = Command { token, register, expected };
        self.trace.detail(|| format!("request {token} at node {id}: {:?} in register {register}", command.call()));
        self.ledger.proposed(id, node.persistent_state().current_term);
        self.history.called(token, register, command.call());
        self.cluster.propose(id, command.encode(bytes));
        self.moved(id, bursts)
    }

    pub(super) fn read(&mut self) -> Check {
        let id = self.any();
        self.read_at(id, self.weather.bursts)
    }

    pub(super) fn read_at(&mut self, id: NodeId, bursts: f64) -> Check {
        let Some(node) = self.cluster.node(id) else { return Ok(()) };
        let token = self.cluster.upcoming_token();
        let register = self.rng.usize(..REGISTERS);
        self.trace.detail(|| format!("request {token} at node {id}: reads register {register}"));
        self.ledger.asked(id, node.persistent_state().current_term);
        self.history.called(token, register, Call::Read);
        self.cluster.read(id);
        self.moved(id, bursts)
    }
}
