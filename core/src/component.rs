//! The shell that makes a WASI component of the core.
//!
//! An export reads the clock, hands its inputs to [`Node::step`] one by one and each effect to an import. Nothing is decided here: what
//! can be decided is in [`Node`], where it is tested natively.
//!
//! Lists cross the boundary by one copy. What comes in is owned already and moves into the node; what goes out is lent to the import.

use crate::detector::FailureEvent;
use crate::io::{Effect, Input};
use crate::node::Node;
use crate::sealing::KeyVersion;
use crate::sessions::Applied;
use crate::types::{Instant, LogIndex, NodeId, Ticket, Token};
use std::cell::RefCell;

use bindings::amaters::cluster::{events, keys, log, network, snapshots, state_machine, storage};
use bindings::exports::amaters::cluster::node as exported;
use bindings::exports::amaters::cluster::node::SetupError;
use bindings::wasi::clocks::monotonic_clock;
use convert::{
    core_change, core_config, core_keys, core_membership_change, core_operation, core_snapshot_id, core_stamp, core_stored_snapshot,
    exported_status, known, lent_command, lent_member, lent_operation, lent_reply, log_level, refused_journal, refused_snapshot, rejected,
    snapshot_id,
};

mod accelerator;
mod convert;

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
            let seals = config.encryption.is_some();
            let mut node = Node::new(core_config(config)?).map_err(|error| SetupError::InvalidConfig(error.to_string()))?;
            if let Some(aes) = seals.then(accelerator::offered).flatten() {
                node.accelerate(aes);
            }
            *stage = Stage::Recovering(Box::new(node));
            Ok(())
        })
    }

    fn restore(bytes: Vec<u8>) -> Result<(), SetupError> {
        STAGE.with_borrow_mut(|stage| {
            let Stage::Recovering(node) = stage else {
                return Err(out_of_order("`restore` belongs between `configure` and `recover`"));
            };
            let mut effects = Vec::new();
            node.restore(&bytes, &mut effects).map_err(|error| refused_snapshot(&error))?;
            effects.into_iter().for_each(|effect| carry_out(&effect));
            Ok(())
        })
    }

    fn recover(operations: Vec<storage::OperationResult>) -> Result<(), SetupError> {
        STAGE.with_borrow_mut(|stage| {
            let Stage::Recovering(node) = stage else {
                return Err(out_of_order("`recover` belongs between `configure` and `start`"));
            };
            for operation in operations {
                node.recover(core_operation(operation)).map_err(|error| refused_journal(&error))?;
            }
            Ok(())
        })
    }

    fn remember(others: Vec<snapshots::StoredSnapshot>) -> Result<(), SetupError> {
        STAGE.with_borrow_mut(|stage| {
            let Stage::Recovering(node) = stage else {
                return Err(out_of_order("`remember` belongs between `restore` and `start`"));
            };
            node.remember(&others.into_iter().map(core_stored_snapshot).collect::<Vec<_>>());
            Ok(())
        })
    }

    fn start() -> Result<(), SetupError> {
        STAGE.with_borrow_mut(|stage| match std::mem::replace(stage, Stage::Fresh) {
            Stage::Recovering(mut node) => {
                node.start(now()).map_err(|error| refused_journal(&error))?;
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

    fn rotate_key(token: u64, version: u32) {
        step_each([Input::RotateKey { token: Token(token), version: KeyVersion(version) }]);
    }

    fn keys_loaded(keys: Vec<exported::LogKey>) {
        match core_keys(keys) {
            Ok(keys) => step_each([Input::KeysLoaded { keys }]),
            Err(error) => log::write(log::Level::Error, &format!("the host's keys are not taken: {error}")),
        }
    }

    fn persisted(ticket: u64) {
        step_each([Input::Persisted { ticket: Ticket(ticket) }]);
    }

    fn disk_space(full: bool) {
        step_each([Input::DiskSpace { full }]);
    }

    fn take_snapshot(token: u64) {
        step_each([Input::TakeSnapshot { token: Token(token) }]);
    }

    fn state_read(piece: Vec<u8>, last: bool) {
        step_each([Input::StateRead { piece: piece.into(), last }]);
    }

    fn snapshot_written(id: snapshots::SnapshotId, end: u64) {
        step_each([Input::SnapshotWritten { id: core_snapshot_id(id), end }]);
    }

    fn snapshot_stored(id: snapshots::SnapshotId) {
        step_each([Input::SnapshotStored { id: core_snapshot_id(id) }]);
    }

    fn snapshot_failed(id: snapshots::SnapshotId, reason: String) {
        step_each([Input::SnapshotFailed { id: core_snapshot_id(id), reason }]);
    }

    fn snapshot_read(id: snapshots::SnapshotId, reader: u64, offset: u64, bytes: Vec<u8>) {
        step_each([Input::SnapshotRead { id: core_snapshot_id(id), reader: NodeId(reader), offset, bytes }]);
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
        Effect::SendBulk { to, envelope } => network::send_bulk(to.0, envelope),
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
        Effect::CaptureState => state_machine::capture(),
        Effect::ReadState { max_bytes } => state_machine::read_captured(u32_of(*max_bytes)),
        Effect::ReleaseState => state_machine::release(),
        Effect::ClearState => state_machine::clear(),
        Effect::RestoreState { piece } => state_machine::restore(piece),
        Effect::StateRestored => state_machine::restored(),
        Effect::WriteSnapshot { id, offset, bytes } => snapshots::write(snapshot_id(*id), *offset, bytes),
        Effect::FinishSnapshot { id } => snapshots::finish(snapshot_id(*id)),
        Effect::DiscardSnapshot { id } => snapshots::discard(snapshot_id(*id)),
        Effect::RetainSnapshots { ids } => snapshots::retain(&ids.iter().copied().map(snapshot_id).collect::<Vec<_>>()),
        Effect::ReadSnapshot { id, reader, offset, max_bytes } => {
            snapshots::read(snapshot_id(*id), reader.0, *offset, u32_of(*max_bytes));
        }
        Effect::StateLost { reason } => events::state_lost(reason),
        Effect::Repaired => events::repaired(),
        Effect::RequestKey { version } => keys::request(version.0),
        Effect::Diverged { reason } => events::diverged(reason),
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

/// What is asked for in one piece is bounded by the configuration.
fn u32_of(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
