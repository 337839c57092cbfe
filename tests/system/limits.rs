//! Limits, under many attempts at once.

use std::time::{Duration, Instant};

use belfry_tests::{Socket, Stack, open, soon, try_open, until};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use serde_json::json;

/// Handshakes under way. On a busy machine, more of them would wait too long for
/// a function's process.
const AT_ONCE: usize = 50;

/// Tries many handshakes. Returns the open sockets, and the statuses of the
/// refused attempts.
async fn rush(stack: &Stack, count: usize, users: usize) -> (Vec<Socket>, Vec<u16>) {
    let tokens = join_all((0..users).map(async |n| stack.token(&format!("user-{n}")).await)).await;
    let attempts = (0..count).map(async |n| {
        let bearer = format!("Bearer {}", tokens[n % users]);
        try_open(&stack.ready.websocket, &[("Authorization", &bearer)]).await
    });
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    let mut attempts = stream::iter(attempts).buffer_unordered(AT_ONCE);
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(socket) => accepted.push(socket),
            Err(status) => refused.push(status),
        }
    }
    (accepted, refused)
}

/// Broadcasts until only this many rows are left: a broadcast removes those
/// whose `$disconnect` was dropped.
async fn settle(stack: &Stack, count: usize) {
    let to_all = json!({
        "target": {"type": "all"},
        "message": {"type": "notification", "data": {"kind": "k"}},
    });
    let settled = async || {
        if stack.rows().await <= count {
            return true;
        }
        stack.age_rows().await;
        stack.broadcast(&to_all).await.unwrap();
        false
    };
    until(&format!("only {count} rows are left"), settled).await;
}

#[tokio::test]
async fn the_connection_limit_holds_however_many_come_and_go() {
    const LIMIT: usize = 100;
    let stack = Stack::builder()
        .parameter("MaxConnections", "100")
        .parameter("MaxConnectionsPerUser", "100")
        .argument("--connect-rate")
        .argument("0")
        .start()
        .await;
    let most = stack.watch_rows();
    for round in 0..10 {
        let (mut accepted, refused) = rush(&stack, 300, 7).await;
        assert_eq!(accepted.len(), LIMIT, "round {round}");
        assert!(refused.iter().all(|status| *status == 503), "{refused:?}");
        // Some leave without a close. `$disconnect` runs twice for some of
        // them, and now and then not at all until a broadcast finds them gone.
        stack
            .fault(json!({"fault": "disconnect-duplicate", "times": 10}))
            .await;
        if round % 3 == 0 {
            stack
                .fault(json!({"fault": "disconnect-drop", "times": 5}))
                .await;
        }
        let staying = accepted.split_off(60);
        drop(accepted);
        settle(&stack, staying.len()).await;
        stack.expect_connections(staying.len()).await;
        let (others, _) = rush(&stack, 80, 7).await;
        assert_eq!(others.len(), LIMIT - staying.len(), "round {round}");
        stack.expect_connections(LIMIT).await;
        drop((staying, others));
        settle(&stack, 0).await;
        stack.expect_connections(0).await;
    }
    assert!(most.stop().await <= LIMIT);
}

#[tokio::test]
async fn the_limit_of_a_user_holds_for_many_tabs_at_once() {
    let stack = Stack::builder()
        .parameter("MaxConnectionsPerUser", "3")
        .start()
        .await;
    let (mut accepted, refused) = rush(&stack, 10, 1).await;
    assert_eq!(accepted.len(), 3);
    assert_eq!(refused, [429; 7]);
    stack
        .logs
        .wait_for(&["[Connect]", "connection limit of this user reached"])
        .await;
    let _another_user = stack.connect("bob").await;
    let id = accepted[0].id().await;
    let bearer = format!("Bearer {}", stack.token("user-0").await);
    let url = format!("{}?replaces={id}", stack.ready.websocket);
    let mut successor = open(&url, &[("Authorization", &bearer)]).await;
    accepted.remove(0).close().await;
    stack.disconnected(&id).await;
    successor.expect_nothing().await;
    let (more, refused) = rush(&stack, 3, 1).await;
    assert!(more.is_empty());
    assert_eq!(refused, [429; 3]);
    stack.expect_connections(4).await;
}

#[tokio::test]
async fn a_flood_is_limited_and_closed_and_nobody_else_notices() {
    let stack = Stack::builder()
        .parameter("MessagesPerMinute", "120")
        .start()
        .await;
    let mut flooding = stack.connect("mallory").await;
    let mut other = stack.connect("alice").await;
    let frame = |n: u32| json!({"type": "ping", "version": "1.0", "id": n.to_string()}).to_string();
    let begun = Instant::now();
    for n in 0..300 {
        flooding.try_send(&frame(n)).await;
        if n % 100 == 0 {
            other.expect_nothing().await;
        }
    }
    let (mut served, mut waits) = (0, Vec::new());
    let last = async {
        loop {
            let answer = flooding.receive().await;
            if answer["type"] == "pong" {
                served += 1;
                continue;
            }
            assert_eq!(answer["data"]["code"], "RATE_LIMITED", "{answer}");
            if answer["correlationId"].is_null() {
                return answer;
            }
            waits.push(answer["data"]["retryAfterMs"].as_u64().unwrap());
        }
    };
    let last = soon("the last refusal arrives", last).await;
    assert!(
        last["data"]["message"]
            .as_str()
            .unwrap()
            .contains("connect again")
    );
    assert!(last["data"]["retryAfterMs"].is_u64(), "{last}");
    assert!(flooding.ended_within(Duration::from_secs(30)).await);
    assert!((12..50).contains(&served), "{served} were answered");
    assert!(waits.len() >= 90, "{} were refused", waits.len());
    // A token takes 500 ms. A frame that was overtaken by later ones is told to
    // wait longer by the delay.
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!((1..=500).contains(least), "{waits:?}");
    assert!(
        u128::from(*most) <= 500 + begun.elapsed().as_millis(),
        "{waits:?}"
    );
    other.expect_nothing().await;
}

#[tokio::test]
async fn a_client_that_waits_as_told_is_served() {
    let stack = Stack::builder()
        .parameter("MessagesPerMinute", "120")
        .start()
        .await;
    let mut socket = stack.connect("alice").await;
    let ping = r#"{"type":"ping","version":"1.0"}"#;
    let refusal = async {
        loop {
            let answer = socket.ask(ping).await;
            if answer["type"] == "error" {
                return answer;
            }
        }
    };
    let refusal = soon("a ping is refused", refusal).await;
    let wait = refusal["data"]["retryAfterMs"].as_u64().unwrap();
    tokio::time::sleep(Duration::from_millis(wait)).await;
    assert_eq!(socket.ask(ping).await["type"], "pong");
}
