mod counts;
mod permissions;
mod posting;
mod recovery;

use belfry_protocol::{Action, ChannelName, Position};
use serde_json::{Value, json};

use super::*;
use crate::connections::Connection;
use crate::log::{self, AppendId, Appender, LogKey};
use crate::ports::{
    Clock, Disconnections, JoinsPresence, Listing, LogReads, Recoveries, Segment, Subscribers,
    Subscriptions,
};
use crate::testing::{LIMITS, START, connection, tenant, user_id};

const RULES: &str = r#"{"version":"1.0",
    "user": {"history": {"seconds": 600}},
    "channels": [
        {"match": "tenant:{tenant}:**", "allow": ["subscribe", "publish"], "history": {"seconds": 600}},
        {"match": "room:*", "allow": ["subscribe", "publish"], "history": {"seconds": 600}},
        {"match": "news", "allow": ["subscribe"]},
        {"match": "talk:*", "allow": ["subscribe", "publish"]},
        {"match": "doc:*", "allow": "ask", "history": {"seconds": 600}}]}"#;

/// Alice's connection `c1` and Bob's `c2`.
pub(super) async fn with_rules() -> Fixture {
    let mut dispatcher = dispatcher().await;
    dispatcher.rules = RULES.parse().unwrap();
    dispatcher.store.put("c2", "bob").await;
    dispatcher.outbox.open("c2");
    dispatcher
}

pub(super) async fn frame(dispatcher: &Fixture, id: &str, frame_type: &str, data: Value) -> Value {
    let body = json!({"type": frame_type, "version": "1.0", "id": "f", "data": data});
    let (answer, _) = send(dispatcher, id, &body.to_string()).await;
    answer.expect("an answer")
}

pub(super) async fn subscribe(dispatcher: &Fixture, id: &str, channels: Value) -> Value {
    let answer = frame(dispatcher, id, "subscribe", json!({"channels": channels})).await;
    assert_eq!(answer["type"], "subscribed", "{answer}");
    answer["data"]["channels"].clone()
}

pub(super) async fn publish(dispatcher: &Fixture, id: &str, data: Value) -> Value {
    let answer = frame(dispatcher, id, "publish", data).await;
    assert_eq!(answer["type"], "published", "{answer}");
    answer["data"].clone()
}

fn received(dispatcher: &Fixture, id: &str) -> Vec<Value> {
    let posted = dispatcher.outbox.posted(id);
    posted
        .iter()
        .map(|text| serde_json::from_str(text).unwrap())
        .collect()
}

