//! The core in its sandbox: a component under wasmtime.
//!
//! An instance has a clock, randomness and the eight interfaces of `wit/` and nothing else: each is linked by name, so a component that
//! imports anything more can't be loaded. It is bounded in memory and in the time that a call may take.

use std::sync::Arc;

use amaters_cluster_core::{Config, Effect, FailureEvent, LogIndex, LogLevel, NodeId, Operation, Status, Term, Ticket, Token};
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime::{ResourceLimiter, Store, Trap};
use wasmtime_wasi::clocks::{HostMonotonicClock, WasiClocks, WasiClocksCtxView};
use wasmtime_wasi::p2::bindings as wasi;
use wasmtime_wasi::random::{Deterministic, WasiRandom};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use super::accelerator::Offer;
use super::convert::{
    SetupFailed, core_snapshot_id, lent_change, lent_config, lent_keys, lent_voters, or_none, snapshot_id, stored_snapshot,
};
use super::held_keys::{HeldKeys, link_keys};
use super::sandbox::{Sandbox, Ticker};
use super::{Ambient, Clock, Control, Driver, Engine, EngineError, Turn};
use crate::snapshots::{SnapshotReport, StoredSnapshot};

use bindings::RaftNode;
use bindings::amaters::cluster::{accelerator, events, log, network, snapshots, state_machine, storage};
use bindings::exports::amaters::cluster::node as guest;

/// What `wit/` says, in Rust: generated.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code; `wit/` holds its documentation")]
pub(super) mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "raft-node",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
            "wasi:random": wasmtime_wasi::p2::bindings::random,
            "amaters:cluster/accelerator.cipher": crate::engine::accelerator::Cipher,
        },
        imports: {
            "amaters:cluster/accelerator.[constructor]cipher": trappable,
            "amaters:cluster/accelerator.[method]cipher.seal": trappable,
            "amaters:cluster/accelerator.[method]cipher.open": trappable,
        },
        require_store_data_send: true,
    });
}

/// An instance of the component.
pub struct WasmEngine<D: Driver> {
    store: Store<Host<D>>,
    exports: guest::Guest,
    epochs_per_call: u64,
    limits: super::SandboxLimits,
    /// Calls have deadlines for as long as it lives.
    _ticker: Arc<Ticker>,
}

impl<D: Driver> WasmEngine<D> {
    /// Instantiates the component and sets it up. Its seed comes from `ambient`; the one in `config` counts for nothing.
    ///
    /// # Errors
    /// A setting is out of range, the component wants more than the sandbox has, or it failed.
    pub fn new(sandbox: &Sandbox, config: &Config, driver: D, ambient: Ambient) -> Result<Self, EngineError> {
        config.validate()?;
        let load = |error: wasmtime::Error| EngineError::Load(format!("{error:#}"));
        let engine = sandbox.component.engine();
        let linker = linker(engine).map_err(load)?;
        let mut host = Host::new(driver, ambient, sandbox.limits.memory);
        host.keys = config.encryption.as_ref().map_or_else(HeldKeys::default, |encryption| HeldKeys::new(&encryption.keys));
        host.ciphers.open = sandbox.offers_aes;
        let mut store = Store::new(engine, host);
        store.limiter(|host| &mut host.meter);
        let epochs_per_call = Ticker::epochs(sandbox.limits.call_deadline);
        store.set_epoch_deadline(epochs_per_call);
        let instance = RaftNode::instantiate(&mut store, &sandbox.component, &linker).map_err(load)?;
        let exports = instance.amaters_cluster_node().clone();
        let mut this = Self { store, exports, epochs_per_call, limits: sandbox.limits, _ticker: Arc::clone(&sandbox.ticker) };
        let voters = lent_voters(config);
        let configured = this.call(|exports, store| exports.call_configure(store, lent_config(config, &voters)));
        // It asks for keys there, and never again.
        this.store.data_mut().keys = HeldKeys::default();
        configured?.map_err(SetupFailed)?;
        Ok(this)
    }

