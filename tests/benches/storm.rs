//! 10,000 clients lose their connections at the same moment and come back, with
//! their channels: without contention in DynamoDB, and with it. Checks that no
//! client misses anything. `make bench` builds what it needs and runs it.

use std::io::Write;
use std::time::Duration;

use belfry_tests::{Clients, Stack, percentile, unix_time};
use serde_json::{Value, json};
use tokio::time::Instant;

const CLIENTS: usize = 10_000;

const ROOM: usize = 100;

/// API Gateway's quota: handshakes a second of an account.
const CONNECTS: &str = "500";

/// Transactions hold their items for so long: longer than on AWS, where more of
/// them would be under way.
const HOLD: &str = "50ms";

/// Time between two messages. Each goes to a room.
const BETWEEN: Duration = Duration::from_millis(500);

/// How long everything may take to settle.
const SETTLING: Duration = Duration::from_secs(600);

const RULES: &str = r#"{"version":"1.0","channels": [
    {"match": "room:**", "allow": ["subscribe", "publish"], "history": {"seconds": 86400}}]}"#;

#[tokio::main]
async fn main() {
    let mut rules = tempfile::NamedTempFile::new().expect("a temporary file");
    rules.write_all(RULES.as_bytes()).expect("written");
    let stack = Stack::for_crowds_at(CONNECTS)
        .argument("--channels")
        .argument(rules.path().to_str().expect("a path"));
    let stack = stack.start().await;
    let members: Vec<_> = (0..CLIENTS).map(member).collect();
    let begun = Instant::now();
    let (mut clients, _) = Clients::open(&stack.ready, &members, Duration::ZERO).await;
    println!(
        "{CLIENTS} clients, each in a room with {} others, are connected after {:.0} s",
        ROOM - 1,
        begun.elapsed().as_secs_f64()
    );
    storm(&stack, &mut clients, "without contention").await;
    let fault = json!({"fault": "dynamodb-contention", "delay": HOLD});
    let fault = stack.fault(fault).await;
    storm(&stack, &mut clients, "with contention").await;
    println!(
        "  {} transactions held their items",
        stack.strikes(&fault).await
    );
    assert_eq!(clients.close().await, Vec::<String>::new());
}

/// Cuts every connection, and publishes until everybody is back.
async fn storm(stack: &Stack, clients: &mut Clients, name: &str) {
    let before = Counts::of(stack);
    let cut: Vec<_> = (0..CLIENTS)
        .map(|member| json!({"what": "cut", "member": member}))
        .collect();
    let (begun, cut_at) = (Instant::now(), unix_time());
    let connections = connections_of(&clients.act(&cut).await) + CLIENTS;
    for message in 0.. {
        let member = message % CLIENTS;
        let id = format!("{}-{message}", name.replace(' ', "-"));
        let publish =
            json!({"what": "publish", "member": member, "channel": room_of(member), "id": id});
        let progress = clients.act(&[publish]).await;
        if connections_of(&progress) >= connections {
            break;
        }
        assert!(begun.elapsed() < SETTLING, "not every client has come back");
        tokio::time::sleep(BETWEEN).await;
    }
    let mut times = loop {
        let back = clients.last_opened().await;
        // Some may have come back twice, and others not yet.
        if back.iter().all(|at| *at >= cut_at) {
            break back;
        }
        assert!(begun.elapsed() < SETTLING, "not every client has come back");
        tokio::time::sleep(BETWEEN).await;
    };
    times.iter_mut().for_each(|at| *at -= cut_at);
    times.sort_unstable();
    let at = |percent| percentile(&times, percent) / 1_000.0;
    println!(
        "{name}: back after {:.1} s (p50), {:.1} s (p99), {:.1} s (the last)",
        at(50),
        at(99),
        at(100)
    );
    println!("  {}", Counts::of(stack).since(&before));
    let settled = clients.expect_nothing_missed(SETTLING).await;
    println!(
        "  settled after {:.1} s: {settled}",
        begun.elapsed().as_secs_f64()
    );
}

/// What the functions have counted.
const COUNTED: [&str; 4] = [
    "ConnectionsAccepted",
    "ConnectionsRefused",
    "SubscriptionsMade",
    "FramesRefused",
];

struct Counts([u64; COUNTED.len()]);

impl Counts {
    fn of(stack: &Stack) -> Self {
        Self(COUNTED.map(|metric| stack.logs.sum_of(metric)))
    }

    /// What has been counted since then.
    fn since(&self, before: &Self) -> String {
        let figures = COUNTED.iter().zip(self.0.iter().zip(before.0));
        let figures = figures.map(|(name, (now, before))| format!("{name} {}", now - before));
        figures.collect::<Vec<_>>().join(", ")
    }
}

fn connections_of(progress: &Value) -> usize {
    let connections = progress["connections"].as_u64().expect("a number");
    usize::try_from(connections).expect("a count")
}

fn member(client: usize) -> Value {
    let channels = json!([{"channel": room_of(client)}]);
    json!({
        "user": format!("user-{client}"), "channels": channels, "own": false,
        "tokenSeconds": 7_200, "pingAfterMs": 240_000,
    })
}

fn room_of(client: usize) -> String {
    format!("room:{}", client / ROOM)
}
