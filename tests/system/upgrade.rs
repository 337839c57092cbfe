//! Upgrade and rollback: the functions go on with what the release before
//! channels has stored, and ignore attributes that they do not know.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use belfry_tests::{Item, Socket, Stack, StackBuilder, unix_time};
use serde_json::{Value, json};

/// The shard of every connection here.
const SHARD: &str = "45";

/// Who wrote the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    /// The one before channels.
    Before,
    /// One that has come since: each row has an attribute that is not known yet.
    Later,
}

const RELEASES: [Release; 2] = [Release::Before, Release::Later];

/// A stack with what a release has stored.
struct Upgraded {
    stack: Stack,
    release: Release,
    /// In milliseconds since 1970.
    now: u64,
}

impl Upgraded {
    async fn start(builder: StackBuilder, release: Release) -> Self {
        Self {
            stack: builder.start().await,
            release,
            now: u64::try_from(unix_time().as_millis()).unwrap(),
        }
    }

    /// Opens a connection for each user. Everything that the functions have
    /// stored of them is replaced by what the release would have.
    async fn connect(&self, users: &[&str]) -> Vec<Connected> {
        let mut connected = Vec::new();
        for user in users {
            let mut socket = self.stack.connect(user).await;
            let id = socket.id().await;
            connected.push(Connected { id, socket });
        }
        for item in self.stack.state().await {
            let delete = self.stack.dynamodb().delete_item().table_name("State");
            let delete = delete
                .key("pk", item["pk"].clone())
                .key("sk", item["sk"].clone());
            delete.send().await.unwrap();
        }
        for (user, connected) in users.iter().zip(&connected) {
            self.put("Connections", self.row(&connected.id, user)).await;
            let of_user = json!({
                "pk": {"S": format!("user#{user}")},
                "sk": {"S": "connections"},
                "connectionIds": {"SS": [connected.id]},
                "expiresAt": {"N": self.seconds(172_810)},
            });
            self.put("State", of_user).await;
        }
        let counter = json!({
            "pk": {"S": format!("shard#{SHARD}")},
            "sk": {"S": "connections"},
            "connections": {"N": users.len().to_string()},
            "inserted": {"N": users.len().to_string()},
        });
        self.put("State", counter).await;
        connected
    }

    async fn connect_two(&self) -> (Connected, Connected) {
        let mut two = self.connect(&["alice", "bob"]).await.into_iter();
        (two.next().unwrap(), two.next().unwrap())
    }

    /// The row of a connection, after a frame.
    fn row(&self, id: &str, user: &str) -> Value {
        json!({
            "connectionId": {"S": id},
            "userId": {"S": user},
            "connectedAt": {"N": self.millis(-60)},
            "lastSeenAt": {"N": self.millis(-1)},
            "expiresAt": {"N": self.seconds(7_440)},
            "tokenExpiresAt": {"N": self.seconds(600)},
            "sourceIp": {"S": "127.0.0.1"},
            "shard": {"N": SHARD},
            "dueAt": {"N": self.millis(420)},
            "bucketFullAt": {"N": self.millis(-1)},
        })
    }

    /// The record of a broadcast that began ten seconds ago.
    async fn put_broadcast(&self, id: &str, request: &str, segments: usize) {
        let record = json!({
            "pk": {"S": format!("broadcast#{id}")},
            "sk": {"S": "record"},
            "request": {"S": request},
            "startedAt": {"N": self.millis(-10)},
            "segments": {"N": segments.to_string()},
            "expiresAt": {"N": self.seconds(86_390)},
        });
        self.put("State", record).await;
    }

    /// A segment. `state` is what it has beside its keys.
    async fn put_segment(&self, id: &str, segment: usize, mut state: Value) {
        let sk = format!("segment#{}#{segment:04}", self.millis(-10));
        state["pk"] = json!({"S": format!("broadcast#{id}")});
        state["sk"] = json!({"S": sk});
        state["expiresAt"] = json!({"N": self.seconds(86_390)});
        self.put("State", state).await;
    }

    async fn put(&self, table: &str, mut item: Value) {
        if self.release == Release::Later {
            item["notKnownYet"] = json!({"S": "x"});
        }
        let put = self.stack.dynamodb().put_item().table_name(table);
        put.set_item(Some(to_item(&item))).send().await.unwrap();
    }

    fn millis(&self, seconds: i64) -> String {
        self.now.saturating_add_signed(seconds * 1_000).to_string()
    }

