//! Ctrl-C ends everything, in good order.

use std::path::Path;
use std::time::Duration;

use belfry_tests::{Stack, open, refused};
use nix::sys::signal::Signal;

fn assert_gone(pids: &[String]) {
    for pid in pids {
        assert!(
            !Path::new("/proc").join(pid).exists(),
            "process {pid} still runs"
        );
    }
}

#[tokio::test]
async fn a_signal_ends_the_stack_its_functions_and_its_sockets() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut stack = Stack::start().await;
        let mut socket = stack.connect("alice").await;
        socket.id().await;
        let functions = stack.children();
        assert!(functions.len() >= 2, "{functions:?}");
        let status = stack.stop(signal, Duration::from_secs(2)).await;
        assert!(status.success(), "{signal}: {status}");
        assert_gone(&functions);
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
    // Answered by another environment, so the first has its event.
    socket.send("hello").await;
    assert_eq!(socket.receive_text().await, "hello");
    let functions = stack.children();
    assert!(functions.len() >= 2, "{functions:?}");
    assert!(
        stack
            .stop(Signal::SIGINT, Duration::from_secs(2))
            .await
            .success()
    );
    assert_gone(&functions);
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
    assert!(
        stack
            .stop(Signal::SIGINT, Duration::from_secs(2))
            .await
            .success()
    );
    for pid in functions {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(
            state.is_empty() || state.contains(") Z"),
            "process {pid} still runs: {state}"
        );
    }
    handshake.abort();
}
