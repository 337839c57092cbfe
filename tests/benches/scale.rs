//! 12,500 sockets on one local stack: memory, handshakes, echoes and broadcasts
//! for docs/PERFORMANCE.md, and a check that nothing is lost or left over.
//! `make bench` builds what it needs and runs it.

use std::time::{Duration, Instant};

use belfry_tests::{Broadcast, Crowd, Stack, Ticket, percentile};
use nix::sys::signal::Signal;

/// Clients that warm up the functions before anything is measured.
const WARM_UP: usize = 200;

const SMALL: usize = 1_000;
const MIDDLE: usize = 10_000;
const LARGE: usize = 12_500;

/// Concurrent handshakes.
const AT_A_TIME: usize = 64;

const BROADCASTS: usize = 5;
const ECHOES_PER_SECOND: usize = 1_000;
const ECHO_SECONDS: u64 = 10;

/// How long every `$disconnect` may take at the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

const DISCONNECTED: [&str; 2] = ["[Disconnect]", "\"event\":\"connection.ended\""];

#[tokio::main]
async fn main() {
    let mut stack = Stack::for_crowds().start().await;
    let tickets = stack.tickets(LARGE).await;
    let mut warming_up = Crowd::default();
    grow(&mut warming_up, &tickets[..WARM_UP]).await;
    drop(warming_up);
    stack.logs.wait_for_count(WARM_UP, &DISCONNECTED).await;

    let idle = stack.memory_kb();
    println!("{:<44} {idle:>8} KB", "local stack's memory, no socket");
    let mut crowd = Crowd::default();
    grow(&mut crowd, &tickets[..SMALL]).await;
    memory(&stack, idle, crowd.len());

    let begun = Instant::now();
    grow(&mut crowd, &tickets[SMALL..MIDDLE]).await;
    let per_second =
        f64::from(u32::try_from(MIDDLE - SMALL).expect("few")) / begun.elapsed().as_secs_f64();
    println!("{:<44} {per_second:>8.0} /s", "handshakes, 64 at a time");
    let handshakes = &mut crowd.handshakes[SMALL..];
    percentiles("one of these handshakes", handshakes);
    memory(&stack, idle, crowd.len());

    let mut reports = Vec::new();
    let mut arrivals = Vec::new();
    for _ in 0..BROADCASTS {
        let broadcast = broadcast(&mut crowd, &stack).await;
        reports.push(broadcast.reported_after);
        arrivals.push(broadcast.arrived_after);
    }
    percentiles("broadcast to 10,000: until the last frame", &mut arrivals);
    percentiles("broadcast to 10,000: until the report", &mut reports);

    grow(&mut crowd, &tickets[MIDDLE..]).await;
    memory(&stack, idle, crowd.len());
    broadcast(&mut crowd, &stack).await;
    let count = ECHOES_PER_SECOND * usize::try_from(ECHO_SECONDS).expect("few");
    let over = Duration::from_secs(ECHO_SECONDS);
    let mut echoes = crowd.echo(count, over, |_| {}).await;
    assert_eq!((echoes.lost, echoes.twice), (0, 0));
    percentiles("echo at 1,000/s over 12,500 sockets", &mut echoes.times);
    memory(&stack, idle, crowd.len());

    let begun = Instant::now();
    crowd.drop_half();
    let dropped = WARM_UP + LARGE / 2;
    stack.logs.wait_for_count(dropped, &DISCONNECTED).await;
    took("6,250 peers vanish: until each $disconnect ran", begun);
    assert_eq!(stack.rows().await, LARGE / 2);

    let functions = stack.children();
    let begun = Instant::now();
    let status = stack.stop(Signal::SIGINT, STOP_TIMEOUT).await;
    took("Ctrl-C with 6,250 sockets: until the end", begun);
    assert!(status.success(), "{status}");
    let codes = crowd.closed().await;
    assert!(
        codes.iter().all(|code| *code == 1001),
        "not everyone got a close"
    );
    let ran = stack
        .logs
        .wait_for_count(WARM_UP + LARGE, &DISCONNECTED)
        .await;
    assert_eq!(ran, WARM_UP + LARGE, "not each $disconnect ran once");
    for level in [
        " WARN ",
        " ERROR ",
        "\"level\":\"WARN\"",
        "\"level\":\"ERROR\"",
    ] {
        assert_eq!(stack.logs.lines_with(level), Vec::<String>::new());
    }
    for pid in functions {
        assert!(!std::path::Path::new("/proc").join(&pid).exists(), "{pid}");
    }
    println!("no error, no process and no socket left");
}

async fn grow(crowd: &mut Crowd, tickets: &[Ticket]) {
    let refused = crowd.grow(tickets, AT_A_TIME).await;
    assert_eq!(refused, Vec::<String>::new());
}

async fn broadcast(crowd: &mut Crowd, stack: &Stack) -> Broadcast {
    let broadcast = crowd.broadcast(&stack.announcer()).await.expect("a report");
    assert_eq!(broadcast.report["success"], crowd.len(), "{broadcast:?}");
    assert_eq!(broadcast.lost, 0);
    broadcast
}

fn memory(stack: &Stack, idle: u64, sockets: usize) {
    let now = stack.memory_kb();
    let each = f64::from(u32::try_from(now.saturating_sub(idle)).expect("below 4 TB"))
        / f64::from(u32::try_from(sockets).expect("few"));
    println!(
        "{:<44} {now:>8} KB {each:>8.1} KB each",
        format!("local stack's memory, {sockets} sockets")
    );
}

fn percentiles(name: &str, times: &mut [Duration]) {
    times.sort();
    let at = |percent| percentile(times, percent);
    println!(
        "{name:<44} {:>8.1} ms p50 {:>8.1} ms p99 {:>8.1} ms worst",
        at(50),
        at(99),
        at(100)
    );
}

fn took(name: &str, begun: Instant) {
    println!("{name:<44} {:>8.2} s", begun.elapsed().as_secs_f64());
}
