//! Watches over the own disk: a node whose disk takes nothing must not lead, however well its heartbeats go.

use std::time::Duration;

use crate::io::LogLevel;
use crate::node::Node;
use crate::planted::Bug;
use crate::role::Role;
use crate::types::{Instant, NodeId, Token};

impl Node {
    /// For how long the disk has completed nothing of what was submitted to it; zero while nothing waits.
    pub(crate) fn disk_waits(&self, now: Instant) -> Duration {
        self.outbox.waiting_since().map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Whether the disk has made no progress for so long that this node should leave the lead to others, and not ask for it.
    pub(crate) fn disk_is_stalled(&self) -> bool {
        self.disk_waits(self.now) >= self.config.disk_stall_timeout
            && self.peers().next().is_some()
            && !self.config.has_bug(Bug::StalledDiskLeads)
    }

    /// A leader whose disk is stalled hands over, or where nobody can take over steps down. Without its own copy its entries need a larger
    /// part of the others, and whoever waits for this node's disk waits for nothing.
    pub(crate) fn check_disk(&mut self) {
        if !matches!(self.role, Role::Leader(_)) || self.transfer.is_some() || !self.disk_is_stalled() {
            return;
        }
        self.counters.disk_stalls += 1;
        self.note(LogLevel::Warn, format!("the disk has made no progress for {} ms", self.disk_waits(self.now).as_millis()));
        match self.successor(NodeId::NONE) {
            Ok(to) => self.begin_transfer(Token::NONE, to),
            Err(_) => self.follow(NodeId::NONE),
        }
    }
}
