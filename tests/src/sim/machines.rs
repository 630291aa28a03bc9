//! Machines: disks that are slow, stall, or are full, clocks that run unevenly, and power that fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use amaters_cluster_core::{Input, Instant, NodeId, NodeState, Term, Ticket};

use super::Check;
use super::coverage::Rare;
use super::world::World;

/// What is wrong with the machines.
#[derive(Default)]
pub(super) struct Machines {
    /// Whose disk has no room. The next write fails, and a node whose write failed ends.
    full: BTreeSet<NodeId>,
    /// Whose disk is full but for some reserve, and whose node is told so.
    short: BTreeSet<NodeId>,
    /// Whether clocks neither leap nor differ by more than [`CLOCK_DRIFT`].
    clocks_are_bounded: bool,
    /// How fast clocks run, in percent.
    rates: BTreeMap<NodeId, u64>,
    /// The latest leader's term, and how many steps it has left.
    reign: (Term, u32),
}

/// By how many percent the fastest of the clocks that are bounded outruns the slowest, at most.
pub(super) const CLOCK_DRIFT: u32 = 25;
/// How far they are from true, in percent: 110 / 90 is less than 1.25, with all rounding.
const BOUNDED_SKEW: u64 = 10;

impl Machines {
    pub(super) fn with_clocks(are_bounded: bool) -> Self {
        Self { clocks_are_bounded: are_bounded, ..Self::default() }
    }
}

// Disks.
impl World<'_> {
    pub(super) fn complete(&mut self) -> Check {
        let busy = |id: &NodeId| !self.cluster.member(*id).disk_stalled && self.cluster.member(*id).disk.unsynced() > 0;
        let busy: Vec<NodeId> = self.ids.iter().copied().filter(busy).collect();
        if busy.is_empty() {
            return Ok(());
        }
        let id = busy[self.rng.usize(..busy.len())];
        if self.machines.full.contains(&id) {
            self.coverage.hit(Rare::FullDisks);
            self.crash(id);
            return Ok(());
        }
        let tickets: Vec<Ticket> = self.cluster.member(id).disk.under_way().map(|(ticket, _)| ticket).collect();
        let up_to = tickets[self.rng.usize(..tickets.len())];
        self.complete_up_to(id, up_to, self.weather.bursts)
    }

    /// A node's storage or state machine answers about a snapshot.
    pub(super) fn answer(&mut self) -> Check {
        let busy: Vec<NodeId> = self.ids.iter().copied().filter(|id| self.cluster.member(*id).vault.is_busy()).collect();
        if busy.is_empty() {
            return Ok(());
        }
        let id = busy[self.rng.usize(..busy.len())];
        if self.machines.full.contains(&id) && self.cluster.member_mut(id).vault.fail_next_write() {
            self.coverage.hit(Rare::SnapshotsFailed);
        }
        self.answer_at(id, self.weather.bursts)
    }

    pub(super) fn answer_at(&mut self, id: NodeId, bursts: f64) -> Check {
        self.trace.detail(|| format!("node {id} hears of its snapshots"));
        self.cluster.answer(id);
        self.moved(id, bursts)
    }

    pub(super) fn complete_up_to(&mut self, id: NodeId, up_to: Ticket, bursts: f64) -> Check {
        self.trace.detail(|| format!("the disk of node {id}, up to ticket {up_to}"));
        self.cluster.complete(id, up_to);
        self.moved(id, bursts)
    }

    /// A disk takes what it is given and finishes nothing of it.
    pub(super) fn stall_disk(&mut self) {
        let victim = self.victim();
        self.coverage.hit(Rare::StalledDisks);
        self.coverage.hit_if(self.cluster.leader() == Some(victim), Rare::LeadersStalledDisks);
        self.cluster.member_mut(victim).disk_stalled = true;
        self.trace.detail(|| format!("of node {victim}"));
    }

    pub(super) fn fill_disk(&mut self) {
        let victim = self.victim();
        if self.rng.bool() {
            self.machines.full.insert(victim);
            self.trace.detail(|| format!("of node {victim}"));
            return;
        }
        // Nodes may share a disk.
        let victims = if self.rng.u8(..4) == 0 { self.ids.clone() } else { vec![victim] };
        self.trace.detail(|| format!("of {victims:?}, but for a reserve"));
        for id in victims {
            self.coverage.hit(Rare::ShortDisks);
            self.machines.short.insert(id);
            self.cluster.input(id, Input::DiskSpace { full: true });
            // Sooner or later nothing of the reserve is left.
            self.cluster.member_mut(id).disk_stalled |= self.rng.u8(..4) == 0;
        }
    }

    pub(super) fn mend_disks(&mut self) {
        self.machines.full.clear();
        for id in std::mem::take(&mut self.machines.short) {
            self.cluster.input(id, Input::DiskSpace { full: false });
        }
        for id in self.ids.clone() {
            self.cluster.member_mut(id).disk_stalled = false;
        }
    }
}

