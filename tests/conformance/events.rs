//! The events that functions receive.

use std::collections::BTreeSet;

use belfry_tests::open;
use serde_json::{Value, json};

use crate::target::{Target, id};

fn names(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// The fields of every event's `requestContext`.
const CONTEXT: [&str; 13] = [
    "apiId",
    "connectedAt",
    "connectionId",
    "domainName",
    "eventType",
    "extendedRequestId",
    "identity",
    "messageDirection",
    "requestId",
    "requestTime",
    "requestTimeEpoch",
    "routeKey",
    "stage",
];

fn assert_context(event: &Value, kind: &str, route: &str, more: &[&str]) {
    let context = &event["requestContext"];
    let expected: BTreeSet<_> = CONTEXT.iter().chain(more).copied().collect();
    assert_eq!(names(context), expected);
    assert_eq!(context["eventType"], kind);
    assert_eq!(context["routeKey"], route);
    assert_eq!(context["messageDirection"], "IN");
    assert_eq!(context["extendedRequestId"], context["requestId"]);
    assert!(context["connectedAt"].is_u64() && context["requestTimeEpoch"].is_u64());
    assert!(context["identity"]["sourceIp"].is_string());
    // 09/Feb/2024:18:11:43 +0000
    let time = context["requestTime"].as_str().unwrap();
    assert_eq!(time.len(), 26, "{time}");
    assert!(time.ends_with(" +0000"), "{time}");
    let id = context["connectionId"].as_str().unwrap();
    assert!(id.len() == 16 && id.ends_with('='), "{id}");
    assert_eq!(event["isBase64Encoded"], false);
}

#[tokio::test]
async fn connect_message_and_disconnect_have_their_fields() {
    let target = Target::start().await;
    let mut watcher = target.watcher().await;
    let agent = watcher.agent();
    let mut socket = open(&target.url, &[("User-Agent", &agent)]).await;
    let connect = watcher.event("CONNECT").await;
    assert_context(&connect, "CONNECT", "$connect", &[]);
    assert_eq!(
        names(&connect),
        [
            "headers",
            "isBase64Encoded",
            "multiValueHeaders",
            "requestContext"
        ]
        .into()
    );
    assert_eq!(connect["requestContext"]["identity"]["userAgent"], agent);

    socket.ask_text("hello").await;
    let message = watcher.event("MESSAGE").await;
    assert_context(&message, "MESSAGE", "$default", &["messageId"]);
    assert_eq!(
        names(&message),
        ["body", "isBase64Encoded", "requestContext"].into(),
        "a message must have no headers and no query"
    );
    assert_eq!(message["body"], "hello");

    let id = id(&mut socket).await;
    watcher.event("MESSAGE").await;
    socket.close().await;
    let disconnect = watcher.event("DISCONNECT").await;
    let more = ["disconnectReason", "disconnectStatusCode"];
    assert_context(&disconnect, "DISCONNECT", "$disconnect", &more);
    assert_eq!(
        names(&disconnect["headers"]),
        ["Host", "X-Forwarded-For", "x-api-key", "x-restapi"].into()
    );
    assert_eq!(disconnect["requestContext"]["connectionId"], id);
    for event in [&message, &disconnect] {
        assert_eq!(
            event["requestContext"]["connectedAt"],
            connect["requestContext"]["connectedAt"]
        );
    }
}

/// The status code and the reason of a DISCONNECT event.
fn ending(event: &Value) -> (u64, &str) {
    let context = &event["requestContext"];
    (
        context["disconnectStatusCode"].as_u64().unwrap(),
        context["disconnectReason"].as_str().unwrap(),
    )
}

#[tokio::test]
async fn disconnect_has_the_clients_code_and_reason() {
    let target = Target::start().await;
    let mut watcher = target.watcher().await;
    let agent = watcher.agent();
    for (close, expected) in [
        (None, (1005, "Client-side close frame status not set")),
        (Some((1000, "")), (1000, "Connection Closed Normally")),
        (Some((4001, "bye")), (4001, "bye")),
    ] {
        let socket = open(&target.url, &[("User-Agent", &agent)]).await;
        socket.close_with(close).await;
        let event = watcher.event("DISCONNECT").await;
        assert_eq!(ending(&event), expected, "{close:?}");
    }
}

#[tokio::test]
async fn disconnect_after_a_lost_client_is_a_1006() {
    let target = Target::start().await;
    let mut watcher = target.watcher().await;
    let agent = watcher.agent();
    // The TCP connection ends without a close frame.
    drop(open(&target.url, &[("User-Agent", &agent)]).await);
    let event = watcher.event("DISCONNECT").await;
    assert_eq!(ending(&event), (1006, "Connection Closed Abnormally"));
}

#[tokio::test]
async fn disconnect_after_a_delete_is_a_1000() {
    let target = Target::start().await;
    let mut watcher = target.watcher().await;
    let agent = watcher.agent();
    let mut socket = open(&target.url, &[("User-Agent", &agent)]).await;
    let id = id(&mut socket).await;
    let delete = target.management.delete_connection().connection_id(&id);
    delete.send().await.unwrap();
    assert_eq!(
        socket.closed().await,
        (1000, "Connection Closed Normally".into())
    );
    let event = watcher.event("DISCONNECT").await;
    assert_eq!(ending(&event), (1000, "Connection Closed Normally"));
}

#[tokio::test]
async fn disconnect_after_the_idle_timeout_is_a_1001() {
    let target = Target::with_timers("2s", "60s").await;
    let mut watcher = target.watcher().await;
    let agent = watcher.agent();
    let _socket = open(&target.url, &[("User-Agent", &agent)]).await;
    let event = watcher
        .event_within(target.timers.idle * 3, "DISCONNECT")
        .await;
    assert_eq!(ending(&event), (1001, "Going away"));
}

#[tokio::test]
async fn the_user_agent_is_absent_if_the_client_sends_none() {
    let target = Target::start().await;
    let mut socket = target.connect().await;
    let event = socket.ask("event").await;
    assert_eq!(
        event["requestContext"]["identity"],
        json!({"sourceIp": event["requestContext"]["identity"]["sourceIp"]})
    );
}
