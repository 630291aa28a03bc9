//! The options of `ukehi start`: flags, variables and the configuration file, made into one checked [`StartOptions`].
//!
//! A flag goes before a variable, a variable before the file, the file before the default. The names are the same in all three: `--data-dir`,
//! `UKEHI_DATA_DIR`, `data-dir = "…"`. Only the peers differ in form:
//!
//! ```text
//! --peer 1=127.0.0.1:7101 --peer 2=127.0.0.1:7102          a flag for each
//! UKEHI_PEER=1=127.0.0.1:7101,2=127.0.0.1:7102             with commas
//! [peers]                                                  a table, at the end of the file
//! 1 = "127.0.0.1:7101"
//! 2 = "127.0.0.1:7102"
//! ```
//!
//! They are taken from one place as a whole: peers of a flag and peers of the file don't mix.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use amaters_cluster_core::{Config, MAX_VOTERS, NodeId, SnapshotConfig, SnapshotPolicy};
use clap::Args;

mod encryption;
mod failure;
mod parse;
mod sources;
#[cfg(test)]
mod tests;

pub use encryption::{EncryptionArgs, EncryptionChoice, own_key_file};
pub use failure::FailureArgs;
pub use sources::{Origin, UsageError};
use sources::{Peer, Setting, Sources};

use crate::wal::{CorruptionPolicy, WalOptions};

/// A cluster's name, for commands that take one.
pub(super) fn cluster_name(text: &str) -> Result<String, &'static str> {
    parse::cluster(text).ok_or(CLUSTER)
}

/// What a node is started with. Every value is checked.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// This node.
    pub id: NodeId,
    /// The cluster's name: nodes of another one are refused, and so is a data directory of another one. 1 to 64 letters, digits, `.`, `_`, `-`.
    pub cluster: String,
    /// Where the node keeps what it must not forget.
    pub data_dir: PathBuf,
    /// Where it listens for other nodes.
    pub listen: SocketAddr,
    /// Where it listens for clients (RESP).
    pub client: SocketAddr,
    /// Where it listens for administrators (HTTP).
    pub admin: SocketAddr,
    /// Every voter's address, this node's too, as `host:port`. The host may be a name.
    pub peers: BTreeMap<NodeId, String>,
    /// Admin addresses of a cluster that this node is to join, instead of beginning one with its peers.
    pub join: Vec<String>,
    /// Where other nodes reach this one, as `host:port`.
    pub advertise: String,
    /// The settings of the consensus core; its `seed` is still to be drawn.
    pub core: Config,
    /// What runs the core.
    pub engine: EngineChoice,
    /// Whether AES is done in the sandbox rather than by the host.
    pub aes_in_sandbox: bool,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Which log lines are written, as `tracing` filter directives.
    pub log_filter: String,
    /// The most bytes of the sandbox's memory: 64 MiB to 4 GiB. The log in memory may take half of it.
    pub memory_limit: usize,
    /// Bytes of a WAL segment: 4 MiB to 1 GiB.
    pub segment_size: u64,
    /// What the node does when its files are damaged.
    pub on_corruption: CorruptionPolicy,
    /// The most clients at a time: 1 to 1,000,000.
    pub max_clients: usize,
    /// After which a client that says nothing is disconnected; zero for never.
    pub client_idle_timeout: Duration,
    /// Whether the log is encrypted, and with what keys.
    pub encryption: EncryptionChoice,
    /// Whether listening beyond loopback without TLS was allowed.
    pub insecure: bool,
}

/// What runs the consensus core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// The component in its sandbox.
    Wasm,
    /// The same core outside any sandbox: for measuring what the sandbox costs.
    Native,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// The flags of `ukehi start`. Values are strings here: [`StartArgs::resolve`] checks them, wherever they come from.
