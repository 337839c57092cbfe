//! Channels on the local stack, for docs/PERFORMANCE.md: how soon subscribers
//! have a message, what appending costs under load, and what slow subscribers
//! cost the others. `make bench` builds what it needs and runs it.

use std::collections::BTreeMap;
use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::time::{Duration, Instant};

use belfry_tests::{
    CONTENTION, Crowd, Figures, Socket, Stack, StackBuilder, Ticket, percentile, until,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const CHANNEL: &str = "demo:bench";

/// Enough that each message finds a publisher who is not waiting for an answer.
const PUBLISHERS: usize = 60;

/// Clients that connect or subscribe at once.
const AT_A_TIME: usize = 64;

/// Numbers of subscribers, and how many messages are published a second, for
/// how many seconds. At 100, workers take over what clients publish.
const AUDIENCES: [(usize, f64, u32); 4] = [
    (1, 20.0, 10),
    (99, 10.0, 10),
    (100, 10.0, 10),
    (10_000, 0.5, 10),
];

/// Messages a second to one channel, and for how many seconds.
const APPENDS: [(f64, u32); 3] = [(1.0, 20), (10.0, 15), (50.0, 15)];

/// How they are published, and the fault that DynamoDB has meanwhile.
const APPENDED: [(Via, Option<&str>); 3] = [
    (Via::Frame, None),
    (Via::NamedFrame, None),
    (Via::NamedFrame, Some(CONTENTION)),
];

const ROUNDS: usize = 3;

/// Subscribers that read as they should, beside the eleven others: `Default`
/// posts to 99 itself, and workers post to 100.
const HEALTHY: [usize; 2] = [88, 89];
const SLOW: usize = 10;

/// How long a slow subscriber does not read, and then reads. More messages
/// arrive in the meantime than the local stack buffers for a client.
const STALL: Duration = Duration::from_secs(4);
const READ: Duration = Duration::from_secs(1);
const RATE_BESIDE_SLOW: f64 = 20.0;
const SECONDS_BESIDE_SLOW: u32 = 10;

#[derive(Clone, Copy)]
enum Via {
    /// A client's `publish`.
    Frame,
    /// The same with a `messageId`, as `@belfry/client` sends it: a transaction
    /// remembers that it was appended.
    NamedFrame,
    /// The broadcaster's target `channel`.
    Broadcaster,
}

/// A message that was published.
struct Sent {
    number: usize,
    at: Instant,
    answered_after: Duration,
    /// `published`, `done`, `running`, or an error.
    answer: String,
}

struct Publishers {
    sockets: Vec<Socket>,
    next_number: usize,
}

#[tokio::main]
async fn main() {
    latencies().await;
    for (via, fault) in APPENDED {
        appends(via, fault).await;
    }
    for healthy in HEALTHY {
        slow_subscribers(healthy).await;
    }
}

fn stack() -> StackBuilder {
    Stack::for_crowds()
        .parameter("MessagesPerMinute", "60000")
        // Sweeps would share the processors.
        .argument("--schedule-every")
        .argument("1h")
}

/// From the publisher's call until subscribers have the frame.
async fn latencies() {
    let stack = stack().start().await;
    let tickets = stack.tickets(AUDIENCES[3].0).await;
    let mut crowd = Crowd::default();
    let mut publishers = Publishers::connect(&stack).await;
    println!("from the call until a subscriber, and the last one, has the frame");
    for (size, rate, seconds) in AUDIENCES {
        let others = &tickets[crowd.len()..size];
        join(&mut crowd, others).await;
        assert_eq!(stack.subscriptions().await, size);
        for (name, via) in [("publish", Via::Frame), ("broadcaster", Via::Broadcaster)] {
            let warm_up = evenly(rate, 2.0 / rate);
            publish(&mut publishers, &stack, &mut crowd, via, warm_up).await;
            let due = evenly(rate, f64::from(seconds));
            let (sent, mut arrived) = publish(&mut publishers, &stack, &mut crowd, via, due).await;
            let mut last = last_arrivals(&sent, &arrived);
            let mut times: Vec<_> = arrived.drain(..).map(|(_, took)| took).collect();
            println!(
                "  {size:>6} subscribers, {name:<12} {}  last of them {}  answer {}  lost {}",
                show(&mut times),
                show(&mut last),
                show(&mut answers(&sent)),
                sent.len() * size - times.len(),
            );
        }
    }
}

/// How long `published` takes, and how often publishers conflict. They publish
/// at random moments, as people do: evenly spaced they would never meet.
async fn appends(via: Via, fault: Option<&str>) {
    let stack = stack().fault(fault).start().await;
    let tickets = stack.tickets(1).await;
    let mut crowd = Crowd::default();
    join(&mut crowd, &tickets).await;
    let mut publishers = Publishers::connect(&stack).await;
    let mut total = 0;
    let warm_up = evenly(10.0, 1.0);
    total += publish(&mut publishers, &stack, &mut crowd, via, warm_up)
        .await
        .0
        .len();
    println!(
        "{PUBLISHERS} clients publish to one channel at random moments, {}, {}",
        if matches!(via, Via::NamedFrame) {
            "with ids"
        } else {
            "without ids"
        },
        fault.unwrap_or("no fault")
    );
    for (rate, seconds) in APPENDS {
        let before = appended(&stack, total).await;
        let due = randomly(rate, f64::from(seconds));
        let (sent, _) = publish(&mut publishers, &stack, &mut crowd, via, due).await;
        let mut outcomes = BTreeMap::new();
        for one in &sent {
            *outcomes.entry(one.answer.as_str()).or_insert(0) += 1;
        }
        // Another error may come before or after the append.
        total += outcomes.get("published").unwrap_or(&0);
        total += outcomes.get("CHANNEL_BUSY").unwrap_or(&0);
        let conflicts = appended(&stack, total).await - before;
        println!(
            "  {rate:>4} a second: {:>5} messages, answer {}  {conflicts} conflicts  {outcomes:?}",
            sent.len(),
            show(&mut answers(&sent)),
        );
    }
}

/// Whether subscribers that read slowly or not at all delay the others.
async fn slow_subscribers(healthy: usize) {
    // On AWS, each frame has an environment of its own.
    let stack = stack().argument("--environments").argument("400");
    let stack = stack.start().await;
    let tickets = stack.tickets(healthy).await;
    let mut crowd = Crowd::default();
    join(&mut crowd, &tickets).await;
    let mut ids = Vec::new();
    let mut reading = Vec::new();
    for number in 0..=SLOW {
        let mut socket = stack.connect(&format!("slow-{number}")).await;
        ids.push(socket.id().await);
        socket.ask(&subscribe()).await;
        reading.push(tokio::spawn(async move {
            while socket.next_text().await.is_some() {}
        }));
    }
    let mut publishers = Publishers::connect(&stack).await;
    let via = Via::Frame;
    let warm_up = evenly(10.0, 2.0);
    publish(&mut publishers, &stack, &mut crowd, via, warm_up).await;
    println!("{healthy} subscribers, beside {SLOW} slow ones and a frozen one");
    let mut p99 = [Figures::default(), Figures::default()];
    for _ in 0..ROUNDS {
        for (index, name) in ["all read", "11 do not"].into_iter().enumerate() {
            let due = evenly(RATE_BESIDE_SLOW, f64::from(SECONDS_BESIDE_SLOW));
            let throttled = stack.logs.sum_of("PostsThrottled");
            let publishing = publish(&mut publishers, &stack, &mut crowd, via, due);
            let (sent, arrived) = if index == 0 {
                publishing.await
            } else {
                tokio::select! {
                    published = publishing => published,
                    () = stall(&stack, &ids) => unreachable!("an endless loop"),
                }
            };
            let throttled = stack.logs.sum_of("PostsThrottled") - throttled;
            let (status, _) = stack.local("DELETE", "faults", None).await;
            assert_eq!(status, 204);
            let mut times: Vec<_> = arrived.iter().map(|(_, took)| *took).collect();
            println!(
                "  {name:<10} {}  answer {}  {throttled} throttled  {} lost",
                show(&mut times),
                show(&mut answers(&sent)),
                sent.len() * healthy - times.len(),
            );
            p99[index].add(percentile(&times, 99));
        }
    }
    println!(
        "  p99: {} ms, {} ms, ratio {:.2}",
        p99[0],
        p99[1],
        p99[1].times(&p99[0])
    );
    reading.iter().for_each(JoinHandle::abort);
}

/// Freezes the first of these connections, and the others most of the time.
async fn stall(stack: &Stack, ids: &[String]) {
    let freeze = |id: &str| stack.fault(json!({"fault": "peer-freeze", "connection": id}));
    freeze(&ids[0]).await;
    join_all(ids[1..].iter().enumerate().map(async |(index, id)| {
        // Not all at the same time.
        let slow = u32::try_from(SLOW).expect("few");
        tokio::time::sleep(READ / slow * u32::try_from(index).expect("few")).await;
        loop {
            let fault = freeze(id).await;
            tokio::time::sleep(STALL).await;
            stack.end_fault(&fault).await;
            tokio::time::sleep(READ).await;
        }
    }))
    .await;
    pending().await
}

fn subscribe() -> String {
    let data = json!({"channels": [{"channel": CHANNEL}]});
    json!({"type": "subscribe", "version": "1.0", "data": data}).to_string()
}

/// Adds subscribers to a crowd.
async fn join(crowd: &mut Crowd, tickets: &[Ticket]) {
    let from = crowd.len();
    let refused = crowd.grow(tickets, AT_A_TIME).await;
    assert_eq!(refused, Vec::<String>::new());
    for start in (from..crowd.len()).step_by(AT_A_TIME) {
        let clients: Range<usize> = start..crowd.len().min(start + AT_A_TIME);
        let count = clients.len();
        crowd.send(clients, &subscribe()).await;
        assert_eq!(crowd.arrivals(count).await.len(), count);
    }
}

/// When messages are due, from the beginning on.
fn evenly(rate: f64, seconds: f64) -> Vec<Duration> {
    let count = (rate * seconds).round() as u32;
    let between = Duration::from_secs_f64(1.0 / rate);
    (1..=count).map(|number| between * number).collect()
}

/// The same at random moments: a Poisson process.
fn randomly(rate: f64, seconds: f64) -> Vec<Duration> {
    let random = RandomState::new();
    let uniform = |number: u32| (random.hash_one(number) >> 11) as f64 / (1_u64 << 53) as f64;
    let mut due = Vec::new();
    let mut at = 0.0;
    for number in 0.. {
        at -= (1.0 - uniform(number)).ln() / rate;
        if at > seconds {
            break;
        }
        due.push(Duration::from_secs_f64(at));
    }
    due
}

impl Publishers {
    async fn connect(stack: &Stack) -> Self {
        let mut sockets = Vec::new();
        for number in 0..PUBLISHERS {
            sockets.push(stack.connect(&format!("publisher-{number}")).await);
        }
        Self {
            sockets,
            next_number: 0,
        }
    }

    /// Publishes a message at each of these times.
    async fn run(&mut self, stack: &Stack, via: Via, due: &[Duration]) -> Vec<Sent> {
        let (begun, first) = (Instant::now(), self.next_number);
        self.next_number += due.len();
        let of_each = self.sockets.iter_mut().enumerate();
        let sent = of_each.map(async |(publisher, socket)| {
            let mut sent = Vec::new();
            let own = due.iter().enumerate().skip(publisher).step_by(PUBLISHERS);
            for (index, due) in own {
                tokio::time::sleep_until((begun + *due).into()).await;
                let (number, at) = (first + index, Instant::now());
                let answer = match via {
                    Via::Frame => publish_frame(socket, number, None).await,
                    Via::NamedFrame => {
                        publish_frame(socket, number, Some(format!("m-{number}"))).await
                    }
                    Via::Broadcaster => broadcast(stack, number).await,
                };
                sent.push(Sent {
                    number,
                    at,
                    answered_after: at.elapsed(),
                    answer,
                });
            }
            sent
        });
        let mut sent: Vec<_> = join_all(sent).await.into_iter().flatten().collect();
        sent.sort_by_key(|one| one.number);
        sent
    }
}

async fn publish_frame(socket: &mut Socket, number: usize, id: Option<String>) -> String {
    let mut data = json!({"channel": CHANNEL, "kind": "bench", "data": {"number": number}});
    if let Some(id) = id {
        data["messageId"] = id.into();
    }
    let frame = json!({"type": "publish", "version": "1.0", "data": data});
    let answer = socket.ask(&frame.to_string()).await;
    let code = &answer["data"]["code"];
    text(if code.is_null() {
        &answer["type"]
    } else {
        code
    })
}

async fn broadcast(stack: &Stack, number: usize) -> String {
    let request = json!({
        "target": {"type": "channel", "channel": CHANNEL},
        "message": {"type": "notification", "data": {"kind": "bench", "number": number}},
    });
    match stack.broadcast(&request).await {
        Ok(report) => text(&report["status"]),
        Err(error) => text(&error["errorType"]),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("no text").to_owned()
}

/// Publishes, and returns for each frame that arrived the message's number and
/// the time since it was sent.
async fn publish(
    publishers: &mut Publishers,
    stack: &Stack,
    crowd: &mut Crowd,
    via: Via,
    due: Vec<Duration>,
) -> (Vec<Sent>, Vec<(usize, Duration)>) {
    let first = publishers.next_number;
    let expected = due.len() * crowd.len();
    let publishing = publishers.run(stack, via, &due);
    let (sent, arrivals) = tokio::join!(publishing, crowd.arrivals(expected));
    let arrived = arrivals.into_iter().filter_map(|(number, at)| {
        let sent = sent.get(number?.checked_sub(first)?)?;
        Some((sent.number, at.saturating_duration_since(sent.at)))
    });
    let arrived = arrived.collect();
    (sent, arrived)
}

/// For each message the time until the last subscriber had it.
fn last_arrivals(sent: &[Sent], arrived: &[(usize, Duration)]) -> Vec<Duration> {
    let mut last = vec![Duration::ZERO; sent.len()];
    for (number, took) in arrived {
        let index = number - sent[0].number;
        last[index] = last[index].max(*took);
    }
    last
}

fn answers(sent: &[Sent]) -> Vec<Duration> {
    sent.iter().map(|one| one.answered_after).collect()
}

/// Conflicts so far, once this many appends are counted.
async fn appended(stack: &Stack, appends: usize) -> u64 {
    let ended = || stack.logs.sum_of("MessagesAppended") + stack.logs.sum_of("AppendsRefused");
    until("every append is counted", async || {
        ended() >= appends as u64
    })
    .await;
    stack.logs.sum_of("AppendConflicts")
}

/// Sorts times and shows p50, p99 and the longest.
fn show(times: &mut [Duration]) -> String {
    times.sort_unstable();
    if times.is_empty() {
        return "nothing".into();
    }
    let at = |percent| percentile(times, percent);
    format!(
        "p50 {:.2} p99 {:.2} longest {:.2} ms",
        at(50),
        at(99),
        at(100)
    )
}
