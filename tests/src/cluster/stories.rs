//! Verbs that move many things at once, for tests that care about one fault and want the rest to work.

use std::time::Duration;

use amaters_cluster_core::NodeId;

use super::Cluster;

impl Cluster {
    /// Ticks, completes and delivers until nothing moves any more, without any time passing.
    pub fn settle(&mut self) {
        loop {
            self.tick_all();
            let mut moved = false;
            for id in self.ids() {
                moved |= !self.member(id).disk_stalled && self.complete_all(id);
                moved |= self.member(id).wanted_key.is_some() && self.load_keys(id);
                while self.answer(id) {
                    moved = true;
                }
            }
            for _ in 0..self.pool.len() {
                self.deliver(0);
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    /// Lets this much time pass in steps of 10 ms, with everything delivered and durable at once.
    pub fn run(&mut self, time: Duration) {
        const STEP: Duration = Duration::from_millis(10);
        for _ in 0..time.as_millis().div_ceil(STEP.as_millis()) {
            self.advance(STEP);
            self.settle();
        }
    }

    /// Makes a node leader: the others' clocks run until they have forgotten an earlier leader that they hear no more, its own until it stands.
    ///
    /// # Panics
    /// If it isn't elected: its log is behind, it can't reach a majority, or the others hear from a leader.
    pub fn elect(&mut self, id: NodeId) {
        for other in self.ids() {
            let config = &self.member(other).config;
            let wait = if other == id { config.election_timeout_max } else { config.election_timeout_min };
            self.pass(other, wait);
        }
        self.settle();
        assert_eq!(self.leader(), Some(id), "node {id} was not elected");
    }
}
