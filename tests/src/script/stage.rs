//! The cluster of a script: each node with a clock, a disk and a state machine of its own, and the messages between them in one pool. Nothing
//! happens by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use amaters_cluster_core::message::Envelope;
use amaters_cluster_core::{
    Committed, Config, Effect, Input, Instant, LogIndex, LogLevel, Node, NodeId, NodeState, Operation, Rejected, Term, Ticket, Token, wire,
};

use super::render;

/// A node on the stage.
pub(super) struct Actor {
    /// None while it is down.
    pub(super) node: Option<Node>,
    /// While true, nothing more becomes durable.
    pub(super) disk_stalled: bool,
    config: Config,
    now: Instant,
    under_way: Vec<(Ticket, Vec<Operation>)>,
    journal: Vec<Operation>,
    map: BTreeMap<String, String>,
    /// What its clients wait for: commands and keys as they were given.
    requests: BTreeMap<Token, String>,
    last_token: Token,
}

/// All nodes, and what is between them.
#[derive(Default)]
pub(super) struct Stage {
    pub(super) actors: BTreeMap<NodeId, Actor>,
    /// Messages under way, in the order in which they were sent.
    pub(super) pool: Vec<Envelope>,
    /// Links that lose everything: from and to.
    pub(super) cut: BTreeSet<(NodeId, NodeId)>,
    /// Whether lines are written about messages.
    pub(super) shows_messages: bool,
    lines: Vec<String>,
    leaders: BTreeMap<Term, NodeId>,
    applied: BTreeMap<LogIndex, (Term, Vec<u8>)>,
}

/// What a reader is told of a node when it changes.
type Appearance = (NodeState, Term, NodeId, LogIndex);

impl Stage {
    /// Puts up nodes with these settings.
    pub(super) fn new(configs: impl IntoIterator<Item = Config>) -> Self {
        let mut stage = Self { shows_messages: true, ..Self::default() };
        for config in configs {
            let id = config.id;
            let actor = Actor {
                node: None,
                disk_stalled: false,
                config,
                now: Instant(1_000_000_000),
                under_way: Vec::new(),
                journal: Vec::new(),
                map: BTreeMap::new(),
                requests: BTreeMap::new(),
                last_token: Token::NONE,
            };
            stage.actors.insert(id, actor);
            stage.start(id).expect("the configuration is valid, and the journal is empty");
        }
        stage
    }

    /// What has happened since the last call.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    pub(super) fn say(&mut self, line: String) {
        self.lines.push(line);
    }

    pub(super) fn actor(&mut self, id: NodeId) -> Result<&mut Actor, String> {
        self.actors.get_mut(&id).ok_or_else(|| format!("there is no node {id}"))
    }

    /// Gives a node that is down another past.
    pub(super) fn replace_journal(&mut self, id: NodeId, journal: Vec<Operation>) -> Result<(), String> {
        self.actor(id)?.journal = journal;
        Ok(())
    }

    /// The node, which must be up.
    pub(super) fn node(&mut self, id: NodeId) -> Result<&mut Node, String> {
        self.actor(id)?.node.as_mut().ok_or_else(|| format!("node {id} is down"))
    }
}

// What can be done to a node.
impl Stage {
    /// Starts a node with what its disk has kept.
    pub(super) fn start(&mut self, id: NodeId) -> Result<(), String> {
        let actor = self.actor(id)?;
        let mut node = Node::new(actor.config.clone()).map_err(|error| error.to_string())?;
        for operation in &actor.journal {
            node.recover(operation.clone()).map_err(|error| error.to_string())?;
        }
        node.start(actor.now);
        actor.node = Some(node);
        Ok(())
    }

    /// Takes a node down: what was not durable is gone, with all that only memory had. Says what the disk lost.
    pub(super) fn crash(&mut self, id: NodeId) -> Result<Vec<String>, String> {
        self.node(id)?;
        let actor = self.actor(id)?;
        actor.node = None;
        actor.config.seed += 1000; // a new run draws new numbers
        actor.map.clear();
        actor.requests.clear();
        Ok(actor.under_way.drain(..).map(|(_, operations)| render::operations(&operations)).collect())
    }

