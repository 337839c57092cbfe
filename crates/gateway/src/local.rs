//! What the local stack has beside AWS's APIs: tokens.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::issuer::{Issuer, POOL, TokenRequest, Tokens};

/// The issuer's keys, and `POST /_local/tokens`.
pub(crate) fn router(issuer: Issuer) -> Router {
    Router::new()
        .route(&format!("/{POOL}/.well-known/jwks.json"), get(jwks))
        .route("/_local/tokens", post(tokens))
        .with_state(issuer)
}

async fn jwks(State(issuer): State<Issuer>) -> Json<Value> {
    Json(issuer.jwks())
}

async fn tokens(
    State(issuer): State<Issuer>,
    Json(request): Json<TokenRequest>,
) -> Result<Json<Tokens>, (StatusCode, Json<Value>)> {
    issuer.issue(&request).map(Json).map_err(|error| {
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            Json(json!({"message": error.to_string()})),
        )
    })
}
