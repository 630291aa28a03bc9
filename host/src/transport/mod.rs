//! The way to the other nodes: envelopes over TCP.
//!
//! Each node dials each of its peers and only sends on that connection; it receives on the connections that it accepts. The peers are the members,
//! which change while the node runs, and nodes of the same cluster that dial this one: it may not have heard of them yet. So neither side has
//! to settle which of two connections counts, and a peer that can be heard but not reached is seen for what it is.
//!
//! There are two lanes to a peer, each with a connection and a queue of its own. What is large and in no hurry, a snapshot, goes over the *bulk* lane, so that heartbeats
//! don't wait behind it. That lane is dialled when there is something for it.
//!
//! Delivery is in order while a connection lasts, and best effort: Raft sends again what matters. That is why nothing waits for a
//! connection. What is sent to a peer that is away, and what was queued for it when it left, is dropped and counted: a heartbeat
//! later there is something fresher to say.
//!
//! Nothing here proves who a peer is: whoever reaches the port and knows cluster and ids can claim to be one. Keep the port on loopback or on
//! a private network.
//!
//! # Grammar
//!
//! Numbers are little-endian. `crc32` is CRC-32/ISO-HDLC over all fields of its unit before and after it.
//!
//! ```text
//! connection = hello reply *frame             ; hello and frames from the dialling side, the reply from the accepting side
//! hello      = magic version sender receiver lane sealing name-length name address-length address crc32
//! reply      = magic version code node crc32
//! frame      = length crc32 payload
//!
//! magic      = "ukehi/p" LF                   ; 8 bytes
//! version    = u16                            ; 3. Magic and version stand first in every version
//! sender     = u64                            ; the id of the node that dials
//! receiver   = u64                            ; the id of the node that it means to reach
//! lane       = u8                             ; 0 for most envelopes, 1 for bulk
//! sealing    = u8                             ; 1 if the sender's log is encrypted, else 0: the two sides must agree
//! name       = *255 byte                      ; the cluster's name, UTF-8; name-length = u8
//! address    = *255 byte                      ; where the sender can be dialled, UTF-8; address-length = u8
//! code       = u8                             ; 0 accepted, 1 another version, 2 another cluster, 3 another node, 4 no room for the sender,
//!                                             ; 5 the receiver's log is encrypted and the sender's is not, 6 the other way round
//! node       = u64                            ; the id of the node that answers
//! length     = u32                            ; of the payload: 0 is a keep-alive, at most 32 MiB
//! payload    = *byte                          ; one envelope, opaque
//! ```
//!
//! Whoever sends anything but a hello gets no reply. After the reply the accepting side sends nothing.
//!
//! # Limits
//!
//! Everything from a connection is bad input until it is checked. [`TransportLimits`] has the bounds; each breach ends that one connection, with
//! a reason that is counted (`amaters_cluster_transport_closes_total`) and logged, at most once a minute for each peer and reason.
//!
//! | what | bound |
//! |---|---|
//! | connections in their handshake | 64: the oldest makes room |
//! | a handshake | 5 s, name resolution and dialling included |
//! | a frame | 32 MiB, checked before anything is set aside; memory grows with what has come, not with what was announced |
//! | a frame that has begun | complete within 10 s |
//! | silence | 30 s; a sender that has nothing to say sends a keep-alive after 10 s |
//! | a write | taken within 10 s; on Linux, acknowledged within 10 s |
//! | connections of one peer | 1 in each lane: a newer one replaces the older |
//! | a peer's queue | 4,096 envelopes, 64 MiB; 16 MiB in the bulk lane |
//! | nodes that are no members | 16 |
//!
//! A node that takes envelopes slowly holds up the reading of that one connection, and through TCP its sender.
//!
//! # Code map
//!
//! `peers` knows whom there is a way to; `dial` sends, `accept` receives; `handshake` and `frame` hold the grammar; `queue` is what waits for a peer; `close` knows why connections end
//! and who is told; `crowd` bounds handshakes.

mod accept;
mod close;
pub(crate) mod crowd;
mod dial;
mod frame;
mod handshake;
mod metrics;
mod peers;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use amaters_cluster_core::NodeId;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use frame::FrameError;
pub use handshake::Refusal;
pub use metrics::TransportMetrics;

use close::Reporter;
use handshake::Lane;
use peers::Peers;

/// Whom a node talks to.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// The cluster's name, up to 255 bytes: nodes of another cluster are refused.
    pub cluster: String,
    /// This node.
    pub id: NodeId,
    /// Where this node can be dialled, as `host:port`, up to 255 bytes: told to nodes that it dials, for they may not know it.
    pub address: String,
    /// The members' addresses as `host:port`, resolved at each dial, until [`Outbox::set_members`] tells others. This node's own entry is left out of
    /// account.
    pub peers: BTreeMap<NodeId, String>,
    /// Whether this node encrypts its log: nodes of the other kind are refused.
    pub sealed: bool,
    /// The bounds.
    pub limits: TransportLimits,
}

