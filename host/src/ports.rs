//! What the core's effects do: they reach storage, network, state machine, and those who wait for an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use amaters_cluster_core::{Applied, Committed, Effect, LogIndex, LogLevel, MemberStatus, NodeId, Rejected, Reply, SessionChange, Token};
use tokio::sync::oneshot;

use crate::engine::{Control, Driver, Proposal};
use crate::error::{RaftError, RaftResult};
use crate::events::Events;
use crate::handle::Outcome;
use crate::inbox::{ControlRequest, ReadRequest, SessionRequest, WriteRequest};
use crate::persistence::RaftPersistence;
use crate::snapshots::{SnapshotJob, SnapshotStore};
use crate::state_machine::{Piece, StateMachine};

/// The way to the other nodes.
pub trait Network: Send + Sync + 'static {
    /// Hands over an envelope for a peer, and returns at once. It may be lost.
    fn send(&self, to: NodeId, envelope: Vec<u8>);

    /// As [`send`](Self::send), for an envelope that is large and in no hurry: others should not wait behind it. Those that are sent this way must not overtake each
    /// other.
    fn send_bulk(&self, to: NodeId, envelope: Vec<u8>) {
        self.send(to, envelope);
    }

    /// These are the members from now on: the nodes to which there has to be a way. The version is the index of their configuration in the log; 0 for
    /// the one that the node was started with. A network that reaches everybody need not know.
    fn set_members(&self, _version: LogIndex, _members: &[MemberStatus]) {}
}

/// Carries out effects on the node's thread.
pub(crate) struct Ports {
    /// None until the journal has been read: the core persists nothing before that.
    storage: Option<Box<dyn RaftPersistence>>,
    /// Whether the core was told that storage lacks space.
    told_full: bool,
    snapshots: Box<dyn SnapshotStore>,
    network: Arc<dyn Network>,
    machine: Box<dyn StateMachine>,
    events: Arc<Events>,
    waiting: Waiting,
    state: State,
    /// Whether the core has said so, and nobody has asked yet.
    repaired: bool,
    /// Whether the core lacks a key, and nobody has asked yet.
    key_wanted: bool,
    /// Why the node must end for good, if it must.
    diverged: Option<String>,
    /// Results of commands of sessions, on their way back to the core.
    applied: Vec<Applied>,
}

/// How far the state is on its way out or in.
#[derive(Debug, Default)]
struct State {
    captured: bool,
    /// About how long a piece the core has asked for.
    wanted: Option<usize>,
    /// Whether another state is on its way in: nobody may see a part of it.
    restoring: bool,
    /// Whether all of another state has come.
    restored: bool,
    /// Local reads that came meanwhile.
    held: Vec<ReadRequest>,
    /// Why the state is of no use, if it is not.
    lost: Option<String>,
}

/// Requests whose outcome is not known yet.
struct Waiting {
    last_token: u64,
    /// By the first token of each: its commands have consecutive ones.
    writes: BTreeMap<Token, PendingWrite>,
    reads: BTreeMap<Token, ReadRequest>,
    controls: BTreeMap<Token, oneshot::Sender<RaftResult<()>>>,
    request_timeout_ms: u64,
}

struct PendingWrite {
    outcomes: Vec<Option<RaftResult<Outcome>>>,
    missing: usize,
    reply: Reporter,
}

/// Where outcomes go.
type Reporter = tokio::sync::oneshot::Sender<Vec<RaftResult<Outcome>>>;

impl Ports {
    pub(crate) fn new(
        network: Arc<dyn Network>,
        machine: Box<dyn StateMachine>,
        snapshots: Box<dyn SnapshotStore>,
        events: Arc<Events>,
        request_timeout: Duration,
    ) -> Self {
        let request_timeout_ms = u64::try_from(request_timeout.as_millis()).unwrap_or(u64::MAX);
        let (writes, reads, controls) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let waiting = Waiting { last_token: 0, writes, reads, controls, request_timeout_ms };
        let state = State::default();
        let (repaired, key_wanted, diverged) = (false, false, None);
        Self {
            storage: None,
            told_full: false,
            snapshots,
            network,
            machine,
            events,
            waiting,
            state,
            repaired,
            key_wanted,
            diverged,
            applied: Vec::new(),
        }
    }

    /// From here on the core may persist.
    pub(crate) fn attach(&mut self, storage: Box<dyn RaftPersistence>) {
        self.storage = Some(storage);
    }

    /// Whether storage lacks space, where the core was told otherwise.
    pub(crate) fn take_disk_news(&mut self) -> Option<bool> {
        let full = self.storage.as_ref().is_some_and(|storage| storage.lacks_space());
        (std::mem::replace(&mut self.told_full, full) != full).then_some(full)
    }

