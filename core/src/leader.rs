//! What a leader does: takes proposals into the log, replicates it, commits, confirms that it still leads.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::entry::{EntryKind, LogEntry, Origin};
use crate::io::{LogLevel, Rejection};
use crate::log::RaftLog;
use crate::message::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, CommitNotice, ForwardRequest, ForwardResponse, Forwarded, HeartbeatRequest,
    HeartbeatResponse, Message, ReadIndexRequest, ReadIndexResponse, Session,
};
use crate::node::Node;
use crate::planted::Bug;
use crate::progress::Progress;
use crate::proposals::ForwardStreams;
use crate::reads::{ReadRounds, Reader};
use crate::role::{Leader, Role};
use crate::types::{EntryId, Instant, LogIndex, LogTime, NodeId, Term};

/// The longest that new entries wait for an earlier round of replication.
const PACE: Duration = Duration::from_millis(1);

impl Node {
    /// Takes the lead of the current term, and opens it with a no-op (Raft paper, §8).
    pub(crate) fn lead(&mut self) {
        let last = self.log.last().index;
        let peers: BTreeMap<_, _> = (1..).zip(self.peers()).map(|(session, peer)| (peer, Progress::new(last, session, self.now))).collect();
        let last_session = peers.len() as Session;
        self.role = Role::Leader(Leader {
            peers,
            first_index: last.next(),
            led_since: (self.log.time().max(self.sessions.time()), self.now),
            sent_index: LogIndex::NONE,
            sent_at: self.now,
            heartbeat_at: self.now,
            reads: ReadRounds::default(),
            lease_given_up: false,
            streams: ForwardStreams::default(),
            change: None,
            rotation: None,
            last_session,
        });
        self.note(LogLevel::Info, format!("leads term {}", self.persistent.current_term));
        self.append(EntryKind::NoOp);
    }

    /// Puts an entry of the current term at the end of the log.
    pub(crate) fn append(&mut self, kind: EntryKind) {
        let id = EntryId { term: self.persistent.current_term, index: self.log.last().index.next() };
        let kind = self.seal(id, kind);
        self.log.push(LogEntry { id, kind });
        self.log_changed(id.index);
    }

    /// Takes this node's own proposals into the log.
    pub(crate) fn append_own_proposals(&mut self) {
        let run = self.proposals.run();
        loop {
            let given = self.proposals.give_to(self.persistent.current_term, self.config.max_batch_bytes);
            if given.is_empty() {
                return;
            }
            for (sequence, reason) in self.append_proposals(self.config.id, run, given) {
                if let Some(token) = self.proposals.resolve(run, sequence, self.now) {
                    self.reject(token, reason);
                }
            }
        }
    }

    /// The log's time: as much later than the latest in this log as this node has led.
    fn log_time(&self) -> LogTime {
        let Role::Leader(leader) = &self.role else { return self.log.time() };
        leader.led_since.0.after(self.now.since(leader.led_since.1))
    }

    /// Takes proposals into the log; gives those that it refuses.
    fn append_proposals(&mut self, node: NodeId, run: u64, proposals: Vec<Forwarded>) -> Vec<(u64, Rejection)> {
        let mut refused = Vec::new();
        for proposal in proposals {
            let Forwarded { sequence, proposal: Some(proposal) } = proposal else { continue };
            if proposal.size() > self.config.max_command_bytes {
                refused.push((sequence, Rejection::TooLarge));
            } else if self.log.bytes() + proposal.size() > self.config.max_log_bytes {
                refused.push((sequence, Rejection::LogFull));
            } else if self.lacks_space() {
                refused.push((sequence, Rejection::DiskFull));
            } else {
                let time = self.log_time();
                self.append(proposal.into_entry(Origin { node, run, sequence }, time));
            }
        }
        refused
    }

