//! What the log is for: the state that commands change.

use amaters_cluster_core::Committed;
use bytes::Bytes;
use thiserror::Error;

/// A state that every node changes by the same commands in the same order.
///
/// It must be deterministic: the result of a command may depend on the state and the command alone, never on time, randomness or the order
/// of a hash map. It runs on the node's own thread, so a slow one slows the node.
///
/// # Snapshots
///
/// The log's beginning is dropped once a snapshot holds what its commands did. So the state has to come out in pieces, and in again, here or on another
/// node. Both happen between other calls, a piece at a time, and each call should take well under a millisecond for each 64 KiB: a state that is small may
/// be copied by [`capture`](Self::capture), a large one needs a view that costs nothing until it is written to (copy on write, a persistent map).
///
/// What the pieces hold is the state machine's own affair, but versions of it meet: a snapshot may be read by a later version of the program, and by other nodes.
///
/// ```
/// use amaters_cluster::{ApplyResult, Committed, Piece, RestoreError, StateMachine};
///
/// /// Counts commands.
/// #[derive(Default)]
/// struct Counter {
///     count: u64,
///     captured: u64,
/// }
///
/// impl StateMachine for Counter {
///     fn apply(&mut self, commands: &[Committed]) -> Vec<ApplyResult> {
///         let mut next = || {
///             self.count += 1;
///             self.count.to_string().into()
///         };
///         commands.iter().map(|_| next()).collect()
///     }
///
///     fn query(&self, _query: &[u8]) -> ApplyResult {
///         self.count.to_string().into()
///     }
///
///     fn capture(&mut self) {
///         self.captured = self.count; // so small a state is its own copy
///     }
///
///     fn next_piece(&mut self, _max_bytes: usize) -> Piece {
///         Piece { bytes: self.captured.to_le_bytes().to_vec(), last: true }
///     }
///
///     fn release(&mut self) {}
///
///     fn clear(&mut self) {
///         self.count = 0;
///     }
///
///     fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
///         let bytes = piece.try_into().map_err(|_| RestoreError::new(format!("expected 8 bytes, got {}", piece.len())))?;
///         self.count = u64::from_le_bytes(bytes);
///         Ok(())
///     }
///
///     fn restored(&mut self) -> Result<(), RestoreError> {
///         Ok(())
///     }
/// }
///
/// let mut here = Counter { count: 7, ..Counter::default() };
/// here.capture();
/// let mut there = Counter::default();
/// there.clear();
/// there.restore(&here.next_piece(64 << 10).bytes)?;
/// there.restored()?;
/// assert_eq!(there.query(b""), "7");
/// # Ok::<(), RestoreError>(())
/// ```
pub trait StateMachine: Send + 'static {
    /// Applies committed commands in this order, and gives one result for each: it goes to the proposer.
    fn apply(&mut self, commands: &[Committed]) -> Vec<ApplyResult>;

    /// Answers a query from the state as it is. Changes nothing.
    fn query(&self, query: &[u8]) -> ApplyResult;

    /// Captures the state as it is now: what is applied from here on must not show in the pieces. One capture is open at a time, until
    /// [`release`](Self::release); a second call begins anew.
    fn capture(&mut self);

    /// Gives the next piece of the captured state, of about `max_bytes`, and says whether it is the last one. It may be longer where something that can't be divided is,
    /// and it may be empty. Called between `capture` and `release` alone, and not again after the last piece.
    fn next_piece(&mut self, max_bytes: usize) -> Piece;

    /// The captured state is no longer wanted, whether all of it was given or not.
    fn release(&mut self);

    /// Forgets the state, and a capture with it: another state comes in pieces. Nothing is applied and no query comes until [`restored`](Self::restored).
    fn clear(&mut self);

    /// Takes a piece of the state, as [`next_piece`](Self::next_piece) once gave it. They come in their order.
    ///
    /// # Errors
    /// The piece makes no sense, here or at all. The state is of no use then: the node builds another state machine.
    fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError>;

    /// That was the last piece.
    ///
    /// # Errors
    /// The pieces make no whole state. It is of no use then, as after an error of [`restore`](Self::restore).
    fn restored(&mut self) -> Result<(), RestoreError>;
}

/// What a command or a query gave: opaque bytes.
pub type ApplyResult = Bytes;

/// A piece of a captured state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// In the state machine's own encoding.
    pub bytes: Vec<u8>,
    /// Whether it is the last one.
    pub last: bool,
}

/// Why pieces make no state.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the state can't be restored: {reason}")]
pub struct RestoreError {
    /// What is wrong, in words for an operator.
    pub reason: String,
}

impl RestoreError {
    /// An error with this reason: what was expected, and what came.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}
