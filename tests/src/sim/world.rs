//! A run: steps drawn from the weather, and what is checked after each.

use std::time::Duration;

use amaters_cluster_core::message::{Envelope, Message};
use amaters_cluster_core::{Input, Instant, NodeId, NodeState, Term, Ticket};
use fastrand::Rng;

use super::checker::Checker;
use super::coverage::{Coverage, Rare};
use super::ledger::{Ledger, command_of};
use super::promises::Promises;
use super::trace::Trace;
use super::weather::{Action, Weather};
use super::{Check, Report, Settings};
use crate::cluster::{Cluster, Delivery, Event, InFlight};
use crate::render;

/// A cluster in bad weather.
pub(super) struct World<'a> {
    pub(super) cluster: Cluster,
    pub(super) ledger: Ledger,
    pub(super) checker: Checker,
    pub(super) ids: Vec<NodeId>,
    steps: u32,
    rng: Rng,
    weather: Weather,
    promises: Promises,
    coverage: Coverage,
    trace: &'a mut Trace,
    /// The latest leader's term, and how many steps it has left.
    reign: (Term, u32),
}

impl<'a> World<'a> {
    pub(super) fn new(settings: Settings, trace: &'a mut Trace) -> Self {
        let mut rng = Rng::with_seed(settings.seed);
        let window = [1, 2, 4, 32][rng.usize(..4)];
        let pending = [2048, 1 << 20][rng.usize(..2)];
        let cluster = Cluster::with(settings.nodes(), |config| {
            config.seed = rng.u64(..);
            config.max_batch_bytes = 1024; // a few small entries, or one large one
            config.max_inflight = window;
            config.max_command_bytes = 2048;
            config.max_pending_bytes = pending;
            config.bug = settings.bug;
        });
        let mut world = Self {
            checker: Checker::new(&cluster),
            ids: cluster.ids(),
            weather: Weather::draw(&mut rng),
            steps: settings.steps,
            cluster,
            rng,
            ledger: Ledger::default(),
            promises: Promises::default(),
            coverage: Coverage::default(),
            trace,
            reign: (Term::NONE, 0),
        };
        for id in world.ids.clone() {
            world.new_clock(id);
        }
        world
    }

    /// The whole run.
    pub(super) fn live(mut self) -> Result<Report, String> {
        let mut spell = 0;
        for step in 0..self.steps {
            if spell == 0 {
                self.weather = Weather::draw(&mut self.rng);
                spell = self.rng.u32(50..400);
                self.trace.step(|| format!("{step:>8}  {:?}", self.weather));
            }
            spell -= 1;
            self.step(step)?;
            if step % 256 == 0 {
                self.checker.check_whole_logs(&self.cluster)?;
            }
        }
        self.finish()?;
        Ok(Report { coverage: self.coverage, digest: self.cluster.digest() })
    }

    fn step(&mut self, step: u32) -> Check {
        let mut action = self.weather.next(&mut self.rng);
        // A cluster does not wait long for its network: what is under way arrives, or time passes.
        if self.cluster.pool().is_empty() && matches!(action, Action::Deliver | Action::Lose | Action::Duplicate) {
            action = Action::PassTime;
        }
        if self.cluster.pool().len() > 60 * self.ids.len() {
            action = Action::Lose;
        }
        self.trace.step(|| format!("{step:>8}  {action:?}"));
        self.end_reign();
        match action {
            Action::Deliver => return self.deliver(),
            Action::Complete => return self.complete(),
            Action::PassTime => return self.pass_time(),
            Action::Propose => return self.propose(),
            Action::Read => return self.read(),
            Action::Restart => return self.restart_one(),
            Action::Lose => self.lose(),
            Action::Duplicate => self.duplicate(),
            Action::Cut => self.cut(),
            Action::Heal => self.cluster.heal(),
            Action::Crash => self.crash_one(),
            Action::PowerFailure => self.crash_all(),
        }
        Ok(())
    }
}

