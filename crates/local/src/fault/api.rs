//! `/_local/faults`: activates and ends faults while the stack runs.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::{FaultSpec, Faults};

pub(crate) fn router(faults: Faults) -> Router {
    Router::new()
        .route("/_local/faults", get(list).post(add).delete(clear))
        .route("/_local/faults/{id}", delete(remove))
        .with_state(faults)
}

type ApiError = (StatusCode, Json<Value>);

fn error(status: StatusCode, message: &str) -> ApiError {
    (status, Json(json!({"message": message})))
}

async fn list(State(faults): State<Faults>) -> Json<Value> {
    Json(faults.to_json())
}

async fn add(
    State(faults): State<Faults>,
    spec: Result<Json<FaultSpec>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(spec) =
        spec.map_err(|rejection| error(StatusCode::BAD_REQUEST, &rejection.body_text()))?;
    let added = faults.add(spec);
    added
        .map(Json)
        .map_err(|invalid| error(StatusCode::BAD_REQUEST, &invalid.to_string()))
}

async fn remove(
    State(faults): State<Faults>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    if faults.remove(&id) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        let message = format!("there is no fault {id}; GET /_local/faults lists the active faults");
        Err(error(StatusCode::NOT_FOUND, &message))
    }
}

async fn clear(State(faults): State<Faults>) -> StatusCode {
    faults.clear();
    StatusCode::NO_CONTENT
}
