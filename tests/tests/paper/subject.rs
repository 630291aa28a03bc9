//! The node under test, with a clock and a disk that do what the test says.

use std::collections::BTreeMap;
use std::time::Duration;

use amaters_cluster_core::message::{AppendEntriesRequest, Envelope, HeartbeatRequest, Message, Session};
use amaters_cluster_core::{
    Config, Effect, GroupId, Input, Instant, LogIndex, Node, NodeId, NodeState, Operation, PersistentState, Rejected, Ticket, Token, wire,
};

use crate::messages::{entry, pre_vote, vote};

/// A node, its clock, and its disk: at once unless the test stalls it.
pub(crate) struct Subject {
    pub(crate) node: Node,
    /// While true, nothing becomes durable.
    pub(crate) disk_stalled: bool,
    config: Config,
    now: Instant,
    /// The latest session with each peer, of which tests need not know.
    sessions: BTreeMap<u64, Session>,
    under_way: Vec<(Ticket, Vec<Operation>)>,
    journal: Vec<Operation>,
}

/// What a node did, and in which order.
#[derive(Debug, Default)]
pub(crate) struct Reaction {
    /// Messages with their receivers.
    pub(crate) sent: Vec<(u64, Message)>,
    /// Commands that were applied.
    pub(crate) applied: Vec<String>,
    /// Reads that may be served.
    pub(crate) served: Vec<Token>,
    /// Requests that came to nothing.
    pub(crate) rejected: Vec<Rejected>,
    /// Requests whose wish has come true.
    pub(crate) done: Vec<Token>,
    /// How often it wrote to its disk.
    pub(crate) writes: usize,
}

// Making one.
impl Subject {
    /// Node 1 of a cluster of this size, at its very first start.
    pub(crate) fn new(size: u64) -> Self {
        Self::of(Config::new(1, (1..=size).collect::<Vec<u64>>()), &[])
    }

    /// Node 1 of a cluster of this size, whose log has entries of these terms, in the last one's term.
    pub(crate) fn with_log(size: u64, terms: &[u64]) -> Self {
        Self::of(Config::new(1, (1..=size).collect::<Vec<u64>>()), terms)
    }

    pub(crate) fn of(config: Config, terms: &[u64]) -> Self {
        let mut journal = Vec::new();
        if let Some(last) = terms.last() {
            let state = PersistentState { current_term: (*last).into(), voted_for: NodeId::NONE };
            let entries: Vec<_> = (1..).zip(terms).map(|(index, term)| entry((index, *term))).collect();
            journal.push(wire::hard_state_operation(&state));
            journal.push(wire::append_operation(&entries.iter().collect::<Vec<_>>(), None));
        }
        let now = Instant(1_000_000_000);
        let node = started(&config, &journal, now);
        Self { node, disk_stalled: false, config, now, sessions: BTreeMap::new(), under_way: Vec::new(), journal }
    }

    /// Node 1 as a candidate, with the pre-votes of all.
    pub(crate) fn candidate(size: u64, terms: &[u64]) -> Self {
        let mut subject = Self::with_log(size, terms);
        subject.stand();
        subject
    }

    /// Node 1 as the leader of the term after its log's last, with the votes of all.
    pub(crate) fn leader(size: u64, terms: &[u64]) -> Self {
        Self::leader_of(Config::new(1, (1..=size).collect::<Vec<u64>>()), terms)
    }

    /// The same, with settings of its own.
    pub(crate) fn leader_of(config: Config, terms: &[u64]) -> Self {
        let mut subject = Self::of(config, terms);
        subject.win();
        subject
    }

    /// The machine loses what was not durable, and starts again.
    pub(crate) fn restart(&mut self) {
        self.under_way.clear();
        self.config.seed += 1;
        self.node = started(&self.config, &self.journal, self.now);
    }
}

// Telling it things.
impl Subject {
    pub(crate) fn receive(&mut self, from: u64, mut message: Message) -> Reaction {
        if let Some(session) = session_of(&mut message)
            && *session == 0
        {
            *session = self.sessions.get(&from).copied().unwrap_or_default();
        }
        let envelope = Envelope { group: GroupId(0), from: NodeId(from), to: self.config.id, message };
        self.input(Input::Receive { sender: NodeId(from), envelope: wire::encode_envelope(&envelope) })
    }

    pub(crate) fn propose(&mut self, command: &str) -> Reaction {
        self.input(Input::Propose { token: Token(1), command: command.to_owned().into(), session: None })
    }

    pub(crate) fn read(&mut self, token: u64) -> Reaction {
        self.input(Input::Read { token: Token(token) })
    }

    /// An operator wants node `to` to lead; 0 is for any.
    pub(crate) fn transfer(&mut self, token: u64, to: u64) -> Reaction {
        self.input(Input::Transfer { token: Token(token), to: NodeId(to) })
    }

    fn input(&mut self, input: Input) -> Reaction {
        self.node.step(self.now, input, &mut Vec::new());
        self.settle()
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, ms: u64) -> Reaction {
        self.now = self.now + Duration::from_millis(ms);
        self.settle()
    }

    /// The disk is done with all that it was given.
    pub(crate) fn complete_disk(&mut self) -> Reaction {
        let Some((ticket, _)) = self.under_way.last() else { return Reaction::default() };
        let ticket = *ticket;
        self.journal.extend(self.under_way.drain(..).flat_map(|(_, operations)| operations));
        self.input(Input::Persisted { ticket })
    }

