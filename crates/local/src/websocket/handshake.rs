//! A client's handshake: pending until `$connect` has answered.

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
use super::connection::{Connection, End, Peer};
use super::event::{self, Event, Place};
use super::limits::MAX_URL_LENGTH;
use super::route::{Answer, CONNECT, DISCONNECT, Integration};
use super::{WebSocketApi, socket};
use crate::fault::DisconnectFault;
use crate::ids;
use crate::server::Client;

/// Headers that belong to the hop, not to the handshake.
const HOP_HEADERS: [HeaderName; 2] = [CONNECTION, UPGRADE];

/// Handles a GET on the stage's path.
pub(super) async fn handle(
    State(api): State<WebSocketApi>,
    Path(stage): Path<String>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Response<Body> {
    if stage != api.inner.api.stage {
        return Refusal::new(assumed::NO_SUCH_STAGE, "Forbidden").into_response();
    }
    let (mut request, _) = request.into_parts();
    let handshake = accept_key(&request.headers).zip(request.extensions.remove::<OnUpgrade>());
    let Some((accept, upgrade)) = handshake else {
        let mut response =
            Refusal::new(StatusCode::UPGRADE_REQUIRED, "Upgrade Required").into_response();
        response
            .headers_mut()
            .insert(UPGRADE, HeaderValue::from_static("websocket"));
        return response;
    };
    if api.inner.stopping.is_cancelled() {
        return Refusal::stopping().into_response();
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
        return Refusal::new(assumed::URL_TOO_LONG, "URI Too Long").into_response();
    }
    if !api.inner.limits.connects.allows() {
        tracing::warn!("handshake refused: more than --connect-rate allows");
        return Refusal::new(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests").into_response();
    }
    let peer = Peer {
        id: ids::connection(),
        connected_at_ms: crate::clock::now_ms(),
        source_ip: client.address.ip().to_string(),
        user_agent: text(USER_AGENT),
    };
    let place = Place { stage, domain };
    let described = event::Request {
        headers: headers(&request.headers, &client),
        query: Query::try_from_uri(&request.uri)
            .map(|Query(query)| query)
            .unwrap_or_default(),
        source_port: api.inner.address.port(),
    };
    let event = Event::from(event::connect(&peer, &place, &described));
    // The connection's whole life is one task: a client that goes away while
    // `$connect` still runs is told to `$disconnect` all the same.
    let (answer, answered) = oneshot::channel();
    let life = live(api.clone(), peer, place, event, upgrade, answer);
    api.inner.lives.spawn(life);
    match answered.await {
        Ok(Ok(protocol)) => switching(accept, protocol),
        Ok(Err(refusal)) => refusal.into_response(),
        Err(_) => {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error").into_response()
        }
    }
}

/// The subprotocol to name, or the refusal.
type Verdict = Result<Option<HeaderValue>, Refusal>;

async fn live(
    api: WebSocketApi,
    peer: Peer,
    place: Place,
    event: Event,
    upgrade: OnUpgrade,
    answer: oneshot::Sender<Verdict>,
) {
    let verdict = tokio::select! {
        integration = api.integrate(CONNECT, &event) => verdict(integration),
        () = api.inner.stopping.cancelled() => Err(Refusal::stopping()),
    };
    // The client's headers and query are needed no more, and may live no longer.
    drop(event);
    let protocol = match verdict {
        Ok(protocol) => protocol,
        Err(refusal) => {
            tracing::info!(
                connection = peer.id,
                status = refusal.status.as_u16(),
                "handshake refused"
            );
            // Where the client is gone already, nobody waits for the refusal.
            let _ = answer.send(Err(refusal));
            return;
        }
    };
    let (connection, outgoing) = Connection::new(peer);
    let connection = Arc::new(connection);
    // Known from here on: a post may come before the client has read the 101.
    api.inner.connections.insert(Arc::clone(&connection));
    if api.inner.stopping.is_cancelled() {
        // It came after every open connection was cut.
        connection.cut(End::going_away());
    }
    let _ = answer.send(Ok(protocol));
    let end = match upgrade.await {
        Ok(upgraded) => {
            tracing::debug!(connection = connection.peer.id, "connected");
            socket::run(&api, &connection, &place, upgraded, outgoing).await
        }
        Err(_) => {
            drop(outgoing);
            End::assumed(assumed::LOST)
        }
    };
    api.inner.connections.remove(&connection.peer.id);
    tracing::debug!(
        connection = connection.peer.id,
        code = end.code,
        "disconnected"
    );
    disconnect(&api, &connection.peer, &place, &end).await;
}

/// Runs `$disconnect`: once and at once, unless a fault has it otherwise.
async fn disconnect(api: &WebSocketApi, peer: &Peer, place: &Place, end: &End) {
    let event = Event::from(event::disconnect(peer, place, end));
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

async fn run_disconnect(api: &WebSocketApi, peer: &Peer, event: &Event) {
    // Fails only when closed, and nobody closes it.
    let _turn = api.inner.disconnects.acquire().await;
    match api.integrate(DISCONNECT, event).await {
        None | Some(Integration::Answered(_)) => {}
        Some(Integration::Failed | Integration::NotInvoked | Integration::TimedOut) => {
            tracing::warn!(
                connection = peer.id,
                "$disconnect failed; API Gateway does not try again"
            );
        }
    }
}

/// What `$connect` decided. Without such a route everyone may connect.
fn verdict(integration: Option<Integration>) -> Verdict {
    match integration {
        None => Ok(None),
        Some(Integration::Answered(Answer {
            status: 200..=299,
            headers,
            ..
        })) => {
            let protocol = headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"));
            Ok(protocol.and_then(|(_, value)| HeaderValue::from_str(value).ok()))
        }
        Some(Integration::Answered(Answer { status, body, .. })) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Err(Refusal {
                status,
                body: body.unwrap_or_default(),
            })
        }
        Some(Integration::Failed) => Err(Refusal::new(
            StatusCode::BAD_GATEWAY,
            "Internal server error",
        )),
        Some(Integration::NotInvoked) => Err(Refusal::new(
            assumed::CONNECT_NOT_INVOKED,
            "Internal server error",
        )),
        Some(Integration::TimedOut) => Err(Refusal::new(
            assumed::CONNECT_TIMED_OUT,
            "Endpoint request timed out",
        )),
    }
}

/// The answer to the client's key, if this is a WebSocket handshake with one
/// key of 16 bytes (RFC 6455, section 4.2.1).
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let has = |name: HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    let is_handshake =
        has(CONNECTION, "upgrade") && has(UPGRADE, "websocket") && has(SEC_WEBSOCKET_VERSION, "13");
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

fn headers(received: &HeaderMap, client: &Client) -> Vec<(String, String)> {
    let spellings = client.take_spellings();
    received
        .iter()
        .filter(|(name, _)| !HOP_HEADERS.contains(name))
        .map(|(name, value)| {
            (
                spellings.of(name),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect()
}

/// A handshake's refusal.
struct Refusal {
    status: StatusCode,
    body: String,
}

impl Refusal {
    /// API Gateway's own.
    fn new(status: StatusCode, message: &str) -> Self {
        Self {
            status,
            body: json!({"message": message}).to_string(),
        }
    }

    /// Only the local stack does.
    fn stopping() -> Self {
        let message = "The local stack is stopping";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let headers = [(CONTENT_TYPE, "application/json")];
        (self.status, headers, self.body).into_response()
    }
}