// Clocks.
impl World<'_> {
    /// Another spell: clocks run at other rates.
    pub(super) fn draw_rates(&mut self) {
        let skew = if self.machines.clocks_are_bounded { BOUNDED_SKEW } else { self.weather.skew };
        let rate = |id: &NodeId| (*id, self.rng.u64(100 - skew..=100 + skew));
        self.machines.rates = self.ids.iter().map(rate).collect();
    }

    /// Time passes, at each node at its own rate, and most look at their clocks.
    pub(super) fn pass_time(&mut self) -> Check {
        let pause = self.rng.u64(1..=self.weather.longest_pause * 1000);
        self.trace.detail(|| format!("{pause} µs"));
        for id in self.ids.clone() {
            let rate = self.machines.rates.get(&id).copied().unwrap_or(100);
            self.cluster.pass(id, Duration::from_micros(pause * rate / 100));
            if self.rng.u8(..10) > 0 {
                self.tick(id)?;
            }
        }
        Ok(())
    }

    /// A machine sleeps, or is moved to another host: its clock leaps, or is set back.
    pub(super) fn jump_clock(&mut self) -> Check {
        const LONGEST_LEAP: u64 = 10_000_000_000;
        const FARTHEST_BACK: u64 = 500_000_000;
        if self.machines.clocks_are_bounded {
            return self.pass_time();
        }
        let victim = self.victim();
        let back = self.rng.bool();
        self.coverage.hit(if back { Rare::ClocksSetBack } else { Rare::ClockLeaps });
        let clock = &mut self.cluster.member_mut(victim).clock;
        let before = *clock;
        clock.0 = if back { clock.0.saturating_sub(self.rng.u64(..FARTHEST_BACK)) } else { clock.0 + self.rng.u64(..LONGEST_LEAP) };
        let now = *clock;
        self.trace.detail(|| format!("of node {victim}, from {} to {} ms", before.0 / 1_000_000, now.0 / 1_000_000));
        self.tick(victim)
    }
}

