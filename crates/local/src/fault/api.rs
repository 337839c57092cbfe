//! `/_local/faults`: puts faults into force and ends them while the stack runs.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::{Description, Faults};

/// GET lists, POST adds, DELETE ends one or all.
pub(crate) fn router(faults: Faults) -> Router {
    Router::new()
        .route("/_local/faults", get(list).post(add).delete(clear))
        .route("/_local/faults/{id}", delete(remove))
        .with_state(faults)
}

type Refusal = (StatusCode, Json<Value>);

fn refusal(status: StatusCode, message: &str) -> Refusal {
    (status, Json(json!({"message": message})))
}

async fn list(State(faults): State<Faults>) -> Json<Value> {
    let list: Vec<_> = faults.list().iter().map(|active| active.told()).collect();
    Json(list.into())
}

async fn add(
    State(faults): State<Faults>,
    description: Result<Json<Description>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let Json(description) = description
        .map_err(|rejection| refusal(StatusCode::BAD_REQUEST, &rejection.body_text()))?;
    let added = faults.add(description);
    added
        .map(Json)
        .map_err(|wrong| refusal(StatusCode::BAD_REQUEST, &wrong.to_string()))
}

async fn remove(
    State(faults): State<Faults>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    if faults.remove(&id) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        let message = format!("no fault {id} is in force; GET /_local/faults lists them");
        Err(refusal(StatusCode::NOT_FOUND, &message))
    }
}

async fn clear(State(faults): State<Faults>) -> StatusCode {
    faults.clear();
    StatusCode::NO_CONTENT
}
