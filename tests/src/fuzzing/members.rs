//! Configurations and changes of the membership. Ids are few, so that they meet.

use std::collections::BTreeMap;

use amaters_cluster_core::{ClusterConfig, ConfigState, LogIndex, Member, MembershipChange, NodeId};

use super::bytes::Bytes;
use super::near;

/// A configuration for the entry at an index; now and then one that can't stand there.
pub(super) fn configuration(index: LogIndex, bytes: &mut Bytes<'_>) -> ConfigState {
    let version = if bytes.number(32) == 31 { LogIndex(near(bytes, index.0)) } else { index };
    let latest = cluster_config(version, bytes);
    if bytes.number(2) == 0 {
        return ConfigState::Stable(latest);
    }
    let before = LogIndex(bytes.number(8).min(index.0.saturating_sub(1)));
    ConfigState::Joint { old: cluster_config(before, bytes), new: latest }
}

fn cluster_config(version: LogIndex, bytes: &mut Bytes<'_>) -> ClusterConfig {
    // Mostly the node under test votes, and nobody is both a voter and a learner.
    let voters = u16::from(bytes.byte()) | u16::from(bytes.number(4) > 0);
    let learners = u16::from(bytes.byte()) & u16::from(bytes.byte());
    let learners = if bytes.number(32) == 31 { learners } else { learners & !voters };
    ClusterConfig { version, voters: members(voters, bytes), learners: members(learners, bytes) }
}

/// The members of a set, a bit for each.
fn members(set: u16, bytes: &mut Bytes<'_>) -> BTreeMap<NodeId, String> {
    let address = address(bytes);
    (0..8).filter(|bit| set >> bit & 1 == 1).map(|bit| (NodeId(bit + 1), address.clone())).collect()
}

/// What an operator may want.
pub(super) fn change(bytes: &mut Bytes<'_>) -> MembershipChange {
    match bytes.number(5) {
        0 => MembershipChange::AddLearner(member(bytes)),
        1 => MembershipChange::AddVoter(member(bytes)),
        2 => MembershipChange::Promote(NodeId(bytes.number(9))),
        3 => MembershipChange::Remove(NodeId(bytes.number(9))),
        _ => MembershipChange::Replace((0..bytes.number(10)).map(|_| member(bytes)).collect()),
    }
}

fn member(bytes: &mut Bytes<'_>) -> Member {
    Member { id: NodeId(bytes.number(9)), address: address(bytes) }
}

fn address(bytes: &mut Bytes<'_>) -> String {
    "a".repeat([0, 4, 255, 256][usize::from(bytes.byte() / 16).saturating_sub(12)])
}
