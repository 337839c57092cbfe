//! Faults of `$disconnect`.

use std::time::{Duration, Instant};

use belfry_tests::Stack;
use nix::sys::signal::Signal;
use serde_json::json;

use super::alice;

fn disconnects(log: &str, id: &str) -> usize {
    let lines = log.lines().filter(|line| line.contains("[Disconnect]"));
    lines.filter(|line| line.contains(id)).count()
}

#[tokio::test]
async fn a_dropped_disconnect_leaves_its_row() {
    let stack = Stack::start().await;
    let (dropped, dropped_id) = alice(&stack).await;
    let (other, other_id) = alice(&stack).await;
    let fault = json!({"fault": "disconnect-drop", "connection": dropped_id});
    let fault = stack.fault(fault).await;
    dropped.close().await;
    stack.struck(&fault, 1).await;
    other.close().await;
    stack.disconnected(&other_id).await;
    assert!(stack.row(&dropped_id).await.is_some());
    assert_eq!(disconnects(&stack.logs.text(), &dropped_id), 0);
}

#[tokio::test]
async fn a_duplicate_disconnect_runs_twice() {
    let stack = Stack::start().await;
    stack.fault(json!({"fault": "disconnect-duplicate"})).await;
    let (socket, id) = alice(&stack).await;
    socket.close().await;
    stack
        .logs
        .wait_until("two runs of $disconnect", |log| disconnects(log, &id) == 2)
        .await;
    assert!(stack.row(&id).await.is_none());
}

#[tokio::test]
async fn a_delayed_disconnect_comes_late() {
    let stack = Stack::start().await;
    let fault = json!({"fault": "disconnect-delay", "delay": "5s"});
    let fault = stack.fault(fault).await;
    let (socket, id) = alice(&stack).await;
    let begun = Instant::now();
    socket.close().await;
    stack.struck(&fault, 1).await;
    assert!(stack.row(&id).await.is_some(), "$disconnect ran at once");
    stack.disconnected(&id).await;
    assert!(begun.elapsed() >= Duration::from_secs(5));
    assert!(stack.row(&id).await.is_none());
}

#[tokio::test]
async fn no_fault_outlives_ctrl_c() {
    let mut stack = Stack::start().await;
    let (socket, id) = alice(&stack).await;
    let fault = json!({"fault": "disconnect-delay", "delay": "1h", "connection": id});
    let fault = stack.fault(fault).await;
    stack.fault(json!({"fault": "disconnect-drop"})).await;
    let (_other, other_id) = alice(&stack).await;
    socket.close().await;
    stack.struck(&fault, 1).await;
    let ended = stack.stop(Signal::SIGINT, Duration::from_secs(10)).await;
    assert!(ended.success());
    for id in [id, other_id] {
        stack.disconnected(&id).await;
    }
}
