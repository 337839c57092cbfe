//! Faults of posts and of the clients that they go to.

use std::time::Duration;

use aws_sdk_apigatewaymanagement::primitives::Blob;
use belfry_tests::Stack;
use serde_json::{Value, json};

use super::{PING, alice, to};

#[tokio::test]
async fn posts_are_answered_as_the_fault_says() {
    let stack = Stack::builder()
        .parameter("PostTimeoutMs", "1000")
        .start()
        .await;
    let (mut socket, id) = alice(&stack).await;
    for (fault, times, outcome) in [
        ("post-429", 1_000, "throttled"),
        ("post-500", 1_000, "failed"),
        ("post-silence", 1_000, "failed"),
        // Retried until it succeeds.
        ("post-429", 2, "success"),
    ] {
        let description = json!({"fault": fault, "connection": id, "times": times});
        let active = stack.fault(description).await;
        let report = stack.broadcast(&to("alice")).await.unwrap();
        assert!(stack.strikes(&active).await >= 1, "{fault}");
        if outcome == "success" {
            assert_eq!(report["success"], 1, "{fault}: {report}");
            assert_eq!(socket.receive().await["type"], "notification");
        } else {
            assert_eq!(report["failures"][outcome], 1, "{fault}: {report}");
        }
        socket.expect_nothing().await;
        stack.end_fault(&active).await;
    }
    // While the handshake may be pending, a 410 proves nothing.
    socket.close().await;
    let (_socket, id) = alice(&stack).await;
    let fault = stack
        .fault(json!({"fault": "post-410", "connection": id}))
        .await;
    let report = stack.broadcast(&to("alice")).await.unwrap();
    assert_eq!(report["failures"]["gone"], 1, "{report}");
    assert_eq!(stack.strikes(&fault).await, 2);
    assert!(stack.row(&id).await.is_some());
    stack.age_rows().await;
    let report = stack.broadcast(&to("alice")).await.unwrap();
    assert_eq!(report["failures"]["gone"], 1, "{report}");
    assert_eq!(stack.strikes(&fault).await, 3);
    assert!(stack.row(&id).await.is_none());
}

#[tokio::test]
async fn a_share_of_the_connections_is_struck() {
    let stack = Stack::builder()
        .parameter("MaxConnectionsPerUser", "100")
        .start()
        .await;
    let mut sockets = Vec::new();
    for _ in 0..24 {
        sockets.push(stack.connect("alice").await);
    }
    let fault = stack
        .fault(json!({"fault": "post-500", "share": 0.5}))
        .await;
    let ids = stack.connection_ids().await;
    let management = stack.management();
    let struck = async || {
        let mut struck = Vec::new();
        for id in &ids {
            let data = Blob::new("{}");
            let post = management.post_to_connection().connection_id(id).data(data);
            if post.send().await.is_err() {
                struck.push(id);
            }
        }
        struck
    };
    let first = struck().await;
    assert!((1..24).contains(&first.len()), "{first:?}");
    assert_eq!(struck().await, first, "the same connections again");
    assert_eq!(stack.strikes(&fault).await, 2 * first.len() as u64);
}

#[tokio::test]
async fn a_frozen_peer_stays_connected_and_hears_nothing() {
    let stack = Stack::start().await;
    let (mut socket, id) = alice(&stack).await;
    let fault = json!({"fault": "peer-freeze", "connection": id});
    let fault = stack.fault(fault).await;
    socket.send(PING).await;
    let report = stack.broadcast(&to("alice")).await.unwrap();
    assert_eq!(report["success"], 1, "API Gateway takes the post: {report}");
    let silence = tokio::time::timeout(Duration::from_millis(300), socket.next_text());
    assert!(silence.await.is_err(), "a frame came through");
    assert!(stack.row(&id).await.is_some());
    assert_eq!(stack.strikes(&fault).await, 1);
    stack.end_fault(&fault).await;
    let mut kinds = vec![
        socket.receive().await["type"].clone(),
        socket.receive().await["type"].clone(),
    ];
    kinds.sort_by_key(Value::to_string);
    assert_eq!(kinds, ["notification", "pong"]);
}

#[tokio::test]
async fn a_frozen_peer_can_be_deleted() {
    let stack = Stack::builder()
        .argument("--fault")
        .argument("peer-freeze")
        .start()
        .await;
    stack.logs.wait_for(&["FAULT active", "peer-freeze"]).await;
    let mut socket = stack.connect("alice").await;
    let rows = stack
        .dynamodb()
        .scan()
        .table_name("Connections")
        .send()
        .await
        .unwrap();
    let id = rows.items()[0]["connectionId"].as_s().unwrap().clone();
    let management = stack.management();
    management
        .delete_connection()
        .connection_id(&id)
        .send()
        .await
        .unwrap();
    stack.disconnected(&id).await;
    // Its network hears of that when it is back.
    let silence = tokio::time::timeout(Duration::from_millis(300), socket.next_text());
    assert!(silence.await.is_err(), "the close came through");
    stack.local("DELETE", "faults", None).await;
    let closed = socket.closed().await;
    assert_eq!(closed, (1000, "Connection Closed Normally".into()));
}
