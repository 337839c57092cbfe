//! API Gateway's part: handshakes, sockets, routes and the management API.

mod assumed;
mod connection;
mod event;
mod handshake;
mod limits;
mod management;
mod other_path;
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

use crate::console::Recorder;
use crate::fault::Faults;
use crate::lambda::Lambda;
use crate::template::ApiSpec;
use connection::CloseStatus;
pub(crate) use connection::OpenConnection;
pub(crate) use handshake::is_upgrade;
pub(crate) use limits::Limits;
use registry::ConnectionRegistry;

/// How long a stopping stack waits for at least one more connection to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Concurrent `$disconnect` invocations. No caller waits for one, and API Gateway
/// does not promise when it runs; but thousands at once would wait for each other
/// longer than the integration timeout.
const MAX_CONCURRENT_DISCONNECTS: usize = 100;

/// The WebSocket API; its handlers share it.
#[derive(Clone)]
pub(crate) struct WebSocketApi {
    inner: Arc<ApiState>,
}

struct ApiState {
    api: ApiSpec,
    lambda: Lambda,
    limits: Limits,
    faults: Faults,
    recorder: Recorder,
    connections: ConnectionRegistry,
    /// One task for each connection, from the handshake to its `$disconnect`.
    connection_tasks: TaskTracker,
    disconnects: Semaphore,
    stopping: CancellationToken,
    address: SocketAddr,
}

impl WebSocketApi {
    pub(crate) fn new(
        api: ApiSpec,
        lambda: Lambda,
        limits: Limits,
        faults: Faults,
        recorder: Recorder,
        address: SocketAddr,
    ) -> Self {
        let inner = ApiState {
            api,
            lambda,
            limits,
            faults,
            recorder,
            connections: ConnectionRegistry::default(),
            connection_tasks: TaskTracker::new(),
            disconnects: Semaphore::new(MAX_CONCURRENT_DISCONNECTS),
            stopping: CancellationToken::new(),
            address,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Serves the WebSocket URL and the management API.
    pub(crate) fn router(&self) -> Router {
        let management = || {
            post(management::post)
                .get(management::get)
                .delete(management::delete)
        };
        Router::new()
            .route("/{stage}", get(handshake::handle))
            .route("/{stage}/", get(handshake::handle))
            // Some clients escape the @, and some endpoints end in a slash.
            .route("/{stage}/@connections/{id}", management())
            .route("/{stage}/%40connections/{id}", management())
            .route("/{stage}//@connections/{id}", management())
            .route("/{stage}//%40connections/{id}", management())
            .fallback(other_path::handle)
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(self.clone())
    }

    /// The open connections, in no order.
    pub(crate) fn open_connections(&self) -> Vec<OpenConnection> {
        let open = self.inner.connections.all();
        open.iter()
            .map(|connection| connection.describe())
            .collect()
    }

    /// Refuses new connections, closes every open one with 1001, and waits for
    /// each `$disconnect` as long as there is progress.
    pub(crate) async fn stop(&self) {
        self.inner.stopping.cancel();
        let open = self.inner.connections.all();
        if !open.is_empty() {
            tracing::info!(
                "closing {} connections and running their $disconnect; press Ctrl-C again to stop at once",
                open.len()
            );
        }
        for connection in open {
            connection.terminate(CloseStatus::going_away());
        }
        self.inner.connection_tasks.close();
        let mut left = self.inner.connection_tasks.len();
        while tokio::time::timeout(STOP_TIMEOUT, self.inner.connection_tasks.wait())
            .await
            .is_err()
        {
            // Thousands may take long. While some end, the rest may still end too.
            let before = std::mem::replace(&mut left, self.inner.connection_tasks.len());
            if left >= before {
                tracing::warn!("{left} connections did not end in time");
                return;
            }
        }
    }
}
