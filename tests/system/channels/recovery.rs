//! What a client gets that comes back.

use std::ops::RangeInclusive;

use belfry_tests::{Item, Socket, Stack};
use serde_json::{Value, json};

use super::{publish, subscribe};

/// Publishes this many messages. Their data is their number.
async fn publish_many(socket: &mut Socket, channel: &str, numbers: RangeInclusive<u64>) {
    for n in numbers {
        let published = publish(socket, channel, json!(n)).await;
        assert_eq!(published["position"]["seq"], n, "{published}");
    }
}

/// The position after a channel's message with this number.
async fn position(socket: &mut Socket, channel: &str, seq: u64) -> Value {
    let state = subscribe(socket, json!([{"channel": channel}])).await;
    json!({"epoch": state[0]["epoch"], "seq": seq})
}

/// Comes back with a new connection, and returns what it is told.
async fn reconnect(stack: &Stack, channel: &str, since: &Value) -> (Socket, Value) {
    let mut socket = stack.connect("bob").await;
    let wanted = json!({"channels": [{"channel": channel, "since": since}]});
    let welcome = socket.request("hello", json!({"subscribe": wanted})).await;
    let state = welcome["data"]["subscribed"]["channels"][0].clone();
    (socket, state)
}

/// The numbers of the messages. Each must have its own number as data.
fn numbers(state: &Value) -> Vec<u64> {
    let messages = state["messages"].as_array().unwrap().iter();
    let number = |message: &Value| {
        let seq = message["position"]["seq"].as_u64().unwrap();
        assert_eq!(message["position"]["epoch"], state["epoch"]);
        let data = &message["data"]["data"];
        assert!(*data == seq || data[0] == seq, "{message}");
        seq
    };
    messages.map(number).collect()
}

/// Checks that everything was recovered, and that it is these messages.
fn expect_recovered(state: &Value, expected: &[u64]) {
    assert_eq!(state["recovered"], true, "{state}");
    assert!(state.get("reason").is_none(), "{state}");
    assert_eq!(state["more"], false, "{state}");
    assert_eq!(numbers(state), expected);
}

/// Checks that the client is told that messages are lost, and why.
fn expect_lost(state: &Value, reason: &str) {
    assert_eq!(state["recovered"], false, "{state}");
    assert_eq!(state["reason"], reason, "{state}");
    assert_eq!(state["messages"], json!([]), "{state}");
}

#[tokio::test]
async fn a_client_that_comes_back_gets_all_or_is_told_why_not() {
    let stack = Stack::talkative().start().await;
    let mut alice = stack.connect("alice").await;

    // Its socket is cut, and three messages are missed.
    let room = "demo:cut";
    let mut bob = stack.connect("bob").await;
    let before = position(&mut bob, room, 0).await;
    publish_many(&mut alice, room, 1..=1).await;
    let seen = bob.receive().await["position"].clone();
    drop(bob);
    publish_many(&mut alice, room, 2..=4).await;
    let (_, state) = reconnect(&stack, room, &seen).await;
    expect_recovered(&state, &[2, 3, 4]);
    // Nothing more was missed.
    let at_end = json!({"epoch": state["epoch"], "seq": 4});
    expect_recovered(&reconnect(&stack, room, &at_end).await.1, &[]);
    // It was there before the first message.
    expect_recovered(&reconnect(&stack, room, &before).await.1, &[1, 2, 3, 4]);
    let ahead = json!({"epoch": state["epoch"], "seq": 5});
    expect_lost(&reconnect(&stack, room, &ahead).await.1, "epoch");

    // Nothing was ever published.
    let room = "demo:silent";
    let before = position(&mut alice, room, 0).await;
    let (_, state) = reconnect(&stack, room, &before).await;
    expect_recovered(&state, &[]);
    assert_eq!(state["seq"], 0);
    let later = json!({"epoch": state["epoch"], "seq": 0});
    publish_many(&mut alice, room, 1..=2).await;
    for before in [before, later] {
        expect_recovered(&reconnect(&stack, room, &before).await.1, &[1, 2]);
    }

    // Retention ends, first for some of the messages, then for all.
    let room = "demo:old";
    publish_many(&mut alice, room, 1..=5).await;
    let at = |seq: u64, state: &Value| json!({"epoch": state["epoch"], "seq": seq});
    let newest = position(&mut alice, room, 5).await;
    stack.expire_messages(room, 3).await;
    expect_lost(&reconnect(&stack, room, &at(0, &newest)).await.1, "expired");
    expect_lost(&reconnect(&stack, room, &at(2, &newest)).await.1, "expired");
    expect_recovered(&reconnect(&stack, room, &at(3, &newest)).await.1, &[4, 5]);
    expect_recovered(&reconnect(&stack, room, &newest).await.1, &[]);
    stack.expire_messages(room, 5).await;
    // DynamoDB deletes late: the messages have no effect before and after.
    for _ in 0..2 {
        expect_lost(&reconnect(&stack, room, &at(4, &newest)).await.1, "expired");
        expect_recovered(&reconnect(&stack, room, &newest).await.1, &[]);
        let entries = |item: &Item| !item.contains_key("entryExpiresAt");
        stack.delete_log_items(room, entries).await;
    }
    // An idle channel goes on where it stopped.
    publish_many(&mut alice, room, 6..=6).await;
    expect_recovered(&reconnect(&stack, room, &newest).await.1, &[6]);

    // The history begins again.
    let room = "demo:again";
    publish_many(&mut alice, room, 1..=2).await;
    let old = position(&mut alice, room, 2).await;
    stack.delete_log_items(room, |_| true).await;
    let (_, state) = reconnect(&stack, room, &old).await;
    expect_lost(&state, "epoch");
    assert_eq!(state["seq"], 0);
    let between = at(0, &state);
    publish_many(&mut alice, room, 1..=3).await;
    let (_, state) = reconnect(&stack, room, &old).await;
    expect_lost(&state, "epoch");
    assert_eq!(state["seq"], 3);
    assert_ne!(state["epoch"], old["epoch"]);
    expect_recovered(&reconnect(&stack, room, &between).await.1, &[1, 2, 3]);
}

#[tokio::test]
async fn three_hundred_messages_are_recovered_in_pages_and_no_more() {
    let stack = Stack::talkative().start().await;
    let room = "demo:busy";
    let mut alice = stack.connect("alice").await;
    let first = position(&mut alice, room, 0).await;
    // Four pages of 96 KB hold them all.
    let text = "x".repeat(900);
    for n in 1..=301 {
        publish(&mut alice, room, json!([n, text])).await;
    }
    let (_, state) = reconnect(&stack, room, &first).await;
    expect_lost(&state, "tooFar");
    assert_eq!(state["seq"], 301);

    let since = json!({"epoch": state["epoch"], "seq": 1});
    let (mut bob, mut page) = reconnect(&stack, room, &since).await;
    let (mut recovered, mut pages) = (numbers(&page), 1);
    while page["more"] == true {
        let after = json!({"epoch": page["epoch"], "seq": recovered.last().unwrap()});
        let data = json!({"channel": room, "after": after, "limit": 300});
        page = bob.request("history", data).await["data"].clone();
        assert_eq!(page["recovered"], true, "{page}");
        recovered.extend(numbers(&page));
        pages += 1;
    }
    assert_eq!(recovered, (2..=301).collect::<Vec<_>>());
    assert_eq!(pages, 4);
    // What is too far for a subscription can still be read.
    let data = json!({"channel": room, "after": first});
    let page = bob.request("history", data).await["data"].clone();
    assert_eq!(
        (&page["recovered"], &page["more"]),
        (&json!(true), &json!(true))
    );
}