    /// Calls an export under the limits; a trap gives its reason in words.
    fn call<T>(&mut self, act: impl FnOnce(&guest::Guest, &mut Store<Host<D>>) -> wasmtime::Result<T>) -> Result<T, EngineError> {
        self.store.set_epoch_deadline(self.epochs_per_call);
        self.store.data_mut().meter.refused = None;
        self.store.data_mut().last_words = None;
        act(&self.exports, &mut self.store).map_err(|error| self.reason(&error))
    }

    fn reason(&mut self, error: &wasmtime::Error) -> EngineError {
        let host = self.store.data_mut();
        let trap = error.downcast_ref::<Trap>();
        EngineError::Trap(if trap == Some(&Trap::Interrupt) {
            format!("a call did not return within {} ms", self.limits.call_deadline.as_millis())
        } else if let Some(wanted) = host.meter.refused {
            format!("it asked for {wanted} bytes of memory and may have {}", self.limits.memory)
        } else if let Some(words) = host.last_words.take() {
            words
        } else if let Some(trap) = trap {
            trap.to_string()
        } else {
            format!("{error:#}")
        })
    }
}

impl<D: Driver> Engine<D> for WasmEngine<D> {
    fn recover(&mut self, operations: Vec<Operation>) -> Result<(), EngineError> {
        let lent: Vec<_> = operations.iter().map(Into::into).collect();
        Ok(self.call(|exports, store| exports.call_recover(store, &lent))?.map_err(SetupFailed)?)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        Ok(self.call(|exports, store| exports.call_restore(store, bytes))?.map_err(SetupFailed)?)
    }

    fn remember(&mut self, others: &[StoredSnapshot]) -> Result<(), EngineError> {
        let others: Vec<_> = others.iter().map(|other| stored_snapshot(*other)).collect();
        Ok(self.call(|exports, store| exports.call_remember(store, &others))?.map_err(SetupFailed)?)
    }

    fn start(&mut self) -> Result<(), EngineError> {
        Ok(self.call(|exports, store| exports.call_start(store))?.map_err(SetupFailed)?)
    }

    fn turn(&mut self, turn: Turn) -> Result<(), EngineError> {
        if let Some(ticket) = turn.persisted {
            self.call(|exports, store| exports.call_persisted(store, ticket.0))?;
        }
        if let Some(full) = turn.disk_full {
            self.call(|exports, store| exports.call_disk_space(store, full))?;
        }
        if let Some(keys) = &turn.keys {
            self.call(|exports, store| exports.call_keys_loaded(store, &lent_keys(keys)))?;
        }
        for report in &turn.snapshots {
            self.call(|exports, store| match report {
                SnapshotReport::Written { id, end } => exports.call_snapshot_written(store, snapshot_id(*id), *end),
                SnapshotReport::Stored { id } => exports.call_snapshot_stored(store, snapshot_id(*id)),
                SnapshotReport::Read { id, reader, offset, bytes } => {
                    exports.call_snapshot_read(store, snapshot_id(*id), reader.0, *offset, bytes)
                }
                SnapshotReport::Failed { id, reason } => exports.call_snapshot_failed(store, snapshot_id(*id), reason),
            })?;
        }
        if let Some(piece) = &turn.piece {
            self.call(|exports, store| exports.call_state_read(store, &piece.bytes, piece.last))?;
        }
        if !turn.received.is_empty() {
            let envelopes: Vec<_> = turn.received.iter().map(Into::into).collect();
            self.call(|exports, store| exports.call_receive(store, &envelopes))?;
        }
        if !turn.applied.is_empty() {
            let results: Vec<_> = turn.applied.iter().map(Into::into).collect();
            self.call(|exports, store| exports.call_applied(store, &results))?;
        }
        if !turn.proposals.is_empty() {
            let proposals: Vec<_> = turn.proposals.iter().map(Into::into).collect();
            self.call(|exports, store| exports.call_propose(store, &proposals))?;
        }
        if !turn.sessions.is_empty() {
            let requests: Vec<_> = turn.sessions.iter().map(Into::into).collect();
            self.call(|exports, store| exports.call_session(store, &requests))?;
        }
        if !turn.reads.is_empty() {
            let tokens: Vec<_> = turn.reads.iter().map(|token| token.0).collect();
            self.call(|exports, store| exports.call_read(store, &tokens))?;
        }
        for (token, control) in turn.controls {
            self.call(|exports, store| match control {
                Control::Transfer { to } => exports.call_transfer(store, token.0, to.map(|node| node.0)),
                Control::TakeSnapshot => exports.call_take_snapshot(store, token.0),
                Control::RotateKey(version) => exports.call_rotate_key(store, token.0, version.0),
                Control::ChangeMembership(change) => exports.call_change_membership(store, token.0, lent_change(&change, &mut Vec::new())),
            })?;
        }
        self.call(|exports, store| exports.call_tick(store))
    }