///
/// The names of the variables and of the file's keys follow from the flags'.
#[derive(Args, Clone, Debug, Default)]
#[command(
    after_help = "Every option can stand in the file as well (data-dir = \"…\"; peers as a table: [peers] 1 = \"HOST:PORT\") and in the \
environment (UKEHI_DATA_DIR=…; peers with commas: UKEHI_PEER=1=HOST:PORT,2=HOST:PORT). A flag goes before a variable, a variable before the file.\n\n\
Without any --peer the node is a cluster of one; with --join it becomes a member of one that runs. Once members have been changed, the log has them, and --peer \
is for the first start alone.\n\n\
The log is encrypted unless --no-encryption says otherwise. Nodes of a cluster have the same keys: `ukehi key generate --out FILE` makes them, once, and each node \
gets a copy."
)]
pub struct StartArgs {
    /// This node's number, from 1 [default: 1 for a cluster of one]
    #[arg(long)]
    pub id: Option<String>,
    /// Where the node keeps its data
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Listens here for other nodes [default: its own --peer address, else 127.0.0.1:7101]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<String>,
    /// Listens here for clients, in Redis' protocol [default: 127.0.0.1:6391]
    #[arg(long, value_name = "IP:PORT")]
    pub client: Option<String>,
    /// Listens here for /status, /healthz, /readyz and /metrics [default: 127.0.0.1:8091]
    #[arg(long, value_name = "IP:PORT")]
    pub admin: Option<String>,
    /// A voter's address; once for each node of the cluster, this one too (1 to 7)
    #[arg(long, value_name = "ID=HOST:PORT")]
    pub peer: Vec<String>,
    /// Joins the cluster of the node with this admin address; of several, the leader's should be one
    #[arg(long, value_name = "ADDR[,ADDR]")]
    pub join: Option<String>,
    /// Where other nodes reach a node that joins [default: its --listen address]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// The keys of the log.
    #[command(flatten)]
    pub encryption: EncryptionArgs,
    /// Reads options from a TOML file
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<String>,
    /// The cluster's name: nodes and data of another cluster are refused [default: ukehi]
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Allows listening beyond loopback, although nothing is encrypted on its way and nobody is asked for a password yet
    #[arg(long)]
    pub insecure: bool,
    /// How log lines are written: human or json [default: human]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// off, error, warn, info, debug, trace, or filter directives such as info,amaters_cluster=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// The shortest wait for a leader before an election [default: 150ms]
    #[arg(long, value_name = "TIME")]
    pub election_timeout_min: Option<String>,
    /// The longest [default: twice the shortest]
    #[arg(long, value_name = "TIME")]
    pub election_timeout_max: Option<String>,
    /// Between two heartbeats of a leader [default: a third of the shortest wait]
    #[arg(long, value_name = "TIME")]
    pub heartbeat_interval: Option<String>,
    /// Serves reads without asking a majority first while it has promised to elect nobody else. Set it on all nodes, and only where all
    /// clocks run evenly and no machine sleeps or is moved while it runs
    #[arg(long)]
    pub lease_reads: bool,
    /// By how much the fastest clock may outrun the slowest: 1% to 100%, for --lease-reads [default: 10%]
    #[arg(long, value_name = "PERCENT")]
    pub max_clock_drift: Option<String>,
    /// How long the disk may make no progress before a leader hands over [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub disk_stall_timeout: Option<String>,
    /// When a silent peer counts as failed.
    #[command(flatten)]
    pub failure: FailureArgs,
    /// The most memory of the sandbox; the log may take half of it [default: 2GiB]
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<String>,
    /// Takes a snapshot once the log has grown by so much in memory, or by the size of the last one; 0 for never [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub snapshot_every_bytes: Option<String>,
    /// Takes a snapshot once the log has grown by so many entries; 0 for any number [default: 0]
    #[arg(long, value_name = "N")]
    pub snapshot_every_entries: Option<String>,
    /// How many snapshots are kept, and the log on disk from the oldest of them on: 1 to 16 [default: 2]
    #[arg(long, value_name = "N")]
    pub snapshots_kept: Option<String>,
    /// The size of a WAL segment [default: 32MiB]
    #[arg(long, value_name = "SIZE")]
    pub segment_size: Option<String>,
    /// What to do when the node's files are damaged: refuse to start; repair them from the other nodes, without a vote until that is done; or cut the journal where the
    /// damage begins. A cut forgets what this node has acknowledged since then, and others may have committed it for that: for a node alone, or as a last
    /// resort [default: refuse]
    #[arg(long, value_name = "POLICY")]
    pub on_corruption: Option<String>,
    /// The most clients at a time [default: 10000]
    #[arg(long, value_name = "N")]
    pub max_clients: Option<String>,
    /// Disconnects a client that is silent for so long; 0 for never [default: 30m]
    #[arg(long, value_name = "TIME")]
    pub client_idle_timeout: Option<String>,
    /// Where AES is done: `host`, by this process with its processor's instructions, or `sandbox`, by the core itself and more slowly [default: host]
    #[arg(long, value_name = "WHERE")]
    pub aes: Option<String>,
    /// What runs the consensus core: wasm or native
    #[arg(long, hide = true)]
    pub engine: Option<String>,
}

