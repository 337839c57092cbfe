//! A client's handshake, which is pending until `$connect` has responded.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::header::{
    CONNECTION, CONTENT_TYPE, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE, USER_AGENT,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::OnUpgrade;
use serde_json::json;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::assumed;
use super::connection::{CloseStatus, Connection, Peer};
use super::event::{self, ApiEndpoint, GatewayEvent, HandshakeRequest};
use super::limits::MAX_URL_LENGTH;
use super::route::{CONNECT, DISCONNECT, IntegrationResult, ProxyResponse};
use super::{WebSocketApi, socket};
use crate::fault::DisconnectFault;
use crate::ids;
use crate::server::ClientInfo;

/// Hop-by-hop headers, which `$connect` does not get.
const HOP_HEADERS: [HeaderName; 2] = [CONNECTION, UPGRADE];

/// Handles a GET of the stage's path.
pub(super) async fn handle(
    State(api): State<WebSocketApi>,
    Path(stage): Path<String>,
    Extension(client): Extension<ClientInfo>,
    request: Request,
) -> Response<Body> {
    if stage != api.inner.api.stage {
        return HandshakeRefusal::forbidden().into_response();
    }
    let (mut request, _) = request.into_parts();
    let handshake = accept_key(&request.headers).zip(request.extensions.remove::<OnUpgrade>());
    let Some((accept, upgrade)) = handshake else {
        return HandshakeRefusal::upgrade_required();
    };
    if api.inner.stopping.is_cancelled() {
        return HandshakeRefusal::stopping().into_response();
    }
    let text = |name: HeaderName| {
        request
            .headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned)
    };
    let domain = text(HOST).unwrap_or_else(|| api.inner.address.to_string());
    if "ws://".len() + domain.len() + request.uri.to_string().len() > MAX_URL_LENGTH {
        return HandshakeRefusal::new(assumed::URL_TOO_LONG, "URI Too Long").into_response();
    }
    if !api.inner.limits.connects.allows() {
        tracing::warn!("handshake refused: above --connect-rate");
        return HandshakeRefusal::new(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests")
            .into_response();
    }
    let peer = Peer {
        id: ids::connection(),
        connected_at_ms: crate::clock::now_ms(),
        source_ip: client.address.ip().to_string(),
        user_agent: text(USER_AGENT),
    };
    let endpoint = ApiEndpoint { stage, domain };
    let handshake = HandshakeRequest {
        headers: headers(&request.headers, &client),
        query: Query::try_from_uri(&request.uri)
            .map(|Query(query)| query)
            .unwrap_or_default(),
        source_port: api.inner.address.port(),
    };
    let event = GatewayEvent::from(event::connect(&peer, &endpoint, &handshake));
    // One task runs the connection to its end: if the client leaves while
    // `$connect` is running, `$disconnect` still runs.
    let (decision, decided) = oneshot::channel();
    let connection = run_connection(api.clone(), peer, endpoint, event, upgrade, decision);
    api.inner.connection_tasks.spawn(connection);
    match decided.await {
        Ok(Ok(protocol)) => switching(accept, protocol),
        Ok(Err(refusal)) => refusal.into_response(),
        Err(_) => HandshakeRefusal::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
            .into_response(),
    }
}

/// The subprotocol to name, or the refusal.
type Decision = Result<Option<HeaderValue>, HandshakeRefusal>;

async fn run_connection(
    api: WebSocketApi,
    peer: Peer,
    endpoint: ApiEndpoint,
    event: GatewayEvent,
    upgrade: OnUpgrade,
    decision: oneshot::Sender<Decision>,
) {
    let decided = tokio::select! {
        result = api.invoke_route(CONNECT, &event, None) => decide(result),
        () = api.inner.stopping.cancelled() => Err(HandshakeRefusal::stopping()),
    };
    // The event contains the client's token; nothing needs it any more.
    drop(event);
    let protocol = match decided {
        Ok(protocol) => protocol,
        Err(refusal) => {
            tracing::info!(
                connection = peer.id,
                status = refusal.status.as_u16(),
                "handshake refused"
            );
            let recorder = &api.inner.recorder;
            recorder.refused(&peer.id, refusal.status.as_u16());
            // This fails if the client has already left.
            let _ = decision.send(Err(refusal));
            return;
        }
    };
    let (connection, outgoing) = Connection::new(peer);
    let connection = Arc::new(connection);
    // Registered before the client reads the 101: a post may already arrive.
    api.inner.connections.insert(Arc::clone(&connection));
    if api.inner.stopping.is_cancelled() {
        // `stop` has already terminated the connections that it found.
        connection.terminate(CloseStatus::going_away());
    }
    api.inner.recorder.connected(&connection.peer.id);
    let _ = decision.send(Ok(protocol));
    let end = match upgrade.await {
        Ok(upgraded) => {
            tracing::debug!(connection = connection.peer.id, "connected");
            socket::run(&api, &connection, &endpoint, upgraded, outgoing).await
        }
        Err(_) => {
            drop(outgoing);
            CloseStatus::assumed(assumed::LOST)
        }
    };
    api.inner.connections.remove(&connection.peer.id);
    tracing::debug!(
        connection = connection.peer.id,
        code = end.code,
        "disconnected"
    );
    let recorder = &api.inner.recorder;
    recorder.disconnected(&connection.peer.id, end.code, &end.reason);
    disconnect(&api, &connection.peer, &endpoint, &end).await;
}

