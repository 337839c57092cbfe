//! What `Operator` does for `belfry ops`, on the local stack.

use belfry_tests::{Stack, until};
use serde_json::{Value, json};

use super::ops_at;

/// The report of a command that must succeed.
async fn report(stack: &Stack, command: &[&str]) -> Value {
    let ended = ops_at(&stack.ready.lambda, &[command, &["--json"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.out).unwrap()
}

#[tokio::test]
async fn a_connection_is_found_and_inspected() {
    let stack = Stack::start().await;
    let mut alice = stack.connect("alice").await;
    let _bob = stack.connect("bob").await;
    let id = alice.id().await;
    let list = report(&stack, &["list", "--user", "alice"]).await;
    assert_eq!(list["connections"].as_array().unwrap().len(), 1);
    assert_eq!(list["connections"][0]["connectionId"], *id);
    let all = report(&stack, &["list", "--all"]).await;
    assert_eq!(all["connections"].as_array().unwrap().len(), 2);
    let details = report(&stack, &["inspect", &id]).await;
    assert_eq!(details["connection"]["userId"], "alice");
    assert!(details["socket"]["connectedAt"].is_string(), "{details}");
    let unknown = ops_at(&stack.ready.lambda, &["inspect", "bm9ib2R5"]).await;
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.out.starts_with("Belfry knows no such connection."));
}

#[tokio::test]
async fn connections_and_subscribers_are_counted() {
    let stack = Stack::start().await;
    let mut alice = stack.connect("alice").await;
    alice
        .ask(
            r#"{"type":"subscribe","version":"1.0","data":{"channels":[{"channel":"demo:room"}]}}"#,
        )
        .await;
    until("the subscriber is counted", async || {
        let stats = report(&stack, &["stats"]).await;
        stats["connections"] == 1
            && stats["lastFiveMinutes"]["framesServed"] == 1.0
            && stats["channels"]["largest"] == json!([{"channel": "demo:room", "subscribers": 1}])
    })
    .await;
}

#[tokio::test]
async fn a_user_is_told_to_reconnect_and_closed() {
    let stack = Stack::start().await;
    let mut alice = stack.connect("alice").await;
    let done = report(&stack, &["kick", "--user", "alice"]).await;
    assert_eq!(
        (&done["status"], &done["success"]),
        (&json!("done"), &json!(1))
    );
    let told = alice.receive().await;
    assert_eq!(told["data"]["code"], "RECONNECT", "{told}");
    alice.closed().await;
    let id = done["messageId"].as_str().unwrap();
    assert_eq!(report(&stack, &["report", id]).await["success"], 1);
}

#[tokio::test]
async fn subscribers_are_asked_to_reconnect_and_stay() {
    let stack = Stack::start().await;
    let mut alice = stack.connect("alice").await;
    alice
        .ask(
            r#"{"type":"subscribe","version":"1.0","data":{"channels":[{"channel":"demo:room"}]}}"#,
        )
        .await;
    let done = report(
        &stack,
        &["drain", "--channel", "demo:room", "--within", "60"],
    )
    .await;
    assert_eq!(done["success"], 1, "{done}");
    let asked = alice.receive().await;
    assert_eq!(asked["type"], "reconnect", "{asked}");
    assert_eq!(asked["data"]["withinMs"], 60_000, "{asked}");
    let echo = alice
        .ask(r#"{"type":"echo","version":"1.0","id":"1","data":1}"#)
        .await;
    assert_eq!(echo["type"], "echo");
}
