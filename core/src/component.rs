//! The shell that makes a WASI component of the core.
//!
//! An export reads the clock, hands its inputs to [`Node::step`] one by one and each effect to an import. Nothing is decided here: what
//! can be decided is in [`Node`], where it is tested natively.
//!
//! Lists cross the boundary by one copy. What comes in is owned already and moves into the node; what goes out is lent to the import.

use std::cell::RefCell;
use std::time::Duration;

use crate::cluster_config::{Member, MemberRole, MemberStatus, MembershipChange};
use crate::config::Config;
use crate::detector::{FailureEvent, HeartbeatConfig};
use crate::io::{Committed, Effect, Input, LogLevel, Operation, Rejected, Rejection, Reply};
use crate::node::Node;
use crate::sessions::{Applied, SessionChange, SessionStamp};
use crate::status::{NodeState, PeerStatus, Status};
use crate::types::{GroupId, Instant, LogIndex, NodeId, SessionId, Ticket, Token};

use bindings::amaters::cluster::{events, log, network, state_machine, storage};
use bindings::exports::amaters::cluster::node as exported;
use bindings::exports::amaters::cluster::node::SetupError;
use bindings::wasi::clocks::monotonic_clock;
use bindings::wasi::random::random;

/// What `wit/` says, in Rust: generated.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code; `wit/` holds its documentation")]
mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "raft-node",
        ownership: Borrowing { duplicate_if_necessary: true },
        generate_all,
    });

    use super::Component;
    export!(Component);
}

/// How far an instance is in its life.
enum Stage {
    Fresh,
    Recovering(Box<Node>),
    Running(Box<Running>),
}

/// A node that takes part, and the buffer that its effects pass through.
struct Running {
    node: Node,
    effects: Vec<Effect>,
}

thread_local! {
    /// The instance's only state. A component instance has one thread, and its host never calls an export from inside an import.
    static STAGE: RefCell<Stage> = const { RefCell::new(Stage::Fresh) };
}

/// The component's exports.
struct Component;

impl exported::Guest for Component {
    fn configure(config: exported::Config) -> Result<(), SetupError> {
        report_panics();
        STAGE.with_borrow_mut(|stage| {
            let Stage::Fresh = stage else {
                return Err(out_of_order("`configure` was called twice: call it once in the life of an instance"));
            };
            let node = Node::new(core_config(config)).map_err(|error| SetupError::InvalidConfig(error.to_string()))?;
            *stage = Stage::Recovering(Box::new(node));
            Ok(())
        })
    }

    fn recover(operations: Vec<storage::OperationResult>) -> Result<(), SetupError> {
        STAGE.with_borrow_mut(|stage| {
            let Stage::Recovering(node) = stage else {
                return Err(out_of_order("`recover` belongs between `configure` and `start`"));
            };
            for operation in operations {
                node.recover(core_operation(operation)).map_err(|error| SetupError::InvalidJournal(error.to_string()))?;
            }
            Ok(())
        })
    }

    fn start() -> Result<(), SetupError> {
        STAGE.with_borrow_mut(|stage| match std::mem::replace(stage, Stage::Fresh) {
            Stage::Recovering(mut node) => {
                node.start(now());
                *stage = Stage::Running(Box::new(Running { node: *node, effects: Vec::new() }));
                Ok(())
            }
            other => {
                *stage = other;
                Err(out_of_order("`start` belongs after `configure`, once"))
            }
        })
    }

    fn tick() {
        step_each([Input::Tick]);
    }

    fn receive(envelopes: Vec<exported::Received>) {
        step_each(envelopes.into_iter().map(|it| Input::Receive { sender: NodeId(it.sender), envelope: it.envelope }));
    }

    fn propose(proposals: Vec<exported::Proposal>) {
        step_each(proposals.into_iter().map(|it| {
            let session = it.session.map(core_stamp);
            Input::Propose { token: Token(it.token), command: it.command.into(), session }
        }));
    }

    fn session(requests: Vec<exported::SessionRequest>) {
        step_each(requests.into_iter().map(|it| Input::Session { token: Token(it.token), change: core_change(it.change) }));
    }

