//! The management API: `@connections`.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::WebSocketApi;
use super::connection::{CloseStatus, Connection, SendError};
use super::limits::MAX_MESSAGE_BYTES;
use crate::fault::PostFault;
use crate::ids;

/// The most that is read of a post. A refusal before the end of the request would
/// reach the caller as a connection reset.
const MAX_READ_BYTES: usize = 10 * 1024 * 1024;

pub(super) enum ManagementError {
    Forbidden,
    Malformed(String),
    Gone,
    TooLarge,
    Throttled,
    ServerError,
}

impl IntoResponse for ManagementError {
    fn into_response(self) -> Response<Body> {
        let (status, error_type, message) = match self {
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "ForbiddenException",
                "Forbidden".to_owned(),
            ),
            Self::Malformed(id) => {
                let message = format!("Invalid connectionId: {id}");
                (StatusCode::BAD_REQUEST, "BadRequestException", message)
            }
            Self::Gone => (StatusCode::GONE, "GoneException", String::new()),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "PayloadTooLargeException",
                "Payload too large".to_owned(),
            ),
            Self::Throttled => (
                StatusCode::TOO_MANY_REQUESTS,
                "LimitExceededException",
                "Rate limit exceeded".to_owned(),
            ),
            Self::ServerError => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalServerErrorException",
                "Internal server error".to_owned(),
            ),
        };
        // API Gateway's 410 has no body.
        let mut response = if message.is_empty() {
            empty(status)
        } else {
            json_body(status, &json!({"message": message}))
        };
        response
            .headers_mut()
            .insert("x-amzn-errortype", HeaderValue::from_static(error_type));
        response
    }
}

/// Sends a message to a connection.
pub(super) async fn post(
    State(api): State<WebSocketApi>,
    Path((stage, id)): Path<(String, String)>,
    body: Body,
) -> Result<Response<Body>, ManagementError> {
    let connection = api.find(&stage, &id)?;
    let body = to_bytes(body, MAX_READ_BYTES).await;
    let body = body.map_err(|_| ManagementError::TooLarge)?;
    // Invalid UTF-8 grows when it is replaced, so the limit applies to the text.
    let text = String::from_utf8_lossy(&body).into_owned();
    if text.len() > MAX_MESSAGE_BYTES {
        return Err(ManagementError::TooLarge);
    }
    match api.inner.faults.on_post(&id) {
        None => {}
        Some(PostFault::Gone) => return Err(ManagementError::Gone),
        Some(PostFault::Throttled) => return Err(ManagementError::Throttled),
        Some(PostFault::ServerError) => return Err(ManagementError::ServerError),
        // The caller times out and drops this request.
        Some(PostFault::Silence) => std::future::pending().await,
    }
    match connection.try_send(text) {
        Ok(()) => Ok(empty(StatusCode::OK)),
        Err(SendError::BufferFull) => Err(ManagementError::Throttled),
        Err(SendError::Gone) => Err(ManagementError::Gone),
    }
}

/// Describes a connection.
pub(super) async fn get(
    State(api): State<WebSocketApi>,
    Path((stage, id)): Path<(String, String)>,
) -> Result<Response<Body>, ManagementError> {
    let connection = api.find(&stage, &id)?;
    let mut identity = json!({"sourceIp": connection.peer.source_ip});
    if let Some(agent) = &connection.peer.user_agent {
        identity["userAgent"] = agent.as_str().into();
    }
    let description = json!({
        "identity": identity,
        "connectedAt": iso(connection.peer.connected_at_ms),
        "lastActiveAt": iso(connection.last_active_ms()),
    });
    Ok(json_body(StatusCode::OK, &description))
}

/// Closes a connection; `$disconnect` follows.
pub(super) async fn delete(
    State(api): State<WebSocketApi>,
    Path((stage, id)): Path<(String, String)>,
) -> Result<Response<Body>, ManagementError> {
    let connection = api.find(&stage, &id)?;
    // The connection is gone for every caller now, even if the client is slow to
    // read its last messages.
    api.inner.connections.remove(&id);
    tokio::spawn(async move { connection.close(CloseStatus::normal()).await });
    Ok(empty(StatusCode::NO_CONTENT))
}

impl WebSocketApi {
    fn find(&self, stage: &str, id: &str) -> Result<Arc<Connection>, ManagementError> {
        if !self.inner.limits.requests.allows() {
            return Err(ManagementError::Throttled);
        }
        if stage != self.inner.api.stage {
            return Err(ManagementError::Forbidden);
        }
        if !ids::is_connection_id(id) {
            return Err(ManagementError::Malformed(id.to_owned()));
        }
        self.inner.connections.get(id).ok_or(ManagementError::Gone)
    }
}

fn json_body(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/json"));
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn iso(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
    format!("{time:.3}")
}
