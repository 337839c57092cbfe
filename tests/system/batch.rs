//! Several messages in one broadcast, to clients that accept `batch` frames and
//! to others, over real sockets.

use belfry_tests::{Socket, Stack};
use serde_json::{Value, json};

const ROOM: &str = "demo:room:7";

async fn ask(socket: &mut Socket, frame_type: &str, data: Value) -> Value {
    let frame = json!({"type": frame_type, "version": "1.0", "id": frame_type, "data": data});
    socket.send(&frame.to_string()).await;
    let answer = socket.receive().await;
    assert_eq!(answer["correlationId"], frame_type, "{answer}");
    answer
}

/// Opens a connection and subscribes it with `hello`. Returns its position.
async fn open(stack: &Stack, user: &str, accepts: &[&str]) -> (Socket, Value) {
    let mut socket = stack.connect(user).await;
    let subscribe = json!({"channels": [{"channel": ROOM}]});
    let data = json!({"accepts": accepts, "subscribe": subscribe});
    let welcome = ask(&mut socket, "hello", data).await;
    let entry = &welcome["data"]["subscribed"]["channels"][0];
    let position = json!({"epoch": entry["epoch"], "seq": entry["seq"]});
    (socket, position)
}

fn request(target: &Value, id: &str) -> Value {
    let message = |n| json!({"type": "notification", "data": {"kind": "k", "n": n}});
    let messages: Vec<_> = (1..=3).map(message).collect();
    json!({"messageId": id, "target": target, "messages": messages})
}

async fn three(socket: &mut Socket) -> Vec<Value> {
    let mut frames = Vec::new();
    for n in 1..=3 {
        let frame = socket.receive().await;
        assert_eq!(frame["data"]["n"], n, "{frame}");
        frames.push(frame);
    }
    frames
}

#[tokio::test]
async fn a_client_that_accepts_it_gets_one_frame_and_another_the_same_ones_by_one() {
    let stack = Stack::talkative().start().await;
    let (mut one, _) = open(&stack, "alice", &["batch"]).await;
    let (mut other, _) = open(&stack, "alice", &[]).await;
    let room = json!({"type": "channel", "channel": ROOM});
    let user = json!({"type": "user", "userId": "alice"});
    let users = json!({"type": "users", "userIds": ["alice", "bob"]});
    let all = json!({"type": "all"});
    for (number, target) in [room, user, users, all].into_iter().enumerate() {
        let request = request(&target, &format!("m{number}"));
        let report = stack.broadcast(&request).await.unwrap();
        assert_eq!(report["success"], 2, "{report}");
        let batch = one.receive().await;
        assert_eq!(batch["type"], "batch", "{batch}");
        let single = three(&mut other).await;
        assert_eq!(batch["data"]["messages"], json!(single));
        assert_eq!(single[2]["id"], format!("m{number}.3"));
        if number == 0 {
            let seqs: Vec<_> = single.iter().map(|one| &one["position"]["seq"]).collect();
            assert_eq!(seqs, [1, 2, 3]);
            assert_eq!(report["position"], single[2]["position"]);
        }
    }
    one.expect_nothing().await;
    other.expect_nothing().await;
}

#[tokio::test]
async fn the_messages_are_recovered_and_a_repetition_appends_nothing() {
    let stack = Stack::talkative().start().await;
    let (away, since) = open(&stack, "alice", &["batch"]).await;
    drop(away);
    let target = json!({"type": "channel", "channel": ROOM});
    let request = request(&target, "m");
    let report = stack.broadcast(&request).await.unwrap();
    let repeated = stack.broadcast(&request).await.unwrap();
    assert_eq!(repeated["position"], report["position"]);
    assert_eq!(report["position"]["seq"], 3);
    let mut back = stack.connect("alice").await;
    let after = json!({"channel": ROOM, "after": since});
    let history = ask(&mut back, "history", after).await;
    let page = &history["data"];
    assert_eq!(page["recovered"], true, "{page}");
    let messages = page["messages"].as_array().unwrap();
    let numbers: Vec<_> = messages.iter().map(|one| &one["data"]["n"]).collect();
    assert_eq!(numbers, [1, 2, 3]);
    // From between them, too.
    let after = json!({"channel": ROOM, "after": messages[1]["position"]});
    let history = ask(&mut back, "history", after).await;
    assert_eq!(history["data"]["messages"], json!(messages[2..]));
}

#[tokio::test]
async fn a_client_can_neither_send_a_batch_nor_accept_without_end() {
    let stack = Stack::talkative().start().await;
    let (mut alice, _) = open(&stack, "alice", &["batch"]).await;
    let mut bob = stack.connect("bob").await;
    let message = json!({"type": "notification", "version": "1.0", "data": {"kind": "k"}});
    let data = json!({"channel": ROOM, "messages": [message, message]});
    let refused = ask(&mut bob, "batch", data).await;
    assert_eq!(refused["data"]["code"], "UNKNOWN_TYPE", "{refused}");
    let refused = ask(&mut bob, "hello", json!({"accepts": vec!["batch"; 17]})).await;
    assert_eq!(refused["data"]["code"], "INVALID_MESSAGE", "{refused}");
    alice.expect_nothing().await;
}

#[tokio::test]
async fn what_is_too_large_together_is_refused() {
    let stack = Stack::talkative().start().await;
    let (mut alice, _) = open(&stack, "alice", &["batch"]).await;
    let text = "x".repeat(70_000);
    let message = json!({"type": "notification", "data": {"kind": "k", "text": text}});
    let target = json!({"type": "channel", "channel": ROOM});
    let request = json!({"target": target, "messages": [message, message]});
    let refused = stack.broadcast(&request).await.unwrap_err();
    assert_eq!(refused["errorType"], "PayloadTooLarge", "{refused}");
    alice.expect_nothing().await;
}
