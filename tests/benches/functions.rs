//! The cost of starting and running a function. Compares Belfry's functions with
//! functions in Node, bundled, with the same two SDK clients: the usual ones,
//! which do less, and equal ones, which make the same calls. `make bench`
//! installs and builds what it needs.

use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::time::{Duration, Instant};

use belfry_tests::{
    Figures, Function, Sink, Socket, Stack, Work, belfry, measured, node_peer, repository,
};
use serde_json::{Value, json};

const STARTS: usize = 15;

/// Rounds alternate between the functions; each function gets 10,000 events.
const ROUNDS: usize = 5;
const EVENTS: usize = 2_000;

/// Fewer, since each sweep queries all 64 shards of the index.
const SWEEPS: usize = 100;

/// How much less processor time a warm event shall take than in Node, if both do
/// the same work.
const GOAL: f64 = 4.0;
const GOAL_FOR_FRAMES: f64 = 5.0;

/// Connections that send frames in turn, so that none reaches its rate limit.
const CONNECTIONS: usize = 8;

/// The system's certificates in one file, on Debian and its derivatives. If the
/// variable `SSL_CERT_FILE` names it, no other file is read. Otherwise each file
/// of the folder is.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The functions, and whether each has a counterpart in Node. Workers,
/// sweepers, operators and readers are not commonly written.
const FUNCTIONS: [(&str, bool); 8] = [
    ("connect", true),
    ("disconnect", true),
    ("default", true),
    ("broadcaster", true),
    ("worker", false),
    ("sweeper", false),
    ("operator", false),
    ("reader", false),
];

/// Makes the events for each function.
struct Events {
    token: String,
    connected: Vec<String>,
    count: usize,
}

#[derive(Default)]
struct Start {
    to_next: Figures,
    to_answer: Figures,
    peak_mb: Figures,
}

#[tokio::main]
async fn main() {
    let stack = Stack::talkative().functions(&measured()).start().await;
    let sink = Sink::start().await;
    let mut events = Events::new(&stack).await;
    for (name, has_peer) in FUNCTIONS {
        if has_peer {
            compare_work(name, &stack, &sink, &mut events).await;
        }
    }
    let has_bundle = Path::new(BUNDLE).exists();
    println!("{STARTS} starts, alternating: median (range)");
    for (name, has_peer) in FUNCTIONS {
        let (mut own, mut peer) = (Start::default(), Start::default());
        let mut with_bundle = Start::default();
        for _ in 0..STARTS {
            if has_bundle {
                let mut command = configured(name);
                command.env("SSL_CERT_FILE", BUNDLE);
                let event = events.next(name);
                with_bundle.measure(command, &stack, &sink, &event).await;
            }
            own.measure(configured(name), &stack, &sink, &events.next(name))
                .await;
            if has_peer {
                peer.measure(node_peer(name), &stack, &sink, &events.next(name))
                    .await;
            }
        }
        own.print(name, &measured().join(name));
        if has_bundle {
            with_bundle.print("  one file", &measured().join(name));
        }
        if has_peer {
            peer.print("  in Node", &dist(name));
            println!(
                "{:<12} {:.1} times faster to /next, {:.1} times to the first answer",
                "",
                peer.to_next.times(&own.to_next),
                peer.to_answer.times(&own.to_answer)
            );
        }
    }
    warm(&stack, &sink, &mut events).await;
}

/// Checks that Belfry's function and the equal one in Node make the same calls
/// under the same conditions, write the same log and give the same answer.
/// Otherwise a comparison of their cost would be worth nothing.
async fn compare_work(name: &str, stack: &Stack, sink: &Sink, events: &mut Events) {
    let compared = events.compared(name);
    let mut variables = stack.unlimited(&sink.url);
    // In place of a limit that no frame comes near.
    variables.retain(|(name, _)| *name != "MESSAGES_PER_MINUTE");
    let own = Work::record(belfry(name), &variables, &compared).await;
    let peer = own.replay(equal_peer(name), &variables, &compared).await;
    if let Some(difference) = own.difference(&peer) {
        panic!("{name} does other work in Node: {difference}");
    }
}

