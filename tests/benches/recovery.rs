//! Clients of one channel lose their network for five seconds while messages
//! are published. Compares Belfry's local stack with Socket.IO and its recovery:
//! the same publisher, and the clients of both in one Node process each.
//! `make bench` builds and installs what it needs.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use belfry_tests::{Announcer, Figures, Program, Stack, repository};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

const CHANNEL: &str = "demo:bench";

const ROUNDS: usize = 3;

/// How many clients there are, messages a second while they are connected and
/// while they are away, and how many of them a request has at most. The local
/// stack can post no more than that to all of them on this machine.
const SCENARIOS: [(usize, u32, u32, u32); 3] =
    [(1_000, 5, 100, 1), (1_000, 5, 100, 10), (50, 100, 100, 10)];

const BEFORE: Duration = Duration::from_secs(3);
const AWAY: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() {
    let mut summaries = SCENARIOS.map(|_| [Summary::default(), Summary::default()]);
    for round in 1..=ROUNDS {
        println!("round {round}");
        for ((size, rate, away, together), [belfry, socket_io]) in
            SCENARIOS.iter().zip(&mut summaries)
        {
            println!(
                "  {size} clients, {away} messages a second while they are away, {together} in a request"
            );
            belfry.add(&with_belfry(*size, (*rate, *away, *together)).await);
            socket_io.add(&with_socket_io(*size, (*rate, *away, *together)).await);
        }
    }
    for ((size, rate, away, together), [belfry, socket_io]) in SCENARIOS.iter().zip(&summaries) {
        println!(
            "{size} clients, cut for {AWAY:?} under {away} messages a second, {rate} before and after, {together} in a request"
        );
        println!("  Belfry     {belfry}");
        println!("  Socket.IO  {socket_io}");
    }
}

/// Of several rounds.
#[derive(Default)]
struct Summary {
    joined: Figures,
    median: Figures,
    last: Figures,
    lost: Vec<u64>,
    doubled: Vec<u64>,
    behind: Vec<u64>,
}

impl Summary {
    fn add(&mut self, round: &Value) {
        let number = |name: &str| round[name].as_u64().expect("a number");
        for (figures, name) in [
            (&mut self.joined, "joinedMs"),
            (&mut self.median, "medianMs"),
            (&mut self.last, "lastMs"),
        ] {
            if let Some(figure) = round[name].as_f64() {
                figures.add(figure);
            }
        }
        self.lost.push(number("lost"));
        self.doubled.push(number("doubled"));
        self.behind.push(number("behind"));
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "lost {:?} doubled {:?}; back {} ms, caught up {} ms, all of them {} ms; never {:?}",
            self.lost, self.doubled, self.joined, self.median, self.last, self.behind
        )
    }
}

async fn with_belfry(size: usize, rates: (u32, u32, u32)) -> Value {
    // On AWS, each event has an environment of its own.
    let stack = Stack::for_crowds()
        .argument("--environments")
        .argument("100");
    let stack = stack.start().await;
    let tickets = stack.tickets(size).await.into_iter().map(
        |ticket| json!({"url": &*ticket.url, "authorization": ticket.authorization.as_deref()}),
    );
    let connect = json!({
        "command": "connect", "protocol": "belfry", "channel": CHANNEL,
        "tickets": tickets.collect::<Vec<_>>(),
    });
    round(&connect, &stack.announcer(), rates).await
}

async fn with_socket_io(size: usize, rates: (u32, u32, u32)) -> Value {
    let mut server = program("serve.mjs");
    let ready = server.line().await;
    let tickets = vec![json!({"url": ready["websocket"]}); size];
    let connect = json!({
        "command": "connect", "protocol": "socket.io", "channel": CHANNEL, "tickets": tickets,
    });
    let announcer = Announcer::Server {
        client: reqwest::Client::new(),
        url: ready["notify"].as_str().expect("a URL").to_owned(),
    };
    round(&connect, &announcer, rates).await
}

