//! Clients with sessions: they number their commands and repeat them at random, at any node, also such that were answered.

use std::collections::BTreeSet;

use amaters_cluster_core::{SessionChange, SessionId, SessionStamp, Token};
use fastrand::Rng;

/// A client with a session.
#[derive(Default)]
pub(super) struct Patron {
    session: SessionId,
    /// The next command's number.
    next: u64,
    answered: BTreeSet<u64>,
    /// The request that opens a session, and those of its commands.
    opening: Option<Token>,
    asked: Vec<(Token, u64)>,
}

/// What a client does.
pub(super) enum Wish {
    Change(SessionChange),
    Command(SessionStamp),
}

impl Patron {
    /// What it does next.
    pub(super) fn next_wish(&mut self, rng: &mut Rng) -> Wish {
        if self.session.is_none() {
            return Wish::Change(SessionChange::Open { timeout_ms: [0, 3_000, 3_600_000][rng.usize(..3)] });
        }
        let session = self.session;
        match rng.u8(..40) {
            0 => return Wish::Change(SessionChange::Close { session }),
            1 => return Wish::Change(SessionChange::KeepAlive { session, acknowledged: self.first_unanswered() }),
            2 => self.next += 62, // it gives many up, or never sends them
            _ => {}
        }
        // What it repeats, it may have from before it was answered: with an earlier acknowledgement.
        let sequence = if self.next == 1 || rng.u8(..3) == 0 {
            self.next += 1;
            self.next - 1
        } else {
            rng.u64(self.next.saturating_sub(4).max(1)..self.next)
        };
        let acknowledged = if rng.bool() { self.first_unanswered() } else { rng.u64(1..=self.first_unanswered()) };
        Wish::Command(SessionStamp { session, sequence, acknowledged: acknowledged.min(sequence) })
    }

    fn first_unanswered(&self) -> u64 {
        (1..).find(|sequence| !self.answered.contains(sequence)).unwrap_or(1)
    }

    /// It has asked, under this token.
    pub(super) fn asked(&mut self, token: Token, wish: &Wish) {
        match wish {
            Wish::Change(SessionChange::Open { .. }) => self.opening = Some(token),
            Wish::Change(_) => {}
            Wish::Command(stamp) => self.asked.push((token, stamp.sequence)),
        }
    }

    /// A request was answered; with the id of its session, if it opened one.
    pub(super) fn told(&mut self, token: Token, opened: SessionId) {
        if self.opening == Some(token) {
            *self = Self { session: opened, next: 1, ..Self::default() };
        } else if let Some((_, sequence)) = self.asked.iter().find(|(asked, _)| *asked == token) {
            self.answered.insert(*sequence);
        }
    }

    /// Too many commands are open: it gives up on all but the last.
    pub(super) fn told_of_too_many(&mut self) {
        self.answered.extend(1..self.next.saturating_sub(1));
    }

    /// A request found no session.
    pub(super) fn told_of_the_end(&mut self, token: Token) {
        if self.asked.iter().any(|(asked, _)| *asked == token) {
            *self = Self::default();
        }
    }
}
