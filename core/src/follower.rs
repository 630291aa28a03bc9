//! What a node does with a leader's requests, and with those who would become leader.

use crate::chain::ChainSpan;
use crate::io::LogLevel;
use crate::log::LogConflict;
use crate::message::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, HeartbeatRequest, HeartbeatResponse, Message, PreVoteRequest,
    PreVoteResponse, RequestVoteRequest, RequestVoteResponse,
};
use crate::node::Node;
use crate::planted::Bug;
use crate::role::Role;
use crate::sealing::KeyVersion;
use crate::types::{EntryId, LogIndex, NodeId};

impl Node {
    /// AppendEntries, receiver implementation (Raft paper, figure 2).
    pub(crate) fn on_append_entries_request(&mut self, from: NodeId, mut request: AppendEntriesRequest) {
        if !self.accept_leader(from) {
            return;
        }
        self.skip_what_a_snapshot_holds(&mut request);
        let chain = request.chain;
        let session = request.session;
        let outcome = if let Some(match_index) = self.held_by_snapshot(&request) {
            AppendOutcome::Appended { match_index }
        } else if self.log.contains(request.prev_log) {
            let mut match_index = LogIndex(request.prev_log.index.0 + request.entries.len() as u64);
            if self.config.has_bug(Bug::TruncateAlways) {
                let from = request.prev_log.index.max(self.log.commit_index()).next();
                self.log.truncate_from(from);
                self.membership_changes_from(from);
            }
            let links = match self.log.verify(request.prev_log.index, &request.entries, chain.as_ref()) {
                Ok(links) => links,
                Err(error) => return self.refuse_entries(from, &error),
            };
            match self.log.splice(request.prev_log, request.entries, &links) {
                Ok(Some(first)) => self.log_changed(first),
                Ok(None) => {}
                Err(error @ LogConflict::Malformed { .. }) => return self.refuse(from, &error.to_string()),
                Err(error @ LogConflict::Committed { .. }) => {
                    return self.complain(from, LogLevel::Error, &format!("from node {from}: {error}"));
                }
            }
            if self.config.has_bug(Bug::AckNamesOwnLast) {
                match_index = self.log.last().index;
            }
            // What lies beyond this request may be a dead leader's: neither committed nor acknowledged by it.
            self.log.commit_to(request.leader_commit.min(match_index));
            self.repair_verified(match_index);
            AppendOutcome::Appended { match_index }
        } else {
            self.conflict_at(request.prev_log)
        };
        let response = AppendEntriesResponse { term: self.persistent.current_term, session, outcome, repairing: self.is_repairing() };
        self.outbox.send_when_durable(from, Message::AppendEntriesResponse(response));
    }

    /// Entries up to this log's base are committed: by leader completeness (Raft paper, §5.4) the leader has the same ones. What is left of the request
    /// begins at the base, if it reaches that far.
    fn skip_what_a_snapshot_holds(&self, request: &mut AppendEntriesRequest) {
        let base = self.log.base();
        let last = LogIndex(request.prev_log.index.0 + request.entries.len() as u64);
        if request.prev_log.index < base.index && last >= base.index {
            request.entries.retain(|entry| entry.id.index > base.index);
            request.prev_log = base;
            request.chain = request.chain.zip(self.log.point_at(base.index)).map(|(span, before)| ChainSpan { before, ..span });
        }
    }

    /// The last entry of a request, if all of it lies before the log's base.
    fn held_by_snapshot(&self, request: &AppendEntriesRequest) -> Option<LogIndex> {
        let last = LogIndex(request.prev_log.index.0 + request.entries.len() as u64);
        (last < self.log.base().index).then_some(last)
    }

    fn conflict_at(&self, prev_log: EntryId) -> AppendOutcome {
        let index = prev_log.index.min(self.log.last().index);
        let term = self.log.term_at(index).unwrap_or_default();
        AppendOutcome::Conflict {
            rejected: prev_log.index,
            conflict: EntryId { index, term },
            first_of_term: self.log.first_of_term_at(index),
        }
    }

    /// A leader's sign of life.
    pub(crate) fn on_heartbeat_request(&mut self, from: NodeId, request: &HeartbeatRequest) {
        if self.on_commit_news(from, request.commit_index) {
            self.detector.accept(&request.failed, &request.doubtful);
            if self.config.has_bug(Bug::AckNamesOwnLast) {
                let outcome = AppendOutcome::Appended { match_index: self.log.last().index };
                let term = self.persistent.current_term;
                let response = AppendEntriesResponse { term, session: request.session, outcome, repairing: false };
                self.outbox.send_when_durable(from, Message::AppendEntriesResponse(response));
            }
            let promise = self.promise(request);
            let (term, repairing, key) = (self.persistent.current_term, self.is_repairing(), self.held_version(from, request.key));
            let disk_full = self.disk_is_full();
            let response = HeartbeatResponse { term, session: request.session, round: request.round, promise, repairing, disk_full, key };
            self.send(from, Message::HeartbeatResponse(response));
        }
    }