pub(super) fn code(answer: &Value) -> &str {
    answer["data"]["code"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
}

pub(super) fn line(channel: &str) -> Value {
    json!({"channel": channel, "kind": "chat.line", "data": "hi"})
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_receives_what_others_publish() {
    let dispatcher = with_rules().await;
    for id in ["c1", "c2"] {
        let state = subscribe(&dispatcher, id, json!([{"channel": "room:7"}])).await;
        assert_eq!(
            (&state[0]["channel"], &state[0]["seq"]),
            (&json!("room:7"), &json!(0))
        );
    }
    let published = publish(&dispatcher, "c1", line("room:7")).await;
    assert_eq!(published["position"]["seq"], 1);
    let messages = received(&dispatcher, "c2");
    let expected = json!({
        "type": "message", "version": "1.0", "id": published["messageId"],
        "timestamp": "2026-01-01T00:00:00.000Z", "channel": "room:7",
        "position": published["position"], "from": {"userId": "alice"},
        "data": {"kind": "chat.line", "data": "hi"},
    });
    assert_eq!(messages, [expected]);
    assert!(
        received(&dispatcher, "c1").is_empty(),
        "the publisher gets no copy"
    );
    let echoed = json!({"channel": "room:7", "kind": "k", "echo": true});
    publish(&dispatcher, "c1", echoed).await;
    assert_eq!(received(&dispatcher, "c1").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_kept_has_no_position() {
    let dispatcher = with_rules().await;
    let channels = json!([{"channel": "room:7"}, {"channel": "talk:1"}]);
    let states = subscribe(&dispatcher, "c2", channels).await;
    assert_eq!(states[1], json!({"channel": "talk:1"}));
    let mut unstored = line("room:7");
    unstored["store"] = json!(false);
    for data in [unstored, line("talk:1")] {
        let published = publish(&dispatcher, "c1", data).await;
        assert_eq!(published.get("position"), None, "{published}");
    }
    let messages = received(&dispatcher, "c2");
    assert_eq!(messages.len(), 2);
    assert!(
        messages
            .iter()
            .all(|message| message.get("position").is_none())
    );
}

#[tokio::test(start_paused = true)]
async fn a_repeated_message_is_published_once() {
    let dispatcher = with_rules().await;
    let mut data = line("room:7");
    data["messageId"] = json!("m-1");
    let first = publish(&dispatcher, "c1", data.clone()).await;
    assert_eq!(first["messageId"], "m-1");
    publish(&dispatcher, "c1", line("room:7")).await;
    assert_eq!(publish(&dispatcher, "c1", data.clone()).await, first);
    // Another user's id is another id.
    let others = publish(&dispatcher, "c2", data.clone()).await;
    assert_eq!(others["position"]["seq"], 3);
    data["channel"] = json!("room:8");
    assert_eq!(publish(&dispatcher, "c1", data).await["position"]["seq"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_message_is_posted_as_it_was_published() {
    let dispatcher = with_rules().await;
    let channels = json!([{"channel": "room:7"}]);
    subscribe(&dispatcher, "c2", channels).await;
    let mut data = line("room:7");
    data["messageId"] = json!("m-1");
    publish(&dispatcher, "c1", data.clone()).await;
    data["data"] = json!("something else");
    // While it is the newest, and later.
    for _ in 0..2 {
        dispatcher.clock.advance(Duration::from_secs(1));
        publish(&dispatcher, "c1", data.clone()).await;
        publish(&dispatcher, "c1", line("room:7")).await;
    }
    let messages = received(&dispatcher, "c2");
    let seqs: Vec<_> = messages.iter().map(|m| &m["position"]["seq"]).collect();
    assert_eq!(seqs, [1, 1, 2, 1, 3]);
    assert_eq!(messages[1], messages[0]);
    assert_eq!(messages[3], messages[0]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_channel_says_so() {
    let dispatcher = with_rules().await;
    dispatcher.store.fail_next("advance");
    let answer = frame(&dispatcher, "c1", "publish", line("room:7")).await;
    assert_eq!(code(&answer), "INTERNAL", "it may have been published");
    let log = crate::log::LogKey::channel("room:7");
    assert_eq!(dispatcher.store.head(&log).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn what_a_hello_accepts_holds_for_the_connection_and_its_later_subscriptions() {
    let dispatcher = with_rules().await;
    let room = json!({"channels": [{"channel": "room:7"}]});
    let accepts = json!({"accepts": ["zip", "batch"]});
    for (id, hellos, expected) in [
        (
            "c1",
            vec![accepts.clone(), json!({}), json!({"accepts": []})],
            true,
        ),
        ("c2", vec![json!({"accepts": ["zip"]})], false),
    ] {
        for hello in hellos {
            let welcome = frame(&dispatcher, id, "hello", hello).await;
            assert_eq!(welcome["type"], "welcome", "{welcome}");
        }
        assert_eq!(dispatcher.store.row(id).unwrap().accepts_batch, expected);
        frame(&dispatcher, id, "subscribe", room.clone()).await;
    }
    let accepting = async || {
        let (channel, now) = (
            ChannelName::parse("room:7").unwrap(),
            dispatcher.clock.now(),
        );
        let whole = Segment { index: 0, total: 1 };
        let store = &dispatcher.store;
        let listed = store.subscribers(&channel, Listing::All, whole, None, 10, now);
        let recipients = listed.await.unwrap().recipients.into_iter();
        let accepting = recipients.filter(|one| one.accepts_batch);
        let mut ids: Vec<_> = accepting.map(|one| one.id.to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(accepting().await, ["c1"]);
    // With the subscriptions that ride on it, too.
    let both = json!({"accepts": ["batch"], "subscribe": room});
    frame(&dispatcher, "c2", "hello", both).await;
    assert_eq!(accepting().await, ["c1", "c2"]);
}
