//! A cluster that tells what happens on it, and checks that it may.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use amaters_cluster_core::message::Envelope;
use amaters_cluster_core::{
    Committed, Input, LogIndex, LogLevel, MembershipChange, Node, NodeId, NodeState, Operation, Rejected, Reply, SessionChange,
    SessionStamp, Term, Ticket, Token,
};

use crate::cluster::{Cluster, Delivery, Event};
use crate::disk::Disk;
use crate::render;

type Result<T> = std::result::Result<T, String>;

/// A cluster, and what is told of it.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    /// Links that lose everything, from the moment of sending: from and to.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Whether lines are written about messages.
    pub(super) shows_messages: bool,
    /// What clients wait for: commands and keys as they were given.
    requests: BTreeMap<Token, String>,
    lines: Vec<String>,
    leaders: BTreeMap<Term, NodeId>,
    applied: BTreeMap<LogIndex, (Term, Vec<u8>)>,
}

/// What a reader is told of a node when it changes.
type Appearance = (NodeState, Term, NodeId, LogIndex);

impl Stage {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            cut: BTreeSet::new(),
            shows_messages: true,
            requests: BTreeMap::new(),
            lines: Vec::new(),
            leaders: BTreeMap::new(),
            applied: BTreeMap::new(),
        }
    }

    /// What has happened since the last call.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    pub(super) fn say(&mut self, line: String) {
        self.lines.push(line);
    }

    /// A node that exists, up or down.
    pub(super) fn known(&self, id: NodeId) -> Result<NodeId> {
        if self.cluster.ids().contains(&id) { Ok(id) } else { Err(format!("there is no node {id}")) }
    }

    /// The node, which must be up.
    pub(super) fn node(&self, id: NodeId) -> Result<&Node> {
        self.cluster.node(self.known(id)?).ok_or_else(|| format!("node {id} is down"))
    }
}

// What can be done to nodes, each with all that follows from it on that node.
impl Stage {
    /// Lets time pass on one node's clock.
    pub(super) fn pass(&mut self, id: NodeId, time: Duration) -> Result<()> {
        self.cluster.pass(self.known(id)?, time);
        if self.node(id).is_ok() { self.settle(id) } else { Ok(()) }
    }

    pub(super) fn input(&mut self, id: NodeId, input: Input) -> Result<()> {
        let before = self.appearance(id)?;
        self.cluster.input(id, input);
        self.say_changes(id, before)?;
        self.settle(id)
    }

    pub(super) fn propose(&mut self, id: NodeId, command: String) -> Result<()> {
        self.node(id)?;
        let token = self.cluster.propose(id, command.clone());
        self.requests.insert(token, command);
        self.settle(id)
    }

    pub(super) fn propose_in_session(&mut self, id: NodeId, stamp: SessionStamp, command: &str) -> Result<()> {
        self.node(id)?;
        let token = self.cluster.propose_in_session(id, stamp, command.to_owned());
        self.requests.insert(token, render::in_session(&stamp, command.as_bytes()));
        self.settle(id)
    }

    pub(super) fn change_session(&mut self, id: NodeId, change: SessionChange) -> Result<()> {
        self.node(id)?;
        let token = self.cluster.change_session(id, change);
        self.requests.insert(token, "a session".to_owned());
        self.settle(id)
    }

    pub(super) fn read(&mut self, id: NodeId, key: &str) -> Result<()> {
        self.node(id)?;
        let token = self.cluster.read(id);
        self.requests.insert(token, key.to_owned());
        self.settle(id)
    }

    pub(super) fn spare(&mut self, id: NodeId, like: NodeId) -> Result<()> {
        if self.known(id).is_ok() {
            return Err(format!("there is a node {id} already"));
        }
        self.cluster.put_up_spare(id, like);
        self.settle(id)
    }

    pub(super) fn change(&mut self, id: NodeId, change: MembershipChange) -> Result<()> {
        let token = self.cluster.change(id, change);
        self.requests.insert(token, "the change".to_owned());
        self.settle(id)
    }

    pub(super) fn transfer(&mut self, id: NodeId, to: NodeId) -> Result<()> {
        let token = self.cluster.transfer(id, to);
        self.requests.insert(token, "the transfer".to_owned());
        self.settle(id)
    }

