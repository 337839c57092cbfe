//! Messages that a history keeps.

use std::time::Duration;

use belfry_protocol::{
    BroadcastInquiry, BroadcastReport, BroadcastRequest, ChannelName, MessageId, Position,
    WaitSeconds,
};
use serde_json::{Value, json};

use super::{Fixture, broadcaster};
use crate::broadcast::{BroadcastError, Call, DeliverySettings, FanoutSettings};
use crate::channels::Actions;
use crate::log::LogKey;
use crate::ports::{
    Clock, JoinsPresence, LogReads, PostError, Sessions, Subscription, Subscriptions,
};
use crate::testing::{BUCKET, START, connection_id, user_id};
use crate::time::UnixSeconds;

const RULES: &str = r#"{"version":"1.0",
    "user": {"history": {"seconds": 600}},
    "all": {"history": {"seconds": 600}},
    "channels": [
        {"match": "room:*", "allow": ["subscribe"], "history": {"seconds": 600}},
        {"match": "talk:*", "allow": ["subscribe"]}]}"#;

const PEOPLE: [(&str, &str); 3] = [("a1", "alice"), ("a2", "alice"), ("b1", "bob")];

pub(super) async fn fixture(connections_per_worker: u32) -> Fixture {
    let connections = PEOPLE.map(|(id, user)| (id.to_owned(), user));
    let delivery = DeliverySettings {
        concurrency: 2,
        post_timeout: Duration::from_secs(3),
        posts_per_second: 1_000.0,
    };
    let fanout = FanoutSettings {
        connections_per_worker,
        max_workers: 4,
        all_interval: Duration::ZERO,
    };
    let mut fixture = broadcaster(connections, delivery, fanout).await;
    fixture.worker.rules = RULES.parse().unwrap();
    fixture
}

pub(super) async fn subscribe(fixture: &Fixture, id: &str, channel_name: &str) {
    subscribe_with(fixture, id, channel_name, JoinsPresence::No).await;
}

pub(super) async fn subscribe_with(
    fixture: &Fixture,
    id: &str,
    channel_name: &str,
    presence: JoinsPresence,
) {
    let store = &fixture.worker.store;
    let begun = store
        .begin_session(&connection_id(id), &BUCKET, START)
        .await;
    begun.unwrap();
    let wanted = Subscription {
        channel: ChannelName::parse(channel_name).unwrap(),
        ends_at: UnixSeconds(u64::MAX),
        allowed: None,
        actions: Actions::default(),
        presence,
    };
    let row = store.row(id).unwrap();
    let subscribed = store.subscribe(&row, &[wanted], 50, START).await;
    subscribed.unwrap();
}

pub(super) fn call(fixture: &Fixture, id: Option<&str>) -> Call {
    Call {
        message_id: MessageId::parse(id.unwrap_or("request")).unwrap(),
        is_named: id.is_some(),
        owner: "request".into(),
        deadline: fixture.worker.clock.now().plus(Duration::from_secs(60)),
    }
}

pub(super) fn request(target: &Value) -> BroadcastRequest {
    let message = json!({"type": "notification", "data": {"kind": "k"}});
    let request = json!({"target": target, "message": message});
    BroadcastRequest::parse(&request.to_string()).unwrap()
}

pub(super) async fn send(fixture: &Fixture, target: &Value, id: Option<&str>) -> BroadcastReport {
    let sent = fixture.send(request(target), call(fixture, id)).await;
    sent.unwrap().report
}

pub(super) fn received(fixture: &Fixture, id: &str) -> Vec<Value> {
    let frames = fixture.worker.outbox.posted(id).into_iter();
    frames
        .map(|frame| serde_json::from_str(&frame).unwrap())
        .collect()
}

fn seqs(fixture: &Fixture, id: &str) -> Vec<u64> {
    let frames = received(fixture, id).into_iter();
    frames
        .map(|frame| frame["position"]["seq"].as_u64().unwrap())
        .collect()
}

/// The newest frame of a log and its number.
async fn newest(fixture: &Fixture, log: &LogKey) -> Option<(u64, String)> {
    let head = fixture.worker.store.head(log).await.unwrap()?;
    Some((head.newest.seq, head.newest.frame))
}

/// The newest position of a log that has messages.
pub(super) async fn position(fixture: &Fixture, log: &LogKey) -> Position {
    let head = fixture.worker.store.head(log).await.unwrap();
    head.unwrap().position()
}

pub(super) fn to_alice() -> Value {
    json!({"type": "user", "userId": "alice"})
}

pub(super) fn to_room() -> Value {
    json!({"type": "channel", "channel": "room:7"})
}

