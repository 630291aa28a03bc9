//! The node that goes through a story, and what it may do.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use amaters_cluster_core::message::Envelope;
use amaters_cluster_core::message::Message;
use amaters_cluster_core::{
    Applied, Config, Effect, EntryId, GroupId, Input, Instant, LogEntry, LogIndex, Node, NodeId, NodeState, Operation, PersistentState,
    RaftLog, Term, Ticket, Token, wire,
};

use super::bytes::Bytes;
use super::{members, messages};

/// The node under test.
const ID: NodeId = NodeId(1);
/// The most bytes of an envelope: a batch, or one large command, and what is around them.
const MAX_ENVELOPE: usize = 16 << 10;

/// A node, its disk, and what it has promised so far.
pub(super) struct Subject {
    config: Config,
    node: Node,
    now: Instant,
    journal: Vec<Operation>,
    under_way: VecDeque<(Ticket, Vec<Operation>)>,
    /// The latest envelopes that it sent.
    sent: VecDeque<Vec<u8>>,
    last_token: u64,
    open: BTreeSet<Token>,
    /// Commands whose results the node wants, and has not got.
    wanted: VecDeque<LogIndex>,
    /// Inputs since the start, and envelopes that left.
    inputs: usize,
    envelopes: usize,
    /// Everybody who was a member at any time.
    members: BTreeSet<NodeId>,
    seen: Seen,
}

/// What must not be taken back.
#[derive(Default)]
struct Seen {
    state: PersistentState,
    committed: Vec<EntryId>,
    applied: LogIndex,
    ticket: Ticket,
}

impl Subject {
    /// A node of a cluster of 1 to 7 with a journal of a few terms.
    pub(super) fn from_bytes(bytes: &mut Bytes<'_>) -> Self {
        let mut config = Config::new(ID, (1..=bytes.number(7) + 1).collect());
        config.seed = bytes.number(256);
        config.max_batch_bytes = 1024;
        config.max_inflight = [1, 2, 32][usize::from(bytes.byte() % 3)];
        config.max_command_bytes = 2048;
        config.max_pending_bytes = 4096;
        config.lease_reads = bytes.number(2) == 0;
        config.max_log_bytes = [4096, 1 << 20][usize::from(bytes.byte() % 2)];
        let journal = journal(bytes);
        let now = Instant(bytes.number(1000) * 1_000_000);
        let node = start(&config, &journal, now);
        let members = config.voters.iter().copied().collect();
        let mut subject = Self {
            members,
            config,
            node,
            now,
            journal,
            under_way: VecDeque::new(),
            sent: VecDeque::new(),
            last_token: 0,
            open: BTreeSet::new(),
            wanted: VecDeque::new(),
            inputs: 0,
            envelopes: 0,
            seen: Seen::default(),
        };
        subject.tick();
        subject
    }

    /// The other members, as the node knows them.
    pub(super) fn peers(&self) -> Vec<NodeId> {
        self.node.configuration().members().iter().map(|member| member.id).filter(|member| *member != ID).collect()
    }

    /// Whether the node votes.
    pub(super) fn votes(&self) -> bool {
        self.node.configuration().is_voter(ID)
    }

    /// One of the peers; now and then a stranger, or the node itself.
    pub(super) fn peer(&self, bytes: &mut Bytes<'_>) -> NodeId {
        let peers = self.peers();
        let choice = bytes.byte();
        if choice >= 250 || peers.is_empty() { NodeId(u64::from(choice % 10)) } else { peers[usize::from(choice) % peers.len()] }
    }

    /// The run of the node's own requests as its envelopes tell it, or another number.
    pub(super) fn some_run(&self, bytes: &mut Bytes<'_>) -> u64 {
        let told = self.sent.iter().rev().find_map(|envelope| match wire::decode_envelope(envelope).ok()?.message {
            Message::ForwardRequest(request) => Some(request.run),
            Message::ReadIndexRequest(request) => Some(request.id.run),
            _ => None,
        });
        told.filter(|_| bytes.number(8) > 0).unwrap_or_else(|| bytes.any())
    }

    pub(super) fn term(&self) -> Term {
        self.node.persistent_state().current_term
    }

    pub(super) fn state(&self) -> NodeState {
        self.node.state()
    }

    pub(super) fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn log(&self) -> &RaftLog {
        self.node.log()
    }
}

// Inputs.
impl Subject {
    pub(super) fn input(&mut self, input: Input) {
        self.inputs += 1;
        let mut effects = Vec::new();
        self.node.step(self.now, input, &mut effects);
        self.carry_out(effects);
    }

    pub(super) fn tick(&mut self) {
        self.input(Input::Tick);
        self.check();
    }