// The network.
impl World<'_> {
    fn deliver(&mut self) -> Check {
        let position = if self.rng.f64() < self.weather.in_order { 0 } else { self.rng.usize(..self.cluster.pool().len()) };
        self.deliver_at(position, self.weather.bursts)
    }

    /// Delivers a message, and ticks its receiver, but for a burst.
    pub(super) fn deliver_at(&mut self, position: usize, bursts: f64) -> Check {
        match self.cluster.deliver(position) {
            Delivery::Taken(InFlight { envelope, copy }) => {
                self.trace.detail(|| line(&envelope));
                match &envelope.message {
                    Message::AppendEntriesRequest(_) => self.coverage.hit_if(copy, Rare::DuplicateAppends),
                    Message::ForwardRequest(_) => self.coverage.hit_if(copy, Rare::DuplicateForwards),
                    _ => {}
                }
                self.moved(envelope.to, bursts)
            }
            Delivery::Lost(InFlight { envelope, .. }) => {
                self.trace.detail(|| format!("{}: lost", line(&envelope)));
                Ok(())
            }
        }
    }

    fn lose(&mut self) {
        let position = self.rng.usize(..self.cluster.pool().len());
        let envelope = self.cluster.drop_message(position);
        self.trace.detail(|| line(&envelope));
    }

    fn duplicate(&mut self) {
        let position = self.rng.usize(..self.cluster.pool().len());
        self.trace.detail(|| line(&self.cluster.pool()[position].envelope));
        self.cluster.duplicate(position);
    }

    /// Cuts one link in one direction, a node off, or the cluster in two.
    fn cut(&mut self) {
        let victim = self.victim();
        match self.rng.u8(..4) {
            0 => {
                let other = self.any();
                self.cluster.cut(victim, other);
                self.coverage.hit(Rare::OneWayCuts);
                self.trace.detail(|| format!("from node {victim} to node {other}"));
            }
            1 | 2 => {
                self.cluster.isolate(victim);
                self.trace.detail(|| format!("node {victim} off"));
            }
            _ => {
                let (some, others): (Vec<_>, Vec<_>) = self.ids.clone().into_iter().partition(|_| self.rng.bool());
                self.cluster.partition(&some, &others);
                self.trace.detail(|| format!("{some:?} from {others:?}"));
            }
        }
    }
}

// Machines.
impl World<'_> {
    fn complete(&mut self) -> Check {
        let busy: Vec<NodeId> = (self.ids.iter().copied()).filter(|id| self.cluster.member(*id).disk.unsynced() > 0).collect();
        if busy.is_empty() {
            return Ok(());
        }
        let id = busy[self.rng.usize(..busy.len())];
        let tickets: Vec<Ticket> = self.cluster.member(id).disk.under_way().map(|(ticket, _)| ticket).collect();
        let up_to = tickets[self.rng.usize(..tickets.len())];
        self.complete_up_to(id, up_to, self.weather.bursts)
    }

    pub(super) fn complete_up_to(&mut self, id: NodeId, up_to: Ticket, bursts: f64) -> Check {
        self.trace.detail(|| format!("the disk of node {id}, up to ticket {up_to}"));
        self.cluster.complete(id, up_to);
        self.moved(id, bursts)
    }

    /// Time passes, at each node a little differently, and most look at their clocks.
    fn pass_time(&mut self) -> Check {
        let pause = self.rng.u64(1..=self.weather.longest_pause * 1000);
        self.trace.detail(|| format!("{pause} µs"));
        for id in self.ids.clone() {
            let drift = self.rng.u64(90..=110);
            self.cluster.pass(id, Duration::from_micros(pause * drift / 100));
            if self.rng.u8(..10) > 0 {
                self.tick(id)?;
            }
        }
        Ok(())
    }

    /// Some leaders don't last long: tails that nobody else has come from those.
    fn end_reign(&mut self) {
        let Some(leader) = self.cluster.leader().filter(|_| self.weather.reign > 0) else { return };
        let term = self.cluster.node(leader).map(|node| node.persistent_state().current_term).unwrap_or_default();
        if term > self.reign.0 {
            self.reign = (term, self.rng.u32(1..=self.weather.reign));
        }
        self.reign.1 = self.reign.1.saturating_sub(1);
        if self.reign.1 == 0 && self.rng.bool() {
            self.crash(leader);
        } else if self.reign.1 == 0 {
            self.cluster.isolate(leader);
            self.trace.detail(|| format!("node {leader} is cut off"));
            self.reign.1 = self.weather.reign;
        }
    }

    fn crash_one(&mut self) {
        let victim = self.victim();
        self.crash(victim);
    }

    fn crash_all(&mut self) {
        self.coverage.hit(Rare::PowerFailures);
        self.ids.clone().into_iter().for_each(|id| self.crash(id));
    }

    fn crash(&mut self, id: NodeId) {
        let Some(node) = self.cluster.node(id) else { return };
        self.coverage.hit_if(node.state() == NodeState::Leader, Rare::LeaderCrashes);
        let keep = self.surviving_writes(id);
        let remains = self.cluster.crash(id, keep);
        self.trace.detail(|| format!("node {id}: {remains:?}"));
        self.coverage.hit_if(remains.lost > 0, Rare::LostWrites);
        self.coverage.hit_if(remains.kept > 0, Rare::UnknownWritesKept);
        self.coverage.hit_if(remains.torn, Rare::TornWrites);
        self.checker.crashed(id);
        self.ledger.crashed(id);
    }

    /// Stops as many nodes as a cluster bears, and starts the others.
    pub(super) fn leave_a_majority(&mut self) -> Check {
        let mut ids = self.ids.clone();
        self.rng.shuffle(&mut ids);
        let (down, up) = ids.split_at((ids.len() - 1) / 2);
        down.iter().for_each(|id| self.crash(*id));
        up.iter().try_for_each(|id| self.restart(*id))
    }

    /// How many of a disk's operations that are not durable a crash keeps: any number, and often one that tears a submission.
    fn surviving_writes(&mut self, id: NodeId) -> usize {
        let mut before = 0;
        for (_, operations) in self.cluster.member(id).disk.under_way() {
            if operations.len() > 1 && self.rng.bool() {
                return before + self.rng.usize(1..operations.len());
            }
            before += operations.len();
        }
        self.rng.usize(..=before)
    }

    fn restart_one(&mut self) -> Check {
        let id = self.any();
        self.restart(id)
    }

    /// Starts a node that is down; the clock of a machine begins anywhere.
    pub(super) fn restart(&mut self, id: NodeId) -> Check {
        if self.cluster.node(id).is_some() {
            return Ok(());
        }
        self.trace.detail(|| format!("node {id}"));
        self.new_clock(id);
        self.cluster.restart(id);
        self.tick(id)
    }

    fn new_clock(&mut self, id: NodeId) {
        let clock = Instant(self.rng.u64(..1 << 40));
        let member = self.cluster.member_mut(id);
        member.clock = clock;
        if let Some(node) = &mut member.node {
            node.start(clock);
        }
    }
}

