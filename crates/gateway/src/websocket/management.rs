//! The management API: `@connections`.

use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::WebSocketApi;
use super::connection::{Connection, End, NotSent};
use crate::ids;
use std::sync::Arc;

/// API Gateway's limit for a message, in bytes.
const MAX_MESSAGE_BYTES: usize = 128 * 1024;

/// Sends a message to a connection.
pub(super) async fn post(
    State(api): State<WebSocketApi>,
    Path((stage, id)): Path<(String, String)>,
    body: Body,
) -> Response<Body> {
    let connection = match api.find(&stage, &id) {
        Ok(connection) => connection,
        Err(refusal) => return refusal,
    };
    let Ok(body) = to_bytes(body, MAX_MESSAGE_BYTES).await else {
        return error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "PayloadTooLargeException",
            Some("Payload too large"),
        );
    };
    match connection.try_send(String::from_utf8_lossy(&body).into_owned()) {
        Ok(()) => empty(StatusCode::OK),
        Err(NotSent::Full) => error(
            StatusCode::TOO_MANY_REQUESTS,
            "LimitExceededException",
            Some("Rate limit exceeded"),
        ),
        Err(NotSent::Gone) => gone(),
    }
}

/// Tells about a connection.
pub(super) async fn get(
    State(api): State<WebSocketApi>,
    Path((stage, id)): Path<(String, String)>,
) -> Response<Body> {
    let connection = match api.find(&stage, &id) {
        Ok(connection) => connection,
        Err(refusal) => return refusal,
    };
    let mut identity = json!({"sourceIp": connection.peer.source_ip});
    if let Some(agent) = &connection.peer.user_agent {
        identity["userAgent"] = agent.as_str().into();
    }
    json_body(
        StatusCode::OK,
        &json!({
            "identity": identity,
            "connectedAt": iso(connection.peer.connected_at_ms),
            "lastActiveAt": iso(connection.last_active_ms()),
        }),
    )
}

/// Closes a connection; `$disconnect` follows.
pub(super) async fn delete(
    State(api): State<WebSocketApi>,
    Path((stage, id)): Path<(String, String)>,
) -> Response<Body> {
    let connection = match api.find(&stage, &id) {
        Ok(connection) => connection,
        Err(refusal) => return refusal,
    };
    // From here on the connection is gone for everyone, however slowly the
    // client reads what is on its way.
    api.inner.connections.remove(&id);
    tokio::spawn(async move { connection.close(End::normal()).await });
    empty(StatusCode::NO_CONTENT)
}

impl WebSocketApi {
    #[expect(clippy::result_large_err, reason = "the error is the response")]
    fn find(&self, stage: &str, id: &str) -> Result<Arc<Connection>, Response<Body>> {
        if stage != self.inner.api.stage {
            return Err(error(
                StatusCode::FORBIDDEN,
                "ForbiddenException",
                Some("Forbidden"),
            ));
        }
        if !ids::is_connection(id) {
            let message = format!("Invalid connectionId: {id}");
            return Err(error(
                StatusCode::BAD_REQUEST,
                "BadRequestException",
                Some(&message),
            ));
        }
        self.inner.connections.get(id).ok_or_else(gone)
    }
}

fn gone() -> Response<Body> {
    error(StatusCode::GONE, "GoneException", None)
}

fn error(status: StatusCode, kind: &'static str, message: Option<&str>) -> Response<Body> {
    let mut response = match message {
        Some(message) => json_body(status, &json!({"message": message})),
        None => empty(status),
    };
    response
        .headers_mut()
        .insert("x-amzn-errortype", HeaderValue::from_static(kind));
    response
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