    /// Lets time pass on one node's clock.
    pub(super) fn pass(&mut self, id: NodeId, time: Duration) -> Result<(), String> {
        let actor = self.actor(id)?;
        actor.now = actor.now + time;
        if actor.node.is_some() { self.settle(id) } else { Ok(()) }
    }

    /// A client's request.
    pub(super) fn request(&mut self, id: NodeId, what: &str, input: impl FnOnce(Token) -> Input) -> Result<(), String> {
        let actor = self.actor(id)?;
        actor.last_token = actor.last_token.next();
        let token = actor.last_token;
        actor.requests.insert(token, what.to_owned());
        self.input(id, input(token))
    }

    /// All that the disk was given so far is durable.
    pub(super) fn complete_disk(&mut self, id: NodeId) -> Result<(), String> {
        let actor = self.actor(id)?;
        let Some((ticket, _)) = actor.under_way.last() else { return Ok(()) };
        let ticket = *ticket;
        actor.journal.extend(actor.under_way.drain(..).flat_map(|(_, operations)| operations));
        self.input(id, Input::Persisted { ticket })
    }

    /// Hands a message over, unless its link is cut or its receiver is down: then says why not.
    pub(super) fn deliver(&mut self, envelope: &Envelope) -> Result<Option<&'static str>, String> {
        let (from, to) = (envelope.from, envelope.to);
        if self.cut.contains(&(from, to)) {
            return Ok(Some("cut off"));
        }
        if self.actor(to)?.node.is_none() {
            return Ok(Some("down"));
        }
        let input = Input::Receive { sender: from, envelope: wire::encode_envelope(envelope) };
        self.input(to, input).map(|()| None)
    }

    /// An input, and all that follows from it on this node.
    pub(super) fn input(&mut self, id: NodeId, input: Input) -> Result<(), String> {
        let before = self.appearance(id)?;
        let actor = self.actor(id)?;
        let now = actor.now;
        self.node(id)?.step(now, input, &mut Vec::new());
        self.say_changes(id, before)?;
        self.settle(id)
    }

    /// Ticks until nothing more follows. A disk that isn't stalled is done at once.
    fn settle(&mut self, id: NodeId) -> Result<(), String> {
        loop {
            let before = self.appearance(id)?;
            let mut effects = Vec::new();
            let now = self.actor(id)?.now;
            self.node(id)?.step(now, Input::Tick, &mut effects);
            self.say_changes(id, before)?;
            if effects.is_empty() {
                return Ok(());
            }
            self.carry_out(id, effects)?;
            let actor = self.actor(id)?;
            if let Some((ticket, _)) = actor.under_way.last().filter(|_| !actor.disk_stalled) {
                let persisted = Input::Persisted { ticket: *ticket };
                actor.journal.extend(actor.under_way.drain(..).flat_map(|(_, operations)| operations));
                self.node(id)?.step(now, persisted, &mut Vec::new());
            }
        }
    }
}

// What a node does.
impl Stage {
    fn carry_out(&mut self, id: NodeId, effects: Vec<Effect>) -> Result<(), String> {
        let mut sent = Vec::new();
        for effect in effects {
            match effect {
                Effect::Persist { ticket, operations } => {
                    let actor = self.actor(id)?;
                    let waits = if actor.disk_stalled { " (waits for its disk)" } else { "" };
                    let line = format!("{id} writes {}{waits}", render::operations(&operations));
                    actor.under_way.push((ticket, operations));
                    self.say(line);
                }
                Effect::Send { envelope, .. } => sent.push(wire::decode_envelope(&envelope).map_err(|error| error.to_string())?),
                Effect::Apply { commands } => self.apply(id, commands)?,
                Effect::ServeReads { tokens } => self.serve(id, &tokens)?,
                Effect::Reject { requests } => self.give_up(id, &requests)?,
                Effect::Log { level: LogLevel::Debug | LogLevel::Info, .. } => {}
                Effect::Log { message, .. } => self.say(format!("{id} warns: {message}")),
            }
        }
        self.send(sent);
        Ok(())
    }

