//! What API Gateway sends to a Lambda and expects back.

mod management;

use std::collections::BTreeMap;

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use aws_lambda_events::http::header::{
    AUTHORIZATION, HeaderMap, HeaderName, ORIGIN, SEC_WEBSOCKET_PROTOCOL,
};
use belfry_core::UnixMillis;
use belfry_core::connections::{Handshake, Refusal};
use belfry_core::frames::Answer;
use belfry_core::ports::VerifyError;
use belfry_protocol::{BearerToken, ConnectionId};
use serde::Serialize;

pub use management::ManagementOutbox;

/// The event of a WebSocket route.
pub type Event = ApiGatewayWebsocketProxyRequest;

/// The answer to a WebSocket route.
///
/// A type of its own because the events crate would write header names in
/// lower case, and AWS documents `Sec-WebSocket-Protocol` as it stands here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// At the handshake: the client's status, where it is not 2xx.
    pub status_code: u16,
    /// Headers of the handshake's answer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<&'static str, &'static str>,
    /// The frame that the route's response sends to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// The subprotocol that Belfry speaks.
const SUBPROTOCOL: &str = "belfry.v1";

/// What precedes a token among the subprotocols a browser offers: a page can
/// set no other header of a handshake.
const BEARER_SUBPROTOCOL: &str = "bearer.";

/// The query parameter that can hold a token.
const TOKEN_PARAMETER: &str = "token";

/// The query parameter that names the client's other connection.
const REPLACES_PARAMETER: &str = "replaces";