impl StartArgs {
    /// Adds what the environment and the file say, and checks everything. `variable` looks a variable up.
    ///
    /// # Errors
    /// Names the first option that is wrong, where it stands, and what is allowed.
    pub fn resolve(self, variable: &dyn Fn(&str) -> Option<String>) -> Result<StartOptions, UsageError> {
        let sources = Sources::open(self.config.as_deref(), variable)?;
        let Members { id, peers, listen, join, advertise } = resolve_members(&sources, &self)?;
        let insecure = sources.value_or("insecure", self.insecure.then_some("true"), false, "true or false", parse::truth)?.value;
        let client = sources.value_or("client", self.client.as_deref(), loopback(6391), ADDRESS, parse::address)?;
        let admin = sources.value_or("admin", self.admin.as_deref(), loopback(8091), ADDRESS, parse::address)?;
        check_addresses(&[&listen, &client, &admin], insecure)?;
        let memory_limit = sources.value_or(
            "memory-limit",
            self.memory_limit.as_deref(),
            2 << 30,
            "a size of 64MiB to 4GiB, such as 512MiB",
            parse::size(64 << 20, 4 << 30),
        )?;
        let memory_limit = usize::try_from(memory_limit.value).unwrap_or(usize::MAX);
        let core = resolve_core(&sources, &self, id, &peers, memory_limit)?;
        let encryption = self.encryption.resolve(&sources, peers.len() == 1, !join.is_empty())?;
        Ok(StartOptions {
            id,
            cluster: sources.value_or("cluster", self.cluster.as_deref(), "ukehi".to_owned(), CLUSTER, parse::cluster)?.value,
            data_dir: sources.value("data-dir", self.data_dir.as_deref(), "a directory", parse::path)?.ok_or_else(no_data_dir)?.value,
            listen: listen.value,
            client: client.value,
            admin: admin.value,
            peers,
            join,
            advertise,
            core,
            engine: sources.value_or("engine", self.engine.as_deref(), EngineChoice::Wasm, "wasm or native", parse::engine)?.value,
            aes_in_sandbox: sources.value_or("aes", self.aes.as_deref(), false, "host or sandbox", parse::aes_in_sandbox)?.value,
            log_format: sources.value_or("log-format", self.log_format.as_deref(), LogFormat::Human, "human or json", parse::format)?.value,
            log_filter: sources.value_or("log-level", self.log_level.as_deref(), "info".to_owned(), LOG_LEVEL, parse::log_filter)?.value,
            memory_limit,
            segment_size: sources
                .value_or(
                    "segment-size",
                    self.segment_size.as_deref(),
                    WalOptions::default().segment_size,
                    "a size of 4MiB to 1GiB, such as 32MiB",
                    parse::size(4 << 20, 1 << 30),
                )?
                .value,
            on_corruption: sources
                .value_or(
                    "on-corruption",
                    self.on_corruption.as_deref(),
                    CorruptionPolicy::Refuse,
                    "refuse, repair or cut",
                    parse::corruption_policy,
                )?
                .value,
            max_clients: sources
                .value_or("max-clients", self.max_clients.as_deref(), 10_000, "1 to 1000000", parse::number(1, 1_000_000))?
                .value,
            client_idle_timeout: sources
                .value_or("client-idle-timeout", self.client_idle_timeout.as_deref(), Duration::from_secs(1800), TIME, parse::time)?
                .value,
            encryption,
            insecure,
        })
    }
}

fn resolve_snapshots(sources: &Sources<'_>, args: &StartArgs, snapshots: &mut SnapshotConfig) -> Result<(), UsageError> {
    let bytes = sources.value_or(
        "snapshot-every-bytes",
        args.snapshot_every_bytes.as_deref(),
        snapshots.policy.bytes.unwrap_or_default(),
        "a size of 4KiB and up, such as 64MiB, or 0",
        |text| parse::size(0, u64::MAX)(text).filter(|bytes| *bytes == 0 || *bytes >= 4 << 10),
    )?;
    let entries = sources.value_or(
        "snapshot-every-entries",
        args.snapshot_every_entries.as_deref(),
        snapshots.policy.entries.unwrap_or_default(),
        "a whole number",
        parse::number(0, u64::MAX),
    )?;
    let kept =
        sources.value_or("snapshots-kept", args.snapshots_kept.as_deref(), snapshots.keep, "1 to 16", parse::number::<usize>(1, 16))?;
    let wanted = |value: u64| (value > 0).then_some(value);
    snapshots.policy = SnapshotPolicy { bytes: wanted(bytes.value), entries: wanted(entries.value) };
    snapshots.keep = kept.value;
    Ok(())
}

