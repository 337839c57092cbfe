//! Faults of functions.

use std::time::{Duration, Instant};

use belfry_tests::{Stack, open};
use serde_json::json;

use super::{connects, to};

#[tokio::test]
async fn a_function_killed_in_mid_event_fails_that_event_alone() {
    let stack = Stack::misbehaving().start().await;
    let mut socket = open(&stack.ready.websocket, &[]).await;
    let fault =
        json!({"fault": "function-kill", "function": "Misbehave", "delay": "100ms", "times": 1});
    stack.fault(fault).await;
    let begun = Instant::now();
    let frame = socket.ask_text("hang").await;
    assert!(frame.contains("Internal server error"), "{frame}");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    stack
        .logs
        .wait_for(&["Misbehave", "Runtime exited with error: signal: 9"])
        .await;
    assert_eq!(socket.ask_text("hello").await, "hello");
}

#[tokio::test]
async fn a_connect_that_dies_after_its_write_leaves_a_row_and_no_connection() {
    let stack = Stack::start().await;
    let fault = json!({"fault": "function-lose-answer", "function": "Connect", "times": 1});
    stack.fault(fault).await;
    assert_eq!(connects(&stack).await.err(), Some(502));
    assert_eq!(stack.rows().await, 1, "the work was done");
    // A later broadcast finds that nobody is there.
    stack.age_rows().await;
    let report = stack.broadcast(&to("alice")).await.unwrap();
    assert_eq!(report["failures"]["gone"], 1, "{report}");
    assert_eq!(stack.rows().await, 0);
    assert!(connects(&stack).await.is_ok());
}