    /// Waits for an election to be due, with no sign of any leader.
    pub(crate) fn time_out(&mut self) -> Reaction {
        self.wait(300)
    }

    /// Times out, and gets everybody's pre-vote: stands for election.
    pub(crate) fn stand(&mut self) -> Reaction {
        self.time_out();
        let (term, mut reaction) = (self.term(), Reaction::default());
        for peer in self.peers() {
            if self.node.state() == NodeState::PreCandidate {
                reaction = self.receive(peer, pre_vote(term, term + 1, true));
            }
        }
        assert_eq!(self.node.state(), NodeState::Candidate);
        reaction
    }

    /// Stands for election and gets everybody's vote: leads.
    pub(crate) fn win(&mut self) -> Reaction {
        self.stand();
        let (term, mut reaction) = (self.term(), Reaction::default());
        for peer in self.peers() {
            if self.node.state() == NodeState::Candidate {
                reaction = self.receive(peer, vote(term, true));
            }
        }
        assert_eq!(self.node.state(), NodeState::Leader);
        reaction
    }

    fn settle(&mut self) -> Reaction {
        let mut reaction = Reaction::default();
        loop {
            let mut effects = Vec::new();
            self.node.step(self.now, Input::Tick, &mut effects);
            effects.into_iter().for_each(|effect| self.take(effect, &mut reaction));
            let Some((ticket, _)) = self.under_way.last().filter(|_| !self.disk_stalled) else { return reaction };
            let persisted = Input::Persisted { ticket: *ticket };
            self.journal.extend(self.under_way.drain(..).flat_map(|(_, operations)| operations));
            self.node.step(self.now, persisted, &mut Vec::new());
        }
    }

    fn take(&mut self, effect: Effect, reaction: &mut Reaction) {
        match effect {
            Effect::Persist { ticket, operations } => {
                reaction.writes += 1;
                self.under_way.push((ticket, operations));
            }
            Effect::Send { to, envelope } => {
                let mut envelope = wire::decode_envelope(&envelope).expect("a node's own envelopes are well-formed");
                if let Some(session) = session_of(&mut envelope.message) {
                    self.sessions.insert(to.0, std::mem::take(session));
                }
                reaction.sent.push((to.0, envelope.message));
            }
            Effect::Apply { commands } => {
                reaction.applied.extend(commands.iter().map(|committed| String::from_utf8_lossy(&committed.command).into_owned()));
            }
            Effect::ServeReads { tokens } => reaction.served.extend(tokens),
            Effect::Done { tokens } => reaction.done.extend(tokens),
            Effect::Reject { requests } => reaction.rejected.extend(requests),
            _ => {} // nothing that these stories are about
        }
    }
}

// Looking at it.
impl Subject {
    /// Its clock.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn state(&self) -> NodeState {
        self.node.state()
    }

    pub(crate) fn term(&self) -> u64 {
        self.node.persistent_state().current_term.0
    }

    pub(crate) fn commit(&self) -> u64 {
        self.node.log().commit_index().0
    }

    /// The terms of its log's entries.
    pub(crate) fn log(&self) -> Vec<u64> {
        self.node.log().iter_from(LogIndex(1)).map(|entry| entry.id.term.0).collect()
    }

    fn peers(&self) -> Vec<u64> {
        self.config.voters.iter().map(|voter| voter.0).filter(|voter| *voter != self.config.id.0).collect()
    }
}

impl Reaction {
    /// The one answer to a node.
    pub(crate) fn answer_to(&self, node: u64) -> Message {
        let [answer] = self.to(node)[..] else { panic!("one answer to node {node} was expected: {:?}", self.sent) };
        answer.clone()
    }

    /// The messages to a node.
    pub(crate) fn to(&self, node: u64) -> Vec<&Message> {
        self.sent.iter().filter(|(to, _)| *to == node).map(|(_, message)| message).collect()
    }

    /// The requests to append to a node.
    pub(crate) fn appends_to(&self, node: u64) -> Vec<&AppendEntriesRequest> {
        let messages = self.to(node).into_iter();
        messages.filter_map(|message| if let Message::AppendEntriesRequest(request) = message { Some(request) } else { None }).collect()
    }

    /// The heartbeats to a node.
    pub(crate) fn heartbeats_to(&self, node: u64) -> Vec<&HeartbeatRequest> {
        let messages = self.to(node).into_iter();
        messages.filter_map(|message| if let Message::HeartbeatRequest(request) = message { Some(request) } else { None }).collect()
    }
}

/// The session of a message between a leader and a peer.
fn session_of(message: &mut Message) -> Option<&mut Session> {
    match message {
        Message::AppendEntriesRequest(it) => Some(&mut it.session),
        Message::AppendEntriesResponse(it) => Some(&mut it.session),
        Message::HeartbeatRequest(it) => Some(&mut it.session),
        Message::HeartbeatResponse(it) => Some(&mut it.session),
        _ => None,
    }
}

fn started(config: &Config, journal: &[Operation], now: Instant) -> Node {
    let mut node = Node::new(config.clone()).expect("the configuration is valid");
    for operation in journal {
        node.recover(operation.clone()).expect("the node wrote it");
    }
    node.start(now).expect("its journal is whole");
    node
}