const ADDRESS: &str = "IP:PORT, such as 127.0.0.1:7101";
const PEER: &str = "ID=HOST:PORT with an id from 1 and a port from 1, such as 2=10.0.0.2:7101";
const JOIN: &str = "admin addresses of the cluster, such as 127.0.0.1:8091";
const TIME: &str = "a time, such as 150ms or 2s";
const PERCENT: &str = "a whole number of percent, such as 10%";
const CLUSTER: &str = "1 to 64 letters, digits, '.', '_' or '-'";
const LOG_LEVEL: &str = "off, error, warn, info, debug, trace, or filter directives such as info,amaters_cluster=debug";

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn no_data_dir() -> UsageError {
    UsageError::missing("data-dir", "a directory for the node's data (--data-dir DIR)")
}

/// Who this node is, who the voters are, and where it listens for them: what is only right together.
struct Members {
    id: NodeId,
    peers: BTreeMap<NodeId, String>,
    listen: Setting<SocketAddr>,
    join: Vec<String>,
    advertise: String,
}

fn resolve_members(sources: &Sources<'_>, args: &StartArgs) -> Result<Members, UsageError> {
    let peers = check_peers(sources.peers(&args.peer)?)?;
    let id = sources.value("id", args.id.as_deref(), "a number from 1", parse::number(1, u64::MAX))?;
    let listen = sources.value("listen", args.listen.as_deref(), ADDRESS, parse::address)?;
    if let Some(join) = sources.value("join", args.join.as_deref(), JOIN, parse::addresses)? {
        let Some(id) = id else { return Err(UsageError::missing("id", "a number that no node of the cluster has ever had (--id)")) };
        return resolve_newcomer(sources, args, NodeId(id.value), join, listen, peers.is_empty());
    }
    if peers.is_empty() {
        let id = match id {
            Some(id) if id.value != 1 => {
                return Err(id.refuse("1 where there is no --peer; or a --peer for each node of the cluster, this one too"));
            }
            _ => NodeId(1),
        };
        let listen = listen.unwrap_or_else(|| Setting::default("listen", loopback(7101)));
        let advertise = listen.value.to_string();
        return Ok(Members { id, peers: BTreeMap::from([(id, advertise.clone())]), listen, join: Vec::new(), advertise });
    }
    let ids = peers.keys().map(NodeId::to_string).collect::<Vec<_>>().join(", ");
    let Some(id) = id else {
        return Err(UsageError::missing("id", format!("which of the peers this node is (--id), one of {ids}")));
    };
    let Some(own) = peers.get(&NodeId(id.value)) else {
        return Err(id.refuse(format!("one of the peers' ids ({ids}), or a --peer {id}=HOST:PORT for this node too", id = id.value)));
    };
    let (listen, advertise) = (listen_address(listen, own)?, own.address.clone());
    let peers = peers.into_iter().map(|(id, peer)| (id, peer.address)).collect();
    Ok(Members { id: NodeId(id.value), peers, listen, join: Vec::new(), advertise })
}

/// A node that joins names no voters: the log tells it who they are.
fn resolve_newcomer(
    sources: &Sources<'_>,
    args: &StartArgs,
    id: NodeId,
    join: Setting<Vec<String>>,
    listen: Option<Setting<SocketAddr>>,
    alone: bool,
) -> Result<Members, UsageError> {
    if !alone {
        return Err(join.refuse("no --peer beside it: the cluster tells a node that joins who its members are"));
    }
    let listen = listen.unwrap_or_else(|| Setting::default("listen", loopback(7101)));
    let own = |text: &str| parse::is_host_and_port(text).then(|| text.to_owned());
    let advertise = match sources.value("advertise", args.advertise.as_deref(), "HOST:PORT, such as 10.0.0.4:7101", own)? {
        Some(advertise) => advertise.value,
        None if listen.value.ip().is_unspecified() => {
            return Err(UsageError::missing(
                "advertise",
                "where other nodes reach this one (--advertise HOST:PORT), since it listens at all addresses",
            ));
        }
        None => listen.value.to_string(),
    };
    Ok(Members { id, peers: BTreeMap::new(), listen, join: join.value, advertise })
}

fn check_peers(given: Vec<Peer>) -> Result<BTreeMap<NodeId, Peer>, UsageError> {
    let mut peers: BTreeMap<NodeId, Peer> = BTreeMap::new();
    for peer in given {
        let id = parse::number(1, u64::MAX)(&peer.id).map(NodeId);
        let Some(id) = id.filter(|_| parse::is_host_and_port(&peer.address)) else { return Err(peer.refuse(PEER)) };
        if let Some(first) = peers.get(&id) {
            return Err(peer.refuse(format!("each id once; node {id} is at {} already", first.address)));
        }
        if let Some((other, _)) = peers.iter().find(|(_, other)| other.address == peer.address) {
            return Err(peer.refuse(format!("each address once; node {other} is there already")));
        }
        if peers.len() == MAX_VOTERS {
            return Err(peer.refuse(format!("at most {MAX_VOTERS} peers, this node among them")));
        }
        peers.insert(id, peer);
    }
    Ok(peers)
}