async fn warm(stack: &Stack, sink: &Sink, events: &mut Events) {
    println!(
        "\n{} events each, in {ROUNDS} rounds, alternating",
        ROUNDS * EVENTS
    );
    println!(
        "{:<12} {:>26} {:>26} {:>7} {:>26} {:>7}",
        "", "CPU µs per event", "Node, equal work", "ratio", "Node, as usual", "ratio"
    );
    let mut goals = Vec::new();
    // The two alternate, since each $disconnect removes a $connect's row.
    for (names, count, has_peer) in [
        (["connect", "disconnect"].as_slice(), EVENTS, true),
        (&["default"], EVENTS, true),
        (&["broadcaster"], EVENTS, true),
        (&["worker"], EVENTS, false),
        (&["sweeper"], SWEEPS, false),
    ] {
        let mut programs = vec![start_all(names, belfry, stack, sink).await];
        if has_peer {
            programs.push(start_all(names, equal_peer, stack, sink).await);
            programs.push(start_all(names, node_peer, stack, sink).await);
        }
        let mut figures = vec![vec![Figures::default(); names.len()]; programs.len()];
        // Warms up connections, caches and just-in-time compilers.
        for functions in &mut programs {
            let mut unused = vec![Figures::default(); names.len()];
            run(names, count, functions, events, &mut unused).await;
        }
        for _ in 0..ROUNDS {
            for (functions, figures) in programs.iter_mut().zip(&mut figures) {
                run(names, count, functions, events, figures).await;
            }
        }
        for (index, name) in names.iter().enumerate() {
            let own = &figures[0][index];
            print!("{name:<12} {own:>26}");
            for peer in &figures[1..] {
                let peer = &peer[index];
                print!(" {peer:>26} {:>6.1}×", peer.times(own));
            }
            println!();
            if let [_, equal, _] = figures.as_slice() {
                goals.push((*name, equal[index].times(own)));
            }
        }
    }
    println!("\nThe goals against equal work");
    for (name, times) in goals {
        let goal = if name == "default" {
            GOAL_FOR_FRAMES
        } else {
            GOAL
        };
        let result = if times >= goal { "met" } else { "missed" };
        println!("{name:<12} {goal} times less: {times:.2} times, {result}");
    }
}

async fn start_all(
    names: &[&str],
    command: impl Fn(&str) -> tokio::process::Command,
    stack: &Stack,
    sink: &Sink,
) -> Vec<Function> {
    let mut functions = Vec::new();
    for name in names {
        functions.push(Function::start(command(name), &stack.unlimited(&sink.url)).await);
    }
    functions
}

/// A round of events. Each number goes to every function in turn.
async fn run(
    names: &[&str],
    count: usize,
    functions: &mut [Function],
    events: &mut Events,
    figures: &mut [Figures],
) {
    let before: Vec<Duration> = functions.iter().map(Function::cpu).collect();
    for _ in 0..count {
        events.count += 1;
        for (name, function) in names.iter().zip(functions.iter_mut()) {
            expect(name, function.invoke(&events.of(name)).await);
        }
    }
    for ((function, before), figures) in functions.iter().zip(before).zip(figures) {
        let used = (function.cpu() - before).as_secs_f64();
        figures.add(used * 1e6 / count as f64);
    }
}

impl Start {
    async fn measure(
        &mut self,
        command: tokio::process::Command,
        stack: &Stack,
        sink: &Sink,
        (name, event): &(&str, Value),
    ) {
        let mut function = Function::start(command, &stack.unlimited(&sink.url)).await;
        let asked = Instant::now();
        let answer = function.invoke(event).await;
        let answered = function.started_after + asked.elapsed();
        expect(name, answer);
        self.to_next.add_time(function.started_after);
        self.to_answer.add_time(answered);
        self.peak_mb.add(function.peak_memory_kb() as f64 / 1_024.0);
    }

    fn print(&self, name: &str, file: &Path) {
        println!(
            "{name:<12} /next {:>24} ms   first answer {:>24} ms   peak {:>18} MB   zipped {:.2} MB",
            self.to_next,
            self.to_answer,
            self.peak_mb,
            zipped(file) as f64 / 1e6
        );
    }
}

