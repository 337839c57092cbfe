//! What a client may not do.

use belfry_tests::{Socket, Stack};
use serde_json::{Value, json};

use super::{ROOM, publish, subscribe};

/// The code of the error that answers a frame.
async fn refusal(socket: &mut Socket, frame_type: &str, data: Value) -> String {
    let asked = format!("{frame_type} {data}");
    let answer = socket.request(frame_type, data).await;
    assert_eq!(answer["type"], "error", "{asked}: {answer}");
    answer["data"]["code"].as_str().unwrap().to_owned()
}

/// The codes of the errors about channels in a `subscribed` frame.
async fn refused_channels(socket: &mut Socket, channels: &[&str]) -> Vec<Value> {
    let wanted = channels.iter().map(|channel| json!({"channel": channel}));
    let states = subscribe(socket, wanted.collect()).await;
    let states = states.as_array().unwrap().iter();
    states.map(|state| state["error"]["code"].clone()).collect()
}

#[tokio::test]
async fn a_client_may_do_no_more_than_the_rules_allow() {
    let rules = json!({"version": "1.0", "channels": [
        {"match": "news", "allow": ["subscribe"], "history": {"seconds": 60}},
        {"match": "inbox", "allow": ["publish"], "history": {"seconds": 60}},
        {"match": "own:{sub}", "allow": ["subscribe", "publish"]},
        {"match": "admin:**", "groups": ["admins"], "allow": ["subscribe", "publish"]},
        // There is no function to ask.
        {"match": "doc:*", "allow": "ask"},
    ]});
    let stack = Stack::builder().parameter("ChannelRules", &rules.to_string());
    let stack = stack.start().await;
    let mut alice = stack.connect("alice").await;
    let mut bob = stack.connect("bob").await;
    let names = [
        "news",
        "inbox",
        "own:alice",
        "own:bob",
        "admin:a",
        "doc:7",
        "x",
    ];
    let allowed = [true, false, true, false, false, false, false];
    let codes = refused_channels(&mut alice, &names).await;
    for ((name, code), allowed) in names.iter().zip(codes).zip(allowed) {
        let expected = if allowed {
            json!(null)
        } else {
            json!("FORBIDDEN")
        };
        assert_eq!(code, expected, "{name}");
    }
    assert_eq!(refused_channels(&mut bob, &["news"]).await, [Value::Null]);
    assert_eq!(stack.subscriptions().await, 3);

    for (name, expected) in [
        ("inbox", None),
        ("own:alice", None),
        ("news", Some("FORBIDDEN")),
        ("own:bob", Some("FORBIDDEN")),
        ("admin:a", Some("FORBIDDEN")),
        ("doc:7", Some("FORBIDDEN")),
        ("x", Some("FORBIDDEN")),
    ] {
        let data = json!({"channel": name, "kind": "k"});
        match expected {
            None => drop(publish(&mut alice, name, json!(1)).await),
            Some(code) => assert_eq!(refusal(&mut alice, "publish", data).await, code, "{name}"),
        }
    }
    // To publish is not to read.
    let since = json!({"epoch": "19b76da0800aaaaaaaa", "seq": 0});
    for name in ["inbox", "own:bob", "admin:a", "doc:7", "x"] {
        let data = json!({"channel": name, "after": since});
        assert_eq!(refusal(&mut alice, "history", data).await, "FORBIDDEN");
    }
    let channels = json!({"channels": [{"channel": "inbox"}, {"channel": "own:bob"}]});
    let synced = alice.request("sync", channels).await;
    for state in synced["data"]["channels"].as_array().unwrap() {
        assert_eq!(state["subscribed"], false);
        assert!(state.get("position").is_none(), "{state}");
    }
    bob.expect_nothing().await;
}

#[tokio::test]
async fn a_client_passes_for_nobody_else() {
    let stack = Stack::start().await;
    let mut alice = stack.connect("alice").await;
    let mut bob = stack.connect("bob").await;
    let reached = json!([{"channel": ROOM}, {"channel": "@me"}, {"channel": "@all"}]);
    subscribe(&mut bob, reached).await;

    // Only channels can be published to.
    for address in [
        "@all",
        "@me",
        "@me:bob",
        "@me#bob",
        "user:",
        ":bob",
        "",
        "@",
        "demo::room",
        "demo:*é",
    ] {
        let data = json!({"channel": address, "kind": "k"});
        let code = refusal(&mut alice, "publish", data).await;
        assert_eq!(code, "INVALID_MESSAGE", "{address}");
    }
    // What a server sends is no frame of a client.
    let notice = json!({"kind": "system.announcement", "text": "reset your password"});
    for frame_type in [
        "notification",
        "message",
        "published",
        "welcome",
        "unsubscribed",
    ] {
        let code = refusal(&mut alice, frame_type, notice.clone()).await;
        assert_eq!(code, "UNKNOWN_TYPE", "{frame_type}");
    }
    // A request for the broadcaster is none either.
    let target = json!({"target": {"type": "user", "userId": "bob"}, "message": notice});
    assert_eq!(
        refusal(&mut alice, "broadcast", target).await,
        "UNKNOWN_TYPE"
    );
    bob.expect_nothing().await;

    // The sender is the token's user, whatever the frame says, and the message
    // is no notification, whatever its kind.
    let forged = json!({
        "channel": ROOM, "kind": "system.announcement", "data": {"text": "reset your password"},
        "from": {"userId": "bob"}, "type": "notification", "userId": "bob",
        "position": {"epoch": "x", "seq": 9}, "timestamp": "2000-01-01T00:00:00Z",
    });
    let published = alice.request("publish", forged).await;
    assert_eq!(published["type"], "published", "{published}");
    let received = bob.receive().await;
    assert_eq!(received["type"], "message", "{received}");
    assert_eq!(received["from"], json!({"userId": "alice"}));
    assert_eq!(received["position"], published["data"]["position"]);
    assert!(received["timestamp"].as_str().unwrap() > "2001");
}
