//! Who belongs to a cluster, in which role and at which address; and which configurations lie on the way from one to another.
//!
//! Voters change by joint consensus (Raft paper, §6): from the old configuration to the joint one, in which both must agree, and from there to the new
//! one. A node that is to vote is a learner before, until it has caught up (dissertation, §4.2.1). Learners alone change in one step, since no
//! majority changes with them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::MAX_VOTERS;
use crate::io::Rejection;
use crate::types::{LogIndex, NodeId};

/// The most learners of a group.
pub const MAX_LEARNERS: usize = 16;

/// The longest address, in bytes.
pub const MAX_ADDRESS_BYTES: usize = 255;

/// Members by their ids, with the address at which each can be reached: opaque to the core, empty where the host needs none.
pub type Members = BTreeMap<NodeId, String>;

/// One configuration of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterConfig {
    /// The index of its entry in the log; 0 for the one that a node was started with.
    pub version: LogIndex,
    /// Whose votes and acknowledgements count: 1 to 7, or none yet at a node that waits to be added.
    pub voters: Members,
    /// Who receives the log, and counts for nothing (dissertation, §4.2.1): at most 16.
    pub learners: Members,
}

/// What the latest configuration entry of a log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigState {
    /// One configuration holds.
    Stable(ClusterConfig),
    /// Two hold at once: whatever needs a majority needs one in each (Raft paper, §6).
    Joint {
        /// The configuration that is being left.
        old: ClusterConfig,
        /// The one that comes after it. The version is its.
        new: ClusterConfig,
    },
}

/// A node and its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub id: NodeId,
    /// Where it can be reached: at most 255 bytes.
    pub address: String,
}

/// What can be asked of a leader. One change goes on at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// The node receives the log from now on.
    AddLearner(Member),
    /// The node becomes a learner, and a voter once it has caught up.
    AddVoter(Member),
    /// The learner, which has caught up, becomes a voter.
    Promote(NodeId),
    /// The voter or learner leaves.
    Remove(NodeId),
    /// These are the voters, all at once, as soon as the new ones among them have caught up. Learners stay what they are.
    Replace(Vec<Member>),
}

/// What a member is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberRole {
    /// It votes.
    Voter,
    /// It votes in the new one of two joint configurations.
    Incoming,
    /// It votes in the old one of two joint configurations.
    Outgoing,
    /// It only receives the log.
    Learner,
    /// It was removed, and is yet to hear of that.
    Leaving,
}

/// A member, as the host is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// The node.
    pub id: NodeId,
    /// Where it can be reached; empty if nobody has said.
    pub address: String,
    /// What it is.
    pub role: MemberRole,
}

/// The next configuration on the way to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is none: the target is reached.
    Arrived,
    /// Other learners.
    Learners(ClusterConfig),
    /// The joint configuration with the target, once these learners have caught up.
    Joint(Vec<NodeId>),
}

impl ClusterConfig {
    /// What this configuration is after a change.
    ///
    /// # Errors
    /// The change makes no sense here, or leads beyond the bounds.
    pub fn changed(&self, change: MembershipChange) -> Result<Self, Rejection> {
        let mut target = self.clone();
        match change {
            MembershipChange::AddLearner(member) => {
                if self.contains(member.id) {
                    return Err(Rejection::AlreadyMember);
                }
                target.learners.insert(member.id, member.address);
            }
            MembershipChange::AddVoter(member) => target.add_voter(member)?,
            MembershipChange::Promote(id) => {
                let address = self.learners.get(&id).cloned();
                let absent = if self.voters.contains_key(&id) { Rejection::AlreadyMember } else { Rejection::NotMember };
                target.add_voter(Member { id, address: address.ok_or(absent)? })?;
            }
            MembershipChange::Remove(id) => {
                if target.voters.remove(&id).or(target.learners.remove(&id)).is_none() {
                    return Err(Rejection::NotMember);
                }
            }
            MembershipChange::Replace(members) => {
                target.voters.clear();
                for member in members {
                    target.learners.remove(&member.id);
                    if target.voters.insert(member.id, member.address).is_some() {
                        return Err(Rejection::AlreadyMember);
                    }
                }
            }
        }
        // New voters are learners on the way: these have to fit as well.
        let on_the_way = self.with_learners_for(&target);
        if target.is_sane() && !target.voters.is_empty() && on_the_way.is_sane() { Ok(target) } else { Err(Rejection::MemberLimits) }
    }

    fn add_voter(&mut self, member: Member) -> Result<(), Rejection> {
        self.learners.remove(&member.id);
        let known = self.voters.insert(member.id, member.address);
        if known.is_some() { Err(Rejection::AlreadyMember) } else { Ok(()) }
    }

