//! Limits that hold, however many try at once.

use std::time::Duration;

use belfry_tests::{Socket, Stack, open, soon, try_open};
use futures_util::future::join_all;
use serde_json::json;

/// So many handshakes at once, of so many users: who got in, and the statuses
/// of the others.
async fn rush(stack: &Stack, count: usize, users: usize) -> (Vec<Socket>, Vec<u16>) {
    let tokens = join_all((0..users).map(async |n| stack.token(&format!("user-{n}")).await)).await;
    let attempts = (0..count).map(async |n| {
        let bearer = format!("Bearer {}", tokens[n % users]);
        try_open(&stack.ready.websocket, &[("Authorization", &bearer)]).await
    });
    let (mut inside, mut refused) = (Vec::new(), Vec::new());
    for attempt in join_all(attempts).await {
        match attempt {
            Ok(socket) => inside.push(socket),
            Err(status) => refused.push(status),
        }
    }
    (inside, refused)
}

/// Waits until there are so many rows, and finds those whose end nobody told.
async fn settle(stack: &Stack, count: usize) {
    let to_all = json!({
        "target": {"type": "all"},
        "message": {"type": "notification", "data": {"kind": "k"}},
    });
    soon(async {
        while stack.rows().await > count {
            stack.broadcast(&to_all).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_hundred_places_are_a_hundred_however_many_come_and_go() {
    const PLACES: usize = 100;
    let stack = Stack::builder()
        .parameter("MaxConnections", "100")
        .parameter("MaxConnectionsPerUser", "100")
        .argument("--connect-rate")
        .argument("0")
        .start()
        .await;
    let most = stack.watch_rows();
    for round in 0..20 {
        let (mut inside, refused) = rush(&stack, 300, 7).await;
        assert_eq!(inside.len(), PLACES, "round {round}");
        assert!(refused.iter().all(|status| *status == 503), "{refused:?}");
        // Some leave without a word, some of them are forgotten twice, and
        // now and then some not at all until a broadcast misses them.
        stack
            .fault(json!({"fault": "disconnect-duplicate", "times": 10}))
            .await;
        if round % 5 == 0 {
            stack
                .fault(json!({"fault": "disconnect-drop", "times": 5}))
                .await;
        }
        let staying = inside.split_off(60);
        drop(inside);
        settle(&stack, staying.len()).await;
        stack.expect_places(staying.len()).await;
        let (others, _) = rush(&stack, 80, 7).await;
        assert_eq!(others.len(), PLACES - staying.len(), "round {round}");
        stack.expect_places(PLACES).await;
        drop((staying, others));
        settle(&stack, 0).await;
        stack.expect_places(0).await;
    }
    assert!(most.stop().await <= PLACES);
}

#[tokio::test]
async fn of_ten_tabs_at_once_three_get_in() {
    let stack = Stack::builder()
        .parameter("MaxConnectionsPerUser", "3")
        .start()
        .await;
    let (mut inside, refused) = rush(&stack, 10, 1).await;
    assert_eq!(inside.len(), 3);
    assert_eq!(refused, [429; 7]);
    stack
        .logs
        .wait_for(&["[Connect]", "too many connections of this user"])
        .await;
    let _another_user = stack.connect("bob").await;
    let id = inside[0].id().await;
    let bearer = format!("Bearer {}", stack.token("user-0").await);
    let url = format!("{}?replaces={id}", stack.ready.websocket);
    let mut successor = open(&url, &[("Authorization", &bearer)]).await;
    inside.remove(0).close().await;
    stack
        .logs
        .wait_for(&["[Disconnect]", "disconnected", &id])
        .await;
    successor.expect_nothing().await;
    let (more, refused) = rush(&stack, 3, 1).await;
    assert!(more.is_empty());
    assert_eq!(refused, [429; 3]);
    stack.expect_places(4).await;
}

#[tokio::test]
async fn a_flood_is_held_back_and_ended_and_nobody_else_notices() {
    let stack = Stack::builder()
        .parameter("MessagesPerMinute", "120")
        .start()
        .await;
    let mut flooding = stack.connect("mallory").await;
    let mut other = stack.connect("alice").await;
    let frame = |n: u32| json!({"type": "ping", "version": "1.0", "id": n.to_string()}).to_string();
    for n in 0..300 {
        flooding.send(&frame(n)).await;
        if n % 100 == 0 {
            other.expect_nothing().await;
        }
    }
    let (mut served, mut refused) = (0, 0);
    let last = loop {
        let answer = flooding.receive().await;
        if answer["type"] == "pong" {
            served += 1;
            continue;
        }
        assert_eq!(answer["data"]["code"], "RATE_LIMITED", "{answer}");
        if answer["correlationId"].is_null() {
            break answer;
        }
        refused += 1;
        let wait = answer["data"]["retryAfterMs"].as_u64().unwrap();
        assert!((1..=500).contains(&wait), "{answer}");
    };
    assert!(
        last["data"]["message"]
            .as_str()
            .unwrap()
            .contains("connect again")
    );
    assert!(flooding.ended_within(Duration::from_secs(30)).await);
    assert!((12..50).contains(&served), "{served} were answered");
    assert!(refused >= 90, "{refused} were refused");
    other.expect_nothing().await;
}

#[tokio::test]
async fn whoever_waits_as_told_is_served() {
    let stack = Stack::builder()
        .parameter("MessagesPerMinute", "120")
        .start()
        .await;
    let mut socket = stack.connect("alice").await;
    let ping = r#"{"type":"ping","version":"1.0"}"#;
    loop {
        let answer = socket.ask(ping).await;
        if answer["type"] == "error" {
            let wait = answer["data"]["retryAfterMs"].as_u64().unwrap();
            tokio::time::sleep(Duration::from_millis(wait)).await;
            break;
        }
    }
    assert_eq!(socket.ask(ping).await["type"], "pong");
}
