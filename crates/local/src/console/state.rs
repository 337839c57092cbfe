//! The current state: open connections, active faults and dead letters.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};

use super::Console;
use super::record::kept;
use super::redact::redact_value;
use crate::websocket::OpenConnection;

/// The newest connections that are listed.
const MAX_CONNECTIONS: usize = 200;

/// The newest dead letters that the page shows.
const MAX_DEAD_LETTERS: usize = 20;

/// A connection, and what the stack's tables say about it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConnectionState {
    #[serde(flatten)]
    connection: OpenConnection,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    channels: Vec<String>,
}

/// Serves `GET /_local/connections`.
pub(super) async fn connections(State(console): State<Console>) -> Json<Value> {
    Json(console.connections().await)
}

impl Console {
    pub(super) async fn state(&self) -> Value {
        json!({
            "connections": self.connections().await,
            "faults": self.sources.faults.to_json(),
            "deadLetters": self.dead_letters(),
        })
    }

    async fn connections(&self) -> Value {
        let mut open = self.sources.api.open_connections();
        let total = open.len();
        open.sort_by(|a, b| (b.connected_at_ms, &b.id).cmp(&(a.connected_at_ms, &a.id)));
        open.truncate(MAX_CONNECTIONS);
        let ids = open.iter().map(|one| one.id.clone()).collect();
        let mut about = self.directory.about(ids).await;
        let list = open.into_iter().map(|connection| {
            let rows = about.remove(&connection.id).unwrap_or_default();
            ConnectionState {
                connection,
                user_id: rows.user_id,
                channels: rows.channels.into_iter().collect(),
            }
        });
        json!({"total": total, "newest": list.collect::<Vec<_>>()})
    }

    /// Letters are large, so they are read only when there is a new one.
    fn dead_letters(&self) -> Value {
        let added = self.sources.dead_letters.added();
        let mut shown = self.dead_letters.lock().expect("nobody panics with it");
        if shown.0 != added || shown.1.is_null() {
            *shown = (added, self.newest_dead_letters());
        }
        shown.1.clone()
    }

    fn newest_dead_letters(&self) -> Value {
        let (total, newest) = self.sources.dead_letters.newest(MAX_DEAD_LETTERS);
        let newest = newest.iter().map(|letter| {
            let record = &letter["record"];
            let shown = |part: &Value| {
                let mut part = part.clone();
                redact_value(&mut part);
                kept(&part.to_string())
            };
            json!({
                "function": letter["function"],
                "at": record["timestamp"],
                "condition": record["requestContext"]["condition"],
                "attempts": record["requestContext"]["approximateInvokeCount"],
                "request": shown(&record["requestPayload"]),
                "response": shown(&record["responsePayload"]),
            })
        });
        json!({"total": total, "newest": newest.collect::<Vec<_>>()})
    }
}
