//! Who is a member, and changes of that, as JSON.

use amaters_cluster_core::{Member, MemberRole, MemberStatus, MembershipChange, NodeId, Status};
use serde::{Deserialize, Serialize};

/// The body of `GET /members`, and of the answer to a change that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersView {
    /// The cluster's name.
    pub cluster: String,
    /// The node that answers.
    pub id: u64,
    /// The leader that it knows of; null where none is known.
    pub leader: Option<u64>,
    /// The index of the configuration's entry in the log; 0 for the one that the node was started with.
    pub version: u64,
    /// The members.
    pub members: Vec<MemberView>,
}

/// A member, as `/status` and `/members` word it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// The node.
    pub id: u64,
    /// Where the other nodes reach it; empty if nobody has said.
    pub address: String,
    /// What it is.
    pub role: MemberRoleView,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberRoleView {
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

/// The body of `POST /members`: a change that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum ChangeRequest {
    /// The node becomes a learner, and a voter once it has caught up.
    Add {
        /// The node, from 1.
        id: u64,
        /// Where the other nodes reach it, as `host:port`.
        address: String,
    },
    /// The node receives the log.
    AddLearner {
        /// The node, from 1.
        id: u64,
        /// Where the other nodes reach it, as `host:port`.
        address: String,
    },
    /// The learner, which has caught up, becomes a voter.
    Promote {
        /// The node.
        id: u64,
    },
    /// The node leaves.
    Remove {
        /// The node.
        id: u64,
    },
    /// These are the voters, all at once, as soon as the new ones among them have caught up.
    Replace {
        /// All of them.
        members: Vec<AddressView>,
    },
}

/// A node, and how the others reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressView {
    /// The node, from 1.
    pub id: u64,
    /// Where the other nodes reach it, as `host:port`.
    pub address: String,
}

impl MembersView {
    /// The view of a status.
    #[must_use]
    pub fn new(status: &Status, cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            id: status.id.0,
            leader: (!status.leader.is_none()).then_some(status.leader.0),
            version: status.config_version.0,
            members: status.members.iter().map(MemberView::from).collect(),
        }
    }
}

impl From<&MemberStatus> for MemberView {
    fn from(member: &MemberStatus) -> Self {
        let role = match member.role {
            MemberRole::Voter => MemberRoleView::Voter,
            MemberRole::Incoming => MemberRoleView::Incoming,
            MemberRole::Outgoing => MemberRoleView::Outgoing,
            MemberRole::Learner => MemberRoleView::Learner,
            MemberRole::Leaving => MemberRoleView::Leaving,
        };
        Self { id: member.id.0, address: member.address.clone(), role }
    }
}

impl std::fmt::Display for MemberRoleView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Voter => "voter",
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
            Self::Learner => "learner",
            Self::Leaving => "leaving",
        })
    }
}

impl From<ChangeRequest> for MembershipChange {
    fn from(request: ChangeRequest) -> Self {
        let member = |id, address| Member { id: NodeId(id), address };
        match request {
            ChangeRequest::Add { id, address } => Self::AddVoter(member(id, address)),
            ChangeRequest::AddLearner { id, address } => Self::AddLearner(member(id, address)),
            ChangeRequest::Promote { id } => Self::Promote(NodeId(id)),
            ChangeRequest::Remove { id } => Self::Remove(NodeId(id)),
            ChangeRequest::Replace { members } => Self::Replace(members.into_iter().map(|it| member(it.id, it.address)).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_they_are_documented() {
        for (json, change) in [
            (r#"{"change":"add","id":4,"address":"h:1"}"#, MembershipChange::AddVoter(Member { id: NodeId(4), address: "h:1".to_owned() })),
            (
                r#"{"change":"add-learner","id":4,"address":"h:1"}"#,
                MembershipChange::AddLearner(Member { id: NodeId(4), address: "h:1".to_owned() }),
            ),
            (r#"{"change":"promote","id":4}"#, MembershipChange::Promote(NodeId(4))),
            (r#"{"change":"remove","id":4}"#, MembershipChange::Remove(NodeId(4))),
            (
                r#"{"change":"replace","members":[{"id":4,"address":"h:1"}]}"#,
                MembershipChange::Replace(vec![Member { id: NodeId(4), address: "h:1".to_owned() }]),
            ),
        ] {
            let request: ChangeRequest = serde_json::from_str(json).expect(json);
            assert_eq!(MembershipChange::from(request), change);
        }
        serde_json::from_str::<ChangeRequest>(r#"{"change":"add","id":4}"#).expect_err("no address");
    }
}
