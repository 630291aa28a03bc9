//! What nodes tell each other: a vote is given once, and what a message speaks for is durable.

use std::collections::BTreeMap;

use amaters_cluster_core::message::{AppendEntriesResponse, AppendOutcome, Envelope, InstallProgress, InstallSnapshotResponse, Message};
use amaters_cluster_core::{NodeId, Term, Token};

use super::Check;
use super::command::token_of;
use super::coverage::{Coverage, Rare};
use crate::cluster::Cluster;

/// What nodes have said so far.
#[derive(Default)]
pub(super) struct Promises {
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// To which term's leader a proposal was passed on last.
    forwarded: BTreeMap<Token, Term>,
}

impl Promises {
    /// A node has sent a message.
    pub(super) fn check(&mut self, cluster: &Cluster, envelope: &Envelope, coverage: &mut Coverage) -> Check {
        self.count(&envelope.message, coverage);
        let (from, to) = (envelope.from, envelope.to);
        match &envelope.message {
            Message::RequestVoteRequest(request) => self.check_vote(cluster, from, request.term, from),
            Message::RequestVoteResponse(response) if response.vote_granted => self.check_vote(cluster, from, response.term, to),
            Message::AppendEntriesResponse(response) => check_acknowledgement(cluster, from, response),
            Message::InstallSnapshotResponse(response) => check_installed(cluster, from, response),
            _ => Ok(()),
        }
    }

    fn count(&mut self, message: &Message, coverage: &mut Coverage) {
        match message {
            Message::PreVoteResponse(response) => coverage.hit_if(!response.vote_granted, Rare::PreVotesRefused),
            Message::RequestVoteResponse(response) => coverage.hit_if(!response.vote_granted, Rare::VotesRefused),
            Message::InstallSnapshotRequest(request) => coverage.hit_if(request.done, Rare::SnapshotsSent),
            Message::AppendEntriesResponse(response) => {
                coverage.hit_if(matches!(response.outcome, AppendOutcome::Conflict { .. }), Rare::Conflicts);
            }
            Message::ForwardRequest(request) => {
                let payloads = request.proposals.iter().filter_map(|forwarded| forwarded.proposal.as_ref()?.payload());
                for token in payloads.filter_map(|payload| token_of(payload)) {
                    match self.forwarded.insert(token, request.term) {
                        None => coverage.hit(Rare::Forwards),
                        Some(term) if term == request.term => coverage.hit(Rare::ForwardsRepeated),
                        Some(_) => coverage.hit(Rare::ForwardsToLaterLeader),
                    }
                }
            }
            _ => {}
        }
    }

    /// One vote a term, also across restarts (Raft paper, §5.2); and the disk has it before anybody hears of it.
    fn check_vote(&mut self, cluster: &Cluster, voter: NodeId, term: Term, candidate: NodeId) -> Check {
        let before = *self.votes.entry((voter, term)).or_insert(candidate);
        if before != candidate {
            return Err(format!("node {voter} votes for node {candidate} in term {term}, after it voted for node {before}"));
        }
        let durable = cluster.member(voter).disk.durable().state;
        if durable.current_term > term || (durable.current_term == term && durable.voted_for == candidate) {
            return Ok(());
        }
        Err(format!("node {voter} tells of its vote for node {candidate} in term {term}, which it may forget in a crash"))
    }
}

/// Whoever says that it has a snapshot has it on its disk, or all that it holds.
fn check_installed(cluster: &Cluster, node: NodeId, response: &InstallSnapshotResponse) -> Check {
    let member = cluster.member(node);
    let (image, id) = (member.disk.durable(), response.snapshot);
    let in_snapshot = member.vault.newest().is_some_and(|(newest, _)| id.index <= newest.index);
    if response.progress != InstallProgress::Installed || in_snapshot || id.index <= image.last() && image.holds(id) {
        return Ok(());
    }
    Err(format!("node {node} says that it has snapshot {id}, which it may lose in a crash"))
}

/// Whoever acknowledges entries has them on its disk.
fn check_acknowledgement(cluster: &Cluster, node: NodeId, response: &AppendEntriesResponse) -> Check {
    let AppendOutcome::Appended { match_index } = response.outcome else { return Ok(()) };
    let member = cluster.member(node);
    let in_snapshot = member.vault.newest().is_some_and(|(id, _)| match_index <= id.index);
    let is_durable = match_index <= member.disk.durable().last() || in_snapshot;
    // An acknowledgement in an earlier term was true when it was given; a later leader may have had the entries replaced since.
    let late = cluster.node(node).is_some_and(|node| node.persistent_state().current_term > response.term);
    if is_durable || late {
        return Ok(());
    }
    Err(format!("node {node} acknowledges entry {match_index}, which it may lose in a crash"))
}
