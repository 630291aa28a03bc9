//! What the admin port changes about a cluster.

use std::sync::Arc;

use amaters_cluster_core::{EntryId, KeyVersion, LogIndex, NodeId, Term};
use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::encryption::RotateRequest;
use super::routes::{CHANGE, Desk, StatusSource, error};
use super::view::StatusView;
use crate::error::RaftError;
use crate::snapshots::{SnapshotStoreError, read_file};

/// The body of `POST /transfer`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    /// The node that is to lead; null for the best.
    to: Option<u64>,
}

pub(super) async fn transfer<S: StatusSource>(
    State(desk): State<Arc<Desk<S>>>,
    body: Result<Option<Json<Transfer>>, JsonRejection>,
) -> Response {
    let to = match body {
        Ok(body) => body.map_or_else(Transfer::default, |Json(body)| body).to,
        Err(refusal) => return error(refusal.status(), &format!("expected {{\"to\": ID}} or nothing: {}", refusal.body_text())),
    };
    if let Err(reason) = desk.source.transfer(to.map(NodeId)).await {
        return refuse(&reason);
    }
    let leader = desk.source.status().await.ok().map(|status| status.leader.0);
    Json(json!({ "leader": leader })).into_response()
}

/// It goes on when nobody waits for it any more: the status tells what came of it.
pub(super) async fn rotate_key<S: StatusSource>(
    State(desk): State<Arc<Desk<S>>>,
    body: Result<Json<RotateRequest>, JsonRejection>,
) -> Response {
    // JSON alone: a page in a browser can't send that without being asked first.
    let version = match body {
        Ok(Json(body)) => body.version,
        Err(refusal) => return error(refusal.status(), &format!("expected {{\"version\": NUMBER}} or {{}}: {}", refusal.body_text())),
    };
    match timeout(CHANGE, desk.source.rotate_key(version.map(KeyVersion))).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => return refuse(&reason),
        Err(_) => return (StatusCode::ACCEPTED, Json(json!({ "under_way": true }))).into_response(),
    }
    match desk.source.status().await {
        Ok(status) => Json(StatusView::new(&status, &desk.info).encryption).into_response(),
        Err(reason) => error(StatusCode::SERVICE_UNAVAILABLE, &reason.to_string()),
    }
}

/// It goes on when nobody waits for it any more: the status tells what came of it.
pub(super) async fn take_snapshot<S: StatusSource>(State(desk): State<Arc<Desk<S>>>) -> Response {
    match timeout(CHANGE, desk.source.take_snapshot()).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => return refuse(&reason),
        Err(_) => return (StatusCode::ACCEPTED, Json(json!({ "under_way": true }))).into_response(),
    }
    match desk.source.status().await {
        Ok(status) => Json(StatusView::new(&status, &desk.info).snapshot).into_response(),
        Err(reason) => error(StatusCode::SERVICE_UNAVAILABLE, &reason.to_string()),
    }
}

/// The longest part of a snapshot in an answer: little enough for a slow line to take within the time for a request.
const PART_BYTES: usize = 1 << 20;

/// A part of a complete snapshot, as it is stored. There is no other way to get a large one: an answer must not take long.
pub(super) async fn snapshot_part<S: StatusSource>(
    State(desk): State<Arc<Desk<S>>>,
    place: Result<UrlPath<(u64, u64, u64)>, PathRejection>,
) -> Response {
    let Ok(UrlPath((index, term, offset))) = place else {
        return error(StatusCode::BAD_REQUEST, "expected /snapshots/INDEX/TERM/OFFSET, all of them numbers");
    };
    let Some(dir) = desk.info.snapshots.clone() else { return error(StatusCode::GONE, "this node's snapshots are not in files") };
    let id = EntryId { index: LogIndex(index), term: Term(term) };
    match spawn_blocking(move || read_file(&dir, id, offset, PART_BYTES)).await {
        Ok(Ok(bytes)) => ([(CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        Ok(Err(missing @ SnapshotStoreError::Missing { .. })) => error(StatusCode::GONE, &missing.to_string()),
        Ok(Err(reason)) => error(StatusCode::INTERNAL_SERVER_ERROR, &reason.to_string()),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "a thread was lost"),
    }
}

/// Says why a change did not happen, and with the code whether to go elsewhere, to ask for another one, or to come again.
fn refuse(reason: &RaftError) -> Response {
    match reason {
        RaftError::NotLeader { leader } => {
            let leader = leader.map(|leader| leader.0);
            (StatusCode::MISDIRECTED_REQUEST, Json(json!({ "error": reason.to_string(), "leader": leader }))).into_response()
        }
        RaftError::ShuttingDown | RaftError::UnknownOutcome { .. } => error(StatusCode::SERVICE_UNAVAILABLE, &reason.to_string()),
        RaftError::KeyNotHeld => come_again(reason, "key-not-held"),
        RaftError::KeysBeingRead => come_again(reason, "keys-being-read"),
        RaftError::Keys(source) => error(StatusCode::CONFLICT, &source.to_string()),
        _ => error(StatusCode::CONFLICT, &reason.to_string()),
    }
}

/// With a word for programs, which ask again by themselves.
fn come_again(reason: &RaftError, word: &str) -> Response {
    (StatusCode::CONFLICT, Json(json!({ "error": reason.to_string(), "reason": word }))).into_response()
}