    /// The next step from here to a target.
    pub(crate) fn step_towards(&self, target: &Self) -> Step {
        let staged = self.with_learners_for(target);
        if self.voters == target.voters && self.learners == target.learners {
            Step::Arrived
        } else if self.voters == target.voters {
            Step::Learners(target.clone())
        } else if staged.learners != self.learners {
            Step::Learners(staged)
        } else {
            Step::Joint(target.voters.keys().filter(|id| !self.voters.contains_key(id)).copied().collect())
        }
    }

    /// This configuration, with the target's new voters as learners.
    fn with_learners_for(&self, target: &Self) -> Self {
        let mut staged = self.clone();
        let new = target.voters.iter().filter(|(id, _)| !self.voters.contains_key(id));
        staged.learners.extend(new.map(|(id, address)| (*id, address.clone())));
        staged
    }

    /// Whether a node is a voter or a learner.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.voters.contains_key(&node) || self.learners.contains_key(&node)
    }

    /// Whether it keeps the bounds, and names no node twice.
    fn is_sane(&self) -> bool {
        let member = |(id, address): (&NodeId, &String)| !id.is_none() && address.len() <= MAX_ADDRESS_BYTES;
        self.voters.len() <= MAX_VOTERS
            && self.learners.len() <= MAX_LEARNERS
            && self.voters.iter().all(member)
            && self.learners.iter().all(member)
            && !self.learners.keys().any(|id| self.voters.contains_key(id))
    }
}

impl ConfigState {
    /// The index of its entry; 0 for the one that a node was started with.
    #[must_use]
    pub fn version(&self) -> LogIndex {
        self.latest().version
    }

    /// The configuration, or the new one of two.
    #[must_use]
    pub fn latest(&self) -> &ClusterConfig {
        let (Self::Stable(latest) | Self::Joint { new: latest, .. }) = self;
        latest
    }

    /// The configuration that is being left, if two hold at once.
    #[must_use]
    pub fn outgoing(&self) -> Option<&ClusterConfig> {
        match self {
            Self::Stable(_) => None,
            Self::Joint { old, .. } => Some(old),
        }
    }

    /// The configurations that hold: one or two.
    pub fn halves(&self) -> impl Iterator<Item = &ClusterConfig> {
        std::iter::once(self.latest()).chain(self.outgoing())
    }