async fn round(
    connect: &Value,
    announcer: &Announcer,
    (rate, away, together): (u32, u32, u32),
) -> Value {
    let mut clients = program("clients.mjs");
    clients.ask(connect).await;
    let publisher = Publisher::start(announcer.clone(), rate, together);
    tokio::time::sleep(BEFORE).await;
    clients.ask(&json!({"command": "cut"})).await;
    publisher.rate.send_replace(away);
    tokio::time::sleep(AWAY).await;
    publisher.rate.send_replace(rate);
    let missed = publisher.published();
    let back = json!({"command": "back", "numbers": missed});
    let stopping = async {
        tokio::time::sleep(AFTER).await;
        publisher.stop().await
    };
    let (mut outcome, (published, refused)) = tokio::join!(clients.ask(&back), stopping);
    let end = clients
        .ask(&json!({"command": "end", "numbers": published}))
        .await;
    let object = outcome.as_object_mut().expect("an object");
    object.extend(end.as_object().expect("an object").clone());
    println!(
        "    {} published, {} refused {:?}, {outcome}",
        published.len(),
        refused.len(),
        refused.first()
    );
    outcome
}

/// Publishes numbers, each when its time has come, however long others take.
struct Publisher {
    /// Messages a second; zero ends it.
    rate: watch::Sender<u32>,
    published: Arc<Mutex<Vec<usize>>>,
    running: JoinHandle<Vec<String>>,
}

impl Publisher {
    fn start(announcer: Announcer, rate: u32, together: u32) -> Self {
        let (rate, rates) = watch::channel(rate);
        let published = Arc::new(Mutex::new(Vec::new()));
        let running = tokio::spawn(publish(announcer, rates, together, Arc::clone(&published)));
        Self {
            rate,
            published,
            running,
        }
    }

    /// The numbers so far that the server acknowledged.
    fn published(&self) -> Vec<usize> {
        self.published.lock().expect("not poisoned").clone()
    }

    /// Every number that the server acknowledged, and why it refused others.
    async fn stop(self) -> (Vec<usize>, Vec<String>) {
        self.rate.send_replace(0);
        let refused = self.running.await.expect("published");
        let published = self.published.lock().expect("not poisoned").clone();
        (published, refused)
    }
}

async fn publish(
    announcer: Announcer,
    rates: watch::Receiver<u32>,
    together: u32,
    published: Arc<Mutex<Vec<usize>>>,
) -> Vec<String> {
    let mut running = JoinSet::new();
    let mut due = Instant::now();
    let mut next = 0;
    loop {
        let rate = *rates.borrow();
        if rate == 0 {
            break;
        }
        let count = together.min(rate);
        due += Duration::from_secs(1) * count / rate;
        tokio::time::sleep_until(due).await;
        let numbers = next..next + count as usize;
        next = numbers.end;
        for numbers in requests(&announcer, numbers) {
            let (announcer, published) = (announcer.clone(), Arc::clone(&published));
            running.spawn(async move {
                match announcer.send(&request(numbers.clone())).await {
                    Ok(_) => published.lock().expect("not poisoned").extend(numbers),
                    Err(reason) => return Some(reason),
                }
                None
            });
        }
    }
    running.join_all().await.into_iter().flatten().collect()
}

/// Socket.IO's server takes one message in a request.
fn requests(announcer: &Announcer, numbers: Range<usize>) -> Vec<Range<usize>> {
    match announcer {
        Announcer::Function { .. } => vec![numbers],
        Announcer::Server { .. } => numbers.map(|number| number..number + 1).collect(),
    }
}

fn request(numbers: Range<usize>) -> Value {
    let message =
        |number| json!({"type": "notification", "data": {"kind": "bench", "number": number}});
    let mut request = json!({"target": {"type": "channel", "channel": CHANNEL}});
    if numbers.len() == 1 {
        request["message"] = message(numbers.start);
    } else {
        request["messages"] = numbers.map(message).collect();
    }
    request
}

fn program(script: &str) -> Program {
    let folder = repository().join("tests/benches/peers/socketio");
    Program::start(&folder, script)
}