    /// Puts messages into the pool; the same one to several nodes makes one line.
    fn send(&mut self, sent: Vec<Envelope>) {
        let mut groups: Vec<(NodeId, String, Vec<String>)> = Vec::new();
        for envelope in &sent {
            let lost = if self.cut.contains(&(envelope.from, envelope.to)) { " ✗ cut off" } else { "" };
            let text = format!("{}{lost}", render::message(&envelope.message));
            match groups.iter_mut().find(|(_, known, _)| *known == text) {
                Some((_, _, receivers)) => receivers.push(envelope.to.to_string()),
                None => groups.push((envelope.from, text, vec![envelope.to.to_string()])),
            }
        }
        if self.shows_messages {
            self.lines.extend(groups.into_iter().map(|(from, text, receivers)| format!("{from}→{} {text}", receivers.join(","))));
        }
        self.pool.extend(sent.into_iter().filter(|envelope| !self.cut.contains(&(envelope.from, envelope.to))));
    }

    /// Applies commands, and checks that every node applies the same ones (Raft paper, figure 3, State Machine Safety).
    fn apply(&mut self, id: NodeId, commands: Vec<Committed>) -> Result<(), String> {
        for Committed { index, term, token, command } in commands {
            let known = self.applied.entry(index).or_insert_with(|| (term, command.to_vec()));
            if *known != (term, command.to_vec()) {
                return Err(format!("node {id} applies {index}@{term} {}, but another node {known:?}", render::command(&command)));
            }
            let text = String::from_utf8_lossy(&command).into_owned();
            let (key, value) = text.split_once('=').unwrap_or((&text, ""));
            let actor = self.actor(id)?;
            actor.map.insert(key.to_owned(), value.to_owned());
            let client = if token.is_some_and(|token| actor.requests.remove(&token).is_some()) { ", and tells its client" } else { "" };
            self.say(format!("{id} applies {index}@{term} {}{client}", render::command(&command)));
        }
        Ok(())
    }

    fn serve(&mut self, id: NodeId, tokens: &[Token]) -> Result<(), String> {
        for token in tokens {
            let actor = self.actor(id)?;
            let key = actor.requests.remove(token).ok_or_else(|| format!("node {id} serves a read twice"))?;
            let value = actor.map.get(&key).map_or("nothing".to_owned(), |value| format!("{key}={value}"));
            self.say(format!("{id} serves the read of {key}: {value}"));
        }
        Ok(())
    }

    fn give_up(&mut self, id: NodeId, requests: &[Rejected]) -> Result<(), String> {
        for Rejected { token, reason, .. } in requests {
            let what = self.actor(id)?.requests.remove(token).ok_or_else(|| format!("node {id} rejects a request twice"))?;
            self.say(format!("{id} gives {what} up: {}", render::rejection(*reason)));
        }
        Ok(())
    }

    fn appearance(&mut self, id: NodeId) -> Result<Appearance, String> {
        let node = self.node(id)?;
        Ok((node.state(), node.persistent_state().current_term, node.leader(), node.log().commit_index()))
    }

    /// Says what has changed about a node, and checks that a term has one leader (Raft paper, figure 3, Election Safety).
    fn say_changes(&mut self, id: NodeId, before: Appearance) -> Result<(), String> {
        let after = self.appearance(id)?;
        let (state, term, leader, commit) = after;
        if (state, term, leader) != (before.0, before.1, before.2) {
            let line = match (state, before.0) {
                (NodeState::Leader, _) => format!("{id} leads term {term}"),
                (NodeState::Follower, _) if !leader.is_none() => format!("{id} follows {leader} in term {term}"),
                (NodeState::Follower, NodeState::Leader) => format!("{id} steps down to follower in term {term}"),
                _ => format!("{id} is {} in term {term}", render::state(state)),
            };
            self.say(line);
        }
        if commit != before.3 {
            self.say(format!("{id} commits up to {commit}"));
        }
        if state == NodeState::Leader {
            let known = *self.leaders.entry(term).or_insert(id);
            if known != id {
                return Err(format!("nodes {known} and {id} both lead term {term}"));
            }
        }
        Ok(())
    }
}
