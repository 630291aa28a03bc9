//! A run: steps drawn from the weather, and what is checked after each.

use std::time::Duration;

use amaters_cluster_core::{Input, LogIndex, NodeId, Operation, SnapshotConfig, SnapshotPolicy};
use fastrand::Rng;

use super::checker::Checker;
use super::coverage::{Coverage, Rare};
use super::history::History;
use super::keys::Safe;
use super::ledger::Ledger;
use super::machines::{CLOCK_DRIFT, Machines};
use super::network::line;
use super::patrons::Patron;
use super::promises::Promises;
use super::seals::Seals;
use super::trace::Trace;
use super::weather::{Action, Weather};
use super::{Check, Report, Settings};
use crate::cluster::{Cluster, Event, encryption};
use crate::render;

/// A cluster in bad weather.
pub(super) struct World<'a> {
    pub(super) cluster: Cluster,
    pub(super) ledger: Ledger,
    pub(super) checker: Checker,
    pub(super) ids: Vec<NodeId>,
    /// Whether there are nodes that wait to be added, and members may change.
    pub(super) spares: bool,
    pub(super) history: History,
    pub(super) machines: Machines,
    pub(super) rng: Rng,
    pub(super) weather: Weather,
    pub(super) coverage: Coverage,
    pub(super) trace: &'a mut Trace,
    /// A leader that has handed over and was cut off, and in how many steps a client asks it.
    pub(super) left_behind: Option<(NodeId, u32)>,
    promises: Promises,
    /// The operators' keys, if the cluster is sealed.
    pub(super) safe: Option<Safe>,
    seals: Option<Seals>,
    steps: u32,
    pub(super) clients_only: bool,
    pub(super) patrons: [Patron; 3],
    /// What the node that moves had applied before.
    pub(super) applied_before: LogIndex,
}

impl<'a> World<'a> {
    pub(super) fn new(settings: Settings, trace: &'a mut Trace) -> Self {
        let mut rng = Rng::with_seed(settings.seed);
        let window = [1, 2, 4, 32][rng.usize(..4)];
        let pending = [2048, 1 << 20][rng.usize(..2)];
        // Leases hold where clocks differ by no more than was said.
        let (lease_reads, stall) = (rng.u8(..3) == 0, [100, 1000, 1000][rng.usize(..3)]);
        let snapshots = snapshot_settings(&mut rng);
        let mut cluster = Cluster::with(settings.nodes(), |config| {
            config.seed = rng.u64(..);
            config.max_batch_bytes = 1024; // a few small entries, or one large one
            config.max_inflight = window;
            config.max_command_bytes = 2048;
            config.max_pending_bytes = pending;
            config.lease_reads = lease_reads;
            config.max_clock_drift = CLOCK_DRIFT;
            config.disk_stall_timeout = Duration::from_millis(stall);
            config.snapshots = snapshots.clone();
            config.bug = settings.bug;
            config.encryption = settings.sealed().then(encryption);
        });
        for spare in 1..=settings.spares() {
            cluster.put_up_spare(NodeId(settings.nodes() + spare), NodeId(1));
        }
        let mut world = Self {
            checker: Checker::new(&cluster, settings.sealed()),
            spares: settings.spares() > 0,
            ids: cluster.ids(),
            weather: Weather::draw(&mut rng, settings.sealed()),
            steps: settings.steps,
            clients_only: settings.clients_only,
            cluster,
            rng,
            ledger: Ledger::default(),
            history: History::default(),
            machines: Machines::with_clocks(lease_reads),
            left_behind: None,
            promises: Promises::default(),
            safe: settings.sealed().then(Safe::new),
            seals: settings.sealed().then(Seals::default),
            coverage: Coverage::of(settings.nodes(), settings.sealed()),
            trace,
            patrons: Default::default(),
            applied_before: LogIndex::NONE,
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
                self.weather = Weather::draw(&mut self.rng, self.safe.is_some());
                self.draw_rates();
                spell = self.rng.u32(50..400);
                self.trace.step(|| format!("{step:>8}  {:?}", self.weather));
            }
            spell -= 1;
            self.step(step)?;
            if step % 256 == 0 {
                self.check_whole()?;
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
        self.ask_who_is_left_behind()?;
        match action {
            Action::Deliver => return self.deliver(),
            Action::Complete => return self.complete(),
            Action::Answer => return self.answer(),
            Action::PassTime => return self.pass_time(),
            Action::Propose => return self.propose(),
            Action::Read => return self.read(),
            Action::Transfer => return self.transfer(),
            Action::Session => return self.use_session(),
            Action::ChangeMembers if self.spares => return self.change_members(),
            Action::ChangeMembers => {}
            Action::RotateKey => return self.rotate_key(),
            Action::ManageKeys => return self.manage_keys(),
            Action::Restart => return self.restart_one(),
            Action::Lose => self.lose(),
            Action::Duplicate => self.duplicate(),
            Action::Cut => self.cut(),
            Action::Heal => self.cluster.heal(),
            Action::Crash => self.crash_one(),
            Action::PowerFailure => self.crash_all(),
            Action::StallDisk => self.stall_disk(),
            Action::FillDisk => self.fill_disk(),
            Action::MendDisks => self.mend_disks(),
            Action::JumpClock => return self.jump_clock(),
        }
        Ok(())
    }
}

// What follows.
impl World<'_> {
    /// A node took an input: it is ticked, but for a burst, and looked at.
    pub(super) fn moved(&mut self, id: NodeId, bursts: f64) -> Check {
        if bursts == 0.0 || self.rng.f64() >= bursts { self.tick(id) } else { self.check(id) }
    }

