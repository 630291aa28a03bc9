//! What the admin port answers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use amaters_cluster_core::{KeyVersion, MembershipChange, NodeId, Status};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::time::timeout;

use super::control;
use super::members::{ChangeRequest, MembersView};
use super::metrics::Metrics;
use super::view::{NodeInfo, StatusView};
use crate::error::{RaftError, RaftResult};

/// How long the node's loop may take to report its status before it counts as stuck.
const ANSWER: Duration = Duration::from_secs(1);

/// How long an answer waits for a change of the members or a snapshot: less than a request may take.
pub(super) const CHANGE: Duration = Duration::from_secs(8);

/// The largest body of a request.
const BODY_BYTES: usize = 64 << 10;

/// Who knows a node's status, and can change its cluster.
pub trait StatusSource: Clone + Send + Sync + 'static {
    /// Asks the node's loop.
    fn status(&self) -> impl Future<Output = RaftResult<Status>> + Send;

    /// Has the node hand over, and waits for the outcome.
    fn transfer(&self, to: Option<NodeId>) -> impl Future<Output = RaftResult<()>> + Send;

    /// Has the node take a snapshot, and waits for it.
    fn take_snapshot(&self) -> impl Future<Output = RaftResult<()>> + Send;

    /// Has the node, which has to be the leader, seal with this version of the key; with the newest that there is, unless one is named.
    fn rotate_key(&self, version: Option<KeyVersion>) -> impl Future<Output = RaftResult<()>> + Send;

    /// Asks the node, which has to be the leader, for other members.
    fn change_membership(&self, change: MembershipChange) -> impl Future<Output = RaftResult<()>> + Send;
}

/// What the routes work with.
pub(super) struct Desk<S> {
    pub(super) source: S,
    pub(super) info: NodeInfo,
    pub(super) metrics: Arc<Metrics>,
}

impl<S: StatusSource> Desk<S> {
    /// A fresh status, or why there is none.
    async fn status(&self) -> Result<Status, String> {
        match timeout(ANSWER, self.source.status()).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the node's loop did not answer within {} s", ANSWER.as_secs())),
        }
    }
}

type Shared<S> = State<Arc<Desk<S>>>;

