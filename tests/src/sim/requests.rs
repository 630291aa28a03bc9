//! Clients with sessions: what they ask of nodes, and what they hear.

use amaters_cluster_core::{NodeId, Rejected, Rejection, SessionChange, SessionId, SessionStamp, Term};

use super::Check;
use super::coverage::Rare;
use super::patrons::Wish;
use super::sessions::session_command_of;
use super::world::World;
use crate::cluster::Event;

impl World<'_> {
    /// A client does something, mostly without waiting for an answer to what it did before.
    pub(super) fn use_session(&mut self) -> Check {
        let (id, patron) = (self.any(), self.rng.usize(..self.patrons.len()));
        if self.cluster.node(id).is_none() {
            return Ok(());
        }
        let wish = self.patrons[patron].next_wish(&mut self.rng);
        self.patrons[patron].asked(self.cluster.upcoming_token(), &wish);
        match wish {
            Wish::Change(change) => self.change_session_at(id, change, self.weather.bursts),
            Wish::Command(stamp) => self.propose_in_session_at(id, stamp, self.weather.command_bytes, self.weather.bursts),
        }
    }

    pub(super) fn change_session_at(&mut self, id: NodeId, change: SessionChange, bursts: f64) -> Check {
        let Some(node) = self.cluster.node(id) else { return Ok(()) };
        self.trace.detail(|| format!("request {} at node {id}: {change:?}", self.cluster.upcoming_token()));
        self.ledger.changes_session(id, node.persistent_state().current_term);
        self.cluster.change_session(id, change);
        self.moved(id, bursts)
    }

    pub(super) fn propose_in_session_at(&mut self, id: NodeId, stamp: SessionStamp, bytes: usize, bursts: f64) -> Check {
        let Some(node) = self.cluster.node(id) else { return Ok(()) };
        let token = self.cluster.upcoming_token();
        self.trace.detail(|| format!("request {token} at node {id}: {stamp:?}"));
        self.ledger.proposed(id, node.persistent_state().current_term);
        self.cluster.propose_in_session(id, stamp, session_command_of(token, bytes));
        self.moved(id, bursts)
    }

    /// Clients hear of what concerns them.
    pub(super) fn tell_patrons(&mut self, event: &Event) {
        for patron in &mut self.patrons {
            match event {
                Event::Applied(_, commands) => {
                    commands.iter().filter_map(|command| command.token).for_each(|token| patron.told(token, SessionId::NONE));
                }
                Event::Replied(_, replies) => replies.iter().for_each(|reply| patron.told(reply.token, SessionId(reply.index.0))),
                Event::Rejected(_, requests) => {
                    for Rejected { token, reason, .. } in requests {
                        match reason {
                            Rejection::SessionExpired => patron.told_of_the_end(*token),
                            Rejection::SessionFull => patron.told_of_too_many(),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }

    pub(super) fn cover_replies(&mut self, event: &Event, term: Term) {
        let Event::Replied(_, replies) = event else { return };
        for reply in replies {
            let Some(attempt) = self.ledger.sessions.index_of(reply.token) else { continue };
            self.coverage.hit_if(attempt <= self.applied_before, Rare::RepeatsWaited);
            let first = self.checker.committed().iter().find(|committed| committed.entry.id.index == reply.index);
            self.coverage.hit_if(first.is_some_and(|first| first.entry.id.term < term), Rare::RepeatsAcrossLeaders);
        }
    }
}
