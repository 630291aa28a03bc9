//! The loop that owns a node: it takes what has come, lets the core take a turn, and waits for more.
//!
//! One task owns the sandbox, the state machine and everyone who waits for an answer, so that none of them needs a lock. The disk has a thread of its
//! own, and sockets have theirs where there are processors enough; they reach this task through the [`Inbox`] alone.
//!
//! A trap ends an instance of the component, not the process: the next one is built from the journal, with a new state machine. Who was waiting
//! is told that the outcome is unknown. A failed disk ends the node: what it can't keep it must not promise.

use std::sync::Arc;
use std::time::{Duration, Instant};

use amaters_cluster_core::{Config, NodeId};
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use crate::engine::{Ambient, Engine, EngineError, NativeEngine, Sandbox, Turn, WasmEngine};
use crate::error::{RaftError, RaftResult};
use crate::events::Events;
use crate::inbox::{Contents, Inbox};
use crate::persistence::{OnDurable, RaftPersistence};
use crate::ports::{Network, Ports};
use crate::state_machine::StateMachine;

/// How often the core is told the time when nothing else happens.
const TICK: Duration = Duration::from_millis(10);

/// The most bytes of envelopes in one turn, but for one that is larger by itself.
const MAX_TURN_BYTES: usize = 4 << 20;

/// An instance that lived shorter than this before it trapped has not recovered from anything: more of the same won't help.
const MIN_LIFE: Duration = Duration::from_secs(10);

/// How many instances may die young one after the other.
const MAX_YOUNG_DEATHS: u32 = 3;

/// Opens the journal; called again for each new instance, after the one before has let go of it.
pub(crate) type OpenStorage = Box<dyn Fn(OnDurable) -> RaftResult<Box<dyn RaftPersistence>> + Send>;

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
    pub(crate) new_machine: NewStateMachine,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) traps: prometheus::IntCounter,
    pub(crate) events: Arc<Events>,
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
                Err(RaftError::Engine(EngineError::Trap(reason))) => {
                    self.traps.inc();
                    young_deaths = if born.elapsed() < MIN_LIFE { young_deaths + 1 } else { 1 };
                    if young_deaths > MAX_YOUNG_DEATHS {
                        return Err(EngineError::Trap(format!("{reason} ({young_deaths} times within seconds)")).into());
                    }
                    tracing::error!("the component trapped: {reason}; a new instance is built from the journal");
                }
                ended => return ended,
            }
        }
    }

    async fn run_instance(&mut self, ready: &mut Option<impl FnOnce() + Send>) -> RaftResult<()> {
        let mut engine = self.build()?;
        if let Some(ready) = ready.take() {
            ready();
        }
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.inbox.filled() => {}
                _ = ticks.tick() => {}
            }
            // Whoever woke this task may have more at hand, and so may others: they get their turn first, and the burst grows.
            yield_now().await;
            let contents = self.inbox.take();
            if let Some(failure) = contents.storage_failure {
                return Err(RaftError::Storage(Box::new(failure)));
            }
            if contents.closed {
                return Ok(());
            }
            take_turn(engine.as_mut(), contents)?;
        }
    }

    fn build(&mut self) -> RaftResult<Box<dyn Engine<Ports> + Send>> {
        let inbox = Arc::clone(&self.inbox);
        // What an earlier instance's disk reported speaks of tickets that the new one has yet to give out.
        inbox.put(|contents| contents.persisted = None);
        self.events.begin_anew();
        let mut storage = (self.open_storage)(Box::new(move |durable| {
            inbox.put(|contents| match durable {
                Ok(ticket) => contents.persisted = Some(ticket),
                Err(failure) => contents.storage_failure = Some(failure),
            });
        }))?;
        let ports = Ports::new(Arc::clone(&self.network), (self.new_machine)(), Arc::clone(&self.events), self.config.request_timeout);
        let mut engine: Box<dyn Engine<Ports> + Send> = match &self.engine {
            EngineKind::Sandboxed(sandbox) => Box::new(WasmEngine::new(sandbox, &self.config, ports, Ambient::system())?),
            EngineKind::Native => Box::new(NativeEngine::new(self.config.clone(), ports, Ambient::system())?),
        };
        storage.recover(&mut |operations| Ok(engine.recover(operations)?))?;
        engine.driver().attach(storage);
        engine.start()?;
        Ok(engine)
    }
}

fn take_turn(engine: &mut (dyn Engine<Ports> + Send), contents: Contents) -> Result<(), EngineError> {
    let mut turn = Turn { persisted: contents.persisted, received: contents.received, ..Turn::default() };
    let ports = engine.driver();
    for request in contents.writes {
        ports.register_write(request, &mut turn.proposals);
    }
    turn.applied = ports.take_applied();
    turn.sessions = contents.sessions.into_iter().map(|request| ports.register_session(request)).collect();
    turn.reads = contents.reads.into_iter().map(|request| ports.register_read(request)).collect();
    contents.local_reads.into_iter().for_each(|request| ports.serve_local_read(request));
    turn.controls = contents.controls.into_iter().map(|request| ports.register_control(request)).collect();
    // A sandbox has little room beside the log: what has piled up goes in by pieces.
    while let Some(piece) = split_off(&mut turn.received) {
        engine.turn(Turn { received: piece, ..Turn::default() })?;
    }
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