    pub(super) fn receive(&mut self, sender: NodeId, message: Message) {
        let envelope = Envelope { group: GroupId(0), from: sender, to: ID, message };
        self.receive_bytes(sender, wire::encode_envelope(&envelope));
    }

    pub(super) fn receive_bytes(&mut self, sender: NodeId, envelope: Vec<u8>) {
        self.input(Input::Receive { sender, envelope });
    }

    /// One of the node's own envelopes comes back from its receiver, perhaps with a byte changed or its end cut off.
    pub(super) fn receive_echo(&mut self, bytes: &mut Bytes<'_>) {
        let choice = usize::from(bytes.byte());
        let Some(envelope) = self.sent.get(choice % self.sent.len().max(1)) else { return };
        let Ok(mut envelope) = wire::decode_envelope(envelope) else { return };
        (envelope.from, envelope.to) = (envelope.to, envelope.from);
        let sender = envelope.from;
        let mut encoded = wire::encode_envelope(&envelope);
        let position = usize::from(bytes.byte()) % encoded.len();
        match bytes.number(3) {
            0 => encoded[position] = bytes.byte(),
            1 => encoded.truncate(position),
            _ => {}
        }
        self.receive_bytes(sender, encoded);
    }

    pub(super) fn propose(&mut self, bytes: &mut Bytes<'_>) {
        let length = [0, 3, 40, 900, 3000][usize::from(bytes.byte() % 5)];
        let session = (bytes.number(2) == 0).then(|| messages::stamp(bytes));
        let token = self.next_token();
        self.input(Input::Propose { token, command: vec![b'p'; length].into(), session });
    }

    pub(super) fn change_session(&mut self, bytes: &mut Bytes<'_>) {
        let change = messages::change(bytes);
        let token = self.next_token();
        self.input(Input::Session { token, change });
    }

    /// The state machine gives the results of the commands that it applied first.
    pub(super) fn report_results(&mut self, count: u64) {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.wanted.len());
        let result = |index| Applied { index, result: vec![b'r'; 5].into() };
        let results = self.wanted.drain(..count).map(result).collect();
        self.input(Input::Applied { results });
    }

    pub(super) fn transfer(&mut self, bytes: &mut Bytes<'_>) {
        let to = if bytes.number(2) == 0 { NodeId::NONE } else { self.peer(bytes) };
        let token = self.next_token();
        self.input(Input::Transfer { token, to });
    }

    pub(super) fn change_membership(&mut self, bytes: &mut Bytes<'_>) {
        let change = members::change(bytes);
        let token = self.next_token();
        self.input(Input::ChangeMembership { token, change });
    }

    pub(super) fn read(&mut self) {
        let token = self.next_token();
        self.input(Input::Read { token });
    }

    fn next_token(&mut self) -> Token {
        self.last_token += 1;
        let token = Token(self.last_token);
        self.open.insert(token);
        token
    }

    pub(super) fn pass_ms(&mut self, time: u64) {
        self.now = self.now + Duration::from_millis(time);
    }

    /// The oldest submissions become durable.
    pub(super) fn complete(&mut self, submissions: u64) {
        let count = usize::try_from(submissions).unwrap_or(usize::MAX).min(self.under_way.len());
        for (ticket, operations) in self.under_way.drain(..count).collect::<Vec<_>>() {
            self.journal.extend(operations);
            self.input(Input::Persisted { ticket });
        }
    }

    /// The node stops, and starts again from what its disk has kept: a part of what was under way among it.
    pub(super) fn restart(&mut self, kept: u64) {
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        let lost = std::mem::take(&mut self.under_way);
        self.journal.extend(lost.into_iter().flat_map(|(_, operations)| operations).take(kept));
        self.config.seed += 1;
        self.node = start(&self.config, &self.journal, self.now);
        self.open.clear();
        self.wanted.clear();
        self.seen = Seen::default();
        self.tick();
    }
}

