//! From the contract's types to the core's, and back.

use std::time::Duration;

use amaters_cluster_core::sealing::ChainLink;
use amaters_cluster_core::{
    Applied, ChainPoint, Committed, Config, Counters, EncryptionStatus, EntryId, KeyRing, KeyVersion, LogIndex, LogLevel, Member,
    MemberRole, MemberStatus, MembershipChange, NodeId, NodeState, Operation, PeerStatus, Rejected, Rejection, Reply, SessionChange,
    SessionStamp, SnapshotStatus, Status, StoredSnapshot, Term, Token,
};

use super::wasm::bindings::amaters::cluster::{log, network, snapshots, state_machine, storage};
use super::wasm::bindings::exports::amaters::cluster::node as guest;
use super::{EngineError, Proposal};

/// A guest's refusal to be set up, as it crossed the boundary.
pub(super) struct SetupFailed(pub(super) guest::SetupError);

impl From<SetupFailed> for EngineError {
    fn from(SetupFailed(error): SetupFailed) -> Self {
        match error {
            guest::SetupError::InvalidConfig(reason) | guest::SetupError::OutOfOrder(reason) => Self::Setup(reason),
            guest::SetupError::InvalidJournal(reason) => Self::JournalRefused(reason),
            guest::SetupError::InvalidSnapshot(reason) => Self::Snapshot(reason),
            guest::SetupError::MissingKey(reason) => Self::MissingKey(reason),
            guest::SetupError::Tampered(reason) => Self::Tampered(reason),
        }
    }
}

/// The contract counts time in whole milliseconds, and sizes in numbers of its own width: what is larger is said as the largest.
///
/// `voters` are those of `config`, in the form in which they can be lent to the guest.
pub(super) fn lent_config<'a>(config: &'a Config, voters: &'a [guest::Member<'a>]) -> guest::Config<'a> {
    let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    guest::Config {
        id: config.id.0,
        group: config.group.0,
        voters,
        election_timeout_min_ms: millis(config.election_timeout_min),
        election_timeout_max_ms: millis(config.election_timeout_max),
        heartbeat_interval_ms: millis(config.heartbeat_interval),
        max_batch_bytes: narrow(config.max_batch_bytes),
        max_inflight: narrow(config.max_inflight),
        max_command_bytes: narrow(config.max_command_bytes),
        max_pending_bytes: config.max_pending_bytes as u64,
        max_log_bytes: config.max_log_bytes as u64,
        request_timeout_ms: millis(config.request_timeout),
        lease_reads: config.lease_reads,
        max_clock_drift: config.max_clock_drift,
        disk_stall_timeout_ms: millis(config.disk_stall_timeout),
        failure: guest::FailureConfig {
            threshold: config.failure.threshold,
            acceptable_pause_ms: millis(config.failure.acceptable_pause),
            min_deviation_ms: millis(config.failure.min_deviation),
            window: narrow(config.failure.window),
        },
        snapshots: guest::SnapshotConfig {
            every_entries: config.snapshots.policy.entries.unwrap_or_default(),
            every_bytes: config.snapshots.policy.bytes.unwrap_or_default(),
            tail_entries: config.snapshots.tail_entries,
            keep: narrow(config.snapshots.keep),
            chunk_bytes: narrow(config.snapshots.chunk_bytes),
            max_bytes_per_second: config.snapshots.max_bytes_per_second,
        },
        repair: config.repair,
        encryption: config.encryption.as_ref().map(|encryption| guest::EncryptionConfig { cluster: &encryption.cluster }),
    }
}

/// Keys on their way to the guest: lent, so that no copy of them is left on this side.
pub(super) fn lent_keys(keys: &KeyRing) -> Vec<guest::LogKey<'_>> {
    let lent = |version: KeyVersion| Some(guest::LogKey { version: version.0, key: keys.get(version).ok()?.as_bytes() });
    keys.versions().filter_map(lent).collect()
}

/// The voters of a configuration, with their addresses as far as they are known.
pub(super) fn lent_voters(config: &Config) -> Vec<guest::Member<'_>> {
    let address = |voter| config.addresses.get(voter).map_or("", String::as_str);
    config.voters.iter().map(|voter| guest::Member { id: voter.0, address: address(voter) }).collect()
}

/// A change, where `replacement` has room for the members of a whole set.
pub(super) fn lent_change<'a>(change: &'a MembershipChange, replacement: &'a mut Vec<guest::Member<'a>>) -> guest::MembershipChange<'a> {
    let member = |it: &'a Member| guest::Member { id: it.id.0, address: &it.address };
    match change {
        MembershipChange::AddLearner(added) => guest::MembershipChange::AddLearner(member(added)),
        MembershipChange::AddVoter(added) => guest::MembershipChange::AddVoter(member(added)),
        MembershipChange::Promote(id) => guest::MembershipChange::Promote(id.0),
        MembershipChange::Remove(id) => guest::MembershipChange::Remove(id.0),
        MembershipChange::Replace(members) => {
            replacement.extend(members.iter().map(member));
            guest::MembershipChange::Replace(replacement)
        }
    }
}

