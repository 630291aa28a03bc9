//! A node that has lost a part of what it promised, since its disk has: how it comes back without harm.
//!
//! It may have acknowledged entries that it no longer has, and others may have committed them for that. So until it has them again it neither votes nor stands,
//! and nothing it says counts for a majority: it says so in its answers, and a leader serves it like a learner. (Term and vote it has kept: the host has
//! two copies, and without either this node must not come back under its name.)
//!
//! When does it have them again? It asks a leader for a read index, as for a linearizable read (dissertation, §6.4). From then on the leader counts nothing
//! that this node has acknowledged before. It answers once a majority, in which
//! this node is not counted, has confirmed it after the question came. So nobody was elected since without a majority that excludes this node, and whatever was
//! committed with this node's help is in that leader's log by leader completeness (Raft paper, §5.4), since any two majorities share a node other than
//! this one: else this node was needed for both, and took part in neither election. What is committed is at or before that index. Once this node holds the
//! leader's log durably up to there, it has everything that it may have promised. (Alagappan and others, "Protocol-aware recovery for consensus-based storage", FAST '18, has
//! the failures that a less careful return leads to.)

use crate::io::{Effect, LogLevel};
use crate::message::{Message, ReadId, ReadIndexRequest};
use crate::node::Node;
use crate::planted::Bug;
use crate::progress::Progress;
use crate::role::Role;
use crate::types::{Instant, LogIndex, NodeId, Term};

/// The number of its question: reads have numbers from 1.
const QUESTION: u64 = 0;

/// How far the repair is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Repair {
    /// What has to be there; none until a leader has said.
    read_index: Option<LogIndex>,
    asked_at: Option<Instant>,
    /// How far the log equals that of the leader of a term, by what came from it in this life.
    verified: (Term, LogIndex),
}

impl Node {
    /// Whether this node repairs itself.
    #[must_use]
    pub fn is_repairing(&self) -> bool {
        self.repair.is_some() && !self.config.has_bug(Bug::DamagedVotes)
    }

    /// The log equals the leader's up to an index.
    pub(crate) fn repair_verified(&mut self, index: LogIndex) {
        let term = self.persistent.current_term;
        if let Some(repair) = &mut self.repair {
            repair.verified = repair.verified.max((term, index));
        }
    }

    /// News of commits that the leader tells: of entries that it takes to be here. While this node repairs itself it need not know better yet.
    pub(crate) fn commit_as_verified(&mut self, commit_index: LogIndex) {
        let (term, verified) = self.repair.map_or((Term::NONE, LogIndex::NONE), |repair| repair.verified);
        if term == self.persistent.current_term {
            self.log.commit_to(commit_index.min(verified));
        }
    }

    /// Asks the leader what has to be there, and ends the repair once it is.
    pub(crate) fn drive_repair(&mut self, effects: &mut Vec<Effect>) {
        let (leader, now) = (self.leader(), self.now);
        let (term, run) = (self.persistent.current_term, self.reads.run());
        let durable = self.outbox.durable_index().min(self.log.commit_index());
        let Some(repair) = &mut self.repair else { return };
        if let Some(index) = repair.read_index {
            if durable >= index && !self.snapshots.is_restoring() {
                self.repair = None;
                self.note(LogLevel::Info, format!("has all that it may have promised, up to entry {index}: it takes part again"));
                effects.push(Effect::Repaired);
            }
            return;
        }
        let due = repair.asked_at.is_none_or(|asked| now.since(asked) >= self.config.election_timeout_min);
        if !leader.is_none() && due {
            repair.asked_at = Some(now);
            let id = ReadId { run, number: QUESTION };
            self.send(leader, Message::ReadIndexRequest(ReadIndexRequest { term, id }));
        }
    }

    /// A leader's answer to a read index: whether it was this question's.
    pub(crate) fn repair_answered(&mut self, id: ReadId, read_index: LogIndex) -> bool {
        let run = self.reads.run();
        let Some(repair) = self.repair.as_mut().filter(|_| id == ReadId { run, number: QUESTION }) else { return false };
        repair.read_index.get_or_insert(read_index);
        true
    }

    /// A leader learns whether a peer repairs itself: whether its answer may be taken as one of the peer's present life.
    pub(crate) fn accept_repair(&mut self, from: NodeId, repairing: bool) -> bool {
        let Role::Leader(leader) = &mut self.role else { return false };
        let Some(progress) = leader.peers.get_mut(&from) else { return false };
        if progress.repairing == repairing {
            return true;
        }
        if repairing {
            self.begin_anew_with(from, 0);
            return false;
        }
        progress.repairing = false;
        self.note(LogLevel::Info, format!("node {from} has repaired itself"));
        true
    }

    /// A peer that repairs itself asks what has to be there. What it acknowledged in an earlier life counts from here on for nothing; what was committed for that is
    /// below the index that it gets.
    pub(crate) fn on_repair_question(&mut self, from: NodeId, id: ReadId) {
        let Role::Leader(leader) = &self.role else { return };
        if id.number == QUESTION && leader.peers.get(&from).is_some_and(|progress| progress.repair_run != id.run) {
            self.begin_anew_with(from, id.run);
        }
    }

    /// A peer begins a new life, with a session of its own.
    fn begin_anew_with(&mut self, from: NodeId, repair_run: u64) {
        let (now, last) = (self.now, self.log.last().index);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&from) else { return };
        leader.last_session += 1;
        let leaving = progress.leaving.take();
        *progress = Progress::new(last, leader.last_session, now);
        (progress.repairing, progress.repair_run, progress.leaving) = (true, repair_run, leaving);
        self.note(LogLevel::Warn, format!("node {from} repairs itself: it counts for no majority until it has"));
    }
}
