//! Requests of HTTP readers: the query, the cursor and the headers, as the
//! function URL passes them on.

use belfry_aws::functionurl::{Event, Operation, Problem, credentials, operation};
use belfry_protocol::Cursor;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::string::string_regex;
use serde_json::json;

use crate::config;
use crate::mutate::{cut, cuts};

const EPOCH: &str = "19b76da0800aaaaaaaa";

/// Part of each token, and of nothing else.
const SECRET: &str = "s3cr3t";

/// Read once: a text as a strategy is read again for each value.
fn pattern(pattern: &str) -> impl Strategy<Value = String> + use<> {
    string_regex(pattern).expect("a pattern")
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("-".to_owned()),
        Just("acked".to_owned()),
        any::<u64>().prop_map(|seq| format!("{EPOCH}.{seq}")),
        pattern("[0-9a-f.]{0,21}"),
        Just(format!("{EPOCH}.+1")),
        Just(format!("{EPOCH}.01")),
        Just("💥.18446744073709551616".to_owned()),
    ]
}

/// Cursors of up to and beyond 50 channels, most of them with one mistake.
fn cursor() -> impl Strategy<Value = String> {
    let parts = prop_oneof![3 => vec(part(), 0..5), 1 => vec(part(), 45..56)];
    let cuts = prop_oneof![3 => Just(Vec::new()), 1 => cuts()];
    (parts, cuts).prop_map(|(parts, cuts)| cut(parts.join(","), &cuts))
}

fn parameter() -> impl Strategy<Value = String> {
    let channel = select(vec![
        "room:7", "@me", "@all", "a%3Ab", "x,y", "a+b", "a%2Bb", "", "*", "%FF",
    ]);
    prop_oneof![
        4 => channel.prop_map(|name| format!("channel={name}")),
        2 => vec(part(), 0..5).prop_map(|parts| format!("cursor={}", parts.join(","))),
        1 => pattern("-?[0-9]{0,4}|25|26|1e1| 1").prop_map(|wait| format!("wait={wait}")),
        1 => Just(format!("token={SECRET}")),
        1 => pattern("[a-z%]{0,8}(=[a-z%&]{0,8})?"),
    ]
}

/// A query with few or too many parameters, and sometimes changed characters.
fn query() -> impl Strategy<Value = String> {
    let parameters = prop_oneof![4 => vec(parameter(), 0..6), 1 => vec(parameter(), 60..80)];
    let cuts = prop_oneof![3 => Just(Vec::new()), 1 => cuts()];
    (parameters, cuts).prop_map(|(parameters, cuts)| cut(parameters.join("&"), &cuts))
}

fn request(path: &str, query: &str, headers: &[(&str, &str)]) -> Event {
    let headers: serde_json::Map<_, _> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let http =
        json!({"method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"});
    serde_json::from_value(json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query,
        "headers": headers, "isBase64Encoded": false,
        "requestContext": {"timeEpoch": 1, "http": http},
    }))
    .expect("an event")
}

/// A second decoder of queries, by the URL standard's description.
fn values(query: &str, name: &str) -> Vec<String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let named = pairs.filter(|(key, _)| decoded(key) == name);
    named.map(|(_, value)| decoded(value)).collect()
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let escape = after.get(..2).filter(|_| *first == b'%');
        let escape = escape.filter(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        let escape = escape.and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = match (escape, first) {
            (Some(pair), _) => u8::from_str_radix(pair, 16).expect("two digits"),
            (None, b'+') => b' ',
            (None, byte) => *byte,
        };
        bytes.push(byte);
        rest = if escape.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_cursor_is_exactly_what_it_says(text in cursor()) {
        match text.parse::<Cursor>() {
            Ok(cursor) => prop_assert_eq!(cursor.to_string(), text),
            Err(error) => {
                let parts: Vec<_> = text.split(',').collect();
                let is_valid = |part: &&str| {
                    let seq = part.strip_prefix(EPOCH).and_then(|rest| rest.strip_prefix('.'));
                    let seq = seq.and_then(|seq| Some((seq, seq.parse::<u64>().ok()?)));
                    ["-", "acked"].contains(part) || seq.is_some_and(|(text, seq)| seq.to_string() == text)
                };
                prop_assert!(text.len() > 4_096 || !parts.iter().all(is_valid), "{text}");
                prop_assert!(error.to_string().len() <= 300);
            }
        }
    }

    #[test]
    fn a_query_asks_for_its_channels_or_for_nothing(
        path in select(vec!["/events", "/messages"]),
        query in query(),
        last in prop::option::of(cursor()),
    ) {
        // Other characters never reach a function.
        let last = last.filter(|last| last.chars().all(|c| (' '..='~').contains(&c)));
        let headers = last.iter().map(|last| ("last-event-id", last.as_str()));
        let headers: Vec<_> = headers.collect();
        let channels = match operation(&request(path, &query, &headers)) {
            Ok(Operation::Stream(channels)) if path == "/events" => channels,
            Ok(Operation::Poll(channels, wait)) if path == "/messages" => {
                prop_assert!(wait.as_secs() <= 25);
                // Without channels, a poll asks whose token it has.
                prop_assert!(!channels.is_empty() || wait.is_zero());
                channels
            }
            Err(Problem::Refused(refused)) => {
                let explanation = refused.to_string();
                prop_assert!(explanation.len() <= 300, "{explanation}");
                prop_assert!(!explanation.contains(SECRET), "{explanation}");
                return Ok(());
            }
            other => panic!("{other:?}"),
        };
        prop_assert!(channels.len() <= 50);
        prop_assert!(path == "/messages" || !channels.is_empty());
        let names: Vec<_> = channels.iter().map(|(name, _)| name.to_string()).collect();
        prop_assert_eq!(names, values(&query, "channel"));
        // A browser's header is newer than the address.
        let last = last.filter(|last| !last.is_empty());
        let expected = last.or_else(|| values(&query, "cursor").pop());
        let positions: Cursor = channels.into_iter().map(|(_, position)| position).collect();
        let nothing = vec!["-"; positions.parts().len()].join(",");
        prop_assert_eq!(positions.to_string(), expected.unwrap_or(nothing));
    }

    #[test]
    fn every_token_of_a_request_is_seen_and_never_shown(
        query in query(),
        authorization in prop::option::of(prop_oneof![
            Just(format!("Bearer {SECRET}")),
            pattern("([Bb]earer|Basic|)[ ]{0,2}[!-~]{0,10}"),
        ]),
    ) {
        let headers = authorization.iter().map(|value| ("authorization", value.as_str()));
        let headers: Vec<_> = headers.collect();
        let found = credentials(&request("/events", &query, &headers));
        let given = headers.len() + values(&query, "token").len();
        prop_assert_eq!(found.tokens.len(), given);
        let shown = format!("{found:?}");
        prop_assert!(!shown.contains(SECRET), "{shown}");
    }
}