    /// A leader tells what is committed of the entries that this node has acknowledged to it. Whether that makes sense.
    pub(crate) fn on_commit_news(&mut self, from: NodeId, commit_index: LogIndex) -> bool {
        if !self.accept_leader(from) {
            return false;
        }
        if self.is_repairing() {
            self.commit_as_verified(commit_index);
            return true;
        }
        let last = self.log.last().index;
        if commit_index > last {
            let what = format!("node {from} says that this node holds entry {commit_index}, but its log ends at {last}");
            let advice = "was its data directory replaced? A node without its data may undo what it has acknowledged: stop it, and restore the directory";
            self.complain(from, LogLevel::Error, &format!("{what}: {advice}"));
            return false;
        }
        self.log.commit_to(commit_index);
        true
    }

    /// A message of the current term's leader: follows it. There is one leader a term; a second one is refused.
    pub(crate) fn accept_leader(&mut self, from: NodeId) -> bool {
        let known = self.leader();
        if !known.is_none() && known != from {
            let term = self.persistent.current_term;
            self.complain(
                from,
                LogLevel::Error,
                &format!("nodes {known} and {from} both claim to lead term {term}: node {from} is refused"),
            );
            return false;
        }
        if known != from {
            self.follow(from);
        }
        self.standing.told_to_leave = LogIndex::NONE; // a leader has something for this node
        let election_at = self.draw_election_time();
        if let Role::Follower(follower) = &mut self.role {
            follower.heard_at = self.now;
            follower.election_at = election_at;
        }
        true
    }

    /// RequestVote, receiver implementation (Raft paper, figure 2 and §5.4.1).
    pub(crate) fn on_request_vote_request(&mut self, from: NodeId, request: &RequestVoteRequest) {
        let voted_for = self.persistent.voted_for;
        let again = voted_for == self.config.id && self.config.has_bug(Bug::CandidateVotesAgain);
        let free = voted_for.is_none() || voted_for == from || again;
        let vote_granted = self.may_vote() && free && self.leader().is_none() && request.last_log >= self.log.last();
        if vote_granted {
            if self.persistent.voted_for.is_none() {
                self.persistent.voted_for = from;
                self.outbox.hard_state_changed();
            }
            self.follow(NodeId::NONE);
        }
        let response = RequestVoteResponse { term: self.persistent.current_term, vote_granted };
        self.outbox.send_when_durable(from, Message::RequestVoteResponse(response));
    }

    /// A pre-vote (dissertation, §9.6): would this node vote for the sender? Not while it hears from a leader, and not if it is one (§4.2.3).
    pub(crate) fn on_pre_vote_request(&mut self, from: NodeId, request: &PreVoteRequest) {
        let current = self.persistent.current_term;
        let vote_granted = self.may_vote()
            && (!self.hears_from_leader() || self.config.has_bug(Bug::PreVoteUnderLeader))
            && request.proposed_term > current
            && request.last_log >= self.log.last();
        let response = PreVoteResponse { term: current, proposed_term: request.proposed_term, vote_granted };
        self.send(from, Message::PreVoteResponse(response));
    }

    /// Whether the node leads, or has heard from a leader within the shortest election timeout: then it helps nobody to take over.
    pub(crate) fn hears_from_leader(&self) -> bool {
        match &self.role {
            Role::Follower(follower) => !follower.leader.is_none() && self.now.since(follower.heard_at) < self.config.election_timeout_min,
            Role::PreCandidate(_) | Role::Candidate(_) => false,
            Role::Leader(_) => true,
        }
    }

    /// A message of an earlier term: its sender learns of the current one, where it waits for an answer or believes that it leads.
    pub(crate) fn answer_earlier_term(&mut self, from: NodeId, message: &Message) {
        let term = self.persistent.current_term;
        let answer = match message {
            Message::RequestVoteRequest(_) => Message::RequestVoteResponse(RequestVoteResponse { term, vote_granted: false }),
            _ if message.is_from_leader() => Message::HeartbeatResponse(HeartbeatResponse {
                term,
                session: 0,
                round: 0,
                promise: None,
                repairing: false,
                key: KeyVersion::NONE,
                disk_full: false,
            }),
            // Others are late: whoever sent them has moved on, or will learn of the term by the next heartbeat.
            _ => return,
        };
        // It speaks for the term, which must not be forgotten again.
        self.outbox.send_when_durable(from, answer);
    }
}