    pub(super) fn tick(&mut self, id: NodeId) -> Check {
        // A machine that is slow gives its results in one of the next ticks.
        if self.rng.u8(..4) > 0 {
            self.cluster.give_results(id);
        }
        self.applied_before = self.cluster.node(id).map(|node| node.log().applied_index()).unwrap_or_default();
        self.cluster.input(id, Input::Tick);
        self.check(id)
    }

    fn check(&mut self, id: NodeId) -> Check {
        let events = self.cluster.take_events();
        for event in &events {
            self.trace.detail(|| show(event));
        }
        if self.clients_only {
            self.take_answers(&events);
            return Ok(());
        }
        for event in &events {
            if let Event::Repaired(node) = event {
                self.checker.repaired(*node);
            }
        }
        if let Some(seals) = &mut self.seals {
            events.iter().try_for_each(|event| seals.check(event))?;
        }
        self.checker.check(&self.cluster, id, &mut self.coverage)?;
        self.take_answers(&events);
        self.ledger.check_committed(self.checker.committed())?;
        let coverage = &mut self.coverage;
        let term = self.cluster.node(id).map(|node| node.persistent_state().current_term).unwrap_or_default();
        events.iter().try_for_each(|event| match event {
            Event::Sent(envelope) => self.promises.check(&self.cluster, envelope, coverage),
            Event::Applied(node, commands) => self.ledger.check_applied(*node, commands, self.checker.committed()),
            Event::Replied(node, replies) => self.ledger.check_replied(*node, replies, coverage),
            Event::Served(node, tokens) => {
                coverage.hit_if(has_lease(&self.cluster, *node), Rare::LeaseReads);
                self.ledger.check_served(*node, tokens, term, coverage)
            }
            Event::Done(node, tokens) => self.ledger.check_done(*node, tokens, coverage),
            Event::Rejected(node, requests) => self.ledger.check_rejected(*node, requests, coverage),
            Event::Noted(node, level, message) => {
                coverage.note(message, self.safe.is_some());
                Ledger::check_note(*node, *level, message)
            }
            Event::Restored(node, machine) => {
                coverage.hit(Rare::SnapshotsRestored);
                coverage.hit_if(self.safe.is_some(), Rare::SealedSnapshotsRestored);
                self.ledger.check_restored(*node, machine, self.checker.committed())
            }
            Event::Submitted(_, _, operations) => {
                coverage.hit_if(operations.iter().any(|operation| matches!(operation, Operation::Compact { .. })), Rare::LogsCompacted);
                Ok(())
            }
            Event::Repaired(_) => {
                coverage.hit(Rare::Repaired);
                Ok(())
            }
            Event::Diverged(node, reason) => Err(format!("node {node} does nothing any more: {reason}")),
            Event::WantsKey(..) => {
                coverage.hit(Rare::KeysAskedFor);
                Ok(())
            }
            Event::Snapshots(..) | Event::WroteSnapshot(..) | Event::Members(..) | Event::Judged(..) | Event::Follows(..) => Ok(()),
        })?;
        for event in &events {
            self.cover_replies(event, term);
        }
        if let Some(node) = self.cluster.node(id) {
            self.ledger.sessions.check_image(id, node.log().applied_index(), node.sessions())?;
        }
        self.ledger.check_all_told()
    }

