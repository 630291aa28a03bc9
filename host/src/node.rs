//! A running node, for those who embed one.

use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;

use amaters_cluster_core::sealing::Boot;
use amaters_cluster_core::{Config, ConfigError, Encryption, FailoverConfig, LogIndex, Status};
use bytes::Bytes;
use tokio::sync::{broadcast, oneshot, watch};

mod counters;

use counters::{divergence_counter, trap_counter};

use crate::command::Command;
use crate::engine::{COMPONENT, EngineError, Sandbox, SandboxLimits};
use crate::error::{RaftError, RaftResult};
use crate::events::{Events, NodeEvent};
use crate::handle::{Handle, Outcome};
use crate::inbox::{Inbox, Inlet};
use crate::keys::{KeyProvider, KeyReader};
use crate::kv::KeyValue;
use crate::memory_network::MemoryNetwork;
use crate::persistence::{MemoryPersistence, OnDurable, RaftPersistence};
use crate::ports::Network;
use crate::runtime::{EngineKind, NewStateMachine, OnRepaired, OpenSnapshots, OpenStorage, Runtime, Salvage};
use crate::snapshots::{MemorySnapshots, OnSnapshot, SnapshotStore};
use crate::state_machine::{ApplyResult, StateMachine};

/// A Raft node that runs in its sandbox: on a thread of its own, or as a task of a runtime. Dropping it ends it.
///
/// ```
/// use amaters_cluster::{Command, RaftConfig, RaftNode};
///
/// // A cluster of one is the embedded default; `RaftNode::builder` takes peers, a data directory, a state machine.
/// let config = RaftConfig::new(1, vec![1]);
/// let node = RaftNode::new(config)?;
///
/// // Returns when the command is committed and applied: with its index in the log.
/// let cmd = Command::from_str("SET key value");
/// let index = node.propose(cmd)?;
/// assert!(index.0 > 0);
/// # Ok::<(), amaters_cluster::RaftError>(())
/// ```
#[derive(Debug)]
pub struct RaftNode {
    inbox: Arc<Inbox>,
    handle: Handle,
    events: Arc<Events>,
    ended: watch::Receiver<bool>,
    home: Option<Home>,
}

/// Where a node runs.
#[derive(Debug)]
enum Home {
    Thread(JoinHandle<RaftResult<()>>),
    Task(tokio::task::JoinHandle<RaftResult<()>>),
}

/// Puts a node together: see [`RaftNode::builder`].
pub struct RaftNodeBuilder {
    config: Config,
    engine: Option<EngineKind>,
    limits: SandboxLimits,
    open_storage: Option<OpenStorage>,
    open_snapshots: Option<OpenSnapshots>,
    on_repaired: OnRepaired,
    salvage: Salvage,
    new_machine: NewStateMachine,
    registry: prometheus::Registry,
    failover: FailoverConfig,
    encryption: Option<(String, KeyReader)>,
}

impl RaftNode {
    /// A node that keeps its log in memory and reaches no other: for tests, and for trying things out.
    ///
    /// Its state machine is the ordered key-value map of the `ukehi` server, for which an unknown command changes nothing.
    ///
    /// # Errors
    /// A setting is out of its range, or the sandbox can't be set up.
    pub fn new(config: Config) -> RaftResult<Self> {
        Self::builder(config).start()
    }

    /// A node with parts of one's own.
    #[must_use]
    pub fn builder(config: Config) -> RaftNodeBuilder {
        RaftNodeBuilder {
            config,
            engine: None,
            limits: SandboxLimits::default(),
            open_storage: None,
            open_snapshots: None,
            on_repaired: Box::new(|| ()),
            salvage: Box::new(|_| Ok(false)),
            new_machine: Box::new(|| Box::new(KeyValue::default())),
            registry: prometheus::Registry::new(),
            failover: FailoverConfig::default(),
            encryption: None,
        }
    }

