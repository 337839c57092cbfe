//! The events that API Gateway sends to functions.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::connection::{CloseStatus, Peer};
use crate::ids;
use crate::template::API_ID;

/// A client's handshake request.
#[derive(Debug, Clone)]
pub(super) struct HandshakeRequest {
    /// In order, with names in the client's own case.
    pub(super) headers: Vec<(String, String)>,
    /// In order, decoded.
    pub(super) query: Vec<(String, String)>,
    pub(super) source_port: u16,
}

/// The stage and domain that the client connected to.
#[derive(Debug, Clone)]
pub(super) struct ApiEndpoint {
    pub(super) stage: String,
    pub(super) domain: String,
}

/// An event for a function.
pub(super) struct GatewayEvent {
    /// API Gateway's request id, which its error frames include.
    pub(super) request_id: String,
    pub(super) payload: Bytes,
}

impl From<Value> for GatewayEvent {
    fn from(event: Value) -> Self {
        let request_id = event.pointer("/requestContext/requestId");
        Self {
            request_id: request_id
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            payload: event.to_string().into(),
        }
    }
}

/// The CONNECT event.
pub(super) fn connect(peer: &Peer, endpoint: &ApiEndpoint, request: &HandshakeRequest) -> Value {
    let mut headers = request.headers.clone();
    headers.push(("X-Amzn-Trace-Id".into(), ids::trace()));
    headers.push(("X-Forwarded-For".into(), peer.source_ip.clone()));
    headers.push(("X-Forwarded-Port".into(), request.source_port.to_string()));
    headers.push(("X-Forwarded-Proto".into(), "http".into()));
    let mut event = json!({
        "headers": single(&headers),
        "multiValueHeaders": multiple(&headers),
        "requestContext": context(peer, endpoint, "CONNECT", "$connect"),
        "isBase64Encoded": false,
    });
    // Absent, not empty, if there is no query.
    if !request.query.is_empty() {
        event["queryStringParameters"] = single(&request.query);
        event["multiValueQueryStringParameters"] = multiple(&request.query);
    }
    event
}

/// The MESSAGE event: no headers, no query.
pub(super) fn message(peer: &Peer, endpoint: &ApiEndpoint, route_key: &str, body: &str) -> Value {
    let mut context = context(peer, endpoint, "MESSAGE", route_key);
    context["messageId"] = ids::request().into();
    json!({"requestContext": context, "body": body, "isBase64Encoded": false})
}

/// The DISCONNECT event, with headers that API Gateway invents.
pub(super) fn disconnect(peer: &Peer, endpoint: &ApiEndpoint, end: &CloseStatus) -> Value {
    let mut context = context(peer, endpoint, "DISCONNECT", "$disconnect");
    context["disconnectStatusCode"] = end.code.into();
    context["disconnectReason"] = end.reason.as_str().into();
    let headers = [
        ("Host".to_owned(), endpoint.domain.clone()),
        ("x-api-key".to_owned(), String::new()),
        ("X-Forwarded-For".to_owned(), String::new()),
        ("x-restapi".to_owned(), String::new()),
    ];
    json!({
        "headers": single(&headers),
        "multiValueHeaders": multiple(&headers),
        "requestContext": context,
        "isBase64Encoded": false,
    })
}

fn context(peer: &Peer, endpoint: &ApiEndpoint, event_type: &str, route_key: &str) -> Value {
    let request_id = ids::request();
    let now = jiff::Timestamp::now();
    let mut identity = json!({"sourceIp": peer.source_ip});
    if let Some(agent) = &peer.user_agent {
        identity["userAgent"] = agent.as_str().into();
    }
    json!({
        "routeKey": route_key,
        "eventType": event_type,
        "extendedRequestId": request_id,
        "requestTime": now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
        "messageDirection": "IN",
        "stage": endpoint.stage,
        "connectedAt": peer.connected_at_ms,
        "requestTimeEpoch": now.as_millisecond(),
        "identity": identity,
        "requestId": request_id,
        "domainName": endpoint.domain,
        "connectionId": peer.id,
        "apiId": API_ID,
    })
}

/// Each name with its last value.
fn single(pairs: &[(String, String)]) -> Value {
    let pairs = pairs
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    Value::Object(pairs.collect())
}

/// Each name with all its values.
fn multiple(pairs: &[(String, String)]) -> Value {
    let mut object = Map::new();
    for (name, value) in pairs {
        if let Value::Array(values) = object.entry(name.clone()).or_insert_with(|| json!([])) {
            values.push(value.as_str().into());
        }
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Peer, ApiEndpoint, HandshakeRequest) {
        let peer = Peer {
            id: "R0oXAdfD0kwCH6w=".into(),
            connected_at_ms: 1_770_660_703_822,
            source_ip: "127.0.0.1".into(),
            user_agent: None,
        };
        let endpoint = ApiEndpoint {
            stage: "dev".into(),
            domain: "127.0.0.1:3001".into(),
        };
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let request = HandshakeRequest {
            headers: [("Host", "127.0.0.1:3001"), ("X-A", "1"), ("X-A", "2")]
                .map(pair)
                .into(),
            query: vec![],
            source_port: 3001,
        };
        (peer, endpoint, request)
    }

    #[test]
    fn a_handshake_without_a_query_has_no_query_fields() {
        let (peer, endpoint, mut request) = example();
        let event = connect(&peer, &endpoint, &request);
        assert_eq!(event.get("queryStringParameters"), None);
        assert_eq!(event["headers"]["X-A"], "2");
        assert_eq!(event["multiValueHeaders"]["X-A"], json!(["1", "2"]));
        assert_eq!(event["requestContext"]["identity"].get("userAgent"), None);
        request.query = vec![("token".into(), "a".into()), ("token".into(), "b".into())];
        let event = connect(&peer, &endpoint, &request);
        assert_eq!(event["queryStringParameters"]["token"], "b");
        assert_eq!(
            event["multiValueQueryStringParameters"]["token"],
            json!(["a", "b"])
        );
    }

    #[test]
    fn a_message_event_has_the_body_and_nothing_from_the_handshake() {
        let (peer, endpoint, _) = example();
        let event = message(&peer, &endpoint, "$default", "{}");
        let fields: Vec<_> = event.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["body", "isBase64Encoded", "requestContext"]);
        assert_eq!(event["requestContext"]["eventType"], "MESSAGE");
        assert!(event["requestContext"]["messageId"].is_string());
    }

    #[test]
    fn a_disconnect_event_has_the_close_status() {
        let (peer, endpoint, _) = example();
        let event = disconnect(&peer, &endpoint, &CloseStatus::no_status());
        assert_eq!(event["requestContext"]["disconnectStatusCode"], 1005);
        assert_eq!(
            event["requestContext"]["disconnectReason"],
            "Client-side close frame status not set"
        );
        assert_eq!(event["requestContext"]["connectionId"], "R0oXAdfD0kwCH6w=");
    }
}