    fn take_answers(&mut self, events: &[Event]) {
        for event in events {
            self.tell_patrons(event);
            match event {
                Event::Restored(node, machine) => {
                    self.history.crashed(*node);
                    self.history.applied(*node, machine, &mut self.coverage);
                }
                Event::Applied(node, commands) => self.history.applied(*node, commands, &mut self.coverage),
                Event::Served(node, tokens) => self.history.served(*node, tokens),
                Event::Rejected(_, requests) => self.history.rejected(requests),
                _ => {}
            }
        }
    }

    /// What is too dear to be checked after each step.
    pub(super) fn check_whole(&mut self) -> Check {
        if !self.clients_only {
            self.checker.check_whole_logs(&self.cluster)?;
        }
        self.history.check(&mut self.coverage)
    }

    pub(super) fn trace_step(&mut self, line: impl FnOnce() -> String) {
        self.trace.step(line);
    }

    pub(super) fn any(&mut self) -> NodeId {
        self.ids[self.rng.usize(..self.ids.len())]
    }

    /// Whom a fault hits.
    pub(super) fn victim(&mut self) -> NodeId {
        let leader = self.cluster.leader().filter(|_| self.rng.f64() < self.weather.aimed_at_leader);
        leader.unwrap_or_else(|| self.any())
    }
}

/// Half of the clusters take snapshots, some of them after every few entries.
fn snapshot_settings(rng: &mut Rng) -> SnapshotConfig {
    let mut one_of = |choices: &[u64]| choices[rng.usize(..choices.len())];
    let entries = Some(one_of(&[0, 0, 0, 3, 10, 40])).filter(|entries| *entries > 0);
    SnapshotConfig {
        policy: SnapshotPolicy { entries, bytes: None },
        tail_entries: one_of(&[0, 0, 5, 30]),
        keep: usize::try_from(one_of(&[1, 2])).expect("it is small"),
        chunk_bytes: 1024,
        ..SnapshotConfig::default()
    }
}

fn has_lease(cluster: &Cluster, id: NodeId) -> bool {
    let clock = cluster.member(id).clock;
    cluster.node(id).is_some_and(|node| node.status(clock).has_lease)
}

fn show(event: &Event) -> String {
    match event {
        Event::Sent(envelope) => format!("sends {}", line(envelope)),
        Event::Submitted(id, ticket, operations) => format!("node {id} writes, as ticket {ticket}: {}", render::operations(operations)),
        Event::Applied(id, commands) => {
            let indexes: Vec<_> = commands.iter().map(|command| command.index.to_string()).collect();
            format!("node {id} applies {}", indexes.join(", "))
        }
        Event::Replied(id, replies) => format!("node {id} answers {replies:?}"),
        Event::Served(id, tokens) => format!("node {id} serves {tokens:?}"),
        Event::Done(id, tokens) => format!("node {id} is done with {tokens:?}"),
        Event::Rejected(id, requests) => format!("node {id} turns down {requests:?}"),
        Event::Members(id, version, _) => format!("node {id} has configuration {version}"),
        Event::Noted(id, _, message) => format!("node {id} says: {message}"),
        Event::Judged(id, event) => format!("node {id} has changed its mind: {event:?}"),
        Event::Restored(id, _) => format!("node {id} has its state from a snapshot"),
        Event::Snapshots(id, what) => format!("node {id} {what}"),
        Event::WroteSnapshot(id, snapshot, offset, bytes) => {
            format!("node {id} writes {} bytes of snapshot {snapshot} at {offset}", bytes.len())
        }
        Event::WantsKey(id, version) => format!("node {id} lacks version {version} of the key"),
        Event::Diverged(id, reason) => format!("node {id} does nothing any more: {reason}"),
        Event::Repaired(id) => format!("node {id} has repaired itself"),
        Event::Follows(id, term, leader) => format!("node {id} knows of the leader {leader} of term {term}"),
    }
}
