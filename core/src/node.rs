//! The node: one entry point, the rule of terms, and one match for each kind of input.
//!
//! What each role does with a message is in [`crate::follower`], [`crate::candidate`] and [`crate::leader`].

use std::time::Duration;

use thiserror::Error;

use crate::chain::{ChainError, ChainPoint, ChainSpan};
use crate::complaints::Complaints;
use crate::config::{Config, ConfigError};
use crate::detector::FailureDetector;
use crate::disk_watch::DiskSpace;
use crate::encryption::Sealing;
use crate::entry::{LogEntry, Proposal};
use crate::io::{Effect, Input, LogLevel, Operation, Rejected, Rejection};
use crate::log::{RaftLog, RecoverError};
use crate::members::Standing;
use crate::membership::Membership;
use crate::message::{Envelope, ForwardResponse, Message};
use crate::outbox::{Mail, Outbox};
use crate::planted::Bug;
use crate::proposals::Proposals;
use crate::reads::Reads;
use crate::repair::Repair;
use crate::rng::Rng;
use crate::role::{Follower, Role};
use crate::sealing::MissingKey;
use crate::sessions::Sessions;
use crate::snapshot::{SnapshotError, Snapshots};
use crate::status::{Counters, NodeState};
use crate::transfer::Transfer;
use crate::types::{EntryId, Instant, LogIndex, NodeId, Term, Ticket, Token};
use crate::wire::{self, PersistentState, WireError};

/// A Raft node without IO, clock or randomness of its own: equal inputs give equal effects.
///
/// Life: [`Node::new`], [`Node::restore`] and [`Node::remember`] for snapshots, [`Node::recover`] for what else storage kept, [`Node::start`], then [`Node::step`] for each input.
#[derive(Debug)]
#[cfg_attr(feature = "model-checking", derive(Clone))]
pub struct Node {
    pub(crate) config: Config,
    pub(crate) membership: Membership,
    pub(crate) standing: Standing,
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) persistent: PersistentState,
    pub(crate) log: RaftLog,
    pub(crate) role: Role,
    pub(crate) outbox: Outbox,
    pub(crate) mail: Mail,
    pub(crate) proposals: Proposals,
    pub(crate) reads: Reads,
    pub(crate) detector: FailureDetector,
    /// The leader that was reported last, and its term.
    pub(crate) reported_leader: (Term, NodeId),
    pub(crate) counters: Counters,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) disk_space: DiskSpace,
    /// Until when this node helps nobody to lead.
    pub(crate) promised_until: Instant,
    pub(crate) done: Vec<Token>,
    pub(crate) complaints: Complaints,
    pub(crate) sessions: Sessions,
    pub(crate) snapshots: Snapshots,
    /// Set while this node repairs itself.
    pub(crate) repair: Option<Repair>,
    pub(crate) applied_term: Term,
    pub(crate) rejected: Vec<Rejected>,
    /// Set if the log is sealed.
    pub(crate) sealing: Option<Sealing>,
    /// Up to where the journal could not be read for want of a key, and which.
    unreadable: Option<(LogIndex, MissingKey)>,
    /// Why this node does nothing any more.
    pub(crate) diverged: Option<String>,
}

/// How far ahead of a node's own term a message may be. Terms grow by one for each election: whatever is farther is a fault, and would use up the
/// room that elections need.
const MAX_TERM_LEAP: u64 = 1 << 32;

/// A journal that can't be this node's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JournalError {
    /// An operation can't be read.
    #[error("the journal can't be read")]
    Malformed(#[from] WireError),
    /// Operations don't fit together.
    #[error("the journal holds {got} where {expected} was expected: it is not the whole journal of one node, in its order")]
    Incoherent {
        /// What was found.
        got: String,
        /// What was expected.
        expected: String,
    },
    /// The snapshot can't be read.
    #[error("the snapshot can't be read")]
    Snapshot(#[from] SnapshotError),
    /// A version of the key is needed that is not there.
    #[error("the journal can't be read without its keys: {0}")]
    MissingKey(#[from] MissingKey),
    /// The journal does not fit the chain through it, or that of the snapshot.
    #[error("the journal is not what was written: {0}")]
    Chain(ChainError),
    /// The journal and the snapshot leave a gap.
    #[error("there is {got} where {expected} was expected: entries between the two are lost")]
    Gap {
        /// What was found.
        got: String,
        /// What was expected.
        expected: String,
    },
}

impl From<ChainError> for JournalError {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::MissingKey(missing) => Self::MissingKey(missing),
            other => Self::Chain(other),
        }
    }
}