    /// Whether a node is a member of one of them.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.halves().any(|half| half.contains(node))
    }

    /// Whether a node votes in one of them.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.halves().any(|half| half.voters.contains_key(&node))
    }

    /// All members, by their ids.
    #[must_use]
    pub fn members(&self) -> Vec<MemberStatus> {
        let mut members = BTreeMap::new();
        // The new configuration comes last: its addresses are the newer ones.
        for half in [self.outgoing(), Some(self.latest())].into_iter().flatten() {
            members.extend(half.voters.iter().chain(&half.learners));
        }
        members.into_iter().map(|(&id, address)| MemberStatus { id, address: address.clone(), role: self.role(id) }).collect()
    }

    fn role(&self, node: NodeId) -> MemberRole {
        let in_new = self.latest().voters.contains_key(&node);
        let in_old = self.outgoing().map(|old| old.voters.contains_key(&node));
        match (in_old, in_new) {
            (Some(true), false) => MemberRole::Outgoing,
            (Some(false), true) => MemberRole::Incoming,
            (_, true) => MemberRole::Voter,
            (_, false) => MemberRole::Learner,
        }
    }

    /// Whether it can stand in the log at an index.
    pub(crate) fn fits(&self, index: LogIndex) -> bool {
        let votes = |config: &ClusterConfig| config.is_sane() && !config.voters.is_empty();
        self.version() == index && self.halves().all(votes) && self.outgoing().is_none_or(|old| old.version < index)
    }

    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        const OVERHEAD: usize = 64; // the same in a 32-bit sandbox
        let members = self.halves().flat_map(|half| half.voters.values().chain(half.learners.values()));
        members.map(|address| OVERHEAD + address.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(ids: &[u64]) -> Members {
        ids.iter().map(|id| (NodeId(*id), format!("host{id}"))).collect()
    }

    fn config(voters: &[u64], learners: &[u64]) -> ClusterConfig {
        ClusterConfig { version: LogIndex(5), voters: members(voters), learners: members(learners) }
    }

    fn member(id: u64) -> Member {
        Member { id: NodeId(id), address: format!("host{id}") }
    }

    fn replace(ids: &[u64]) -> MembershipChange {
        MembershipChange::Replace(ids.iter().map(|id| member(*id)).collect())
    }

    #[test]
    fn a_change_that_makes_no_sense_is_refused_with_its_reason() {
        let before = config(&[1, 2, 3], &[4]);
        for (change, reason) in [
            (MembershipChange::AddLearner(member(3)), Rejection::AlreadyMember),
            (MembershipChange::AddLearner(member(4)), Rejection::AlreadyMember),
            (MembershipChange::AddLearner(member(0)), Rejection::MemberLimits),
            (MembershipChange::AddLearner(Member { address: "x".repeat(256), ..member(5) }), Rejection::MemberLimits),
            (MembershipChange::AddVoter(member(2)), Rejection::AlreadyMember),
            (MembershipChange::Promote(NodeId(1)), Rejection::AlreadyMember),
            (MembershipChange::Promote(NodeId(5)), Rejection::NotMember),
            (MembershipChange::Remove(NodeId(5)), Rejection::NotMember),
            (replace(&[]), Rejection::MemberLimits),
            (replace(&[1, 1]), Rejection::AlreadyMember),
            (replace(&[1, 2, 3, 4, 5, 6, 7, 8]), Rejection::MemberLimits),
        ] {
            assert_eq!(before.changed(change.clone()), Err(reason), "{change:?}");
        }
        assert_eq!(
            config(&[1], &[2]).changed(MembershipChange::Remove(NodeId(1))),
            Err(Rejection::MemberLimits),
            "a cluster needs a voter"
        );
        let full = config(&[1], &(2..18).collect::<Vec<_>>());
        assert_eq!(full.changed(MembershipChange::AddVoter(member(30))), Err(Rejection::MemberLimits), "it can't be a learner before");
    }

    #[test]
    fn a_new_voter_learns_first_and_then_both_configurations_hold() {
        let before = config(&[1, 2, 3], &[]);
        let target = before.changed(MembershipChange::AddVoter(member(4))).unwrap();
        assert_eq!(target, config(&[1, 2, 3, 4], &[]));
        assert_eq!(before.step_towards(&target), Step::Learners(config(&[1, 2, 3], &[4])));
        assert_eq!(config(&[1, 2, 3], &[4]).step_towards(&target), Step::Joint(vec![NodeId(4)]));
        assert_eq!(target.step_towards(&target), Step::Arrived);
    }

    #[test]
    fn a_whole_set_is_replaced_at_once_and_learners_stay() {
        let before = config(&[1, 2, 3], &[4, 9]);
        let target = before.changed(replace(&[3, 4, 5])).unwrap();
        assert_eq!(target, config(&[3, 4, 5], &[9]));
        assert_eq!(before.step_towards(&target), Step::Learners(config(&[1, 2, 3], &[4, 5, 9])));
        assert_eq!(config(&[1, 2, 3], &[4, 5, 9]).step_towards(&target), Step::Joint(vec![NodeId(4), NodeId(5)]));
    }

    #[test]
    fn learners_change_in_one_step() {
        let before = config(&[1, 2, 3], &[4]);
        let target = before.changed(MembershipChange::Remove(NodeId(4))).unwrap();
        assert_eq!(before.step_towards(&target), Step::Learners(config(&[1, 2, 3], &[])));
    }

    #[test]
    fn members_of_two_configurations_have_their_roles() {
        let state =
            ConfigState::Joint { old: config(&[1, 2], &[3, 9]), new: ClusterConfig { version: LogIndex(6), ..config(&[2, 3], &[9]) } };
        let roles: Vec<_> = state.members().iter().map(|member| (member.id.0, member.role)).collect();
        assert_eq!(roles, [(1, MemberRole::Outgoing), (2, MemberRole::Voter), (3, MemberRole::Incoming), (9, MemberRole::Learner)]);
    }

    #[test]
    fn an_entry_must_be_what_its_place_says_and_keep_the_bounds() {
        let stable = |config| ConfigState::Stable(config);
        assert!(stable(config(&[1, 2], &[3])).fits(LogIndex(5)));
        assert!(!stable(config(&[1, 2], &[3])).fits(LogIndex(6)), "another index");
        assert!(!stable(config(&[], &[3])).fits(LogIndex(5)), "no voter");
        assert!(!stable(config(&[1, 0], &[])).fits(LogIndex(5)), "no node");
        assert!(!stable(config(&[1, 3], &[3])).fits(LogIndex(5)), "twice");
        let joint = ConfigState::Joint { old: config(&[1], &[]), new: config(&[2], &[]) };
        assert!(!joint.fits(LogIndex(5)), "the old one is older");
    }
}
