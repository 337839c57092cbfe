//! Who is present in a channel, over real sockets and with real sweeps.

use std::collections::BTreeMap;
use std::io::Write;

use belfry_tests::{Socket, Stack, StackBuilder, few_at_a_time, open, until};
use futures_util::future::join_all;
use serde_json::{Value, json};

const ROOM: &str = "demo:room:7";

/// A stack without a grace period.
fn stack() -> StackBuilder {
    Stack::builder().parameter("PresenceGraceSeconds", "0")
}

/// Subscribes with presence. Returns the entry of the answer.
async fn come(socket: &mut Socket, info: Value) -> Value {
    let channels = json!([{"channel": ROOM, "presence": info}]);
    let answer = socket
        .request("subscribe", json!({"channels": channels}))
        .await;
    answer["data"]["channels"][0].clone()
}

/// Waits until the watcher's connection is the only one.
async fn alone(stack: &Stack) {
    until("one row is left", async || stack.rows().await == 1).await;
}

async fn sweep(stack: &Stack) {
    let swept = stack.invoke("Sweeper", &json!({"action": "sweep"})).await;
    assert!(swept.is_ok(), "{swept:?}");
}

/// The next change of presence: its type, user and count.
async fn change(socket: &mut Socket) -> (String, String, u64) {
    let frame = socket.receive().await;
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    assert_eq!(frame["data"]["channel"], ROOM, "{frame}");
    (
        text(&frame["type"]),
        text(&frame["data"]["userId"]),
        frame["data"]["count"].as_u64().unwrap(),
    )
}

fn of(change: &str, user: &str, count: u64) -> (String, String, u64) {
    (format!("presence.{change}"), user.into(), count)
}

