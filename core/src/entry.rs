//! What the log consists of.

use serde::{Deserialize, Serialize};

use crate::cluster_config::ConfigState;
use crate::sealing::KeyVersion;
use crate::sessions::{SessionChange, SessionStamp};
use crate::types::{EntryId, LogTime, NodeId};

/// Bytes of a command: opaque, sealed where the log is, and shared rather than copied between the log, messages and the state machine.
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
    /// A command within a client's session: it is carried out once, however often it is in the log (dissertation, §6.3).
    SessionCommand {
        /// Who proposed it.
        origin: Origin,
        /// The log's time.
        time: LogTime,
        /// Its session, and its place there.
        stamp: SessionStamp,
        /// The command.
        payload: Payload,
    },
    /// Opens, keeps or closes a client's session.
    Session {
        /// Who proposed it.
        origin: Origin,
        /// The log's time.
        time: LogTime,
        /// What happens to the session.
        change: SessionChange,
    },
    /// Who is a member: holds from where it stands in the log, committed or not (Raft paper, §6).
    Configuration(ConfigState),
    /// What follows is sealed with this version of the key.
    KeyVersion(KeyVersion),
}

/// What a host wants in the log, before a leader gives it its place and time there. New kinds go to the end: the encoding numbers them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proposal {
    /// A command.
    Command(Payload),
    /// A command within a client's session.
    SessionCommand {
        /// Its session, and its place there.
        stamp: SessionStamp,
        /// The command.
        payload: Payload,
    },
    /// A session is opened, kept or closed.
    Session(SessionChange),
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
        let content = match &self.kind {
            EntryKind::NoOp | EntryKind::Session { .. } | EntryKind::KeyVersion(_) => 0,
            EntryKind::Command { payload, .. } | EntryKind::SessionCommand { payload, .. } => payload.len(),
            EntryKind::Configuration(state) => state.size(),
        };
        OVERHEAD + content
    }

    /// The command, where the entry carries one.
    #[must_use]
    pub fn payload(&self) -> Option<&Payload> {
        match &self.kind {
            EntryKind::NoOp | EntryKind::Session { .. } | EntryKind::Configuration(_) | EntryKind::KeyVersion(_) => None,
            EntryKind::Command { payload, .. } | EntryKind::SessionCommand { payload, .. } => Some(payload),
        }
    }

    /// The version of the key from the next entry on, if this one changes it.
    #[must_use]
    pub fn switch(&self) -> Option<KeyVersion> {
        if let EntryKind::KeyVersion(version) = self.kind { Some(version) } else { None }
    }

    /// The proposal that the entry came from; none for what a leader adds by itself.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        match &self.kind {
            EntryKind::NoOp | EntryKind::Configuration(_) | EntryKind::KeyVersion(_) => None,
            EntryKind::Command { origin, .. } | EntryKind::SessionCommand { origin, .. } | EntryKind::Session { origin, .. } => {
                Some(*origin)
            }
        }
    }

    /// The log's time, where the entry carries it.
    #[must_use]
    pub fn time(&self) -> Option<LogTime> {
        match &self.kind {
            EntryKind::NoOp | EntryKind::Command { .. } | EntryKind::Configuration(_) | EntryKind::KeyVersion(_) => None,
            EntryKind::SessionCommand { time, .. } | EntryKind::Session { time, .. } => Some(*time),
        }
    }
}

impl Proposal {
    /// The command's bytes.
    #[must_use]
    pub fn payload(&self) -> Option<&Payload> {
        match self {
            Self::Command(payload) | Self::SessionCommand { payload, .. } => Some(payload),
            Self::Session(_) => None,
        }
    }

    /// About how many bytes it takes beside its overhead.
    #[must_use]
    pub fn size(&self) -> usize {
        self.payload().map_or(0, Payload::len)
    }

    /// What the entry says that a leader makes of it.
    #[must_use]
    pub(crate) fn into_entry(self, origin: Origin, time: LogTime) -> EntryKind {
        match self {
            Self::Command(payload) => EntryKind::Command { origin, payload },
            Self::SessionCommand { stamp, payload } => EntryKind::SessionCommand { origin, time, stamp, payload },
            Self::Session(change) => EntryKind::Session { origin, time, change },
        }
    }
}
