//! Elections: a pre-vote, then a vote.

use std::collections::BTreeSet;

use crate::cluster_config::Members;
use crate::io::LogLevel;
use crate::message::{Message, PreVoteRequest, PreVoteResponse, RequestVoteRequest, RequestVoteResponse};
use crate::node::Node;
use crate::planted::Bug;
use crate::role::{Ballot, Role};
use crate::types::NodeId;
use crate::wire::PersistentState;

impl Node {
    /// Asks the others whether they would vote for this node, before it disturbs anybody with a new term (dissertation, §9.6).
    pub(crate) fn start_pre_vote(&mut self) {
        let retry_at = self.draw_election_time();
        self.role = Role::PreCandidate(Ballot { votes: BTreeSet::from([self.config.id]), retry_at });
        let (term, last_log) = (self.persistent.current_term, self.log.last());
        self.note(LogLevel::Debug, format!("asks for pre-votes for term {}", term.next()));
        for peer in self.voting_peers().collect::<Vec<_>>() {
            self.send(peer, Message::PreVoteRequest(PreVoteRequest { term, proposed_term: term.next(), last_log }));
        }
        self.count_pre_votes();
    }

    /// An answer to a pre-vote. One that carries a higher term has made this node a follower before it gets here.
    pub(crate) fn on_pre_vote_response(&mut self, from: NodeId, response: &PreVoteResponse) {
        if let Role::PreCandidate(ballot) = &mut self.role
            && response.vote_granted
            && response.proposed_term == self.persistent.current_term.next()
        {
            ballot.votes.insert(from);
            self.count_pre_votes();
        }
    }

    fn count_pre_votes(&mut self) {
        if let Role::PreCandidate(ballot) = &self.role
            && self.are_majority(&ballot.votes)
        {
            self.start_election(false);
        }
    }

    /// Stands for election in a new term (Raft paper, §5.2), perhaps because the leader wants it. Requests and the own vote wait until term
    /// and vote are durable, and with them the log.
    pub(crate) fn start_election(&mut self, by_transfer: bool) {
        let term = self.persistent.current_term.next();
        self.persistent = PersistentState { current_term: term, voted_for: self.config.id };
        self.outbox.hard_state_changed();
        self.counters.elections += 1;
        let retry_at = self.draw_election_time();
        self.role = Role::Candidate(Ballot { votes: BTreeSet::new(), retry_at });
        self.note(LogLevel::Info, format!("stands for election in term {term}"));
        let last_log = self.log.last();
        for peer in self.voting_peers().collect::<Vec<_>>() {
            let request = RequestVoteRequest { term, last_log, by_transfer };
            self.outbox.send_when_durable(peer, Message::RequestVoteRequest(request));
        }
        let own_vote = RequestVoteResponse { term, vote_granted: true };
        self.outbox.send_when_durable(self.config.id, Message::RequestVoteResponse(own_vote));
    }

    /// A vote of this term; those of earlier terms have been dropped before, and one of a later term has made this node a follower.
    pub(crate) fn on_request_vote_response(&mut self, from: NodeId, response: &RequestVoteResponse) {
        if let Role::Candidate(ballot) = &mut self.role
            && (response.vote_granted || self.config.has_bug(Bug::CountRefusals))
        {
            ballot.votes.insert(from);
        }
        if let Role::Candidate(ballot) = &self.role
            && self.are_majority(&ballot.votes)
        {
            self.lead();
        }
    }

    /// Whether those who said yes are a majority by the configuration that holds: the latest in the log, whether or not it is applied or committed.
    fn are_majority(&self, votes: &BTreeSet<NodeId>) -> bool {
        if self.config.has_bug(Bug::ElectByCommittedConfiguration) {
            let committed = self.membership.as_of(self.log.commit_index());
            let are_most = |voters: &Members| voters.keys().filter(|voter| votes.contains(voter)).count() > voters.len() / 2;
            return committed.is_some_and(|state| state.halves().all(|half| are_most(&half.voters)));
        }
        self.membership.is_quorum(|voter| votes.contains(&voter))
    }
}
