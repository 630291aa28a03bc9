//! Scripted clusters: a story in commands, and the whole cluster's reaction as text that was reviewed.
//!
//! The format is goldenscript's: commands, `---`, output. Nodes have clocks of their own, nothing moves by itself, and a disk is done at
//! once unless it is stalled. `UPDATE_GOLDENFILES=1 cargo test --test scripts` writes the output anew; review it.
//!
//! | command | what it does |
//! |---|---|
//! | `cluster nodes=3 [window=2]` | puts up a new cluster; `window`: requests to append that may be under way to one peer |
//! | … `[drift=10]` | with leases, for clocks that differ by so many percent |
//! | `given 2 "1 1 4" [term=5]` | restarts a node with a log of entries of these terms, in the last one's term or another |
//! | `campaign 1` | lets this node's clock alone run until it asks for pre-votes |
//! | `propose 1 x=1`, `read 2 x` | a client's requests |
//! | `spare 4` | puts up a node that waits to be added |
//! | `change 1 add 4` | an operator's: `add`, `learner`, `promote`, `remove` a node, or `replace` all voters by some |
//! | `members` | the configuration that holds, as each node has it |
//! | `transfer 1 [to=2]` | an operator's: node 1 is to hand over |
//! | `open-session 1 5000ms`, `keep-session 1 2`, `close-session 1 2` | what clients do with sessions, here number 2 |
//! | `propose-in 1 2 3 x=1 [acknowledged=2]` | a client's command through node 1, in session 2 as its third |
//! | `deliver`, `drop`, `duplicate` | what is under way now, in its order, with each message's effects indented below it |
//! | … `from=1 to=2 kind=Heartbeat count=1` | only these; and with `reversed=true` the newest first |
//! | `stabilize` | delivers until nothing is under way |
//! | `advance 50ms [1 2]` | lets clocks run, in steps of 10 ms, without any message |
//! | `run 500ms` | lets all clocks run with messages delivered at once, and does not show them |
//! | `partition 1 from 2 3`, `cut 1 to 2`, `heal` | links that lose everything |
//! | `stall-disk 2`, `complete-disk 2`, `resume-disk 2` | stalls a disk; lets it finish what it has; and from then on |
//! | `crash 1`, `restart 1` | loses memory and what was not durable |
//! | `envelope 1 from=2 bytes="\x01…"` | bytes as an envelope |
//! | `status`, `log 1`, `messages` | look |
//!
//! Every command checks election safety and state machine safety (Raft paper, figure 3).

mod arguments;
mod stage;

use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use amaters_cluster_core::message::Envelope;
use amaters_cluster_core::{
    Config, EntryId, EntryKind, Input, LogEntry, LogIndex, Member, MembershipChange, NodeId, NodeState, Origin, PersistentState,
    SessionChange, SessionId, SessionStamp, Term, wire,
};
use goldenscript::{ArgumentConsumer, Command, Context, Runner};

use arguments::{Choice, duration, node, nodes, number, sides, text};
use stage::Stage;

use crate::cluster::Cluster;
use crate::render;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Runs one script; begins with no cluster.
pub struct Script {
    stage: Stage,
}