/// The bounds of the transport. The defaults are for production; tests have shorter ones.
#[derive(Clone, Debug)]
pub struct TransportLimits {
    /// The most envelopes that wait for one peer (default 4,096).
    pub queue_envelopes: usize,
    /// The most bytes that wait for one peer (default 64 MiB).
    pub queue_bytes: usize,
    /// The most bytes that wait for one peer in the bulk lane (default 16 MiB).
    pub bulk_queue_bytes: usize,
    /// The largest envelope, in bytes (default 32 MiB). The same on all nodes: a larger one is refused by its receiver.
    pub frame_bytes: u32,
    /// The most accepted connections in their handshake (default 64).
    pub handshakes: usize,
    /// The longest handshake, dialling included (default 5 s).
    pub handshake: Duration,
    /// The longest time from a frame's first byte to its last (default 10 s).
    pub frame: Duration,
    /// The longest silence of a peer (default 30 s). The same on all nodes: keep-alives leave three times as often.
    pub silence: Duration,
    /// The longest time for one write (default 10 s).
    pub write: Duration,
    /// The bound of the first wait before dialling again (default 20 ms); each wait is drawn between nothing and its bound.
    pub backoff_min: Duration,
    /// What the bound doubles up to (default 1 s).
    pub backoff_max: Duration,
}

impl Default for TransportLimits {
    fn default() -> Self {
        Self {
            queue_envelopes: 4096,
            queue_bytes: 64 << 20,
            bulk_queue_bytes: 16 << 20,
            frame_bytes: 32 << 20,
            handshakes: 64,
            handshake: Duration::from_secs(5),
            frame: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            write: Duration::from_secs(10),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
        }
    }
}

/// Who takes what comes from the peers.
pub trait Deliver: Clone + Send + Sync + 'static {
    /// Takes a burst of envelopes from a peer, in their order; none is empty. May wait for room: that holds up this peer's connection alone.
    /// False when the node has ended.
    ///
    /// Dropped while it waits when the peer replaces the connection, or the transport stops: the burst is then lost.
    fn deliver(&self, sender: NodeId, envelopes: Vec<Vec<u8>>) -> impl Future<Output = bool> + Send;
}

/// A running transport. Dropping it ends its connections.
#[derive(Debug)]
pub struct Transport {
    outbox: Outbox,
    tasks: JoinSet<()>,
}

impl Transport {
    /// Accepts on `listener`, dials every peer, and goes on until `shutdown` turns true or its sender is gone.
    ///
    /// To be called within a tokio runtime with IO and time.
    ///
    /// # Errors
    /// The cluster's name or the node's address is longer than 255 bytes.
    pub fn start<D: Deliver>(
        config: TransportConfig,
        listener: TcpListener,
        deliver: D,
        metrics: TransportMetrics,
        shutdown: &watch::Receiver<bool>,
    ) -> io::Result<Self> {
        for (what, text) in [("the cluster's name", &config.cluster), ("the node's address", &config.address)] {
            let (got, max) = (text.len(), handshake::MAX_NAME_BYTES);
            if got > max {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{what} has {got} bytes: expected at most {max}")));
            }
        }
        let peers = Peers::new(config.id, &config.peers, &config.limits);
        let shared = Arc::new(Shared { config, peers, reporter: Reporter::new(metrics) });

        let mut tasks = JoinSet::new();
        tasks.spawn(until(shutdown.clone(), accept::run(Arc::clone(&shared), listener, deliver)));
        tasks.spawn(until(shutdown.clone(), peers::dial_all(Arc::clone(&shared))));
        Ok(Self { outbox: Outbox { shared }, tasks })
    }

    /// Where envelopes leave.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Waits until the transport has stopped, and its port is free.
    pub async fn stopped(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the transport failed");
            }
        }
    }
}

/// Takes envelopes for the peers.
#[derive(Clone, Debug)]
pub struct Outbox {
    shared: Arc<Shared>,
}

impl Outbox {
    /// Sends an envelope, if it can: never blocks. One that is empty or above the bound, is for no peer, for a peer that is away, or for one
    /// whose queue is full is dropped and counted (`amaters_cluster_transport_shed_envelopes_total`).
    pub fn send(&self, to: NodeId, envelope: Vec<u8>) {
        self.send_in(Lane::Main, to, envelope);
    }

    /// As [`send`](Self::send), in the bulk lane: what goes there keeps nothing else waiting. The first one has the peer dialled.
    pub fn send_bulk(&self, to: NodeId, envelope: Vec<u8>) {
        self.send_in(Lane::Bulk, to, envelope);
    }

    fn send_in(&self, lane: Lane, to: NodeId, envelope: Vec<u8>) {
        let (peer, pushed) = match self.shared.peers.get(to) {
            Some(peer) => (Some(to), peer.queue(lane).push(envelope)),
            None => (None, Err("unknown_peer")),
        };
        if let Err(reason) = pushed {
            self.shared.reporter.shed(peer, reason, 1);
        }
    }

    /// These are the members from now on, and their addresses: they are dialled, and others no more. This node's own entry is left out of account.
    pub fn set_members(&self, members: &BTreeMap<NodeId, String>) {
        self.shared.peers.set_members(members);
    }
}

/// What the tasks of a transport have in common.
#[derive(Debug)]
struct Shared {
    config: TransportConfig,
    peers: Peers,
    reporter: Reporter,
}

/// Sends small frames at once, and notices a peer whose machine is gone.
fn tune(stream: &TcpStream, limits: &TransportLimits) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let interval = (limits.silence / 3).max(Duration::from_secs(1));
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(interval).with_interval(interval).with_retries(3))?;
    // Keep-alive says nothing while data waits for its acknowledgement; without this the kernel tries for a quarter of an hour.
    #[cfg(any(target_os = "android", target_os = "linux"))]
    socket.set_tcp_user_timeout(Some(limits.write))?;
    Ok(())
}

/// Runs `task` until it is time to stop.
async fn until(mut shutdown: watch::Receiver<bool>, task: impl Future<Output = ()>) {
    tokio::select! {
        // An error means that the sender is gone: a reason to stop as well.
        _ = shutdown.wait_for(|stop| *stop) => {}
        () = task => {}
    }
}
