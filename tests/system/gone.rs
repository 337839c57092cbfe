//! Rows whose socket is gone.

use aws_sdk_dynamodb::types::AttributeValue;
use belfry_tests::{Stack, unix_time};
use serde_json::{Value, json};

/// Writes a row like `$connect`'s, of this age.
async fn plant(stack: &Stack, id: &str, age_ms: u64) {
    let now = u64::try_from(unix_time().as_millis()).unwrap();
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let number = |value: u64| AttributeValue::N(value.to_string());
    stack
        .dynamodb()
        .put_item()
        .table_name("Connections")
        .item("connectionId", text(id))
        .item("userId", text("alice"))
        .item("connectedAt", number(now - age_ms))
        .item("lastSeenAt", number(now - age_ms))
        .item("expiresAt", number(now / 1_000 + 3_600))
        .item("tokenExpiresAt", number(now / 1_000 + 3_600))
        .item("sourceIp", text("192.0.2.1"))
        .item("shard", number(0))
        .item("dueAt", number(now + 480_000))
        .send()
        .await
        .unwrap();
}

fn to_all() -> Value {
    json!({"target": {"type": "all"}, "message": {"type": "notification", "data": {"kind": "k"}}})
}

const ROW: &str = "R0oXAdfD0kwCH6w=";

#[tokio::test]
async fn an_old_row_without_a_socket_is_counted_and_removed() {
    let stack = Stack::start().await;
    let (mut one, mut two) = (stack.connect("alice").await, stack.connect("bob").await);
    plant(&stack, ROW, 60_000).await;
    let report = stack.broadcast(&to_all()).await.unwrap();
    assert_eq!(
        (&report["success"], &report["failures"]["gone"]),
        (&json!(2), &json!(1)),
        "{report}"
    );
    assert_eq!(one.receive().await["type"], "notification");
    assert_eq!(two.receive().await["type"], "notification");
    assert!(stack.row(ROW).await.is_none());
    assert_eq!(stack.rows().await, 2);
    let line = stack
        .logs
        .wait_for(&["[Broadcaster]", "\"event\":\"broadcast.reported\""])
        .await;
    assert!(line.contains(&format!("{ROW}: gone")), "{line}");
}

#[tokio::test]
async fn a_row_whose_handshake_may_be_pending_is_kept() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("bob").await;
    plant(&stack, ROW, 0).await;
    let begun = std::time::Instant::now();
    let report = stack.broadcast(&to_all()).await.unwrap();
    assert!(
        begun.elapsed().as_millis() >= 1_000,
        "the row was counted without a second post"
    );
    assert_eq!(
        (&report["success"], &report["failures"]["gone"]),
        (&json!(1), &json!(1)),
        "{report}"
    );
    assert!(stack.row(ROW).await.is_some());
    assert_eq!(socket.receive().await["type"], "notification");
}

#[tokio::test]
async fn a_row_with_an_impossible_id_is_gone_too() {
    let stack = Stack::start().await;
    plant(&stack, "no-connection-id-of-api-gateway", 60_000).await;
    let report = stack.broadcast(&to_all()).await.unwrap();
    assert_eq!(report["failures"]["gone"], 1, "{report}");
    assert_eq!(stack.rows().await, 0);
}
