//! Paths that no route of the local stack has.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, Response, StatusCode};
use axum::response::IntoResponse;

use super::WebSocketApi;
use super::handshake::{self, HandshakeRefusal};
use super::management::ManagementError;

/// Refuses a handshake or a management call as API Gateway does. Any other
/// request meant no API of the local stack.
pub(super) async fn handle(State(api): State<WebSocketApi>, request: Request) -> Response<Body> {
    let path = request.uri().path();
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    if is_management(path) {
        ManagementError::Forbidden.into_response()
    } else if is_read && handshake::is_upgrade(request.headers()) {
        HandshakeRefusal::forbidden().into_response()
    } else if is_read && is_below(path, &api.inner.api.stage) {
        HandshakeRefusal::upgrade_required()
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}

fn is_management(path: &str) -> bool {
    path.split('/')
        .any(|segment| ["@connections", "%40connections"].contains(&segment))
}

fn is_below(path: &str, stage: &str) -> bool {
    path.strip_prefix('/')
        .and_then(|path| path.strip_prefix(stage))
        .is_some_and(|rest| rest.starts_with('/'))
}