    /// Proposes a command, and waits until it is committed and applied. Gives its index in the log.
    ///
    /// Blocks the calling thread; [`RaftNode::handle`] has the asynchronous form, and gives the result too.
    ///
    /// # Errors
    /// See [`RaftError`]: where it says that it is retryable, the command was not carried out.
    pub fn propose(&self, command: Command) -> RaftResult<LogIndex> {
        self.propose_and_wait(command).map(|outcome| outcome.index)
    }

    /// Proposes a command, and waits for its result.
    ///
    /// # Errors
    /// As [`RaftNode::propose`].
    pub fn propose_and_wait(&self, command: Command) -> RaftResult<Outcome> {
        let mut outcomes = pollster::block_on(self.handle.propose(vec![command.into_bytes()]));
        outcomes.pop().unwrap_or(Err(RaftError::ShuttingDown))
    }

    /// Asks the state machine, linearizably: the answer reflects every command whose outcome anybody knew when this was called.
    ///
    /// # Errors
    /// No majority confirmed a leader in time, or the node has ended.
    pub fn query(&self, query: impl Into<Bytes>) -> RaftResult<ApplyResult> {
        let mut answers = pollster::block_on(self.handle.query(vec![query.into()]))?;
        answers.pop().ok_or(RaftError::ShuttingDown)
    }

    /// The node's state.
    ///
    /// # Errors
    /// The node has ended.
    pub fn status(&self) -> RaftResult<Status> {
        pollster::block_on(self.handle.status())
    }

    /// A way to this node for asynchronous code and for many callers.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What the node notices from now on of the others and of its leader, each change once: [`RaftNode::status`] has what holds already.
    ///
    /// A subscriber that is more than 256 events behind misses the oldest, and is told how many.
    ///
    /// ```
    /// use amaters_cluster::{FailoverEvent, NodeEvent, RaftConfig, RaftNode};
    ///
    /// let node = RaftNode::new(RaftConfig::new(1, vec![1]))?;
    /// let mut events = node.events();
    /// # if node.status()?.leader.is_none() {
    /// let event = events.blocking_recv().expect("the node is there");
    /// assert!(matches!(event, NodeEvent::Failover(FailoverEvent::LeaderKnown { leader, .. }) if leader.0 == 1));
    /// # }
    /// # Ok::<(), amaters_cluster::RaftError>(())
    /// ```
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<NodeEvent> {
        self.events.subscribe()
    }

    /// Becomes true when the node has ended, by itself or on request.
    #[must_use]
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.clone()
    }

    /// Ends the node, and waits until what it submitted is on disk. Blocks: not for the runtime that the node is a task of, see
    /// [`RaftNodeBuilder::start_on_runtime`].
    ///
    /// # Errors
    /// Why it had ended already: a failed disk, a component that traps again and again.
    pub fn shutdown(mut self) -> RaftResult<()> {
        self.inbox.close();
        let ended = match self.home.take() {
            None => return Ok(()),
            Some(Home::Thread(thread)) => thread.join().ok(),
            Some(Home::Task(task)) => pollster::block_on(task).ok(),
        };
        ended.unwrap_or_else(|| Err(EngineError::Trap("the node panicked: its log line says where".to_owned()).into()))
    }
}

impl Drop for RaftNode {
    fn drop(&mut self) {
        self.inbox.close();
        // A task ends by itself: its thread may be this one.
        if let Some(Home::Thread(thread)) = self.home.take()
            && let Ok(Err(error)) = thread.join()
        {
            tracing::error!("the node ended with an error: {error}");
        }
    }
}

impl RaftNodeBuilder {
    /// Where the journal is kept; in memory, unless said otherwise. Wants [`RaftNodeBuilder::snapshots`], too: the journal lets go of what is in a snapshot, which
    /// must then live as long. The function is called at the start, and again if the component had to be replaced.
    #[must_use]
    pub fn storage(mut self, open: impl Fn(OnDurable) -> RaftResult<Box<dyn RaftPersistence>> + Send + 'static) -> Self {
        self.open_storage = Some(Box::new(open));
        self
    }

    /// Where snapshots are kept; in memory, unless said otherwise. Belongs to [`RaftNodeBuilder::storage`]. The function is called at the start, and again if the component had to be replaced.
    #[must_use]
    pub fn snapshots(mut self, open: impl Fn(OnSnapshot) -> RaftResult<Box<dyn SnapshotStore>> + Send + 'static) -> Self {
        self.open_snapshots = Some(Box::new(open));
        self
    }