    fn status(&mut self) -> Result<Status, EngineError> {
        Ok(self.call(|exports, store| exports.call_status(store))?.into())
    }

    fn driver(&mut self) -> &mut D {
        &mut self.store.data_mut().driver
    }
}

/// What an instance can reach.
pub(super) struct Host<D> {
    pub(super) driver: D,
    wasi: WasiCtx,
    pub(super) table: ResourceTable,
    meter: Meter,
    pub(super) keys: HeldKeys,
    pub(super) ciphers: Offer,
    /// The last error that the guest logged in the current call: where it traps, the words of its panic.
    last_words: Option<String>,
}

impl<D> Host<D> {
    fn new(driver: D, ambient: Ambient, memory: usize) -> Self {
        let mut wasi = WasiCtxBuilder::new();
        wasi.monotonic_clock(AmbientClock(ambient.clock));
        if let Some(seed) = ambient.seed {
            wasi.secure_random(Deterministic::new(seed.to_be_bytes().to_vec()));
        }
        let meter = Meter { memory, refused: None };
        Self {
            driver,
            wasi: wasi.build(),
            table: ResourceTable::new(),
            meter,
            keys: HeldKeys::default(),
            ciphers: Offer::default(),
            last_words: None,
        }
    }
}

/// Links what the world imports, one interface at a time.
fn linker<D: Driver>(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Host<D>>> {
    let mut linker = Linker::new(engine);
    wasi::clocks::monotonic_clock::add_to_linker::<Host<D>, WasiClocks>(&mut linker, |host| WasiClocksCtxView {
        ctx: host.wasi.clocks(),
        table: &mut host.table,
    })?;
    wasi::random::random::add_to_linker::<Host<D>, WasiRandom>(&mut linker, |host| host.wasi.random())?;
    storage::add_to_linker::<_, HasSelf<_>>(&mut linker, |host| host)?;
    snapshots::add_to_linker::<_, HasSelf<_>>(&mut linker, |host| host)?;
    network::add_to_linker::<_, HasSelf<_>>(&mut linker, |host| host)?;
    state_machine::add_to_linker::<_, HasSelf<_>>(&mut linker, |host| host)?;
    log::add_to_linker::<_, HasSelf<_>>(&mut linker, |host| host)?;
    events::add_to_linker::<_, HasSelf<_>>(&mut linker, |host| host)?;
    accelerator::add_to_linker::<_, HasSelf<_>>(&mut linker, |host| host)?;
    link_keys(&mut linker)?;
    Ok(linker)
}

impl<D: Driver> storage::Host for Host<D> {
    fn submit(&mut self, ticket: u64, operations: Vec<storage::OperationResult>) {
        let operations = operations.into_iter().map(Into::into).collect();
        self.driver.carry_out(Effect::Persist { ticket: Ticket(ticket), operations });
    }
}

impl<D: Driver> network::Host for Host<D> {
    fn send(&mut self, to: u64, envelope: Vec<u8>) {
        self.driver.carry_out(Effect::Send { to: NodeId(to), envelope });
    }

    fn send_bulk(&mut self, to: u64, envelope: Vec<u8>) {
        self.driver.carry_out(Effect::SendBulk { to: NodeId(to), envelope });
    }

    fn members(&mut self, version: u64, members: Vec<network::MemberStatus>) {
        let members = members.into_iter().map(Into::into).collect();
        self.driver.carry_out(Effect::Members { version: LogIndex(version), members });
    }
}

impl<D: Driver> snapshots::Host for Host<D> {
    fn write(&mut self, id: snapshots::SnapshotId, offset: u64, bytes: Vec<u8>) {
        self.driver.carry_out(Effect::WriteSnapshot { id: core_snapshot_id(id), offset, bytes });
    }

    fn finish(&mut self, id: snapshots::SnapshotId) {
        self.driver.carry_out(Effect::FinishSnapshot { id: core_snapshot_id(id) });
    }

    fn discard(&mut self, id: snapshots::SnapshotId) {
        self.driver.carry_out(Effect::DiscardSnapshot { id: core_snapshot_id(id) });
    }

    fn retain(&mut self, ids: Vec<snapshots::SnapshotId>) {
        self.driver.carry_out(Effect::RetainSnapshots { ids: ids.into_iter().map(core_snapshot_id).collect() });
    }

    fn read(&mut self, id: snapshots::SnapshotId, reader: u64, offset: u64, max_bytes: u32) {
        let (id, reader) = (core_snapshot_id(id), NodeId(reader));
        self.driver.carry_out(Effect::ReadSnapshot { id, reader, offset, max_bytes: max_bytes as usize });
    }
}

impl<D: Driver> state_machine::Host for Host<D> {
    fn capture(&mut self) {
        self.driver.carry_out(Effect::CaptureState);
    }

    fn read_captured(&mut self, max_bytes: u32) {
        self.driver.carry_out(Effect::ReadState { max_bytes: max_bytes as usize });
    }

    fn release(&mut self) {
        self.driver.carry_out(Effect::ReleaseState);
    }

    fn clear(&mut self) {
        self.driver.carry_out(Effect::ClearState);
    }

    fn restore(&mut self, piece: Vec<u8>) {
        self.driver.carry_out(Effect::RestoreState { piece: piece.into() });
    }

    fn restored(&mut self) {
        self.driver.carry_out(Effect::StateRestored);
    }

    fn apply(&mut self, commands: Vec<state_machine::Committed>) {
        self.driver.carry_out(Effect::Apply { commands: commands.into_iter().map(Into::into).collect() });
    }

    fn answer(&mut self, replies: Vec<state_machine::Reply>) {
        self.driver.carry_out(Effect::Reply { replies: replies.into_iter().map(Into::into).collect() });
    }

    fn serve_reads(&mut self, tokens: Vec<u64>) {
        self.driver.carry_out(Effect::ServeReads { tokens: tokens.into_iter().map(Token).collect() });
    }

    fn done(&mut self, tokens: Vec<u64>) {
        self.driver.carry_out(Effect::Done { tokens: tokens.into_iter().map(Token).collect() });
    }

    fn reject(&mut self, requests: Vec<state_machine::Rejected>) {
        self.driver.carry_out(Effect::Reject { requests: requests.into_iter().map(Into::into).collect() });
    }
}

impl<D: Driver> log::Host for Host<D> {
    fn write(&mut self, level: log::Level, message: String) {
        let level = level.into();
        if level == LogLevel::Error {
            self.last_words = Some(message.clone());
        }
        self.driver.carry_out(Effect::Log { level, message });
    }
}

impl<D: Driver> events::Host for Host<D> {
    fn peer_failed(&mut self, peer: u64) {
        self.driver.carry_out(Effect::Failure { event: FailureEvent::Failed { peer: NodeId(peer) } });
    }

    fn peer_recovered(&mut self, peer: u64) {
        self.driver.carry_out(Effect::Failure { event: FailureEvent::Recovered { peer: NodeId(peer) } });
    }

    fn repaired(&mut self) {
        self.driver.carry_out(Effect::Repaired);
    }

    fn diverged(&mut self, reason: String) {
        self.driver.carry_out(Effect::Diverged { reason });
    }

    fn state_lost(&mut self, reason: String) {
        self.driver.carry_out(Effect::StateLost { reason });
    }

    fn leader_changed(&mut self, term: u64, leader: Option<u64>) {
        self.driver.carry_out(Effect::LeaderChanged { term: Term(term), leader: or_none(leader) });
    }
}

/// Bounds what an instance allocates, and remembers what it refused in the current call.
struct Meter {
    memory: usize,
    refused: Option<usize>,
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired <= self.memory;
        if !allowed {
            self.refused = Some(desired);
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= 10_000)
    }

    /// The guest's module, and the two small ones by which its imports are linked.
    fn instances(&self) -> usize {
        8
    }

    fn tables(&self) -> usize {
        8
    }

    fn memories(&self) -> usize {
        1
    }
}

