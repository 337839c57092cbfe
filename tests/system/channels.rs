//! Channels: subscribe, publish, recover.

mod frozen;
mod ghosts;
mod joiners;
mod permissions;
mod publishers;
mod recovery;

use std::collections::BTreeSet;

use belfry_tests::{Socket, Stack, StackBuilder, soon, until};
use serde_json::{Value, json};

const ROOM: &str = "demo:room:7";

/// A stack whose API Gateway does not limit rates.
fn unlimited() -> StackBuilder {
    let limits = ["--connect-rate", "0", "--request-rate", "0"];
    let stack = Stack::talkative();
    limits.into_iter().fold(stack, StackBuilder::argument)
}

async fn crowd() -> Stack {
    unlimited().start().await
}

async fn subscribe(socket: &mut Socket, channels: Value) -> Value {
    let answer = socket
        .request("subscribe", json!({"channels": channels}))
        .await;
    assert_eq!(answer["type"], "subscribed", "{answer}");
    answer["data"]["channels"].clone()
}

async fn publish(socket: &mut Socket, channel: &str, data: Value) -> Value {
    let data = json!({"channel": channel, "kind": "chat.line", "data": data});
    let answer = socket.request("publish", data).await;
    assert_eq!(answer["type"], "published", "{answer}");
    answer["data"].clone()
}

#[tokio::test]
async fn a_page_that_was_away_gets_every_message_in_order() {
    let stack = Stack::talkative().start().await;
    let mut alice = stack.connect("alice").await;
    let mut bob = stack.connect("bob").await;
    let state = subscribe(&mut bob, json!([{"channel": ROOM}])).await;
    assert_eq!(state[0]["seq"], 0, "{state}");
    publish(&mut alice, ROOM, json!(1)).await;
    let first = bob.receive().await;
    assert_eq!(first["type"], "message");
    assert_eq!(first["from"], json!({"userId": "alice"}));
    assert_eq!(first["data"], json!({"kind": "chat.line", "data": 1}));

    bob.close().await;
    for n in 2..=4 {
        publish(&mut alice, ROOM, json!(n)).await;
    }
    let mut bob = stack.connect("bob").await;
    let since = json!([{"channel": ROOM, "since": first["position"]}]);
    let hello = json!({"subscribe": {"channels": since}});
    let welcome = bob.request("hello", hello).await;
    let state = &welcome["data"]["subscribed"]["channels"][0];
    assert_eq!(
        (&state["recovered"], &state["more"]),
        (&json!(true), &json!(false))
    );
    let messages = state["messages"].as_array().unwrap();
    let numbers: Vec<_> = messages
        .iter()
        .map(|one| one["data"]["data"].clone())
        .collect();
    assert_eq!(numbers, [2, 3, 4]);
    publish(&mut alice, ROOM, json!(5)).await;
    let live = bob.receive().await;
    assert_eq!(live["position"]["seq"], 5);
    let history = json!({"channel": ROOM, "after": first["position"]});
    let history = bob.request("history", history).await;
    assert_eq!(history["data"]["messages"].as_array().unwrap().len(), 4);
    let sync = json!({"channels": [{"channel": ROOM, "since": live["position"]}]});
    let synced = bob.request("sync", sync).await;
    assert_eq!(synced["data"]["channels"][0]["missed"], false);
}

#[tokio::test]
async fn no_subscription_outlives_its_connection() {
    let stack = Stack::start().await;
    let (mut one, mut two) = (stack.connect("alice").await, stack.connect("alice").await);
    for socket in [&mut one, &mut two] {
        subscribe(
            socket,
            json!([{"channel": ROOM}, {"channel": "demo:other"}]),
        )
        .await;
    }
    assert_eq!(stack.subscriptions().await, 4);
    one.close().await;
    until("the subscriptions have ended", async || {
        stack.subscriptions().await == 2
    })
    .await;
    // A sign-out ends them, even if a connection cannot be closed.
    let request = json!({"action": "signOut", "userId": "alice"});
    stack.invoke("Operator", &request).await.unwrap();
    assert_eq!(stack.subscriptions().await, 0);
}

#[tokio::test]
async fn every_publisher_gets_a_number_of_its_own() {
    let stack = crowd().await;
    let mut reader = stack.connect("reader").await;
    let state = subscribe(&mut reader, json!([{"channel": ROOM}])).await;
    let since = json!({"epoch": state[0]["epoch"], "seq": 0});
    let stack = &stack;
    let publishers = (0..20).map(async |n| {
        let mut socket = stack.connect(&format!("user-{n}")).await;
        let mut seqs = Vec::new();
        for _ in 0..5 {
            // A busy channel may refuse; the client tries again.
            let data =
                json!({"channel": ROOM, "kind": "k", "messageId": format!("{n}-{}", seqs.len())});
            loop {
                let answer = socket.request("publish", data.clone()).await;
                if answer["type"] == "published" {
                    seqs.push(answer["data"]["position"]["seq"].as_u64().unwrap());
                    break;
                }
                assert_eq!(answer["data"]["code"], "CHANNEL_BUSY", "{answer}");
            }
        }
        seqs
    });
    let published = soon(
        "everyone has published",
        futures_util::future::join_all(publishers),
    );
    let seqs: BTreeSet<_> = published.await.into_iter().flatten().collect();
    assert_eq!(seqs, (1..=100).collect());
    let state = subscribe(&mut reader, json!([{"channel": ROOM, "since": since}])).await;
    let messages = state[0]["messages"].as_array().unwrap();
    let recovered = messages
        .iter()
        .map(|one| one["position"]["seq"].as_u64().unwrap());
    assert_eq!(recovered.collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn workers_post_to_a_large_channel() {
    let stack = crowd().await;
    let mut sockets = Vec::new();
    for n in 0..120 {
        let mut socket = stack.connect(&format!("user-{}", n % 30)).await;
        subscribe(&mut socket, json!([{"channel": ROOM}])).await;
        sockets.push(socket);
    }
    let published = publish(&mut sockets[0], ROOM, json!("to many")).await;
    assert_eq!(published["position"]["seq"], 1);
    for socket in &mut sockets[1..] {
        let message = socket.receive().await;
        assert_eq!(message["position"], published["position"]);
    }
    sockets[0].expect_nothing().await;
}
