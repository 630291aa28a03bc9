//! Leadership transfer (dissertation, §3.10): a leader that is to go sees to it that its successor has everything, and tells it to stand at once.
//!
//! While that goes on, proposals wait: what has not been taken into the log when the successor leads, it gets. A transfer ends after an election
//! timeout at the latest, and then the leader serves on as before.

use crate::io::{LogLevel, Rejection};
use crate::message::{Message, TimeoutNowRequest};
use crate::node::Node;
use crate::planted::Bug;
use crate::role::{Leader, Role};
use crate::types::{Instant, LogIndex, NodeId, Term, Token};

/// A transfer that this node began as a leader. It outlives that role: who asked wants to know who leads after it.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    token: Token,
    /// The successor.
    to: NodeId,
    /// The term that is given away.
    term: Term,
    give_up_at: Instant,
    /// When the successor was last told to stand; none while it lacks something.
    told_at: Option<Instant>,
}

impl Node {
    /// Begins a transfer to a peer, or to the best one.
    pub(crate) fn transfer(&mut self, token: Token, to: NodeId) {
        if to == self.config.id && self.leader() == to {
            return self.done.push(token);
        }
        match self.successor(to) {
            Ok(to) => self.begin_transfer(token, to),
            Err(reason) => self.reject(token, reason),
        }
    }

    /// Begins a transfer to a peer; without a token, by this node's own wish.
    pub(crate) fn begin_transfer(&mut self, token: Token, to: NodeId) {
        let (term, give_up_at) = (self.persistent.current_term, self.now + self.config.election_timeout_max);
        self.counters.transfers += 1;
        self.note(LogLevel::Info, format!("hands over to node {to} in term {term}"));
        self.transfer = Some(Transfer { token, to, term, give_up_at, told_at: None });
    }

    /// The peer that is wanted, if it may succeed this leader; where none is named, the one with the longest log among those that are heard of, and before all
    /// others one whose disk is not full.
    pub(crate) fn successor(&self, wanted: NodeId) -> Result<NodeId, Rejection> {
        let Role::Leader(leader) = &self.role else { return Err(Rejection::NotLeader) };
        if self.transfer.is_some() {
            return Err(Rejection::TransferUnderWay);
        }
        let may_lead = |node: NodeId| self.configuration().latest().voters.contains_key(&node);
        if !wanted.is_none() && !may_lead(wanted) {
            return Err(Rejection::UnknownTarget);
        }
        let heard = (leader.peers.iter())
            .filter(|(_, progress)| self.now.since(progress.heard_at) < self.config.election_timeout_min && !progress.repairing);
        let candidates = heard.filter(|(id, _)| if wanted.is_none() { may_lead(**id) } else { **id == wanted });
        let best = candidates.max_by_key(|(_, progress)| (progress.disk_full != Some(true), progress.match_index, progress.heard_at));
        best.map(|(id, _)| *id).ok_or(Rejection::TargetSilent)
    }

    /// The node that is to lead instead of this one, while a transfer is under way.
    pub(crate) fn transfer_to(&self) -> NodeId {
        self.transfer.as_ref().map_or(NodeId::NONE, |transfer| transfer.to)
    }

    /// Whether this node leads and is about to hand over: then it takes nothing more into its log.
    pub(crate) fn hands_over(&self) -> bool {
        matches!(self.role, Role::Leader(_)) && (self.leaves() || self.is_transferring())
    }

    /// Whether this node leads and was asked to hand over.
    pub(crate) fn is_transferring(&self) -> bool {
        matches!(self.role, Role::Leader(_)) && self.transfer.as_ref().is_some_and(|it| it.term == self.persistent.current_term)
    }

    /// Tells the successor to stand once it has everything, and ends the transfer when it leads, or when it has had its time.
    pub(crate) fn advance_transfer(&mut self) {
        let leader = self.leader();
        let Some(transfer) = &mut self.transfer else { return };
        let overdue = self.now >= transfer.give_up_at;
        if let Role::Leader(leader) = &mut self.role
            && !overdue
            && transfer.term == self.persistent.current_term
            && transfer.told_at.is_none_or(|told| self.now.since(told) >= self.config.heartbeat_interval)
            && (has_everything(leader, transfer.to, self.log.last().index)
                || self.config.has_bug(Bug::HandOverBeforeDurable) && was_sent_everything(leader, transfer.to, self.log.last().index))
        {
            transfer.told_at = Some(self.now);
            leader.lease_given_up = !self.config.has_bug(Bug::KeepLeaseInTransfer);
            self.mail.send(transfer.to, Message::TimeoutNowRequest(TimeoutNowRequest { term: transfer.term }));
        }
        let (token, to) = (transfer.token, transfer.to);
        let leader_after = if self.persistent.current_term > transfer.term { leader } else { NodeId::NONE };
        if leader_after == to {
            self.transfer = None;
            if !token.is_none() {
                self.done.push(token);
            }
        } else if overdue || !leader_after.is_none() {
            self.transfer = None;
            self.note(LogLevel::Warn, format!("node {to} did not take over"));
            self.transfer_failed(token);
        }
    }

    fn transfer_failed(&mut self, token: Token) {
        if !token.is_none() {
            self.reject(token, Rejection::TransferFailed);
        } else if matches!(self.role, Role::Leader(_)) && self.disk_is_stalled() {
            self.follow(NodeId::NONE); // it wanted to go, and nobody came: others see to it themselves
        }
    }

    /// The leader wants this node to lead: it stands at once, without asking whether it could win (dissertation, §3.10).
    pub(crate) fn on_timeout_now_request(&mut self, from: NodeId) {
        if self.accept_leader(from) && self.may_campaign() && !self.disk_is_stalled() {
            self.start_election(true);
        }
    }
}

/// Whether a peer holds all of the leader's log, durably: it could not win otherwise (Raft paper, §5.4.1).
fn has_everything(leader: &Leader, peer: NodeId, last: LogIndex) -> bool {
    leader.peers.get(&peer).is_some_and(|progress| progress.match_index == last)
}

/// Whether everything is on its way to a peer: no reason to hand over to it.
fn was_sent_everything(leader: &Leader, peer: NodeId, last: LogIndex) -> bool {
    leader.peers.get(&peer).is_some_and(|progress| progress.next_index > last)
}
