//! An operator asks clients to open another connection.

use std::collections::BTreeSet;

use belfry_tests::{Socket, Stack, few_at_a_time, open, until};
use serde_json::{Value, json};

const SOCKETS: usize = 200;

struct Client {
    user: String,
    socket: Socket,
    id: String,
    /// The messages that it has received on either connection.
    received: BTreeSet<String>,
    /// How often it was asked to open another connection.
    asked: Vec<Value>,
}

impl Client {
    async fn open(stack: &Stack, number: usize) -> Self {
        let user = format!("user-{number}");
        let mut socket = stack.connect(&user).await;
        let id = socket.id().await;
        Self {
            user,
            socket,
            id,
            received: BTreeSet::new(),
            asked: Vec::new(),
        }
    }

    /// Reads everything that was posted before.
    async fn read(&mut self) {
        self.socket.send(r#"{"type":"ping","version":"1.0"}"#).await;
        loop {
            let frame = self.socket.receive().await;
            match frame["type"].as_str() {
                Some("pong") => return,
                Some("notification") => {
                    self.received.insert(frame["id"].as_str().unwrap().into());
                }
                Some("reconnect") => self.asked.push(frame["data"].clone()),
                _ => panic!("{frame}"),
            }
        }
    }

    /// Opens another connection beside the old one.
    async fn open_next(&self, stack: &Stack) -> Socket {
        let bearer = format!("Bearer {}", stack.token(&self.user).await);
        let url = format!("{}?replaces={}", stack.ready.websocket, self.id);
        open(&url, &[("Authorization", &bearer)]).await
    }
}

async fn notify(stack: &Stack, id: &str) {
    let request = json!({
        "messageId": id,
        "target": {"type": "all"},
        "message": {"type": "notification", "data": {"kind": "k"}},
        "waitSeconds": 20,
    });
    let report = stack.broadcast(&request).await.unwrap();
    assert_eq!(
        (&report["status"], &report["failure"]),
        (&json!("done"), &json!(0)),
        "{report}"
    );
}

/// Half of the clients are asked, each once. They hand over, and nobody misses
/// what is sent before, between and after.
#[tokio::test]
async fn a_drain_asks_each_client_once_and_a_handover_loses_nothing() {
    let stack = Stack::talkative()
        .argument("--connect-rate")
        .argument("0")
        .parameter("BroadcastAllIntervalSeconds", "0")
        .parameter("ConnectionsPerWorker", "60")
        .start()
        .await;
    let opening = (0..SOCKETS).map(|number| Client::open(&stack, number));
    let mut clients = few_at_a_time(opening).await;
    let drain = async |id: &str, percent: u32| {
        let request = json!({
            "action": "drain", "messageId": id, "target": {"type": "all"},
            "withinSeconds": 60, "percent": percent, "waitSeconds": 20,
        });
        stack.invoke("Operator", &request).await.unwrap()
    };
    let half = drain("half", 50).await;
    assert_eq!(half["status"], "done", "{half}");
    let share = half["success"].as_u64().unwrap();
    assert!((70..=130).contains(&share), "{half}");
    notify(&stack, "before").await;
    few_at_a_time(clients.iter_mut().map(Client::read)).await;
    let asked = clients.iter().filter(|client| !client.asked.is_empty());
    assert_eq!(asked.count() as u64, share);
    for client in &mut clients {
        for frame in &client.asked {
            assert_eq!(frame["withinMs"], 60_000);
        }
    }
    // Those who were asked open the next connection, and then leave the old one.
    let mut moving: Vec<_> = clients
        .iter_mut()
        .filter(|client| !client.asked.is_empty())
        .collect();
    let opening = moving.iter().map(|client| client.open_next(&stack));
    let opened = few_at_a_time(opening).await;
    notify(&stack, "between").await;
    for (client, next) in moving.iter_mut().zip(opened) {
        client.read().await;
        std::mem::replace(&mut client.socket, next).close().await;
    }
    let left = async || stack.rows().await == SOCKETS;
    until("the old connections are gone", left).await;
    stack.expect_connections(SOCKETS).await;
    // The same request again asks nobody.
    assert_eq!(drain("half", 50).await, half);
    notify(&stack, "after").await;
    few_at_a_time(clients.iter_mut().map(Client::read)).await;
    for client in &clients {
        let Client {
            user,
            asked,
            received,
            ..
        } = client;
        assert!(asked.len() <= 1, "{user}: {asked:?}");
        assert_eq!(received.len(), 3, "{user}: {received:?}");
    }
}
