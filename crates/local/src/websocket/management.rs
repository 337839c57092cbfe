//! The management API: `@connections`.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::WebSocketApi;
use super::connection::{Connection, End, NotSent};
use super::limits::MAX_MESSAGE_BYTES;
use crate::fault::PostFault;
use crate::ids;

/// How much of a post is read: a refusal before the end of what a client sends
/// would reach it as a reset.
const MAX_READ_BYTES: usize = 10 * 1024 * 1024;

/// Why a call was not served.
pub(super) enum Refusal {
    Forbidden,
    Malformed(String),
    Gone,
    TooLarge,
    Throttled,
    ServerError,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let (status, kind, message) = match self {
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
            .insert("x-amzn-errortype", HeaderValue::from_static(kind));
        response
    }
}

/// Sends a message to a connection.
pub(super) async fn post(
    State(api): State<WebSocketApi>,
    Path((stage, id)): Path<(String, String)>,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let connection = api.find(&stage, &id)?;
    let body = to_bytes(body, MAX_READ_BYTES).await;
    let body = body.map_err(|_| Refusal::TooLarge)?;
    // What is no UTF-8 grows when it is made so.
    let text = String::from_utf8_lossy(&body).into_owned();
    if text.len() > MAX_MESSAGE_BYTES {
        return Err(Refusal::TooLarge);
    }
    match api.inner.faults.on_post(&id) {
        None => {}
        Some(PostFault::Gone) => return Err(Refusal::Gone),
        Some(PostFault::Throttled) => return Err(Refusal::Throttled),
        Some(PostFault::ServerError) => return Err(Refusal::ServerError),
        // Until the caller hangs up, which ends this.
        Some(PostFault::Silence) => std::future::pending().await,
    }
    match connection.try_send(text) {
        Ok(()) => Ok(empty(StatusCode::OK)),
        Err(NotSent::Full) => Err(Refusal::Throttled),
        Err(NotSent::Gone) => Err(Refusal::Gone),
    }
}

/// Tells about a connection.
pub(super) async fn get(
    State(api): State<WebSocketApi>,
    Path((stage, id)): Path<(String, String)>,
) -> Result<Response<Body>, Refusal> {
    let connection = api.find(&stage, &id)?;
    let mut identity = json!({"sourceIp": connection.peer.source_ip});
    if let Some(agent) = &connection.peer.user_agent {
        identity["userAgent"] = agent.as_str().into();
    }
    let answer = json!({
        "identity": identity,
        "connectedAt": iso(connection.peer.connected_at_ms),
        "lastActiveAt": iso(connection.last_active_ms()),
    });
    Ok(json_body(StatusCode::OK, &answer))
}

/// Closes a connection; `$disconnect` follows.
pub(super) async fn delete(
    State(api): State<WebSocketApi>,
    Path((stage, id)): Path<(String, String)>,
) -> Result<Response<Body>, Refusal> {
    let connection = api.find(&stage, &id)?;
    // From here on the connection is gone for everyone, however slowly the
    // client reads what is on its way.
    api.inner.connections.remove(&id);
    tokio::spawn(async move { connection.close(End::normal()).await });
    Ok(empty(StatusCode::NO_CONTENT))
}

impl WebSocketApi {
    fn find(&self, stage: &str, id: &str) -> Result<Arc<Connection>, Refusal> {
        if !self.inner.limits.requests.allows() {
            return Err(Refusal::Throttled);
        }
        if stage != self.inner.api.stage {
            return Err(Refusal::Forbidden);
        }
        if !ids::is_connection(id) {
            return Err(Refusal::Malformed(id.to_owned()));
        }
        self.inner.connections.get(id).ok_or(Refusal::Gone)
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
