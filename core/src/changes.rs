//! How a leader carries out a change of the membership (Raft paper, §6; dissertation, ch. 4).
//!
//! A change is a way from the configuration that holds to a target, and [`Step`] names the next part of it. A step is taken when the one before is
//! committed: first new voters become learners; when they have caught up, the joint configuration of old and target follows; then the target
//! alone. A leader takes the last step of a change that an earlier leader began, as well: a joint configuration is never left standing.

use crate::cluster_config::{ClusterConfig, ConfigState, MembershipChange, Step};
use crate::entry::EntryKind;
use crate::io::{LogLevel, Rejection};
use crate::message::{Message, TimeoutNowRequest};
use crate::node::Node;
use crate::planted::Bug;
use crate::progress::{Leaving, Progress};
use crate::role::{Leader, Role};
use crate::types::{NodeId, Token};

/// A change that a host asked for.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    token: Token,
    target: ClusterConfig,
}

/// How many election timeouts a learner that is to vote may go without any progress.
const PATIENCE: u32 = 20;

/// For how many election timeouts a removed peer is served on: it should hear of its removal.
const FAREWELL: u32 = 10;

impl Node {
    /// A host wants the membership changed.
    pub(crate) fn change_membership(&mut self, token: Token, change: MembershipChange) {
        let now = self.now;
        match (self.target_of(change), &mut self.role) {
            (Ok(target), Role::Leader(leader)) => {
                leader.peers.values_mut().for_each(|progress| progress.catch_up.begin(now));
                leader.change = Some(Change { token, target });
            }
            (Ok(_), _) => self.reject(token, Rejection::NotLeader),
            (Err(reason), _) => self.reject(token, reason),
        }
    }

    /// Where a change leads, if it may begin.
    ///
    /// Not before an entry of the leader's own term is committed: until then another configuration may be committed that this leader has never seen, or
    /// one that it has may be undone, and two that follow each other without a common majority would hold at once.
    fn target_of(&self, change: MembershipChange) -> Result<ClusterConfig, Rejection> {
        let Role::Leader(leader) = &self.role else { return Err(Rejection::NotLeader) };
        if self.log.commit_index() < leader.first_index && !self.config.has_bug(Bug::ChangeBeforeOwnCommit) {
            return Err(Rejection::NotReady);
        }
        if self.is_transferring() {
            return Err(Rejection::TransferUnderWay);
        }
        let ConfigState::Stable(current) = self.configuration() else { return Err(Rejection::ChangeUnderWay) };
        if leader.change.is_some() || current.version > self.log.commit_index() {
            return Err(Rejection::ChangeUnderWay);
        }
        if let MembershipChange::Promote(id) = change
            && current.learners.contains_key(&id)
            && !self.has_caught_up(leader, id)
        {
            return Err(Rejection::NotCaughtUp);
        }
        current.changed(change)
    }

    /// Takes the next step of a change, if it is due.
    pub(crate) fn drive_change(&mut self) {
        if !self.leads_by_committed_configuration() || self.is_transferring() {
            return;
        }
        match self.configuration().clone() {
            ConfigState::Joint { new, .. } => self.append_configuration(ConfigState::Stable, new),
            ConfigState::Stable(current) => self.approach_target(&current),
        }
    }

    /// Whether this node leads, and the configuration that holds is committed, as far as its own term can tell.
    pub(crate) fn leads_by_committed_configuration(&self) -> bool {
        let committed = self.log.commit_index();
        let early = self.config.has_bug(Bug::ChangeBeforeOwnCommit);
        matches!(&self.role, Role::Leader(leader) if committed >= leader.first_index || early)
            && self.configuration().version() <= committed
    }

    fn approach_target(&mut self, current: &ClusterConfig) {
        let Role::Leader(leader) = &self.role else { return };
        let Some(Change { target, .. }) = &leader.change else { return };
        match current.step_towards(target) {
            Step::Arrived => self.end_change(None),
            Step::Learners(next) => self.append_configuration(ConfigState::Stable, next),
            Step::Joint(new_voters) if new_voters.iter().all(|voter| self.has_caught_up(leader, *voter)) => {
                let (old, new) = (current.clone(), target.clone());
                self.append_configuration(|new| ConfigState::Joint { old, new }, new);
            }
            Step::Joint(new_voters) => {
                if let Some(laggard) = new_voters.into_iter().find(|voter| self.is_hopeless(leader, *voter)) {
                    self.note(LogLevel::Warn, format!("node {laggard} does not catch up: it stays a learner, and the change ends"));
                    self.end_change(Some(Rejection::NotCaughtUp));
                }
            }
        }
    }

