//! Parses every file in `events/`, whose content must match its name.

use std::collections::BTreeMap;
use std::path::Path;

use belfry_aws::apigateway::{self, Event};
use belfry_protocol::{BroadcastRequest, ClientFrame, ErrorCode, OperatorRequest, SweepRequest};

fn events() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn event(name: &str) -> Event {
    serde_json::from_str(&events()[name]).unwrap()
}

#[test]
fn each_event_survives_a_round_trip() {
    for (name, text) in events() {
        if name.starts_with("broadcast-") {
            let parsed = BroadcastRequest::parse(&text);
            assert_eq!(
                parsed.is_ok(),
                name != "broadcast-invalid",
                "{name}: {parsed:?}"
            );
            continue;
        }
        if name.starts_with("sweeper-") {
            let parsed = SweepRequest::parse(&text);
            assert!(parsed.is_ok(), "{name}: {parsed:?}");
            continue;
        }
        if name.starts_with("operator-") {
            let parsed = OperatorRequest::parse(&text);
            assert!(parsed.is_ok(), "{name}: {parsed:?}");
            continue;
        }
        let parsed: Event =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again: Event = serde_json::from_str(&serde_json::to_string(&parsed).unwrap()).unwrap();
        assert_eq!(again, parsed, "{name}");
        assert_eq!(
            apigateway::connection_id(&parsed).unwrap().as_str(),
            "R0oXAdfD0kwCH6w=",
            "{name}"
        );
        let kind = parsed
            .request_context
            .event_type
            .as_deref()
            .unwrap()
            .to_lowercase();
        assert!(name.starts_with(&kind), "{name} is of type {kind}");
    }
}

#[test]
fn a_handshake_may_name_the_connection_that_it_replaces() {
    let replaces = |event: &Event| apigateway::handshake(event).unwrap().replaces;
    let mut event = event("connect-replaces");
    assert_eq!(replaces(&event).unwrap().as_str(), "L0oXAdfD0kwCH6w=");
    // What names no connection replaces none.
    for wrong in ["", "a b", "ü"] {
        let parameters = [("replaces".to_owned(), vec![wrong.to_owned()])];
        event.multi_value_query_string_parameters =
            std::collections::HashMap::from(parameters).into();
        assert_eq!(replaces(&event), None, "{wrong:?}");
    }
}

#[test]
fn handshakes_hold_the_tokens_that_their_names_say() {
    for (name, tokens) in [
        ("connect-no-token", 0),
        ("connect-query-token", 1),
        ("connect-authorization", 1),
        ("connect-subprotocol", 1),
        ("connect-lower-case-headers", 1),
        ("connect-foreign-origin", 1),
        ("connect-two-sources", 2),
        ("connect-two-query-tokens", 2),
    ] {
        let handshake = apigateway::handshake(&event(name)).unwrap();
        assert_eq!(handshake.tokens.len(), tokens, "{name}");
        assert!(
            handshake
                .tokens
                .iter()
                .all(|(_, token)| token.reveal().starts_with("eyJ")),
            "{name}"
        );
    }
    let origin = |name| apigateway::handshake(&event(name)).unwrap().origin;
    assert_eq!(origin("connect-query-token"), None);
    assert_eq!(
        origin("connect-subprotocol").as_deref(),
        Some("https://app.example.com")
    );
    assert_eq!(
        origin("connect-lower-case-headers").as_deref(),
        Some("https://app.example.com")
    );
    assert_eq!(
        apigateway::handshake(&event("connect-query-token"))
            .unwrap()
            .user_agent,
        None
    );
}

#[test]
fn messages_are_what_their_names_say() {
    for (name, expected) in [
        ("message-ping", Ok("ping")),
        ("message-hello", Ok("hello")),
        ("message-echo", Ok("echo")),
        ("message-not-json", Err(ErrorCode::InvalidMessage)),
        ("message-empty", Err(ErrorCode::InvalidMessage)),
        ("message-unknown-type", Err(ErrorCode::UnknownType)),
        (
            "message-unsupported-version",
            Err(ErrorCode::UnsupportedVersion),
        ),
    ] {
        let event = event(name);
        let body = apigateway::message_body(&event).unwrap();
        let outcome = ClientFrame::parse(body, 32_768)
            .map(|frame| frame.type_name())
            .map_err(|refused| refused.code);
        assert_eq!(outcome, expected, "{name}");
    }
    assert_eq!(apigateway::message_body(&event("message-binary")), None);
}

#[test]
fn a_disconnect_says_how_the_connection_ended() {
    for (name, code) in [
        ("disconnect-normal", 1000),
        ("disconnect-going-away", 1001),
        ("disconnect-no-status", 1005),
    ] {
        assert_eq!(
            event(name).request_context.disconnect_status_code,
            Some(code),
            "{name}"
        );
    }
}
