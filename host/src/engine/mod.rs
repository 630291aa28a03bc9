//! What runs the consensus core: the sandboxed component, or the same core natively for comparison.
//!
//! Both take the same inputs and give the same effects, byte for byte, where [`Ambient`] gives them the same time and seed.

use amaters_cluster_core::{
    Applied, ConfigError, Effect, Instant, JournalError, KeyRing, KeyVersion, MembershipChange, NodeId, Operation, SessionChange,
    SessionStamp, SnapshotError, Status, Ticket, Token,
};
use bytes::Bytes;
use thiserror::Error;

use crate::snapshots::{SnapshotReport, StoredSnapshot};
use crate::state_machine::Piece;

mod accelerator;
mod convert;
mod held_keys;
mod native;
mod sandbox;
mod wasm;

pub use native::NativeEngine;
pub use sandbox::{COMPONENT, Sandbox, SandboxLimits};
pub use wasm::WasmEngine;

/// Carries out what the core wants done, on the node's thread. Must not block.
pub trait Driver: Send + 'static {
    /// Carries out one effect.
    fn carry_out(&mut self, effect: Effect);
}

/// A core that can be driven. Its inputs come one at a time from the node's loop; its effects go to the [`Driver`] it was made with.
pub trait Engine<D: Driver> {
    /// Gives back operations of the journal, oldest first, before [`Engine::start`].
    ///
    /// # Errors
    /// The journal can't be this node's, or the guest failed.
    fn recover(&mut self, operations: Vec<Operation>) -> Result<(), EngineError>;

    /// Gives back the next bytes of the newest snapshot, from its start and in any pieces, before [`Engine::recover`]. All of it has to come: the driver sees
    /// [`Effect::StateRestored`] then.
    ///
    /// # Errors
    /// [`EngineError::Snapshot`] where it is damaged, or none: another engine may try an earlier one. Or the guest failed.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), EngineError>;

    /// Names the other complete snapshots that there are, after [`Engine::restore`] and before [`Engine::start`]: those that the core doesn't want to keep, it
    /// has removed.
    ///
    /// # Errors
    /// It was started already, or the guest failed.
    fn remember(&mut self, others: &[StoredSnapshot]) -> Result<(), EngineError>;

    /// Ends recovery.
    ///
    /// # Errors
    /// It was started already, or the guest failed.
    fn start(&mut self) -> Result<(), EngineError>;

    /// Takes a burst of inputs, then lets what is due leave. Belongs after [`Engine::start`].
    ///
    /// # Errors
    /// The guest failed: the engine is of no further use.
    fn turn(&mut self, turn: Turn) -> Result<(), EngineError>;

    /// Reports the core's state. Belongs after [`Engine::start`].
    ///
    /// # Errors
    /// The guest failed.
    fn status(&mut self) -> Result<Status, EngineError>;

    /// The driver, for the loop that owns the engine and with it the driver.
    fn driver(&mut self) -> &mut D;
}

/// The inputs of one turn of the loop. They are taken in the order of the fields, and a tick comes last.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// The last ticket that storage reported durable since the last turn.
    pub persisted: Option<Ticket>,
    /// Whether storage lacks space, where that has changed since the last turn.
    pub disk_full: Option<bool>,
    /// What the source of keys has now.
    pub keys: Option<KeyRing>,
    /// What came of jobs for snapshots.
    pub snapshots: Vec<SnapshotReport>,
    /// The piece of the captured state that the core has asked for.
    pub piece: Option<Piece>,
    /// Envelopes and their senders.
    pub received: Vec<(NodeId, Vec<u8>)>,
    /// Results of commands that the core wants back.
    pub applied: Vec<Applied>,
    /// Proposals.
    pub proposals: Vec<Proposal>,
    /// Sessions to open, keep or close.
    pub sessions: Vec<(Token, SessionChange)>,
    /// Reads.
    pub reads: Vec<Token>,
    /// What changes the cluster.
    pub controls: Vec<(Token, Control)>,
}