impl Default for Script {
    fn default() -> Self {
        Self { stage: Stage::new(Cluster::new(0)) }
    }
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String> {
        let mut args = command.consume_args();
        match command.name.as_str() {
            "cluster" => self.cluster(&mut args)?,
            "given" => self.given(node(&mut args)?, &mut args)?,
            "campaign" => self.campaign(node(&mut args)?)?,
            "propose" => self.propose(node(&mut args)?, &mut args)?,
            "propose-in" => self.propose_in_session(&mut args)?,
            "open-session" => self.open_session(&mut args)?,
            "keep-session" => {
                let (id, session) = (node(&mut args)?, SessionId(number(&mut args, "a session")?));
                self.stage.change_session(id, SessionChange::KeepAlive { session, acknowledged: 1 })?;
            }
            "close-session" => {
                let (id, session) = (node(&mut args)?, SessionId(number(&mut args, "a session")?));
                self.stage.change_session(id, SessionChange::Close { session })?;
            }
            "read" => self.stage.read(node(&mut args)?, text(&mut args, "a key")?)?,
            "spare" => self.spare(node(&mut args)?)?,
            "change" => self.change(node(&mut args)?, &mut args)?,
            "members" => self.members(),
            "transfer" => self.transfer(node(&mut args)?, &mut args)?,
            "deliver" => self.deliver(&Choice::take(&mut args)?)?,
            "drop" => self.lose(&Choice::take(&mut args)?)?,
            "duplicate" => self.duplicate(&Choice::take(&mut args)?)?,
            "stabilize" => self.stabilize()?,
            "advance" => self.advance(duration(&mut args)?, &mut args)?,
            "run" => self.let_run(duration(&mut args)?)?,
            "partition" => self.partition(&mut args)?,
            "cut" => self.cut(&mut args)?,
            "heal" => self.stage.heal(),
            "stall-disk" => self.stall_disk(node(&mut args)?)?,
            "complete-disk" => self.stage.complete_disk(node(&mut args)?)?,
            "resume-disk" => self.resume_disk(node(&mut args)?)?,
            "crash" => self.crash(node(&mut args)?)?,
            "restart" => self.restart(node(&mut args)?)?,
            "envelope" => self.envelope(node(&mut args)?, &mut args)?,
            "status" => self.status(),
            "log" => self.log(node(&mut args)?)?,
            "messages" => self.messages(),
            name => return Err(format!("no such command: {name}").into()),
        }
        args.reject_next()?;
        Ok(self.stage.take_lines().join("\n"))
    }
}

// The cluster and its clients.
impl Script {
    fn cluster(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<()> {
        let size: u64 = args.take_key("nodes").ok_or("expected nodes=…")?.parse()?;
        let window: Option<usize> = args.take_key("window").map(str::parse).transpose()?;
        let drift: Option<u32> = args.take_key("drift").map(str::parse).transpose()?;
        let configure = |config: &mut Config| {
            config.max_inflight = window.unwrap_or(config.max_inflight);
            config.lease_reads = drift.is_some();
            config.max_clock_drift = drift.unwrap_or(config.max_clock_drift);
        };
        self.stage = Stage::new(Cluster::with(size, configure));
        Ok(())
    }

    /// Replaces all that a node has ever known by a log of entries with these terms, each with its place as its command.
    fn given(&mut self, id: NodeId, args: &mut ArgumentConsumer<'_>) -> Result<()> {
        let terms = text(args, "terms")?.split_whitespace().map(str::parse).collect::<std::result::Result<Vec<u64>, _>>()?;
        let current_term: Option<u64> = args.take_key("term").map(str::parse).transpose()?;
        let current_term = current_term.or(terms.last().copied()).unwrap_or_default().into();
        let mut journal = vec![wire::hard_state_operation(&PersistentState { current_term, voted_for: NodeId::NONE })];
        let entries: Vec<_> = (1..).zip(terms).map(|(index, term)| given_entry(index, term)).collect();
        if !entries.is_empty() {
            journal.push(wire::append_operation(&entries.iter().collect::<Vec<&LogEntry>>(), None));
        }
        Ok(self.stage.replace_journal(id, journal)?)
    }

    fn propose(&mut self, id: NodeId, args: &mut ArgumentConsumer<'_>) -> Result<()> {
        while let Some((key, value)) = args.next_key() {
            self.stage.propose(id, format!("{key}={value}"))?;
        }
        Ok(())
    }
}

// Operators.
impl Script {
    fn spare(&mut self, id: NodeId) -> Result<()> {
        let like = *self.stage.cluster.ids().first().ok_or("there is no cluster yet")?;
        Ok(self.stage.spare(id, like)?)
    }

    fn change(&mut self, id: NodeId, args: &mut ArgumentConsumer<'_>) -> Result<()> {
        let (kind, named) = (text(args, "a change")?, nodes(args)?);
        let member = |id: NodeId| Member { id, address: String::new() };
        let change = match (kind, &named[..]) {
            ("add", [id]) => MembershipChange::AddVoter(member(*id)),
            ("learner", [id]) => MembershipChange::AddLearner(member(*id)),
            ("promote", [id]) => MembershipChange::Promote(*id),
            ("remove", [id]) => MembershipChange::Remove(*id),
            ("replace", ids) => MembershipChange::Replace(ids.iter().map(|id| member(*id)).collect()),
            (other, _) => return Err(format!("no such change: {other}").into()),
        };
        Ok(self.stage.change(id, change)?)
    }

