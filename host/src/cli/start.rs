//! `ukehi start`: a node from its data directory to its last connection.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use amaters_cluster_core::{KeyVersion, LogIndex, MemberStatus, MembershipChange, NodeId, NodeState, Operation, Ticket};
use anyhow::{Context, Result, anyhow};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing_subscriber::EnvFilter;

mod disk_bytes;
mod keys;

use disk_bytes::DiskBytes;

use super::member::Newcomer;
use super::options::{EncryptionChoice, EngineChoice, LogFormat, StartOptions};
use crate::admin::{self, NodeInfo};
use crate::data_dir::{DataDir, Identity};
use crate::engine::{COMPONENT, Sandbox, SandboxLimits};
use crate::error::{RaftError, RaftResult};
use crate::handle::Handle;
use crate::inbox::Inlet;
use crate::keys::KeyProvider;
use crate::node::{RaftNode, RaftNodeBuilder};
use crate::persistence::{FilePersistence, RaftPersistence};
use crate::ports::Network;
use crate::repair::{self, RepairError};
use crate::resp::{self, RespLimits, RespMetrics};
use crate::runtime::EngineKind;
use crate::snapshots::DiskSnapshotStore;
use crate::transport::{Outbox, Transport, TransportConfig, TransportLimits, TransportMetrics};
use crate::wal::{CorruptionPolicy, WalOptions};

/// How long connections may take to end when the node stops.
const FAREWELL: Duration = Duration::from_millis(1500);

/// How long a leader may take to hand over when the node stops.
const HAND_OVER: Duration = Duration::from_millis(700);

/// Runs a node until it is asked to stop, or fails.
///
/// # Errors
/// What keeps the node from starting or from going on, with what to do about it.
pub fn run(options: StartOptions) -> Result<ExitCode> {
    init_log(&options);
    let runtime = io_runtime().context("no threads for IO")?;
    let ended = runtime.block_on(serve(options));
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS)
}

/// The threads for sockets. Before one of them sleeps, others get their turn: on a busy machine more events have come by then, and share one wake-up.
fn io_runtime() -> io::Result<tokio::runtime::Runtime> {
    let mut builder = match io_threads() {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    builder.on_thread_park(std::thread::yield_now).thread_name("io").enable_all().build()
}

/// Half of the processors, since the node's thread and the disk's want some too. Where that is one, the node shares it: what comes then goes from a
/// socket into the node and back without waking another thread, and all that is ready makes one burst.
fn io_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    (processors / 2).max(1)
}

async fn serve(mut options: StartOptions) -> Result<()> {
    let voters = options.peers.keys().copied().collect();
    let sealed = options.encryption != EncryptionChoice::Off;
    let identity = Identity { cluster: options.cluster.clone(), node: options.id, voters, sealed };
    let data_dir = Arc::new(DataDir::open(&options.data_dir, &identity)?);
    let keys = keys::source(&options, &data_dir)?;
    options.core.voters = data_dir.founders().to_vec();
    options.core.repair = data_dir.is_repairing();
    if options.core.repair {
        tracing::warn!("this node goes on to repair itself: it neither votes nor counts for a majority until it has");
    }
    let newcomer = newcomer(&options, &data_dir);
    if let Some(newcomer) = newcomer.clone() {
        tokio::task::spawn_blocking(move || newcomer.check()).await.context("a thread was lost")??;
    }
    let ports = Ports::bind(&options).await?;
    let registry = Registry::new();
    let (stop, stopping) = watch::channel(false);

    let (node, transport) = start_node(&options, keys, ports.peers, &data_dir, &registry, &stopping).await?;
    let info = NodeInfo {
        cluster: options.cluster.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engine: match options.engine {
            EngineChoice::Wasm => "wasm".to_owned(),
            EngineChoice::Native => "native".to_owned(),
        },
        snapshots: Some(data_dir.snapshots()),
    };
    DiskBytes::register(&registry, data_dir.path())?;
    let limits = RespLimits { max_connections: options.max_clients, idle_timeout: options.client_idle_timeout, ..RespLimits::default() };
    let clients = Arc::new(RespMetrics::register(&registry)?);
    let mut fronts = JoinSet::new();
    fronts.spawn(resp::serve(ports.clients, node.handle(), limits, clients, stopping.clone()));
    let (handle, admin_stopping) = (node.handle(), stopping.clone());
    fronts.spawn(async move {
        if let Err(error) = admin::serve(ports.admin, handle, info, registry, admin_stopping).await {
            tracing::error!("the admin port is closed: {error}");
        }
    });
    tracing::info!(
        id = %options.id, clients = %options.client, peers = %options.listen, admin = %options.admin, data = %options.data_dir.display(),
        "node {} is up", options.id
    );

    let mut node_ended = node.ended();
    let turned_away = tokio::select! {
        _ = node_ended.wait_for(|ended| *ended) => None,
        refusal = join(newcomer) => Some(refusal),
        signal = stop_signal() => {
            tracing::info!("stopping: {}", signal?);
            hand_over(&node.handle()).await;
            None
        }
    };
    let _ = stop.send(true); // whoever is gone needs no telling
    let _ = tokio::time::timeout(FAREWELL, async { while fronts.join_next().await.is_some() {} }).await;
    let ended = tokio::task::spawn_blocking(move || node.shutdown()).await.context("the node's thread was lost")?;
    let _ = tokio::time::timeout(FAREWELL, transport.stopped()).await;
    drop(data_dir); // holds the directory's lock until here
    ended.context("the node can't go on")?;
    turned_away.map_or(Ok(()), Err)
}

