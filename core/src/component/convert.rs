//! The core's values as `wit/` has them, and back.

use std::time::Duration;

use zeroize::Zeroizing;

use super::bindings::amaters::cluster::{keys, log, network, snapshots, state_machine, storage};
use super::bindings::exports::amaters::cluster::node as exported;
use super::bindings::exports::amaters::cluster::node::SetupError;
use super::bindings::wasi::random::random;
use crate::cluster_config::{Member, MemberRole, MemberStatus, MembershipChange};
use crate::config::Config;
use crate::detector::HeartbeatConfig;
use crate::encryption::{Encryption, EncryptionStatus};
use crate::io::{Committed, LogLevel, Operation, Rejected, Rejection, Reply};
use crate::node::JournalError;
use crate::sealing::{Boot, KeyRing, KeyVersion, LogEncryptionKey, SealingError};
use crate::sessions::{SessionChange, SessionStamp};
use crate::snapshot::{SnapshotConfig, SnapshotError, SnapshotPolicy, StoredSnapshot};
use crate::status::{NodeState, PeerStatus, SnapshotStatus, Status};
use crate::types::{EntryId, GroupId, LogIndex, NodeId, SessionId, Term};

pub(super) fn core_config(config: exported::Config) -> Result<Config, SetupError> {
    let millis = |count: u32| Duration::from_millis(count.into());
    // A bound beyond the guest's address space bounds nothing there: the largest that can be said is as good.
    let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    Ok(Config {
        group: GroupId(config.group),
        election_timeout_min: millis(config.election_timeout_min_ms),
        election_timeout_max: millis(config.election_timeout_max_ms),
        heartbeat_interval: millis(config.heartbeat_interval_ms),
        max_batch_bytes: bytes(config.max_batch_bytes.into()),
        max_inflight: bytes(config.max_inflight.into()),
        max_command_bytes: bytes(config.max_command_bytes.into()),
        max_pending_bytes: bytes(config.max_pending_bytes),
        max_log_bytes: bytes(config.max_log_bytes),
        request_timeout: millis(config.request_timeout_ms),
        lease_reads: config.lease_reads,
        max_clock_drift: config.max_clock_drift,
        disk_stall_timeout: millis(config.disk_stall_timeout_ms),
        failure: HeartbeatConfig {
            threshold: config.failure.threshold,
            acceptable_pause: millis(config.failure.acceptable_pause_ms),
            min_deviation: millis(config.failure.min_deviation_ms),
            window: bytes(config.failure.window.into()),
        },
        snapshots: core_snapshot_config(&config.snapshots),
        repair: config.repair,
        encryption: config.encryption.map(core_encryption).transpose()?,
        seed: random::get_random_u64(),
        addresses: config.voters.iter().map(|voter| (NodeId(voter.id), voter.address.clone())).collect(),
        ..Config::new(config.id, config.voters.into_iter().map(|voter| voter.id).collect::<Vec<_>>())
    })
}

fn core_encryption(config: exported::EncryptionConfig) -> Result<Encryption, SetupError> {
    let mut boot = Boot::default();
    for half in boot.0.chunks_exact_mut(8) {
        half.copy_from_slice(&random::get_random_u64().to_ne_bytes());
    }
    let keys = core_keys(keys::held()).map_err(|error| SetupError::InvalidConfig(format!("keys.held: {error}")))?;
    Ok(Encryption { cluster: config.cluster, boot, keys })
}

pub(super) fn core_keys(keys: Vec<keys::LogKey>) -> Result<KeyRing, SealingError> {
    let mut ring = KeyRing::default();
    for keys::LogKey { version, key } in keys {
        ring.insert(KeyVersion(version), LogEncryptionKey::from_bytes(&Zeroizing::new(key))?)?;
    }
    Ok(ring)
}

/// Why a node can't be made of what storage gave back.
pub(super) fn refused_journal(error: &JournalError) -> SetupError {
    match error {
        JournalError::MissingKey(_) => SetupError::MissingKey(error.to_string()),
        JournalError::Chain(_) => SetupError::Tampered(error.to_string()),
        _ => SetupError::InvalidJournal(error.to_string()),
    }
}

pub(super) fn refused_snapshot(error: &SnapshotError) -> SetupError {
    match error {
        SnapshotError::MissingKey(missing) => SetupError::MissingKey(format!("{error}: {missing}")),
        SnapshotError::Tampered(reason) => SetupError::Tampered(format!("{error}: {reason}")),
        _ => SetupError::InvalidSnapshot(error.to_string()),
    }
}

pub(super) fn core_stamp(stamp: exported::SessionStamp) -> SessionStamp {
    SessionStamp { session: SessionId(stamp.session), sequence: stamp.sequence, acknowledged: stamp.acknowledged }
}

