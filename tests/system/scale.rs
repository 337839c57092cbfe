//! Three hundred sockets at once. `make bench` does the same with 12,500.

use std::time::Duration;

use belfry_tests::{Crowd, SOLO, Stack};
use nix::sys::signal::Signal;

const SOCKETS: usize = 300;

#[tokio::test]
async fn a_crowd_connects_receives_sends_and_leaves_nothing_behind() {
    let mut stack = Stack::builder()
        .argument("--connect-rate")
        .argument("0")
        .start()
        .await;
    let tickets = stack.tickets(SOCKETS).await;
    let mut crowd = Crowd::default();
    assert!(crowd.grow(&tickets, 20).await.is_empty());
    assert_eq!(stack.rows().await, SOCKETS);

    let announcer = stack.announcer();
    let broadcast = crowd.broadcast(&announcer).await.expect("a report");
    assert_eq!(broadcast.lost, 0);
    assert_eq!(broadcast.report["success"], SOCKETS);
    assert_eq!(broadcast.report["failure"], 0);

    let period = Duration::from_secs(4);
    let echoes = crowd.echo(200, period, |_| {}).await;
    assert_eq!((echoes.times.len(), echoes.lost, echoes.twice), (200, 0, 0));

    // Users with one connection, and one with ten.
    let notified = crowd
        .notify(&announcer, SOLO + 1, 202, period, |_| {})
        .await;
    assert_eq!(
        (notified.times.len(), notified.lost, notified.twice),
        (220, 0, 0)
    );

    let disconnected = ["[Disconnect]", "\"event\":\"connection.ended\""];
    crowd.drop_half();
    stack.logs.wait_for_count(SOCKETS / 2, &disconnected).await;
    assert_eq!(stack.rows().await, SOCKETS / 2);

    // Once more: a leak shows in what the second round leaves behind.
    let files = stack.open_files();
    assert!(crowd.grow(&tickets[SOCKETS / 2..], 20).await.is_empty());
    crowd.drop_half();
    stack.logs.wait_for_count(SOCKETS, &disconnected).await;
    stack.files_fall_to(files + SOCKETS / 20).await;

    let status = stack.stop(Signal::SIGINT, Duration::from_secs(20)).await;
    assert!(status.success(), "{status}");
    let closed = crowd.closed().await;
    assert_eq!(closed, vec![1001; SOCKETS / 2], "not everyone got a close");
    let all = SOCKETS + SOCKETS / 2;
    let ran = stack.logs.wait_for_count(all, &disconnected).await;
    assert_eq!(ran, all, "not each $disconnect ran once");
    let log = stack.logs.text();
    assert!(
        !log.contains(" ERROR ") && !log.contains("\"level\":\"ERROR\""),
        "{log}"
    );
    assert!(!log.contains(" WARN "), "{log}");
}
