//! Acknowledgements, and recovery since what was acknowledged.

use belfry_protocol::Position;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::channels::{code, frame, line, publish, subscribe, with_rules};
use super::*;
use crate::log::{AppendId, Appender, LogKey, Message};
use crate::testing::user_id;

/// A dispatcher, and the epoch of `room:7`, where Bob has published five
/// messages.
async fn with_messages() -> (Fixture, Value) {
    let dispatcher = with_rules().await;
    let mut epoch = json!(null);
    for _ in 0..5 {
        let published = publish(&dispatcher, "c2", line("room:7")).await;
        epoch = published["position"]["epoch"].clone();
    }
    (dispatcher, epoch)
}

async fn ack(dispatcher: &Fixture, id: &str, channel: &str, epoch: &Value, seq: u64) -> Value {
    let data = json!({"channel": channel, "epoch": epoch, "seq": seq});
    frame(dispatcher, id, "ack", data).await
}

#[tokio::test(start_paused = true)]
async fn a_position_counts_for_every_device_and_only_moves_forward() {
    let (dispatcher, epoch) = with_messages().await;
    dispatcher.store.put("c3", "alice").await;
    for (id, seq, counts) in [
        ("c1", 2, 2),
        ("c1", 2, 2),
        ("c3", 4, 4),
        ("c1", 3, 4),
        ("c2", 1, 1),
        ("c1", 5, 5),
    ] {
        let answer = ack(&dispatcher, id, "room:7", &epoch, seq).await;
        assert_eq!(answer["type"], "acked", "{answer}");
        assert_eq!(answer["correlationId"], "f");
        let expected = json!({"channel": "room:7", "epoch": epoch, "seq": counts});
        assert_eq!(answer["data"], expected, "{id} {seq}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_in_the_log_cannot_be_acknowledged() {
    let (dispatcher, epoch) = with_messages().await;
    ack(&dispatcher, "c1", "room:7", &epoch, 5).await;
    for (channel, epoch, seq, refused, message) in [
        (
            "room:7",
            &epoch,
            6,
            "INVALID_MESSAGE",
            "seq is beyond the channel's newest message",
        ),
        (
            "room:7",
            &epoch,
            u64::MAX,
            "INVALID_MESSAGE",
            "seq is beyond the channel's newest message",
        ),
        ("room:7", &epoch, 0, "INVALID_MESSAGE", "data.seq: "),
        (
            "room:7",
            &json!("zzz"),
            1,
            "INVALID_MESSAGE",
            "epoch is not that of the channel's history",
        ),
        // Nothing was published there.
        (
            "room:8",
            &epoch,
            1,
            "INVALID_MESSAGE",
            "epoch is not that of the channel's history",
        ),
        (
            "@me",
            &epoch,
            1,
            "INVALID_MESSAGE",
            "epoch is not that of the channel's history",
        ),
        (
            "@all",
            &epoch,
            1,
            "INVALID_MESSAGE",
            "no history of this channel is kept",
        ),
        (
            "talk:7",
            &epoch,
            1,
            "INVALID_MESSAGE",
            "no history of this channel is kept",
        ),
        (
            "secret",
            &epoch,
            1,
            "FORBIDDEN",
            "not allowed in this channel",
        ),
        (
            "tenant:a:x",
            &epoch,
            1,
            "FORBIDDEN",
            "not allowed in this channel",
        ),
    ] {
        let answer = ack(&dispatcher, "c1", channel, epoch, seq).await;
        assert_eq!(code(&answer), refused, "{channel} {seq}");
        let text = answer["data"]["message"].as_str().unwrap();
        assert!(text.starts_with(message), "{channel} {seq}: {text}");
    }
    // None of them has changed anything.
    let answer = ack(&dispatcher, "c1", "room:7", &epoch, 1).await;
    assert_eq!(answer["data"]["seq"], 5);
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_moves_nothing() {
    let (dispatcher, epoch) = with_messages().await;
    for operation in ["head", "acknowledge"] {
        dispatcher.store.fail_next(operation);
        let answer = ack(&dispatcher, "c1", "room:7", &epoch, 3).await;
        assert_eq!(code(&answer), "INTERNAL", "{operation}");
    }
    let answer = ack(&dispatcher, "c1", "room:7", &epoch, 1).await;
    assert_eq!(answer["data"]["seq"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_recovers_what_the_user_has_not_acknowledged() {
    let (dispatcher, epoch) = with_messages().await;
    let since_acked = || json!([{"channel": "room:7", "since": "acked"}]);
    // Nothing is acknowledged: from now on, as without `since`.
    let state = &subscribe(&dispatcher, "c1", since_acked()).await[0];
    assert_eq!(
        *state,
        json!({"channel": "room:7", "epoch": epoch, "seq": 5})
    );
    ack(&dispatcher, "c1", "room:7", &epoch, 3).await;
    // Another device, another way to subscribe.
    dispatcher.store.put("c3", "alice").await;
    let hello = json!({"subscribe": {"channels": since_acked()}});
    let welcome = frame(&dispatcher, "c3", "hello", hello).await;
    let state = &welcome["data"]["subscribed"]["channels"][0];
    assert_eq!(state["recovered"], true, "{state}");
    let messages = state["messages"].as_array().unwrap().iter();
    let seqs: Vec<_> = messages
        .map(|message| message["position"]["seq"].clone())
        .collect();
    assert_eq!(seqs, [4, 5]);
    // Bob has acknowledged nothing.
    let state = &subscribe(&dispatcher, "c2", since_acked()).await[0];
    assert_eq!(state.get("recovered"), None, "{state}");
    // A channel without a history has nothing to recover.
    let talk = json!([{"channel": "talk:7", "since": "acked"}]);
    let state = subscribe(&dispatcher, "c1", talk).await;
    assert_eq!(state[0], json!({"channel": "talk:7"}));
}

#[tokio::test(start_paused = true)]
async fn messages_to_the_user_are_acknowledged_without_a_subscription() {
    let dispatcher = with_rules().await;
    let appender = Appender {
        store: &dispatcher.store,
        clock: &dispatcher.clock,
        random: &dispatcher.random,
        metrics: &dispatcher.metrics,
    };
    let log = LogKey::user(&user_id("alice"));
    let mut epoch = json!(null);
    for id in ["a", "b"] {
        let message = Message {
            id: &AppendId(id.into()),
            retention: Duration::from_secs(600),
            remember_until: None,
            frames: |position: &Position| vec![json!({"position": position}).to_string()],
        };
        let appended = appender.append(&log, &message).await.unwrap();
        appender.store(&log, &appended).await.unwrap();
        epoch = json!(appended.position.epoch);
    }
    let answer = ack(&dispatcher, "c1", "@me", &epoch, 1).await;
    assert_eq!(
        answer["data"],
        json!({"channel": "@me", "epoch": epoch, "seq": 1})
    );
    let since = json!([{"channel": "@me", "since": "acked"}]);
    let state = &subscribe(&dispatcher, "c1", since).await[0];
    assert_eq!(state["messages"].as_array().unwrap().len(), 1, "{state}");
    // Bob's messages are others.
    let answer = ack(&dispatcher, "c2", "@me", &epoch, 1).await;
    assert_eq!(code(&answer), "INVALID_MESSAGE");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Frames of one connection are handled concurrently, those of several
    /// devices anyway: whatever the order, the newest position counts.
    #[test]
    fn the_newest_of_the_positions_counts(seqs in proptest::collection::vec(1_u64..9, 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (dispatcher, epoch) = with_messages().await;
            let mut newest = 0;
            for seq in seqs {
                let answer = ack(&dispatcher, "c1", "room:7", &epoch, seq).await;
                if seq > 5 {
                    assert_eq!(code(&answer), "INVALID_MESSAGE");
                } else {
                    newest = newest.max(seq);
                    assert_eq!(answer["data"]["seq"], newest);
                }
            }
        });
    }
}