impl Node {
    /// A node with an empty log, in term 0.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.validate()?;
        let (sealing, log) = Sealing::new(&config)?;
        let mut rng = Rng::new(config.seed);
        let run = rng.next();
        Ok(Self {
            membership: Membership::new(config.initial_members(), config.bug()),
            standing: Standing::default(),
            now: Instant::default(),
            rng,
            persistent: PersistentState::default(),
            log,
            role: Role::Follower(Follower { leader: NodeId::NONE, heard_at: Instant::default(), election_at: Instant(u64::MAX) }),
            outbox: Outbox::new(LogIndex::NONE),
            mail: Mail::new(config.group, config.id),
            proposals: Proposals::new(run),
            reads: Reads::new(run),
            detector: Self::new_detector(&config, Instant::default()),
            reported_leader: (Term::NONE, NodeId::NONE),
            counters: Counters::default(),
            transfer: None,
            disk_space: DiskSpace::default(),
            promised_until: Instant::default(),
            done: Vec::new(),
            complaints: Complaints::default(),
            sessions: Sessions::default(),
            snapshots: Snapshots::default(),
            repair: config.repair.then(Repair::default),
            applied_term: Term::NONE,
            rejected: Vec::new(),
            sealing,
            unreadable: None,
            diverged: None,
            config,
        })
    }

    /// Takes back an operation that storage kept, in the order of the journal. Before [`Node::start`] alone, and after [`Node::restore`].
    ///
    /// # Errors
    /// The journal can't be this node's.
    pub fn recover(&mut self, operation: Operation) -> Result<(), JournalError> {
        self.expect_whole_snapshot()?;
        match operation {
            Operation::HardState(bytes) => {
                let state = wire::decode_hard_state(&bytes)?;
                expect(state.current_term >= self.persistent.current_term, || {
                    (format!("term {}", state.current_term), format!("at least term {}", self.persistent.current_term))
                })?;
                self.persistent = state;
            }
            Operation::Append { first, count, entries } => {
                let (entries, chain) = wire::decode_entries(first, count, &entries)?;
                let newest = entries.last().map_or(Term::NONE, |entry| entry.id.term);
                expect(newest <= self.persistent.current_term, || {
                    (format!("an entry of term {newest}"), format!("at most term {}", self.persistent.current_term))
                })?;
                let from = self.recover_entries(entries, chain)?;
                self.membership_changes_from(from);
            }
            Operation::Compact { first, base } => {
                let (base, point) = wire::decode_base(first, &base)?;
                self.log.rebase(base, point)?;
                self.unreadable.take_if(|(index, _)| *index <= base.index);
                if let (Some(sealing), Some(point)) = (&mut self.sealing, point) {
                    sealing.oldest_needed = point.version;
                }
                self.membership_changes_from(self.log.last().index.next());
            }
        }
        Ok(())
    }

    /// Entries of the journal. Storage may still have some from before the log's beginning, whose key was retired: they are passed over, and what follows has to say that they
    /// are not needed.
    fn recover_entries(&mut self, entries: Vec<LogEntry>, chain: Option<ChainSpan>) -> Result<LogIndex, JournalError> {
        let (Some(first), Some(last)) = (entries.first().map(|entry| entry.id), entries.last().map(|entry| entry.id)) else {
            return Ok(self.log.last().index.next());
        };
        if let (Some((unreadable, _)), Some(span)) = (&mut self.unreadable, &chain)
            && first.index <= *unreadable
        {
            *unreadable = first.index.previous();
            self.log.begin_on_trust(first.index, span.before);
        }
        let version = chain.map(|span| entries.iter().fold(span.before.version, |version, entry| entry.switch().unwrap_or(version)));
        match self.log.recover(entries, chain.as_ref()) {
            Ok(from) => Ok(from),
            Err(RecoverError::Log(error)) => {
                Err(JournalError::Incoherent { got: error.to_string(), expected: "consecutive entries".to_owned() })
            }
            Err(RecoverError::Chain(ChainError::MissingKey(missing))) => {
                if let Some((span, version)) = chain.zip(version) {
                    self.log.pass_over(last, ChainPoint { link: span.last, version });
                }
                self.unreadable = Some((last.index, missing));
                Ok(last.index.next())
            }
            Err(RecoverError::Chain(error)) => Err(error.into()),
        }
    }

    /// Ends the recovery: from here on the node takes part. It waits for a leader, unless it is alone.
    ///
    /// # Errors
    /// What storage gave back is not all of it: entries are missing between the snapshot and the journal.
    pub fn start(&mut self, now: Instant) -> Result<(), JournalError> {
        self.now = now;
        self.outbox = Outbox::new(self.log.last().index);
        if let Some((_, missing)) = self.unreadable.take() {
            return Err(missing.into()); // what could not be read leaves a gap, which is not the trouble
        }
        self.join_snapshot_and_journal()?;
        self.expect_key_in_use()?;
        self.detector = Self::new_detector(&self.config, now);
        self.renew_promises();
        self.follow(NodeId::NONE);
        self.watch_peers();
        let alone = self.membership.voters() == [self.config.id];
        if let Role::Follower(follower) = &mut self.role
            && alone
        {
            follower.election_at = now;
        }
        Ok(())
    }

    /// Whether the key is there that the next entry needs. A node without a log that waits for one may join a cluster whose first key was retired.
    fn expect_key_in_use(&self) -> Result<(), JournalError> {
        let may_stand = self.membership.voters().contains(&self.config.id) && !self.is_repairing();
        if self.log.last() == EntryId::default() && !may_stand {
            return Ok(());
        }
        let (Some(sealing), Some(end)) = (&self.sealing, self.log.chain_end()) else { return Ok(()) };
        Ok(sealing.expect_key(end.version)?)
    }

    /// Takes one input. What follows from it is in the effects of the next [`Input::Tick`].
    pub fn step(&mut self, now: Instant, input: Input, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        if let Some(reason) = &self.diverged {
            if input == Input::Tick {
                effects.push(Effect::Diverged { reason: reason.clone() });
            }
            return;
        }
        match input {
            Input::Tick => self.tick(effects),
            Input::Receive { sender, envelope } => self.receive(sender, &envelope),
            Input::Propose { token, command, session: None } => self.propose(token, Proposal::Command(command)),
            Input::Propose { token, command, session: Some(stamp) } => {
                self.propose(token, Proposal::SessionCommand { stamp, payload: command });
            }
            Input::Session { token, change } => self.propose(token, Proposal::Session(change)),
            Input::Applied { results } => self.take_results(results),
            Input::Read { token } => self.read(token),
            Input::Transfer { token, to } => self.transfer(token, to),
            Input::ChangeMembership { token, change } => self.change_membership(token, change),
            Input::RotateKey { token, version } => self.rotate_key(token, version),
            Input::KeysLoaded { keys } => self.keys_loaded(&keys),
            Input::Persisted { ticket } => self.persisted(ticket),
            Input::DiskSpace { full } => self.take_disk_space(full),
            Input::TakeSnapshot { token } => self.take_snapshot(token),
            Input::StateRead { piece, last } => self.state_read(&piece, last),
            Input::SnapshotWritten { id, end } => self.snapshot_written(id, end),
            Input::SnapshotStored { id } => self.snapshot_stored(id),
            Input::SnapshotRead { id, reader, offset, bytes } => self.snapshot_read(id, reader, offset, bytes),
            Input::SnapshotFailed { id, reason } => self.snapshot_failed(id, &reason),
        }
    }

    /// The log, to look at.
    #[must_use]
    pub fn log(&self) -> &RaftLog {
        &self.log
    }

    /// The clients' sessions.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Term and vote.
    #[must_use]
    pub fn persistent_state(&self) -> PersistentState {
        self.persistent
    }

    /// What the node is.
    #[must_use]
    pub fn state(&self) -> NodeState {
        match &self.role {
            Role::Follower(_) if self.may_campaign() => NodeState::Follower,
            Role::Follower(_) => NodeState::Learner,
            Role::PreCandidate(_) => NodeState::PreCandidate,
            Role::Candidate(_) => NodeState::Candidate,
            Role::Leader(_) => NodeState::Leader,
        }
    }

    /// The leader of the current term, as far as the node knows; or none.
    #[must_use]
    pub fn leader(&self) -> NodeId {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::Leader(_) => self.config.id,
            Role::PreCandidate(_) | Role::Candidate(_) => NodeId::NONE,
        }
    }
}

