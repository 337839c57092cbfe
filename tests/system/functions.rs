//! A function's environments: started, used again, frozen, killed, reclaimed.
//! With a function that does what it is told.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use belfry_tests::{Socket, Stack, node, open, refused, until};
use nix::sys::signal::Signal;
use serde_json::json;

async fn socket(stack: &Stack) -> Socket {
    open(&stack.ready.websocket, &[]).await
}

#[tokio::test]
async fn a_function_that_overruns_is_killed() {
    let stack = Stack::misbehaving()
        .parameter("FunctionTimeout", "1")
        .start()
        .await;
    let mut socket = socket(&stack).await;
    let pid = pid(&mut socket).await;
    assert!(is_running(pid));
    let frame = socket.ask_text("hang").await;
    assert!(frame.contains("Internal server error"), "{frame}");
    stack
        .logs
        .wait_for(&["Misbehave", "Task timed out after 1.00 seconds"])
        .await;
    // The error frame comes after the kill.
    assert!(!is_running(pid));
    assert_ne!(
        self::pid(&mut socket).await,
        pid,
        "another environment serves"
    );
}

/// The process that answers.
async fn pid(socket: &mut Socket) -> i32 {
    let answer = socket.ask_text("pid").await;
    answer
        .parse()
        .unwrap_or_else(|_| panic!("no process id: {answer}"))
}

fn is_running(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[tokio::test]
async fn environments_are_reused_and_limited() {
    let stack = Stack::misbehaving()
        .argument("--environments")
        .argument("2")
        .start()
        .await;
    let mut socket = socket(&stack).await;
    let first = socket.ask_text("pid").await;
    assert_eq!(
        socket.ask_text("pid").await,
        first,
        "an idle environment is used again"
    );
    for _ in 0..6 {
        socket.send("slow 200").await;
    }
    let mut pids = BTreeSet::new();
    for _ in 0..6 {
        pids.insert(socket.receive_text().await);
    }
    assert_eq!(pids.len(), 2, "as many as allowed, each used again");
    assert!(pids.contains(&first));
}

#[tokio::test]
async fn a_function_that_cannot_start_says_why() {
    let stack = Stack::misbehaving()
        .parameter("Start", "fail")
        .start()
        .await;
    assert_eq!(refused(&stack.ready.websocket, &[]).await, 502);
    stack
        .logs
        .wait_for(&["[Misbehave] told not to start"])
        .await;
    stack
        .logs
        .wait_for(&["Runtime exited with error: exit status: 3"])
        .await;
}

#[tokio::test]
async fn an_environment_that_dies_while_idle_costs_no_event() {
    let stack = Stack::misbehaving().start().await;
    let mut socket = socket(&stack).await;
    for _ in 0..10 {
        let first = pid(&mut socket).await;
        let process = nix::unistd::Pid::from_raw(first);
        nix::sys::signal::kill(process, Signal::SIGKILL).unwrap();
        until(|| !is_alive(first)).await;
        assert_ne!(pid(&mut socket).await, first);
    }
}

/// The letter that says what a process does: `T` where it is stopped.
fn state(pid: i32) -> Option<char> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("State:"))?;
    line.trim().chars().next()
}

/// Whether a process still runs; one that has ended and was not waited for
/// does not.
fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

#[tokio::test]
async fn a_function_that_never_stops_talking_is_killed_in_time() {
    let stack = Stack::misbehaving()
        .parameter("FunctionTimeout", "1")
        .start()
        .await;
    let mut socket = socket(&stack).await;
    // Two of them, so that two processors would be taken.
    for _ in 0..2 {
        socket.send("chatter").await;
    }
    for _ in 0..2 {
        let frame = socket.receive_text().await;
        assert!(frame.contains("Internal server error"), "{frame}");
    }
    assert_eq!(socket.ask_text("hello").await, "hello");
}

#[tokio::test]
async fn an_environment_is_frozen_between_events() {
    let stack = Stack::misbehaving().start().await;
    let mut socket = socket(&stack).await;
    let pid = pid(&mut socket).await;
    until(|| state(pid) == Some('T')).await;
    socket.send("slow 1000").await;
    until(|| state(pid) != Some('T')).await;
    assert_eq!(socket.receive_text().await, pid.to_string());
    until(|| state(pid) == Some('T')).await;
}

#[tokio::test]
async fn an_idle_environment_is_reclaimed() {
    let stack = Stack::misbehaving()
        .argument("--reclaim-after")
        .argument("200ms")
        .start()
        .await;
    let mut socket = socket(&stack).await;
    let first = pid(&mut socket).await;
    until(|| !is_running(first)).await;
    assert_ne!(pid(&mut socket).await, first);
}

#[tokio::test]
async fn a_gateway_that_is_killed_leaves_no_frozen_function() {
    let mut stack = Stack::misbehaving().start().await;
    let mut socket = socket(&stack).await;
    let pid = pid(&mut socket).await;
    until(|| state(pid) == Some('T')).await;
    stack.stop(Signal::SIGKILL, Duration::from_secs(5)).await;
    until(|| !is_alive(pid)).await;
}

#[tokio::test]
async fn a_function_gets_lambdas_environment_and_its_own() {
    let stack = Stack::misbehaving().start().await;
    let mut socket = socket(&stack).await;
    let names = socket.ask_text("environment").await;
    assert!(
        names.contains("AWS_LAMBDA_FUNCTION_NAME") && names.contains("START"),
        "{names}"
    );
    assert!(
        !names.contains("CARGO") && !names.contains("HOME"),
        "the developer's own environment stays out: {names}"
    );
}

#[tokio::test]
async fn a_client_that_closes_is_answered() {
    let stack = Stack::misbehaving().start().await;
    socket(&stack).await.close().await;
    for (options, code) in [
        (json!({"close": []}), 1005),
        (json!({"close": [1000, "bye"]}), 1000),
        (json!({"close": [4001, "bye"]}), 4001),
    ] {
        let closed = node(
            "connect.mjs",
            &[&stack.ready.websocket, &options.to_string()],
        )
        .await;
        assert_eq!(closed["wasClean"], true, "{options}: {closed}");
        assert!(closed["code"] == code, "{options}: {closed}");
    }
}
