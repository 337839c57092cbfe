//! Client frames and their answers.

use std::time::Duration;

use belfry_tests::{Stack, open, repository, soon, template_with, unix_time};
use serde_json::{Value, json};

#[tokio::test]
async fn ping_echo_and_hello_are_answered_as_documented() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;

    let pong = socket
        .ask(r#"{"type":"ping","version":"1.0","id":"p"}"#)
        .await;
    assert_eq!(
        (&pong["type"], &pong["version"], &pong["correlationId"]),
        (&json!("pong"), &json!("1.0"), &json!("p"))
    );

    let data = json!({"any": ["JSON", 1, 2.5, null, "ünï 🔔"], "deep": {"er": {}}});
    let echo = socket
        .ask(&json!({"type": "echo", "version": "1.0", "id": "e", "data": data}).to_string())
        .await;
    assert_eq!(
        (&echo["type"], &echo["data"], &echo["correlationId"]),
        (&json!("echo"), &data, &json!("e"))
    );

    let welcome = socket.ask(r#"{"type":"hello","version":"1.0"}"#).await;
    assert_eq!(welcome["type"], "welcome");
    assert_eq!(welcome["data"]["userId"], "alice");
    assert_eq!(
        welcome["data"]["limits"],
        json!({"maxMessageBytes": 16_384, "messagesPerMinute": 600})
    );
    for deadline in ["connectedAt", "tokenExpiresAt", "connectionExpiresAt"] {
        assert!(
            welcome["data"][deadline].as_str().unwrap().ends_with('Z'),
            "{deadline}: {welcome}"
        );
    }
    let id = welcome["data"]["connectionId"].as_str().unwrap();
    assert!(stack.row(id).await.is_some());
}

#[tokio::test]
async fn every_malformed_frame_gets_its_error_and_the_connection_stays_usable() {
    let stack = Stack::talkative()
        .parameter("MaxMessageBytes", "32768")
        .start()
        .await;
    let mut socket = stack.connect("alice").await;
    let path = repository().join("schemas/cases/client-frames.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut refusals = 0;
    for case in &cases {
        let (text, expected) = (
            case["text"].as_str().unwrap(),
            case["expect"].as_str().unwrap(),
        );
        // API Gateway closes the connection on larger frames.
        if text.len() > 32 * 1024 {
            continue;
        }
        if expected == "pong" {
            socket.send(text).await;
            socket.expect_nothing().await;
            continue;
        }
        if expected == "lock" {
            let channels = r#"{"channels":[{"channel":"demo:7"}]}"#;
            let subscribe = format!(r#"{{"type":"subscribe","version":"1.0","data":{channels}}}"#);
            let subscribed = socket.ask(&subscribe).await;
            assert_eq!(subscribed["type"], "subscribed", "{subscribed}");
        }
        let answer = socket.ask(text).await;
        if expected.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
            refusals += 1;
            assert_eq!(answer["type"], "error", "{case}: {answer}");
            assert_eq!(answer["data"]["code"], expected, "{case}: {answer}");
            assert!(
                answer["data"]["message"].is_string() && answer["data"]["timestamp"].is_string(),
                "{answer}"
            );
        } else if expected == "auth.refresh" {
            // The frame is valid, the token in it is not.
            assert_eq!(answer["data"]["code"], "UNAUTHORIZED", "{case}: {answer}");
        } else if expected == "call" {
            // The frame is valid, the stack has no function.
            assert_eq!(answer["data"]["code"], "FORBIDDEN", "{case}: {answer}");
        } else if expected == "ack" {
            // The frame is valid, its epoch is not the channel's.
            assert_eq!(
                answer["data"]["code"], "INVALID_MESSAGE",
                "{case}: {answer}"
            );
        } else {
            assert_ne!(answer["type"], "error", "{case}: {answer}");
        }
    }
    assert!(
        refusals >= 40,
        "only {refusals} malformed frames were tried"
    );
    socket.expect_nothing().await;
    assert!(
        !stack.logs.text().contains("hello there"),
        "a frame's text reached the logs"
    );
}

#[tokio::test]
async fn the_size_limit_can_be_configured() {
    let stack = Stack::builder()
        .parameter("MaxMessageBytes", "256")
        .start()
        .await;
    let mut socket = stack.connect("alice").await;
    let frame = json!({"type": "echo", "version": "1.0", "data": "x".repeat(300)}).to_string();
    assert_eq!(
        socket.ask(&frame).await["data"]["code"],
        "MESSAGE_TOO_LARGE"
    );
    socket.expect_nothing().await;
}

#[tokio::test]
async fn frames_of_one_connection_are_matched_by_their_ids() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    for n in 0..20 {
        socket
            .send(
                &json!({"type": "echo", "version": "1.0", "id": format!("f{n}"), "data": n})
                    .to_string(),
            )
            .await;
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let echo = socket.receive().await;
        assert_eq!(echo["correlationId"], format!("f{}", echo["data"]));
        seen.insert(echo["data"].as_u64().unwrap());
    }
    assert_eq!(seen.len(), 20);
}

#[tokio::test]
async fn a_connection_without_a_row_is_refused_and_closed() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    let id = socket.id().await;
    let key = aws_sdk_dynamodb::types::AttributeValue::S(id.clone());
    stack
        .dynamodb()
        .delete_item()
        .table_name("Connections")
        .key("connectionId", key)
        .send()
        .await
        .unwrap();
    let error = socket.ask(r#"{"type":"ping","version":"1.0"}"#).await;
    assert_eq!(error["data"]["code"], "UNKNOWN_CONNECTION");
    assert_eq!(socket.closed().await.0, 1000);
    assert!(stack.row(&id).await.is_none(), "the frame created no row");
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let stack = Stack::talkative().start().await;
    let token = stack.token_with(json!({"user": "alice", "ttl": 1})).await;
    let bearer = format!("Bearer {token}");
    let mut socket = open(&stack.ready.websocket, &[("Authorization", &bearer)]).await;
    // Frames are answered until the token expires. The next one is the last.
    let refusal = async {
        loop {
            let answer = socket.ask(r#"{"type":"ping","version":"1.0"}"#).await;
            if answer["type"] != "pong" {
                return answer;
            }
        }
    };
    let refusal = soon("the token expires", refusal).await;
    assert_eq!(refusal["data"]["code"], "TOKEN_EXPIRED");
    assert_eq!(socket.closed().await.0, 1000);
}

fn refresh(token: &str) -> String {
    json!({"type": "auth.refresh", "version": "1.0", "id": "r", "data": {"token": token}})
        .to_string()
}

#[tokio::test]
async fn a_new_token_extends_the_session() {
    let stack = Stack::talkative().start().await;
    // Starts the functions and fetches the keys before the clock runs.
    let mut warm = stack.connect("bob").await;
    let warmed = warm.ask(&refresh(&stack.token("bob").await)).await;
    assert_eq!(warmed["type"], "auth.refreshed");
    let expiry = unix_time().as_secs() + 15;
    let first = stack.token_with(json!({"user": "alice", "ttl": 15})).await;
    let bearer = format!("Bearer {first}");
    let url = &stack.ready.websocket;
    let mut socket = open(url, &[("Authorization", &bearer)]).await;
    let welcome = socket.ask(r#"{"type":"hello","version":"1.0"}"#).await;
    let second = stack.token("alice").await;
    let refreshed = socket.ask(&refresh(&second)).await;
    assert_eq!(refreshed["type"], "auth.refreshed");
    assert_eq!(refreshed["correlationId"], "r");
    let first_end = welcome["data"]["tokenExpiresAt"].as_str().unwrap();
    let second_end = refreshed["data"]["tokenExpiresAt"].as_str().unwrap();
    assert!(second_end > first_end, "{first_end} {second_end}");

    // After the first token's expiry, frames are answered and broadcasts arrive.
    let row = stack
        .row(welcome["data"]["connectionId"].as_str().unwrap())
        .await
        .unwrap();
    let end: u64 = row["tokenExpiresAt"].as_n().unwrap().parse().unwrap();
    let now = || unix_time().as_secs();
    assert!(end > now() + 3_000);
    while now() <= expiry + 1 {
        let pong = socket.ask(r#"{"type":"ping","version":"1.0"}"#).await;
        assert_eq!(pong["type"], "pong");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let request = json!({"target": {"type": "user", "userId": "alice"}, "message": {"type": "notification", "data": {"kind": "k"}}});
    assert_eq!(stack.broadcast(&request).await.unwrap()["success"], 1);
    assert_eq!(socket.receive().await["type"], "notification");

    let logs = stack.logs.text();
    for token in [first, second] {
        assert!(!logs.contains(&token), "a token reached the logs");
    }
}

#[tokio::test]
async fn an_invalid_token_does_not_extend_the_session() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    let expired = stack.token_with(json!({"user": "alice", "ttl": -1})).await;
    let other_client = json!({"user": "alice", "claims": {"client_id": "other"}});
    let other_client = stack.token_with(other_client).await;
    for token in [expired, other_client, "garbage".into(), String::new()] {
        let error = socket.ask(&refresh(&token)).await;
        assert_eq!(error["data"]["code"], "UNAUTHORIZED", "{error}");
        assert_eq!(error["correlationId"], "r");
    }
    socket.expect_nothing().await;
}

#[tokio::test]
async fn a_token_of_another_user_ends_the_connection() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    let error = socket.ask(&refresh(&stack.token("mallory").await)).await;
    assert_eq!(error["data"]["code"], "UNAUTHORIZED");
    assert!(
        error["data"]["message"]
            .as_str()
            .unwrap()
            .contains("another user"),
        "{error}"
    );
    assert_eq!(socket.closed().await.0, 1000);
}

#[tokio::test]
async fn a_refresh_fails_while_keys_are_unreachable() {
    // Only the function for messages cannot reach the keys.
    let template = template_with("Default", &[]);
    let text = std::fs::read_to_string(template.path()).unwrap();
    let start = text.find("\n  Default:\n").unwrap();
    let (before, after) = text.split_at(start);
    let nowhere = after.replacen("!Ref TokenJwksUrl", "http://127.0.0.1:9/keys", 1);
    std::fs::write(template.path(), format!("{before}{nowhere}")).unwrap();
    let stack = Stack::builder().template(template.path()).start().await;
    let mut socket = stack.connect("alice").await;
    let error = socket.ask(&refresh(&stack.token("alice").await)).await;
    assert_eq!(error["data"]["code"], "INTERNAL");
    assert_eq!(error["correlationId"], "r");
    stack
        .logs
        .wait_for(&[
            "[Default]",
            "\"event\":\"frame.failed\"",
            "signing keys unavailable",
        ])
        .await;
    socket.expect_nothing().await;
}
