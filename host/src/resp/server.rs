//! Accepts connections, and keeps their number within its bound.

use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, error, warn};

use super::backend::Backend;
use super::close::Close;
use super::connection::Connection;
use super::cursors::Cursors;
use super::metrics::RespMetrics;
use super::session::Session;

/// The bounds of the front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RespLimits {
    /// The most connections at once (default 10,000). One more is told so and ended.
    pub max_connections: usize,
    /// How long a connection may be silent between requests (default 300 s).
    pub idle_timeout: Duration,
    /// How long a request may take from its first byte to its last (default 30 s).
    pub request_timeout: Duration,
    /// How long a client may take for each MiB of its answers (default 30 s).
    pub write_timeout: Duration,
    /// The most bytes of a request (default 16 MiB).
    pub max_request_bytes: usize,
    /// The most bytes that incomplete large requests of all connections take together, up to 4 GiB (default 256 MiB). The first 64 KiB of each are free.
    pub max_buffered_bytes: usize,
    /// The most cursors of scans that are kept (default 4,096).
    pub max_cursors: usize,
}

impl Default for RespLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            idle_timeout: Duration::from_secs(300),
            request_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            max_request_bytes: 16 << 20,
            max_buffered_bytes: 256 << 20,
            max_cursors: 4096,
        }
    }
}

/// Serves clients until `shutdown` turns true or loses its sender. Ends once all connections have; those that take more than 1 s are cut off.
pub async fn serve<B: Backend>(
    listener: TcpListener,
    backend: B,
    limits: RespLimits,
    metrics: Arc<RespMetrics>,
    mut shutdown: watch::Receiver<bool>,
) {
    let server = Arc::new(Server { backend, shared: Shared::new(limits, metrics) });
    let mut connections = JoinSet::new();
    let mut ids = 1..;
    loop {
        let accepted = tokio::select! {
            biased;
            () = ended(&mut shutdown) => break,
            Some(ended) = connections.join_next() => {
                server.shared.account(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) if connections.len() >= server.shared.limits.max_connections => server.shared.turn_away(stream, remote),
            Ok((stream, remote)) => {
                let session = Session::new(ids.next().unwrap_or(u64::MAX), remote, stream.local_addr().unwrap_or(remote));
                set_up(&stream, remote);
                server.shared.metrics.opened();
                connections.spawn(Connection::new(server.clone(), stream, session, shutdown.clone()).serve());
            }
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!(%error, "clients can't be accepted: is the limit of open files too low?");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all_ended = timeout(GRACE, async {
        while let Some(ended) = connections.join_next().await {
            server.shared.account(ended);
        }
    });
    if all_ended.await.is_err() {
        connections.abort_all();
        while let Some(ended) = connections.join_next().await {
            server.shared.account(ended);
        }
    }
}

/// How long connections may take to end when the node does.
const GRACE: Duration = Duration::from_secs(1);
/// Accepting fails for want of file descriptors, mostly: trying again at once would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A silent connection is probed after this time…
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);
/// …and then so often.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Server<B> {
    pub(super) backend: B,
    pub(super) shared: Shared,
}

/// What commands may look at.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: RespLimits,
    pub(super) metrics: Arc<RespMetrics>,
    pub(super) cursors: Cursors,
    /// Bytes that large requests may still take.
    pub(super) buffers: Arc<Semaphore>,
    pub(super) started: Instant,
}

impl Shared {
    fn new(limits: RespLimits, metrics: Arc<RespMetrics>) -> Self {
        let cursors = Cursors::new(limits.max_cursors);
        let buffers = Arc::new(Semaphore::new(limits.max_buffered_bytes.min(u32::MAX as usize)));
        Self { limits, metrics, cursors, buffers, started: Instant::now() }
    }

    /// Counts the end of a connection's task.
    fn account(&self, ended: Result<(SocketAddr, Close), JoinError>) {
        match ended {
            Ok((remote, close)) => {
                debug!(%remote, reason = close.reason(), "a client's connection ended: {close}");
                self.metrics.closed(&close);
            }
            Err(failure) if failure.is_cancelled() => self.metrics.closed(&Close::Shutdown),
            Err(failure) => {
                error!(%failure, "a client's connection failed");
                self.metrics.closed(&Close::Panicked);
            }
        }
    }

    fn turn_away(&self, stream: TcpStream, remote: SocketAddr) {
        let close = Close::TooMany(self.limits.max_connections);
        debug!(%remote, reason = close.reason(), "a client was turned away: {close}");
        self.metrics.refused(&close);
        // The socket's buffer is empty, so this neither waits nor falls short.
        if let Ok(mut stream) = stream.into_std() {
            let _ = stream.write(b"-ERR max number of clients reached\r\n");
        }
    }
}

/// Completes when the node ends.
pub(super) async fn ended(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|ended| *ended).await;
}

/// Answers leave at once, and a client whose machine is gone is found out.
fn set_up(stream: &TcpStream, remote: SocketAddr) {
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE_AFTER).with_interval(KEEP_ALIVE_INTERVAL);
    if let Err(error) = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keep_alive)) {
        debug!(%remote, %error, "a client's socket can't be set up");
    }
}
