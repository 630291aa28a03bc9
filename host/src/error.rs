//! What can go wrong with a request, in the words of whoever made it.

use amaters_cluster_core::sessions::MAX_OPEN_COMMANDS;
use amaters_cluster_core::{ConfigError, NodeId, Rejected, Rejection};
use thiserror::Error;

/// The result of a request to a node.
pub type RaftResult<T> = Result<T, RaftError>;

/// Why a request to a node failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RaftError {
    /// No leader was known for as long as a request may wait. The request was not carried out.
    #[error("no leader was known for {waited_ms} ms: is a majority of the nodes running, and can they reach each other?")]
    NoLeader {
        /// How long the request waited, in milliseconds.
        waited_ms: u64,
    },
    /// The request has to go to another node.
    #[error("this node is not the leader; {}", hint(*.leader))]
    NotLeader {
        /// The leader that this node knows of.
        leader: Option<NodeId>,
    },
    /// The time for an answer ran out after the request had been passed on: it may still be carried out.
    #[error("no answer came within {waited_ms} ms: the command may or may not be carried out; read before you repeat it")]
    UnknownOutcome {
        /// How long the request waited, in milliseconds.
        waited_ms: u64,
    },
    /// Too many requests wait already. The request was not carried out.
    #[error("too many requests wait for their outcome: try again later")]
    Overloaded,
    /// The command is larger than the configuration allows.
    #[error("the command is larger than a node takes (2 MiB, unless its configuration says otherwise): split it")]
    TooLarge,
    /// The log has reached its bound in memory.
    #[error("the log has reached its bound in memory (half of --memory-limit): raise that, and restart the nodes")]
    LogFull,
    /// Leadership can't go to a node that is not a member.
    #[error("the node that is to lead is not a member of the cluster: /status lists those that are")]
    UnknownTarget,
    /// The node that was to lead was not heard of lately, or no other was.
    #[error("the node that is to lead was not heard of lately: is it running, and can the leader reach it?")]
    TargetSilent,
    /// A transfer is under way.
    #[error("a transfer of leadership is under way: try again when it has ended")]
    TransferUnderWay,
    /// The node that was to lead did not within an election timeout.
    #[error("the node that was to lead did not take over within an election timeout: /status tells who leads, and how far each log is")]
    TransferFailed,
    /// The client's session is not there.
    #[error("there is no such session: it expired, was closed or never opened; read before you repeat what had no answer")]
    SessionExpired,
    /// The command's response is not kept any more.
    #[error("the command's response is not kept: it was acknowledged by a later command of the session, or is too large")]
    ResponseDropped,
    /// Too many commands of the session are without an acknowledged response. The request was not carried out.
    #[error("the session has {MAX_OPEN_COMMANDS} commands without an acknowledged response: acknowledge what has been answered")]
    SessionFull,
    /// Another change of the membership is under way.
    #[error("another change of the members is under way: try again when it has ended")]
    ChangeUnderWay,
    /// The leader has yet to commit an entry of its own term.
    #[error("the leader is not ready yet: try again in a moment")]
    NotReady,
    /// The node is a member already, or was named twice.
    #[error("the node is a member already, or is named twice: `ukehi member list` shows the members")]
    AlreadyMember,
    /// The node is no member.
    #[error("the node is no member, or no learner: `ukehi member list` shows the members")]
    NotMember,
    /// There would be no voter, or too many members, or one with an impossible id or address.
    #[error(
        "a cluster has 1 to 7 voters and at most 16 learners, those that are to vote among them; ids from 1, addresses of at most 255 bytes"
    )]
    MemberLimits,
    /// A node that was to vote did not catch up with the log.
    #[error(
        "the node did not catch up with the log, and stays a learner: is it running, and can the leader reach it? Promote it later, or remove it"
    )]
    NotCaughtUp,
    /// This node was removed from the cluster.
    #[error("this node was removed from the cluster: ask another one")]
    Removed,
    /// A snapshot is being taken or installed.
    #[error("a snapshot is being taken or installed: try again when that has ended")]
    SnapshotUnderWay,
    /// The snapshot could not be written.
    #[error("the snapshot could not be written: the node's log says why")]
    SnapshotFailed,
    /// The leader's disk is full, or those of so many others that no majority has space. The request was not carried out.
    #[error(
        "the disk of the leader is full, or no majority of the nodes has space on theirs: make space, and writes go on by themselves; reads do meanwhile"
    )]
    DiskFull,
    /// The log is not sealed: there is no key to change.
    #[error("the log of this cluster is not encrypted: it has no key to change")]
    NotEncrypted,
    /// The log is sealed with this version of the key already, or with a later one.
    #[error("the log is sealed with this version of the key already, or with a later one: `ukehi key add-version` makes a new one")]
    KeyVersionInUse,
    /// A voter did not say in time that it holds the new key.
    #[error(
        "a voter did not say in time that it holds this version of the key, and nothing was changed: give all nodes the new key file, and try again. The \
         leader's log names the nodes"
    )]
    KeyNotHeld,
    /// The source of keys gives none, or not the one that is asked for.
    #[error("the keys of the log can't be had")]
    Keys(#[from] crate::keys::KeySourceError),
    /// The source of keys is being read, which may take as long as asking somebody else takes.
    #[error("the source of keys is being read: try again")]
    KeysBeingRead,
    /// The node is shutting down, or has ended.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// A setting is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The sandbox could not be set up, or its guest failed.
    #[error("the consensus component failed")]
    Engine(#[from] crate::engine::EngineError),
    /// Storage failed.
    #[error("storage failed")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The network failed.
    #[error("the network failed")]
    Network(#[source] std::io::Error),
}

impl RaftError {
    /// What a rejection by the core means for the one who asked.
    #[must_use]
    pub fn from_rejection(rejected: &Rejected, waited_ms: u64) -> Self {
        match rejected.reason {
            Rejection::NoLeader => Self::NoLeader { waited_ms },
            Rejection::UnknownOutcome => Self::UnknownOutcome { waited_ms },
            Rejection::Overloaded => Self::Overloaded,
            Rejection::TooLarge => Self::TooLarge,
            Rejection::LogFull => Self::LogFull,
            Rejection::NotLeader => Self::NotLeader { leader: (!rejected.leader.is_none()).then_some(rejected.leader) },
            Rejection::UnknownTarget => Self::UnknownTarget,
            Rejection::TargetSilent => Self::TargetSilent,
            Rejection::TransferUnderWay => Self::TransferUnderWay,
            Rejection::TransferFailed => Self::TransferFailed,
            Rejection::SessionExpired => Self::SessionExpired,
            Rejection::ResponseDropped => Self::ResponseDropped,
            Rejection::SessionFull => Self::SessionFull,
            Rejection::ChangeUnderWay => Self::ChangeUnderWay,
            Rejection::NotReady => Self::NotReady,
            Rejection::AlreadyMember => Self::AlreadyMember,
            Rejection::NotMember => Self::NotMember,
            Rejection::MemberLimits => Self::MemberLimits,
            Rejection::NotCaughtUp => Self::NotCaughtUp,
            Rejection::Removed => Self::Removed,
            Rejection::SnapshotUnderWay => Self::SnapshotUnderWay,
            Rejection::SnapshotFailed => Self::SnapshotFailed,
            Rejection::DiskFull => Self::DiskFull,
            Rejection::NotEncrypted => Self::NotEncrypted,
            Rejection::KeyVersionInUse => Self::KeyVersionInUse,
            Rejection::KeyNotHeld => Self::KeyNotHeld,
        }
    }

    /// Whether the same request may be made again without a risk of carrying it out twice.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::NoLeader { .. }
                | Self::NotLeader { .. }
                | Self::Overloaded
                | Self::ChangeUnderWay
                | Self::NotReady
                | Self::Removed
                | Self::SnapshotUnderWay
                | Self::SnapshotFailed
                | Self::DiskFull
                | Self::KeyNotHeld
                | Self::KeysBeingRead
        )
    }
}

fn hint(leader: Option<NodeId>) -> String {
    leader.map_or_else(|| "no leader is known".to_owned(), |leader| format!("node {leader} is"))
}