impl Events {
    async fn new(stack: &Stack) -> Self {
        let mut sockets: Vec<Socket> = Vec::new();
        for number in 0..CONNECTIONS {
            sockets.push(stack.connect(&format!("user-{number}")).await);
        }
        let request = json!({"messageId": "done", "target": {"type": "user", "userId": "user-0"}, "message": {"type": "notification", "data": {"kind": "k"}}});
        stack.broadcast(&request).await.expect("a report");
        let connected = stack.connection_ids().await;
        // Never dropped, so that the connections stay open.
        std::mem::forget(sockets);
        Self {
            token: stack.token("alice").await,
            connected,
            count: 0,
        }
    }

    /// The events whose work is compared.
    fn compared(&mut self, function: &str) -> Vec<Value> {
        if function != "disconnect" {
            self.count += 1;
        }
        let event = self.of(function);
        match function {
            "connect" => vec![event, example("connect-foreign-origin")],
            // The first one finds the row of the $connect, the second one none.
            "disconnect" => vec![event.clone(), event],
            // The second one finds a bucket that is filling.
            "default" => vec![event.clone(), event],
            _ => vec![event],
        }
    }

    /// The next event of a function, with the function's name.
    fn next<'a>(&mut self, function: &'a str) -> (&'a str, Value) {
        self.count += 1;
        (function, self.of(function))
    }

    /// A function's event for the current number.
    fn of(&self, function: &str) -> Value {
        let id = format!("{:013}AbC=", self.count);
        match function {
            "connect" => {
                let mut event = example("connect-authorization");
                event["requestContext"]["connectionId"] = id.into();
                let bearer = format!("Bearer {}", self.token);
                event["headers"]["Authorization"] = bearer.as_str().into();
                event["multiValueHeaders"]["Authorization"] = json!([bearer]);
                event
            }
            "disconnect" => {
                let mut event = example("disconnect-normal");
                event["requestContext"]["connectionId"] = id.into();
                event
            }
            "default" => {
                let mut event = example("message-echo");
                let from = &self.connected[self.count % self.connected.len()];
                event["requestContext"]["connectionId"] = from.as_str().into();
                event
            }
            "broadcaster" => json!({
                "target": {"type": "user", "userId": format!("user-{}", self.count % CONNECTIONS)},
                "message": {"type": "notification", "data": {"kind": "upload.completed", "file": "x.png"}},
            }),
            "worker" => json!({"messageId": "done", "segment": 0}),
            "sweeper" => example("sweeper-sweep"),
            // Nobody whose token is used here.
            "operator" => json!({"action": "signOut", "userId": "nobody"}),
            "reader" => poll(&self.token),
            other => unreachable!("no function {other}"),
        }
    }
}

fn expect(function: &str, answer: Result<Value, Value>) {
    let answer = answer.unwrap_or_else(|error| panic!("{function} failed: {error}"));
    match function {
        "connect" | "disconnect" | "default" | "reader" => {
            assert_eq!(answer["statusCode"], 200, "{answer}");
        }
        "broadcaster" => assert_eq!(answer["success"], 1, "{answer}"),
        _ => {}
    }
}

/// The function in Node that does the same work.
fn equal_peer(name: &str) -> tokio::process::Command {
    node_peer(&format!("equal/{name}"))
}

/// Readers read only what is kept.
fn configured(name: &str) -> tokio::process::Command {
    let mut command = belfry(name);
    if name == "reader" {
        let rules = r#"{"version":"1.0","user":{"history":{"seconds":600}}}"#;
        command.env("CHANNEL_RULES", rules);
    }
    command
}

/// The event of a function URL: a poll that does not wait.
fn poll(token: &str) -> Value {
    let http = json!({"method": "GET", "path": "/messages", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"});
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": "/messages", "rawQueryString": "channel=@me",
        "headers": {"authorization": format!("Bearer {token}")}, "isBase64Encoded": false,
        "requestContext": {"timeEpoch": 1_795_608_000_000_u64, "http": http},
    })
}

fn example(name: &str) -> Value {
    let file = repository().join("events").join(format!("{name}.json"));
    let text = std::fs::read_to_string(file).expect("an event");
    serde_json::from_str(&text).expect("JSON")
}

fn dist(name: &str) -> PathBuf {
    repository().join(format!("tests/benches/peers/node/dist/{name}.mjs"))
}

/// A file's size in a zip archive, without the archive's few bytes of its own.
fn zipped(file: &Path) -> usize {
    let gzip = Program::new("gzip").arg("--stdout").arg(file).output();
    gzip.expect("gzip").stdout.len()
}
