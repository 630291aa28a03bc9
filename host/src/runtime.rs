//! The loop that owns a node: it takes what has come, lets the core take a turn, and waits for more.
//!
//! One task owns the sandbox, the state machine and everyone who waits for an answer, so that none of them needs a lock. The disk has a thread of its
//! own, and sockets have theirs where there are processors enough; they reach this task through the [`Inbox`] alone.
//!
//! A trap ends an instance of the component, not the process: the next one is built from the newest snapshot and the journal, with a new state machine. Who
//! was waiting is told that the outcome is unknown. The same happens when a state machine can't make sense of a snapshot. A failed disk ends the node: what it can't keep it must not promise.

use std::sync::Arc;
use std::time::{Duration, Instant};

use amaters_cluster_core::{Config, Encryption, KeyRing, NodeId};
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use crate::engine::{Ambient, Engine, EngineError, NativeEngine, Sandbox, Turn, WasmEngine};
use crate::error::{RaftError, RaftResult};
use crate::events::Events;
use crate::inbox::{Contents, Inbox};
use crate::keys::KeyReader;
use crate::persistence::{OnDurable, RaftPersistence};
use crate::ports::{Network, Ports};
use crate::snapshots::{OnSnapshot, SnapshotStore, SnapshotStoreError, StoredSnapshot};
use crate::state_machine::StateMachine;

/// How often the core is told the time when nothing else happens.
const TICK: Duration = Duration::from_millis(10);

/// How much of a snapshot is given back at once: enough to make a crossing into the sandbox cheap.
const SNAPSHOT_BYTES: usize = 256 << 10;

/// The most bytes of envelopes in one turn, but for one that is larger by itself.
const MAX_TURN_BYTES: usize = 4 << 20;

/// An instance that lived shorter than this before it trapped has not recovered from anything: more of the same won't help.
const MIN_LIFE: Duration = Duration::from_secs(10);

/// How many instances may die young one after the other.
const MAX_YOUNG_DEATHS: u32 = 3;

/// Opens the journal; called again for each new instance, after the one before has let go of it.
pub(crate) type OpenStorage = Box<dyn Fn(OnDurable) -> RaftResult<Box<dyn RaftPersistence>> + Send>;

/// Opens the snapshots; called again for each new instance, after the one before has let go of them.
pub(crate) type OpenSnapshots = Box<dyn Fn(OnSnapshot) -> RaftResult<Box<dyn SnapshotStore>> + Send>;

/// Is told that the node has repaired itself.
pub(crate) type OnRepaired = Box<dyn Fn() + Send>;

/// Is asked, when a node can't be built from its files, whether it may be built without what is damaged, as one that repairs itself. If so, it has put that aside.
pub(crate) type Salvage = Box<dyn Fn(&RaftError) -> RaftResult<bool> + Send>;

/// Makes an empty state machine; called again for each new instance.
pub(crate) type NewStateMachine = Box<dyn Fn() -> Box<dyn StateMachine> + Send>;

/// What runs the core.
#[derive(Debug)]
pub enum EngineKind {
    /// The component, in its sandbox.
    Sandboxed(Sandbox),
    /// The same core as native code, outside any sandbox: to measure what the sandbox costs.
    Native,
}

/// What a node is made of.
pub(crate) struct Runtime {
    pub(crate) config: Config,
    pub(crate) engine: EngineKind,
    pub(crate) open_storage: OpenStorage,
    pub(crate) open_snapshots: OpenSnapshots,
    pub(crate) new_machine: NewStateMachine,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) traps: prometheus::IntCounter,
    pub(crate) on_repaired: OnRepaired,
    pub(crate) salvage: Salvage,
    pub(crate) events: Arc<Events>,
    /// Where keys are read anew when one is missing; none for a log that is not sealed, and for keys that are given once.
    pub(crate) key_reader: Option<KeyReader>,
    pub(crate) divergences: prometheus::IntCounter,
}

impl Runtime {
    /// Runs the node until it is closed or fails. `ready` is called once the first instance has read the journal.
    pub(crate) async fn run(mut self, ready: impl FnOnce() + Send) -> RaftResult<()> {
        let ended = self.run_instances(ready).await;
        self.inbox.close();
        ended
    }

    async fn run_instances(&mut self, ready: impl FnOnce() + Send) -> RaftResult<()> {
        let mut ready = Some(ready);
        let mut young_deaths = 0;
        loop {
            let born = Instant::now();
            match self.run_instance(&mut ready).await {
                Err(RaftError::Engine(EngineError::Trap(reason) | EngineError::StateLost(reason))) => {
                    self.traps.inc();
                    young_deaths = if born.elapsed() < MIN_LIFE { young_deaths + 1 } else { 1 };
                    if young_deaths > MAX_YOUNG_DEATHS {
                        return Err(EngineError::Trap(format!("{reason} ({young_deaths} times within seconds)")).into());
                    }
                    tracing::error!("the instance has ended: {reason}; a new one is built from what is on disk");
                }
                ended => return ended,
            }
        }
    }

