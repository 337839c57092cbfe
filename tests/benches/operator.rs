//! An operator drains 12,500 connections and closes 10,000, while messages are
//! published: how long it takes, and a check that no client misses anything.
//! `make bench` builds what it needs and runs it.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use belfry_tests::{Clients, Stack, unix_time};
use serde_json::{Value, json};
use tokio::time::Instant;

const CLIENTS: usize = 12_500;

/// Those of them that are subscribed to the channel that is kicked.
const KICKED: usize = 10_000;

const ROOM: usize = 100;
const LARGE: &str = "room:large";

const DRAIN_SECONDS: u64 = 300;

/// Time between two messages. Each goes to a room.
const BETWEEN: Duration = Duration::from_millis(200);

/// Handshakes a second that the local stack accepts. On these two cores, with the
/// clients, it subscribes some 140 a second. If it took more handshakes than that,
/// clients would wait for their subscriptions in vain, and begin again.
const CONNECTS: &str = "120";

/// How long everything may take to settle.
const SETTLING: Duration = Duration::from_secs(400);

const RULES: &str = r#"{"version":"1.0","channels": [
    {"match": "room:**", "allow": ["subscribe", "publish"], "history": {"seconds": 86400}}]}"#;

struct Run {
    stack: Stack,
    clients: Clients,
    messages: usize,
    random: fastrand::Rng,
}

#[tokio::main]
async fn main() {
    let mut run = Run::start().await;
    let before = run.progress().await;
    println!("{CLIENTS} clients are connected");

    let begun = Instant::now();
    let asked = unix_time();
    let drain = json!({
        "action": "drain", "target": {"type": "all"}, "withinSeconds": DRAIN_SECONDS, "waitSeconds": 20,
    });
    let report = run.operate(&drain, CLIENTS).await;
    println!(
        "drain: all asked after {:.1} s: {report}",
        begun.elapsed().as_secs_f64()
    );
    let limit = Duration::from_secs(DRAIN_SECONDS + 60);
    let moved = run
        .until_connections(number(&before, "connections") + CLIENTS, limit)
        .await;
    println!(
        "drain: the last client has moved after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    assert!(moved, "not every client has moved");
    print_moves(&run.clients.last_opened().await, asked);
    let settled = run.clients.expect_nothing_missed(SETTLING).await;
    println!("drain: {settled}");
    assert_eq!(
        number(&settled, "interruptions"),
        0,
        "a client had no connection"
    );

    let before = run.progress().await;
    let begun = Instant::now();
    let kick = json!({
        "action": "kick", "target": {"type": "channel", "channel": LARGE}, "waitSeconds": 20,
    });
    let report = run.operate(&kick, KICKED).await;
    println!(
        "kick: all closed after {:.1} s: {report}",
        begun.elapsed().as_secs_f64()
    );
    let connections = number(&before, "connections") + KICKED;
    let back = run.until_connections(connections, SETTLING).await;
    println!(
        "kick: the last client is back after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    assert!(back, "not every client has come back");
    let settled = run.clients.expect_nothing_missed(SETTLING).await;
    println!("kick: {settled}");
    assert_eq!(run.clients.close().await, Vec::<String>::new());
}

impl Run {
    async fn start() -> Self {
        let mut rules = tempfile::NamedTempFile::new().expect("a temporary file");
        rules.write_all(RULES.as_bytes()).expect("written");
        let stack = Stack::for_crowds_at(CONNECTS)
            .argument("--channels")
            .argument(rules.path().to_str().expect("a path"));
        let stack = stack.start().await;
        let member = |client: usize| {
            let mut channels = vec![json!({"channel": room_of(client)})];
            if client < KICKED {
                channels.push(json!({"channel": LARGE}));
            }
            json!({
                "user": format!("user-{client}"), "channels": channels, "own": false,
                "tokenSeconds": 7_200, "pingAfterMs": 240_000,
            })
        };
        let members: Vec<_> = (0..CLIENTS).map(member).collect();
        let begun = Instant::now();
        let (clients, opened) = Clients::open(&stack.ready, &members, Duration::ZERO).await;
        println!("opened in {:.1} s: {opened}", begun.elapsed().as_secs_f64());
        Self {
            stack,
            clients,
            messages: 0,
            random: fastrand::Rng::with_seed(1),
        }
    }

    /// Publishes one message. Returns what the clients have counted.
    async fn progress(&mut self) -> Value {
        let member = self.random.usize(0..CLIENTS);
        self.messages += 1;
        let id = format!("m-{}", self.messages);
        let publish =
            json!({"what": "publish", "member": member, "channel": room_of(member), "id": id});
        self.clients.act(&[publish]).await
    }

    /// Publishes until there have been so many connections and everybody has one.
    /// Returns whether that was in time.
    async fn until_connections(&mut self, count: usize, limit: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < limit {
            let progress = self.progress().await;
            // Some may have connected twice, and others not yet.
            if number(&progress, "connections") >= count
                && number(&progress, "connected") == CLIENTS
            {
                return true;
            }
            tokio::time::sleep(BETWEEN).await;
        }
        false
    }

    /// Has the operator do something to so many connections, and publishes
    /// meanwhile.
    async fn operate(&mut self, request: &Value, count: usize) -> Value {
        let lambda = self.stack.lambda().clone();
        let payload = aws_sdk_lambda::primitives::Blob::new(request.to_string());
        let call = tokio::spawn(async move {
            let invoke = lambda.invoke().function_name("Operator").payload(payload);
            let output = invoke.send().await.expect("Invoke");
            let payload = output.payload().expect("a report");
            serde_json::from_slice::<Value>(payload.as_ref()).expect("JSON")
        });
        while !call.is_finished() {
            self.progress().await;
            tokio::time::sleep(BETWEEN).await;
        }
        let report = call.await.expect("a report");
        assert_eq!(report["status"], "done", "{report}");
        assert_eq!(number(&report, "success"), count, "{report}");
        report
    }
}

fn room_of(client: usize) -> String {
    format!("room:{}", client / ROOM)
}

/// How many clients have moved in each tenth of the time.
fn print_moves(moved: &[Duration], asked: Duration) {
    let tenth = u128::from(DRAIN_SECONDS) * 100;
    let mut moves: BTreeMap<u128, usize> = BTreeMap::new();
    for at in moved {
        *moves
            .entry(at.saturating_sub(asked).as_millis() / tenth)
            .or_default() += 1;
    }
    println!(
        "drain: moves in each tenth of the time: {:?}",
        moves.values()
    );
}

fn number(value: &Value, name: &str) -> usize {
    let number = value[name].as_u64().expect("a number");
    usize::try_from(number).expect("a count")
}