    fn seconds(&self, seconds: i64) -> String {
        (self.now / 1_000)
            .saturating_add_signed(seconds)
            .to_string()
    }
}

struct Connected {
    id: String,
    socket: Socket,
}

/// An item in DynamoDB's own JSON.
fn to_item(item: &Value) -> Item {
    let attributes = item.as_object().unwrap().iter();
    let attributes = attributes.map(|(name, value)| (name.clone(), to_attribute(value)));
    attributes.collect::<HashMap<_, _>>()
}

fn to_attribute(value: &Value) -> AttributeValue {
    let [(kind, value)] = &value.as_object().unwrap().iter().collect::<Vec<_>>()[..] else {
        panic!("{value}");
    };
    let text = || value.as_str().unwrap().to_owned();
    let list = || value.as_array().unwrap().iter();
    match kind.as_str() {
        "S" => AttributeValue::S(text()),
        "N" => AttributeValue::N(text()),
        "BOOL" => AttributeValue::Bool(value.as_bool().unwrap()),
        "SS" => AttributeValue::Ss(list().map(|one| one.as_str().unwrap().into()).collect()),
        "L" => AttributeValue::L(list().map(to_attribute).collect()),
        _ => panic!("{kind}"),
    }
}

async fn ask(socket: &mut Socket, frame_type: &str, data: Value) -> Value {
    let frame = json!({"type": frame_type, "version": "1.0", "id": "f", "data": data});
    let answer = socket.ask(&frame.to_string()).await;
    assert_eq!(answer["correlationId"], "f", "{answer}");
    answer
}

async fn subscribe(socket: &mut Socket, channel: &str) -> Value {
    let data = json!({"channels": [{"channel": channel}]});
    let answer = ask(socket, "subscribe", data).await;
    answer["data"]["channels"][0].clone()
}

fn to_user(user: &str) -> Value {
    json!({
        "target": {"type": "user", "userId": user},
        "message": {"type": "notification", "data": {"kind": "k"}},
    })
}

const RULES: &str = r#"{"version":"1.0","channels":[
    {"match":"tenant:{tenant}","allow":["subscribe","publish"],"history":{"seconds":600}},
    {"match":"demo:*","allow":["subscribe","publish"],"history":{"seconds":600}}]}"#;

