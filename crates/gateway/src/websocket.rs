//! API Gateway's side of a WebSocket API: handshakes, sockets, routes and the
//! management API.

mod connection;
mod event;
mod handshake;
mod management;
mod registry;
mod route;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::lambda::Lambda;
use crate::template::Api;
use registry::Registry;

/// What every handler of the WebSocket API shares.
#[derive(Clone)]
pub(crate) struct WebSocketApi {
    inner: Arc<Inner>,
}

struct Inner {
    api: Api,
    lambda: Lambda,
    connections: Registry,
    address: SocketAddr,
}

impl WebSocketApi {
    /// The API on this address, with its functions.
    pub(crate) fn new(api: Api, lambda: Lambda, address: SocketAddr) -> Self {
        let inner = Inner {
            api,
            lambda,
            connections: Registry::default(),
            address,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The routes of the WebSocket URL and of the management API.
    pub(crate) fn router(self) -> Router {
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
            .with_state(self)
    }
}
