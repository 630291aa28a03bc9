//! The consensus core of Ukehi: a Raft node that does no IO.
//!
//! It follows the Raft paper (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", extended version) and Ongaro's dissertation
//! ("Consensus: Bridging Theory and Practice"); where it departs from them, the code says so.
//!
//! # A tour
//!
//! - [`io`]: what goes in and what comes out, and the order of effects on which durability rests. Start here.
//! - [`Node`]: the entry point [`Node::step`], the rule of terms, one match for all messages.
//! - `follower`, `candidate`, `leader`: what each role does with them. `role` holds their data.
//! - `transfer`, `lease`, `disk_watch`: when a leader goes on purpose, when it may answer alone, and when its disk fails it.
//! - [`RaftLog`]: the log and its invariants. `outbox`: what waits for the disk. `progress`: a leader's view of a peer.
//! - [`sessions`]: commands that clients may repeat without being carried out twice.
//! - [`cluster_config`]: who is a member; `membership`: what a majority is; `changes`: how a leader carries out a change of the two; `members`: what
//!   that means for a node, and what it takes from nodes that are none.
//! - `proposals`, `reads`: a host's requests on their way to the leader, wherever it is.
//! - [`detector`], [`failover`]: who is alive and who leads, as told to those who ask. [`fencing`]: what a holder of a lock shows.
//! - [`sealing`]: what makes the log unreadable to a disk, and changes of it visible. `encryption` and `chain`: what the node does with that, and with its keys.
//! - [`message`], [`wire`]: what nodes say to each other, and how it is encoded.
//!
//! # A cluster of one
//!
//! ```
//! use amaters_cluster_core::{Config, Effect, Input, Instant, Node, Token};
//!
//! let mut node = Node::new(Config::new(1, vec![1]))?;
//! node.start(Instant(0));
//! node.step(Instant(0), Input::Propose { token: Token(1), command: "x=1".into(), session: None }, &mut Vec::new());
//!
//! // A driver ticks, and carries out the effects. This one calls everything durable at once.
//! let mut applied = Vec::new();
//! for _ in 0..4 {
//!     let mut effects = Vec::new();
//!     node.step(Instant(0), Input::Tick, &mut effects);
//!     for effect in effects {
//!         match effect {
//!             Effect::Persist { ticket, .. } => node.step(Instant(0), Input::Persisted { ticket }, &mut Vec::new()),
//!             Effect::Apply { commands } => applied.extend(commands),
//!             _ => {}
//!         }
//!     }
//! }
//! assert_eq!(applied[0].token, Some(Token(1)));
//! # Ok::<(), amaters_cluster_core::ConfigError>(())
//! ```

#![deny(unsafe_code)]

mod apply;
mod candidate;
#[cfg(feature = "model-checking")]
mod canonical;
mod catch_up;
mod chain;
mod changes;
pub mod cluster_config;
mod complaints;
#[cfg(feature = "component")]
#[allow(unsafe_code, reason = "wit-bindgen's glue to the host is unsafe by nature")]
pub mod component;
pub mod config;
pub mod detector;
mod disk_watch;
mod encryption;
pub mod entry;
pub mod failover;
pub mod fencing;
mod follower;
pub mod io;
mod leader;
mod lease;
pub mod log;
mod members;
mod membership;
pub mod message;
mod node;
mod observe;
mod outbox;
#[cfg(not(feature = "planted-bugs"))]
mod planted;
#[cfg(feature = "planted-bugs")]
pub mod planted;
mod progress;
mod proposals;
mod reads;
mod repair;
mod rng;
mod role;
pub mod sealing;
pub mod sessions;
pub mod snapshot;
mod status;
mod suspicion;
mod transfer;
pub mod types;
pub mod wire;

pub use chain::{ChainError, ChainPoint, ChainSpan};
pub use cluster_config::{ClusterConfig, ConfigState, MAX_LEARNERS, Member, MemberRole, MemberStatus, MembershipChange};
pub use config::{Config, ConfigError, MAX_VOTERS};
pub use detector::{FailureDetector, FailureEvent, HeartbeatConfig};
pub use encryption::{Encryption, EncryptionStatus};
pub use entry::{EntryKind, LogEntry, Origin, Payload, Proposal};
pub use failover::{FailoverConfig, FailoverCoordinator, FailoverEvent};
pub use fencing::{FencingToken, FencingTokenState, NotAToken, StaleToken};
pub use io::{Committed, Effect, Input, LogLevel, Operation, Rejected, Rejection, Reply};
pub use log::RaftLog;
pub use node::{JournalError, Node};
pub use sealing::{EncryptedPayload, EntryEncryptor, KeyRing, KeyVersion, LogEncryptionKey, LogIntegrityVerifier};
pub use sessions::{Applied, SessionChange, SessionStamp, Sessions};
pub use snapshot::{NewCluster, SnapshotConfig, SnapshotError, SnapshotMetadata, SnapshotPolicy, StoredSnapshot};
pub use status::{Counters, NodeState, PeerStatus, SnapshotStatus, Status};
pub use types::{EntryId, GroupId, Instant, LogIndex, LogTime, NodeId, SessionId, Term, Ticket, Token};
pub use wire::PersistentState;