#[tokio::test]
async fn connections_from_before_are_served() {
    for release in RELEASES {
        let rules = RULES.replace('\n', "");
        let builder = Stack::builder().parameter("ChannelRules", &rules);
        let upgraded = Upgraded::start(builder, release).await;
        let stack = &upgraded.stack;
        let (mut alice, mut bob) = upgraded.connect_two().await;
        stack.expect_connections(2).await;
        let ping = r#"{"type":"ping","version":"1.0"}"#;
        assert_eq!(alice.socket.ask(ping).await["type"], "pong");
        let hello = alice
            .socket
            .ask(r#"{"type":"hello","version":"1.0"}"#)
            .await;
        assert_eq!(hello["data"]["userId"], "alice");
        let report = stack.broadcast(&to_user("alice")).await.unwrap();
        assert_eq!(report["success"], 1, "{report}");
        assert_eq!(alice.socket.receive().await["type"], "notification");

        for connected in [&mut alice, &mut bob] {
            let state = subscribe(&mut connected.socket, "demo:a").await;
            assert_eq!(state["seq"], 0, "{state}");
        }
        let message = json!({"channel": "demo:a", "kind": "k"});
        let published = ask(&mut bob.socket, "publish", message).await;
        let received = alice.socket.receive().await;
        assert_eq!(received["position"], published["data"]["position"]);
        // The handshake kept no claims. The next token brings them.
        let state = subscribe(&mut alice.socket, "tenant:acme").await;
        assert_eq!(state["error"]["code"], "FORBIDDEN", "{state}");
        let request = json!({"user": "alice", "claims": {"tenant": "acme"}});
        let token = stack.token_with(request).await;
        let refreshed = ask(&mut alice.socket, "auth.refresh", json!({"token": token})).await;
        assert_eq!(refreshed["type"], "auth.refreshed", "{refreshed}");
        let state = subscribe(&mut alice.socket, "tenant:acme").await;
        assert_eq!(state["seq"], 0, "{state}");

        let sign_out = json!({"action": "signOut", "userId": "bob"});
        let report = stack.invoke("Operator", &sign_out).await.unwrap();
        assert_eq!(report["closed"], 1, "{report}");
        alice.socket.close().await;
        stack.disconnected(&alice.id).await;
        stack.expect_connections(0).await;
        assert_eq!(stack.subscriptions().await, 0);
    }
}

#[tokio::test]
async fn connections_from_before_end_like_others() {
    for release in RELEASES {
        let upgraded = Upgraded::start(Stack::builder(), release).await;
        let stack = &upgraded.stack;
        let users = ["silent", "expired", "replaced", "gone", "busy"];
        let mut connected = upgraded.connect(&users).await;
        let ids: Vec<_> = connected.iter().map(|one| one.id.clone()).collect();
        let due = |name: &str, changes: Value| {
            let at = users.iter().position(|user| *user == name).unwrap();
            let mut row = upgraded.row(&ids[at], name);
            row["dueAt"] = json!({"N": upgraded.millis(-1)});
            row.as_object_mut()
                .unwrap()
                .extend(changes.as_object().unwrap().clone());
            row
        };
        let long_ago = json!({"N": upgraded.millis(-600)});
        for row in [
            due(
                "silent",
                json!({"connectedAt": long_ago, "lastSeenAt": long_ago}),
            ),
            due(
                "expired",
                json!({"tokenExpiresAt": {"N": upgraded.seconds(-1)}}),
            ),
            due(
                "replaced",
                json!({"replacedAt": {"N": upgraded.millis(-50)}}),
            ),
        ] {
            upgraded.put("Connections", row).await;
        }
        // The counter counts a connection that was replaced no longer.
        let counter = json!({
            "pk": {"S": format!("shard#{SHARD}")},
            "sk": {"S": "connections"},
            "connections": {"N": "4"},
            "inserted": {"N": "6"},
        });
        upgraded.put("State", counter).await;
        let gone = connected.remove(3);
        gone.socket.close().await;
        stack.disconnected(&gone.id).await;
        let sweep = json!({"action": "sweep"});
        let report = stack.invoke("Sweeper", &sweep).await.unwrap();
        let expected = json!({
            "kept": 0, "pinged": 1, "reconnectSent": 0, "expired": 1, "silent": 0, "replaced": 1,
            "outlived": 0, "gone": 0, "failed": 0, "complete": true, "connections": 2,
        });
        assert_eq!(report, expected, "{release:?}");
        assert_eq!(connected[0].socket.receive().await["type"], "ping");
        assert_eq!(
            connected[1].socket.receive().await["data"]["code"],
            "TOKEN_EXPIRED"
        );
        stack.expect_connections(2).await;
    }
}

/// What `Broadcaster` of the release before remembers of a request to everyone.
const TO_ALL: &str = r#"{"messageId":null,"target":{"type":"all"},"message":{"type":"notification","version":null,"timestamp":null,"correlationId":null,"data":{"kind":"k"}},"exclude":null,"waitSeconds":0}"#;

const TO_USERS: &str = r#"{"messageId":null,"target":{"type":"users","userIds":["u0","u1","u2"]},"message":{"type":"notification","version":null,"timestamp":null,"correlationId":null,"data":{"kind":"k"}},"exclude":null,"waitSeconds":0}"#;

#[tokio::test]
async fn broadcasts_from_before_are_finished() {
    for release in RELEASES {
        let upgraded = Upgraded::start(Stack::builder(), release).await;
        let stack = &upgraded.stack;
        let mut connected = upgraded.connect(&["u0", "u1", "u2"]).await;

        // Two workers that have not started, and one that died after its lease.
        upgraded.put_broadcast("all", TO_ALL, 2).await;
        let offered = json!({
            "leaseOwner": {"S": "*"},
            "leaseExpiresAt": {"N": upgraded.millis(50)},
            "isDone": {"BOOL": false},
        });
        let leased = json!({
            "leaseOwner": {"S": "9827aff5-2586-4653-934d-00ca429217ea"},
            "leaseExpiresAt": {"N": upgraded.millis(-1)},
            "leaseVersion": {"N": "1"},
            "isDone": {"BOOL": false},
        });
        upgraded.put_segment("all", 0, offered).await;
        upgraded.put_segment("all", 1, leased).await;
        for segment in [0, 1] {
            let task = json!({"messageId": "all", "segment": segment});
            stack.invoke("Worker", &task).await.unwrap();
        }

        // One that is done, and one that handed over before its last user, while
        // the message to its first was throttled.
        upgraded.put_broadcast("users", TO_USERS, 2).await;
        let begun = json!({
            "leaseOwner": {"S": "*"},
            "leaseExpiresAt": {"N": upgraded.millis(50)},
            "leaseVersion": {"N": "3"},
            "isDone": {"BOOL": false},
            "listingDone": {"BOOL": false},
            "pendingIds": {"L": [{"S": connected[1].id}]},
            "cursor": {"S": "index:2"},
            "accepted": {"N": "0"}, "gone": {"N": "0"}, "throttled": {"N": "0"},
            "tooLarge": {"N": "0"}, "failed": {"N": "0"}, "notAttempted": {"N": "0"},
        });
        let done = json!({
            "leaseOwner": {"S": "58cf278a-fdae-4f80-98c9-901b230d8afb"},
            "leaseExpiresAt": {"N": upgraded.millis(50)},
            "leaseVersion": {"N": "1"},
            "isDone": {"BOOL": true},
            "listingDone": {"BOOL": true},
            "pendingIds": {"L": []},
            "accepted": {"N": "1"}, "gone": {"N": "0"}, "throttled": {"N": "0"},
            "tooLarge": {"N": "0"}, "failed": {"N": "0"}, "notAttempted": {"N": "0"},
        });
        upgraded.put_segment("users", 0, done).await;
        upgraded.put_segment("users", 1, begun).await;
        let task = json!({"messageId": "users", "segment": 1});
        stack.invoke("Worker", &task).await.unwrap();

        for (id, request) in [("all", TO_ALL), ("users", TO_USERS)] {
            let ask = json!({"action": "report", "messageId": id});
            let report = stack.broadcast(&ask).await.unwrap();
            assert_eq!(report["status"], "done", "{release:?} {report}");
            assert_eq!(report["success"], 3, "{release:?} {report}");
            // The caller's repetition is known.
            let mut again: Value = serde_json::from_str(request).unwrap();
            again["messageId"] = id.into();
            let repeated = stack.broadcast(&again).await;
            assert_eq!(repeated, Ok(report), "{release:?}");
        }
        let from_now: [&[&str]; 3] = [&["all"], &["all", "users"], &["all", "users"]];
        for (one, ids) in connected.iter_mut().zip(from_now) {
            for id in ids {
                assert_eq!(one.socket.receive().await["id"], *id, "{release:?}");
            }
            one.socket.expect_nothing().await;
        }
    }
}

/// Subscriptions, logs and sets of channels of a later release.
#[tokio::test]
async fn attributes_that_are_not_known_yet_change_nothing() {
    let upgraded = Upgraded::start(Stack::builder(), Release::Later).await;
    let stack = &upgraded.stack;
    let (mut alice, mut bob) = upgraded.connect_two().await;
    subscribe(&mut alice.socket, "demo:a").await;
    let message = json!({"channel": "demo:a", "kind": "k", "messageId": "m1"});
    let first = ask(&mut bob.socket, "publish", message.clone()).await;
    alice.socket.receive().await;
    for (table, keys) in [
        ("Connections", vec!["connectionId"]),
        ("Messages", vec!["channel", "position"]),
        ("State", vec!["pk", "sk"]),
        ("Subscriptions", vec!["channel", "member"]),
    ] {
        let scan = stack.dynamodb().scan().table_name(table).send();
        let found = scan.await.unwrap();
        assert!(!found.items().is_empty(), "{table}");
        for item in found.items() {
            let keys = keys.iter().map(|key| (key.to_string(), item[*key].clone()));
            let update = stack.dynamodb().update_item().table_name(table);
            let update = update
                .set_key(Some(keys.collect()))
                .update_expression("SET notKnownYet = :x")
                .expression_attribute_values(":x", AttributeValue::S("x".into()));
            update.send().await.unwrap();
        }
    }
    let repeated = ask(&mut bob.socket, "publish", message).await;
    assert_eq!(repeated["data"], first["data"]);
    let message = json!({"channel": "demo:a", "kind": "k"});
    ask(&mut bob.socket, "publish", message).await;
    for seq in [1, 2] {
        assert_eq!(alice.socket.receive().await["position"]["seq"], seq);
    }
    let start = json!({"epoch": first["data"]["position"]["epoch"], "seq": 0});
    let page = json!({"channel": "demo:a", "after": start, "limit": 10});
    let history = ask(&mut alice.socket, "history", page).await;
    assert_eq!(history["data"]["messages"].as_array().unwrap().len(), 2);
    let channels = json!({"channels": ["demo:a"]});
    ask(&mut alice.socket, "unsubscribe", channels).await;
    assert_eq!(stack.subscriptions().await, 0);
}
