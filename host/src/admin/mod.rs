//! The admin port: a node's state over HTTP/1.1, for operators, scripts and Prometheus.
//!
//! | route | answer |
//! |---|---|
//! | `GET /status` | 200 and a [`StatusView`] as JSON |
//! | `GET /healthz` | 200 `ok` while the node's loop answers within 1 s |
//! | `GET /readyz` | 200 `ok` when a leader is known, and everything that is known to be committed is applied |
//! | `POST /transfer` | has this node, which must lead, hand over: to `{"to": 2}` or to the best; 200 and `{"leader": 2}` once that one leads |
//! | `GET /members` | 200 and a [`MembersView`] as JSON: the configuration that holds |
//! | `POST /members` | carries out a [`ChangeRequest`] and answers with a [`MembersView`]; 202 if it takes longer than 8 s |
//! | `POST /snapshots` | has this node take a snapshot now; 200 and its [`SnapshotView`] once it is durable, 202 if that takes longer than 8 s |
//! | `GET /snapshots/INDEX/TERM/OFFSET` | 200 and up to 1 MiB of that snapshot's bytes from `OFFSET` on, none at its end; 410 once it is not kept any more |
//! | `GET /metrics` | 200 and Prometheus' text format 0.0.4; all names begin with `amaters_cluster_` |
//!
//! A change that was refused gets 409 and why, or 421 where it has to go to another node, the `leader`, if it is known.
//! Where the node does not answer, they say 503 and why; `/metrics` then has `amaters_cluster_up 0` and leaves the node's figures out. Other paths
//! get 404, other methods 405, a body that is not what a route reads 400 or 422, with `{"error": …}`.
//!
//! # Limits
//!
//! | what | bound | reason in `amaters_cluster_admin_closes_total` |
//! |---|---|---|
//! | connections | 256: the oldest makes room | `crowded_out` |
//! | a request's header, from its first byte or the start of the connection | 5 s, 16 KiB | `slow_header`, `malformed` |
//! | a request and its answer | 10 s | `slow_request` |
//! | a request's body | 64 KiB (413) | |
//! | a connection between two requests | 60 s | `idle` |

mod control;
pub(crate) mod encryption;
mod members;
mod metrics;
mod phase;
mod routes;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::Service;

pub use encryption::{ChainHead, EncryptionView, RotateRequest};
pub use members::{AddressView, ChangeRequest, MemberRoleView, MemberView, MembersView};
pub use routes::StatusSource;
pub use view::{NodeInfo, PeerView, RoleView, SnapshotView, StatusView};

use crate::transport::crowd::{Crowd, Place};
use metrics::Metrics;
use phase::{Watch, Watched};
use routes::Desk;

/// The most connections.
const CONNECTIONS: usize = 256;

/// The most bytes of a request that are kept while its header is incomplete.
const HEADER_BYTES: usize = 16 << 10;

/// How long requests may still take when the node stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// The wait after an accept that failed: what it lacks (file descriptors, mostly) does not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the admin port until `shutdown` turns true or its sender is gone; requests that are under way then have a second to end.
///
/// # Errors
/// The registry has metrics of these names already.
pub async fn serve<S: StatusSource>(
    listener: TcpListener,
    source: S,
    info: NodeInfo,
    registry: Registry,
    mut shutdown: watch::Receiver<bool>,
) -> prometheus::Result<()> {
    let metrics = Arc::new(Metrics::register(registry)?);
    let router = routes::router(Arc::new(Desk { source, info, metrics: Arc::clone(&metrics) }));
    let (crowd, mut connections) = (Crowd::new(CONNECTIONS), JoinSet::new());
    loop {
        tokio::select! {
            () = stopped(&mut shutdown) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(attend(stream, router.clone(), Arc::clone(&metrics), crowd.enter(), shutdown.clone()));
                }
                Err(error) => {
                    metrics.closed("cannot_accept");
                    tracing::warn!(%error, "admin connections can't be accepted: is the limit of open files too low?");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "the task of an admin connection failed");
            },
        }
    }
    drop(listener);
    // What is not done by then ends with the set.
    let _ = timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

/// One connection, to its end.
async fn attend(stream: TcpStream, router: Router, metrics: Arc<Metrics>, mut place: Place, mut shutdown: watch::Receiver<bool>) {
    let watch = Watch::new();
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let (mut router, watch) = (router.clone(), watch.clone());
        async move { watch.answering(router.call(request.map(Body::new))).await }
    });
    let io = TokioIo::new(Watched::new(stream, watch.clone()));
    let connection = http1::Builder::new().max_buf_size(HEADER_BYTES).serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let reason = tokio::select! {
        outcome = connection.as_mut() => outcome.err().map(|error| reason(&error)),
        reason = watch.overstayed() => Some(reason),
        () = place.crowded_out() => Some("crowded_out"),
        () = stopped(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
            None
        }
    };
    if let Some(reason) = reason {
        metrics.closed(reason);
        tracing::debug!(reason, "an admin connection was closed");
    }
}

/// Resolves when it is time to stop.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: a reason to stop as well.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

fn reason(error: &hyper::Error) -> &'static str {
    if error.is_parse() {
        "malformed"
    } else if error.is_incomplete_message() {
        "cut_short"
    } else {
        "broken"
    }
}
