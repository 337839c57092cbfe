//! The local stack's start, and round trips through it. `make bench` builds
//! what it needs and runs it.
//!
//! Figures are medians with the minimum and the maximum: the machine may be
//! shared, and one run proves little.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use belfry_tests::{Socket, Stack, measured, repository, soon};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const STARTS: usize = 25;
const ROUND_TRIPS: usize = 2_000;
const BROADCASTS: usize = 500;

/// Long enough to refill the token bucket between two echoes.
const BETWEEN_ECHOES: Duration = Duration::from_millis(2);

/// The same for the default message rate limit.
const BETWEEN_SLOW_ECHOES: Duration = Duration::from_millis(110);
const SLOW_ECHOES: usize = 150;

/// More frames than a connection may send before it is closed.
const FLOOD: usize = 200;

#[tokio::main]
async fn main() {
    let programs = measured();
    println!(
        "{:<34} {:>10} {:>10} {:>10}",
        "", "median", "minimum", "maximum"
    );
    println!(
        "{:<34} {:>7.1} MB",
        "size of belfry",
        megabytes(
            std::fs::metadata(programs.join("belfry"))
                .expect("a build")
                .len()
        )
    );
    report("stack: start to ready", stack_starts(&programs).await);

    let stack = Stack::talkative().functions(&programs).start().await;
    let mut socket = stack.connect("alice").await;
    report(
        "echo round trip, one at a time",
        echoes(&mut socket, ROUND_TRIPS, BETWEEN_ECHOES).await,
    );
    let limited = Stack::builder().functions(&programs).start().await;
    let mut other = limited.connect("alice").await;
    report(
        "echo, nine per second",
        echoes(&mut other, SLOW_ECHOES, BETWEEN_SLOW_ECHOES).await,
    );
    report(
        "the same, beside a flood",
        echoes_beside_a_flood(&limited, &mut other).await,
    );
    drop(limited);
    report(
        "broadcast to one user: invoke",
        broadcasts(&stack, &mut socket).await,
    );
}

fn megabytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1_024).expect("below 4 TB")) / 1_024.0
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (minimum, median, maximum) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{name:<34} {:>7.2} ms {:>7.2} ms {:>7.2} ms",
        ms(median),
        ms(minimum),
        ms(maximum)
    );
}

/// From the start of `belfry run` until it is ready.
async fn stack_starts(programs: &Path) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        let mut process = Command::new(programs.join("belfry"))
            .args([
                "run",
                "--json",
                "--port",
                "0",
                "--dynamodb-port",
                "0",
                "--functions",
            ])
            .arg(programs)
            .current_dir(repository())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the stack starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        soon("the stack is ready", lines.next_line())
            .await
            .expect("a line")
            .expect("the ready line");
        times.push(begun.elapsed());
        process.kill().await.expect("the stack ends");
    }
    times
}

async fn echoes(socket: &mut Socket, count: usize, pause: Duration) -> Vec<Duration> {
    let frame =
        json!({"type": "echo", "version": "1.0", "data": {"text": "x".repeat(64)}}).to_string();
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        socket.ask(&frame).await;
        times.push(begun.elapsed());
        tokio::time::sleep(pause).await;
    }
    times
}

/// Echoes of one client while another one sends as fast as it can, is closed,
/// and connects again.
async fn echoes_beside_a_flood(stack: &Stack, socket: &mut Socket) -> Vec<Duration> {
    let flooding = async {
        loop {
            let mut flood = stack.connect("mallory").await;
            for _ in 0..FLOOD {
                flood.send(r#"{"type":"ping","version":"1.0"}"#).await;
            }
            flood.ended_within(Duration::from_secs(60)).await;
        }
    };
    tokio::select! {
        times = echoes(socket, SLOW_ECHOES, BETWEEN_SLOW_ECHOES) => times,
        () = flooding => unreachable!("an endless loop"),
    }
}

/// From the SDK's call until the client has the frame.
async fn broadcasts(stack: &Stack, socket: &mut Socket) -> Vec<Duration> {
    let request = json!({
        "target": {"type": "user", "userId": "alice"},
        "message": {"type": "notification", "data": {"kind": "upload.completed", "file": "x.png"}},
    });
    let mut times = Vec::new();
    for _ in 0..BROADCASTS {
        let begun = Instant::now();
        let (report, frame) = tokio::join!(stack.broadcast(&request), socket.receive());
        times.push(begun.elapsed());
        assert_eq!(report.expect("a report")["success"], 1);
        assert_eq!(frame["type"], "notification");
    }
    times
}
