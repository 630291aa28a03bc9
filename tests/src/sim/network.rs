//! The network: what is under way arrives, is lost, comes again; links are cut.

use amaters_cluster_core::message::{Envelope, Message};

use super::Check;
use super::coverage::Rare;
use super::world::World;
use crate::cluster::{Delivery, InFlight};
use crate::render;

impl World<'_> {
    pub(super) fn deliver(&mut self) -> Check {
        let position = if self.rng.f64() < self.weather.in_order { 0 } else { self.rng.usize(..self.cluster.pool().len()) };
        let leaves = self.who_hands_over(position);
        self.deliver_at(position, self.weather.bursts)?;
        leaves.map_or(Ok(()), |(old, successor)| self.leave_behind(old, successor))
    }

    /// Delivers a message, and ticks its receiver, but for a burst.
    pub(super) fn deliver_at(&mut self, position: usize, bursts: f64) -> Check {
        match self.cluster.deliver(position) {
            Delivery::Taken(InFlight { envelope, copy }) => {
                self.trace.detail(|| line(&envelope));
                match &envelope.message {
                    Message::AppendEntriesRequest(_) => self.coverage.hit_if(copy, Rare::DuplicateAppends),
                    Message::ForwardRequest(_) => self.coverage.hit_if(copy, Rare::DuplicateForwards),
                    _ => {}
                }
                self.moved(envelope.to, bursts)
            }
            Delivery::Lost(InFlight { envelope, .. }) => {
                self.trace.detail(|| format!("{}: lost", line(&envelope)));
                Ok(())
            }
        }
    }

    pub(super) fn lose(&mut self) {
        let position = self.rng.usize(..self.cluster.pool().len());
        let envelope = self.cluster.drop_message(position);
        self.trace.detail(|| line(&envelope));
    }

    pub(super) fn duplicate(&mut self) {
        let position = self.rng.usize(..self.cluster.pool().len());
        self.trace.detail(|| line(&self.cluster.pool()[position].envelope));
        self.cluster.duplicate(position);
    }

    /// Cuts one link in one direction, a node off, or the cluster in two.
    pub(super) fn cut(&mut self) {
        let victim = self.victim();
        match self.rng.u8(..4) {
            0 => {
                let other = self.any();
                self.cluster.cut(victim, other);
                self.coverage.hit(Rare::OneWayCuts);
                self.trace.detail(|| format!("from node {victim} to node {other}"));
            }
            1 | 2 => {
                self.cluster.isolate(victim);
                self.trace.detail(|| format!("node {victim} off"));
            }
            _ => {
                let (some, others): (Vec<_>, Vec<_>) = self.ids.clone().into_iter().partition(|_| self.rng.bool());
                self.cluster.partition(&some, &others);
                self.trace.detail(|| format!("{some:?} from {others:?}"));
            }
        }
    }
}

/// A message, for the trace.
pub(super) fn line(envelope: &Envelope) -> String {
    format!("{} → {} {}", envelope.from, envelope.to, render::message(&envelope.message))
}