    /// Is called on the node's thread when a node whose configuration says `repair` has all that it may ever have promised: it takes part again, and need
    /// not repair itself at its next start.
    #[must_use]
    pub fn on_repaired(mut self, act: impl Fn() + Send + 'static) -> Self {
        self.on_repaired = Box::new(act);
        self
    }

    /// Is asked, with the reason, when the node can't be built from what it has stored, whether it may be built without what is damaged; if so, it has put that aside. The node
    /// then repairs itself, as if its configuration said so. Without this a node ends at once. [`repair`](crate::repair) has what is needed for files.
    #[must_use]
    pub fn salvage(mut self, act: impl Fn(&RaftError) -> RaftResult<bool> + Send + 'static) -> Self {
        self.salvage = Box::new(act);
        self
    }

    /// What the log's commands are for. The function makes an empty one; it is called again if the component had to be replaced.
    #[must_use]
    pub fn state_machine<M: StateMachine>(mut self, new: impl Fn() -> M + Send + 'static) -> Self {
        self.new_machine = Box::new(move || Box::new(new()));
        self
    }

    /// What runs the core: the embedded component in a sandbox, unless said otherwise.
    #[must_use]
    pub fn engine(mut self, engine: EngineKind) -> Self {
        self.engine = Some(engine);
        self
    }

    /// What the sandbox may use.
    #[must_use]
    pub fn limits(mut self, limits: SandboxLimits) -> Self {
        self.limits = limits;
        self
    }

    /// What subscribers of [`RaftNode::events`] are told to wait while there is no leader.
    #[must_use]
    pub fn failover(mut self, config: FailoverConfig) -> Self {
        self.failover = config;
        self
    }

    /// Where the node's own metrics go.
    #[must_use]
    pub fn metrics(mut self, registry: &prometheus::Registry) -> Self {
        self.registry = registry.clone();
        self
    }

    /// Has commands and snapshots sealed with the keys of this source, inside the sandbox, and a chain of HMACs go through the log. What is sealed for one cluster opens in no other: its name, of up to 255 bytes, and
    /// the keys are the same on all nodes, and stay. The source is read at the start, and again when a version is missing or the key is changed ([`Handle::rotate_key`]). A log that begins needs version 1.
    ///
    /// Call [`forbid_core_dumps`](crate::keys::forbid_core_dumps) before, unless core files with keys in them are wanted.
    #[must_use]
    pub fn encryption(mut self, cluster: impl Into<String>, keys: impl KeyProvider + 'static) -> Self {
        self.encryption = Some((cluster.into(), KeyReader::new(Box::new(keys))));
        self
    }

    /// Starts a node that reaches no other.
    ///
    /// # Errors
    /// As [`RaftNodeBuilder::start_with`].
    pub fn start(self) -> RaftResult<RaftNode> {
        let id = self.config.id;
        self.start_with(|inlet| Ok(MemoryNetwork::default().join(id, inlet)))
    }

    /// Starts the node in a network, on a thread of its own: reads the journal, and returns when it takes requests. `join` gets the way into the
    /// node, and gives the way to the others.
    ///
    /// # Errors
    /// A setting is out of its range, the journal can't be read or isn't this node's, the network can't be joined, or the sandbox can't be set up.
    pub fn start_with(self, join: impl FnOnce(Inlet) -> RaftResult<Arc<dyn Network>>) -> RaftResult<RaftNode> {
        let failed = |error: std::io::Error| EngineError::Load(format!("its thread can't be started: {error}"));
        let timers = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
        let (node, started) = self.launch(join, |running| {
            let thread = std::thread::Builder::new().name("raft".to_owned()).spawn(move || timers.block_on(running));
            Ok(Home::Thread(thread.map_err(failed)?))
        })?;
        match started.blocking_recv() {
            Ok(()) => Ok(node),
            // The sender is dropped without a word if the node ended before it was ready.
            Err(_) => Err(node.shutdown().err().unwrap_or(RaftError::ShuttingDown)),
        }
    }

