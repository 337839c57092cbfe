//! What servers send to a channel, a user or everyone is kept, if channels.json
//! says so, and a client that was away gets it.

use std::io::Write;

use belfry_tests::{Socket, Stack};
use serde_json::{Value, json};

const ROOM: &str = "demo:room:7";

const RULES: &str = r#"{"version":"1.0",
    "user": {"history": {"seconds": 600}},
    "all": {"history": {"seconds": 600}},
    "channels": [{"match": "demo:**", "allow": ["subscribe"], "history": {"seconds": 300}}]}"#;

async fn stack() -> Stack {
    let mut rules = tempfile::NamedTempFile::new().unwrap();
    rules.write_all(RULES.as_bytes()).unwrap();
    let stack = Stack::builder()
        .parameter("BroadcastAllIntervalSeconds", "0")
        .argument("--channels")
        .argument(rules.path().to_str().unwrap());
    stack.start().await
}

async fn hello(socket: &mut Socket, channels: Value) -> Value {
    let data = json!({"subscribe": {"channels": channels}});
    let hello = json!({"type": "hello", "version": "1.0", "data": data});
    let welcome = socket.ask(&hello.to_string()).await;
    welcome["data"]["subscribed"]["channels"].clone()
}

/// Sends a numbered notification. Returns its position.
async fn send(stack: &Stack, target: &Value, number: u64) -> Value {
    let message = json!({"type": "notification", "data": {"kind": "k", "number": number}});
    let request = json!({"target": target, "message": message});
    let report = stack.broadcast(&request).await.unwrap();
    report["position"].clone()
}

fn since(state: &Value) -> Value {
    let (epoch, seq) = (&state["epoch"], &state["seq"]);
    json!({"channel": state["channel"], "since": {"epoch": epoch, "seq": seq}})
}

fn numbers(state: &Value) -> Vec<u64> {
    assert_eq!(state["recovered"], true, "{state}");
    let messages = state["messages"].as_array().unwrap().iter();
    messages
        .map(|message| message["data"]["number"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn a_client_that_was_away_gets_what_servers_sent() {
    let stack = stack().await;
    let channels = json!([{"channel": ROOM}, {"channel": "@me"}, {"channel": "@all"}]);
    let mut bob = stack.connect("bob").await;
    let states = hello(&mut bob, channels).await;
    assert!(states.as_array().unwrap().iter().all(|one| one["seq"] == 0));
    bob.close().await;

    let (room, all) = (
        json!({"type": "channel", "channel": ROOM}),
        json!({"type": "all"}),
    );
    let to_bob = json!({"type": "user", "userId": "bob"});
    let to_both = json!({"type": "users", "userIds": ["alice", "bob"]});
    let to_alice = json!({"type": "user", "userId": "alice"});
    assert_eq!(send(&stack, &room, 1).await["seq"], 1);
    assert_eq!(send(&stack, &to_bob, 2).await["seq"], 1);
    assert_eq!(send(&stack, &to_both, 3).await, Value::Null);
    assert_eq!(send(&stack, &to_alice, 4).await["seq"], 2);
    assert_eq!(send(&stack, &all, 5).await["seq"], 1);
    let unkept = json!({"type": "notification", "data": {"kind": "k", "number": 6}});
    let unkept = json!({"target": to_bob, "message": unkept, "store": false});
    assert_eq!(
        stack.broadcast(&unkept).await.unwrap().get("position"),
        None
    );

    let mut bob = stack.connect("bob").await;
    let states = states.as_array().unwrap();
    let again = hello(&mut bob, states.iter().map(since).collect()).await;
    assert_eq!(numbers(&again[0]), [1]);
    assert_eq!(numbers(&again[1]), [2, 3]);
    assert_eq!(numbers(&again[2]), [5]);

    for (target, channel, seq) in [(room, ROOM, 2), (to_bob, "@me", 3), (all, "@all", 2)] {
        let position = send(&stack, &target, 7).await;
        assert_eq!(position["seq"], seq);
        let live = bob.receive().await;
        assert_eq!(live["type"], "notification");
        assert_eq!(
            (&live["channel"], &live["position"]),
            (&json!(channel), &position)
        );
    }
}

#[tokio::test]
async fn a_message_that_many_users_get_is_in_each_of_their_histories() {
    const USERS: usize = 300;
    let stack = stack().await;
    let mut last = stack.connect("user-299").await;
    let first = hello(&mut last, json!([{"channel": "@me"}])).await;
    let users: Vec<_> = (0..USERS).map(|n| format!("user-{n}")).collect();
    let target = json!({"type": "users", "userIds": users});
    for number in 1..=2 {
        send(&stack, &target, number).await;
        assert_eq!(last.receive().await["position"]["seq"], number);
    }
    let again = hello(&mut last, json!([since(&first[0])])).await;
    assert_eq!(numbers(&again[0]), [1, 2]);
    let mut other = stack.connect("user-0").await;
    let other = hello(&mut other, json!([{"channel": "@me"}])).await;
    assert_eq!(other[0]["seq"], 2);
}