pub(super) fn core_change(change: exported::SessionChange) -> SessionChange {
    match change {
        exported::SessionChange::Open(timeout_ms) => SessionChange::Open { timeout_ms },
        exported::SessionChange::KeepAlive(sign) => {
            SessionChange::KeepAlive { session: SessionId(sign.session), acknowledged: sign.acknowledged }
        }
        exported::SessionChange::Close(session) => SessionChange::Close { session: SessionId(session) },
    }
}

pub(super) fn core_operation(operation: storage::OperationResult) -> Operation {
    match operation {
        storage::OperationResult::HardState(bytes) => Operation::HardState(bytes),
        storage::OperationResult::Append(storage::EntryBatchResult { first, count, entries }) => {
            Operation::Append { first: LogIndex(first), count, entries }
        }
        storage::OperationResult::Compact(storage::CompactionResult { first, base }) => Operation::Compact { first: LogIndex(first), base },
    }
}

pub(super) fn core_membership_change(change: exported::MembershipChange) -> MembershipChange {
    let member = |it: exported::Member| Member { id: NodeId(it.id), address: it.address };
    match change {
        exported::MembershipChange::AddLearner(added) => MembershipChange::AddLearner(member(added)),
        exported::MembershipChange::AddVoter(added) => MembershipChange::AddVoter(member(added)),
        exported::MembershipChange::Promote(id) => MembershipChange::Promote(NodeId(id)),
        exported::MembershipChange::Remove(id) => MembershipChange::Remove(NodeId(id)),
        exported::MembershipChange::Replace(members) => MembershipChange::Replace(members.into_iter().map(member).collect()),
    }
}

pub(super) fn lent_member(member: &MemberStatus) -> network::MemberStatusParam<'_> {
    network::MemberStatusParam { id: member.id.0, address: &member.address, role: member_role(member.role) }
}

pub(super) fn member_role(role: MemberRole) -> network::MemberRole {
    match role {
        MemberRole::Voter => network::MemberRole::Voter,
        MemberRole::Incoming => network::MemberRole::Incoming,
        MemberRole::Outgoing => network::MemberRole::Outgoing,
        MemberRole::Learner => network::MemberRole::Learner,
        MemberRole::Leaving => network::MemberRole::Leaving,
    }
}

pub(super) fn lent_operation(operation: &Operation) -> storage::OperationParam<'_> {
    match operation {
        Operation::HardState(bytes) => storage::OperationParam::HardState(bytes),
        Operation::Append { first, count, entries } => {
            storage::OperationParam::Append(storage::EntryBatchParam { first: first.0, count: *count, entries })
        }
        Operation::Compact { first, base } => storage::OperationParam::Compact(storage::CompactionParam { first: first.0, base }),
    }
}

pub(super) fn lent_command(committed: &Committed) -> state_machine::Committed<'_> {
    let Committed { index, term, token, command, result_wanted } = committed;
    state_machine::Committed { index: index.0, term: term.0, token: token.map(|token| token.0), command, result_wanted: *result_wanted }
}

pub(super) fn lent_reply(reply: &Reply) -> state_machine::Reply<'_> {
    state_machine::Reply { token: reply.token.0, index: reply.index.0, result: &reply.result }
}

