//! Locks in channels, over real sockets.

use belfry_tests::{Socket, Stack, until};
use serde_json::{Value, json};

const ROOM: &str = "demo:room:7";

async fn join(stack: &Stack, user: &str) -> Socket {
    let mut socket = stack.connect(user).await;
    let channels = json!({"channels": [{"channel": ROOM}]});
    let answer = socket.request("subscribe", channels).await;
    assert_eq!(answer["type"], "subscribed", "{answer}");
    socket
}

async fn lock(socket: &mut Socket) -> Value {
    socket
        .request("lock", json!({"channel": ROOM, "name": "title"}))
        .await
}

#[tokio::test]
async fn one_of_two_pages_edits_and_the_other_is_told() {
    let stack = Stack::talkative().start().await;
    let (mut alice, mut bob) = (join(&stack, "alice").await, join(&stack, "bob").await);
    let locked = lock(&mut alice).await;
    assert_eq!(locked["type"], "locked", "{locked}");
    let told = bob.receive().await;
    assert_eq!(told["type"], "lock.changed", "{told}");
    assert_eq!(told["data"]["holder"], json!({"userId": "alice"}));
    assert_eq!(told["data"]["fencing"], locked["data"]["fencing"]);
    let refused = lock(&mut bob).await;
    assert_eq!(refused["data"]["code"], "LOCKED", "{refused}");
    assert_eq!(refused["data"]["holder"], json!({"userId": "alice"}));
    assert_eq!(refused["data"]["until"], locked["data"]["until"]);

    let data = json!({"channel": ROOM, "name": "title"});
    let unlocked = alice.request("unlock", data).await;
    assert_eq!(unlocked["type"], "unlocked", "{unlocked}");
    let told = bob.receive().await;
    let free = json!({"channel": ROOM, "name": "title", "fencing": locked["data"]["fencing"]});
    assert_eq!(told["data"], free);
    let taken = lock(&mut bob).await;
    let fencing = |answer: &Value| answer["data"]["fencing"].as_u64().unwrap();
    assert!(fencing(&taken) > fencing(&locked), "{taken}");

    // The end of the connection releases the lock.
    bob.close().await;
    until("the lock is free", async || {
        lock(&mut alice).await["type"] == "locked"
    })
    .await;
}

#[tokio::test]
async fn an_editor_that_opens_shows_who_edits_what() {
    let stack = Stack::talkative().start().await;
    let mut alice = join(&stack, "alice").await;
    let locked = lock(&mut alice).await;
    let mut bob = stack.connect("bob").await;
    let channels = json!({"channels": [{"channel": ROOM, "locks": true}]});
    let answer = bob.request("subscribe", channels).await;
    let held = json!({"name": "title", "holder": {"userId": "alice"},
        "until": locked["data"]["until"], "fencing": locked["data"]["fencing"]});
    assert_eq!(
        answer["data"]["channels"][0]["locks"],
        json!({"held": [held]})
    );
    // The changes that follow are told.
    let data = json!({"channel": ROOM, "name": "title"});
    alice.request("unlock", data).await;
    assert_eq!(bob.receive().await["type"], "lock.changed");
}
