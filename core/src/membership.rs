//! Who is a member, and what a majority is: every question about quorums is answered here.
//!
//! A configuration holds from the moment in which its entry stands in the log, committed or not (Raft paper, §6), and no longer when the entry is
//! removed again. So a few of them are kept, by the index of their entries.

use std::collections::{BTreeSet, VecDeque};

use crate::cluster_config::{ClusterConfig, ConfigState};
use crate::planted::Bug;
use crate::types::{LogIndex, NodeId};

/// The configurations of a log.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    /// By their versions; never empty. All but the first may be removed with their entries.
    history: VecDeque<ConfigState>,
    /// Of the configuration that holds: its voters, all members, and the sets of voters of which each has to agree.
    voters: Vec<NodeId>,
    all: Vec<NodeId>,
    electorates: Vec<Vec<NodeId>>,
    bug: Option<Bug>,
}

impl Membership {
    /// Begins with a configuration that stands in no log.
    pub(crate) fn new(initial: ClusterConfig, bug: Option<Bug>) -> Self {
        let history = VecDeque::from([ConfigState::Stable(initial)]);
        let mut membership = Self { history, voters: Vec::new(), all: Vec::new(), electorates: Vec::new(), bug };
        membership.take_effect();
        membership
    }

    /// A snapshot stands for the log so far, with this configuration.
    pub(crate) fn begin_anew(&mut self, state: ConfigState) {
        self.history = VecDeque::from([state]);
        self.take_effect();
    }

    /// The configuration that holds: the latest in the log.
    pub(crate) fn effective(&self) -> &ConfigState {
        self.history.back().expect("the first configuration stays")
    }

    /// The configuration that held when the log ended at an index; none if that is too long ago to know.
    pub(crate) fn as_of(&self, index: LogIndex) -> Option<&ConfigState> {
        self.history.iter().rev().find(|state| state.version() <= index)
    }

    /// A configuration entry was appended.
    pub(crate) fn append(&mut self, state: ConfigState) {
        assert!(state.version() > self.effective().version(), "configurations come in the order of the log");
        self.history.push_back(state);
        self.take_effect();
    }

    /// Entries from an index on were removed. Whether a configuration went with them.
    pub(crate) fn truncate_from(&mut self, index: LogIndex) -> bool {
        let before = self.history.len();
        while self.history.len() > 1 && self.effective().version() >= index {
            self.history.pop_back();
        }
        let undone = self.history.len() < before;
        if undone {
            self.take_effect();
        }
        undone
    }

    /// Forgets what was replaced at an index or before: nobody asks for an earlier one.
    pub(crate) fn forget_before(&mut self, index: LogIndex) {
        while self.history.get(1).is_some_and(|next| next.version() <= index) {
            self.history.pop_front();
        }
    }

    /// The address that a node had when it was last a member, as far back as is known.
    pub(crate) fn last_address(&self, node: NodeId) -> Option<&str> {
        let mut halves = self.history.iter().rev().flat_map(ConfigState::halves);
        halves.find_map(|half| half.voters.get(&node).or(half.learners.get(&node))).map(String::as_str)
    }

    /// Who votes, in either configuration.
    pub(crate) fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Voters and learners, in either configuration.
    pub(crate) fn all(&self) -> &[NodeId] {
        &self.all
    }