// Power.
impl World<'_> {
    /// Some leaders don't last long: tails that nobody else has come from those.
    pub(super) fn end_reign(&mut self) {
        let Some(leader) = self.cluster.leader().filter(|_| self.weather.reign > 0) else { return };
        let term = self.cluster.node(leader).map(|node| node.persistent_state().current_term).unwrap_or_default();
        if term > self.machines.reign.0 {
            self.machines.reign = (term, self.rng.u32(1..=self.weather.reign));
        }
        self.machines.reign.1 = self.machines.reign.1.saturating_sub(1);
        if self.machines.reign.1 == 0 && self.rng.bool() {
            self.crash(leader);
        } else if self.machines.reign.1 == 0 {
            self.depose(leader);
            self.machines.reign.1 = self.weather.reign;
        }
    }

    /// Cuts a leader off. Half of them have a slow clock: they take themselves for the leader long after the others have another one.
    fn depose(&mut self, leader: NodeId) {
        self.cluster.isolate(leader);
        let slow = self.rng.bool();
        self.trace.detail(|| format!("node {leader} is cut off{}", if slow { ", and its clock is slow" } else { "" }));
        if slow {
            self.let_others_elect(leader);
        }
    }

    /// Time passes for the others until they may have another leader; for the old one, as little of it as its clock can make of that.
    pub(super) fn let_others_elect(&mut self, old: NodeId) {
        const TIME: Duration = Duration::from_millis(300);
        let (fast, slow) = (100 + BOUNDED_SKEW, 100 - BOUNDED_SKEW);
        if self.machines.clocks_are_bounded {
            self.machines.rates = self.ids.iter().map(|id| (*id, if *id == old { slow } else { fast })).collect();
            self.cluster.pass(old, TIME * u32::try_from(slow).unwrap_or(u32::MAX) / u32::try_from(fast).unwrap_or(u32::MAX));
        } else {
            self.machines.rates.insert(old, 5);
        }
        for other in self.ids.iter().filter(|id| **id != old) {
            self.cluster.pass(*other, TIME);
        }
    }

    pub(super) fn crash_one(&mut self) {
        let victim = self.victim();
        self.crash(victim);
    }

    pub(super) fn crash_all(&mut self) {
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
        self.damage(id);
        self.damage_newest_snapshot(id);
        self.checker.crashed(id);
        self.ledger.crashed(id);
        self.history.crashed(id);
    }

    /// A disk in a minority loses what it held. Which minority is clear where members stay what they are.
    fn damage(&mut self, id: NodeId) {
        let damaged = self.ids.iter().filter(|other| **other == id || self.cluster.member(**other).config.repair).count();
        if self.spares || damaged > (self.ids.len() - 1) / 2 || self.rng.u32(..100) >= self.weather.damage {
            return;
        }
        let snapshots_too = self.rng.bool();
        self.coverage.hit(Rare::DamagedLogs);
        self.coverage.hit_if(self.cluster.member(id).config.repair, Rare::DamagedInRepair);
        self.trace.detail(|| format!("the log of node {id} is damaged{}", if snapshots_too { ", and its snapshots" } else { "" }));
        self.cluster.damage(id, snapshots_too);
    }

    /// A bit flips in the newest snapshot of a node that is down, where there is one before it that the log goes back to: that costs nothing but time.
    fn damage_newest_snapshot(&mut self, id: NodeId) {
        let member = self.cluster.member(id);
        let [.., older, newest] = member.vault.stored()[..] else { return };
        let falls_back = older.id.index >= member.disk.durable().base.index && !member.config.repair;
        if !falls_back || self.rng.bool() {
            return;
        }
        self.coverage.hit(Rare::DamagedSnapshots);
        self.coverage.hit_if(self.safe.is_some(), Rare::DamagedSealedSnapshots);
        self.trace.detail(|| format!("snapshot {} of node {id} is damaged", newest.id));
        let bit = self.rng.usize(..usize::try_from(newest.bytes).expect("it is small") * 8);
        self.cluster.member_mut(id).vault.flip(newest.id, bit);
    }

    /// Stops as many voters as the cluster bears, perhaps some others, and starts the rest.
    pub(super) fn leave_a_majority(&mut self, voters: &[NodeId]) -> Check {
        let mut voters = voters.to_vec();
        self.rng.shuffle(&mut voters);
        // Those that repair themselves are in no majority.
        voters.sort_by_key(|id| !self.cluster.member(*id).config.repair);
        let (down, up) = voters.split_at((voters.len() - 1) / 2);
        for id in self.ids.clone() {
            if down.contains(&id) || !up.contains(&id) && self.rng.bool() {
                self.crash(id);
            } else {
                self.restart(id)?;
            }
        }
        Ok(())
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

    pub(super) fn restart_one(&mut self) -> Check {
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
        match self.cluster.try_restart(id) {
            Ok(()) => {
                self.coverage.hit_if(self.has_retired_keys(), Rare::StartsAfterRetirement);
                if self.machines.short.contains(&id) {
                    self.cluster.input(id, Input::DiskSpace { full: true });
                }
                self.tick(id)
            }
            Err(error) => self.take_failed_start(id, &error),
        }
    }

    pub(super) fn new_clock(&mut self, id: NodeId) {
        let clock = Instant(self.rng.u64(..1 << 40));
        let member = self.cluster.member_mut(id);
        member.clock = clock;
        if let Some(node) = &mut member.node {
            node.start(clock).expect("its disk is whole");
        }
    }
}
