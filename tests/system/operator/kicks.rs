//! An operator closes connections.

use belfry_tests::{Socket, Stack, StackBuilder, soon, until};
use futures_util::future::join_all;
use serde_json::{Value, json};

/// Ten connections per worker, and five workers at a time.
fn splitting() -> StackBuilder {
    Stack::talkative()
        .parameter("ConnectionsPerWorker", "10")
        .parameter("MaxWorkers", "5")
        .parameter("PostsPerSecond", "5000")
        .argument("--retry-delay")
        .argument("20ms,40ms")
}

async fn people(stack: &Stack, count: usize) -> Vec<Socket> {
    let names: Vec<_> = (0..count).map(|n| format!("user-{n}")).collect();
    join_all(names.iter().map(|name| stack.connect(name))).await
}

async fn subscribe(socket: &mut Socket, channel: &str) {
    let subscribe = json!({"type": "subscribe", "version": "1.0", "data": {"channels": [{"channel": channel}]}});
    let answer = socket.ask(&subscribe.to_string()).await;
    assert_eq!(answer["type"], "subscribed", "{answer}");
    assert!(answer["data"]["channels"][0]["seq"].is_number(), "{answer}");
}

/// Waits until `$disconnect` has removed the rows of those who were closed.
async fn expect_left(stack: &Stack, count: usize) {
    let gone = async || stack.rows().await == count;
    until(&format!("{count} connections are left"), gone).await;
    stack.expect_connections(count).await;
}

/// Waits for the reason and the close. A worker that died may have told the
/// client before.
async fn expect_kicked(socket: &mut Socket, code: &str) {
    let mut told = 0;
    while let Some(text) = soon("it is closed", socket.next_text()).await {
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(frame["data"]["code"], code, "{frame}");
        told += 1;
    }
    assert!(told >= 1, "closed without a reason");
}

#[tokio::test]
async fn a_kick_of_a_user_tells_and_closes_every_connection_of_the_user() {
    let stack = Stack::start().await;
    for (code, id) in [
        ("RECONNECT", "k1"),
        ("TOKEN_EXPIRED", "k2"),
        ("CLOSED_BY_OPERATOR", "k3"),
    ] {
        let mut tabs = Vec::new();
        for _ in 0..3 {
            tabs.push(stack.connect("alice").await);
        }
        let mut bob = stack.connect("bob").await;
        let request = json!({
            "action": "kick", "messageId": id, "code": code, "waitSeconds": 20,
            "target": {"type": "user", "userId": "alice"},
        });
        let report = stack.invoke("Operator", &request).await.unwrap();
        let expected = json!({
            "messageId": id, "status": "done", "success": 3, "failure": 0,
            "failures": {"gone": 0, "throttled": 0, "tooLarge": 0, "failed": 0, "notAttempted": 0},
        });
        assert_eq!(report, expected);
        for tab in &mut tabs {
            let error = tab.receive().await;
            assert_eq!(
                (&error["type"], &error["data"]["code"]),
                (&json!("error"), &json!(code))
            );
            assert_eq!(tab.closed().await.0, 1000);
        }
        bob.expect_nothing().await;
        expect_left(&stack, 1).await;
        // The same request closes nobody who has come back.
        let mut back = stack.connect("alice").await;
        assert_eq!(stack.invoke("Operator", &request).await.unwrap(), expected);
        back.expect_nothing().await;
        back.close().await;
        bob.close().await;
        expect_left(&stack, 0).await;
    }
    let asked = [
        "\"event\":\"operator.kick\"",
        "\"target\":\"user alice\"",
        "\"messageId\":\"k1\"",
    ];
    stack.logs.wait_for(&asked).await;
    let done = [
        "\"event\":\"operator.completed\"",
        "\"action\":\"kick\"",
        "\"success\":3",
    ];
    stack.logs.wait_for_count(3, &done).await;
}

/// Workers are killed at many moments: subscribers of the channel are told and
/// closed all the same, and nobody else is.
#[tokio::test]
async fn a_kick_of_a_channel_closes_its_subscribers_although_workers_die() {
    let stack = splitting().start().await;
    let mut outsiders = people(&stack, 3).await;
    for delay in ["0ms", "8ms", "20ms"] {
        let mut room = people(&stack, 40).await;
        // Their handshakes are over: a 410 is the truth.
        stack.age_rows().await;
        join_all(
            room.iter_mut()
                .map(|socket| subscribe(socket, "demo:room:7")),
        )
        .await;
        let kill =
            json!({"fault": "function-kill", "function": "Worker", "times": 5, "delay": delay});
        let fault = stack.fault(kill).await;
        let request = json!({
            "action": "kick", "messageId": format!("after-{delay}"), "waitSeconds": 20,
            "target": {"type": "channel", "channel": "demo:room:7"},
        });
        let report = stack.invoke("Operator", &request).await.unwrap();
        assert_eq!(report["status"], "done", "after {delay}: {report}");
        for socket in &mut room {
            expect_kicked(socket, "RECONNECT").await;
        }
        stack.end_fault(&fault).await;
        expect_left(&stack, outsiders.len()).await;
    }
    for socket in &mut outsiders {
        socket.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_kick_whose_workers_failed_for_good_is_resumed() {
    const PEOPLE: usize = 50;
    let stack = splitting().start().await;
    let mut people = people(&stack, PEOPLE).await;
    // Their handshakes are over: a 410 is the truth.
    stack.age_rows().await;
    // After three attempts at a segment, the event is a dead letter.
    let kill = json!({"fault": "function-kill", "function": "Worker", "times": 15});
    stack.fault(kill).await;
    let request = json!({
        "action": "kick", "messageId": "unlucky", "target": {"type": "all"},
        "code": "CLOSED_BY_OPERATOR",
    });
    stack.invoke("Operator", &request).await.unwrap();
    stack
        .logs
        .wait_for_count(5, &["DEAD LETTER", "Worker"])
        .await;
    // Only the operator knows of it.
    let ask = json!({"action": "resume", "messageId": "unlucky"});
    let unknown = stack.broadcast(&ask).await.unwrap_err();
    assert_eq!(unknown["errorType"], "InvalidRequest", "{unknown}");
    let resume = json!({"action": "resume", "messageId": "unlucky", "waitSeconds": 20});
    let report = stack.invoke("Operator", &resume).await.unwrap();
    let expected = (&json!("done"), &json!(PEOPLE));
    assert_eq!(
        (&report["status"], &report["success"]),
        expected,
        "{report}"
    );
    for socket in &mut people {
        expect_kicked(socket, "CLOSED_BY_OPERATOR").await;
    }
    let ask = json!({"action": "report", "messageId": "unlucky"});
    assert_eq!(stack.invoke("Operator", &ask).await.unwrap(), report);
}

#[tokio::test]
async fn a_client_that_cannot_be_told_is_closed_all_the_same() {
    let stack = Stack::builder()
        .parameter("PostTimeoutMs", "500")
        .start()
        .await;
    let mut alice = stack.connect("alice").await;
    stack
        .fault(json!({"fault": "post-silence", "times": 1}))
        .await;
    let request = json!({
        "action": "kick", "waitSeconds": 20,
        "target": {"type": "user", "userId": "alice"},
    });
    let report = stack.invoke("Operator", &request).await.unwrap();
    assert_eq!(report["success"], 0, "{report}");
    assert_eq!(report["failures"]["failed"], 1, "{report}");
    assert_eq!(alice.closed().await.0, 1000);
    expect_left(&stack, 0).await;
}
