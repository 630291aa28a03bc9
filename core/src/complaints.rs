//! How often the log hears of what a peer does wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::{Instant, NodeId};

/// The most lines about one peer in an [`INTERVAL`]: enough for each kind of fault, and bearable if a peer sends nothing else.
const MAX_LINES: u64 = 10;

/// The time over which lines are counted.
const INTERVAL: Duration = Duration::from_secs(1);

/// Counts complaints, by peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Complaints(BTreeMap<NodeId, Count>);

#[derive(Clone, Debug)]
struct Count {
    since: Instant,
    lines: u64,
}

impl Complaints {
    /// Whether one more line about a peer may be written; if so, how many were left out before it.
    pub(crate) fn admit(&mut self, peer: NodeId, now: Instant) -> Option<u64> {
        let count = self.0.entry(peer).or_insert(Count { since: now, lines: 0 });
        let mut left_out = 0;
        if now.since(count.since) >= INTERVAL {
            left_out = count.lines.saturating_sub(MAX_LINES);
            *count = Count { since: now, lines: 0 };
        }
        count.lines += 1;
        (count.lines <= MAX_LINES).then_some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_costs_a_few_lines_and_another_peer_is_still_heard_of() {
        let mut complaints = Complaints::default();
        let admitted = (0..1000).filter(|_| complaints.admit(NodeId(2), Instant(0)).is_some()).count();
        assert_eq!(admitted, 10);
        assert_eq!(complaints.admit(NodeId(3), Instant(0)), Some(0));
        assert_eq!(complaints.admit(NodeId(2), Instant(0) + INTERVAL), Some(990));
        assert_eq!(complaints.admit(NodeId(2), Instant(1) + INTERVAL), Some(0));
    }
}
