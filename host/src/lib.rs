//! Ukehi: a Raft node whose consensus runs as a WASI component in a sandbox.
//!
//! The component holds what must be right: elections, the log, replication, reads. It can touch nothing but the storage, clock and network that this
//! crate hands it. Around it, this crate is a native host: a file WAL ([`wal`]), a TCP transport ([`transport`]), a key-value state machine ([`kv`])
//! with a Redis-compatible front end ([`resp`]), and admin endpoints ([`admin`]).
//!
//! Start with [`RaftNode`]; [`MemoryNetwork`] shows a cluster inside one process.

pub mod admin;
pub mod cli;
pub mod client;
mod command;
pub mod data_dir;
pub mod engine;
mod error;
mod events;
mod handle;
mod inbox;
pub mod keys;
pub mod kv;
mod memory_network;
mod node;
pub mod persistence;
mod ports;
pub mod repair;
pub mod resp;
mod runtime;
pub mod snapshots;
mod state_machine;
pub mod transport;
pub mod wal;

pub use amaters_cluster_core::{
    Committed, Config as RaftConfig, ConfigError, EntryId, FailoverConfig, FailoverCoordinator, FailoverEvent, FailureDetector,
    FailureEvent, FencingToken, FencingTokenState, HeartbeatConfig, LogEntry, LogIndex, NodeId, NodeState, NotAToken, PersistentState,
    RaftLog, SessionChange, SessionId, SessionStamp, StaleToken, Status, Term,
};
pub use command::Command;
pub use engine::COMPONENT;
pub use error::{RaftError, RaftResult};
pub use events::NodeEvent;
pub use handle::{Handle, Outcome};
pub use inbox::Inlet;
pub use memory_network::MemoryNetwork;
pub use node::{RaftNode, RaftNodeBuilder};
pub use persistence::{FilePersistence, MemoryPersistence, RaftPersistence};
pub use ports::Network;
pub use runtime::EngineKind;
pub use snapshots::{DiskSnapshotStore, MemorySnapshots, SnapshotStore};
pub use state_machine::{ApplyResult, Piece, RestoreError, StateMachine};
pub use wal::{CorruptionPolicy, SyncMode, WalDiagnostics, WalOptions, WalReader, WalWriter};
