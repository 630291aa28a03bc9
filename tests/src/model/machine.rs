//! One node with its disk: what it may meet, and what comes of it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};

use amaters_cluster_core::message::Envelope;
use amaters_cluster_core::{
    Config, Effect, EntryKind, Input, Instant, LogEntry, LogIndex, LogLevel, MembershipChange, Node, NodeId, NodeState, Operation, Payload,
    PersistentState, Term, Ticket, Token, wire,
};

use super::Bounds;

/// The time at which everything happens: a time-out is the only thing that takes any.
const NOW: Instant = Instant(1_000_000_000_000);

/// A node that is up, and its disk.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    config: Config,
    node: Node,
    durable: Durable,
    /// Submissions that are not durable yet.
    under_way: VecDeque<Vec<Operation>>,
    /// How often it has started: each run draws other numbers.
    runs: u64,
    /// The change of the membership that may be asked of it.
    change: MembershipChange,
    /// Whether whatever it writes is durable at once.
    writes_at_once: bool,
}

/// What the node would start from.
#[derive(Clone, Debug, Default)]
struct Durable {
    state: PersistentState,
    entries: Vec<LogEntry>,
}

/// What can happen to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Event {
    /// An envelope comes.
    Delivery(Vec<u8>),
    /// The oldest submission becomes durable.
    Completion,
    /// All its waits are over; a leader's heartbeat is due.
    TimeOut,
    /// It loses its power and starts again, with the first so many operations of those that were not durable.
    Crash(usize),
    /// A command is proposed.
    Proposal(Token),
    /// The membership is to be changed.
    Change,
}

/// An entry as the properties see it.
pub(super) type Entry = (Term, What);

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    Nothing,
    Command(Payload),
    /// A configuration: the sets of voters of which each has to agree.
    Voters(Vec<Vec<NodeId>>),
}

/// What comes of it.
#[derive(Debug, Default)]
pub(super) struct Reaction {
    pub(super) sent: Vec<Envelope>,
    /// Commands that were acknowledged, with their places in the log.
    pub(super) answered: Vec<(Token, LogIndex)>,
    /// What the node has no reason to say, since nothing here is faulty.
    pub(super) complaint: Option<String>,
}

/// A machine as the properties see it.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) state: NodeState,
    pub(super) term: Term,
    pub(super) commit_index: LogIndex,
    /// The log, from index 1.
    pub(super) log: Vec<Entry>,
    /// The same, as its disk has it.
    pub(super) durable: Vec<Entry>,
    /// How many operations are not durable yet.
    pub(super) unsynced: usize,
}

impl Machine {
    pub(super) fn new(id: NodeId, bounds: &Bounds) -> Self {
        let voters = if id.0 <= bounds.nodes { (1..=bounds.nodes).collect() } else { Vec::new() };
        let mut config = Config::new(id, voters);
        config.bug = bounds.bug;
        let node = start(&config, &Durable::default(), 0);
        Self {
            config,
            node,
            durable: Durable::default(),
            under_way: VecDeque::new(),
            runs: 0,
            change: bounds.change(),
            writes_at_once: bounds.writes_at_once,
        }
    }

    /// Names the machine's state: by everything that is in it.
    pub(super) fn fingerprint(&self) -> u128 {
        let half = |salt: u8| {
            let mut hasher = Hashed(DefaultHasher::new());
            hasher.0.write_u8(salt);
            let _ = write!(hasher, "{self:?}"); // a hash takes everything
            u128::from(hasher.0.finish())
        };
        half(0) << 64 | half(1)
    }

    pub(super) fn view(&self) -> View {
        let seen = |entry: &LogEntry| (entry.id.term, what(&entry.kind));
        View {
            state: self.node.state(),
            term: self.node.persistent_state().current_term,
            commit_index: self.node.log().commit_index(),
            log: self.node.log().iter_from(LogIndex(1)).map(seen).collect(),
            durable: self.durable.entries.iter().map(seen).collect(),
            unsynced: self.under_way.iter().map(Vec::len).sum(),
        }
    }

