//! The life of a function's environments: start, reuse, freeze, kill, reclaim.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use belfry_tests::{Gate, Socket, Stack, node, open, refused, until};
use nix::sys::signal::Signal;
use serde_json::json;

async fn socket(stack: &Stack) -> Socket {
    open(&stack.ready.websocket, &[]).await
}

/// A stack that runs at most so many processes of its function.
async fn stack_with_environments(most: &str) -> Stack {
    let stack = Stack::misbehaving().patient();
    let stack = stack.argument("--environments").argument(most);
    stack.start().await
}

#[tokio::test]
async fn a_function_that_times_out_is_killed() {
    let stack = Stack::misbehaving()
        .parameter("IntegrationTimeout", "29000")
        .parameter("FunctionTimeout", "3")
        .start()
        .await;
    let mut socket = socket(&stack).await;
    let pid = pid(&mut socket).await;
    assert!(is_running(pid));
    let frame = socket.ask_text("hang").await;
    assert!(frame.contains("Internal server error"), "{frame}");
    stack
        .logs
        .wait_for(&["Misbehave", "Task timed out after 3.00 seconds"])
        .await;
    // The error frame is sent after the kill.
    assert!(!is_running(pid));
    assert_ne!(
        self::pid(&mut socket).await,
        pid,
        "another environment serves"
    );
}

/// The id of the process that answers.
async fn pid(socket: &mut Socket) -> i32 {
    let answer = socket.ask_text("pid").await;
    answer
        .parse()
        .unwrap_or_else(|_| panic!("not a process id: {answer}"))
}

fn is_running(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[tokio::test]
async fn environments_are_reused_and_limited() {
    let stack = stack_with_environments("2").await;
    let mut socket = socket(&stack).await;
    let first = socket.ask_text("pid").await;
    assert_eq!(
        socket.ask_text("pid").await,
        first,
        "an idle environment is used again"
    );
    let gate = Gate::closed();
    for _ in 0..2 {
        socket.send(&gate.body()).await;
    }
    let waiting = ["waiting at the gate"];
    assert_eq!(stack.logs.wait_for_count(2, &waiting).await, 2);
    for _ in 0..4 {
        socket.send("pid").await;
    }
    gate.open();
    let mut pids = BTreeSet::new();
    for _ in 0..6 {
        pids.insert(socket.receive_text().await);
    }
    assert_eq!(pids.len(), 2, "as many environments as allowed: {pids:?}");
    assert!(pids.contains(&first), "{first} is not one of {pids:?}");
}

#[tokio::test]
async fn what_waits_long_for_an_environment_is_refused_and_never_runs() {
    let stack = stack_with_environments("1").await;
    let mut socket = socket(&stack).await;
    let gate = Gate::closed();
    socket.send(&gate.body()).await;
    stack.logs.wait_for(&["waiting at the gate"]).await;
    let (frame, status) = tokio::join!(
        socket.ask_text("error"),
        refused(&stack.ready.websocket, &[])
    );
    assert!(frame.contains("Internal server error"), "{frame}");
    assert_eq!(status, 502);
    stack.logs.wait_for(&["--environments allows more"]).await;
    gate.open();
    let pid = socket.receive_text().await;
    assert!(pid.parse::<u32>().is_ok(), "{pid}");
    assert!(!stack.logs.text().contains("told to fail"), "it ran");
}

#[tokio::test]
async fn a_client_with_many_messages_does_not_delay_the_others() {
    let stack = stack_with_environments("1").await;
    let (mut flood, mut other) = (socket(&stack).await, socket(&stack).await);
    // The first one keeps the only process until everybody waits.
    let gate = Gate::closed();
    flood.send(&gate.body()).await;
    stack.logs.wait_for(&["waiting at the gate"]).await;
    for _ in 0..10 {
        flood.send("slow 100").await;
    }
    flood.ping().await;
    other.send("pid").await;
    other.ping().await;
    gate.open();
    let mut before = 0;
    let pid = loop {
        tokio::select! {
            biased;
            pid = other.receive_text() => break pid,
            _ = flood.receive_text() => before += 1,
        }
    };
    assert!(pid.parse::<u32>().is_ok(), "{pid}");
    assert!(before <= 5, "{before} messages of the flood came first");
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
        until("the process ends", async || !is_alive(first)).await;
        assert_ne!(pid(&mut socket).await, first);
    }
}

/// The state of a process as a letter: `T` is stopped.
fn state(pid: i32) -> Option<char> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("State:"))?;
    line.trim().chars().next()
}

/// Whether a process still runs. A zombie does not.
pub(crate) fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

#[tokio::test]
async fn a_function_that_floods_its_log_is_killed_on_timeout() {
    let stack = Stack::misbehaving()
        .parameter("IntegrationTimeout", "29000")
        .parameter("FunctionTimeout", "3")
        .start()
        .await;
    let mut socket = socket(&stack).await;
    // Two, to occupy two processors.
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
    let stack = Stack::misbehaving().patient().start().await;
    let mut socket = socket(&stack).await;
    let pid = pid(&mut socket).await;
    let frozen = async || state(pid) == Some('T');
    until("the environment is frozen", frozen).await;
    let gate = Gate::closed();
    socket.send(&gate.body()).await;
    until("the environment is thawed", async || !frozen().await).await;
    gate.open();
    assert_eq!(socket.receive_text().await, pid.to_string());
    until("the environment is frozen again", frozen).await;
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
    until("the process is gone", async || !is_running(first)).await;
    assert_ne!(pid(&mut socket).await, first);
}

#[tokio::test]
async fn a_killed_stack_leaves_no_frozen_function() {
    let mut stack = Stack::misbehaving().start().await;
    let mut socket = socket(&stack).await;
    let pid = pid(&mut socket).await;
    until("the environment is frozen", async || {
        state(pid) == Some('T')
    })
    .await;
    stack.stop(Signal::SIGKILL, Duration::from_secs(5)).await;
    until("the function ends", async || !is_alive(pid)).await;
}

#[tokio::test]
async fn a_function_gets_lambdas_variables_and_the_templates() {
    let stack = Stack::misbehaving().start().await;
    let mut socket = socket(&stack).await;
    let names = socket.ask_text("environment").await;
    assert!(
        names.contains("AWS_LAMBDA_FUNCTION_NAME") && names.contains("START"),
        "{names}"
    );
    assert!(
        !names.contains("CARGO") && !names.contains("HOME"),
        "it has the developer's variables: {names}"
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
