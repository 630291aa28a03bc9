//! The core without a sandbox: what the sandbox is measured against.

use amaters_cluster_core::sealing::Boot;
use amaters_cluster_core::{Config, Effect, Encryption, Input, Node, NodeId, Operation, Status};

use super::{Ambient, Clock, Control, Driver, Engine, EngineError, Proposal, Turn};
use crate::snapshots::{SnapshotReport, StoredSnapshot};
use crate::state_machine::Piece;

/// The core, linked into this process.
pub struct NativeEngine<D> {
    node: Node,
    started: bool,
    clock: Box<dyn Clock>,
    driver: D,
    effects: Vec<Effect>,
}

impl<D: Driver> NativeEngine<D> {
    /// Sets a core up. Its seed comes from `ambient`, and what tells this start from others in seals from the system's random source; those in `config` count for nothing.
    ///
    /// # Errors
    /// A setting is out of range, or the system's random source failed.
    pub fn new(config: Config, driver: D, ambient: Ambient) -> Result<Self, EngineError> {
        let drawn = || getrandom::u64().map_err(|error| EngineError::Random(error.to_string()));
        let seed = ambient.seed.map_or_else(drawn, Ok)?;
        let encryption = config.encryption.map(with_new_boot).transpose()?;
        let node = Node::new(Config { seed, encryption, ..config })?;
        Ok(Self { node, started: false, clock: ambient.clock, driver, effects: Vec::new() })
    }

    /// As the component does: all inputs of a kind happen at one moment, and their effects follow them.
    fn step_each(&mut self, inputs: impl IntoIterator<Item = Input>) {
        let now = self.clock.now();
        for input in inputs {
            self.node.step(now, input, &mut self.effects);
        }
        for effect in self.effects.drain(..) {
            self.driver.carry_out(effect);
        }
    }

    fn must_be_started(&self, started: bool) -> Result<(), EngineError> {
        match (started, self.started) {
            (true, false) => Err(EngineError::OutOfOrder("it has to be started first")),
            (false, true) => Err(EngineError::OutOfOrder("it is started already")),
            _ => Ok(()),
        }
    }
}

impl<D: Driver> Engine<D> for NativeEngine<D> {
    fn recover(&mut self, operations: Vec<Operation>) -> Result<(), EngineError> {
        self.must_be_started(false)?;
        for operation in operations {
            self.node.recover(operation)?;
        }
        Ok(())
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        self.must_be_started(false)?;
        let restored = self.node.restore(bytes, &mut self.effects);
        for effect in self.effects.drain(..) {
            self.driver.carry_out(effect);
        }
        Ok(restored?)
    }

    fn remember(&mut self, others: &[StoredSnapshot]) -> Result<(), EngineError> {
        self.must_be_started(false)?;
        self.node.remember(others);
        Ok(())
    }

    fn start(&mut self) -> Result<(), EngineError> {
        self.must_be_started(false)?;
        self.node.start(self.clock.now())?;
        self.started = true;
        Ok(())
    }

    fn turn(&mut self, turn: Turn) -> Result<(), EngineError> {
        self.must_be_started(true)?;
        if let Some(ticket) = turn.persisted {
            self.step_each([Input::Persisted { ticket }]);
        }
        if let Some(full) = turn.disk_full {
            self.step_each([Input::DiskSpace { full }]);
        }
        if let Some(keys) = turn.keys {
            self.step_each([Input::KeysLoaded { keys }]);
        }
        for report in turn.snapshots {
            self.step_each([match report {
                SnapshotReport::Written { id, end } => Input::SnapshotWritten { id, end },
                SnapshotReport::Stored { id } => Input::SnapshotStored { id },
                SnapshotReport::Read { id, reader, offset, bytes } => Input::SnapshotRead { id, reader, offset, bytes },
                SnapshotReport::Failed { id, reason } => Input::SnapshotFailed { id, reason },
            }]);
        }
        if let Some(Piece { bytes, last }) = turn.piece {
            self.step_each([Input::StateRead { piece: bytes.into(), last }]);
        }
        if !turn.received.is_empty() {
            self.step_each(turn.received.into_iter().map(|(sender, envelope)| Input::Receive { sender, envelope }));
        }
        if !turn.applied.is_empty() {
            self.step_each([Input::Applied { results: turn.applied }]);
        }
        if !turn.proposals.is_empty() {
            let proposals = turn.proposals.into_iter();
            self.step_each(proposals.map(|Proposal { token, command, session }| Input::Propose { token, command, session }));
        }
        if !turn.sessions.is_empty() {
            self.step_each(turn.sessions.into_iter().map(|(token, change)| Input::Session { token, change }));
        }
        if !turn.reads.is_empty() {
            self.step_each(turn.reads.into_iter().map(|token| Input::Read { token }));
        }
        for (token, control) in turn.controls {
            self.step_each([match control {
                Control::Transfer { to } => Input::Transfer { token, to: to.unwrap_or(NodeId::NONE) },
                Control::ChangeMembership(change) => Input::ChangeMembership { token, change },
                Control::TakeSnapshot => Input::TakeSnapshot { token },
                Control::RotateKey(version) => Input::RotateKey { token, version },
            }]);
        }
        self.step_each([Input::Tick]);
        Ok(())
    }

    fn status(&mut self) -> Result<Status, EngineError> {
        self.must_be_started(true)?;
        Ok(self.node.status(self.clock.now()))
    }

    fn driver(&mut self) -> &mut D {
        &mut self.driver
    }
}

/// An instance that took another one's boot would seal two payloads with the same key and nonce: each draws its own.
fn with_new_boot(encryption: Encryption) -> Result<Encryption, EngineError> {
    let mut boot = Boot::default();
    getrandom::fill(&mut boot.0).map_err(|error| EngineError::Random(error.to_string()))?;
    Ok(Encryption { boot, ..encryption })
}