// Clients.
impl World<'_> {
    fn propose(&mut self) -> Check {
        let id = self.any();
        let too_large = self.rng.u8(..100) == 0;
        let bytes = if too_large { 4096 } else { self.weather.command_bytes };
        self.propose_at(id, bytes, self.weather.bursts)
    }

    pub(super) fn propose_at(&mut self, id: NodeId, bytes: usize, bursts: f64) -> Check {
        let Some(node) = self.cluster.node(id) else { return Ok(()) };
        let token = self.cluster.upcoming_token();
        self.trace.detail(|| format!("request {token} at node {id}"));
        self.ledger.proposed(id, node.persistent_state().current_term);
        self.cluster.propose(id, command_of(token, bytes));
        self.moved(id, bursts)
    }

    fn read(&mut self) -> Check {
        let id = self.any();
        self.read_at(id, self.weather.bursts)
    }

    pub(super) fn read_at(&mut self, id: NodeId, bursts: f64) -> Check {
        let Some(node) = self.cluster.node(id) else { return Ok(()) };
        self.trace.detail(|| format!("request {} at node {id}", self.cluster.upcoming_token()));
        self.ledger.asked(id, node.persistent_state().current_term);
        self.cluster.read(id);
        self.moved(id, bursts)
    }
}

// What follows.
impl World<'_> {
    /// A node took an input: it is ticked, but for a burst, and looked at.
    fn moved(&mut self, id: NodeId, bursts: f64) -> Check {
        if bursts == 0.0 || self.rng.f64() >= bursts { self.tick(id) } else { self.check(id) }
    }

    pub(super) fn tick(&mut self, id: NodeId) -> Check {
        self.cluster.input(id, Input::Tick);
        self.check(id)
    }

    fn check(&mut self, id: NodeId) -> Check {
        let events = self.cluster.take_events();
        for event in &events {
            self.trace.detail(|| show(event));
        }
        self.checker.check(&self.cluster, id, &mut self.coverage)?;
        self.ledger.check_committed(self.checker.committed())?;
        let coverage = &mut self.coverage;
        let term = self.cluster.node(id).map(|node| node.persistent_state().current_term).unwrap_or_default();
        events.iter().try_for_each(|event| match event {
            Event::Sent(envelope) => self.promises.check(&self.cluster, envelope, coverage),
            Event::Applied(node, commands) => self.ledger.check_applied(*node, commands, self.checker.committed()),
            Event::Served(node, tokens) => self.ledger.check_served(*node, tokens, term, coverage),
            Event::Rejected(node, requests) => self.ledger.check_rejected(*node, requests, coverage),
            Event::Noted(node, level, message) => {
                coverage.hit_if(message.starts_with("stands for election"), Rare::Candidacies);
                Ledger::check_note(*node, *level, message)
            }
            Event::Submitted(..) => Ok(()),
        })?;
        self.ledger.check_all_told()
    }

    pub(super) fn trace_step(&mut self, line: impl FnOnce() -> String) {
        self.trace.step(line);
    }

    fn any(&mut self) -> NodeId {
        self.ids[self.rng.usize(..self.ids.len())]
    }

    /// Whom a fault hits.
    fn victim(&mut self) -> NodeId {
        let leader = self.cluster.leader().filter(|_| self.rng.f64() < self.weather.aimed_at_leader);
        leader.unwrap_or_else(|| self.any())
    }
}

fn line(envelope: &Envelope) -> String {
    format!("{} → {} {}", envelope.from, envelope.to, render::message(&envelope.message))
}

fn show(event: &Event) -> String {
    match event {
        Event::Sent(envelope) => format!("sends {}", line(envelope)),
        Event::Submitted(id, ticket, operations) => format!("node {id} writes, as ticket {ticket}: {}", render::operations(operations)),
        Event::Applied(id, commands) => {
            let indexes: Vec<_> = commands.iter().map(|command| command.index.to_string()).collect();
            format!("node {id} applies {}", indexes.join(", "))
        }
        Event::Served(id, tokens) => format!("node {id} serves {tokens:?}"),
        Event::Rejected(id, requests) => format!("node {id} turns down {requests:?}"),
        Event::Noted(id, _, message) => format!("node {id} says: {message}"),
    }
}