    /// Hands over a message, or the first one like it: says why not, if it is lost.
    pub(super) fn deliver(&mut self, envelope: &Rc<Envelope>) -> Result<Option<&'static str>> {
        let (from, to) = (envelope.from, envelope.to);
        let before = self.appearance(to).ok();
        match (self.cluster.deliver(self.position(envelope)?), before) {
            (Delivery::Taken(_), Some(before)) => {
                self.say_changes(to, before)?;
                self.settle(to).map(|()| None)
            }
            _ => Ok(Some(if self.cut.contains(&(from, to)) { "cut off" } else { "down" })),
        }
    }

    /// Takes a message out of the pool.
    pub(super) fn lose(&mut self, envelope: &Rc<Envelope>) -> Result<()> {
        self.cluster.drop_message(self.position(envelope)?);
        Ok(())
    }

    /// Puts a copy of a message behind all others.
    pub(super) fn duplicate(&mut self, envelope: &Rc<Envelope>) -> Result<()> {
        self.cluster.duplicate(self.position(envelope)?);
        Ok(())
    }

    /// Messages under way, the oldest first.
    pub(super) fn pool(&self) -> Vec<Rc<Envelope>> {
        self.cluster.pool().iter().map(|message| Rc::clone(&message.envelope)).collect()
    }

    fn position(&self, envelope: &Rc<Envelope>) -> Result<usize> {
        self.pool().iter().position(|other| Rc::ptr_eq(other, envelope)).ok_or_else(|| "the message is not under way".to_owned())
    }

    pub(super) fn complete_disk(&mut self, id: NodeId) -> Result<()> {
        let before = self.appearance(id)?;
        self.cluster.complete_all(id);
        self.say_changes(id, before)?;
        self.settle(id)
    }

    /// Takes a node down, and says what its disk never had.
    pub(super) fn crash(&mut self, id: NodeId) -> Result<Vec<String>> {
        self.node(id)?;
        let lost = self.cluster.member(id).disk.under_way().map(|(_, operations)| render::operations(operations)).collect();
        self.cluster.crash(id, 0);
        Ok(lost)
    }

    /// Gives a node another past, and starts it from that.
    pub(super) fn replace_journal(&mut self, id: NodeId, journal: Vec<Operation>) -> Result<()> {
        self.crash(id)?;
        let disk = &mut self.cluster.member_mut(id).disk;
        *disk = Disk::default();
        disk.submit(Ticket(1), journal);
        disk.complete(Ticket(1));
        self.cluster.restart(id);
        Ok(())
    }

    pub(super) fn cut(&mut self, from: NodeId, to: NodeId) -> Result<()> {
        let link = (self.known(from)?, self.known(to)?);
        self.cut.insert(link);
        self.cluster.cut(from, to);
        Ok(())
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.cluster.heal();
    }

    /// Ticks until nothing more follows; twice, as what is decided late in one tick leaves with the next. A disk that isn't stalled is done
    /// at once.
    fn settle(&mut self, id: NodeId) -> Result<()> {
        const MOST_TICKS: usize = 1000;
        let mut quiet = 0;
        for _ in 0..MOST_TICKS {
            let before = self.appearance(id)?;
            self.cluster.tick(id);
            self.say_changes(id, before)?;
            let events = self.cluster.take_events();
            quiet = if events.is_empty() { quiet + 1 } else { 0 };
            if quiet == 2 {
                return Ok(());
            }
            self.tell(events)?;
            if !self.cluster.member(id).disk_stalled {
                self.cluster.complete_all(id);
            }
        }
        Err(format!("node {id} does not come to rest within {MOST_TICKS} ticks"))
    }
}

// What is told.
impl Stage {
    fn tell(&mut self, events: Vec<Event>) -> Result<()> {
        let mut sent = Vec::new();
        for event in events {
            match event {
                Event::Sent(envelope) => sent.push(envelope),
                Event::Submitted(id, _, operations) => {
                    let waits = if self.cluster.member(id).disk_stalled { " (waits for its disk)" } else { "" };
                    self.say(format!("{id} writes {}{waits}", render::operations(&operations)));
                }
                Event::Applied(id, commands) => self.applied(id, commands)?,
                Event::Replied(id, replies) => self.replied(id, replies)?,
                Event::Served(id, tokens) => self.served(id, &tokens)?,
                Event::Done(id, tokens) => self.done(id, &tokens)?,
                Event::Rejected(id, requests) => self.rejected(id, &requests)?,
                Event::Restored(id, _) => self.say(format!("{id} has its state from a snapshot")),
                Event::Repaired(id) => self.say(format!("{id} has repaired itself")),
                Event::WantsKey(id, version) => self.say(format!("{id} lacks version {version} of the key")),
                Event::Diverged(id, reason) => self.say(format!("{id} does nothing any more: {reason}")),
                Event::Snapshots(..)
                | Event::WroteSnapshot(..)
                | Event::Members(..)
                | Event::Noted(_, LogLevel::Debug | LogLevel::Info, _)
                | Event::Judged(..)
                | Event::Follows(..) => {}
                Event::Noted(id, _, message) => self.say(format!("{id} warns: {message}")),
            }
        }
        self.sent(sent)
    }