// Inputs.
impl Node {
    fn receive(&mut self, sender: NodeId, bytes: &[u8]) {
        match wire::decode_envelope(bytes) {
            Ok(envelope) if envelope.from != sender => self.refuse(sender, &format!("it names node {} as its sender", envelope.from)),
            Ok(Envelope { to, .. }) if to != self.config.id => self.refuse(sender, &format!("it is for node {to}")),
            Ok(Envelope { group, .. }) if group != self.config.group => self.refuse(sender, &format!("it is for group {group}")),
            Ok(_) if sender == self.config.id => self.refuse(sender, "its sender is this node"),
            Ok(envelope) if self.leaps(&envelope.message) => {
                self.refuse(sender, &format!("its term is more than {MAX_TERM_LEAP} ahead of this node's"));
            }
            Ok(envelope) if !self.knows(sender) && !self.listens_to_stranger(sender, &envelope.message) => {
                self.turn_away(sender, &envelope.message);
            }
            Ok(envelope) => {
                self.detector.heard(sender, self.now);
                self.handle(sender, envelope.message);
            }
            Err(error) => self.refuse(sender, &error.to_string()),
        }
    }

    /// Counts an envelope that makes no sense, and says so.
    pub(crate) fn refuse(&mut self, sender: NodeId, reason: &str) {
        self.counters.refused_envelopes += 1;
        self.complain(sender, LogLevel::Warn, &format!("an envelope from node {sender} was refused: {reason}"));
    }