pub(super) fn exported_status(status: &Status) -> exported::NodeStatus {
    let whole_ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let peer = |it: &PeerStatus| exported::PeerStatus {
        id: it.id.0,
        match_index: it.match_index.0,
        silent_ms: whole_ms(it.silent),
        suspicion: it.suspicion,
        failed: it.failed,
    };
    let counters = &status.counters;
    exported::NodeStatus {
        id: status.id.0,
        role: match status.state {
            NodeState::Follower => exported::Role::Follower,
            NodeState::PreCandidate => exported::Role::PreCandidate,
            NodeState::Candidate => exported::Role::Candidate,
            NodeState::Leader => exported::Role::Leader,
            NodeState::Learner => exported::Role::Learner,
        },
        term: status.term.0,
        leader: known(status.leader),
        commit_index: status.commit_index.0,
        applied_index: status.applied_index.0,
        last_index: status.last_index.0,
        first_index: status.first_index.0,
        durable_index: status.durable_index.0,
        log_bytes: status.log_bytes as u64,
        sessions: status.sessions as u64,
        removed: status.removed,
        config_version: status.config_version.0,
        members: status.members.iter().map(exported_member).collect(),
        peers: status.peers.iter().map(peer).collect(),
        counters: exported::Counters {
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
        transfer_to: known(status.transfer_to),
        has_lease: status.has_lease,
        disk_waits_ms: whole_ms(status.disk_waits),
        disk_full: status.disk_full,
        snapshots: exported_snapshots(&status.snapshots),
        repairing: status.repairing,
        encryption: status.encryption.as_ref().map(exported_encryption),
    }
}

fn exported_encryption(status: &EncryptionStatus) -> exported::EncryptionStatus {
    exported::EncryptionStatus {
        version: status.version.0,
        held: status.held.iter().map(|version| version.0).collect(),
        oldest_needed: status.oldest_needed.0,
        missing: status.missing.map(|version| version.0),
        head_index: status.head_index.0,
        head: status.head.link.0.to_vec(),
        accelerated: status.accelerated,
    }
}

pub(super) fn exported_snapshots(status: &SnapshotStatus) -> exported::SnapshotStatus {
    exported::SnapshotStatus {
        latest: status.latest.map(snapshot_id),
        latest_bytes: status.latest_bytes,
        taking: status.taking.map(snapshot_id),
        receiving: status.receiving.map(snapshot_id),
        received_bytes: status.received_bytes,
        restoring: status.restoring,
    }
}

pub(super) fn snapshot_id(id: EntryId) -> snapshots::SnapshotId {
    snapshots::SnapshotId { index: id.index.0, term: id.term.0 }
}

pub(super) fn core_snapshot_id(id: snapshots::SnapshotId) -> EntryId {
    EntryId { index: LogIndex(id.index), term: Term(id.term) }
}

pub(super) fn core_stored_snapshot(stored: snapshots::StoredSnapshot) -> StoredSnapshot {
    StoredSnapshot { id: core_snapshot_id(stored.id), bytes: stored.bytes }
}

fn core_snapshot_config(config: &exported::SnapshotConfig) -> SnapshotConfig {
    let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let limit = |count: u64| (count > 0).then_some(count);
    SnapshotConfig {
        policy: SnapshotPolicy { entries: limit(config.every_entries), bytes: limit(config.every_bytes) },
        keep: size(config.keep.into()),
        tail_entries: config.tail_entries,
        chunk_bytes: size(config.chunk_bytes.into()),
        max_bytes_per_second: config.max_bytes_per_second,
    }
}

pub(super) fn exported_member(member: &MemberStatus) -> network::MemberStatusResult {
    network::MemberStatusResult { id: member.id.0, address: member.address.clone(), role: member_role(member.role) }
}

pub(super) fn known(node: NodeId) -> Option<u64> {
    (!node.is_none()).then_some(node.0)
}

pub(super) fn rejected(request: &Rejected) -> state_machine::Rejected {
    let reason = match request.reason {
        Rejection::NoLeader => state_machine::Rejection::NoLeader,
        Rejection::UnknownOutcome => state_machine::Rejection::UnknownOutcome,
        Rejection::Overloaded => state_machine::Rejection::Overloaded,
        Rejection::TooLarge => state_machine::Rejection::TooLarge,
        Rejection::LogFull => state_machine::Rejection::LogFull,
        Rejection::NotLeader => state_machine::Rejection::NotLeader,
        Rejection::UnknownTarget => state_machine::Rejection::UnknownTarget,
        Rejection::TargetSilent => state_machine::Rejection::TargetSilent,
        Rejection::TransferUnderWay => state_machine::Rejection::TransferUnderWay,
        Rejection::TransferFailed => state_machine::Rejection::TransferFailed,
        Rejection::SessionExpired => state_machine::Rejection::SessionExpired,
        Rejection::ResponseDropped => state_machine::Rejection::ResponseDropped,
        Rejection::SessionFull => state_machine::Rejection::SessionFull,
        Rejection::ChangeUnderWay => state_machine::Rejection::ChangeUnderWay,
        Rejection::NotReady => state_machine::Rejection::NotReady,
        Rejection::AlreadyMember => state_machine::Rejection::AlreadyMember,
        Rejection::NotMember => state_machine::Rejection::NotMember,
        Rejection::MemberLimits => state_machine::Rejection::MemberLimits,
        Rejection::NotCaughtUp => state_machine::Rejection::NotCaughtUp,
        Rejection::Removed => state_machine::Rejection::Removed,
        Rejection::SnapshotUnderWay => state_machine::Rejection::SnapshotUnderWay,
        Rejection::SnapshotFailed => state_machine::Rejection::SnapshotFailed,
        Rejection::NotEncrypted => state_machine::Rejection::NotEncrypted,
        Rejection::KeyVersionInUse => state_machine::Rejection::KeyVersionInUse,
        Rejection::KeyNotHeld => state_machine::Rejection::KeyNotHeld,
        Rejection::DiskFull => state_machine::Rejection::DiskFull,
    };
    state_machine::Rejected { token: request.token.0, reason, leader: known(request.leader) }
}

pub(super) fn log_level(level: LogLevel) -> log::Level {
    match level {
        LogLevel::Debug => log::Level::Debug,
        LogLevel::Info => log::Level::Info,
        LogLevel::Warn => log::Level::Warn,
        LogLevel::Error => log::Level::Error,
    }
}