// What the node does.
impl Subject {
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Persist { ticket, operations } => {
                    assert_eq!(ticket, self.seen.ticket.next(), "tickets are given out in order");
                    assert!(!operations.is_empty(), "a submission has operations");
                    self.seen.ticket = ticket;
                    self.under_way.push_back((ticket, operations));
                }
                Effect::Send { to, envelope } => self.check_envelope(to, envelope),
                Effect::Apply { commands } => {
                    assert!(!commands.is_empty(), "something is applied");
                    for command in commands {
                        assert!(command.index > self.seen.applied, "entries are applied in order, each once");
                        self.seen.applied = command.index;
                        self.wanted.extend(command.result_wanted.then_some(command.index));
                        command.token.into_iter().for_each(|token| self.answer(token));
                    }
                }
                Effect::Reply { replies } => replies.into_iter().for_each(|reply| self.answer(reply.token)),
                Effect::ServeReads { tokens } | Effect::Done { tokens } => tokens.into_iter().for_each(|token| self.answer(token)),
                Effect::Reject { requests } => requests.into_iter().for_each(|rejected| self.answer(rejected.token)),
                Effect::Members { members, .. } => self.members.extend(members.iter().map(|member| member.id)),
                Effect::Log { message, .. } => assert!(message.len() < 1000, "a line is a line"),
                _ => {} // of snapshots, and of what the node notices of others: nobody answers, as if storage took its time
            }
        }
    }

    fn answer(&mut self, token: Token) {
        assert!(self.open.remove(&token), "request {token} is answered once, and only if it was made");
    }

    fn check_envelope(&mut self, to: NodeId, envelope: Vec<u8>) {
        let decoded = wire::decode_envelope(&envelope).expect("what a node sends passes its own checks");
        assert_eq!((decoded.from, decoded.to), (ID, to), "an envelope names its sender and its receiver");
        assert!(to != ID, "nobody writes to itself");
        assert!(envelope.len() <= MAX_ENVELOPE, "an envelope of {} bytes", envelope.len());
        self.envelopes += 1;
        let most = self.inputs * self.members.len() * (self.config.max_inflight + 3);
        assert!(self.envelopes <= most, "{} envelopes after {} inputs", self.envelopes, self.inputs);
        self.sent.push_back(envelope);
        if self.sent.len() > 16 {
            self.sent.pop_front();
        }
    }

    /// Terms and votes are not taken back, nor is anything that is committed; and the log's invariants hold.
    fn check(&mut self) {
        let (state, log) = (self.node.persistent_state(), self.node.log());
        assert!(state.current_term >= self.seen.state.current_term, "terms only grow");
        let same_term = state.current_term == self.seen.state.current_term;
        assert!(!same_term || self.seen.state.voted_for.is_none() || state.voted_for == self.seen.state.voted_for, "one vote a term");
        self.seen.state = state;
        let mut before = EntryId::default();
        let mut bytes = 0;
        for entry in log.iter_from(LogIndex(1)) {
            assert!(entry.id.index == before.index.next() && entry.id.term >= before.term, "entry {} follows {before}", entry.id);
            before = entry.id;
            bytes += entry.size();
        }
        assert_eq!((log.last(), log.bytes()), (before, bytes), "the log is what its entries are");
        assert!(before.term <= state.current_term, "no entry is of a later term than the node");
        assert!(log.applied_index() <= log.commit_index() && log.commit_index() <= before.index, "applied ≤ committed ≤ last");
        for (index, committed) in (1..).zip(&self.seen.committed) {
            assert_eq!(log.get(LogIndex(index)).map(|entry| entry.id), Some(*committed), "what is committed stays");
        }
        let known = self.seen.committed.len() as u64;
        let news = log.iter_from(LogIndex(known + 1)).take_while(|entry| entry.id.index <= log.commit_index());
        self.seen.committed.extend(news.map(|entry| entry.id));
        assert!(self.seen.committed.len() as u64 == log.commit_index().0, "the commit index never falls");
    }
}

fn journal(bytes: &mut Bytes<'_>) -> Vec<Operation> {
    let mut term = Term(0);
    let entries: Vec<LogEntry> = (1..=bytes.number(8))
        .map(|index| {
            term = Term(term.0.max(1) + bytes.number(8) / 6);
            LogEntry { id: EntryId { index: LogIndex(index), term }, kind: messages::kind(LogIndex(index), bytes) }
        })
        .collect();
    let state = PersistentState { current_term: Term(term.0 + bytes.number(3)), voted_for: NodeId(bytes.number(4)) };
    let mut journal = vec![wire::hard_state_operation(&state)];
    if !entries.is_empty() {
        let append = wire::append_operation(&entries.iter().collect::<Vec<_>>(), None);
        // Entries with impossible numbers are in nobody's journal.
        if matches!(&append, Operation::Append { first, count, entries } if wire::decode_entries(*first, *count, entries).is_ok()) {
            journal.push(append);
        }
    }
    journal
}

fn start(config: &Config, journal: &[Operation], now: Instant) -> Node {
    let mut node = Node::new(config.clone()).expect("the configuration is valid");
    for operation in journal {
        node.recover(operation.clone()).unwrap_or_else(|error| panic!("a node can't start from what it has written: {error}"));
    }
    node.start(now).unwrap_or_else(|error| panic!("a node can't start from what it has written: {error}"));
    node
}