/// Runs `$disconnect` once and immediately, unless a fault strikes.
async fn disconnect(api: &WebSocketApi, peer: &Peer, endpoint: &ApiEndpoint, end: &CloseStatus) {
    let event = GatewayEvent::from(event::disconnect(peer, endpoint, end));
    match api.inner.faults.on_disconnect(&peer.id) {
        None => {}
        Some(DisconnectFault::Drop) => return,
        Some(DisconnectFault::Delay(delay)) => tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = api.inner.stopping.cancelled() => {}
        },
        Some(DisconnectFault::Duplicate) => run_disconnect(api, peer, &event).await,
    }
    run_disconnect(api, peer, &event).await;
}

async fn run_disconnect(api: &WebSocketApi, peer: &Peer, event: &GatewayEvent) {
    // The semaphore is never closed.
    let _permit = api.inner.disconnects.acquire().await;
    match api.invoke_route(DISCONNECT, event, None).await {
        None | Some(IntegrationResult::Response(_)) => {}
        Some(
            IntegrationResult::Failed | IntegrationResult::NotInvoked | IntegrationResult::TimedOut,
        ) => {
            tracing::warn!(
                connection = peer.id,
                "$disconnect failed; API Gateway does not retry it"
            );
        }
    }
}

/// Without a `$connect` route every client may connect.
fn decide(result: Option<IntegrationResult>) -> Decision {
    match result {
        None => Ok(None),
        Some(IntegrationResult::Response(ProxyResponse {
            status: 200..=299,
            headers,
            ..
        })) => {
            let protocol = headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"));
            Ok(protocol.and_then(|(_, value)| HeaderValue::from_str(value).ok()))
        }
        Some(IntegrationResult::Response(ProxyResponse { status, body, .. })) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Err(HandshakeRefusal {
                status,
                body: body.unwrap_or_default(),
            })
        }
        Some(IntegrationResult::Failed) => Err(HandshakeRefusal::new(
            StatusCode::BAD_GATEWAY,
            "Internal server error",
        )),
        Some(IntegrationResult::NotInvoked) => Err(HandshakeRefusal::new(
            assumed::CONNECT_NOT_INVOKED,
            "Internal server error",
        )),
        Some(IntegrationResult::TimedOut) => Err(HandshakeRefusal::new(
            assumed::CONNECT_TIMED_OUT,
            "Endpoint request timed out",
        )),
    }
}

/// Whether the client asks to switch to WebSocket. A page cannot set these
/// headers on any other request.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    has(headers, CONNECTION, "upgrade") && has(headers, UPGRADE, "websocket")
}

/// Whether a list of tokens in a header contains this one.
fn has(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// The accept key, if this is a WebSocket handshake with one key of 16 bytes
/// (RFC 6455, section 4.2.1).
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_handshake = is_upgrade(headers) && has(headers, SEC_WEBSOCKET_VERSION, "13");
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let (key, None) = (keys.next().filter(|_| is_handshake)?, keys.next()) else {
        return None;
    };
    STANDARD.decode(key).ok().filter(|key| key.len() == 16)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

fn switching(accept: HeaderValue, protocol: Option<HeaderValue>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        headers.insert(http::header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

fn headers(received: &HeaderMap, client: &ClientInfo) -> Vec<(String, String)> {
    let header_case = client.take_header_case();
    received
        .iter()
        .filter(|(name, _)| !HOP_HEADERS.contains(name))
        .map(|(name, value)| {
            (
                header_case.of(name),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect()
}

pub(super) struct HandshakeRefusal {
    status: StatusCode,
    body: String,
}

impl HandshakeRefusal {
    /// With API Gateway's own body.
    fn new(status: StatusCode, message: &str) -> Self {
        Self {
            status,
            body: json!({"message": message}).to_string(),
        }
    }

    /// For every path but the stage's.
    pub(super) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden")
    }

    /// For a GET without an upgrade.
    pub(super) fn upgrade_required() -> Response<Body> {
        let refusal = Self::new(StatusCode::UPGRADE_REQUIRED, "Upgrade Required");
        let mut response = refusal.into_response();
        response
            .headers_mut()
            .insert(UPGRADE, HeaderValue::from_static("websocket"));
        response
    }

    /// AWS has no counterpart.
    fn stopping() -> Self {
        let message = "The local stack is stopping";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

impl IntoResponse for HandshakeRefusal {
    fn into_response(self) -> Response<Body> {
        let headers = [(CONTENT_TYPE, "application/json")];
        (self.status, headers, self.body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thousands of these are open at the same time.
    #[test]
    fn the_task_of_an_open_connection_is_small() {
        fn size_of_task<T>(
            _: fn(
                WebSocketApi,
                Peer,
                ApiEndpoint,
                GatewayEvent,
                OnUpgrade,
                oneshot::Sender<Decision>,
            ) -> T,
        ) -> usize {
            size_of::<T>()
        }
        let bytes = size_of_task(run_connection);
        assert!(bytes <= 2_560, "{bytes} bytes");
    }
}
