use std::time::Duration;

use belfry_core::UnixMillis;
use belfry_core::reader::Refusal;
use belfry_protocol::{BearerToken, ErrorCode, Refused, Since};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: UnixMillis = UnixMillis(1_770_660_703_822);

fn request(method: &str, path: &str, query: &str, headers: &Value, body: Option<&str>) -> Event {
    serde_json::from_value(json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query,
        "headers": headers, "body": body, "isBase64Encoded": false,
        "requestContext": {"timeEpoch": 1, "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "ua"}},
    }))
    .unwrap()
}

fn get(path: &str, query: &str) -> Event {
    request("GET", path, query, &json!({}), None)
}

#[test]
fn each_path_serves_its_methods() {
    let query = "channel=a%3Ab&channel=x,y&cursor=e.1,-&wait=20&token=t";
    let Ok(Operation::Poll(channels, wait)) = operation(&get("/messages", query)) else {
        panic!("no poll")
    };
    let names: Vec<_> = channels.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a:b", "x,y"], "a comma is a part of a name");
    assert_eq!(wait, Duration::from_secs(20));
    let resumed = request(
        "GET",
        "/events",
        query,
        &json!({"last-event-id": "e.9,-"}),
        None,
    );
    let Ok(Operation::Stream(channels)) = operation(&resumed) else {
        panic!("no stream")
    };
    let Some(Since::Position(position)) = &channels[0].1 else {
        panic!("no position")
    };
    assert_eq!(position.seq, 9);
    let nothing = Operation::Poll(Vec::new(), Duration::ZERO);
    assert_eq!(operation(&get("/messages", "token=t")), Ok(nothing));
    assert!(operation(&get("/messages", "wait=20")).is_err());
    let publish = request("POST", "/messages", "", &json!({}), Some("{}"));
    assert_eq!(operation(&publish), Ok(Operation::Publish("{}".into())));
    let preflight = request("OPTIONS", "/messages", "", &json!({}), None);
    assert_eq!(operation(&preflight), Ok(Operation::Preflight));
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/events/", 404),
        ("POST", "/events", 405),
        ("DELETE", "/messages", 405),
        ("HEAD", "/events", 405),
        ("GET", "/events", 400),
    ] {
        let found = operation(&request(method, path, "", &json!({}), None));
        let (head, body) = problem(found.unwrap_err(), NOW);
        assert_eq!(head.status, status, "{method} {path}");
        assert_eq!(head.headers.contains_key("allow"), status == 405);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["data"]["code"], "INVALID_MESSAGE");
    }
}

#[test]
fn a_body_may_be_encoded() {
    let mut event = request("POST", "/messages", "", &json!({}), Some("e30="));
    event.is_base64_encoded = true;
    assert_eq!(operation(&event), Ok(Operation::Publish("{}".into())));
    for wrong in ["e30", "/w=="] {
        event.body = Some(wrong.into());
        assert!(
            matches!(operation(&event), Err(Problem::Refused(_))),
            "{wrong}"
        );
    }
}

#[test]
fn a_token_is_found_in_each_source() {
    for (header, query, expected) in [
        (json!({}), "", &[][..]),
        (json!({"authorization": "bearer  t1 "}), "", &["t1"]),
        (json!({"authorization": "Basic eDp5"}), "", &[""]),
        (json!({}), "token=t2", &["t2"]),
        (json!({}), "token=t2&token=t3", &["t2", "t3"]),
        (
            json!({"authorization": "Bearer t1"}),
            "token=t2",
            &["t1", "t2"],
        ),
    ] {
        let found = credentials(&request("GET", "/events", query, &header, None));
        let tokens: Vec<_> = found.tokens.iter().map(BearerToken::reveal).collect();
        assert_eq!(tokens, expected);
    }
    let origin = json!({"origin": "https://app.example.com"});
    let found = credentials(&request("GET", "/events", "", &origin, None));
    assert_eq!(found.origin.as_deref(), Some("https://app.example.com"));
}

#[test]
fn an_error_has_its_status_and_says_when_to_come_back() {
    let limited = Refused {
        retry_after_ms: Some(1_500),
        ..Refused::new(ErrorCode::RateLimited, "slow down")
    };
    for (refusal, status, retry_after) in [
        (Refusal::NoToken, 401, None),
        (Refusal::SignedOut, 401, None),
        (Refusal::SeveralTokens, 400, None),
        (Refusal::Origin, 403, None),
        (Refusal::Failed("secret".into()), 503, Some("1")),
        (limited.into(), 429, Some("2")),
        (
            Refused::new(ErrorCode::ChannelBusy, "busy").into(),
            503,
            Some("1"),
        ),
        (
            Refused::new(ErrorCode::MessageTooLarge, "long").into(),
            413,
            None,
        ),
    ] {
        let code = refusal.code();
        let (head, body) = refused(refusal, NOW);
        assert_eq!(head.status, status);
        let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("retry-after"), retry_after, "{code}");
        assert_eq!(header("www-authenticate").is_some(), status == 401);
        assert_eq!(header("cache-control"), Some("no-store"));
        let frame: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(frame["type"], "error");
        assert_eq!(frame["data"]["code"], code.as_str());
        assert!(!body.contains("secret"), "{body}");
    }
}

#[test]
fn only_an_allowed_page_may_read_an_answer() {
    let (mut head, body) = preflight();
    assert!(!body.is_empty());
    cors(&mut head, Some("https://app.example.com"));
    assert_eq!(
        head.headers["access-control-allow-origin"],
        "https://app.example.com"
    );
    assert_eq!(head.headers["vary"], "Origin");
    let (mut head, _) = preflight();
    cors(&mut head, None);
    assert_eq!(head.headers["vary"], "Origin");
    assert!(!head.headers.contains_key("access-control-allow-origin"));
}

#[test]
fn an_event_is_named_after_its_frame() {
    let text = event(&belfry_core::reader::Event {
        frame: r#"{"type":"message","data":"a\nb"}"#.into(),
        cursor: "e.1".into(),
    });
    let expected = "event: message\nid: e.1\ndata: {\"type\":\"message\",\"data\":\"a\\nb\"}\n\n";
    assert_eq!(text, expected);
}

proptest! {
    #[test]
    fn any_request_is_read_or_refused(
        method in "GET|POST|OPTIONS|[A-Z]{0,5}",
        path in "/events|/messages|[/a-z%]{0,10}",
        query in "(channel=|cursor=|wait=|token=|&|%|[a-z0-9.,:@-]){0,20}",
        last in ".{0,20}",
        body in prop::option::of(".{0,20}"),
    ) {
        let headers = json!({"last-event-id": last.replace(|c: char| c.is_control(), "")});
        let event = request(&method, &path, &query, &headers, body.as_deref());
        let _ = credentials(&event);
        if let Err(problem) = operation(&event) {
            let (head, _) = super::problem(problem, NOW);
            prop_assert!(head.status.is_client_error());
        }
    }
}
