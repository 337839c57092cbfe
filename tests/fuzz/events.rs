//! Events of the WebSocket API.

use std::collections::HashMap;
use std::sync::LazyLock;

use belfry_aws::apigateway::{self, Event};
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::config;
use crate::mutate::{Corpus, changed, changes};

static EVENTS: LazyLock<Corpus> = LazyLock::new(|| Corpus::of_events(""));

const SECRET: &str = "eyJhbGciOi.SeCrEt";

/// Puts secrets in place of the tokens, queries and messages that are left.
fn with_secrets(mut event: Value) -> Value {
    let (bearer, offer) = (
        format!("Bearer {SECRET}"),
        format!("belfry.v1, bearer.{SECRET}"),
    );
    for (place, text) in [
        ("/headers/Authorization", bearer.as_str()),
        ("/multiValueHeaders/Authorization/0", &bearer),
        ("/headers/Sec-WebSocket-Protocol", &offer),
        ("/multiValueHeaders/Sec-WebSocket-Protocol/0", &offer),
        ("/queryStringParameters/token", SECRET),
        ("/multiValueQueryStringParameters/token/0", SECRET),
        ("/body", SECRET),
    ] {
        if let Some(node) = event.pointer_mut(place) {
            *node = text.into();
        }
    }
    event
}

/// Everything derived from an event, as a log or an answer could show it.
fn shown(event: &Event) -> String {
    let id = apigateway::connection_id(event);
    let handshake = apigateway::handshake(event);
    let why = handshake.as_ref().err().map(ToString::to_string);
    let answer = serde_json::to_string(&apigateway::accepted(event)).expect("JSON");
    format!("{id:?} {handshake:?} {why:?} {answer}")
}

/// A header name that Belfry reads, or any token of RFC 9110.
const HEADER_NAME: &str =
    "Origin|Authorization|Sec-WebSocket-Protocol|[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}";

/// The single-value form of headers and parameters: the last value of each.
fn last_values(all: &HashMap<String, Vec<String>>) -> Value {
    let last = |(name, values): (&String, &Vec<String>)| (name.clone(), json!(values.last()));
    all.iter().map(last).collect()
}

fn connect_event() -> Value {
    let corpus = Corpus::of_events("connect-no-token");
    serde_json::from_str(&corpus.texts[0]).expect("JSON")
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_derived_from_an_event_shows_its_secrets(
        text in prop::sample::select(EVENTS.texts.clone()),
        changes in changes(&EVENTS),
    ) {
        let event = with_secrets(changed(serde_json::from_str(&text).unwrap(), &changes));
        if let Ok(event) = serde_json::from_value(event) {
            let shown = shown(&event);
            prop_assert!(!shown.contains(SECRET), "{}", shown);
        }
    }

    // The error for an unreadable event quotes part of it, so nothing that HTTP
    // carries may make an event unreadable.
    #[test]
    fn an_event_is_readable_whatever_the_client_sends(
        headers in hash_map(HEADER_NAME, vec("[\\t\\x20-\\x7e\\u{80}-\\u{ff}]{0,20}", 1..3), 0..3),
        query in hash_map("token|\\PC{0,10}", vec("(?s).{0,10}", 1..3), 0..3),
        user_agent in "(?s).{0,20}",
    ) {
        let mut event = connect_event();
        event["headers"] = last_values(&headers);
        event["multiValueHeaders"] = json!(headers);
        event["queryStringParameters"] = last_values(&query);
        event["multiValueQueryStringParameters"] = json!(query);
        event["requestContext"]["identity"]["userAgent"] = json!(user_agent);
        let event: Event = serde_json::from_value(event).unwrap();
        prop_assert!(apigateway::handshake(&event).is_ok());
    }
}
