//! Who is a member, and what a majority is.

use crate::types::NodeId;

/// The voting members of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    voters: Vec<NodeId>,
}

impl Membership {
    pub(crate) fn new(mut voters: Vec<NodeId>) -> Self {
        voters.sort_unstable();
        Self { voters }
    }

    /// The voters, by their ids.
    pub(crate) fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Whether a node is a member.
    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.voters.binary_search(&node).is_ok()
    }

    /// Whether the nodes for which `holds` is true are a majority.
    pub(crate) fn is_quorum(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        self.voters.iter().filter(|voter| holds(**voter)).count() > self.voters.len() / 2
    }

    /// The greatest value that a majority has reached.
    pub(crate) fn reached_by_quorum<T: Ord + Copy>(&self, value: impl Fn(NodeId) -> T) -> T {
        let mut values: Vec<T> = self.voters.iter().map(|voter| value(*voter)).collect();
        values.sort_unstable();
        values[(values.len() - 1) / 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half() {
        for (voters, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)] {
            let membership = Membership::new((1..=voters).map(NodeId).collect());
            for votes in 0..=voters {
                assert_eq!(membership.is_quorum(|voter| voter.0 <= votes), votes >= needed, "{votes} of {voters}");
                let reached = membership.reached_by_quorum(|voter| u64::from(voter.0 <= votes));
                assert_eq!(reached == 1, votes >= needed, "{votes} of {voters}");
            }
        }
    }
}