    async fn run_instance(&mut self, ready: &mut Option<impl FnOnce() + Send>) -> RaftResult<()> {
        let mut engine = self.build_or_salvage()?;
        if let Some(ready) = ready.take() {
            ready();
        }
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // A piece of the state that the core asked for in the last turn is given to it in this one.
            if !engine.driver().wants_piece() {
                tokio::select! {
                    biased;
                    () = self.inbox.filled() => {}
                    _ = ticks.tick() => {}
                }
            }
            // Whoever woke this task may have more at hand, and so may others: they get their turn first, and the burst grows.
            yield_now().await;
            let contents = self.inbox.take();
            if let Some(failure) = contents.storage_failure {
                return Err(RaftError::Storage(failure));
            }
            if contents.closed {
                return Ok(());
            }
            if let Some(keys) = &contents.keys {
                self.keep_keys(keys);
            }
            take_turn(engine.as_mut(), contents)?;
            if engine.driver().take_repaired() {
                self.config.repair = false;
                (self.on_repaired)();
            }
            if let Some(reason) = engine.driver().take_lost() {
                return Err(EngineError::StateLost(reason).into());
            }
            if let Some(reason) = engine.driver().take_diverged() {
                self.divergences.inc();
                tracing::error!("ALARM: {reason}");
                return Err(EngineError::Diverged(reason).into());
            }
            if engine.driver().take_key_wanted() {
                self.read_keys();
            }
        }
    }

    /// The next instance begins with the keys that this one has been given.
    fn keep_keys(&mut self, keys: &KeyRing) {
        let Some(Encryption { keys: kept, .. }) = &mut self.config.encryption else { return };
        for version in keys.versions() {
            if let Ok(key) = keys.get(version) {
                // A version that has other bytes now is what the core complains about.
                let _ = kept.insert(version, key.clone());
            }
        }
    }

    /// Has the source of keys read anew, which may take as long as asking somebody else takes. The core asks again for as long as it lacks a key.
    fn read_keys(&self) {
        let Some(reader) = &self.key_reader else { return };
        let (inbox, held) = (Arc::clone(&self.inbox), self.config.encryption.as_ref().map(|it| it.keys.clone()).unwrap_or_default());
        reader.read_anew(move |keys| {
            inbox.put(|contents| contents.keys = Some(keys.unwrap_or(held)));
        });
    }

    fn build_or_salvage(&mut self) -> RaftResult<BoxedEngine> {
        match self.build() {
            Err(error) if (self.salvage)(&error)? => {
                self.config.repair = true;
                self.build()
            }
            built => built,
        }
    }

    fn build(&mut self) -> RaftResult<BoxedEngine> {
        let inbox = Arc::clone(&self.inbox);
        // What an earlier instance's disk reported speaks of tickets that the new one has yet to give out.
        inbox.put(|contents| {
            contents.persisted = None;
            contents.snapshots.clear();
        });
        self.events.begin_anew();
        let mut engine = self.engine_from_snapshot()?;
        let mut storage = (self.open_storage)(Box::new(move |durable| {
            inbox.put(|contents| match durable {
                Ok(ticket) => contents.persisted = Some(ticket),
                Err(failure) => contents.storage_failure = Some(Box::new(failure)),
            });
        }))?;
        storage.recover(&mut |operations| Ok(engine.recover(operations)?))?;
        engine.driver().attach(storage);
        engine.start()?;
        Ok(engine)
    }

    /// An engine with the state of the newest snapshot that makes sense. Those that make none are put aside; without any the journal has to have everything, and
    /// the core checks that.
    fn engine_from_snapshot(&mut self) -> RaftResult<BoxedEngine> {
        loop {
            let mut engine = self.new_engine()?;
            let store = engine.driver().snapshots();
            let stored = store.list().map_err(storage_failed)?;
            let [newest, older @ ..] = stored.as_slice() else { return Ok(engine) };
            let began = Instant::now();
            let Err(error) = give_back(engine.as_mut(), *newest) else {
                engine.remember(older)?;
                tracing::info!("snapshot {} was read: {} bytes in {} ms", newest.id, newest.bytes, began.elapsed().as_millis());
                return Ok(engine);
            };
            let RaftError::Engine(EngineError::Snapshot(reason)) = error else { return Err(error) };
            tracing::error!("snapshot {} is of no use and put aside, and the one before it is tried: {reason}", newest.id);
            engine.driver().snapshots().put_aside(newest.id).map_err(storage_failed)?;
        }
    }

    fn new_engine(&mut self) -> RaftResult<BoxedEngine> {
        let inbox = Arc::clone(&self.inbox);
        let snapshots = (self.open_snapshots)(Box::new(move |report| {
            inbox.put(|contents| match report {
                Ok(report) => contents.snapshots.push(report),
                Err(failure) => contents.storage_failure = Some(Box::new(failure)),
            });
        }))?;
        let (network, events) = (Arc::clone(&self.network), Arc::clone(&self.events));
        let ports = Ports::new(network, (self.new_machine)(), snapshots, events, self.config.request_timeout);
        Ok(match &self.engine {
            EngineKind::Sandboxed(sandbox) => Box::new(WasmEngine::new(sandbox, &self.config, ports, Ambient::system())?),
            EngineKind::Native => Box::new(NativeEngine::new(self.config.clone(), ports, Ambient::system())?),
        })
    }
}

