//! Streams of Server-Sent Events: how soon listeners have a message, and what a
//! stream costs on this machine. Compares the local stack with FastAPI's
//! `StreamingResponse`. `make bench` builds and installs what it needs.

use std::process::Stdio;
use std::time::{Duration, Instant};

use belfry_tests::{Stack, percentile, repository};
use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

const CHANNEL: &str = "demo:bench";

/// Listeners, and messages a second.
const SCENARIOS: [(usize, u32); 2] = [(200, 1), (100, 5)];

/// Fewer than a user may have.
const STREAMS_PER_USER: usize = 10;

const SECONDS: u32 = 20;

/// How long messages may be under way at the end.
const AFTER: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() {
    for (listeners, rate) in SCENARIOS {
        println!("{listeners} streams, {rate} messages a second");
        with_belfry(listeners, rate).await;
        with_fastapi(listeners, rate).await;
    }
}

async fn with_belfry(listeners: usize, rate: u32) {
    // As many publishes may be under way.
    let environments = (listeners + 10).to_string();
    let stack = Stack::for_crowds()
        .parameter("ReaderConcurrency", &environments)
        .parameter("StreamSeconds", "230")
        .argument("--environments")
        .argument(&environments)
        .argument("--concurrency")
        .argument(&(listeners + 60).to_string());
    let stack = stack.start().await;
    let url = stack.ready.reader.clone().expect("a reader");
    let mut tokens = Vec::new();
    for number in 0..listeners.div_ceil(STREAMS_PER_USER) {
        tokens.push(stack.token(&format!("listener-{number}")).await);
    }
    let client = Client::new();
    let open = |number: usize| {
        let request = client.get(format!("{url}/events?channel={CHANNEL}"));
        request
            .bearer_auth(&tokens[number / STREAMS_PER_USER])
            .send()
    };
    let streams = all_open((0..listeners).map(open)).await;
    let token = stack.token("publisher").await;
    let send = async |number: usize| {
        let message = json!({"channel": CHANNEL, "kind": "bench", "data": number});
        let request = client.post(format!("{url}/messages")).bearer_auth(&token);
        let sent = request.body(message.to_string()).send().await;
        assert_eq!(sent.expect("sent").status(), 200);
    };
    let mut processes = stack.children();
    processes.push(stack.pid().to_string());
    measure("Belfry", streams, rate, send, &processes).await;
}

async fn with_fastapi(listeners: usize, rate: u32) {
    let (mut server, ready) = fastapi().await;
    let notify = ready["notify"].as_str().expect("a URL").to_owned();
    let events = notify.replace("/notify", "/events");
    let client = Client::new();
    let streams = all_open((0..listeners).map(|_| client.get(&events).send())).await;
    let send = async |number: usize| {
        let message = json!({"type": "notification", "data": {"kind": "bench", "data": number}});
        let request = json!({"target": {"type": "all"}, "message": message});
        let request = client
            .post(&notify)
            .header("content-type", "application/json")
            .body(request.to_string());
        assert!(request.send().await.expect("sent").status().is_success());
    };
    let pid = server.id().expect("it runs");
    measure("FastAPI", streams, rate, send, &descendants(pid)).await;
    let pid = Pid::from_raw(pid.try_into().expect("a process id"));
    kill(pid, Signal::SIGTERM).expect("it runs");
    server.wait().await.expect("it ends");
}

async fn all_open(
    opening: impl Iterator<Item = impl Future<Output = reqwest::Result<Response>>>,
) -> Vec<Response> {
    let streams = join_all(opening).await.into_iter();
    let streams: Vec<_> = streams.map(|stream| stream.expect("open")).collect();
    assert!(streams.iter().all(|stream| stream.status() == 200));
    streams
}

async fn measure(
    name: &str,
    streams: Vec<Response>,
    rate: u32,
    send: impl AsyncFn(usize),
    processes: &[String],
) {
    let listeners = streams.len();
    let (arrived, mut arrivals) = unbounded_channel();
    for stream in streams {
        tokio::spawn(listen(stream, arrived.clone()));
    }
    let (begun, used_before) = (Instant::now(), cpu(processes));
    let messages = (SECONDS * rate) as usize;
    let sending = (0..messages).map(async |number| {
        let due = begun + Duration::from_secs(1) * number.try_into().expect("few") / rate;
        tokio::time::sleep_until(due.into()).await;
        let sent_at = Instant::now();
        send(number).await;
        sent_at
    });
    let sent_at = join_all(sending).await;
    tokio::time::sleep(AFTER).await;
    let used = cpu(processes) - used_before;
    let of_a_stream =
        used.as_secs_f64() * 1_000.0 / begun.elapsed().as_secs_f64() / listeners as f64;
    let memory: u64 = processes.iter().map(|pid| memory_kb(pid)).sum();
    let mut times = Vec::new();
    while let Ok((number, at)) = arrivals.try_recv() {
        times.push(at - sent_at[number]);
    }
    times.sort();
    println!(
        "  {name:<8} p50 {:.0} p99 {:.0} longest {:.0} ms  lost {}  for each stream {} KB, {of_a_stream:.2} ms of a processor a second",
        percentile(&times, 50),
        percentile(&times, 99),
        percentile(&times, 100),
        messages * listeners - times.len(),
        memory / listeners as u64,
    );
}

/// Tells of each numbered message of a stream.
async fn listen(mut stream: Response, arrived: UnboundedSender<(usize, Instant)>) {
    let mut text = String::new();
    while let Ok(Some(chunk)) = stream.chunk().await {
        text.push_str(std::str::from_utf8(&chunk).expect("text"));
        while let Some((block, rest)) = text.split_once("\n\n") {
            let data = block.lines().find_map(|line| line.strip_prefix("data: "));
            let frame: Value = data.map_or(Value::Null, |data| {
                serde_json::from_str(data).expect("JSON")
            });
            if let Some(number) = frame["data"]["data"].as_u64() {
                let number = number.try_into().expect("a number of ours");
                let _ = arrived.send((number, Instant::now()));
            }
            text = rest.to_owned();
        }
    }
}

async fn fastapi() -> (Child, Value) {
    let mut server = Command::new(repository().join(".venv/peer-fastapi/bin/python"))
        .arg(repository().join("tests/benches/peers/fastapi/serve.py"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the peer starts");
    let output = server.stdout.take().expect("piped");
    let line = BufReader::new(output).lines().next_line().await;
    let line = line.expect("readable").expect("the ready line");
    (server, serde_json::from_str(&line).expect("JSON"))
}

/// A process and those below it.
fn descendants(pid: u32) -> Vec<String> {
    let mut all = vec![pid.to_string()];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        all.extend(children.split_whitespace().map(str::to_owned));
        next += 1;
    }
    all
}

/// The processor time that processes have used.
fn cpu(processes: &[String]) -> Duration {
    let of = |pid: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        let ticks = fields.split(' ').skip(11).take(2);
        ticks
            .map(|field| field.parse::<u64>().ok())
            .sum::<Option<u64>>()
    };
    Duration::from_millis(processes.iter().filter_map(of).sum::<u64>() * 10)
}

fn memory_kb(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = rss.and_then(|rss| rss.trim().trim_end_matches(" kB").parse().ok());
    kb.unwrap_or(0)
}
