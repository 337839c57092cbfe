//! `POST /_local/publish`: a page cannot publish by itself, because `$connect`
//! decides which origins may open a socket. So the stack does it, as
//! `belfry publish` does.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::Console;
use crate::client::{self, Publication};
use crate::issuer::{DEFAULT_TTL, TokenRequest};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishRequest {
    user: String,
    channel: String,
    kind: String,
    data: Box<RawValue>,
}

/// Answers with the frame that the user's client would get: `published` or
/// `error`.
pub(super) async fn publish(
    State(console): State<Console>,
    request: Result<Json<PublishRequest>, JsonRejection>,
) -> Result<Json<Box<RawValue>>, (StatusCode, Json<Value>)> {
    let refused = |status, message: String| (status, Json(json!({"message": message})));
    let Json(request) =
        request.map_err(|rejection| refused(rejection.status(), rejection.body_text()))?;
    let internal = |message| refused(StatusCode::INTERNAL_SERVER_ERROR, message);
    let tokens = console.sources.issuer.issue(&TokenRequest {
        user: request.user,
        ttl: DEFAULT_TTL,
        groups: Vec::new(),
        claims: Map::new(),
    });
    let tokens = tokens.map_err(|error| internal(error.to_string()))?;
    let publication = Publication {
        channel: &request.channel,
        kind: &request.kind,
        data: &request.data,
    };
    let url = &console.sources.ready.websocket;
    let reply = client::publish_as(url, tokens.access_token, &publication).await;
    let reply = reply.map_err(|error| refused(StatusCode::BAD_GATEWAY, error.to_string()))?;
    let reply = RawValue::from_string(reply);
    reply.map(Json).map_err(|error| internal(error.to_string()))
}
