//! The console at `/_local/`: a page that shows what the stack does, for
//! developers who would rather look than read logs.
//!
//! The page is plain files. Everything that it shows comes over one stream of
//! Server-Sent Events, and everything that it does goes through the APIs that
//! tools use. While no page is open, nothing is recorded.

mod directory;
mod events;
mod page;
mod publish;
mod record;
mod recorder;
mod redact;
mod state;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::{get, post};
use serde_json::Value;

use crate::database::KeyedTables;
use crate::fault::Faults;
use crate::ids;
use crate::issuer::Issuer;
use crate::lambda::DeadLetters;
use crate::ready::Ready;
use crate::websocket::WebSocketApi;
use directory::Directory;
pub(crate) use record::Direction;
pub(crate) use recorder::Recorder;

/// What the console shows and uses.
pub(crate) struct Sources {
    pub recorder: Recorder,
    pub api: WebSocketApi,
    pub faults: Faults,
    pub dead_letters: DeadLetters,
    pub issuer: Issuer,
    pub ready: Ready,
}

/// The console; its handlers share it.
#[derive(Clone)]
struct Console {
    sources: Arc<Sources>,
    directory: Arc<Directory>,
    /// The dead letters as they are shown, and how many there had been.
    dead_letters: Arc<Mutex<(u64, Value)>>,
    /// Tells a page that the stack has been started anew.
    run: Arc<str>,
}

/// Serves the page, its events, `GET /_local/connections` and
/// `POST /_local/publish`.
pub(crate) fn router(sources: Sources, tables: KeyedTables) -> Router {
    let console = Console {
        sources: Arc::new(sources),
        directory: Arc::new(Directory::new(tables)),
        dead_letters: Arc::default(),
        run: ids::uuid().into(),
    };
    Router::new()
        .route("/_local/console/events", get(events::stream))
        .route("/_local/connections", get(state::connections))
        .route("/_local/publish", post(publish::publish))
        .with_state(console)
        .merge(page::router())
}
