//! What the log is for: the state that commands change.

use amaters_cluster_core::Committed;
use bytes::Bytes;

/// A state that every node changes by the same commands in the same order.
///
/// It must be deterministic: the result of a command may depend on the state and the command alone, never on time, randomness or the order
/// of a hash map. It runs on the node's own thread, so a slow one slows the node.
pub trait StateMachine: Send + 'static {
    /// Applies committed commands in this order, and gives one result for each: it goes to the proposer.
    fn apply(&mut self, commands: &[Committed]) -> Vec<ApplyResult>;

    /// Answers a query from the state as it is. Changes nothing.
    fn query(&self, query: &[u8]) -> ApplyResult;
}

/// What a command or a query gave: opaque bytes.
pub type ApplyResult = Bytes;
