//! Acknowledgements: what a user has read, on any device.

use belfry_tests::{Socket, Stack};
use serde_json::{Value, json};

const ROOM: &str = "demo:room:7";

async fn ask(socket: &mut Socket, frame_type: &str, data: Value) -> Value {
    let frame = json!({"type": frame_type, "version": "1.0", "id": frame_type, "data": data});
    socket.ask(&frame.to_string()).await
}

/// Publishes messages to the room. Returns its epoch.
async fn publish(socket: &mut Socket, count: u64) -> Value {
    let mut epoch = json!(null);
    for n in 1..=count {
        let message = json!({"channel": ROOM, "kind": "chat.line", "data": n});
        let published = ask(socket, "publish", message).await;
        assert_eq!(published["data"]["position"]["seq"], n, "{published}");
        epoch = published["data"]["position"]["epoch"].clone();
    }
    epoch
}

async fn ack(socket: &mut Socket, channel: &str, epoch: &Value, seq: u64) -> Value {
    let data = json!({"channel": channel, "epoch": epoch, "seq": seq});
    ask(socket, "ack", data).await
}

#[tokio::test]
async fn another_device_continues_where_the_user_has_read_to() {
    let stack = Stack::talkative().start().await;
    let mut bob = stack.connect("bob").await;
    let epoch = publish(&mut bob, 5).await;
    let mut phone = stack.connect("alice").await;
    for (seq, counts) in [(2, 2), (2, 2), (3, 3), (1, 3)] {
        let answer = ack(&mut phone, ROOM, &epoch, seq).await;
        assert_eq!(answer["type"], "acked", "{answer}");
        let expected = json!({"channel": ROOM, "epoch": epoch, "seq": counts});
        assert_eq!(answer["data"], expected);
    }
    let mut laptop = stack.connect("alice").await;
    let channels = json!({"channels": [{"channel": ROOM, "since": "acked"}]});
    let welcome = ask(&mut laptop, "hello", json!({"subscribe": channels})).await;
    let state = &welcome["data"]["subscribed"]["channels"][0];
    assert_eq!(state["recovered"], true, "{state}");
    let messages = state["messages"].as_array().unwrap().iter();
    let seqs: Vec<_> = messages
        .map(|message| message["position"]["seq"].clone())
        .collect();
    assert_eq!(seqs, [4, 5]);
    // Bob has read nothing that Belfry knows of.
    let subscribed = ask(&mut bob, "subscribe", channels).await;
    let state = &subscribed["data"]["channels"][0];
    assert_eq!(*state, json!({"channel": ROOM, "epoch": epoch, "seq": 5}));
}

#[tokio::test]
async fn only_what_was_published_to_the_user_can_be_acknowledged() {
    let stack = Stack::talkative().start().await;
    let mut alice = stack.connect("alice").await;
    let epoch = publish(&mut alice, 2).await;
    for (channel, epoch, seq, code) in [
        (ROOM, &epoch, 3, "INVALID_MESSAGE"),
        (ROOM, &epoch, 0, "INVALID_MESSAGE"),
        (ROOM, &json!("other"), 1, "INVALID_MESSAGE"),
        ("demo:room:8", &epoch, 1, "INVALID_MESSAGE"),
        ("room:7", &epoch, 1, "FORBIDDEN"),
        // These have no history here.
        ("@me", &epoch, 1, "INVALID_MESSAGE"),
        ("@all", &epoch, 1, "INVALID_MESSAGE"),
    ] {
        let answer = ack(&mut alice, channel, epoch, seq).await;
        assert_eq!(answer["type"], "error", "{answer}");
        assert_eq!(answer["data"]["code"], code, "{channel} {seq}");
    }
    let answer = ack(&mut alice, ROOM, &epoch, 2).await;
    assert_eq!(answer["data"]["seq"], 2);
}

#[tokio::test]
async fn a_server_learns_who_has_read_its_message() {
    let stack = Stack::talkative().start().await;
    let mut alice = stack.connect("alice").await;
    let message = json!({"type": "notification", "data": {"kind": "k"}});
    let target = json!({"type": "channel", "channel": ROOM});
    let request = json!({"target": target, "message": message, "receipts": true});
    let report = stack.broadcast(&request).await.unwrap();
    let position = &report["position"];
    let inquiry = json!({"action": "report", "messageId": report["messageId"]});
    let later = stack.broadcast(&inquiry).await.unwrap();
    assert_eq!(later["acknowledged"], 0, "{later}");
    let answer = ack(&mut alice, ROOM, &position["epoch"], 1).await;
    assert_eq!(answer["type"], "acked", "{answer}");
    let later = stack.broadcast(&inquiry).await.unwrap();
    assert_eq!(later["acknowledged"], 1, "{later}");
    let receipts = json!({"action": "receipts", "channel": ROOM, "seq": 1});
    let receipts = stack.broadcast(&receipts).await.unwrap();
    let users = json!([{"userId": "alice", "seq": 1}]);
    let epoch = &position["epoch"];
    let expected = json!({"channel": ROOM, "epoch": epoch, "count": 1, "users": users});
    assert_eq!(receipts, expected);

    // This stack keeps nothing of what is sent to users.
    let wrong = json!({"action": "receipts", "userId": "alice", "seq": 1});
    let error = stack.broadcast(&wrong).await.unwrap_err();
    assert_eq!(error["errorType"], "InvalidRequest", "{error}");
    let target = json!({"type": "user", "userId": "alice"});
    let wrong = json!({"target": target, "message": message, "receipts": true});
    let error = stack.broadcast(&wrong).await.unwrap_err();
    assert_eq!(error["errorType"], "InvalidRequest", "{error}");
}
