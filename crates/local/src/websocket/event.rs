//! The events that API Gateway sends to functions.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::connection::{End, Peer};
use crate::ids;
use crate::template::API_ID;

/// What the client sent with its handshake.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Names as the client spelt them, with their values, in order.
    pub(super) headers: Vec<(String, String)>,
    /// Decoded query parameters, in order.
    pub(super) query: Vec<(String, String)>,
    pub(super) source_port: u16,
}

/// Where the connection was made to.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) stage: String,
    pub(super) domain: String,
}

/// An event on its way to a function.
pub(super) struct Event {
    /// API Gateway's id of the request, which its error frames name.
    pub(super) request_id: String,
    /// The JSON.
    pub(super) payload: Bytes,
}

impl From<Value> for Event {
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

/// The event of a handshake.
pub(super) fn connect(peer: &Peer, place: &Place, request: &Request) -> Value {
    let mut headers = request.headers.clone();
    headers.push(("X-Amzn-Trace-Id".into(), ids::trace()));
    headers.push(("X-Forwarded-For".into(), peer.source_ip.clone()));
    headers.push(("X-Forwarded-Port".into(), request.source_port.to_string()));
    headers.push(("X-Forwarded-Proto".into(), "http".into()));
    let mut event = json!({
        "headers": single(&headers),
        "multiValueHeaders": multiple(&headers),
        "requestContext": context(peer, place, "CONNECT", "$connect"),
        "isBase64Encoded": false,
    });
    // Absent, not empty, where there is no query.
    if !request.query.is_empty() {
        event["queryStringParameters"] = single(&request.query);
        event["multiValueQueryStringParameters"] = multiple(&request.query);
    }
    event
}

/// The event of a message: no headers, no query.
pub(super) fn message(peer: &Peer, place: &Place, route_key: &str, body: &str) -> Value {
    let mut context = context(peer, place, "MESSAGE", route_key);
    context["messageId"] = ids::request().into();
    json!({"requestContext": context, "body": body, "isBase64Encoded": false})
}

/// The event of a connection's end, with headers that API Gateway makes up.
pub(super) fn disconnect(peer: &Peer, place: &Place, end: &End) -> Value {
    let mut context = context(peer, place, "DISCONNECT", "$disconnect");
    context["disconnectStatusCode"] = end.code.into();
    context["disconnectReason"] = end.reason.as_str().into();
    let headers = [
        ("Host".to_owned(), place.domain.clone()),
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

fn context(peer: &Peer, place: &Place, event_type: &str, route_key: &str) -> Value {
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
        "stage": place.stage,
        "connectedAt": peer.connected_at_ms,
        "requestTimeEpoch": now.as_millisecond(),
        "identity": identity,
        "requestId": request_id,
        "domainName": place.domain,
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

    fn example() -> (Peer, Place, Request) {
        let peer = Peer {
            id: "R0oXAdfD0kwCH6w=".into(),
            connected_at_ms: 1_770_660_703_822,
            source_ip: "127.0.0.1".into(),
            user_agent: None,
        };
        let place = Place {
            stage: "dev".into(),
            domain: "127.0.0.1:3001".into(),
        };
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let request = Request {
            headers: [("Host", "127.0.0.1:3001"), ("X-A", "1"), ("X-A", "2")]
                .map(pair)
                .into(),
            query: vec![],
            source_port: 3001,
        };
        (peer, place, request)
    }

    #[test]
    fn a_handshake_without_a_query_has_no_query_fields() {
        let (peer, place, mut request) = example();
        let event = connect(&peer, &place, &request);
        assert_eq!(event.get("queryStringParameters"), None);
        assert_eq!(event["headers"]["X-A"], "2");
        assert_eq!(event["multiValueHeaders"]["X-A"], json!(["1", "2"]));
        assert_eq!(event["requestContext"]["identity"].get("userAgent"), None);
        request.query = vec![("token".into(), "a".into()), ("token".into(), "b".into())];
        let event = connect(&peer, &place, &request);
        assert_eq!(event["queryStringParameters"]["token"], "b");
        assert_eq!(
            event["multiValueQueryStringParameters"]["token"],
            json!(["a", "b"])
        );
    }

    #[test]
    fn a_message_carries_its_body_and_nothing_of_the_handshake() {
        let (peer, place, _) = example();
        let event = message(&peer, &place, "$default", "{}");
        let fields: Vec<_> = event.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["body", "isBase64Encoded", "requestContext"]);
        assert_eq!(event["requestContext"]["eventType"], "MESSAGE");
        assert!(event["requestContext"]["messageId"].is_string());
    }

    #[test]
    fn an_end_says_how() {
        let (peer, place, _) = example();
        let event = disconnect(&peer, &place, &End::no_status());
        assert_eq!(event["requestContext"]["disconnectStatusCode"], 1005);
        assert_eq!(
            event["requestContext"]["disconnectReason"],
            "Client-side close frame status not set"
        );
        assert_eq!(event["requestContext"]["connectionId"], "R0oXAdfD0kwCH6w=");
    }
}
