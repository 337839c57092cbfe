use belfry_tests::{Stack, open};
use serde_json::{Value, json};

use super::{ROOM, join, operate};

/// The ids of every page, sorted.
async fn list(stack: &Stack, mut request: Value) -> Vec<String> {
    request["action"] = "list".into();
    let mut ids = Vec::new();
    loop {
        let page = operate(stack, request.clone()).await;
        let connections = page["connections"].as_array().unwrap().iter();
        ids.extend(connections.map(|one| one["connectionId"].as_str().unwrap().to_owned()));
        let Some(cursor) = page.get("cursor") else {
            ids.sort();
            return ids;
        };
        request["cursor"] = cursor.clone();
    }
}

fn sorted(ids: &[&String]) -> Vec<String> {
    let mut ids: Vec<_> = ids.iter().map(|id| (*id).clone()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn connections_are_listed_by_whom_and_where() {
    let origin = "https://app.example";
    let stack = Stack::builder()
        .parameter("AllowedOrigins", origin)
        .start()
        .await;
    let mut alice = stack.connect("alice").await;
    let mut bob = stack.connect("bob").await;
    let bearer = format!("Bearer {}", stack.token("alice").await);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Origin", origin),
        ("User-Agent", "page"),
    ];
    let mut page = open(&stack.ready.websocket, &headers).await;
    let (alice_id, bob_id, page_id) = (alice.id().await, bob.id().await, page.id().await);
    join(&mut bob, json!({})).await;
    let all = [&alice_id, &bob_id, &page_id];
    let alices = [&alice_id, &page_id];
    for (target, expected) in [
        (json!({"type": "all"}), sorted(&all)),
        (json!({"type": "user", "userId": "alice"}), sorted(&alices)),
        (
            json!({"type": "users", "userIds": ["alice", "bob", "nobody"]}),
            sorted(&all),
        ),
        (
            json!({"type": "channel", "channel": ROOM}),
            sorted(&[&bob_id]),
        ),
        (
            json!({"type": "connections", "connectionIds": [page_id, "gone"]}),
            sorted(&[&page_id]),
        ),
    ] {
        for limit in [1, 100] {
            let listed = list(&stack, json!({"target": target, "limit": limit})).await;
            assert_eq!(listed, expected, "{target}");
        }
    }
    let of_page = json!({"target": {"type": "all"}, "origin": origin});
    assert_eq!(list(&stack, of_page).await, std::slice::from_ref(&page_id));
    let old = json!({"target": {"type": "all"}, "minAgeSeconds": 3_600});
    assert!(list(&stack, old).await.is_empty());

    let request =
        json!({"action": "list", "target": {"type": "connections", "connectionIds": [page_id]}});
    let listed = operate(&stack, request).await;
    let listed = &listed["connections"][0];
    assert_eq!(listed["userId"], "alice");
    assert_eq!(listed["origin"], origin);
    assert_eq!(listed["userAgent"], "page");
    assert_eq!(listed["sourceIp"], "127.0.0.1");
    let line = stack.logs.wait_for(&["\"event\":\"operator.list\""]).await;
    assert!(line.contains("\"target\":\"all\""), "{line}");
}

#[tokio::test]
async fn a_cursor_that_belfry_did_not_make_is_refused() {
    let stack = Stack::start().await;
    for cursor in ["", "user:0:c1", "all:-1:c1", "all:0:a b", "\u{0}", "{}"] {
        let request = json!({"action": "list", "target": {"type": "all"}, "cursor": cursor});
        let error = stack.invoke("Operator", &request).await.unwrap_err();
        assert_eq!(error["errorType"], "InvalidRequest", "{cursor}: {error}");
        let message = error["errorMessage"].as_str().unwrap();
        assert!(message.starts_with("cursor: "), "{message}");
    }
}

#[tokio::test]
async fn a_connection_is_inspected_while_it_is_open_and_afterwards() {
    let stack = Stack::start().await;
    let mut alice = stack.connect("alice").await;
    let id = alice.id().await;
    join(&mut alice, json!({"presence": {}})).await;
    let data = json!({"channel": ROOM, "name": "title"});
    assert_eq!(alice.request("lock", data).await["type"], "locked");
    let request = json!({"action": "inspect", "connectionId": id});
    let found = operate(&stack, request.clone()).await;
    assert_eq!(found["connection"]["userId"], "alice");
    let time = |name: &str| found["socket"][name].as_str().unwrap().to_owned();
    assert!(time("connectedAt") <= time("lastActiveAt"));
    let channel = &found["channels"][0];
    assert_eq!(channel["channel"], ROOM);
    assert_eq!(channel["present"], true);
    assert_eq!(found["locks"], json!([{"channel": ROOM, "name": "title"}]));
    alice.close().await;
    stack.disconnected(&id).await;
    let gone = operate(&stack, request).await;
    assert_eq!(gone, json!({"channels": [], "locks": []}));
}

#[tokio::test]
async fn the_size_of_a_stack_is_told() {
    let stack = Stack::builder()
        .parameter("MaxConnections", "321")
        .start()
        .await;
    let mut sockets = Vec::new();
    for user in ["alice", "bob"] {
        let mut socket = stack.connect(user).await;
        join(&mut socket, json!({})).await;
        sockets.push(socket);
    }
    let stats = operate(&stack, json!({"action": "stats"})).await;
    let expected = json!({
        "connections": 2,
        "maxConnections": 321,
        "channels": {
            "subscriptions": 2,
            "largest": [{"channel": ROOM, "subscribers": 2}],
        },
    });
    assert_eq!(stats, expected);
}