#[tokio::test(start_paused = true)]
async fn recipients_get_the_very_frame_that_the_log_keeps() {
    for (target, address, log) in [
        (to_alice(), "@me", LogKey::user(&user_id("alice"))),
        (json!({"type": "all"}), "@all", LogKey::all()),
        (to_room(), "room:7", LogKey::channel("room:7")),
    ] {
        let fixture = fixture(10).await;
        subscribe(&fixture, "a1", "room:7").await;
        for (id, seq) in [(None, 1), (Some("named"), 2)] {
            let report = send(&fixture, &target, id).await;
            let position = report.position.unwrap();
            assert_eq!(position.seq, seq, "{target}");
            let (newest, frame) = newest(&fixture, &log).await.unwrap();
            assert_eq!(newest, seq);
            assert_eq!(fixture.worker.outbox.posted("a1").pop(), Some(frame));
            let last = received(&fixture, "a1").pop().unwrap();
            assert_eq!(last["channel"], address);
            assert_eq!(last["position"], json!(position));
            assert_eq!(last["type"], "notification");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_of_several_users_has_a_log() {
    let fixture = fixture(10).await;
    send(&fixture, &to_alice(), None).await;
    let users = json!({"type": "users", "userIds": ["alice", "bob", "nobody"]});
    for _ in 0..2 {
        let report = send(&fixture, &users, Some("m")).await;
        assert_eq!((report.success, report.position), (3, None));
    }
    assert_eq!(seqs(&fixture, "a1"), [1, 2]);
    assert_eq!(seqs(&fixture, "a2"), [1, 2]);
    assert_eq!(seqs(&fixture, "b1"), [1]);
    // Who is not connected has it, too.
    let log = LogKey::user(&user_id("nobody"));
    assert_eq!(newest(&fixture, &log).await.unwrap().0, 1);
}

#[tokio::test(start_paused = true)]
async fn a_repetition_appends_nothing() {
    for (target, log) in [
        (to_alice(), LogKey::user(&user_id("alice"))),
        (json!({"type": "all"}), LogKey::all()),
        (to_room(), LogKey::channel("room:7")),
    ] {
        // Lambda retries an invocation under its own id; a caller under the
        // message's.
        for id in [None, Some("m")] {
            let fixture = fixture(10).await;
            subscribe(&fixture, "a1", "room:7").await;
            let first = send(&fixture, &target, id).await;
            fixture.worker.clock.advance(Duration::from_secs(60));
            send(&fixture, &target, Some("other")).await;
            let again = send(&fixture, &target, id).await;
            assert_eq!(first.position, again.position);
            assert_eq!(newest(&fixture, &log).await.unwrap().0, 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_kept_has_no_position() {
    let fixture = fixture(10).await;
    subscribe(&fixture, "a1", "room:7").await;
    subscribe(&fixture, "a1", "talk:7").await;
    let talk = json!({"type": "channel", "channel": "talk:7"});
    let connections = json!({"type": "connections", "connectionIds": ["a1"]});
    let cases = [
        (to_alice(), Some(false), None),
        (json!({"type": "all"}), Some(false), None),
        (to_room(), Some(false), Some("room:7")),
        (talk.clone(), None, Some("talk:7")),
        (talk, Some(true), Some("talk:7")),
        (connections, None, None),
    ];
    for (number, (target, store, address)) in cases.into_iter().enumerate() {
        let mut request = request(&target);
        request.store = store;
        let call = call(&fixture, Some(&format!("m{number}")));
        let sent = fixture.send(request, call).await.unwrap();
        assert_eq!(sent.report.position, None, "{target}");
        let last = received(&fixture, "a1").pop().unwrap();
        assert_eq!(last.get("position"), None);
        assert_eq!(last.get("channel").and_then(Value::as_str), address);
    }
    for log in [
        LogKey::user(&user_id("alice")),
        LogKey::all(),
        LogKey::channel("room:7"),
        LogKey::channel("talk:7"),
    ] {
        assert_eq!(newest(&fixture, &log).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn the_message_is_appended_before_its_recipients_are_listed() {
    for (target, listing, log) in [
        (to_alice(), "of_user", LogKey::user(&user_id("alice"))),
        (
            json!({"type": "users", "userIds": ["alice", "bob"]}),
            "of_user",
            LogKey::user(&user_id("alice")),
        ),
        (json!({"type": "all"}), "scan", LogKey::all()),
        (to_room(), "subscribers", LogKey::channel("room:7")),
    ] {
        let fixture = fixture(10).await;
        fixture.worker.store.fail_next(listing);
        let sent = fixture.send(request(&target), call(&fixture, None)).await;
        assert!(matches!(sent, Err(BroadcastError::Store(_))), "{target}");
        assert_eq!(newest(&fixture, &log).await.unwrap().0, 1, "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_stored_stops_no_broadcast() {
    let fixture = fixture(10).await;
    fixture.worker.store.fail_next("store");
    for seq in 1..=2 {
        let id = format!("m{seq}");
        let report = send(&fixture, &json!({"type": "all"}), Some(&id)).await;
        assert_eq!((report.success, report.position.unwrap().seq), (3, seq));
    }
}

#[tokio::test(start_paused = true)]
async fn workers_post_the_frame_with_its_position() {
    for target in [json!({"type": "all"}), to_room()] {
        let fixture = fixture(1).await;
        for (id, _) in PEOPLE {
            subscribe(&fixture, id, "room:7").await;
        }
        let position = send(&fixture, &target, Some("m")).await.position;
        assert_eq!(position.as_ref().unwrap().seq, 1);
        let started = fixture.worker.workers.take();
        assert!(started.len() > 1, "{target}");
        // Later messages move the head on before the workers begin.
        send(&fixture, &target, Some("later")).await;
        assert!(!fixture.worker.workers.take().is_empty());
        for (id, segment) in started {
            let call = call(&fixture, Some(id.as_str()));
            fixture.worker.work_on(segment, call).await.unwrap();
        }
        for (id, _) in PEOPLE {
            assert_eq!(seqs(&fixture, id), [1], "{target}");
        }
        let inquiry = BroadcastInquiry::Report {
            message_id: MessageId::parse("m").unwrap(),
            wait_seconds: WaitSeconds::default(),
        };
        let report = fixture.inquire(inquiry, call(&fixture, Some("m"))).await;
        let report = report.unwrap().report;
        assert_eq!((report.success, report.position), (3, position));
    }
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_that_died_before_it_was_published_is_published_once() {
    let fixture = fixture(10).await;
    fixture.worker.store.fail_next("advance");
    let all = json!({"type": "all"});
    let sent = fixture.send(request(&all), call(&fixture, Some("m"))).await;
    assert!(matches!(sent, Err(BroadcastError::Store(_))));
    let inquiry = |action| {
        let text = json!({"action": action, "messageId": "m"}).to_string();
        serde_json::from_str::<BroadcastInquiry>(&text).unwrap()
    };
    let asked = fixture.inquire(inquiry("report"), call(&fixture, Some("m")));
    assert_eq!(asked.await.unwrap().report.position, None);
    assert_eq!(newest(&fixture, &LogKey::all()).await, None, "it only asks");
    for _ in 0..2 {
        let resumed = fixture.inquire(inquiry("resume"), call(&fixture, Some("m")));
        let report = resumed.await.unwrap().report;
        assert_eq!((report.success, report.position.unwrap().seq), (3, 1));
    }
    assert_eq!(seqs(&fixture, "b1"), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_goes_on_with_throttled_users_keeps_their_positions() {
    let fixture = fixture(10).await;
    send(&fixture, &to_alice(), None).await;
    let throttled = || std::iter::repeat_n(Err(PostError::Throttled), 20);
    fixture.worker.outbox.answer("a1", throttled());
    fixture.worker.outbox.answer("b1", throttled());
    let users = json!({"type": "users", "userIds": ["alice", "bob"]});
    let short = Call {
        deadline: fixture.worker.clock.now().plus(Duration::from_secs(7)),
        ..call(&fixture, Some("m"))
    };
    let begun = fixture.send(request(&users), short).await.unwrap().report;
    assert!(!begun.complete);
    // Meanwhile Alice's log goes on.
    send(&fixture, &to_alice(), Some("later")).await;
    for id in ["a1", "b1"] {
        fixture.worker.outbox.answer(id, []);
    }
    for (id, segment) in fixture.worker.workers.take() {
        let call = call(&fixture, Some(id.as_str()));
        fixture.worker.work_on(segment, call).await.unwrap();
    }
    assert_eq!(seqs(&fixture, "b1"), [1]);
    let mut of_alice = seqs(&fixture, "a1");
    of_alice.sort_unstable();
    assert_eq!(of_alice, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_to_keep_can_be_sent_without() {
    let fixture = fixture(10).await;
    let text = "x".repeat(97 * 1_024);
    let message = json!({"type": "notification", "data": {"kind": "k", "text": text}});
    let mut request = json!({"target": to_alice(), "message": message});
    let sent = async |request: &Value| {
        let request = BroadcastRequest::parse(&request.to_string()).unwrap();
        fixture.send(request, call(&fixture, None)).await
    };
    let refused = sent(&request).await.unwrap_err();
    assert!(matches!(refused, BroadcastError::TooLargeToKeep { .. }));
    assert!(refused.to_string().contains("\"store\": false"));
    request["store"] = json!(false);
    assert_eq!(sent(&request).await.unwrap().report.success, 2);
}