/// An event lacks what every event of a WebSocket API has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event has no usable requestContext.{0}; is this function behind a WebSocket API?")]
pub struct MalformedEvent(&'static str);

/// The connection that an event is about.
///
/// # Errors
/// [`MalformedEvent`] if it names none.
pub fn connection_id(event: &Event) -> Result<ConnectionId, MalformedEvent> {
    let id = event
        .request_context
        .connection_id
        .as_deref()
        .unwrap_or_default();
    ConnectionId::parse(id).map_err(|_| MalformedEvent("connectionId"))
}

/// The handshake that a `$connect` event describes.
///
/// # Errors
/// [`MalformedEvent`] if it is not such an event.
pub fn handshake(event: &Event) -> Result<Handshake, MalformedEvent> {
    let context = &event.request_context;
    let connected_at =
        u64::try_from(context.connected_at).map_err(|_| MalformedEvent("connectedAt"))?;
    Ok(Handshake {
        connection_id: connection_id(event)?,
        connected_at: UnixMillis(connected_at),
        origin: origin(event),
        tokens: tokens(event),
        source_ip: context.identity.source_ip.clone().unwrap_or_default(),
        user_agent: context.identity.user_agent.clone(),
        replaces: parameter(event, REPLACES_PARAMETER)
            .last()
            .and_then(|id| ConnectionId::parse(id).ok()),
    })
}

/// The text that a message event carries; `None` if it is binary.
#[must_use]
pub fn message_body(event: &Event) -> Option<&str> {
    if event.is_base64_encoded {
        return None;
    }
    Some(event.body.as_deref().unwrap_or_default())
}

/// Opens the connection. API Gateway echoes no subprotocol by itself, and a
/// browser drops a connection whose answer names none of those it offered.
#[must_use]
pub fn accepted(event: &Event) -> Response {
    let mut response = status(200);
    if offered_subprotocols(event).any(|offer| offer == SUBPROTOCOL) {
        response
            .headers
            .insert("Sec-WebSocket-Protocol", SUBPROTOCOL);
    }
    response
}

/// Refuses the connection with the status that docs/PROTOCOL.md gives.
#[must_use]
pub fn refused(refusal: &Refusal) -> Response {
    status(match refusal {
        Refusal::SeveralTokens => 400,
        Refusal::NoToken | Refusal::Token(VerifyError::Rejected(_)) | Refusal::SignedOut => 401,
        Refusal::Origin => 403,
        Refusal::UserAtCapacity => 429,
        Refusal::Token(VerifyError::KeysUnavailable(_))
        | Refusal::Store(_)
        | Refusal::IdTaken
        | Refusal::Ended
        | Refusal::AtCapacity => 503,
    })
}

/// Sends the answer to the client as the route's response.
#[must_use]
pub fn answered(answer: Answer) -> Response {
    let mut response = status(200);
    response.body = answer.frame;
    response
}

/// An answer without a body.
#[must_use]
pub fn status(code: u16) -> Response {
    Response {
        status_code: code,
        headers: BTreeMap::new(),
        body: None,
    }
}

/// The values of a header, however often it was sent.
fn header(event: &Event, name: HeaderName) -> impl Iterator<Item = &str> {
    let headers: &HeaderMap = if event.multi_value_headers.is_empty() {
        &event.headers
    } else {
        &event.multi_value_headers
    };
    // What is no text is as wrong as an empty value, and as present.
    headers
        .get_all(name)
        .into_iter()
        .map(|value| value.to_str().unwrap_or_default())
}

fn origin(event: &Event) -> Option<String> {
    let all: Vec<_> = header(event, ORIGIN).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn offered_subprotocols(event: &Event) -> impl Iterator<Item = &str> {
    header(event, SEC_WEBSOCKET_PROTOCOL)
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// The token from each place that holds one; an `Authorization` of another
/// scheme is a token that no verifier takes.
fn tokens(event: &Event) -> Vec<BearerToken> {
    let authorization = header(event, AUTHORIZATION).map(|value| match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    });
    let subprotocol =
        offered_subprotocols(event).filter_map(|offer| offer.strip_prefix(BEARER_SUBPROTOCOL));
    authorization
        .chain(subprotocol)
        .chain(parameter(event, TOKEN_PARAMETER))
        .map(Into::into)
        .collect()
}

/// The values of a query parameter, however often it was given.
fn parameter<'a>(event: &'a Event, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let several = &event.multi_value_query_string_parameters;
    let parameters = if several.is_empty() {
        &event.query_string_parameters
    } else {
        several
    };
    parameters.all(name).unwrap_or_default().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use belfry_core::ports::StoreError;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn event(headers: &Value, query: &Value) -> Event {
        serde_json::from_value(json!({
            "headers": headers.as_object().unwrap().iter().map(|(k, v)| (k.clone(), v[0].clone())).collect::<serde_json::Map<_, _>>(),
            "multiValueHeaders": headers,
            "multiValueQueryStringParameters": query,
            "requestContext": {"connectionId": "c1=", "connectedAt": 1_770_660_703_822_i64, "requestTimeEpoch": 1, "identity": {"sourceIp": "192.0.2.1", "userAgent": "ua"}},
            "isBase64Encoded": false,
        }))
        .unwrap()
    }

    #[test]
    fn a_token_is_found_in_each_place() {
        for (headers, query, expected) in [
            (json!({}), json!({}), vec![]),
            (
                json!({"authorization": ["bearer  t1 "]}),
                json!({}),
                vec!["t1"],
            ),
            (
                json!({"Authorization": ["Basic eDp5"]}),
                json!({}),
                vec![""],
            ),
            (
                json!({"Sec-WebSocket-Protocol": ["belfry.v1,bearer.t2 , x"]}),
                json!({}),
                vec!["t2"],
            ),
            (
                json!({"Sec-WebSocket-Protocol": ["belfry.v1", "bearer.t2"]}),
                json!({}),
                vec!["t2"],
            ),
            (json!({}), json!({"token": ["t3"], "x": ["y"]}), vec!["t3"]),
            (json!({}), json!({"token": ["t3", "t4"]}), vec!["t3", "t4"]),
            (json!({}), json!({"token": [""]}), vec![""]),
            (
                json!({"AUTHORIZATION": ["Bearer a"], "sec-websocket-protocol": ["bearer.b"]}),
                json!({"token": ["c"]}),
                vec!["a", "b", "c"],
            ),
        ] {
            let handshake = handshake(&event(&headers, &query)).unwrap();
            let expected: Vec<BearerToken> = expected.into_iter().map(Into::into).collect();
            assert_eq!(handshake.tokens, expected, "{headers} {query}");
        }
    }

    #[test]
    fn single_value_forms_serve_where_there_are_no_others() {
        let mut event = event(&json!({"Origin": ["https://a.test"]}), &json!({}));
        event.multi_value_headers.clear();
        let single = std::collections::HashMap::from([("token".to_owned(), "t".to_owned())]);
        event.query_string_parameters = single.into();
        let handshake = handshake(&event).unwrap();
        assert_eq!(handshake.origin.as_deref(), Some("https://a.test"));
        assert_eq!(handshake.tokens, [BearerToken::from("t")]);
    }

    #[test]
    fn two_origins_are_no_origin_that_could_match() {
        let event = event(
            &json!({"Origin": ["https://a.test", "https://b.test"]}),
            &json!({}),
        );
        assert_eq!(
            handshake(&event).unwrap().origin.as_deref(),
            Some("https://a.test, https://b.test")
        );
    }

    #[test]
    fn the_subprotocol_is_answered_only_where_it_was_offered() {
        for (offer, answered) in [
            ("belfry.v1, bearer.t", true),
            ("bearer.t", false),
            ("belfry.v2", false),
        ] {
            let response = accepted(&event(
                &json!({"Sec-WebSocket-Protocol": [offer]}),
                &json!({}),
            ));
            let expected = if answered {
                json!({"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "belfry.v1"}})
            } else {
                json!({"statusCode": 200})
            };
            assert_eq!(
                serde_json::to_value(&response).unwrap(),
                expected,
                "{offer}"
            );
        }
    }

    #[test]
    fn each_refusal_has_its_status() {
        let store = StoreError {
            operation: "PutItem",
            cause: "x".into(),
        };
        for (refusal, status) in [
            (Refusal::SeveralTokens, 400),
            (Refusal::NoToken, 401),
            (Refusal::Token(VerifyError::Rejected("expired")), 401),
            (Refusal::Origin, 403),
            (
                Refusal::Token(VerifyError::KeysUnavailable("x".into())),
                503,
            ),
            (Refusal::Store(store), 503),
            (Refusal::IdTaken, 503),
        ] {
            assert_eq!(refused(&refusal).status_code, status, "{refusal}");
        }
    }

    proptest! {
        // Whatever a client sends in its handshake, each place that could hold
        // a token counts: none is overlooked in favour of another.
        #[test]
        fn no_token_is_overlooked(
            authorizations in prop::collection::vec("[ -~]{0,20}", 0..3),
            offers in prop::collection::vec("(bearer\\.)?[!-+.-~]{0,12}", 0..4),
            queries in prop::collection::vec("\\PC{0,12}", 0..3),
        ) {
            let mut headers = json!({});
            if !authorizations.is_empty() {
                headers["Authorization"] = json!(authorizations);
            }
            if !offers.is_empty() {
                headers["Sec-WebSocket-Protocol"] = json!([offers.join(", ")]);
            }
            let query = if queries.is_empty() { json!({}) } else { json!({"token": queries}) };
            let found = handshake(&event(&headers, &query)).unwrap().tokens.len();
            let offered = offers.iter().filter(|offer| offer.starts_with("bearer.")).count();
            prop_assert_eq!(found, authorizations.len() + offered + queries.len());
        }

        // An event that the runtime could read is never more than refused.
        #[test]
        fn any_event_is_answered(
            id in prop::option::of("\\PC{0,40}"),
            connected_at in any::<i64>(),
            body in prop::option::of("\\PC{0,40}"),
            encoded in any::<bool>(),
        ) {
            let mut event = event(&json!({}), &json!({}));
            event.request_context.connection_id = id;
            event.request_context.connected_at = connected_at;
            event.body = body;
            event.is_base64_encoded = encoded;
            if let Ok(handshake) = handshake(&event) {
                prop_assert!(connected_at >= 0 && !handshake.connection_id.as_str().is_empty());
            }
            prop_assert_eq!(message_body(&event).is_none(), encoded);
        }
    }

    #[test]
    fn an_event_without_a_connection_is_refused() {
        let mut event = event(&json!({}), &json!({}));
        event.request_context.connection_id = None;
        assert_eq!(handshake(&event), Err(MalformedEvent("connectionId")));
    }
}