    fn applied(results: Vec<exported::CommandResult>) {
        let results = results.into_iter().map(|it| Applied { index: LogIndex(it.index), result: it.result.into() }).collect();
        step_each([Input::Applied { results }]);
    }

    fn read(tokens: Vec<u64>) {
        step_each(tokens.into_iter().map(|token| Input::Read { token: Token(token) }));
    }

    fn transfer(token: u64, to: Option<u64>) {
        step_each([Input::Transfer { token: Token(token), to: to.map_or(NodeId::NONE, NodeId) }]);
    }

    fn change_membership(token: u64, change: exported::MembershipChange) {
        step_each([Input::ChangeMembership { token: Token(token), change: core_membership_change(change) }]);
    }

    fn persisted(ticket: u64) {
        step_each([Input::Persisted { ticket: Ticket(ticket) }]);
    }

    fn status() -> exported::NodeStatus {
        with_running(|running| exported_status(&running.node.status(now())))
    }
}

/// Feeds the node, and carries out what it wants done. All inputs of a call happen at one moment.
fn step_each(inputs: impl IntoIterator<Item = Input>) {
    with_running(|Running { node, effects }| {
        let now = now();
        for input in inputs {
            node.step(now, input, effects);
        }
        for effect in effects.drain(..) {
            carry_out(&effect);
        }
    });
}

/// # Panics
/// Where the node has not been started: a bug of the host, which the contract leaves no other answer to.
fn with_running<T>(act: impl FnOnce(&mut Running) -> T) -> T {
    STAGE.with_borrow_mut(|stage| match stage {
        Stage::Running(running) => act(running),
        Stage::Fresh | Stage::Recovering(_) => {
            panic!("the host called a node that is not started: call `configure`, `recover` and `start` first")
        }
    })
}

fn carry_out(effect: &Effect) {
    match effect {
        Effect::Persist { ticket, operations } => {
            storage::submit(ticket.0, &operations.iter().map(lent_operation).collect::<Vec<_>>());
        }
        Effect::Send { to, envelope } => network::send(to.0, envelope),
        Effect::Apply { commands } => state_machine::apply(&commands.iter().map(lent_command).collect::<Vec<_>>()),
        Effect::Reply { replies } => state_machine::answer(&replies.iter().map(lent_reply).collect::<Vec<_>>()),
        Effect::ServeReads { tokens } => state_machine::serve_reads(&tokens.iter().map(|token| token.0).collect::<Vec<_>>()),
        Effect::Done { tokens } => state_machine::done(&tokens.iter().map(|token| token.0).collect::<Vec<_>>()),
        Effect::Reject { requests } => state_machine::reject(&requests.iter().map(rejected).collect::<Vec<_>>()),
        Effect::Members { version, members } => network::members(version.0, &members.iter().map(lent_member).collect::<Vec<_>>()),
        Effect::Log { level, message } => log::write(log_level(*level), message),
        Effect::Failure { event: FailureEvent::Failed { peer } } => events::peer_failed(peer.0),
        Effect::Failure { event: FailureEvent::Recovered { peer } } => events::peer_recovered(peer.0),
        Effect::LeaderChanged { term, leader } => events::leader_changed(term.0, known(*leader)),
    }
}

/// A panic ends the instance by a trap, which carries no words: they go to the host's log first.
///
/// Only in a component: natively the hook is the process's own.
fn report_panics() {
    #[cfg(target_family = "wasm")]
    std::panic::set_hook(Box::new(|panic| log::write(log::Level::Error, &panic.to_string())));
}

fn now() -> Instant {
    Instant(monotonic_clock::now())
}

fn out_of_order(reason: &str) -> SetupError {
    SetupError::OutOfOrder(reason.to_owned())
}

fn core_config(config: exported::Config) -> Config {
    let millis = |count: u32| Duration::from_millis(count.into());
    // A bound beyond the guest's address space bounds nothing there: the largest that can be said is as good.
    let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    Config {
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
        seed: random::get_random_u64(),
        addresses: config.voters.iter().map(|voter| (NodeId(voter.id), voter.address.clone())).collect(),
        ..Config::new(config.id, config.voters.into_iter().map(|voter| voter.id).collect::<Vec<_>>())
    }
}