pub(super) fn router<S: StatusSource>(desk: Arc<Desk<S>>) -> Router {
    Router::new()
        .route("/status", get(status::<S>))
        .route("/healthz", get(healthz::<S>))
        .route("/readyz", get(readyz::<S>))
        .route("/members", get(members::<S>).post(change_members::<S>))
        .route("/metrics", get(metrics::<S>))
        .route("/transfer", post(control::transfer::<S>))
        .route("/keys/rotate", post(control::rotate_key::<S>))
        .route("/snapshots", post(control::take_snapshot::<S>))
        .route("/snapshots/{index}/{term}/{offset}", get(control::snapshot_part::<S>))
        .fallback(|| async {
            error(StatusCode::NOT_FOUND, "expected /status, /members, /healthz, /readyz, /metrics, /transfer, /keys/rotate or /snapshots")
        })
        .method_not_allowed_fallback(|| async {
            error(StatusCode::METHOD_NOT_ALLOWED, "expected GET; POST for /transfer, /members, /keys/rotate and /snapshots")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(from_fn_with_state(Arc::clone(&desk), guard::<S>))
        .with_state(desk)
}

async fn status<S: StatusSource>(State(desk): Shared<S>) -> Response {
    match desk.status().await {
        Ok(status) => Json(StatusView::new(&status, &desk.info)).into_response(),
        Err(reason) => error(StatusCode::SERVICE_UNAVAILABLE, &reason),
    }
}

async fn members<S: StatusSource>(State(desk): Shared<S>) -> Response {
    match desk.status().await {
        Ok(status) => Json(MembersView::new(&status, &desk.info.cluster)).into_response(),
        Err(reason) => error(StatusCode::SERVICE_UNAVAILABLE, &reason),
    }
}

/// A change goes on when nobody waits for it any more: asking again tells what came of it.
async fn change_members<S: StatusSource>(State(desk): Shared<S>, request: Request) -> Response {
    // A page in a browser can't send this without being asked first: nobody changes members by a link.
    let is_json = request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json {
        return error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected content-type: application/json");
    }
    let Ok(body) = axum::body::to_bytes(request.into_body(), BODY_BYTES).await else {
        return error(StatusCode::PAYLOAD_TOO_LARGE, &format!("expected a body of at most {BODY_BYTES} bytes"));
    };
    let wanted: ChangeRequest = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(reason) => {
            let expected = "a change such as {\"change\":\"add\",\"id\":4,\"address\":\"HOST:PORT\"}";
            return error(StatusCode::BAD_REQUEST, &format!("expected {expected}: {reason}"));
        }
    };
    match timeout(CHANGE, desk.source.change_membership(wanted.into())).await {
        Ok(Ok(())) => members(State(desk)).await,
        Ok(Err(reason)) => refused(&reason),
        Err(_) => (StatusCode::ACCEPTED, Json(json!({ "under_way": true }))).into_response(),
    }
}

fn refused(reason: &RaftError) -> Response {
    match reason {
        RaftError::NotLeader { leader } => {
            (StatusCode::MISDIRECTED_REQUEST, Json(json!({ "error": reason.to_string(), "leader": leader.map(|leader| leader.0) })))
                .into_response()
        }
        RaftError::AlreadyMember | RaftError::NotMember | RaftError::MemberLimits | RaftError::NotCaughtUp => {
            (StatusCode::BAD_REQUEST, Json(json!({ "error": reason.to_string(), "reason": reason_name(reason) }))).into_response()
        }
        _ => error(StatusCode::SERVICE_UNAVAILABLE, &reason.to_string()),
    }
}

/// The reason's name for programs.
fn reason_name(reason: &RaftError) -> &'static str {
    match reason {
        RaftError::AlreadyMember => "already-member",
        RaftError::NotMember => "not-member",
        RaftError::NotCaughtUp => "not-caught-up",
        _ => "limits",
    }
}

/// Whether the process is worth keeping: the node's loop answers.
async fn healthz<S: StatusSource>(State(desk): Shared<S>) -> (StatusCode, String) {
    verdict(desk.status().await.map(drop))
}

/// Whether clients are worth sending here.
async fn readyz<S: StatusSource>(State(desk): Shared<S>) -> (StatusCode, String) {
    verdict(desk.status().await.and_then(|status| ready(&status)))
}

async fn metrics<S: StatusSource>(State(desk): Shared<S>) -> Response {
    match desk.metrics.render(desk.status().await.ok().as_ref()) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(reason) => error(StatusCode::INTERNAL_SERVER_ERROR, &reason.to_string()),
    }
}

fn ready(status: &Status) -> Result<(), String> {
    if status.leader.is_none() {
        return Err(format!("no leader is known in term {}", status.term));
    }
    if status.applied_index < status.commit_index {
        return Err(format!("applied up to {}: {} is committed", status.applied_index, status.commit_index));
    }
    Ok(())
}

fn verdict(outcome: Result<(), String>) -> (StatusCode, String) {
    match outcome {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

pub(super) fn error(code: StatusCode, reason: &str) -> Response {
    (code, Json(json!({ "error": reason }))).into_response()
}

/// Refuses large bodies, and counts answers.
async fn guard<S: StatusSource>(State(desk): Shared<S>, request: Request, next: Next) -> Response {
    let response = if announced(request.headers()) > BODY_BYTES as u64 {
        error(StatusCode::PAYLOAD_TOO_LARGE, &format!("expected a body of at most {BODY_BYTES} bytes"))
    } else {
        next.run(request).await
    };
    desk.metrics.answered(response.status().as_u16());
    response
}

/// The body's announced length. hyper has checked that it is a number; where it is in chunks instead, the connection ends unread.
fn announced(headers: &HeaderMap) -> u64 {
    headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()).and_then(|length| length.parse().ok()).unwrap_or(0)
}
