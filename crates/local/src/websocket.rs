//! API Gateway's side of a WebSocket API: handshakes, sockets, routes and the
//! management API.

mod assumed;
mod connection;
mod event;
mod handshake;
mod limits;
mod management;
mod registry;
mod route;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fault::Faults;
use crate::lambda::Lambda;
use crate::template::Api;
use connection::End;
pub(crate) use limits::Limits;
use registry::Registry;

/// How long the stack waits, when it stops, for one more connection to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How many `$disconnect`s are under way at a time. Nobody waits for one and
/// API Gateway promises no moment for it; thousands at once would wait for
/// each other longer than an integration may take.
const DISCONNECTS_AT_A_TIME: usize = 100;

/// What every handler of the WebSocket API shares.
#[derive(Clone)]
pub(crate) struct WebSocketApi {
    inner: Arc<Inner>,
}

struct Inner {
    api: Api,
    lambda: Lambda,
    limits: Limits,
    faults: Faults,
    connections: Registry,
    /// The life of each connection, from the handshake to its `$disconnect`.
    lives: TaskTracker,
    disconnects: Semaphore,
    stopping: CancellationToken,
    address: SocketAddr,
}

impl WebSocketApi {
    /// The API on this address, with its functions.
    pub(crate) fn new(
        api: Api,
        lambda: Lambda,
        limits: Limits,
        faults: Faults,
        address: SocketAddr,
    ) -> Self {
        let inner = Inner {
            api,
            lambda,
            limits,
            faults,
            connections: Registry::default(),
            lives: TaskTracker::new(),
            disconnects: Semaphore::new(DISCONNECTS_AT_A_TIME),
            stopping: CancellationToken::new(),
            address,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The routes of the WebSocket URL and of the management API.
    pub(crate) fn router(&self) -> Router {
        let management = || {
            post(management::post)
                .get(management::get)
                .delete(management::delete)
        };
        Router::new()
            .route("/{stage}", get(handshake::handle))
            // Some clients escape the @.
            .route("/{stage}/@connections/{id}", management())
            .route("/{stage}/%40connections/{id}", management())
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(self.clone())
    }

    /// Lets nobody in any more, closes every connection with 1001, and waits
    /// until each `$disconnect` has run, as long as there is progress.
    pub(crate) async fn stop(&self) {
        self.inner.stopping.cancel();
        let open = self.inner.connections.all();
        if !open.is_empty() {
            tracing::info!(
                "closing {} connections and running their $disconnect; Ctrl-C again stops at once",
                open.len()
            );
        }
        for connection in open {
            connection.cut(End::going_away());
        }
        self.inner.lives.close();
        let mut left = self.inner.lives.len();
        while tokio::time::timeout(STOP_TIMEOUT, self.inner.lives.wait())
            .await
            .is_err()
        {
            // However many there are: as long as some end, the rest may.
            let before = std::mem::replace(&mut left, self.inner.lives.len());
            if left >= before {
                tracing::warn!("{left} connections did not end in time");
                return;
            }
        }
    }
}