struct AmbientClock(Box<dyn Clock>);

impl HostMonotonicClock for AmbientClock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        self.0.now().0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use wasmtime::component::Resource;

    use super::super::{COMPONENT, SandboxLimits, SystemClock};
    use super::*;

    /// Stores at once, and keeps what else it is told.
    #[derive(Default)]
    struct Recorder {
        persisted: Option<Ticket>,
        applied: Vec<Vec<u8>>,
        served: Vec<Token>,
    }

    impl Driver for Recorder {
        fn carry_out(&mut self, effect: Effect) {
            match effect {
                Effect::Persist { ticket, .. } => self.persisted = Some(ticket),
                Effect::Apply { commands } => self.applied.extend(commands.iter().map(|it| it.command.to_vec())),
                Effect::ServeReads { tokens } => self.served.extend(tokens),
                _ => {}
            }
        }
    }

    fn engine(limits: SandboxLimits, ambient: Ambient) -> WasmEngine<Recorder> {
        let sandbox = Sandbox::new(COMPONENT, limits).expect("the component loads");
        WasmEngine::new(&sandbox, &Config::new(NodeId(1), vec![NodeId(1)]), Recorder::default(), ambient).expect("it is set up")
    }

    fn proposal(token: u64, command: Vec<u8>) -> super::super::Proposal {
        super::super::Proposal { token: Token(token), command: command.into(), session: None }
    }

    /// Takes turns until the only voter has elected itself and done what it was asked for.
    fn settle(engine: &mut WasmEngine<Recorder>, mut turn: Turn, done: impl Fn(&Recorder) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !done(engine.driver()) {
            assert!(Instant::now() < end, "nothing came of it in 10 s: {:?}", engine.status());
            turn.persisted = engine.driver().persisted.take();
            engine.turn(std::mem::take(&mut turn)).expect("a turn");
        }
    }

    #[test]
    fn a_node_in_its_sandbox_applies_what_it_is_told_and_serves_reads() {
        let mut engine = engine(SandboxLimits::default(), Ambient::system());
        engine.start().expect("it starts");
        let proposals = vec![proposal(7, b"x=1".to_vec())];
        settle(&mut engine, Turn { proposals, ..Turn::default() }, |driver| driver.applied == [b"x=1"]);
        settle(&mut engine, Turn { reads: vec![Token(8)], ..Turn::default() }, |driver| driver.served == [Token(8)]);
        let status = engine.status().expect("a status");
        assert_eq!((status.state, status.leader), (amaters_cluster_core::NodeState::Leader, NodeId(1)));
    }

    #[test]
    fn aes_outside_of_the_sandbox_is_bounded_and_takes_nothing_that_is_no_key() {
        use bindings::amaters::cluster::accelerator::HostCipher as _;
        let mut host = Host::new(Recorder::default(), Ambient::system(), 1 << 20);
        host.new(vec![1; 32]).expect_err("it is not offered");
        host.ciphers.open = true;
        for length in [0, 31, 33] {
            host.new(vec![1; length]).expect_err("no key");
        }
        let mut ciphers: Vec<_> = (0..1024).map(|_| host.new(vec![1; 32]).expect("there is room")).collect();
        let error = host.new(vec![1; 32]).expect_err("too many").to_string();
        assert!(error.contains("more than 1024 ciphers"), "{error}");
        host.drop(ciphers.pop().expect("there are some")).expect("it is there");
        let cipher = host.new(vec![1; 32]).expect("there is room again");
        let rep = cipher.rep();
        host.seal(cipher, vec![0; 11], Vec::new(), Vec::new()).expect_err("no nonce");
        let sealed = host.seal(Resource::new_borrow(rep), vec![0; 12], b"place".to_vec(), b"x=1".to_vec()).expect("sealed");
        let opened = |host: &mut Host<Recorder>, place: &[u8]| {
            host.open(Resource::new_borrow(rep), vec![0; 12], place.to_vec(), sealed.clone()).expect("no trap")
        };
        assert_eq!(opened(&mut host, b"place").as_deref(), Some(&b"x=1"[..]));
        assert_eq!(opened(&mut host, b"elsewhere"), None);
    }

    #[test]
    fn a_call_out_of_order_is_refused_or_traps_in_words() {
        let mut engine = engine(SandboxLimits::default(), Ambient::system());
        let trap = engine.turn(Turn::default()).expect_err("it is not started").to_string();
        assert!(trap.contains("the host called a node that is not started"), "{trap}");
        let mut engine = self::engine(SandboxLimits::default(), Ambient::system());
        engine.start().expect("it starts");
        let refused = engine.start().expect_err("twice").to_string();
        assert_eq!(refused, "the component refused to be set up: `start` belongs after `configure`, once");
        engine.turn(Turn::default()).expect("a refusal does no harm");
    }

    #[test]
    fn a_journal_of_something_else_is_refused_with_the_guests_reason() {
        let mut engine = engine(SandboxLimits::default(), Ambient::system());
        let refused = engine.recover(vec![Operation::HardState(b"not a hard state".to_vec())]).expect_err("refused").to_string();
        assert!(refused.starts_with("the journal can't be this node's, or is not all of it: "), "{refused}");
    }

    #[test]
    fn memory_is_bounded() {
        let limits = SandboxLimits { memory: 4 << 20, ..SandboxLimits::default() };
        let mut engine = engine(limits, Ambient::system());
        engine.start().expect("it starts");
        let proposals = (0..8).map(|token| proposal(token, vec![0; 1 << 20])).collect();
        let trap = engine.turn(Turn { proposals, ..Turn::default() }).expect_err("8 MiB in 4").to_string();
        assert!(trap.contains("bytes of memory and may have 4194304"), "{trap}");
    }

    /// The host's clock takes the time that the guest is given for the whole call.
    #[test]
    fn a_call_that_takes_too_long_is_interrupted() {
        struct Slow(SystemClock, AtomicBool);
        impl Clock for Slow {
            fn now(&self) -> amaters_cluster_core::Instant {
                if self.1.swap(true, Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(500));
                }
                self.0.now()
            }
        }
        let limits = SandboxLimits { call_deadline: Duration::from_millis(100), ..SandboxLimits::default() };
        let clock = Box::new(Slow(SystemClock::default(), AtomicBool::new(false)));
        let mut engine = engine(limits, Ambient { clock, seed: None });
        engine.start().expect("the first reading is quick");
        let trap = engine.turn(Turn::default()).expect_err("the second is not").to_string();
        assert_eq!(trap, "the component trapped: a call did not return within 100 ms");
    }
}
