//! What runs the consensus core: the sandboxed component, or the same core natively for comparison.

use amaters_cluster_core::{ConfigError, Effect, JournalError, NodeId, Operation, Status, Ticket, Token};
use bytes::Bytes;
use thiserror::Error;

/// Carries out what the core wants done, on the node's thread. Must not block.
pub trait Driver: Send + 'static {
    /// Carries out one effect.
    fn carry_out(&mut self, effect: Effect);
}

/// A core that can be driven. Its inputs come one at a time from the node's loop; its effects go to the [`Driver`] it was made with.
pub trait Engine {
    /// Gives back operations of the journal, oldest first, before [`Engine::start`].
    ///
    /// # Errors
    /// The journal can't be this node's, or the guest failed.
    fn recover(&mut self, operations: Vec<Operation>) -> Result<(), EngineError>;

    /// Ends recovery.
    ///
    /// # Errors
    /// The guest failed.
    fn start(&mut self) -> Result<(), EngineError>;

    /// Takes a burst of inputs, then lets what is due leave.
    ///
    /// # Errors
    /// The guest failed: the engine is of no further use.
    fn turn(&mut self, turn: Turn) -> Result<(), EngineError>;

    /// Reports the core's state.
    ///
    /// # Errors
    /// The guest failed.
    fn status(&mut self) -> Result<Status, EngineError>;

    /// The driver, for the loop that owns both.
    fn driver(&mut self) -> &mut dyn std::any::Any;
}

/// The inputs of one turn of the loop.
#[derive(Debug, Default)]
pub struct Turn {
    /// The last ticket that storage reported durable since the last turn.
    pub persisted: Option<Ticket>,
    /// Envelopes and their senders.
    pub received: Vec<(NodeId, Vec<u8>)>,
    /// Proposals.
    pub proposals: Vec<(Token, Bytes)>,
    /// Reads.
    pub reads: Vec<Token>,
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
    Journal(#[from] JournalError),
    /// The component can't be loaded or linked.
    #[error("the component can't be loaded: {0}")]
    Load(String),
    /// The guest trapped: out of memory, out of time, or a bug of its own.
    #[error("the component trapped: {0}")]
    Trap(String),
    /// The guest refused a call.
    #[error("the component refused to be set up: {0}")]
    Setup(String),
}
