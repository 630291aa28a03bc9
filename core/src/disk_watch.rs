//! Watches over the own disk: a node whose disk takes nothing must not lead, however well its heartbeats go. One whose disk is full need not, where another
//! has space; and whoever leads takes nothing into the log that no majority has space for.

use std::time::Duration;

use crate::io::LogLevel;
use crate::node::Node;
use crate::planted::Bug;
use crate::role::Role;
use crate::types::{Instant, NodeId, Token};

/// How many election timeouts a leader whose disk is full waits before it tries to hand over again.
const TIMEOUTS_BETWEEN_TRIES: u32 = 10;

/// The space on the own disk, as far as storage says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DiskSpace {
    full: bool,
    /// Before this, the lead is not offered to another.
    next_try_at: Instant,
}

impl DiskSpace {
    #[cfg(feature = "model-checking")]
    pub(crate) fn shift(&mut self, shift: crate::canonical::Shift) {
        shift.apply(&mut self.next_try_at);
    }
}

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

    /// Storage says whether it lacks space.
    pub(crate) fn take_disk_space(&mut self, full: bool) {
        if self.disk_space.full != full {
            let (level, what) = if full { (LogLevel::Warn, "the disk is full") } else { (LogLevel::Info, "the disk has space again") };
            self.note(level, what.to_owned());
            self.disk_space = DiskSpace { full, next_try_at: self.now };
        }
    }

    /// Whether storage lacks space.
    pub(crate) fn disk_is_full(&self) -> bool {
        self.disk_space.full
    }

    /// Whether this node leads, and an entry more might have to wait until an operator has made space: on its own disk, or because no majority has space.
    pub(crate) fn lacks_space(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let has_space = |voter: NodeId| leader.peers.get(&voter).is_none_or(|progress| progress.disk_full != Some(true));
        (self.disk_is_full() || !self.membership.is_quorum(has_space)) && !self.config.has_bug(Bug::FullDiskTakesEntries)
    }

    /// A leader whose disk is stalled hands over, or where nobody can take over steps down. Without its own copy its entries need a larger
    /// part of the others, and whoever waits for this node's disk waits for nothing. One whose disk is full hands over to a node that has space, if there is one.
    pub(crate) fn check_disk(&mut self) {
        if !matches!(self.role, Role::Leader(_)) || self.transfer.is_some() {
            return;
        }
        if self.disk_is_stalled() {
            self.note(LogLevel::Warn, format!("the disk has made no progress for {} ms", self.disk_waits(self.now).as_millis()));
            self.counters.disk_stalls += 1;
            match self.successor(NodeId::NONE) {
                Ok(to) => self.begin_transfer(Token::NONE, to),
                Err(_) => self.follow(NodeId::NONE),
            }
        } else if self.disk_is_full() && self.now >= self.disk_space.next_try_at {
            self.leave_lead_to_space();
        }
    }

    fn leave_lead_to_space(&mut self) {
        let Ok(to) = self.successor(NodeId::NONE) else { return };
        let Role::Leader(leader) = &self.role else { return };
        // One that has yet to say so may be as full: the lead would go round and round.
        if leader.peers.get(&to).is_some_and(|progress| progress.disk_full == Some(false)) {
            self.disk_space.next_try_at = self.now + self.config.election_timeout_max * TIMEOUTS_BETWEEN_TRIES;
            self.counters.disk_stalls += 1;
            self.begin_transfer(Token::NONE, to);
        }
    }
}
