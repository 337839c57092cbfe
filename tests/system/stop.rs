//! Ctrl-C ends everything in order.

use std::path::Path;
use std::time::Duration;

use belfry_tests::{Ready, Stack, open, refused, soon, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::functions::is_alive;

/// How long stopping may take. Waiting for `$disconnect` takes ten seconds or
/// more, so a stop within this time has not waited.
const LIMIT: Duration = Duration::from_secs(8);

/// Waits until nothing is left of the processes: the system may take a moment.
async fn gone(pids: &[String]) {
    let exists = |pid: &String| Path::new("/proc").join(pid).exists();
    until("the functions are gone", async || !pids.iter().any(exists)).await;
}

#[tokio::test]
async fn a_signal_ends_the_stack_its_functions_and_its_sockets() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut stack = Stack::start().await;
        let mut socket = stack.connect("alice").await;
        socket.id().await;
        let functions = stack.children();
        assert!(functions.len() >= 2, "{functions:?}");
        let status = stack.stop(signal, LIMIT).await;
        assert!(status.success(), "{signal}: {status}");
        gone(&functions).await;
    }
}

#[tokio::test]
async fn a_busy_function_ends_too() {
    let mut stack = Stack::misbehaving()
        .parameter("FunctionTimeout", "60")
        .start()
        .await;
    let mut socket = open(&stack.ready.websocket, &[]).await;
    socket.send("hang").await;
    // Another environment answers, so the first one is handling its event.
    socket.send("hello").await;
    assert_eq!(socket.receive_text().await, "hello");
    let functions = stack.children();
    assert!(functions.len() >= 2, "{functions:?}");
    assert!(stack.stop(Signal::SIGINT, LIMIT).await.success());
    gone(&functions).await;
}

#[tokio::test]
async fn a_function_that_does_not_start_is_not_waited_for() {
    let mut stack = Stack::misbehaving()
        .parameter("Start", "hang")
        .start()
        .await;
    let url = stack.ready.websocket.clone();
    let handshake = tokio::spawn(async move { refused(&url, &[]).await });
    stack.logs.wait_for(&["told to hang at the start"]).await;
    let functions = stack.children();
    assert_eq!(functions.len(), 1);
    assert!(stack.stop(Signal::SIGINT, LIMIT).await.success());
    // It was killed. The system may take a moment to end it.
    let is_alive = |pid: &String| is_alive(pid.parse().expect("a process id"));
    until("the function ends", async || {
        !functions.iter().any(is_alive)
    })
    .await;
    handshake.abort();
}

#[tokio::test]
async fn closing_the_terminal_ends_the_stack_in_order() {
    let mut stack = Stack::builder().command().arg("--json").spawn().unwrap();
    let mut lines = BufReader::new(stack.stdout.take().unwrap()).lines();
    let ready = soon("the stack is ready", lines.next_line()).await;
    let ready = ready.unwrap().unwrap();
    let ready: Ready = serde_json::from_str(&ready).unwrap();
    // Nobody reads the output of the stack and its functions any more.
    drop((lines, stack.stderr.take()));
    assert_eq!(refused(&ready.websocket, &[]).await, 401);
    let pid = Pid::from_raw(i32::try_from(stack.id().unwrap()).unwrap());
    kill(pid, Signal::SIGHUP).unwrap();
    let ended = tokio::time::timeout(LIMIT, stack.wait()).await;
    assert!(ended.unwrap().unwrap().success());
}

#[tokio::test]
async fn a_functions_child_is_frozen_and_ended_with_it() {
    let mut stack = Stack::misbehaving().start().await;
    let mut socket = open(&stack.ready.websocket, &[]).await;
    let child = socket.ask_text("child").await;
    let state = || std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    until("the child is frozen", async || state().contains(") T ")).await;
    // The child ends even if the function itself crashes.
    assert!(
        socket
            .ask_text("crash")
            .await
            .contains("Internal server error")
    );
    let ended = async || state().is_empty() || state().contains(") Z ");
    until("the child ends with the function", ended).await;
    let another = socket.ask_text("child").await;
    assert!(stack.stop(Signal::SIGINT, LIMIT).await.success());
    let stat = format!("/proc/{another}/stat");
    let state = || std::fs::read_to_string(&stat).unwrap_or_default();
    let ended = async || state().is_empty() || state().contains(") Z ");
    until("the child ends with the stack", ended).await;
}

#[tokio::test]
async fn a_second_ctrl_c_does_not_wait() {
    let mut stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    socket.id().await;
    let fault = json!({"fault": "dynamodb-slow", "operation": "TransactWriteItems", "delay": "1h"});
    let fault = stack.fault(fault).await;
    socket.close().await;
    // The first Ctrl-C ends all faults, but not for a call already struck.
    stack.struck(&fault, 1).await;
    let pid = Pid::from_raw(i32::try_from(stack.pid()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    stack.logs.wait_for(&["stopping"]).await;
    assert!(stack.stop(Signal::SIGINT, LIMIT).await.success());
    stack
        .logs
        .wait_for(&["second signal: stopping at once"])
        .await;
}