/// Where it isn't said, a node listens at the address that its peers know. Where it is, that may differ by a proxy or a mapped network, but not by the
/// port alone: nobody would ever reach it.
fn listen_address(listen: Option<Setting<SocketAddr>>, own: &Peer) -> Result<Setting<SocketAddr>, UsageError> {
    let known: Option<SocketAddr> = own.address.parse().ok();
    match (listen, known) {
        (Some(listen), Some(known)) if listen.value.ip() == known.ip() && listen.value.port() != known.port() => {
            Err(listen.refuse(format!("{known}, where the other nodes will look for this one ({} of {})", own.id, own.origin)))
        }
        (Some(listen), _) => Ok(listen),
        (None, Some(known)) => Ok(Setting { key: "listen", value: known, given: known.to_string(), origin: own.origin.clone() }),
        (None, None) => Err(UsageError::missing(
            "listen",
            format!(
                "an IP address of this machine to listen at, since {} names a host (such as --listen 0.0.0.0:7101 --insecure)",
                own.address
            ),
        )),
    }
}

fn check_addresses(addresses: &[&Setting<SocketAddr>], insecure: bool) -> Result<(), UsageError> {
    for (at, address) in addresses.iter().enumerate() {
        if !insecure && !address.value.ip().to_canonical().is_loopback() {
            return Err(address.refuse(
                "a loopback address: there is no TLS and no password yet, so whoever reaches the port can read and change everything; \
                 --insecure allows it, for a network that is closed by other means",
            ));
        }
        if let Some(other) = addresses[..at].iter().find(|other| other.value == address.value && address.value.port() != 0) {
            return Err(address.refuse(format!("another address than that of {}", other.key)));
        }
    }
    Ok(())
}

fn resolve_core(
    sources: &Sources<'_>,
    args: &StartArgs,
    id: NodeId,
    peers: &BTreeMap<NodeId, String>,
    memory_limit: usize,
) -> Result<Config, UsageError> {
    let mut core = Config::new(id, peers.keys().copied().collect::<Vec<_>>());
    core.addresses = peers.clone();
    let shortest =
        sources.value_or("election-timeout-min", args.election_timeout_min.as_deref(), core.election_timeout_min, TIME, parse::time)?;
    let longest = shortest.value.saturating_mul(2);
    let longest = sources.value_or("election-timeout-max", args.election_timeout_max.as_deref(), longest, TIME, parse::time)?;
    let heartbeat = shortest.value / 3;
    let heartbeat = sources.value_or("heartbeat-interval", args.heartbeat_interval.as_deref(), heartbeat, TIME, parse::time)?;
    let drift = sources.value_or("max-clock-drift", args.max_clock_drift.as_deref(), core.max_clock_drift, PERCENT, parse::percent)?;
    let stall = sources.value_or("disk-stall-timeout", args.disk_stall_timeout.as_deref(), core.disk_stall_timeout, TIME, parse::time)?;
    resolve_snapshots(sources, args, &mut core.snapshots)?;
    core.lease_reads = sources.value_or("lease-reads", args.lease_reads.then_some("true"), false, "true or false", parse::truth)?.value;
    core.failure = args.failure.resolve(sources)?;
    core.max_clock_drift = drift.value;
    core.disk_stall_timeout = stall.value;
    core.election_timeout_min = shortest.value;
    core.election_timeout_max = longest.value;
    core.heartbeat_interval = heartbeat.value;
    core.request_timeout = core.request_timeout.max(longest.value);
    core.max_log_bytes = memory_limit / 2;
    core.max_pending_bytes = core.max_pending_bytes.min(memory_limit / 8);
    core.validate().map_err(|error| {
        let key = error.field.replace('_', "-");
        let origins = [shortest, longest, heartbeat, stall].map(|setting| (setting.key, setting.origin));
        let origin = origins.into_iter().chain([(drift.key, drift.origin)]).find(|(other, _)| *other == key).map(|(_, origin)| origin);
        UsageError::Value { key, got: error.got, origin: origin.unwrap_or(Origin::Default), expected: error.expected.replace('_', "-") }
    })?;
    Ok(core)
}