fn members(present: &Value) -> BTreeMap<String, u64> {
    let members = present["members"].as_array().unwrap().iter();
    members
        .map(|one| {
            let user = one["userId"].as_str().unwrap().to_owned();
            (user, one["connections"].as_u64().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_user_with_three_tabs_comes_once_and_leaves_once() {
    let stack = stack().start().await;
    let mut watcher = stack.connect("watcher").await;
    come(&mut watcher, json!({})).await;
    let mut tabs = Vec::new();
    for _ in 0..3 {
        let mut tab = stack.connect("alice").await;
        let id = tab.id().await;
        let entry = come(&mut tab, json!({"name": "Alice"})).await;
        tabs.push((tab, id, entry));
    }
    assert_eq!(change(&mut watcher).await, of("joined", "alice", 2));
    let (_, _, entry) = &tabs[2];
    let expected = BTreeMap::from([("alice".into(), 3), ("watcher".into(), 1)]);
    assert_eq!(members(&entry["presence"]), expected);
    assert_eq!(entry["presence"]["count"], 2);
    assert_eq!(entry["seq"], 0, "its history is there as well");

    come(&mut tabs[0].0, json!({"name": "Al"})).await;
    assert_eq!(change(&mut watcher).await, of("updated", "alice", 2));
    for (tab, id, _) in tabs {
        sweep(&stack).await;
        tab.close().await;
        stack.disconnected(&id).await;
    }
    alone(&stack).await;
    sweep(&stack).await;
    assert_eq!(change(&mut watcher).await, of("left", "alice", 1));
    sweep(&stack).await;
    watcher.expect_nothing().await;
    let present = watcher.request("presence", json!({"channel": ROOM})).await;
    let alone = BTreeMap::from([("watcher".into(), 1)]);
    assert_eq!(members(&present["data"]), alone);
}

#[tokio::test]
async fn nobody_hears_of_a_client_that_comes_back() {
    let stack = Stack::start().await;
    let mut watcher = stack.connect("watcher").await;
    come(&mut watcher, json!({})).await;
    let mut alice = stack.connect("alice").await;
    let id = alice.id().await;
    come(&mut alice, json!({})).await;
    assert_eq!(change(&mut watcher).await, of("joined", "alice", 2));
    // A tunnel.
    alice.close().await;
    stack.disconnected(&id).await;
    alone(&stack).await;
    sweep(&stack).await;
    let present = watcher.request("presence", json!({"channel": ROOM})).await;
    assert_eq!(members(&present["data"])["alice"], 0);
    let mut alice = stack.connect("alice").await;
    come(&mut alice, json!({})).await;
    sweep(&stack).await;
    watcher.expect_nothing().await;
    // It leaves by hand, which is at once.
    alice
        .request("unsubscribe", json!({"channels": [ROOM]}))
        .await;
    assert_eq!(change(&mut watcher).await, of("left", "alice", 1));
}

#[tokio::test]
async fn presence_ends_however_the_connection_does() {
    let stack = stack().start().await;
    let mut watcher = stack.connect("watcher").await;
    come(&mut watcher, json!({})).await;
    for (ending, user) in [
        ("sign-out", "alice"),
        ("no $disconnect", "bob"),
        ("two $disconnect", "carol"),
        ("one $disconnect", "dave"),
    ] {
        let mut socket = stack.connect(user).await;
        let id = socket.id().await;
        come(&mut socket, json!({})).await;
        assert_eq!(
            change(&mut watcher).await,
            of("joined", user, 2),
            "{ending}"
        );
        match ending {
            "sign-out" => {
                let request = json!({"action": "signOut", "userId": user});
                stack.invoke("Operator", &request).await.unwrap();
                assert_eq!(socket.receive().await["data"]["code"], "SIGNED_OUT");
                socket.closed().await;
            }
            "no $disconnect" => {
                let fault = stack.fault(json!({"fault": "disconnect-drop"})).await;
                socket.close().await;
                stack.struck(&fault, 1).await;
                stack.end_fault(&fault).await;
                // A post finds out, once a 410 can be believed.
                stack.age_rows().await;
                let notice = json!({"type": "notification", "data": {"kind": "k"}});
                let target = json!({"type": "user", "userId": user});
                let request = json!({"target": target, "message": notice});
                let report = stack.broadcast(&request).await.unwrap();
                assert_eq!(report["failures"]["gone"], 1, "{report}");
            }
            "two $disconnect" => {
                let fault = stack.fault(json!({"fault": "disconnect-duplicate"})).await;
                socket.close().await;
                stack.struck(&fault, 1).await;
                stack.end_fault(&fault).await;
            }
            _ => socket.close().await,
        }
        // A broadcaster has reported already; otherwise, a $disconnect ends it.
        if ending != "no $disconnect" {
            stack.disconnected(&id).await;
        }
        alone(&stack).await;
        sweep(&stack).await;
        assert_eq!(change(&mut watcher).await, of("left", user, 1), "{ending}");
    }
}

#[tokio::test]
async fn a_server_is_told_who_is_present() {
    let stack = stack().start().await;
    let ask = async || {
        let request = json!({"action": "presence", "channel": ROOM});
        stack.broadcast(&request).await.unwrap()
    };
    let nobody = json!({"channel": ROOM, "members": [], "count": 0});
    assert_eq!(ask().await, nobody);
    let mut tabs = Vec::new();
    for _ in 0..2 {
        let mut tab = stack.connect("alice").await;
        come(&mut tab, json!({"name": "Alice"})).await;
        tabs.push(tab);
    }
    let members = json!([{"userId": "alice", "connections": 2, "info": {"name": "Alice"}}]);
    let alice = json!({"channel": ROOM, "members": members, "count": 1});
    assert_eq!(ask().await, alice);
    for tab in &mut tabs {
        ask_to_leave(tab).await;
    }
    assert_eq!(ask().await, nobody);
    let wrong = json!({"action": "presence", "channel": "@all"});
    let refused = stack.broadcast(&wrong).await.unwrap_err();
    assert_eq!(refused["errorType"], "InvalidRequest", "{refused}");
}

async fn ask_to_leave(socket: &mut Socket) {
    socket
        .request("unsubscribe", json!({"channels": [ROOM]}))
        .await;
}

#[tokio::test]
async fn of_a_large_channel_the_number_is_told() {
    let stack = stack().parameter("PresenceAnnounced", "2").start().await;
    let mut watcher = stack.connect("watcher").await;
    come(&mut watcher, json!({})).await;
    let mut others = Vec::new();
    for n in 0..5 {
        let mut other = stack.connect(&format!("user-{n}")).await;
        let entry = come(&mut other, json!({})).await;
        others.push((other, entry));
    }
    assert_eq!(change(&mut watcher).await, of("joined", "user-0", 2));
    let (_, last) = &others[4];
    assert_eq!(last["presence"]["more"], true, "{last}");
    assert_eq!(last["presence"]["members"].as_array().unwrap().len(), 2);
    let request = json!({"action": "presence", "channel": ROOM});
    let told = stack.broadcast(&request).await.unwrap();
    assert_eq!(told["members"].as_array().unwrap().len(), 2, "{told}");
    assert_eq!(told["more"], true, "{told}");
    watcher.expect_nothing().await;
    stack.age_departures().await;
    sweep(&stack).await;
    let first = count(&mut watcher, 6).await;
    let (mut last, _) = others.pop().unwrap();
    ask_to_leave(&mut last).await;
    stack.age_departures().await;
    sweep(&stack).await;
    assert!(count(&mut watcher, 5).await > first);
}

/// The time of the next frame that tells this number. If the minute has changed
/// meanwhile, the one before comes twice.
async fn count(socket: &mut Socket, users: u64) -> String {
    loop {
        let frame = socket.receive().await;
        assert_eq!(frame["type"], "presence.updated", "{frame}");
        assert_eq!(frame["data"].get("userId"), None, "{frame}");
        if frame["data"]["count"] == users {
            return frame["data"]["at"].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test]
async fn those_who_may_not_see_it_learn_nothing() {
    let mut rules = tempfile::NamedTempFile::new().unwrap();
    let text = r#"{"version":"1.0","channels":[
        {"match": "demo:**", "groups": ["staff"], "allow": ["subscribe", "presence"]},
        {"match": "demo:**", "allow": ["subscribe"]}]}"#;
    rules.write_all(text.as_bytes()).unwrap();
    let stack = stack().argument("--channels");
    let stack = stack.argument(rules.path().to_str().unwrap()).start().await;
    let claims = json!({"user": "staff", "claims": {"cognito:groups": ["staff"]}});
    let token = stack.token_with(claims).await;
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let mut staff = open(&stack.ready.websocket, &headers).await;
    let mut guest = stack.connect("guest").await;
    let refused = come(&mut guest, json!({})).await;
    assert_eq!(refused["error"]["code"], "FORBIDDEN", "{refused}");
    let everyone = json!({"channels": [{"channel": "@all", "presence": {}}]});
    let refused = guest.request("subscribe", everyone).await;
    assert_eq!(refused["data"]["channels"][0]["error"]["code"], "FORBIDDEN");
    let refused = guest.request("presence", json!({"channel": ROOM})).await;
    assert_eq!(refused["data"]["code"], "FORBIDDEN");
    let channels = json!({"channels": [{"channel": ROOM}]});
    let entry = guest.request("subscribe", channels).await;
    assert_eq!(entry["data"]["channels"][0].get("presence"), None);
    assert_eq!(
        members(&come(&mut staff, json!({})).await["presence"]).len(),
        1
    );
    guest.expect_nothing().await;
}

/// The users who join at once, and how many of them leave.
const CROWD: usize = 300;
const LEAVING: usize = 100;

/// Joins, and counts the changes that were told before the answer.
async fn join_and_count(socket: &mut Socket) -> usize {
    let channels = json!({"channels": [{"channel": ROOM, "presence": {}}]});
    let frame = json!({"type": "subscribe", "version": "1.0", "id": "join", "data": channels});
    socket.send(&frame.to_string()).await;
    let mut changes = 0;
    loop {
        let frame = socket.receive().await;
        if frame["correlationId"] == "join" {
            let entry = &frame["data"]["channels"][0];
            assert_eq!(entry.get("error"), None, "{frame}");
            assert!(entry["presence"].is_object(), "{frame}");
            return changes;
        }
        assert_eq!(frame["type"], "presence.joined", "{frame}");
        changes += 1;
    }
}

/// Sweeps until nothing is due, and returns the last count that a user is told.
async fn counted(stack: &Stack, socket: &mut Socket, users: usize) -> Value {
    until("nothing is due", async || {
        stack.age_departures().await;
        sweep(stack).await;
        stack.session_items().await.len() == users
    })
    .await;
    let mut count = Value::Null;
    // Workers tell so many.
    while count != users {
        let frame = socket.receive().await;
        assert_eq!(frame["type"], "presence.updated", "{frame}");
        assert_eq!(frame["data"].get("userId"), None, "{frame}");
        count = frame["data"]["count"].clone();
    }
    count
}

#[tokio::test]
async fn three_hundred_join_at_once_and_a_hundred_leave() {
    let stack = stack().parameter("ConnectsPerSecond", "1000").start().await;
    let connecting = (0..CROWD).map(async |n| stack.connect(&format!("user-{n}")).await);
    let mut sockets = few_at_a_time(connecting).await;
    // Nobody is refused, however many write at the same time.
    let mut told = few_at_a_time(sockets.iter_mut().map(join_and_count)).await;
    for (socket, told) in sockets.iter_mut().zip(&mut told) {
        *told += changes_before_a_ping(socket).await;
    }
    // One by one while there are up to a hundred users, then by number.
    let most = told.iter().max().copied().unwrap_or_default();
    assert!((1..=100).contains(&most), "{told:?}");

    let mut watcher = sockets.remove(0);
    assert_eq!(counted(&stack, &mut watcher, CROWD).await, CROWD);
    let present = watcher.request("presence", json!({"channel": ROOM})).await;
    assert_eq!(
        present["data"]["count"], CROWD,
        "{}",
        present["data"]["count"]
    );
    assert_eq!(present["data"]["members"].as_array().unwrap().len(), 100);
    assert_eq!(present["data"]["more"], true);

    join_all(sockets.drain(..LEAVING).map(Socket::close)).await;
    let left = CROWD - LEAVING;
    until("they have gone", async || stack.rows().await == left).await;
    assert_eq!(counted(&stack, &mut watcher, left).await, left);
    let present = watcher.request("presence", json!({"channel": ROOM})).await;
    assert_eq!(
        present["data"]["count"], left,
        "{}",
        present["data"]["count"]
    );
}

/// How many arrivals a socket was told of, up to now.
async fn changes_before_a_ping(socket: &mut Socket) -> usize {
    socket
        .send(r#"{"type":"ping","version":"1.0","id":"now"}"#)
        .await;
    let mut changes = 0;
    loop {
        let frame = socket.receive().await;
        if frame["correlationId"] == "now" {
            return changes;
        }
        assert_eq!(frame["type"], "presence.joined", "{frame}");
        changes += 1;
    }
}