impl From<network::MemberRole> for MemberRole {
    fn from(role: network::MemberRole) -> Self {
        match role {
            network::MemberRole::Voter => Self::Voter,
            network::MemberRole::Incoming => Self::Incoming,
            network::MemberRole::Outgoing => Self::Outgoing,
            network::MemberRole::Learner => Self::Learner,
            network::MemberRole::Leaving => Self::Leaving,
        }
    }
}

impl From<network::MemberStatus> for MemberStatus {
    fn from(it: network::MemberStatus) -> Self {
        Self { id: NodeId(it.id), address: it.address, role: it.role.into() }
    }
}

impl<'a> From<&'a (NodeId, Vec<u8>)> for guest::Received<'a> {
    fn from((sender, envelope): &'a (NodeId, Vec<u8>)) -> Self {
        Self { sender: sender.0, envelope }
    }
}

impl<'a> From<&'a Proposal> for guest::Proposal<'a> {
    fn from(proposal: &'a Proposal) -> Self {
        Self { token: proposal.token.0, command: &proposal.command, session: proposal.session.map(Into::into) }
    }
}

impl From<SessionStamp> for guest::SessionStamp {
    fn from(stamp: SessionStamp) -> Self {
        Self { session: stamp.session.0, sequence: stamp.sequence, acknowledged: stamp.acknowledged }
    }
}

impl From<&(Token, SessionChange)> for guest::SessionRequest {
    fn from((token, change): &(Token, SessionChange)) -> Self {
        let change = match *change {
            SessionChange::Open { timeout_ms } => guest::SessionChange::Open(timeout_ms),
            SessionChange::KeepAlive { session, acknowledged } => {
                guest::SessionChange::KeepAlive(guest::SessionSign { session: session.0, acknowledged })
            }
            SessionChange::Close { session } => guest::SessionChange::Close(session.0),
        };
        Self { token: token.0, change }
    }
}

impl<'a> From<&'a Applied> for guest::CommandResult<'a> {
    fn from(applied: &'a Applied) -> Self {
        Self { index: applied.index.0, result: &applied.result }
    }
}

impl<'a> From<&'a Operation> for storage::OperationParam<'a> {
    fn from(operation: &'a Operation) -> Self {
        match operation {
            Operation::HardState(bytes) => Self::HardState(bytes),
            Operation::Append { first, count, entries } => {
                Self::Append(storage::EntryBatchParam { first: first.0, count: *count, entries })
            }
            Operation::Compact { first, base } => Self::Compact(storage::CompactionParam { first: first.0, base }),
        }
    }
}

impl From<storage::OperationResult> for Operation {
    fn from(operation: storage::OperationResult) -> Self {
        match operation {
            storage::OperationResult::HardState(bytes) => Self::HardState(bytes),
            storage::OperationResult::Append(batch) => {
                Self::Append { first: LogIndex(batch.first), count: batch.count, entries: batch.entries }
            }
            storage::OperationResult::Compact(it) => Self::Compact { first: LogIndex(it.first), base: it.base },
        }
    }
}

impl From<state_machine::Committed> for Committed {
    fn from(it: state_machine::Committed) -> Self {
        let (index, term, token) = (LogIndex(it.index), Term(it.term), it.token.map(Token));
        Self { index, term, token, command: it.command.into(), result_wanted: it.result_wanted }
    }
}

impl From<state_machine::Reply> for Reply {
    fn from(it: state_machine::Reply) -> Self {
        Self { token: Token(it.token), index: LogIndex(it.index), result: it.result.into() }
    }
}

impl From<state_machine::Rejected> for Rejected {
    fn from(it: state_machine::Rejected) -> Self {
        let reason = match it.reason {
            state_machine::Rejection::NoLeader => Rejection::NoLeader,
            state_machine::Rejection::UnknownOutcome => Rejection::UnknownOutcome,
            state_machine::Rejection::Overloaded => Rejection::Overloaded,
            state_machine::Rejection::TooLarge => Rejection::TooLarge,
            state_machine::Rejection::LogFull => Rejection::LogFull,
            state_machine::Rejection::NotLeader => Rejection::NotLeader,
            state_machine::Rejection::UnknownTarget => Rejection::UnknownTarget,
            state_machine::Rejection::TargetSilent => Rejection::TargetSilent,
            state_machine::Rejection::TransferUnderWay => Rejection::TransferUnderWay,
            state_machine::Rejection::TransferFailed => Rejection::TransferFailed,
            state_machine::Rejection::SessionExpired => Rejection::SessionExpired,
            state_machine::Rejection::ResponseDropped => Rejection::ResponseDropped,
            state_machine::Rejection::SessionFull => Rejection::SessionFull,
            state_machine::Rejection::ChangeUnderWay => Rejection::ChangeUnderWay,
            state_machine::Rejection::NotReady => Rejection::NotReady,
            state_machine::Rejection::AlreadyMember => Rejection::AlreadyMember,
            state_machine::Rejection::NotMember => Rejection::NotMember,
            state_machine::Rejection::MemberLimits => Rejection::MemberLimits,
            state_machine::Rejection::NotCaughtUp => Rejection::NotCaughtUp,
            state_machine::Rejection::Removed => Rejection::Removed,
            state_machine::Rejection::SnapshotUnderWay => Rejection::SnapshotUnderWay,
            state_machine::Rejection::SnapshotFailed => Rejection::SnapshotFailed,
            state_machine::Rejection::DiskFull => Rejection::DiskFull,
            state_machine::Rejection::NotEncrypted => Rejection::NotEncrypted,
            state_machine::Rejection::KeyVersionInUse => Rejection::KeyVersionInUse,
            state_machine::Rejection::KeyNotHeld => Rejection::KeyNotHeld,
        };
        Self { token: Token(it.token), reason, leader: or_none(it.leader) }
    }
}

