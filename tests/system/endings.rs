//! However a connection ends, presence and locks are right after the sweeps that
//! follow: over real sockets, with real functions that die.

use std::collections::BTreeSet;

use belfry_tests::{Socket, Stack, StackBuilder, open, until};
use serde_json::{Value, json};

const ROOM: &str = "demo:room:7";

/// Without a grace period. Sweeps check a connection that was silent for a
/// second.
fn stack() -> StackBuilder {
    Stack::talkative()
        .parameter("PresenceGraceSeconds", "0")
        .parameter("HeartbeatIntervalSeconds", "1")
}

async fn lock(socket: &mut Socket) -> Value {
    socket
        .request("lock", json!({"channel": ROOM, "name": "title"}))
        .await
}

/// Subscribes with presence.
async fn come(socket: &mut Socket) {
    let channels = json!([{"channel": ROOM, "presence": {}}]);
    let answer = socket
        .request("subscribe", json!({"channels": channels}))
        .await;
    assert_eq!(answer["type"], "subscribed", "{answer}");
}

/// The frames that a socket was sent before this.
async fn received(socket: &mut Socket) -> Vec<Value> {
    socket
        .send(r#"{"type":"ping","version":"1.0","id":"the end"}"#)
        .await;
    let mut frames = Vec::new();
    loop {
        let frame = socket.receive().await;
        if frame["correlationId"] == "the end" {
            return frames;
        }
        // A sweep asks whether it is still there.
        if frame["type"] != "ping" {
            frames.push(frame);
        }
    }
}

/// A channel with a watcher, who is present there.
struct Room {
    stack: Stack,
    watcher: Socket,
    /// What the watcher was told and nobody has checked yet.
    told: Vec<Value>,
}

impl Room {
    async fn open(stack: StackBuilder) -> Self {
        let stack = stack.start().await;
        let mut watcher = stack.connect("watcher").await;
        come(&mut watcher).await;
        Self {
            stack,
            watcher,
            told: Vec::new(),
        }
    }

    /// Alice's connection comes. Returns its socket and its id.
    async fn enter(&mut self, token: &str) -> (Socket, String) {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        let mut socket = open(&self.stack.ready.websocket, &headers).await;
        let id = socket.id().await;
        come(&mut socket).await;
        (socket, id)
    }

    /// Alice's connection comes and takes the lock.
    async fn enter_and_lock(&mut self) -> (Socket, String) {
        let token = self.stack.token("alice").await;
        let (mut socket, id) = self.enter(&token).await;
        let locked = lock(&mut socket).await;
        assert_eq!(locked["type"], "locked", "{locked}");
        (socket, id)
    }

    /// Sweeps. The watcher shows that it is there and receives what it is told.
    async fn sweep(&mut self) {
        self.stack.age_departures().await;
        // The function may be told to die.
        let sweep = json!({"action": "sweep"});
        let _ = self.stack.invoke("Sweeper", &sweep).await;
        self.told.extend(received(&mut self.watcher).await);
    }

    /// Sweeps until these connections and nothing else are left.
    async fn expect_left(&mut self, connections: usize) {
        self.stack.age_rows().await;
        until("the others are left", async || {
            self.sweep().await;
            let rows = self.stack.rows().await;
            let mut items = self.stack.session_items().await;
            // The locks of a connection that was replaced.
            items.retain(|item| !item.contains_key("holders"));
            rows == connections && items.len() == connections
        })
        .await;
    }

    /// Sweeps until nothing is left of alice's connection, then checks that the
    /// watcher knows it and can take the lock.
    async fn expect_end(&mut self, ending: &str) {
        self.expect_left(1).await;
        let frames = std::mem::take(&mut self.told);
        // At least once.
        let told: BTreeSet<_> = frames
            .iter()
            .map(|frame| {
                let is_free = frame["data"].get("holder").is_none();
                (frame["type"].as_str().expect("a type"), is_free)
            })
            .collect();
        let expected = [
            ("lock.changed", false),
            ("lock.changed", true),
            ("presence.joined", true),
            ("presence.left", true),
        ];
        assert_eq!(told, BTreeSet::from(expected), "{ending}: {frames:?}");
        let last = |prefix: &str| {
            let of_prefix = |frame: &&Value| {
                let frame_type = frame["type"].as_str().expect("a type");
                frame_type.starts_with(prefix)
            };
            frames.iter().rfind(of_prefix).expect("a frame")
        };
        let presence = last("presence.");
        assert_eq!(presence["type"], "presence.left", "{ending}: {frames:?}");
        assert_eq!(presence["data"]["count"], 1, "{ending}");
        let free = last("lock.");
        assert_eq!(free["data"].get("holder"), None, "{ending}: {frames:?}");
        self.expect_free(free, ending).await;
    }

    /// Expects that the watcher is alone and can take the lock.
    async fn expect_free(&mut self, told: &Value, ending: &str) {
        let present = self
            .watcher
            .request("presence", json!({"channel": ROOM}))
            .await;
        let members = &present["data"]["members"];
        assert_eq!(members.as_array().expect("a list").len(), 1, "{ending}");
        let locked = lock(&mut self.watcher).await;
        assert_eq!(locked["type"], "locked", "{ending}: {locked}");
        let fencing = |frame: &Value| frame["data"]["fencing"].as_u64().expect("a number");
        assert!(fencing(&locked) > fencing(told), "{ending}");
        let unlock = json!({"channel": ROOM, "name": "title"});
        self.watcher.request("unlock", unlock).await;
    }
}

#[tokio::test]
async fn after_a_disconnect_that_comes_once_twice_or_never() {
    let mut room = Room::open(stack()).await;
    for fault in [None, Some("disconnect-duplicate"), Some("disconnect-drop")] {
        let (socket, id) = room.enter_and_lock().await;
        let struck = match fault {
            None => None,
            Some(fault) => {
                let fault = json!({"fault": fault, "connection": id});
                Some(room.stack.fault(fault).await)
            }
        };
        socket.close().await;
        if let Some(fault) = struck {
            room.stack.struck(&fault, 1).await;
            room.stack.end_fault(&fault).await;
        }
        room.expect_end(fault.unwrap_or("disconnect")).await;
    }
}

#[tokio::test]
async fn after_a_sign_out() {
    let mut room = Room::open(stack()).await;
    let (mut socket, _) = room.enter_and_lock().await;
    let sign_out = json!({"action": "signOut", "userId": "alice"});
    let report = room.stack.invoke("Operator", &sign_out).await.unwrap();
    assert_eq!(report["closed"], 1, "{report}");
    assert_eq!(socket.receive().await["data"]["code"], "SIGNED_OUT");
    assert_eq!(socket.closed().await.0, 1000);
    room.expect_end("sign-out").await;
}

#[tokio::test]
async fn after_the_end_of_a_token() {
    let mut room = Room::open(stack()).await;
    let short = json!({"user": "alice", "ttl": 10});
    let token = room.stack.token_with(short).await;
    let (mut socket, _) = room.enter(&token).await;
    let locked = lock(&mut socket).await;
    assert_eq!(locked["type"], "locked", "{locked}");
    room.expect_end("token").await;
    let frames = async {
        loop {
            let frame = socket.receive().await;
            if frame["type"] != "ping" {
                break frame;
            }
        }
    };
    assert_eq!(frames.await["data"]["code"], "TOKEN_EXPIRED");
}

#[tokio::test]
async fn after_a_client_has_frozen() {
    let stack = stack().parameter("HeartbeatGraceSeconds", "1");
    let mut room = Room::open(stack).await;
    let (_socket, id) = room.enter_and_lock().await;
    let freeze = json!({"fault": "peer-freeze", "connection": id});
    room.stack.fault(freeze).await;
    // The watcher answers, the other one does not.
    room.expect_end("silence").await;
}

#[tokio::test]
async fn a_successor_keeps_its_user_present_and_holds_the_lock() {
    let mut room = Room::open(stack()).await;
    let (old, old_id) = room.enter_and_lock().await;
    let bearer = format!("Bearer {}", room.stack.token("alice").await);
    let url = format!("{}?replaces={old_id}", room.stack.ready.websocket);
    let mut new = open(&url, &[("Authorization", &bearer)]).await;
    let welcome = new.request("hello", json!({})).await;
    assert_eq!(welcome["data"]["keepsLocks"], true, "{welcome}");
    come(&mut new).await;
    old.close().await;
    room.expect_left(2).await;
    let told: Vec<_> = std::mem::take(&mut room.told);
    let types: Vec<_> = told.iter().map(|frame| &frame["type"]).collect();
    assert_eq!(types, ["presence.joined", "lock.changed"]);
    let present = new.request("presence", json!({"channel": ROOM})).await;
    assert_eq!(present["data"]["count"], 2, "{present}");
    let refused = lock(&mut room.watcher).await;
    assert_eq!(refused["data"]["code"], "LOCKED", "{refused}");
    let renewed = lock(&mut new).await;
    assert_eq!(renewed["type"], "locked", "{renewed}");
    assert_eq!(renewed["data"]["fencing"], told[1]["data"]["fencing"]);
    new.close().await;
    room.told.extend(told);
    room.expect_end("successor").await;
}

#[tokio::test]
async fn after_functions_that_died() {
    let mut room = Room::open(stack()).await;
    for function in ["Disconnect", "Sweeper"] {
        for delay in ["0ms", "5ms", "20ms"] {
            let (socket, id) = room.enter_and_lock().await;
            let kill =
                json!({"fault": "function-kill", "function": function, "delay": delay, "times": 1});
            let fault = room.stack.fault(kill).await;
            socket.close().await;
            if function == "Disconnect" {
                room.stack.struck(&fault, 1).await;
            } else {
                let ended = ["[Disconnect]", "\"event\":\"connection.ended\"", &id];
                room.stack.logs.wait_for(&ended).await;
                room.sweep().await;
                room.stack.struck(&fault, 1).await;
            }
            room.stack.end_fault(&fault).await;
            let ending = format!("{function} killed after {delay}");
            room.expect_end(&ending).await;
        }
    }
    // The function dies while it takes the lock, and its client leaves.
    for delay in ["0ms", "5ms", "20ms"] {
        let token = room.stack.token("alice").await;
        let (mut socket, _) = room.enter(&token).await;
        let kill =
            json!({"fault": "function-kill", "function": "Default", "delay": delay, "times": 1});
        let fault = room.stack.fault(kill).await;
        let frame = json!({"type": "lock", "version": "1.0", "id": "lock",
            "data": {"channel": ROOM, "name": "title"}});
        socket.send(&frame.to_string()).await;
        room.stack.struck(&fault, 1).await;
        room.stack.end_fault(&fault).await;
        socket.close().await;
        room.expect_left(1).await;
        room.told.clear();
        room.expect_free(&json!({"data": {"fencing": 0}}), delay)
            .await;
    }
}
