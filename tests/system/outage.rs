//! Unreachable dependencies, DynamoDB above all.

use belfry_tests::{Stack, refused, template_with};
use serde_json::json;

use crate::start::template;

/// A port that nobody listens on.
const NOWHERE: &[(&str, &str)] = &[("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9")];

#[tokio::test]
async fn a_handshake_is_a_503() {
    let template = template_with("Connect", NOWHERE);
    let stack = Stack::builder().template(template.path()).start().await;
    let bearer = format!("Bearer {}", stack.token("alice").await);
    assert_eq!(
        refused(&stack.ready.websocket, &[("Authorization", &bearer)]).await,
        503
    );
    let line = stack
        .logs
        .wait_for(&[
            "[Connect]",
            "\"event\":\"connection.refused\"",
            "TransactWriteItems failed",
        ])
        .await;
    assert!(line.contains("\"level\":\"ERROR\""), "{line}");
}

#[tokio::test]
async fn a_server_that_hangs_is_a_503_too() {
    // Accepts connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let template = template_with("Connect", &[("AWS_ENDPOINT_URL_DYNAMODB", &url)]);
    let without_table = Stack::builder().template(template.path()).start().await;
    let without_keys = Stack::builder()
        .parameter("TokenJwksUrl", &url)
        .start()
        .await;
    for stack in [&without_table, &without_keys] {
        let bearer = format!("Bearer {}", stack.token("alice").await);
        assert_eq!(
            refused(&stack.ready.websocket, &[("Authorization", &bearer)]).await,
            503
        );
    }
}

#[tokio::test]
async fn a_frame_is_an_internal_error_and_the_connection_stays() {
    let template = template_with("Default", NOWHERE);
    let stack = Stack::builder().template(template.path()).start().await;
    let mut socket = stack.connect("alice").await;
    for _ in 0..2 {
        let error = socket.ask(r#"{"type":"ping","version":"1.0"}"#).await;
        assert_eq!(error["data"]["code"], "INTERNAL");
    }
    let line = stack
        .logs
        .wait_for(&[
            "[Default]",
            "\"event\":\"frame.failed\"",
            "UpdateItem failed",
        ])
        .await;
    assert!(line.contains("\"level\":\"ERROR\""), "{line}");
}

#[tokio::test]
async fn a_broadcast_without_dynamodb_is_unavailable() {
    let template = template_with("Broadcaster", NOWHERE);
    let stack = Stack::builder().template(template.path()).start().await;
    let request = json!({"target": {"type": "all"}, "message": {"type": "notification", "data": {"kind": "k"}}});
    let error = stack.broadcast(&request).await.unwrap_err();
    assert_eq!(error["errorType"], "Unavailable");
    assert!(
        error["errorMessage"]
            .as_str()
            .unwrap()
            .contains("ask again with the same messageId"),
        "{error}"
    );
    let line = stack
        .logs
        .wait_for(&[
            "[Broadcaster]",
            "\"event\":\"broadcast.failed\"",
            "BatchGetItem failed",
        ])
        .await;
    assert!(line.contains("\"level\":\"ERROR\""), "{line}");
}

#[tokio::test]
async fn an_invalid_setting_is_named_in_the_log() {
    let file = template("!Ref AllowedOrigins", "\"https://*\"");
    let stack = Stack::builder().template(file.path()).start().await;
    let bearer = format!("Bearer {}", stack.token("alice").await);
    assert_eq!(
        refused(&stack.ready.websocket, &[("Authorization", &bearer)]).await,
        502
    );
    stack
        .logs
        .wait_for(&[
            "[Connect]",
            "\"event\":\"function.misconfigured\"",
            "ALLOWED_ORIGINS",
            "a wildcard stands for one label",
        ])
        .await;
}
