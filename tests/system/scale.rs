//! Many sockets at once, in small: `make bench` does it with 12,500.

use std::time::Duration;

use belfry_tests::{Crowd, Stack};
use nix::sys::signal::Signal;

const SOCKETS: usize = 300;

#[tokio::test]
async fn a_crowd_connects_listens_talks_leaves_and_is_forgotten() {
    let mut stack = Stack::builder()
        .argument("--connect-rate")
        .argument("0")
        .start()
        .await;
    let mut crowd = Crowd::connect(&stack, SOCKETS, 20).await;
    assert_eq!(stack.rows().await, SOCKETS);

    let broadcast = crowd.broadcast(&stack).await;
    assert_eq!(broadcast.report["success"], SOCKETS);
    assert_eq!(broadcast.report["failure"], 0);

    let echoes = crowd.echo(200, Duration::from_secs(1)).await;
    assert_eq!(echoes.len(), 200, "every echo came back");

    let disconnected = ["[Disconnect]", "\"message\":\"disconnected\""];
    crowd.drop_half();
    stack.logs.wait_for_count(SOCKETS / 2, &disconnected).await;
    assert_eq!(stack.rows().await, SOCKETS / 2);

    // Once more, since a leak shows in what the second time leaves behind.
    let files = stack.open_files();
    crowd.grow(&stack, SOCKETS, 20).await;
    crowd.drop_half();
    stack.logs.wait_for_count(SOCKETS, &disconnected).await;
    stack.files_fall_to(files + SOCKETS / 20).await;

    let status = stack.stop(Signal::SIGINT, Duration::from_secs(20)).await;
    assert!(status.success(), "{status}");
    let closed = crowd.closed().await;
    assert_eq!(closed, vec![1001; SOCKETS / 2], "everyone was told");
    let all = SOCKETS + SOCKETS / 2;
    let ran = stack.logs.wait_for_count(all, &disconnected).await;
    assert_eq!(ran, all, "each $disconnect once");
    let log = stack.logs.text();
    assert!(
        !log.contains(" ERROR ") && !log.contains("\"level\":\"ERROR\""),
        "{log}"
    );
    assert!(!log.contains(" WARN "), "{log}");
}