/// A request that changes who leads, who is a member, or what the log is sealed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Leadership is to move from this node (dissertation, §3.10).
    Transfer {
        /// The node that is to lead; without one, the peer that has most of the log.
        to: Option<NodeId>,
    },
    /// The membership is to change (Raft paper, §6).
    ChangeMembership(MembershipChange),
    /// A snapshot is to be taken now, whatever the policy says.
    TakeSnapshot,
    /// The log is to be sealed with this version of the key from now on.
    RotateKey(KeyVersion),
}

/// A command for the log.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Comes back with the outcome.
    pub token: Token,
    /// The command.
    pub command: Bytes,
    /// Its place in its client's session, where it has one.
    pub session: Option<SessionStamp>,
}

/// Time and randomness: what the core can't make itself.
pub struct Ambient {
    /// The clock.
    pub clock: Box<dyn Clock>,
    /// The seed of the core's random numbers; the system's random source where there is none. A replay brings the one it recorded.
    pub seed: Option<u64>,
}

impl Ambient {
    /// The system's own.
    #[must_use]
    pub fn system() -> Self {
        Self { clock: Box::new(SystemClock::default()), seed: None }
    }
}

/// A monotonic clock.
pub trait Clock: Send + 'static {
    /// Its reading, which never goes back. The core reads it once for each kind of input in a [`Turn`].
    fn now(&self) -> Instant;
}

/// The system's monotonic clock, in nanoseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(std::time::Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(std::time::Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Why an engine can't go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A setting is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The journal can't be this node's.
    #[error(transparent)]
    Journal(JournalError),
    /// As [`EngineError::Journal`], in the words of a guest.
    #[error("the journal can't be this node's, or is not all of it: {0}")]
    JournalRefused(String),
    /// The snapshot is damaged, or none.
    #[error("the snapshot can't be read: {0}")]
    Snapshot(String),
    /// A version of the log's key is needed that the source of keys does not have.
    #[error("{0}. Give this node the keys that the others have (`ukehi key list` shows versions and fingerprints), and start it again")]
    MissingKey(String),
    /// The journal or a snapshot was changed by somebody who has no key; or this node's own keys are not those that it was written with, which looks the same.
    #[error(
        "{0}. Nothing was cut or repaired. First compare the fingerprints of `ukehi key list --key-file FILE` with those of another node: if they differ, this \
         node has the wrong keys, and starts with the right ones. Only if they are equal has somebody, or a failing disk, changed this node's files: keep the \
         directory to look into (`ukehi wal verify`), remove the node from its cluster, and add it anew with a new id and an empty directory"
    )]
    Tampered(String),
    /// This node and the others hold what can't both be true.
    #[error(
        "{0}. This node has ended, and nothing was cut: it or the other one holds a changed or foreign log. If several nodes have ended and one leads, stop that \
         one, and start the others. Compare the heads of all nodes at one index (`ukehi wal verify --expect-head`), and replace the node that is alone with its own"
    )]
    Diverged(String),
    /// The state is gone, and a new instance has to read it again.
    #[error("the state was lost: {0}")]
    StateLost(String),
    /// The component can't be loaded or linked.
    #[error("the component can't be loaded: {0}")]
    Load(String),
    /// The guest trapped: out of memory, out of time, or a bug of its own. The engine is of no further use.
    #[error("the component trapped: {0}")]
    Trap(String),
    /// The guest refused a call.
    #[error("the component refused to be set up: {0}")]
    Setup(String),
    /// The system's random source failed.
    #[error("the system's random source failed: {0}")]
    Random(String),
    /// A call at the wrong stage of an engine's life: a bug of the caller.
    #[error("an engine was called out of order: {0}")]
    OutOfOrder(&'static str),
}

impl From<JournalError> for EngineError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::MissingKey(_) => Self::MissingKey(error.to_string()),
            JournalError::Chain(_) => Self::Tampered(error.to_string()),
            error => Self::Journal(error),
        }
    }
}

impl From<SnapshotError> for EngineError {
    fn from(error: SnapshotError) -> Self {
        match &error {
            SnapshotError::MissingKey(missing) => Self::MissingKey(format!("{error}: {missing}")),
            SnapshotError::Tampered(reason) => Self::Tampered(format!("{error}: {reason}")),
            _ => Self::Snapshot(error.to_string()),
        }
    }
}