fn core_stamp(stamp: exported::SessionStamp) -> SessionStamp {
    SessionStamp { session: SessionId(stamp.session), sequence: stamp.sequence, acknowledged: stamp.acknowledged }
}

fn core_change(change: exported::SessionChange) -> SessionChange {
    match change {
        exported::SessionChange::Open(timeout_ms) => SessionChange::Open { timeout_ms },
        exported::SessionChange::KeepAlive(sign) => {
            SessionChange::KeepAlive { session: SessionId(sign.session), acknowledged: sign.acknowledged }
        }
        exported::SessionChange::Close(session) => SessionChange::Close { session: SessionId(session) },
    }
}

fn core_operation(operation: storage::OperationResult) -> Operation {
    match operation {
        storage::OperationResult::HardState(bytes) => Operation::HardState(bytes),
        storage::OperationResult::Append(storage::EntryBatchResult { first, count, entries }) => {
            Operation::Append { first: LogIndex(first), count, entries }
        }
    }
}

fn core_membership_change(change: exported::MembershipChange) -> MembershipChange {
    let member = |it: exported::Member| Member { id: NodeId(it.id), address: it.address };
    match change {
        exported::MembershipChange::AddLearner(added) => MembershipChange::AddLearner(member(added)),
        exported::MembershipChange::AddVoter(added) => MembershipChange::AddVoter(member(added)),
        exported::MembershipChange::Promote(id) => MembershipChange::Promote(NodeId(id)),
        exported::MembershipChange::Remove(id) => MembershipChange::Remove(NodeId(id)),
        exported::MembershipChange::Replace(members) => MembershipChange::Replace(members.into_iter().map(member).collect()),
    }
}

fn lent_member(member: &MemberStatus) -> network::MemberStatusParam<'_> {
    network::MemberStatusParam { id: member.id.0, address: &member.address, role: member_role(member.role) }
}

fn member_role(role: MemberRole) -> network::MemberRole {
    match role {
        MemberRole::Voter => network::MemberRole::Voter,
        MemberRole::Incoming => network::MemberRole::Incoming,
        MemberRole::Outgoing => network::MemberRole::Outgoing,
        MemberRole::Learner => network::MemberRole::Learner,
        MemberRole::Leaving => network::MemberRole::Leaving,
    }
}

fn lent_operation(operation: &Operation) -> storage::OperationParam<'_> {
    match operation {
        Operation::HardState(bytes) => storage::OperationParam::HardState(bytes),
        Operation::Append { first, count, entries } => {
            storage::OperationParam::Append(storage::EntryBatchParam { first: first.0, count: *count, entries })
        }
    }
}

fn lent_command(committed: &Committed) -> state_machine::Committed<'_> {
    let Committed { index, term, token, command, result_wanted } = committed;
    state_machine::Committed { index: index.0, term: term.0, token: token.map(|token| token.0), command, result_wanted: *result_wanted }
}

fn lent_reply(reply: &Reply) -> state_machine::Reply<'_> {
    state_machine::Reply { token: reply.token.0, index: reply.index.0, result: &reply.result }
}

fn exported_status(status: &Status) -> exported::NodeStatus {
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
        },
        transfer_to: known(status.transfer_to),
        has_lease: status.has_lease,
        disk_waits_ms: whole_ms(status.disk_waits),
    }
}

fn exported_member(member: &MemberStatus) -> network::MemberStatusResult {
    network::MemberStatusResult { id: member.id.0, address: member.address.clone(), role: member_role(member.role) }
}

fn known(node: NodeId) -> Option<u64> {
    (!node.is_none()).then_some(node.0)
}

fn rejected(request: &Rejected) -> state_machine::Rejected {
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
    };
    state_machine::Rejected { token: request.token.0, reason, leader: known(request.leader) }
}

fn log_level(level: LogLevel) -> log::Level {
    match level {
        LogLevel::Debug => log::Level::Debug,
        LogLevel::Info => log::Level::Info,
        LogLevel::Warn => log::Level::Warn,
        LogLevel::Error => log::Level::Error,
    }
}