    /// Says that a peer does something wrong: a few times a second, however often it does.
    pub(crate) fn complain(&mut self, peer: NodeId, level: LogLevel, what: &str) {
        let member = if self.membership.contains(peer) { peer } else { NodeId::NONE };
        if let Some(left_out) = self.complaints.admit(member, self.now) {
            let note = if left_out == 0 { String::new() } else { format!(" ({left_out} lines before this one were left out)") };
            self.note(level, format!("{what}{note}"));
        }
    }

    fn leaps(&self, message: &Message) -> bool {
        let proposed = match message {
            Message::PreVoteRequest(request) => request.proposed_term,
            _ => message.term(),
        };
        message.term().max(proposed).0 > self.persistent.current_term.0.saturating_add(MAX_TERM_LEAP)
    }

    /// The rule of terms (Raft paper, figure 2, "all servers"), then one match for each kind of message.
    fn handle(&mut self, from: NodeId, message: Message) {
        let current = self.persistent.current_term;
        match &message {
            // A question about a term that nobody is in yet: it moves nobody's, and may come from any.
            Message::PreVoteRequest(_) => {}
            Message::PreVoteResponse(_) if self.config.has_bug(Bug::TermNeverLearned) => {}
            Message::RequestVoteRequest(request) if self.has_promised_otherwise(request) => {
                return self.note(LogLevel::Debug, format!("node {from} asks for a vote, but another was promised that there is none"));
            }
            _ if message.term() > current => {
                self.enter_term(message.term(), if message.is_from_leader() { from } else { NodeId::NONE });
            }
            // Whoever promises a vote may be behind.
            Message::PreVoteResponse(_) => {}
            // It comes of a question, and is looked at with that in mind.
            Message::RemovalNotice(_) => {}
            _ if message.term() < current => return self.answer_earlier_term(from, &message),
            _ => {}
        }
        match message {
            Message::PreVoteRequest(request) => self.on_pre_vote_request(from, &request),
            Message::PreVoteResponse(response) => self.on_pre_vote_response(from, &response),
            Message::RequestVoteRequest(request) => self.on_request_vote_request(from, &request),
            Message::RequestVoteResponse(response) => self.on_request_vote_response(from, &response),
            Message::AppendEntriesRequest(request) => self.on_append_entries_request(from, request),
            Message::AppendEntriesResponse(response) => self.on_append_entries_response(from, &response),
            Message::HeartbeatRequest(request) => self.on_heartbeat_request(from, &request),
            Message::CommitNotice(notice) => {
                self.on_commit_news(from, notice.commit_index);
            }
            Message::HeartbeatResponse(response) => self.on_heartbeat_response(from, &response),
            Message::ForwardRequest(request) => self.on_forward_request(from, request),
            Message::ForwardResponse(response) => self.on_forward_response(&response),
            Message::ReadIndexRequest(request) => self.on_read_index_request(from, &request),
            Message::ReadIndexResponse(response) if self.repair_answered(response.id, response.read_index) => {}
            Message::ReadIndexResponse(response) => self.reads.answered(response.id, response.read_index),
            Message::InstallSnapshotRequest(request) => self.on_install_snapshot_request(from, &request),
            Message::InstallSnapshotResponse(response) => self.on_install_snapshot_response(from, &response),
            Message::TimeoutNowRequest(_) => self.on_timeout_now_request(from),
            Message::RemovalNotice(notice) => self.on_removal_notice(from, &notice),
        }
    }