type BoxedEngine = Box<dyn Engine<Ports> + Send>;

fn storage_failed(error: SnapshotStoreError) -> RaftError {
    RaftError::Storage(Box::new(error))
}

/// Gives a snapshot back to the core and the state machine, all of it.
fn give_back(engine: &mut (dyn Engine<Ports> + Send), stored: StoredSnapshot) -> RaftResult<()> {
    let mut offset = 0;
    loop {
        let bytes = engine.driver().snapshots().read(stored.id, offset, SNAPSHOT_BYTES).map_err(storage_failed)?;
        if bytes.is_empty() {
            break;
        }
        engine.restore(&bytes)?;
        if let Some(reason) = engine.driver().take_lost() {
            return Err(EngineError::Snapshot(reason).into());
        }
        offset += bytes.len() as u64;
    }
    if engine.driver().is_restored() {
        return Ok(());
    }
    Err(EngineError::Snapshot(format!("it is cut short after {offset} bytes")).into())
}

fn take_turn(engine: &mut (dyn Engine<Ports> + Send), contents: Contents) -> Result<(), EngineError> {
    let ports = engine.driver();
    let Contents { persisted, keys, snapshots, received, .. } = contents;
    let mut turn = Turn { persisted, keys, snapshots, received, ..Turn::default() };
    turn.disk_full = ports.take_disk_news();
    for request in contents.writes {
        ports.register_write(request, &mut turn.proposals);
    }
    turn.sessions = contents.sessions.into_iter().map(|request| ports.register_session(request)).collect();
    turn.reads = contents.reads.into_iter().map(|request| ports.register_read(request)).collect();
    contents.local_reads.into_iter().for_each(|request| ports.serve_local_read(request));
    turn.controls = contents.controls.into_iter().map(|request| ports.register_control(request)).collect();
    // A sandbox has little room beside the log: what has piled up goes in by pieces.
    while let Some(piece) = split_off(&mut turn.received) {
        let applied = engine.driver().take_applied();
        engine.turn(Turn { received: piece, applied, ..Turn::default() })?;
    }
    turn.applied = engine.driver().take_applied();
    // Not earlier: in a turn before this one the core may have captured the state anew.
    turn.piece = engine.driver().take_piece();
    engine.turn(turn)?;
    for asker in contents.status {
        // Whoever asked may have gone away.
        let _ = asker.send(engine.status()?);
    }
    Ok(())
}

/// The first envelopes, if all of them together are more than one turn should take; the others stay.
fn split_off(received: &mut Vec<(NodeId, Vec<u8>)>) -> Option<Vec<(NodeId, Vec<u8>)>> {
    let mut bytes = 0;
    let beyond = received.iter().position(|(_, envelope)| {
        let first = bytes == 0;
        bytes += envelope.len();
        !first && bytes > MAX_TURN_BYTES
    })?;
    let rest = received.split_off(beyond);
    Some(std::mem::replace(received, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_piled_up_goes_in_by_pieces_and_in_order() {
        let envelope = |n: u64, bytes: usize| (NodeId(n), vec![0; bytes]);
        let half = MAX_TURN_BYTES / 2;
        let mut received = vec![envelope(1, half), envelope(2, half), envelope(3, 1), envelope(4, 3 * half), envelope(5, 1)];
        let mut pieces: Vec<Vec<u64>> = Vec::new();
        while let Some(piece) = split_off(&mut received) {
            pieces.push(piece.iter().map(|(sender, _)| sender.0).collect());
        }
        assert_eq!(pieces, [vec![1, 2], vec![3], vec![4]]);
        assert_eq!(received, [envelope(5, 1)]);
    }
}