    /// Appends a configuration, which holds from here on.
    fn append_configuration(&mut self, state: impl FnOnce(ClusterConfig) -> ConfigState, config: ClusterConfig) {
        let state = state(ClusterConfig { version: self.log.last().index.next(), ..config });
        self.note(LogLevel::Info, format!("appends configuration {}: {}", state.version(), describe(&state)));
        self.append(EntryKind::Configuration(state));
    }

    fn has_caught_up(&self, leader: &Leader, node: NodeId) -> bool {
        let is_heard = |progress: &Progress| self.now.since(progress.heard_at) < self.config.election_timeout_max;
        leader.peers.get(&node).is_some_and(|progress| progress.catch_up.is_near() && is_heard(progress))
    }

    fn is_hopeless(&self, leader: &Leader, node: NodeId) -> bool {
        let patience = self.config.election_timeout_max * PATIENCE;
        leader.peers.get(&node).is_none_or(|progress| progress.catch_up.is_hopeless(self.now, patience))
    }

    /// The change is done, or it ends for a reason.
    fn end_change(&mut self, reason: Option<Rejection>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(Change { token, .. }) = leader.change.take() else { return };
        match reason {
            None => self.done.push(token),
            Some(reason) => self.reject(token, reason),
        }
    }

    /// This node leads no longer: a later leader may complete what it began.
    pub(crate) fn abandon_change(&mut self) {
        self.end_change(Some(Rejection::UnknownOutcome));
    }

    /// Serves the members that there are now, and bids farewell to those that have gone.
    pub(crate) fn update_progress(&mut self) {
        let peers: Vec<NodeId> = self.peers().collect();
        let (now, last) = (self.now, self.log.last().index);
        let Role::Leader(leader) = &mut self.role else { return };
        for peer in &peers {
            // One that left and comes back begins a new life: it may have lost everything meanwhile.
            if leader.peers.get(peer).is_none_or(|progress| progress.leaving.is_some()) {
                leader.last_session += 1;
                leader.peers.insert(*peer, Progress::new(last, leader.last_session, now));
            }
        }
        for (peer, progress) in &mut leader.peers {
            if !peers.contains(peer) && progress.leaving.is_none() {
                let address = self.membership.last_address(*peer).unwrap_or_default().to_owned();
                progress.leaving = Some(Leaving { since: now, address });
            }
        }
    }

    /// Forgets removed peers that have had their time.
    pub(crate) fn end_farewells(&mut self) {
        let (now, farewell) = (self.now, self.config.election_timeout_max * FAREWELL);
        let Role::Leader(leader) = &mut self.role else { return };
        let before = leader.peers.len();
        leader.peers.retain(|_, progress| progress.leaving.as_ref().is_none_or(|leaving| now.since(leaving.since) < farewell));
        if leader.peers.len() < before {
            self.members_changed();
        }
    }

    /// Whether this node leads under a configuration in which it does not vote: it is about to go, and takes nothing more into its log.
    pub(crate) fn leaves(&self) -> bool {
        matches!(self.role, Role::Leader(_)) && !self.configuration().is_voter(self.config.id)
    }

    /// A leader that is in the new configuration no more goes on until that is committed, and steps down then (Raft paper, §6). It asks one that has
    /// everything to stand at once, so that nobody waits for an election timeout.
    pub(crate) fn leave_if_removed(&mut self) {
        if !self.leaves() || !self.leads_by_committed_configuration() || self.config.has_bug(Bug::RemovedLeaderStays) {
            return;
        }
        let Role::Leader(leader) = &self.role else { return };
        let last = self.log.last().index;
        let is_ready = |voter: &NodeId| leader.peers.get(voter).is_some_and(|progress| progress.match_index == last);
        let successor = self.voting_peers().find(is_ready);
        if let Some(successor) = successor {
            self.send(successor, Message::TimeoutNowRequest(TimeoutNowRequest { term: self.persistent.current_term }));
        }
        self.follow(NodeId::NONE);
    }
}

/// A configuration, for the log.
fn describe(state: &ConfigState) -> String {
    let names = |config: &ClusterConfig| {
        let list = |ids: Vec<String>| if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
        let voters = list(config.voters.keys().map(ToString::to_string).collect());
        if config.learners.is_empty() {
            return format!("voters {voters}");
        }
        format!("voters {voters}, learners {}", list(config.learners.keys().map(ToString::to_string).collect()))
    };
    match state {
        ConfigState::Stable(config) => names(config),
        ConfigState::Joint { old, new } => format!("from {} to {}", names(old), names(new)),
    }
}
