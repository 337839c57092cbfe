use belfry_core::connections::Refusal;
use belfry_core::connections::TokenSource::{Authorization, Query, Subprotocol};
use belfry_core::ports::{StoreError, VerifyError};
use belfry_protocol::BearerToken;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn event(headers: &Value, query: &Value) -> Event {
    serde_json::from_value(json!({
        "headers": headers.as_object().unwrap().iter().map(|(k, v)| (k.clone(), v[0].clone())).collect::<serde_json::Map<_, _>>(),
        "multiValueHeaders": headers,
        "multiValueQueryStringParameters": query,
        "requestContext": {"domainName": "ws.example.com", "connectionId": "c1=", "connectedAt": 1_770_660_703_822_i64, "requestTimeEpoch": 1, "identity": {"sourceIp": "192.0.2.1", "userAgent": "ua"}},
        "isBase64Encoded": false,
    }))
    .unwrap()
}

#[test]
fn a_token_is_found_in_each_source() {
    for (headers, query, expected) in [
        (json!({}), json!({}), vec![]),
        (
            json!({"authorization": ["bearer  t1 "]}),
            json!({}),
            vec![(Authorization, "t1")],
        ),
        (
            json!({"Authorization": ["Basic eDp5"]}),
            json!({}),
            vec![(Authorization, "")],
        ),
        (
            json!({"Sec-WebSocket-Protocol": ["belfry.v1,bearer.t2 , x"]}),
            json!({}),
            vec![(Subprotocol, "t2")],
        ),
        (
            json!({"Sec-WebSocket-Protocol": ["belfry.v1", "bearer.t2"]}),
            json!({}),
            vec![(Subprotocol, "t2")],
        ),
        (
            json!({}),
            json!({"token": ["t3"], "x": ["y"]}),
            vec![(Query, "t3")],
        ),
        (
            json!({}),
            json!({"token": ["t3", "t4"]}),
            vec![(Query, "t3"), (Query, "t4")],
        ),
        (json!({}), json!({"token": [""]}), vec![(Query, "")]),
        (
            json!({"AUTHORIZATION": ["Bearer a"], "sec-websocket-protocol": ["bearer.b"]}),
            json!({"token": ["c"]}),
            vec![(Authorization, "a"), (Subprotocol, "b"), (Query, "c")],
        ),
    ] {
        let handshake = handshake(&event(&headers, &query)).unwrap();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(source, token)| (source, BearerToken::from(token)))
            .collect();
        assert_eq!(handshake.tokens, expected, "{headers} {query}");
    }
}

#[test]
fn single_value_forms_are_read_if_there_are_no_others() {
    let mut event = event(&json!({"Origin": ["https://a.test"]}), &json!({}));
    event.multi_value_headers.clear();
    let single = std::collections::HashMap::from([("token".to_owned(), "t".to_owned())]);
    event.query_string_parameters = single.into();
    let handshake = handshake(&event).unwrap();
    assert_eq!(handshake.origin.as_deref(), Some("https://a.test"));
    assert_eq!(handshake.tokens, [(Query, BearerToken::from("t"))]);
    assert_eq!(handshake.host.as_deref(), Some("ws.example.com"));
}

#[test]
fn two_origins_match_nothing() {
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
fn the_subprotocol_is_answered_only_if_it_was_offered() {
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
fn offers_without_the_subprotocol_are_seen() {
    for (offers, only_unknown) in [
        (json!([]), false),
        (json!([""]), false),
        (json!([" , "]), false),
        (json!(["belfry.v1"]), false),
        (json!(["bearer.t, belfry.v1"]), false),
        (json!(["bearer.t", "belfry.v1"]), false),
        (json!(["bearer.t"]), true),
        (json!(["graphql-ws"]), true),
        (json!(["belfry.v2, Belfry.v1, belfry.v1x"]), true),
    ] {
        let headers = json!({"Sec-WebSocket-Protocol": offers});
        let headers = if offers == json!([]) {
            json!({})
        } else {
            headers
        };
        let handshake = handshake(&event(&headers, &json!({}))).unwrap();
        assert_eq!(
            handshake.only_unknown_subprotocols, only_unknown,
            "{offers}"
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
        (Refusal::Subprotocol, 400),
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
        (Refusal::Ended, 503),
        (Refusal::AtCapacity, 503),
        (Refusal::UserAtCapacity, 429),
        (Refusal::SignedOut, 401),
    ] {
        assert_eq!(refused(&refusal).status_code, status, "{refusal}");
    }
}

proptest! {
    // Whatever a client sends in its handshake, each source that could hold
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