    /// The same message to several nodes makes one line. What is cut off is lost at once.
    fn sent(&mut self, sent: Vec<Rc<Envelope>>) -> Result<()> {
        let mut groups: Vec<(NodeId, String, Vec<String>)> = Vec::new();
        for envelope in sent {
            let is_cut = self.cut.contains(&(envelope.from, envelope.to));
            let text = format!("{}{}", render::message(&envelope.message), if is_cut { " ✗ cut off" } else { "" });
            match groups.iter_mut().find(|(_, known, _)| *known == text) {
                Some((_, _, receivers)) => receivers.push(envelope.to.to_string()),
                None => groups.push((envelope.from, text, vec![envelope.to.to_string()])),
            }
            if is_cut {
                self.lose(&envelope)?;
            }
        }
        if self.shows_messages {
            self.lines.extend(groups.into_iter().map(|(from, text, receivers)| format!("{from}→{} {text}", receivers.join(","))));
        }
        Ok(())
    }

    /// Checks that every node applies the same commands (Raft paper, figure 3, State Machine Safety).
    fn applied(&mut self, id: NodeId, commands: Vec<Committed>) -> Result<()> {
        for Committed { index, term, token, command, .. } in commands {
            let known = self.applied.entry(index).or_insert_with(|| (term, command.to_vec()));
            if *known != (term, command.to_vec()) {
                let (term, other) = known;
                return Err(format!(
                    "node {id} applies {} at {index}, another {} of term {term}",
                    render::command(&command),
                    render::command(other)
                ));
            }
            let waited = token.is_some_and(|token| self.requests.remove(&token).is_some());
            let client = if waited { ", and tells its client" } else { "" };
            self.say(format!("{id} applies {index}@{term} {}{client}", render::command(&command)));
        }
        Ok(())
    }

    fn replied(&mut self, id: NodeId, replies: Vec<Reply>) -> Result<()> {
        for Reply { token, index, result } in replies {
            let what = self.requests.remove(&token).ok_or_else(|| format!("node {id} answers a request twice"))?;
            let said =
                if result.is_empty() { format!("session {index}") } else { format!("entry {index} gave {}", render::command(&result)) };
            self.say(format!("{id} tells the client of {what}: {said}"));
        }
        Ok(())
    }

    fn served(&mut self, id: NodeId, tokens: &[Token]) -> Result<()> {
        for token in tokens {
            let key = self.requests.remove(token).ok_or_else(|| format!("node {id} serves a read twice"))?;
            let set = |committed: &Committed| {
                let command = String::from_utf8_lossy(&committed.command).into_owned();
                command.split_once('=').is_some_and(|(set, _)| set == key).then_some(command)
            };
            let value = self.cluster.member(id).machine.iter().rev().find_map(set).unwrap_or_else(|| "nothing".to_owned());
            self.say(format!("{id} serves the read of {key}: {value}"));
        }
        Ok(())
    }

    fn done(&mut self, id: NodeId, tokens: &[Token]) -> Result<()> {
        for token in tokens {
            let what = self.requests.remove(token).ok_or_else(|| format!("node {id} is done with a request twice"))?;
            self.say(format!("{id} is done with {what}"));
        }
        Ok(())
    }

    fn rejected(&mut self, id: NodeId, requests: &[Rejected]) -> Result<()> {
        for Rejected { token, reason, .. } in requests {
            let what = self.requests.remove(token).ok_or_else(|| format!("node {id} rejects a request twice"))?;
            self.say(format!("{id} gives {what} up: {}", render::rejection(*reason)));
        }
        Ok(())
    }

    fn appearance(&self, id: NodeId) -> Result<Appearance> {
        let node = self.node(id)?;
        Ok((node.state(), node.persistent_state().current_term, node.leader(), node.log().commit_index()))
    }

    /// Says what has changed about a node, and checks that a term has one leader (Raft paper, figure 3, Election Safety).
    fn say_changes(&mut self, id: NodeId, before: Appearance) -> Result<()> {
        let (state, term, leader, commit) = self.appearance(id)?;
        if (state, term, leader) != (before.0, before.1, before.2) {
            let line = match (state, before.0) {
                (NodeState::Leader, _) => format!("{id} leads term {term}"),
                (NodeState::Follower | NodeState::Learner, _) if !leader.is_none() => format!("{id} follows {leader} in term {term}"),
                (NodeState::Follower | NodeState::Learner, NodeState::Leader) => format!("{id} steps down to follower in term {term}"),
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
