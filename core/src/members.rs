//! What the membership means for a node: whether it may campaign, whom it listens to, and when it has to go.

use crate::cluster_config::{ConfigState, MemberRole, MemberStatus};
use crate::entry::EntryKind;
use crate::io::{Effect, LogLevel};
use crate::message::{Message, RemovalNotice};
use crate::node::Node;
use crate::planted::Bug;
use crate::role::Role;
use crate::types::{LogIndex, NodeId};

/// What a node knows of its own membership, besides the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// The version of the configuration without this node that a leader has told it of; none if it is a member, as far as anybody has told.
    pub(crate) told_to_leave: LogIndex,
    /// Whether the host knows who is a member.
    host_is_told: bool,
    /// Whether the log has been told that this node was removed.
    said_removed: bool,
}

// The configuration that holds.
impl Node {
    /// The configuration that holds: the latest in the log, committed or not (Raft paper, §6).
    #[must_use]
    pub fn configuration(&self) -> &ConfigState {
        self.membership.effective()
    }

    /// The configuration that held when the log ended at an index; none if it was replaced by another one that has been applied since.
    #[must_use]
    pub fn configuration_at(&self, index: LogIndex) -> Option<&ConfigState> {
        self.membership.as_of(index)
    }

    /// The log was changed from an index on.
    pub(crate) fn log_changed(&mut self, from: LogIndex) {
        self.outbox.log_changed(from);
        self.membership_changes_from(from);
    }

    /// Takes up the configurations that the log has from an index on, instead of those that it had there.
    pub(crate) fn membership_changes_from(&mut self, from: LogIndex) {
        if self.config.has_bug(Bug::MembershipOnLeaderAlone) && !matches!(self.role, Role::Leader(_)) {
            return;
        }
        let mut changed = self.membership.truncate_from(from);
        // Those up to the snapshot that the node has started from are in it.
        for entry in self.log.iter_from(from).filter(|entry| entry.id.index > self.snapshots.restored_index()) {
            if let EntryKind::Configuration(state) = &entry.kind {
                self.membership.append(state.clone());
                self.counters.configurations += 1;
                changed = true;
            }
        }
        if changed {
            self.standing.host_is_told = false;
            self.update_progress();
        }
    }

    /// Tells the host who is a member, if that has changed; and its log, if this node is none any more.
    pub(crate) fn tell_members(&mut self, effects: &mut Vec<Effect>) {
        let removed = self.is_removed();
        if removed && !self.standing.said_removed {
            let version = self.configuration().version().max(self.standing.told_to_leave);
            self.note(
                LogLevel::Warn,
                format!("this node was removed from the cluster by configuration {version}: it takes no part any more"),
            );
            self.proposals.give_up(&mut self.rejected);
            self.reads.give_up(&mut self.rejected);
        }
        self.standing.said_removed = removed;
        if std::mem::replace(&mut self.standing.host_is_told, true) {
            return;
        }
        effects.push(Effect::Members { version: self.configuration().version(), members: self.members() });
    }

    /// The members, and those that have just left.
    pub(crate) fn members(&self) -> Vec<MemberStatus> {
        let mut members = self.configuration().members();
        if let Role::Leader(leader) = &self.role {
            let leaving = leader.peers.iter().filter_map(|(id, progress)| Some((*id, progress.leaving.as_ref()?.address.clone())));
            members.extend(leaving.map(|(id, address)| MemberStatus { id, address, role: MemberRole::Leaving }));
            members.sort_unstable_by_key(|member| member.id);
        }
        members
    }

    /// The host's view of the members is out of date.
    pub(crate) fn members_changed(&mut self) {
        self.standing.host_is_told = false;
    }
}

// Whether the node takes part.
impl Node {
    /// Whether the node was removed and has nobody to follow. One that still hears from a leader may only be behind: it is added again later in the log.
    pub(crate) fn is_removed(&self) -> bool {
        self.is_excluded() && self.leader().is_none()
    }

