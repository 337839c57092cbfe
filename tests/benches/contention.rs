//! Connects and ends while DynamoDB's transactions contend, for
//! docs/PERFORMANCE.md: the store alone, on the local stack's DynamoDB.
//! `make bench` runs it.

use std::time::Duration;

use belfry_aws::{DynamoDb, Tables};
use belfry_core::UnixMillis;
use belfry_core::channels::Claims;
use belfry_core::connections::{Connection, ConnectionLimits};
use belfry_core::liveness::Liveness;
use belfry_core::ports::{Admission, Admissions, Admitted, Disconnections};
use belfry_protocol::{ConnectionId, UserId};
use belfry_tests::{CONTENTION, Stack, measured, percentile, unix_time};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Connects a second, and as many ends. The account's quota is 500, which is
/// more than the local stack carries.
const RATE: u32 = 200;

const SECONDS: u32 = 30;

const LIMITS: ConnectionLimits = ConnectionLimits {
    total: 1_000_000,
    per_user: 20,
};

/// How long a connection lives.
const LIFE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() {
    for fault in [None, Some(CONTENTION)] {
        // Sweeps would share the processors.
        let stack = Stack::builder()
            .functions(&measured())
            .argument("--schedule-every")
            .argument("1h")
            .fault(fault)
            .start()
            .await;
        let tables = Tables {
            connections: "Connections".into(),
            messages: "Messages".into(),
            subscriptions: "Subscriptions".into(),
            state: "State".into(),
        };
        let store = DynamoDb::new(stack.dynamodb().clone(), tables);
        println!("{}", fault.unwrap_or("without contention"));
        storm(&store).await;
        assert_eq!(stack.rows().await, 0, "rows are left");
    }
}

/// Begins each connect when its time has come, however long the others take.
async fn storm(store: &DynamoDb) {
    let (begun, mut running) = (Instant::now(), JoinSet::new());
    let now = u64::try_from(unix_time().as_millis()).expect("this century");
    for n in 0..RATE * SECONDS {
        let due = begun + Duration::from_secs(1) / RATE * n;
        tokio::time::sleep_until(due).await;
        let (store, row) = (store.clone(), row(n, UnixMillis(now)));
        running.spawn(async move {
            let connected = connect(&store, &row, due).await?;
            let due = Instant::now() + LIFE;
            tokio::time::sleep_until(due).await;
            let ended = end(&store, &row, due).await?;
            Ok::<_, String>((connected, ended))
        });
    }
    let (mut connected, mut ended, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for outcome in running.join_all().await {
        match outcome {
            Ok((connect, end)) => {
                connected.push(connect);
                ended.push(end);
            }
            Err(why) => refused.push(why),
        }
    }
    for (what, times) in [("connects", &mut connected), ("ends", &mut ended)] {
        times.sort_unstable();
        println!(
            "  {what:<10} {:>6}  p50 {:>6.0} ms  p99 {:>6.0} ms  longest {:>6.0} ms",
            times.len(),
            percentile(times, 50),
            percentile(times, 99),
            percentile(times, 100),
        );
    }
    println!("  refused    {:>6}  {:?}", refused.len(), refused.first());
    assert!(refused.is_empty(), "somebody was refused");
}

fn row(n: u32, connected_at: UnixMillis) -> Connection {
    let later = connected_at.plus(Duration::from_secs(3_600));
    Connection {
        id: ConnectionId::parse(format!("R0oX{n:07}")).expect("an id"),
        user_id: UserId::parse(format!("user-{n}")).expect("an id"),
        connected_at,
        last_seen_at: connected_at,
        expires_at: later.to_seconds(),
        token_expires_at: later.to_seconds(),
        claims: Claims::default(),
        has_session: false,
        accepts_batch: false,
        first: None,
        origin: None,
        source_ip: "192.0.2.1".into(),
        user_agent: None,
        liveness: Liveness::due_at(later),
    }
}

async fn connect(store: &DynamoDb, row: &Connection, due: Instant) -> Result<Duration, String> {
    let admission = Admission {
        connection: row,
        token_issued_at: row.connected_at.to_seconds(),
        replaces: None,
    };
    match store.admit(admission, LIMITS).await {
        Ok(Admitted::Yes) => Ok(due.elapsed()),
        Ok(refusal) => Err(format!("{refusal:?}")),
        Err(error) => Err(error.to_string()),
    }
}

async fn end(store: &DynamoDb, row: &Connection, due: Instant) -> Result<Duration, String> {
    let ended = store.disconnect(&row.id, row.connected_at).await;
    ended
        .map(|()| due.elapsed())
        .map_err(|error| error.to_string())
}
