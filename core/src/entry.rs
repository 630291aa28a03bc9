//! What the log consists of.

use serde::{Deserialize, Serialize};

use crate::types::{EntryId, NodeId};

/// Bytes of a command: opaque, and shared rather than copied between the log, messages and the state machine.
pub type Payload = bytes::Bytes;

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its term and index.
    pub id: EntryId,
    /// What it says.
    pub kind: EntryKind,
}

/// What an entry says. New kinds go to the end: the encoding numbers them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// Nothing: a leader's first entry, whose commit tells it what is committed (Raft paper, §8).
    NoOp,
    /// A command for the state machine.
    Command {
        /// Who proposed it.
        origin: Origin,
        /// The command.
        payload: Payload,
    },
}

/// Names a proposal for good: no two proposals of a cluster share it, whichever leader takes them into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The node that took the command from its host.
    pub node: NodeId,
    /// That node's run: drawn at random at each start.
    pub run: u64,
    /// Its number within the run, from 1.
    pub sequence: u64,
}

impl LogEntry {
    /// About how many bytes the entry takes in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        const OVERHEAD: usize = 128; // the same in a 32-bit sandbox, so that bounds are met at the same entry
        OVERHEAD + self.payload().map_or(0, Payload::len)
    }

    /// The command, where the entry carries one.
    #[must_use]
    pub fn payload(&self) -> Option<&Payload> {
        match &self.kind {
            EntryKind::NoOp => None,
            EntryKind::Command { payload, .. } => Some(payload),
        }
    }
}