    /// Proposals that another node passes on.
    pub(crate) fn on_forward_request(&mut self, from: NodeId, request: ForwardRequest) {
        // During a transfer the stream stays where it is: the sender repeats what was not taken, or the successor gets it.
        let hands_over = self.hands_over();
        let Role::Leader(leader) = &mut self.role else { return };
        if hands_over {
            return;
        }
        let run = request.run;
        let (new, received) = leader.streams.take(from, request);
        let repeated = new.is_empty();
        let refused = self.append_proposals(from, run, new);
        // As a rule the sender learns that its proposals came when they are applied.
        if refused.is_empty() && !repeated {
            return;
        }
        let response = ForwardResponse { term: self.persistent.current_term, run, received, refused };
        self.send(from, Message::ForwardResponse(response));
    }

    /// Whether new entries may leave for the peers and for the own disk, both at once: in rounds, so that what gathers during one shares an envelope
    /// and a write of each disk in the next. A round ends when it is committed; where that takes longer than [`PACE`], the next one does not wait.
    pub(crate) fn round_is_due(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return true };
        leader.peers.is_empty() || self.log.commit_index() >= leader.sent_index || self.now.since(leader.sent_at) >= PACE
    }

    /// Sends each peer what is due: entries, a heartbeat, or news of the commit index.
    pub(crate) fn replicate(&mut self, round: bool) {
        let (term, key) = (self.persistent.current_term, self.asked_key());
        let Self { role: Role::Leader(leader), log, config, mail, detector, .. } = self else { return };
        let opened = log.commit_index() >= leader.first_index || config.has_bug(Bug::ReadBeforeFirstCommit);
        let round_begins = opened && leader.reads.begin(log.commit_index());
        let heartbeat_due = round_begins || self.now >= leader.heartbeat_at;
        if heartbeat_due {
            leader.heartbeat_at = self.now + config.heartbeat_interval;
        }
        for (&peer, progress) in &mut leader.peers {
            // In this order: where requests were lost, it is the first that finds out from where on they are due again.
            while progress.may_send(self.now, round, log.last().index, config.max_inflight, config.election_timeout_min)
                && !progress.needs_snapshot(log.base().index)
            {
                let mut request = entries_for(progress, log, term, config.max_batch_bytes);
                if config.has_bug(Bug::ForgetBaseTerm) && request.prev_log.index == log.base().index {
                    request.prev_log.term = Term::NONE;
                }
                progress.sent(self.now, last_index(&request), request.leader_commit);
                if last_index(&request) > leader.sent_index {
                    leader.sent_index = last_index(&request);
                    leader.sent_at = self.now;
                }
                mail.send(peer, Message::AppendEntriesRequest(request));
            }
            let commit_index = log.commit_index().min(progress.match_index);
            if heartbeat_due {
                let round = leader.reads.number();
                let session = progress.session;
                let sent_at = config.lease_reads.then_some(self.now);
                let (failed, doubtful) = (detector.failed(), detector.doubtful(self.now));
                mail.send(
                    peer,
                    Message::HeartbeatRequest(HeartbeatRequest { term, session, commit_index, round, sent_at, failed, doubtful, key }),
                );
            } else if commit_index > progress.commit_sent {
                mail.send(peer, Message::CommitNotice(CommitNotice { term, commit_index }));
            }
            progress.commit_sent = progress.commit_sent.max(commit_index);
        }
        self.answer_read_index();
        self.end_farewells();
    }

    /// A peer's answer to entries.
    pub(crate) fn on_append_entries_response(&mut self, from: NodeId, response: &AppendEntriesResponse) {
        let last = self.log.last().index;
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&from) else { return };
        if response.session != progress.session && !self.config.has_bug(Bug::AnswersOfEarlierLives) {
            return;
        }
        progress.heard_at = now;
        if !self.accept_repair(from, response.repairing) {
            return;
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&from) else { return };
        match response.outcome {
            AppendOutcome::Appended { match_index } if match_index > last => {
                self.refuse(from, &format!("it acknowledges entry {match_index}, but this leader's log ends at {last}"));
            }
            AppendOutcome::Appended { match_index } => {
                progress.appended(now, match_index);
                progress.catch_up.reached(progress.match_index, last, now, self.config.election_timeout_min);
            }
            AppendOutcome::Conflict { rejected, conflict, first_of_term } => {
                progress.conflicted(now, &self.log, rejected, conflict, first_of_term)
            }
        }
    }

    /// A peer's answer to a heartbeat.
    pub(crate) fn on_heartbeat_response(&mut self, from: NodeId, response: &HeartbeatResponse) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        let latest = leader.reads.number();
        if leader.peers.get(&from).is_none_or(|progress| progress.session != response.session) {
            return;
        }
        if response.round > latest {
            return self.refuse(from, &format!("it confirms round {}, but the latest is {latest}", response.round));
        }
        if response.promise.is_some_and(|promise| promise.since > now) {
            return self.refuse(from, "it answers a heartbeat that is still to leave");
        }
        let lease_end = response.promise.map_or(Instant::default(), |promise| self.lease_end(promise));
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&from) else { return };
        progress.alive(now, self.config.heartbeat_interval);
        progress.disk_full = Some(response.disk_full);
        if !self.accept_repair(from, response.repairing) || response.repairing {
            return;
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&from) else { return };
        progress.round = progress.round.max(response.round);
        progress.held_version = response.key;
        progress.lease_end = progress.lease_end.max(lease_end);
    }

    /// Commits what a majority holds durably, itself included: but only up to an entry of its own term (Raft paper, §5.4.2).
    pub(crate) fn advance_commit_index(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let durable = |voter: NodeId| leader.peers.get(&voter).map_or(self.outbox.durable_index(), Progress::counted_match);
        let reached = self.membership.reached_by_quorum(durable);
        let own_term = self.log.term_at(reached) == Some(self.persistent.current_term);
        if own_term || self.config.has_bug(Bug::CommitEarlierTerms) {
            self.log.commit_to(reached);
        }
    }

    /// A question for the index that reads must wait for.
    pub(crate) fn on_read_index_request(&mut self, from: NodeId, request: &ReadIndexRequest) {
        self.on_repair_question(from, request.id);
        if let Role::Leader(leader) = &mut self.role {
            leader.reads.add(Reader { node: from, id: request.id });
        }
    }

    /// Answers those whose round a majority has confirmed.
    pub(crate) fn answer_read_index(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let unasked = self.config.has_bug(Bug::ReadWithoutRound);
        let confirmed = |voter: NodeId| leader.peers.get(&voter).filter(|_| !unasked).map_or(u64::MAX, |progress| progress.round);
        if let Some((read_index, readers)) = leader.reads.finish(self.membership.reached_by_quorum(confirmed)) {
            self.answer_readers(read_index, readers);
        }
    }

    pub(crate) fn answer_readers(&mut self, read_index: LogIndex, readers: Vec<Reader>) {
        let term = self.persistent.current_term;
        for reader in readers {
            if reader.node == self.config.id {
                self.reads.answered(reader.id, read_index);
            } else {
                self.send(reader.node, Message::ReadIndexResponse(ReadIndexResponse { term, id: reader.id, read_index }));
            }
        }
    }

    /// Steps down when a majority has been silent for an election timeout (dissertation, §6.2): clients must not wait for a leader that can't commit.
    pub(crate) fn check_quorum(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let heard = |voter: NodeId| {
            let counts = |progress: &Progress| !progress.repairing && self.now.since(progress.heard_at) < self.config.election_timeout_max;
            leader.peers.get(&voter).is_none_or(counts)
        };
        if !self.membership.is_quorum(heard) {
            self.note(LogLevel::Warn, format!("no majority was heard of for {} ms", self.config.election_timeout_max.as_millis()));
            self.follow(NodeId::NONE);
        }
    }
}

/// The request that a peer is due next: entries from `next_index` on.
fn entries_for(progress: &Progress, log: &RaftLog, term: Term, max_bytes: usize) -> AppendEntriesRequest {
    let index = progress.next_index.previous();
    let prev_term = log.term_at(index).expect("next_index is within the log, or one beyond");
    let entries = log.batch(progress.next_index, max_bytes);
    AppendEntriesRequest {
        term,
        session: progress.session,
        prev_log: EntryId { term: prev_term, index },
        leader_commit: log.commit_index(),
        chain: log.span(index, entries.last().map_or(index, |entry| entry.id.index)),
        entries,
    }
}

/// The last index that a request speaks of.
fn last_index(request: &AppendEntriesRequest) -> LogIndex {
    request.entries.last().map_or(request.prev_log.index, |entry| entry.id.index)
}