    /// As [`RaftNodeBuilder::start_with`], as a task of the tokio runtime that this is called in. Where processors are few, a node that shares the thread
    /// of its sockets saves the wake-ups between the two. Its turns, and the reading of a journal, take that thread for as long as they last.
    ///
    /// # Errors
    /// As [`RaftNodeBuilder::start_with`].
    pub async fn start_on_runtime(self, join: impl FnOnce(Inlet) -> RaftResult<Arc<dyn Network>>) -> RaftResult<RaftNode> {
        let (mut node, started) = self.launch(join, |running| Ok(Home::Task(tokio::spawn(running))))?;
        if started.await.is_ok() {
            return Ok(node);
        }
        let Some(Home::Task(task)) = node.home.take() else { return Err(RaftError::ShuttingDown) };
        Err(task.await.ok().and_then(Result::err).unwrap_or(RaftError::ShuttingDown))
    }

    /// Puts the node together, and has it run. The receiver is told once it takes requests.
    fn launch(
        mut self,
        join: impl FnOnce(Inlet) -> RaftResult<Arc<dyn Network>>,
        run: impl FnOnce(Running) -> RaftResult<Home>,
    ) -> RaftResult<(RaftNode, oneshot::Receiver<()>)> {
        self.config.validate()?;
        let mut key_reader = None;
        if let Some((cluster, reader)) = self.encryption.take() {
            // Each instance draws a boot of its own.
            self.config.encryption = Some(Encryption { cluster, boot: Boot::default(), keys: reader.load()? });
            key_reader = Some(reader);
        }
        if self.open_storage.is_some() != self.open_snapshots.is_some() {
            let one = if self.open_storage.is_some() { "storage" } else { "snapshots" };
            let expected = "both storage and snapshots, or neither: what one lets go of, the other has to keep".to_owned();
            return Err(ConfigError { field: "the builder's storage", got: format!("{one} alone"), expected }.into());
        }
        let events = Arc::new(Events::new(self.failover, &self.registry)?);
        let inbox = Arc::new(Inbox::default());
        let handle = Handle::new(Arc::clone(&inbox), self.config.max_pending_bytes, self.config.request_timeout, key_reader.clone());
        let network = join(Inlet(Arc::clone(&inbox)))?;
        let engine = match self.engine {
            Some(engine) => engine,
            None => EngineKind::Sandboxed(Sandbox::new(COMPONENT, self.limits)?),
        };
        let runtime = Runtime {
            config: self.config,
            engine,
            open_storage: self.open_storage.unwrap_or_else(in_memory),
            open_snapshots: self.open_snapshots.unwrap_or_else(snapshots_in_memory),
            on_repaired: self.on_repaired,
            salvage: self.salvage,
            new_machine: self.new_machine,
            network,
            inbox: Arc::clone(&inbox),
            traps: trap_counter(&self.registry),
            events: Arc::clone(&events),
            key_reader,
            divergences: divergence_counter(&self.registry),
        };
        let (ending, ended) = watch::channel(false);
        let (ready, started) = oneshot::channel();
        let home = run(Box::pin(async move {
            let result = runtime
                .run(move || {
                    let _ = ready.send(());
                })
                .await; // whoever starts the node may have gone
            let _ = ending.send(true); // nobody may be watching
            result
        }))?;
        Ok((RaftNode { inbox, handle, events, ended, home: Some(home) }, started))
    }
}

/// A node's life.
type Running = Pin<Box<dyn Future<Output = RaftResult<()>> + Send>>;

/// A journal in memory that outlives the instances of the component.
fn in_memory() -> OpenStorage {
    let journal = MemoryPersistence::default();
    Box::new(move |on_durable| Ok(Box::new(journal.open(on_durable))))
}

/// Snapshots in memory that outlive the instances of the component.
fn snapshots_in_memory() -> OpenSnapshots {
    let snapshots = MemorySnapshots::default();
    Box::new(move |on_report| Ok(Box::new(snapshots.open(on_report))))
}

#[cfg(test)]
mod tests;