    fn propose(&mut self, token: Token, proposal: Proposal) {
        self.counters.proposals += 1;
        if proposal.size() > self.config.max_command_bytes {
            self.reject(token, Rejection::TooLarge);
        } else if self.is_removed() {
            self.reject(token, Rejection::Removed);
        } else if self.proposals.bytes() + proposal.size() > self.config.max_pending_bytes {
            self.reject(token, Rejection::Overloaded);
        } else if !wire::proposal_is_sane(&proposal) {
            self.reject(token, Rejection::SessionExpired); // no session ever had such numbers
        } else {
            self.proposals.add(token, proposal, self.now + self.config.request_timeout);
        }
    }

    fn read(&mut self, token: Token) {
        if self.is_removed() {
            self.reject(token, Rejection::Removed);
        } else {
            self.reads.add(token, self.now + self.config.request_timeout);
        }
    }

    pub(crate) fn reject(&mut self, token: Token, reason: Rejection) {
        self.rejected.push(Rejected { token, reason, leader: self.leader() });
    }

    fn persisted(&mut self, ticket: Ticket) {
        if !self.outbox.persisted(ticket, self.now) {
            self.note(LogLevel::Error, format!("storage reported ticket {ticket} as durable, which was never submitted: it is ignored"));
        }
    }
}

// What is due.
impl Node {
    fn tick(&mut self, effects: &mut Vec<Effect>) {
        self.take_own_votes();
        self.check_timers();
        self.advance_transfer();
        self.answer_read_index(); // before the reads that gathered meanwhile are asked for
        self.route_requests();
        self.advance_commit_index();
        self.drive_change();
        self.drive_rotation();
        self.flush(effects);
        self.report_changes(effects);
    }

    /// This node's own vote counts once it is durable, like any other (Raft paper, §5.2): it comes back here from the outbox.
    fn take_own_votes(&mut self) {
        let early = self.config.has_bug(Bug::AckBeforeDurable);
        while let Some((to, message)) = self.outbox.pop_released(early) {
            if to == self.config.id { self.handle(to, message) } else { self.send(to, message) }
        }
    }

    fn check_timers(&mut self) {
        let election_at = match &self.role {
            Role::Follower(follower) if self.config.has_bug(Bug::TimeoutDrawnAtEachLook) => {
                let heard_at = follower.heard_at;
                heard_at + self.draw_election_time().since(self.now)
            }
            Role::Follower(follower) => follower.election_at,
            Role::PreCandidate(ballot) | Role::Candidate(ballot) => ballot.retry_at,
            Role::Leader(_) => {
                self.check_quorum();
                return self.check_disk();
            }
        };
        if self.now >= election_at && !self.disk_is_stalled() {
            self.campaign();
        }
    }

