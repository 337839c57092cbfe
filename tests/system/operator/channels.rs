use belfry_tests::Stack;
use serde_json::{Value, json};

use super::{ROOM, join, operate};

fn publish(data: &str) -> Value {
    json!({"channel": ROOM, "kind": "chat.line", "data": data})
}

#[tokio::test]
async fn who_is_present_is_told() {
    let stack = Stack::start().await;
    let mut alice = stack.connect("alice").await;
    join(&mut alice, json!({"presence": {"name": "Alice"}})).await;
    let present = operate(&stack, json!({"action": "presence", "channel": ROOM})).await;
    assert_eq!(present["channel"], ROOM);
    assert_eq!(present["count"], 1);
    assert_eq!(present["members"][0]["userId"], "alice");
}

#[tokio::test]
async fn a_lock_that_is_released_ends_when_its_holder_was_told() {
    let stack = Stack::talkative().start().await;
    let mut alice = stack.connect("alice").await;
    let mut bob = stack.connect("bob").await;
    join(&mut alice, json!({})).await;
    join(&mut bob, json!({})).await;
    let title = json!({"channel": ROOM, "name": "title"});
    let unlock = json!({"action": "unlock", "channel": ROOM, "name": "title"});
    let free = operate(&stack, unlock.clone()).await;
    assert_eq!(free, json!({"released": false}));
    let locked = alice.request("lock", title.clone()).await;
    let listed = operate(&stack, json!({"action": "locks", "channel": ROOM})).await;
    assert_eq!(listed["channel"], ROOM);
    assert_eq!(listed["held"][0]["holder"]["userId"], "alice");
    for _ in 0..2 {
        let released = operate(&stack, unlock.clone()).await;
        let until = &locked["data"]["until"];
        assert_eq!(released, json!({"released": true, "until": until}));
    }
    for socket in [&mut alice, &mut bob] {
        let refused = socket.request("lock", title.clone()).await;
        assert_eq!(refused["data"]["code"], "LOCKED", "{refused}");
        assert_eq!(refused["data"]["until"], locked["data"]["until"]);
    }
    // A holder that gives up frees it at once.
    alice.request("unlock", title.clone()).await;
    let taken = bob.request("lock", title).await;
    assert_eq!(taken["type"], "locked", "{taken}");
    let fencing = |answer: &Value| answer["data"]["fencing"].as_u64().unwrap();
    assert!(fencing(&taken) > fencing(&locked), "{taken}");
}

#[tokio::test]
async fn a_history_that_is_purged_is_gone_and_a_new_one_begins() {
    let stack = Stack::talkative().start().await;
    let mut alice = stack.connect("alice").await;
    let mut bob = stack.connect("bob").await;
    let begun = join(&mut alice, json!({})).await;
    join(&mut bob, json!({})).await;
    let purge = json!({"action": "purge", "channel": ROOM});
    let nothing = operate(&stack, purge.clone()).await;
    assert_eq!(nothing, json!({"deleted": 0}));
    for n in 0..3 {
        let published = alice.request("publish", publish(&format!("{n}"))).await;
        assert_eq!(published["type"], "published", "{published}");
        bob.receive().await;
    }
    let report = operate(&stack, purge.clone()).await;
    assert_eq!(report["told"]["success"], 2, "{report}");
    let position = report["position"].clone();
    assert_eq!(position["seq"], 3);
    let told = bob.receive().await;
    assert_eq!(told["type"], "history.purged", "{told}");
    let expected = json!({"channel": ROOM, "position": position});
    assert_eq!(told["data"], expected);

    // Whoever follows the new history misses nothing.
    let published = alice.request("publish", publish("after")).await;
    let next = json!({"epoch": position["epoch"], "seq": 4});
    assert_eq!(published["data"]["position"], next);
    let heard = bob.receive().await;
    assert_eq!(heard["data"]["data"], "after", "{heard}");
    let since = join(&mut bob, json!({"since": position})).await;
    assert_eq!(since["recovered"], true);
    assert_eq!(since["messages"].as_array().unwrap().len(), 1);
    // Whoever was away is told of the loss, also from an empty history.
    let old = json!({"epoch": begun["epoch"], "seq": begun["seq"]});
    let lost = join(&mut bob, json!({"since": old})).await;
    assert_eq!(lost["recovered"], false, "{lost}");
    let again = operate(&stack, purge).await;
    assert_ne!(again["position"]["epoch"], position["epoch"]);
}