/// The node as one that has yet to join its cluster: then its log has no members.
fn newcomer(options: &StartOptions, data_dir: &DataDir) -> Option<Newcomer> {
    (!options.join.is_empty() && !data_dir.has_members_in_log()).then(|| Newcomer {
        id: options.id.0,
        address: options.advertise.clone(),
        cluster: options.cluster.clone(),
        admin: options.join.clone(),
    })
}

/// Has the node added to its cluster. Returns when that failed, and only then.
async fn join(newcomer: Option<Newcomer>) -> anyhow::Error {
    if let Some(newcomer) = newcomer {
        match tokio::task::spawn_blocking(move || newcomer.join()).await {
            Ok(Ok(())) => {}
            Ok(Err(refusal)) => return refusal,
            Err(error) => return anyhow!("a thread was lost: {error}"),
        }
    }
    std::future::pending().await
}

/// A leader that goes lets another lead first, so that nobody waits for an election timeout.
async fn hand_over(node: &Handle) {
    let leads = node.status().await.is_ok_and(|status| status.state == NodeState::Leader && !status.peers.is_empty());
    if !leads {
        return;
    }
    match tokio::time::timeout(HAND_OVER, node.transfer(None)).await {
        Ok(Ok(())) => tracing::info!("another node leads"),
        Ok(Err(error)) => tracing::warn!("stopping as the leader: {error}"),
        Err(_) => tracing::warn!("stopping as the leader: no other node took over within {} ms", HAND_OVER.as_millis()),
    }
}

/// The three ports.
struct Ports {
    peers: TcpListener,
    clients: TcpListener,
    admin: TcpListener,
}

impl Ports {
    async fn bind(options: &StartOptions) -> Result<Self> {
        Ok(Self {
            peers: bind("listen", options.listen).await?,
            clients: bind("client", options.client).await?,
            admin: bind("admin", options.admin).await?,
        })
    }
}

async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!("{address} is in use: stop what listens there, or choose another port with --{flag}"),
        io::ErrorKind::PermissionDenied => {
            anyhow!("{address} needs more rights than this user has: choose a port above 1023 with --{flag}")
        }
        _ => anyhow!("can't listen at {address} ({error}): choose an address of this machine with --{flag}"),
    })
}

/// The node with its storage and its peers.
async fn start_node(
    options: &StartOptions,
    keys: Option<Box<dyn KeyProvider>>,
    listener: TcpListener,
    data_dir: &Arc<DataDir>,
    registry: &Registry,
    stopping: &watch::Receiver<bool>,
) -> Result<(RaftNode, Transport)> {
    let engine = match options.engine {
        EngineChoice::Native => EngineKind::Native,
        EngineChoice::Wasm => {
            let limits = SandboxLimits { memory: options.memory_limit, ..SandboxLimits::default() };
            let sandbox = Sandbox::new(COMPONENT, limits)?;
            EngineKind::Sandboxed(if options.aes_in_sandbox { sandbox.without_aes() } else { sandbox })
        }
    };
    let config = TransportConfig {
        cluster: options.cluster.clone(),
        id: options.id,
        address: options.advertise.clone(),
        peers: options.peers.clone(),
        sealed: options.encryption != EncryptionChoice::Off,
        limits: TransportLimits::default(),
    };
    let metrics = TransportMetrics::register(registry)?;
    let data_dir = Arc::clone(data_dir);
    let (noted, repaired, snapshots) = (Arc::clone(&data_dir), Arc::clone(&data_dir), data_dir.snapshots());
    let wal_options = WalOptions { on_corruption: options.on_corruption, ..WalOptions::with_segment_size(options.segment_size) };
    let mut transport = None;
    let network = |inlet: Inlet| -> RaftResult<Arc<dyn Network>> {
        let started = Transport::start(config, listener, inlet, metrics, stopping).map_err(RaftError::Network)?;
        let outbox = started.outbox();
        transport = Some(started);
        Ok(Arc::new(Peers { outbox, data_dir: noted }))
    };
    let builder = RaftNode::builder(options.core.clone()).engine(engine).metrics(registry).storage(move |on_durable| {
        let files = FilePersistence::open(&data_dir.wal(), wal_options.clone(), on_durable)?;
        Ok(Box::new(Journal { files, data_dir: Arc::clone(&data_dir) }))
    });
    let builder = builder.snapshots(move |on_report| {
        let store = DiskSnapshotStore::open(&snapshots, on_report).map_err(|error| RaftError::Storage(Box::new(error)))?;
        Ok(Box::new(store))
    });
    let mut builder = with_repair(builder, options, repaired, registry)?;
    if let Some(keys) = keys {
        tracing::info!("the log is encrypted with the keys of {}", keys.describe());
        builder = builder.encryption(&options.cluster, keys);
    }
    let node = if io_threads() == 1 { builder.start_on_runtime(network).await? } else { builder.start_with(network)? };
    let transport = transport.context("a node joins its network when it starts")?;
    Ok((node, transport))
}