    /// Whether a node is a voter or a learner.
    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.effective().contains(node)
    }

    /// Whether the nodes for which `holds` is true are a majority: of both configurations, where two hold.
    pub(crate) fn is_quorum(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        self.electorates.iter().all(|voters| voters.iter().filter(|voter| holds(**voter)).count() > voters.len() / 2)
    }

    /// The greatest value that a majority has reached: the lesser of two, where two configurations hold.
    pub(crate) fn reached_by_quorum<T: Ord + Copy>(&self, value: impl Fn(NodeId) -> T) -> T {
        let median = |voters: &Vec<NodeId>| {
            let mut values: Vec<T> = voters.iter().map(|voter| value(*voter)).collect();
            values.sort_unstable();
            values[(values.len() - 1) / 2]
        };
        let lesser = self.electorates.iter().map(median).min();
        lesser.expect("one configuration holds at least")
    }

    /// Another configuration holds: who is asked often is looked up once.
    fn take_effect(&mut self) {
        let state = self.effective();
        let voters: BTreeSet<NodeId> = state.halves().flat_map(|half| half.voters.keys().copied()).collect();
        let learners = state.halves().flat_map(|half| half.learners.keys().copied());
        let all: BTreeSet<NodeId> = voters.iter().copied().chain(learners).collect();
        self.electorates = match self.bug {
            Some(Bug::NewMajorityAlone) => vec![state.latest().voters.keys().copied().collect()],
            Some(Bug::MajorityOfUnion) => vec![voters.iter().copied().collect()],
            _ => state.halves().map(|half| half.voters.keys().copied().collect()).collect(),
        };
        self.voters = voters.into_iter().collect();
        self.all = all.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(version: u64, voters: &[u64]) -> ClusterConfig {
        let voters = voters.iter().map(|id| (NodeId(*id), String::new())).collect();
        ClusterConfig { version: LogIndex(version), voters, ..ClusterConfig::default() }
    }

    fn stable(version: u64, voters: &[u64]) -> ConfigState {
        ConfigState::Stable(config(version, voters))
    }

    fn numbered(set: u32) -> Vec<u64> {
        (0..7).filter(|bit| set & (1 << bit) != 0).map(|bit| bit + 1).collect()
    }

    #[test]
    fn a_majority_is_more_than_half() {
        for (voters, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)] {
            let membership = Membership::new(config(0, &(1..=voters).collect::<Vec<_>>()), None);
            for votes in 0..=voters {
                assert_eq!(membership.is_quorum(|voter| voter.0 <= votes), votes >= needed, "{votes} of {voters}");
                let reached = membership.reached_by_quorum(|voter| u64::from(voter.0 <= votes));
                assert_eq!(reached == 1, votes >= needed, "{votes} of {voters}");
            }
        }
    }

    /// All pairs of configurations of up to five nodes, and all sets of nodes that agree.
    #[test]
    fn h09_two_configurations_agree_only_by_a_majority_of_each() {
        for (old, new) in (1_u32..32).flat_map(|old| (1_u32..32).map(move |new| (old, new))) {
            let mut membership = Membership::new(config(0, &numbered(old)), None);
            membership.append(ConfigState::Joint { old: config(0, &numbered(old)), new: config(1, &numbered(new)) });
            for agreed in 0..32_u32 {
                let majority = |half: u32| (agreed & half).count_ones() * 2 > half.count_ones();
                let expected = majority(old) && majority(new);
                let agrees = |node: NodeId| agreed & (1 << (node.0 - 1)) != 0;
                assert_eq!(membership.is_quorum(agrees), expected, "{agreed:b} of {old:b} and {new:b}");
                let reached = membership.reached_by_quorum(agrees);
                assert_eq!(reached, expected, "{agreed:b} of {old:b} and {new:b}");
            }
        }
    }

    #[test]
    fn nobody_is_no_majority_of_no_voters() {
        assert!(!Membership::new(config(0, &[]), None).is_quorum(|_| true));
    }

    #[test]
    fn a_configuration_goes_with_its_entry_and_is_known_for_its_time() {
        let mut membership = Membership::new(config(0, &[1]), None);
        membership.append(stable(3, &[1, 2]));
        membership.append(stable(7, &[1, 2, 3]));
        assert_eq!(membership.as_of(LogIndex(2)), Some(&stable(0, &[1])));
        assert_eq!(membership.as_of(LogIndex(6)), Some(&stable(3, &[1, 2])));
        assert!(!membership.truncate_from(LogIndex(8)));
        assert!(membership.truncate_from(LogIndex(5)));
        assert_eq!(membership.effective(), &stable(3, &[1, 2]));
        membership.append(stable(5, &[2]));
        membership.forget_before(LogIndex(4));
        assert_eq!(membership.as_of(LogIndex(2)), None);
        assert_eq!(membership.as_of(LogIndex(4)), Some(&stable(3, &[1, 2])));
    }
}