    /// Whether the node is no member: by a committed configuration, or as a leader has told.
    fn is_excluded(&self) -> bool {
        let state = self.configuration();
        let by_log = !state.version().is_none() && state.version() <= self.log.commit_index();
        let told = self.standing.told_to_leave > state.version();
        !state.contains(self.config.id) && by_log || told
    }

    /// Whether the node may stand for election.
    ///
    /// Voters may; learners don't; nor does a node whose removal is committed. One whose removal is not known to be committed may be needed: it may be the
    /// only one with the entry that removes it, and no shorter log can win then.
    pub(crate) fn may_campaign(&self) -> bool {
        let own = self.config.id;
        let state = self.configuration();
        if self.is_excluded() || self.is_repairing() {
            return false;
        }
        if self.config.has_bug(Bug::StandInBothAlone) {
            return state.halves().all(|half| half.voters.contains_key(&own));
        }
        if self.config.has_bug(Bug::RemovedNeverStands) {
            return state.is_voter(own);
        }
        let voted_before = || self.membership.as_of(self.log.commit_index()).is_some_and(|state| state.is_voter(own));
        state.is_voter(own) || !state.contains(own) && voted_before()
    }

    /// Whether the node may vote. A vote is for anybody, whatever this node's configuration says of either (dissertation, §4.1). But a node that has none
    /// has no log either: nobody who needs its vote comes before the leader that adds it.
    pub(crate) fn may_vote(&self) -> bool {
        !self.configuration().latest().voters.is_empty() && !self.is_repairing()
    }

    /// No leader was heard of for an election timeout.
    pub(crate) fn campaign(&mut self) {
        if !self.may_campaign() {
            self.follow(NodeId::NONE);
        } else if self.config.has_bug(Bug::NoPreVote) {
            self.start_election(false);
        } else {
            self.start_pre_vote();
        }
    }
}

// Nodes that are no members, as far as this one knows. Its configuration may be old, and so may theirs.
impl Node {
    /// Whether a node is a member, or was one until just now.
    pub(crate) fn knows(&self, node: NodeId) -> bool {
        self.membership.contains(node) || matches!(&self.role, Role::Leader(leader) if leader.peers.contains_key(&node))
    }

    /// Whether a message of a node that is no member is heard.
    ///
    /// A leader's is, since it was elected by whoever had to (dissertation, §4.1), and may know a later configuration. So is a candidate's, which may too.
    /// But neither is while there is a leader: a removed node must not disturb it (§4.2.3), and one that was deposed without this node's knowledge
    /// has no majority to hear of, and steps down. Others come too late or too early.
    pub(crate) fn listens_to_stranger(&self, sender: NodeId, message: &Message) -> bool {
        match message {
            _ if sender == self.leader() => true,
            Message::PreVoteRequest(_) | Message::RequestVoteRequest(_) => !self.hears_from_leader(),
            Message::RemovalNotice(_) => matches!(self.role, Role::PreCandidate(_)),
            _ => message.is_from_leader() && !self.hears_from_leader(),
        }
    }

    /// Counts a message that is not heard. A node that would be elected learns that it was removed, from a leader that has committed so.
    pub(crate) fn turn_away(&mut self, sender: NodeId, message: &Message) {
        self.counters.strangers += 1;
        let version = self.configuration().version();
        if matches!(message, Message::PreVoteRequest(_)) && self.leads_by_committed_configuration() {
            let term = self.persistent.current_term;
            self.send(sender, Message::RemovalNotice(RemovalNotice { term, version }));
        }
        self.complain(sender, LogLevel::Info, &format!("node {sender} is not heard: it is no member in configuration {version}"));
    }

    /// A leader says that this node was removed. It is wrong about that if this node's log has a later configuration.
    pub(crate) fn on_removal_notice(&mut self, from: NodeId, notice: &RemovalNotice) {
        if matches!(self.role, Role::PreCandidate(_)) && notice.version > self.configuration().version() {
            self.note(LogLevel::Debug, format!("node {from} leads without this node"));
            self.standing.told_to_leave = notice.version;
            self.follow(NodeId::NONE);
        }
    }
}