    /// Notes who waits for these commands, and gives each its token.
    pub(crate) fn register_write(&mut self, request: WriteRequest, proposals: &mut Vec<Proposal>) {
        let WriteRequest { commands, session, reply } = request;
        let first = self.waiting.add(commands.len(), reply);
        proposals.extend((0..).zip(commands).map(|(number, command)| {
            let session = session.map(|first| first.later(number));
            Proposal { token: Token(first.0 + number), command, session }
        }));
    }

    /// Notes who waits for this change of a session.
    pub(crate) fn register_session(&mut self, request: SessionRequest) -> (Token, SessionChange) {
        (self.waiting.add(1, request.reply), request.change)
    }

    /// Notes who waits for these queries: one token for all of them.
    pub(crate) fn register_read(&mut self, request: ReadRequest) -> Token {
        self.waiting.last_token += 1;
        let token = Token(self.waiting.last_token);
        self.waiting.reads.insert(token, request);
        token
    }

    /// Notes who waits for a change of the cluster.
    pub(crate) fn register_control(&mut self, request: ControlRequest) -> (Token, Control) {
        self.waiting.last_token += 1;
        let token = Token(self.waiting.last_token);
        self.waiting.controls.insert(token, request.reply);
        (token, request.control)
    }

    /// The results that the core is to get with its next turn.
    pub(crate) fn take_applied(&mut self) -> Vec<Applied> {
        std::mem::take(&mut self.applied)
    }

    /// The snapshots, for as long as the core has not been started.
    pub(crate) fn snapshots(&mut self) -> &mut dyn SnapshotStore {
        self.snapshots.as_mut()
    }

    /// The piece of the captured state that the core waits for.
    pub(crate) fn take_piece(&mut self) -> Option<Piece> {
        self.state.wanted.take().map(|max_bytes| self.machine.next_piece(max_bytes))
    }

    /// Whether the core waits for a piece: then the next turn should not wait for anything else.
    pub(crate) fn wants_piece(&self) -> bool {
        self.state.wanted.is_some()
    }

    /// Whether all of another state has come since the last one was cleared.
    pub(crate) fn is_restored(&self) -> bool {
        self.state.restored
    }

    /// Why the state is of no use, if it is not.
    pub(crate) fn take_lost(&mut self) -> Option<String> {
        self.state.lost.take()
    }

    /// Whether the node has repaired itself since this was last asked.
    pub(crate) fn take_repaired(&mut self) -> bool {
        std::mem::take(&mut self.repaired)
    }

    /// Whether the core has asked for a key since this was last asked.
    pub(crate) fn take_key_wanted(&mut self) -> bool {
        std::mem::take(&mut self.key_wanted)
    }

    /// Why the node must end for good, if it must.
    pub(crate) fn take_diverged(&mut self) -> Option<String> {
        self.diverged.take()
    }

    fn capture(&mut self) {
        self.machine.capture();
        self.state = State { captured: true, wanted: None, ..std::mem::take(&mut self.state) };
    }

    fn read_captured(&mut self, max_bytes: usize) {
        if self.state.captured {
            self.state.wanted = Some(max_bytes);
        } else {
            tracing::error!("the core asks for a state that it has not captured");
        }
    }

    fn release(&mut self) {
        self.machine.release();
        (self.state.captured, self.state.wanted) = (false, None);
    }

    fn clear(&mut self) {
        self.machine.clear();
        let State { lost, held, .. } = std::mem::take(&mut self.state);
        self.state = State { restoring: true, lost, held, ..State::default() };
    }

    fn restore(&mut self, piece: &[u8]) {
        // Once a piece makes no sense, the others can't either.
        if self.state.lost.is_none()
            && let Err(error) = self.machine.restore(piece)
        {
            self.state.lost = Some(error.to_string());
        }
    }

    fn restored(&mut self) {
        match self.machine.restored() {
            Ok(()) => {
                (self.state.restoring, self.state.restored) = (false, true);
                std::mem::take(&mut self.state.held).into_iter().for_each(|request| self.serve_local_read(request));
            }
            Err(error) => self.state.lost = Some(self.state.lost.take().unwrap_or_else(|| error.to_string())),
        }
    }

    fn apply(&mut self, commands: &[Committed]) {
        let results = self.machine.apply(commands);
        assert_eq!(results.len(), commands.len(), "a state machine gives one result for each command");
        for (command, result) in commands.iter().zip(results) {
            if command.result_wanted {
                self.applied.push(Applied { index: command.index, result: result.clone() });
            }
            if let Some(token) = command.token {
                self.waiting.resolve_write(token, Ok(Outcome { index: command.index, result }));
            }
        }
    }

    fn serve_read(&mut self, token: Token) {
        if let Some(request) = self.waiting.reads.remove(&token) {
            self.serve_local_read(request);
        }
    }