impl From<log::Level> for LogLevel {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Debug => Self::Debug,
            log::Level::Info => Self::Info,
            log::Level::Warn => Self::Warn,
            log::Level::Error => Self::Error,
        }
    }
}

impl From<guest::NodeStatus> for Status {
    fn from(status: guest::NodeStatus) -> Self {
        let peer = |it: guest::PeerStatus| {
            let silent = Duration::from_millis(it.silent_ms);
            PeerStatus { id: NodeId(it.id), match_index: LogIndex(it.match_index), silent, suspicion: it.suspicion, failed: it.failed }
        };
        let counters = status.counters;
        Self {
            id: NodeId(status.id),
            state: match status.role {
                guest::Role::Follower => NodeState::Follower,
                guest::Role::PreCandidate => NodeState::PreCandidate,
                guest::Role::Candidate => NodeState::Candidate,
                guest::Role::Leader => NodeState::Leader,
                guest::Role::Learner => NodeState::Learner,
            },
            term: Term(status.term),
            leader: or_none(status.leader),
            commit_index: LogIndex(status.commit_index),
            applied_index: LogIndex(status.applied_index),
            last_index: LogIndex(status.last_index),
            first_index: LogIndex(status.first_index),
            durable_index: LogIndex(status.durable_index),
            log_bytes: usize::try_from(status.log_bytes).unwrap_or(usize::MAX),
            sessions: usize::try_from(status.sessions).unwrap_or(usize::MAX),
            removed: status.removed,
            config_version: LogIndex(status.config_version),
            members: status.members.into_iter().map(Into::into).collect(),
            peers: status.peers.into_iter().map(peer).collect(),
            counters: Counters {
                elections: counters.elections,
                refused_envelopes: counters.refused_envelopes,
                proposals: counters.proposals,
                rejections: counters.rejections,
                transfers: counters.transfers,
                lease_reads: counters.lease_reads,
                disk_stalls: counters.disk_stalls,
                configurations: counters.configurations,
                strangers: counters.strangers,
                snapshots_taken: counters.snapshots_taken,
                snapshots_sent: counters.snapshots_sent,
                snapshots_installed: counters.snapshots_installed,
                snapshots_failed: counters.snapshots_failed,
            },
            transfer_to: or_none(status.transfer_to),
            has_lease: status.has_lease,
            disk_waits: Duration::from_millis(status.disk_waits_ms),
            disk_full: status.disk_full,
            snapshots: SnapshotStatus {
                latest: status.snapshots.latest.map(core_snapshot_id),
                latest_bytes: status.snapshots.latest_bytes,
                taking: status.snapshots.taking.map(core_snapshot_id),
                receiving: status.snapshots.receiving.map(core_snapshot_id),
                received_bytes: status.snapshots.received_bytes,
                restoring: status.snapshots.restoring,
            },
            repairing: status.repairing,
            encryption: status.encryption.map(core_encryption_status),
        }
    }
}

fn core_encryption_status(status: guest::EncryptionStatus) -> EncryptionStatus {
    let mut link = ChainLink([0; 32]);
    // The contract says 32 bytes; a guest that says otherwise has its own word shown as far as it goes.
    link.0.iter_mut().zip(status.head).for_each(|(to, byte)| *to = byte);
    let version = KeyVersion(status.version);
    EncryptionStatus {
        version,
        held: status.held.into_iter().map(KeyVersion).collect(),
        oldest_needed: KeyVersion(status.oldest_needed),
        missing: status.missing.map(KeyVersion),
        head_index: LogIndex(status.head_index),
        head: ChainPoint { link, version },
        accelerated: status.accelerated,
    }
}

pub(super) fn core_snapshot_id(id: snapshots::SnapshotId) -> EntryId {
    EntryId { index: LogIndex(id.index), term: Term(id.term) }
}

pub(super) fn snapshot_id(id: EntryId) -> snapshots::SnapshotId {
    snapshots::SnapshotId { index: id.index.0, term: id.term.0 }
}

pub(super) fn or_none(node: Option<u64>) -> NodeId {
    node.map_or(NodeId::NONE, NodeId)
}

pub(super) fn stored_snapshot(stored: StoredSnapshot) -> snapshots::StoredSnapshot {
    snapshots::StoredSnapshot { id: snapshot_id(stored.id), bytes: stored.bytes }
}
