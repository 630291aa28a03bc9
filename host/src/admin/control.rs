//! What the admin port changes about a cluster.

use std::sync::Arc;

use amaters_cluster_core::NodeId;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::routes::{Desk, StatusSource, error};
use crate::error::RaftError;

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

/// Says why a change did not happen, and with the code whether to go elsewhere, to ask for another one, or to come again.
fn refuse(reason: &RaftError) -> Response {
    match reason {
        RaftError::NotLeader { leader } => {
            let leader = leader.map(|leader| leader.0);
            (StatusCode::MISDIRECTED_REQUEST, Json(json!({ "error": reason.to_string(), "leader": leader }))).into_response()
        }
        RaftError::ShuttingDown | RaftError::UnknownOutcome { .. } => error(StatusCode::SERVICE_UNAVAILABLE, &reason.to_string()),
        _ => error(StatusCode::CONFLICT, &reason.to_string()),
    }
}