    /// Answers from the state as it is; where another one is on its way in, once it has come.
    pub(crate) fn serve_local_read(&mut self, request: ReadRequest) {
        if self.state.restoring {
            return self.state.held.push(request);
        }
        let ReadRequest { queries, reply } = request;
        let answers = queries.iter().map(|query| self.machine.query(query)).collect();
        // Whoever asked may have gone away.
        let _ = reply.send(Ok(answers));
    }
}

impl Driver for Ports {
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { ticket, operations } => {
                self.storage.as_mut().expect("the core persists nothing before it is started").submit(ticket, operations);
            }
            Effect::Send { to, envelope } => self.network.send(to, envelope),
            Effect::SendBulk { to, envelope } => self.network.send_bulk(to, envelope),
            Effect::Apply { commands } => self.apply(&commands),
            Effect::CaptureState => self.capture(),
            Effect::ReadState { max_bytes } => self.read_captured(max_bytes),
            Effect::ReleaseState => self.release(),
            Effect::ClearState => self.clear(),
            Effect::RestoreState { piece } => self.restore(&piece),
            Effect::StateRestored => self.restored(),
            Effect::WriteSnapshot { id, offset, bytes } => self.snapshots.submit(SnapshotJob::Write { id, offset, bytes }),
            Effect::FinishSnapshot { id } => self.snapshots.submit(SnapshotJob::Finish { id }),
            Effect::DiscardSnapshot { id } => self.snapshots.submit(SnapshotJob::Discard { id }),
            Effect::RetainSnapshots { ids } => self.snapshots.submit(SnapshotJob::Retain { ids }),
            Effect::ReadSnapshot { id, reader, offset, max_bytes } => {
                self.snapshots.submit(SnapshotJob::Read { id, reader, offset, max_bytes });
            }
            Effect::StateLost { reason } => self.state.lost = Some(reason),
            Effect::Repaired => self.repaired = true,
            Effect::RequestKey { .. } => self.key_wanted = true,
            Effect::Diverged { reason } => self.diverged = Some(reason),
            Effect::Reply { replies } => {
                for Reply { token, index, result } in replies {
                    self.waiting.resolve_write(token, Ok(Outcome { index, result }));
                }
            }
            Effect::ServeReads { tokens } => tokens.into_iter().for_each(|token| self.serve_read(token)),
            Effect::Done { tokens } => tokens.into_iter().for_each(|token| self.waiting.resolve_control(token)),
            Effect::Reject { requests } => requests.iter().for_each(|rejected| self.waiting.reject(rejected)),
            Effect::Members { version, members } => self.network.set_members(version, &members),
            Effect::Log { level, message } => write_log(level, &message),
            Effect::Failure { event } => self.events.peer_changed(event),
            Effect::LeaderChanged { term, leader } => self.events.leader_changed(term, leader),
        }
    }
}

impl Waiting {
    /// Notes who waits for so many outcomes. Gives the first one's token; the others' follow it.
    fn add(&mut self, count: usize, reply: Reporter) -> Token {
        let first = Token(self.last_token + 1);
        self.last_token += count as u64;
        let outcomes = (0..count).map(|_| None).collect();
        self.writes.insert(first, PendingWrite { outcomes, missing: count, reply });
        first
    }

    fn resolve_write(&mut self, token: Token, outcome: RaftResult<Outcome>) {
        let Some((&first, pending)) = self.writes.range_mut(..=token).next_back() else { return };
        let Some(slot) = usize::try_from(token.0 - first.0).ok().and_then(|at| pending.outcomes.get_mut(at)) else { return };
        if slot.replace(outcome).is_none() {
            pending.missing -= 1;
        }
        if pending.missing == 0
            && let Some(done) = self.writes.remove(&first)
        {
            // Whoever asked may have gone away.
            let _ = done.reply.send(done.outcomes.into_iter().flatten().collect());
        }
    }

    fn reject(&mut self, rejected: &Rejected) {
        let error = RaftError::from_rejection(rejected, self.request_timeout_ms);
        // Whoever asked may have gone away.
        if let Some(read) = self.reads.remove(&rejected.token) {
            let _ = read.reply.send(Err(error));
        } else if let Some(reply) = self.controls.remove(&rejected.token) {
            let _ = reply.send(Err(error));
        } else {
            self.resolve_write(rejected.token, Err(error));
        }
    }

    fn resolve_control(&mut self, token: Token) {
        if let Some(reply) = self.controls.remove(&token) {
            // Whoever asked may have gone away.
            let _ = reply.send(Ok(()));
        }
    }
}

fn write_log(level: LogLevel, message: &str) {
    match level {
        LogLevel::Debug => tracing::debug!(target: "raft", "{message}"),
        LogLevel::Info => tracing::info!(target: "raft", "{message}"),
        LogLevel::Warn => tracing::warn!(target: "raft", "{message}"),
        LogLevel::Error => tracing::error!(target: "raft", "{message}"),
    }
}
