//! The local stack's own API beside AWS's: its URLs, tokens and dead letters.
//! Faults are in [`crate::fault`].

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::issuer::{Issuer, MAX_TTL, POOL, TokenRequest, Tokens};
use crate::lambda::DeadLetters;
use crate::ready::Ready;

/// Serves the issuer's keys and discovery document, `POST /_local/tokens`,
/// `GET /_local/dead-letters` and `GET /_local/stack`.
pub(crate) fn router(issuer: Issuer, dead_letters: DeadLetters, ready: Ready) -> Router {
    let letters = Router::new()
        .route("/_local/dead-letters", get(list_dead_letters))
        .with_state(dead_letters);
    Router::new()
        .route(&format!("/{POOL}/.well-known/jwks.json"), get(jwks))
        .route(
            &format!("/{POOL}/.well-known/openid-configuration"),
            get(openid_configuration),
        )
        .route("/_local/tokens", post(tokens))
        .route("/_local/stack", get(async move || Json(ready)))
        .with_state(issuer)
        .merge(letters)
}

async fn list_dead_letters(State(letters): State<DeadLetters>) -> Json<Vec<Value>> {
    Json(letters.list())
}

async fn jwks(State(issuer): State<Issuer>) -> Json<Value> {
    Json(issuer.jwks())
}

async fn openid_configuration(State(issuer): State<Issuer>) -> Json<Value> {
    Json(issuer.openid_configuration())
}

async fn tokens(
    State(issuer): State<Issuer>,
    Json(request): Json<TokenRequest>,
) -> Result<Json<Tokens>, (StatusCode, Json<Value>)> {
    let refused = |status, message: String| (status, Json(json!({"message": message})));
    if request.ttl > MAX_TTL {
        return Err(refused(
            StatusCode::BAD_REQUEST,
            format!(
                "ttl must be at most {MAX_TTL} seconds: no token of Cognito is valid for longer than a day"
            ),
        ));
    }
    issuer
        .issue(&request)
        .map(Json)
        .map_err(|error| refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}
