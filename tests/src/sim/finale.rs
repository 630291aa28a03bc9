//! The end of a run: everything is mended, and the cluster must get to work again.

use std::time::Duration;

use amaters_cluster_core::{LogIndex, NodeId, Rejection, SessionChange, SessionId, SessionStamp, Token};

use super::Check;
use super::coverage::Rare;
use super::world::World;
use crate::cluster::Outcome;

/// How long an election may take once everything works: several rounds of split votes.
const ELECTION: u32 = 3000;
/// How long a request may take: longer than a node waits for one.
const ANSWER: u32 = 3000;
/// How much longer a change may take: as long as a node waits for a learner.
const CATCH_UP: u32 = 7000;
/// How often time passes, in milliseconds.
const STEP: u32 = 10;

impl World<'_> {
    /// Mends everything, and demands progress: of the least majority first, then of all.
    pub(super) fn finish(&mut self) -> Check {
        self.cluster.heal();
        self.mend_disks();
        self.mend_keys()?;
        self.weather.damage = 0;
        if self.clients_only {
            return self.look_once_more();
        }
        if !self.configuration_is_sure() {
            self.restart_all()?;
            self.wait_for("one configuration to be committed", ELECTION + CATCH_UP, Self::has_one_configuration)?;
        }
        self.leave_a_majority(&self.voters())?;
        self.wait_for("a majority to follow one leader", ELECTION, |world| world.has_one_leader())?;
        self.restart_all()?;
        self.wait_for("all members to follow one leader", ELECTION, |world| world.has_one_leader())?;
        self.wait_for("an end of all requests", ANSWER, |world| world.ledger.check_all_answered().is_ok())?;
        self.wait_for("all members to have caught up", ELECTION, |world| world.is_even())?;
        for _ in 0..20 {
            self.pass_step()?; // several heartbeats: leaders hear that there is space
        }
        let first = self.cluster.upcoming_token();
        for id in self.members() {
            self.propose_at(id, 8, 0.0)?;
            self.read_at(id, 0.0)?;
        }
        // A change that waited when all was mended may have removed a voter of that time.
        let voter = self.voters()[0];
        let opening = self.cluster.upcoming_token();
        self.change_session_at(voter, SessionChange::Open { timeout_ms: 60_000 }, 0.0)?;
        self.wait_for("a session", ANSWER, |world| world.ledger.is_answered(opening))?;
        let Some(Outcome::Replied(session)) = self.cluster.outcome(opening) else { return Err("a session has no number".to_owned()) };
        let stamp = SessionStamp { session: SessionId(session.0), sequence: 1, acknowledged: 1 };
        for id in self.members() {
            self.propose_in_session_at(id, stamp, 8, 0.0)?;
        }
        let last = self.cluster.upcoming_token();
        let all_done = |world: &mut Self| (first.0..last.0).all(|token| world.is_over(token.into()));
        self.wait_for("an answer at each member", ANSWER, all_done)?;
        self.wait_for("all members to apply the same", ELECTION, |world| world.is_even())?;
        self.check_whole()
    }

    /// Clients see what has become of their writes.
    fn look_once_more(&mut self) -> Check {
        for id in self.ids.clone() {
            self.restart(id)?;
        }
        for _ in 0..ELECTION / STEP {
            self.pass_step()?;
        }
        for id in self.ids.clone() {
            self.read_at(id, 0.0)?;
        }
        for _ in 0..ANSWER / STEP {
            self.pass_step()?;
        }
        self.check_whole()
    }

    fn wait_for(&mut self, what: &str, longest: u32, holds: impl Fn(&mut Self) -> bool) -> Check {
        let mut waited = 0;
        while !holds(self) {
            if waited >= longest {
                return Err(format!("liveness: waited {longest} ms for {what}, with a majority up and nothing lost"));
            }
            waited += STEP;
            self.trace_step(|| format!("  mended  {waited} ms for {what}"));
            self.pass_step()?;
        }
        Ok(())
    }

    /// Time passes, and everything arrives and is durable at once.
    fn pass_step(&mut self) -> Check {
        self.cluster.advance(Duration::from_millis(STEP.into()));
        for id in self.ids.clone() {
            self.tick(id)?;
        }
        loop {
            let mut moved = false;
            for id in self.ids.clone() {
                let last = self.cluster.member(id).disk.under_way().last().map(|(ticket, _)| ticket);
                if let Some(ticket) = last {
                    moved = true;
                    self.complete_up_to(id, ticket, 0.0)?;
                }
            }
            for id in self.ids.clone() {
                if self.cluster.member(id).wanted_key.is_some() {
                    moved = true;
                    self.load_keys(id)?;
                }
                while self.cluster.member(id).vault.is_busy() {
                    moved = true;
                    self.answer_at(id, 0.0)?;
                }
            }
            for _ in 0..self.cluster.pool().len() {
                moved = true;
                self.deliver_at(0, 0.0)?;
            }
            if !moved {
                return Ok(());
            }
        }
    }

    fn restart_all(&mut self) -> Check {
        self.ids.clone().into_iter().try_for_each(|id| self.restart(id))
    }

    /// Whether a request was answered. Where a snapshot took the place of the entry that held it, nobody can say what came of it.
    fn is_over(&mut self, token: Token) -> bool {
        let is_lost = self.cluster.outcome(token) == Some(Outcome::Rejected(Rejection::UnknownOutcome));
        self.ledger.is_answered(token) || is_lost && self.coverage.count(Rare::SnapshotsInstalled) > 0
    }

    /// Whether no log has ever held a configuration: then the one that all began with holds.
    fn configuration_is_sure(&self) -> bool {
        self.checker.configurations() == 0
    }

    /// Whether a leader's configuration is one, committed, and all that it names have it.
    fn has_one_configuration(&mut self) -> bool {
        let Some(leader) = self.cluster.leader().and_then(|leader| self.cluster.node(leader)) else { return false };
        let (state, opened) = (leader.configuration(), leader.log().term_at(leader.log().commit_index()));
        opened == Some(leader.persistent_state().current_term)
            && state.outgoing().is_none()
            && state == self.checker.latest_configuration()
            && self.members().into_iter().all(|id| self.cluster.node(id).is_some_and(|node| node.configuration() == state))
            && self.ledger.check_all_answered().is_ok()
    }

    /// Voters of the latest committed configuration.
    fn voters(&self) -> Vec<NodeId> {
        self.checker.latest_configuration().latest().voters.keys().copied().collect()
    }

    /// Voters and learners of the latest committed configuration.
    fn members(&self) -> Vec<NodeId> {
        self.ids.iter().copied().filter(|id| self.checker.latest_configuration().contains(*id)).collect()
    }

    fn has_one_leader(&mut self) -> bool {
        let Some(leader) = self.cluster.leader() else { return false };
        self.members().into_iter().filter_map(|id| self.cluster.node(id)).all(|node| node.leader() == leader)
    }

    /// Whether all logs are equal, and all of them applied.
    fn is_even(&self) -> bool {
        let state = |id: NodeId| {
            let log = self.cluster.node(id)?.log();
            let applied: Vec<LogIndex> = self.cluster.member(id).machine.iter().map(|committed| committed.index).collect();
            let sessions = self.cluster.node(id)?.sessions().image()?;
            Some((log.last(), log.commit_index(), log.applied_index(), applied, sessions))
        };
        let members = self.members();
        let first = state(members[0]);
        first.as_ref().is_some_and(|(last, commit, applied, ..)| last.index == *commit && commit == applied)
            && members.iter().all(|id| state(*id) == first)
    }
}
