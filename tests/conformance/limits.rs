//! Sizes, timers and rates.

use std::time::{Duration, Instant};

use belfry_tests::{open_with_frames_up_to, soon, until};

use crate::target::Target;

const FRAME: usize = 32 * 1024;

#[tokio::test]
async fn a_frame_above_32_kb_closes_with_1009() {
    let target = Target::start().await;
    let mut socket = target.connect().await;
    let largest = "x".repeat(FRAME);
    assert_eq!(socket.ask_text(&largest).await, largest);
    // The client learns the reason even if it still has much to send.
    for bytes in [FRAME + 1, 1024 * 1024] {
        let mut socket = target.connect().await;
        socket.send_in_frames(&[bytes]).await;
        assert_eq!(socket.closed().await.0, 1009, "{bytes}");
    }
}

#[tokio::test]
async fn a_message_above_128_kb_closes_with_1009() {
    let target = Target::start().await;
    let mut socket = target.connect().await;
    socket.send_in_frames(&[FRAME; 4]).await;
    assert_eq!(socket.receive_text().await.len(), 4 * FRAME);
    socket
        .send_in_frames(&[FRAME, FRAME, FRAME, FRAME, 1])
        .await;
    assert_eq!(socket.closed().await.0, 1009);
}

#[tokio::test]
async fn no_frame_to_the_client_is_above_32_kb() {
    let target = Target::start().await;
    let mut socket = open_with_frames_up_to(&target.url, FRAME).await;
    let id = crate::target::id(&mut socket).await;
    let message = "ü".repeat(2 * FRAME);
    assert_eq!(target.post(&id, &message).await, Ok(()));
    assert_eq!(socket.receive_text().await, message);
    assert_eq!(socket.ask_text("large 131072").await.len(), 131_072);
}

#[tokio::test]
async fn a_reply_above_128_kb_is_an_error_frame() {
    let target = Target::start().await;
    let mut socket = target.connect().await;
    let frame = socket.ask_text("large 131073").await;
    assert!(
        frame.starts_with(r#"{"message": "Internal server error""#),
        "{frame}"
    );
    assert_eq!(socket.ask_text("still here").await, "still here");
}

#[tokio::test]
async fn a_binary_frame_closes_with_1003() {
    let target = Target::start().await;
    let mut socket = target.connect().await;
    socket.send_binary(&[0, 1, 2]).await;
    assert_eq!(socket.closed().await.0, 1003);
}

#[tokio::test]
async fn the_idle_timeout_closes_with_1001() {
    let target = Target::with_timers("2s", "60s").await;
    let begun = Instant::now();
    let mut socket = target.connect().await;
    let closed = socket.closed_within(target.timers.idle * 3).await;
    assert_eq!(closed, (1001, "Going away".into()));
    assert!(begun.elapsed() >= target.timers.idle);
}

#[tokio::test]
async fn messages_either_way_restart_the_idle_timeout_and_the_maximum_holds() {
    let target = Target::with_timers("6s", "15s").await;
    let (mut sending, sending_id) = target.connect_with_id().await;
    let (mut listening, listening_id) = target.connect_with_id().await;
    let begun = Instant::now();
    let beat = target.timers.idle / 4;
    let mut sent = Duration::ZERO;
    let beats = async {
        loop {
            tokio::time::sleep(beat).await;
            if sending.try_send("silent").await {
                sent = begun.elapsed();
            }
            if target.post(&listening_id, "beat").await.is_err() {
                return;
            }
        }
    };
    let listen = async { while listening.next_text().await.is_some() {} };
    // Both outlive the idle timeout, and neither outlives the maximum.
    let patience = target.timers.lifetime * 3;
    tokio::time::timeout(patience, async { tokio::join!(beats, listen) })
        .await
        .expect("both end");
    assert!(begun.elapsed() + Duration::from_secs(1) >= target.timers.lifetime);
    assert!(sent + 2 * beat >= target.timers.lifetime, "closed early");
    // It was opened first, so it has ended too.
    assert_eq!(target.post(&sending_id, "gone").await, Err(410));
}

#[tokio::test]
async fn a_control_ping_is_answered_and_does_not_count_as_activity() {
    let target = Target::with_timers("8s", "60s").await;
    let mut socket = target.connect().await;
    let begun = Instant::now();
    let beat = target.timers.idle / 8;
    // The pings are answered, but the idle timer runs on.
    while begun.elapsed() + 3 * beat < target.timers.idle {
        socket.ping().await;
        tokio::time::sleep(beat).await;
    }
    let closed = socket.closed_within(target.timers.idle * 3).await;
    assert_eq!(closed, (1001, "Going away".into()));
    // The last ping was sent after four beats or five.
    assert!(begun.elapsed() < target.timers.idle + 4 * beat);
}

#[tokio::test]
#[cfg_attr(deployed, ignore = "would throttle the whole account")]
async fn calls_above_the_rate_are_a_429_and_messages_an_error_frame() {
    // Half of the rate may come at once: a single call.
    let target = Target::local(&["--request-rate", "2"]).await;
    let (mut socket, id) = target.connect_with_id().await;
    let refused = async || target.post(&id, "x").await == Err(429);
    until("a post is refused", refused).await;
    let refusal = async {
        loop {
            let frame = socket.ask_text("hello").await;
            if frame.contains("Too Many Requests") {
                return frame;
            }
        }
    };
    let frame = soon("a message is refused", refusal).await;
    assert!(
        frame.starts_with(r#"{"message": "Too Many Requests", "connectionId":""#),
        "{frame}"
    );
}
