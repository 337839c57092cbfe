//! Presence on the local stack, for docs/PERFORMANCE.md: 300 users join a channel
//! at once, 100 of them leave. `make bench` builds what it needs and runs it.

use std::time::{Duration, Instant};

use belfry_tests::{CONTENTION, Socket, Stack, percentile, until};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use serde_json::{Value, json};

const CHANNEL: &str = "demo:bench";

/// Users who join at once, how many of them leave, how many times, and the fault
/// that DynamoDB has meanwhile.
const CASES: [(usize, usize, usize, Option<&str>); 3] = [
    (300, 100, 3, None),
    (1_000, 300, 1, None),
    (1_000, 300, 1, Some(CONTENTION)),
];

/// Clients that connect at once.
const AT_A_TIME: usize = 16;

/// More than a busy machine refuses.
const MAX_ATTEMPTS: usize = 30;

/// A user's client. It reads all the time, as a page does.
struct Client {
    socket: Socket,
    /// How many changes it was told of.
    told: usize,
    /// The last number of users that it was told.
    count: u64,
    /// How often it asked to subscribe.
    attempts: usize,
}

#[tokio::main]
async fn main() {
    for (users, leaving, rounds, fault) in CASES {
        println!(
            "{users} users join a channel at once, {leaving} of them leave, {}",
            fault.unwrap_or("no fault")
        );
        for round in 1..=rounds {
            println!("round {round}");
            measure(users, leaving, fault).await;
        }
    }
}

async fn measure(users: usize, leaving: usize, fault: Option<&str>) {
    let stack = Stack::for_crowds()
        .parameter("PresenceGraceSeconds", "0")
        // This benchmark sweeps when it wants to.
        .argument("--schedule-every")
        .argument("1h")
        .fault(fault)
        .start()
        .await;
    let connecting = (0..users).map(async |n| Client {
        socket: stack.connect(&format!("user-{n}")).await,
        told: 0,
        count: 0,
        attempts: 0,
    });
    let connecting = stream::iter(connecting).buffered(AT_A_TIME);
    let mut clients: Vec<_> = connecting.collect().await;

    let begun = Instant::now();
    let mut times = join_all(clients.iter_mut().map(Client::join)).await;
    times.sort_unstable();
    let at = |percent| percentile(&times, percent);
    println!(
        "  subscribed: p50 {:.0} p99 {:.0} longest {:.0} ms",
        at(50),
        at(99),
        at(100)
    );
    let attempts: usize = clients.iter().map(|client| client.attempts).sum();
    println!("  {attempts} requests for {users} users");
    counted(&stack, &mut clients, users).await;
    println!("  all know the number after {:.2} s", seconds(begun));
    let told = clients.iter().map(|client| client.told);
    println!(
        "  changes that a client was told of: {} at most, {} in all",
        told.clone().max().unwrap_or_default(),
        told.sum::<usize>()
    );

    let begun = Instant::now();
    let closing = clients.drain(..leaving).map(|client| client.socket.close());
    join_all(closing).await;
    let left = users - leaving;
    until("they have gone", async || stack.rows().await == left).await;
    println!("  {leaving} have gone after {:.2} s", seconds(begun));
    counted(&stack, &mut clients, left).await;
    println!("  the others know the number after {:.2} s", seconds(begun));
}

/// Sweeps until each client knows the number of users.
async fn counted(stack: &Stack, clients: &mut [Client], users: usize) {
    until("nothing is due", async || {
        stack.age_departures().await;
        let sweep = json!({"action": "sweep"});
        stack.invoke("Sweeper", &sweep).await.expect("a sweep");
        stack.session_items().await.len() == users
    })
    .await;
    let users = users as u64;
    join_all(clients.iter_mut().map(|client| client.told_of(users))).await;
}

impl Client {
    /// Subscribes with presence. Returns how long the answer took.
    async fn join(&mut self) -> Duration {
        let channels = json!({"channels": [{"channel": CHANNEL, "presence": {}}]});
        let frame = json!({"type": "subscribe", "version": "1.0", "id": "join", "data": channels});
        let begun = Instant::now();
        loop {
            self.attempts += 1;
            self.socket.send(&frame.to_string()).await;
            let answer = self.answer().await;
            // An error is API Gateway's own, if the frame waited too long for a
            // function, or the function's, if it gave up a contended item.
            if answer["type"] == "subscribed" && answer["data"]["channels"][0]["error"].is_null() {
                return begun.elapsed();
            }
            assert!(self.attempts < MAX_ATTEMPTS, "{answer}");
        }
    }

    async fn answer(&mut self) -> Value {
        loop {
            let frame = self.next().await;
            if frame["correlationId"] == "join" || frame.get("type").is_none() {
                return frame;
            }
        }
    }

    /// Waits until it knows the number of users.
    async fn told_of(&mut self, users: u64) {
        while self.count != users {
            self.next().await;
        }
    }

    async fn next(&mut self) -> Value {
        let text = self.socket.next_text().await.expect("an open socket");
        let frame: Value = serde_json::from_str(&text).expect("JSON");
        let is_change = frame["type"]
            .as_str()
            .is_some_and(|name| name.starts_with("presence."));
        if is_change {
            self.told += 1;
            self.count = frame["data"]["count"].as_u64().unwrap_or(self.count);
        }
        frame
    }
}

fn seconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64()
}