    fn members(&mut self) {
        for id in self.stage.cluster.ids() {
            let line = match self.stage.node(id) {
                Ok(node) => {
                    let state = node.configuration();
                    format!("{id} has configuration {}: {}", state.version(), render::configuration(state))
                }
                Err(_) => format!("{id} down"),
            };
            self.stage.say(line);
        }
    }

    fn transfer(&mut self, id: NodeId, args: &mut ArgumentConsumer<'_>) -> Result<()> {
        let to: Option<u64> = args.take_key("to").map(str::parse).transpose()?;
        Ok(self.stage.transfer(id, to.map_or(NodeId::NONE, NodeId))?)
    }
}

// Sessions.
impl Script {
    fn open_session(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<()> {
        let (id, timeout) = (node(args)?, duration(args)?);
        let timeout_ms = u64::try_from(timeout.as_millis())?;
        Ok(self.stage.change_session(id, SessionChange::Open { timeout_ms })?)
    }

    fn propose_in_session(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<()> {
        let (id, session, sequence) = (node(args)?, SessionId(number(args, "a session")?), number(args, "a sequence")?);
        let acknowledged = args.take_key("acknowledged").map(str::parse).transpose()?.unwrap_or(1);
        let (key, value) = args.next_key().ok_or("expected a command such as x=1")?;
        Ok(self.stage.propose_in_session(id, SessionStamp { session, sequence, acknowledged }, &format!("{key}={value}"))?)
    }
}

// Time.
impl Script {
    fn campaign(&mut self, id: NodeId) -> Result<()> {
        const LONGEST_WAIT_MS: u32 = 300;
        for _ in 0..LONGEST_WAIT_MS {
            self.stage.pass(id, Duration::from_millis(1))?;
            if self.stage.node(id)?.state() != NodeState::Follower {
                return Ok(());
            }
        }
        Err(format!("node {id} did not campaign within {LONGEST_WAIT_MS} ms").into())
    }

    /// Lets clocks run: all, or those of the named nodes.
    fn advance(&mut self, time: Duration, args: &mut ArgumentConsumer<'_>) -> Result<()> {
        let named = nodes(args)?;
        let ids: Vec<_> = self.stage.cluster.ids().into_iter().filter(|id| named.is_empty() || named.contains(id)).collect();
        for step in steps(time) {
            for id in &ids {
                self.stage.pass(*id, step)?;
            }
        }
        Ok(())
    }

    fn let_run(&mut self, time: Duration) -> Result<()> {
        self.stage.shows_messages = false;
        let ids = self.stage.cluster.ids();
        for step in steps(time) {
            for id in &ids {
                self.stage.pass(*id, step)?;
            }
            self.stabilize()?;
        }
        self.stage.shows_messages = true;
        Ok(())
    }
}

// Messages.
impl Script {
    fn deliver(&mut self, choice: &Choice) -> Result<()> {
        let mut lines = Vec::new();
        for envelope in self.chosen(choice) {
            let lost = self.stage.deliver(&envelope)?;
            lines.push(format!("> {}{}", line(&envelope), lost.map_or(String::new(), |why| format!(" ✗ {why}"))));
            lines.extend(self.stage.take_lines().into_iter().map(|line| format!("    {line}")));
        }
        lines.into_iter().for_each(|line| self.stage.say(line));
        Ok(())
    }

    fn stabilize(&mut self) -> Result<()> {
        const ROUNDS: usize = 200;
        for _ in 0..ROUNDS {
            if self.stage.pool().is_empty() {
                return Ok(());
            }
            for envelope in self.stage.pool() {
                let lost = self.stage.deliver(&envelope)?;
                if let Some(why) = lost.filter(|_| self.stage.shows_messages) {
                    self.stage.say(format!("{} ✗ {why}", line(&envelope)));
                }
            }
        }
        Err(format!("messages beget messages for {ROUNDS} rounds").into())
    }

    fn lose(&mut self, choice: &Choice) -> Result<()> {
        for envelope in self.chosen(choice) {
            self.stage.lose(&envelope)?;
            self.stage.say(format!("{} ✗ lost", line(&envelope)));
        }
        Ok(())
    }

    fn duplicate(&mut self, choice: &Choice) -> Result<()> {
        for envelope in self.chosen(choice) {
            self.stage.duplicate(&envelope)?;
        }
        Ok(())
    }

    fn messages(&mut self) {
        let lines: Vec<_> = self.stage.pool().iter().map(|envelope| line(envelope)).collect();
        lines.into_iter().for_each(|line| self.stage.say(line));
    }

    fn envelope(&mut self, id: NodeId, args: &mut ArgumentConsumer<'_>) -> Result<()> {
        let sender: u64 = args.take_key("from").ok_or("expected from=…")?.parse()?;
        let bytes = args.take_key("bytes").ok_or("expected bytes=…")?.as_bytes().to_vec();
        Ok(self.stage.input(id, Input::Receive { sender: NodeId(sender), envelope: bytes })?)
    }

    fn chosen(&self, choice: &Choice) -> Vec<Rc<Envelope>> {
        let mut pool = self.stage.pool();
        if choice.reversed {
            pool.reverse();
        }
        pool.retain(|envelope| choice.fits(envelope));
        pool.truncate(choice.count);
        pool
    }
}

// What goes wrong.
impl Script {
    /// `partition 1 2 from 3`: nothing goes between the two sides.
    fn partition(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<()> {
        let (one, other) = sides(args, "from")?;
        for a in &one {
            for b in &other {
                self.stage.cut(*a, *b)?;
                self.stage.cut(*b, *a)?;
            }
        }
        Ok(())
    }

    /// `cut 1 to 2`: nothing goes that way.
    fn cut(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<()> {
        let (from, to) = sides(args, "to")?;
        for (a, b) in from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b))) {
            self.stage.cut(a, b)?;
        }
        Ok(())
    }

    fn stall_disk(&mut self, id: NodeId) -> Result<()> {
        let id = self.stage.known(id)?;
        self.stage.cluster.member_mut(id).disk_stalled = true;
        Ok(())
    }

    fn resume_disk(&mut self, id: NodeId) -> Result<()> {
        let id = self.stage.known(id)?;
        self.stage.cluster.member_mut(id).disk_stalled = false;
        if self.stage.node(id).is_ok() { Ok(self.stage.complete_disk(id)?) } else { Ok(()) }
    }

    fn crash(&mut self, id: NodeId) -> Result<()> {
        let lost = self.stage.crash(id)?;
        let lost = if lost.is_empty() { String::new() } else { format!(", and its disk never had {}", lost.join("; ")) };
        self.stage.say(format!("{id} crashes{lost}"));
        Ok(())
    }

    fn restart(&mut self, id: NodeId) -> Result<()> {
        if self.stage.node(id).is_ok() {
            return Err(format!("node {id} is up").into());
        }
        let id = self.stage.known(id)?;
        self.stage.cluster.restart(id);
        let node = self.stage.node(id)?;
        let (term, entries) = (node.persistent_state().current_term, render::entries(node.log().iter_from(LogIndex(1))));
        self.stage.say(format!("{id} starts as a follower in term {term} with {entries}"));
        Ok(())
    }
}

// What can be looked at.
impl Script {
    fn status(&mut self) {
        for id in self.stage.cluster.ids() {
            let line = match self.stage.node(id) {
                Ok(node) => {
                    let log = node.log();
                    let (state, term) = (render::state(node.state()), node.persistent_state().current_term);
                    format!("{id} {state} term={term} last={} commit={} applied={}", log.last(), log.commit_index(), log.applied_index())
                }
                Err(_) => format!("{id} down"),
            };
            self.stage.say(line);
        }
    }

    fn log(&mut self, id: NodeId) -> Result<()> {
        let log = self.stage.node(id)?.log();
        let line = format!("{id} {} commit={}", render::entries(log.iter_from(LogIndex(1))), log.commit_index());
        self.stage.say(line);
        Ok(())
    }
}

fn line(envelope: &Envelope) -> String {
    format!("{}→{} {}", envelope.from, envelope.to, render::message(&envelope.message))
}

fn given_entry(index: u64, term: u64) -> LogEntry {
    let origin = Origin { node: NodeId(0), run: 0, sequence: index };
    let id = EntryId { index: LogIndex(index), term: Term(term) };
    LogEntry { id, kind: EntryKind::Command { origin, payload: format!("{index}@{term}").into() } }
}

/// At most 10 ms each: as often as a driver ticks.
fn steps(time: Duration) -> impl Iterator<Item = Duration> {
    const STEP: Duration = Duration::from_millis(10);
    let whole = time.as_millis() / STEP.as_millis();
    let rest = time - STEP * u32::try_from(whole).unwrap_or(u32::MAX);
    (0..whole).map(|_| STEP).chain(Some(rest).filter(|rest| !rest.is_zero()))
}