/// Has the node do with damage what the options say, and remember a repair across restarts.
fn with_repair(builder: RaftNodeBuilder, options: &StartOptions, data_dir: Arc<DataDir>, registry: &Registry) -> Result<RaftNodeBuilder> {
    let help = "Repairs that this process has begun, since the node's files were damaged";
    let repairs = prometheus::IntCounter::new("amaters_cluster_repairs_total", help)?;
    registry.register(Box::new(repairs.clone()))?;
    let (policy, wal_options, ended) = (options.on_corruption, WalOptions::with_segment_size(options.segment_size), Arc::clone(&data_dir));
    let failed = |error: RepairError| RaftError::Storage(Box::new(error));
    let salvage = move |error: &RaftError| {
        if policy != CorruptionPolicy::Repair || !repair::is_damage(error, &data_dir).map_err(failed)? {
            return Ok(false);
        }
        let reason = with_causes(error);
        repair::begin(&data_dir, &wal_options).map_err(failed)?;
        repairs.inc();
        tracing::error!(
            "what this node has stored is damaged, and it repairs itself from the others: it neither votes nor counts for a majority until it has. The              damaged journal is in {}. {reason}",
            data_dir.path().join("wal.damaged").display()
        );
        Ok(true)
    };
    Ok(builder.salvage(salvage).on_repaired(move || match ended.repair_ended() {
        Ok(()) => tracing::warn!("this node has repaired itself, and takes part again"),
        Err(error) => tracing::error!("this node has repaired itself, and will do so again at its next start: {error}"),
    }))
}

/// An error with its causes, in a line.
fn with_causes(error: &RaftError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// The journal of a data directory, which notes that there is one before the node acts on it.
struct Journal {
    files: FilePersistence,
    data_dir: Arc<DataDir>,
}

impl RaftPersistence for Journal {
    fn recover(&mut self, visit: &mut dyn FnMut(Vec<Operation>) -> RaftResult<()>) -> RaftResult<()> {
        self.files.recover(visit)?;
        self.data_dir.journal_begun().map_err(|error| RaftError::Storage(Box::new(error)))
    }

    fn submit(&mut self, ticket: Ticket, operations: Vec<Operation>) {
        self.files.submit(ticket, operations);
    }

    fn lacks_space(&self) -> bool {
        self.files.lacks_space()
    }
}

/// The way to the members, which the data directory notes when it is the log that names them.
struct Peers {
    outbox: Outbox,
    data_dir: Arc<DataDir>,
}

impl Network for Peers {
    fn send(&self, to: NodeId, envelope: Vec<u8>) {
        self.outbox.send(to, envelope);
    }

    fn send_bulk(&self, to: NodeId, envelope: Vec<u8>) {
        self.outbox.send_bulk(to, envelope);
    }

    fn set_members(&self, version: LogIndex, members: &[MemberStatus]) {
        // A log with the members that the cluster began with says nothing new. One that was restored as a cluster of one is alone still.
        let founders = self.data_dir.founders();
        let as_founded = members.len() == founders.len() && members.iter().all(|member| founders.contains(&member.id));
        if !version.is_none()
            && !as_founded
            && let Err(error) = self.data_dir.members_logged()
        {
            // The next start then wants the same --peer flags as this one.
            tracing::error!("{error}");
        }
        self.outbox.set_members(&members.iter().map(|member| (member.id, member.address.clone())).collect());
    }
}

impl crate::transport::Deliver for Inlet {
    async fn deliver(&self, sender: NodeId, envelopes: Vec<Vec<u8>>) -> bool {
        Inlet::deliver(self, sender, envelopes).await
    }
}

impl admin::StatusSource for Handle {
    async fn status(&self) -> RaftResult<amaters_cluster_core::Status> {
        Handle::status(self).await
    }

    async fn transfer(&self, to: Option<NodeId>) -> RaftResult<()> {
        Handle::transfer(self, to).await
    }

    async fn rotate_key(&self, version: Option<KeyVersion>) -> RaftResult<()> {
        Handle::rotate_key(self, version).await
    }

    async fn take_snapshot(&self) -> RaftResult<()> {
        Handle::take_snapshot(self).await
    }

    async fn change_membership(&self, change: MembershipChange) -> RaftResult<()> {
        Handle::change_membership(self, change).await
    }
}

fn init_log(options: &StartOptions) {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&options.log_filter))
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    // An embedding test may have set one already.
    let _ = match options.log_format {
        LogFormat::Human => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}

/// Waits for whoever operates the node to ask it to stop.
#[cfg(unix)]
async fn stop_signal() -> Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be received")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be received")?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Waits for whoever operates the node to ask it to stop.
#[cfg(not(unix))]
async fn stop_signal() -> Result<&'static str> {
    tokio::signal::ctrl_c().await.context("Ctrl-C can't be received")?;
    Ok("Ctrl-C")
}