    /// Emits what has become due, in the order of the contract.
    fn flush(&mut self, effects: &mut Vec<Effect>) {
        self.tell_members(effects);
        self.drive_snapshots(effects);
        self.drive_repair(effects);
        self.ask_for_key(effects);
        let round = self.round_is_due();
        if round || self.outbox.has_something_to_say() {
            self.outbox.submit(&self.persistent, &self.log, self.now, effects);
        }
        self.take_own_votes(); // those that had nothing to wait for
        self.answer_under_lease();
        self.replicate(round);
        self.leave_if_removed();
        self.mail.leave(effects);
        self.apply(effects);
        let readable = if self.snapshots.is_restoring() { LogIndex::NONE } else { self.log.applied_index() };
        let ready = self.reads.ready(readable);
        if !ready.is_empty() {
            effects.push(Effect::ServeReads { tokens: ready });
        }
        if !self.done.is_empty() {
            effects.push(Effect::Done { tokens: std::mem::take(&mut self.done) });
        }
        // Last, so that nothing is given up on whose outcome has just become known.
        let leader = self.leader();
        self.proposals.expire(self.now, leader, &mut self.rejected);
        self.reads.expire(self.now, leader, &mut self.rejected);
        if !self.rejected.is_empty() {
            self.counters.rejections += self.rejected.len() as u64;
            effects.push(Effect::Reject { requests: std::mem::take(&mut self.rejected) });
        }
    }

    /// Gives proposals and reads to the leader, if one is known.
    fn route_requests(&mut self) {
        let leader = if self.config.has_bug(Bug::LeadByEarlierLook) { self.reported_leader.1 } else { self.leader() };
        let (term, retry) = (self.persistent.current_term, self.config.election_timeout_min);
        if self.hands_over() {
            // They wait for whoever leads next.
        } else if leader == self.config.id {
            self.append_own_proposals();
        } else if !leader.is_none() {
            while let Some(request) = self.proposals.forward_to(term, self.now, retry, self.config.max_batch_bytes) {
                self.send(leader, Message::ForwardRequest(request));
            }
        }
        if !leader.is_none()
            && let Some(request) = self.reads.ask(term, self.now, retry)
        {
            if leader == self.config.id {
                self.on_read_index_request(leader, &request)
            } else {
                self.send(leader, Message::ReadIndexRequest(request))
            }
        }
    }

    fn on_forward_response(&mut self, response: &ForwardResponse) {
        self.proposals.received(response.run, response.term, response.received, self.now);
        for (sequence, reason) in &response.refused {
            if let Some(token) = self.proposals.resolve(response.run, *sequence, self.now) {
                self.reject(token, *reason);
            }
        }
    }
}

// Helpers of all roles.
impl Node {
    /// Moves to a later term, as a follower of `leader` or of nobody yet.
    pub(crate) fn enter_term(&mut self, term: Term, leader: NodeId) {
        assert!(term > self.persistent.current_term, "terms only grow");
        self.persistent = PersistentState { current_term: term, voted_for: NodeId::NONE };
        self.outbox.hard_state_changed();
        self.follow(leader);
    }

    /// Becomes a follower in the current term, and begins a new wait.
    pub(crate) fn follow(&mut self, leader: NodeId) {
        if self.state() == NodeState::Leader {
            self.abandon_change();
            self.abandon_rotation();
            self.note(LogLevel::Info, format!("stepped down in term {}", self.persistent.current_term));
        }
        let election_at = self.draw_election_time();
        self.role = Role::Follower(Follower { leader, heard_at: self.now, election_at });
        if !leader.is_none() {
            self.note(LogLevel::Info, format!("follows node {leader} in term {}", self.persistent.current_term));
        }
    }

    /// A moment between the shortest and the longest election timeout from now (Raft paper, §5.2).
    pub(crate) fn draw_election_time(&mut self) -> Instant {
        let nanos = |wait: Duration| u64::try_from(wait.as_nanos()).expect("the configuration bounds it");
        let wait = self.rng.between(nanos(self.config.election_timeout_min), nanos(self.config.election_timeout_max));
        self.now + Duration::from_nanos(wait)
    }

    /// The other members, learners among them.
    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.membership.all().iter().copied().filter(|peer| *peer != self.config.id)
    }

    /// The others that vote.
    pub(crate) fn voting_peers(&self) -> impl Iterator<Item = NodeId> {
        self.membership.voters().iter().copied().filter(|voter| *voter != self.config.id)
    }

    /// Sends a message that speaks for nothing on this node's disk.
    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        self.mail.send(to, message);
    }

    pub(crate) fn note(&mut self, level: LogLevel, message: String) {
        self.mail.note(level, message);
    }
}

fn expect(holds: bool, found: impl FnOnce() -> (String, String)) -> Result<(), JournalError> {
    if holds {
        return Ok(());
    }
    let (got, expected) = found();
    Err(JournalError::Incoherent { got, expected })
}