    /// The machine after an event.
    pub(super) fn after(&self, event: &Event) -> (Self, Reaction) {
        let mut next = self.clone();
        let mut reaction = Reaction::default();
        match event {
            Event::Delivery(envelope) => {
                let sender = wire::decode_envelope(envelope).expect("a node's own envelopes are well-formed").from;
                next.input(NOW, Input::Receive { sender, envelope: envelope.clone() });
            }
            Event::Completion => next.complete(NOW, Ticket(1)),
            Event::TimeOut => {}
            Event::Crash(keep) => next.crash(*keep),
            Event::Proposal(token) => {
                let command = format!("{token}").into_bytes().into();
                next.input(NOW, Input::Propose { token: *token, command, session: None });
            }
            Event::Change => next.input(NOW, Input::ChangeMembership { token: Token(u64::MAX), change: self.change.clone() }),
        }
        let now = if *event == Event::TimeOut { NOW + next.pause() } else { NOW };
        next.tick(now, &mut reaction);
        for ticket in (1..).map(Ticket).take_while(|_| self.writes_at_once) {
            if next.under_way.is_empty() {
                break;
            }
            next.complete(now, ticket);
            next.tick(now, &mut reaction);
        }
        next.node.canonicalize(NOW);
        (next, reaction)
    }

    fn tick(&mut self, now: Instant, reaction: &mut Reaction) {
        let mut effects = Vec::new();
        self.node.step(now, Input::Tick, &mut effects);
        effects.into_iter().for_each(|effect| self.carry_out(effect, reaction));
    }

    /// The oldest submission becomes durable. Tickets count from the last event on.
    fn complete(&mut self, now: Instant, ticket: Ticket) {
        let operations = self.under_way.pop_front().expect("something is under way");
        operations.iter().for_each(|operation| self.durable.keep(operation));
        self.input(now, Input::Persisted { ticket });
    }

    fn input(&mut self, now: Instant, input: Input) {
        self.node.step(now, input, &mut Vec::new());
    }

    /// A leader that hears from nobody gets to one heartbeat and not to a second one. Others wait until they stand for election.
    fn pause(&self) -> std::time::Duration {
        let longest = self.config.election_timeout_max;
        if self.node.state() == NodeState::Leader { longest * 2 / 3 } else { longest }
    }

    fn crash(&mut self, keep: usize) {
        let lost = std::mem::take(&mut self.under_way);
        lost.iter().flatten().take(keep).for_each(|operation| self.durable.keep(operation));
        self.runs += 1;
        self.node = start(&self.config, &self.durable, self.runs);
    }

    fn carry_out(&mut self, effect: Effect, reaction: &mut Reaction) {
        match effect {
            Effect::Persist { operations, .. } => self.under_way.push_back(operations),
            Effect::Send { envelope, .. } => {
                reaction.sent.push(wire::decode_envelope(&envelope).expect("a node's own envelopes are well-formed"));
            }
            Effect::Apply { commands } => {
                reaction.answered.extend(commands.iter().filter_map(|committed| Some((committed.token?, committed.index))));
            }
            Effect::Log { level: LogLevel::Error, message } => reaction.complaint = Some(message),
            _ => {}
        }
    }
}

fn what(kind: &EntryKind) -> What {
    match kind {
        EntryKind::NoOp => What::Nothing,
        EntryKind::Command { payload, .. } => What::Command(payload.clone()),
        EntryKind::Configuration(state) => What::Voters(state.halves().map(|half| half.voters.keys().copied().collect()).collect()),
        other => panic!("nobody asks for {other:?}"),
    }
}

fn start(config: &Config, durable: &Durable, runs: u64) -> Node {
    let seed = config.id.0 * 100 + runs;
    let mut node = Node::new(Config { seed, ..config.clone() }).expect("the configuration is valid");
    let entries: Vec<_> = durable.entries.iter().collect();
    let mut journal = vec![wire::hard_state_operation(&durable.state)];
    if !entries.is_empty() {
        journal.push(wire::append_operation(&entries, None));
    }
    for operation in journal {
        node.recover(operation).expect("a node can start from what it has written");
    }
    node.start(NOW).expect("a node can start from what it has written");
    node
}

impl Durable {
    fn keep(&mut self, operation: &Operation) {
        match operation {
            Operation::HardState(bytes) => self.state = wire::decode_hard_state(bytes).expect("a node writes what it can read"),
            Operation::Append { first, count, entries } => {
                let (entries, _) = wire::decode_entries(*first, *count, entries).expect("a node writes what it can read");
                self.entries.truncate(usize::try_from(first.previous().0).expect("a log fits into memory"));
                self.entries.extend(entries);
            }
            Operation::Compact { .. } => unreachable!("no snapshots are taken here"),
        }
    }
}

/// Hashes what is written to it.
struct Hashed(DefaultHasher);

impl std::fmt::Write for Hashed {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}
