//! Several messages in one broadcast.

use std::time::Duration;

use belfry_protocol::{BroadcastRequest, MAX_FRAME_BYTES};
use serde_json::{Value, json};

use super::Fixture;
use super::kept::{call, fixture, received, subscribe, to_alice, to_room};
use crate::broadcast::{BroadcastError, Call};
use crate::log::LogKey;
use crate::ports::{Clock, LogReads, PostError, Sessions};
use crate::testing::{BUCKET, START, connection_id, user_id};

/// A fixture in which the client of `a1` accepts batches, and the others do
/// not.
async fn mixed() -> Fixture {
    mixed_with(10).await
}

async fn mixed_with(connections_per_worker: u32) -> Fixture {
    let fixture = fixture(connections_per_worker).await;
    let (store, id) = (&fixture.worker.store, connection_id("a1"));
    let accepted = store.accept_batch(&id, &BUCKET, false, START).await;
    accepted.unwrap();
    fixture
}

fn together(target: &Value, count: usize, length: usize) -> BroadcastRequest {
    let message = |number: usize| {
        let text = "x".repeat(length);
        json!({"type": "notification", "data": {"kind": "k", "number": number, "text": text}})
    };
    let messages: Vec<_> = (1..=count).map(message).collect();
    let request = json!({"target": target, "messages": messages});
    BroadcastRequest::parse(&request.to_string()).unwrap()
}

async fn send(fixture: &Fixture, request: BroadcastRequest, id: Option<&str>) -> Value {
    let sent = fixture.send(request, call(fixture, id)).await;
    json!(sent.unwrap().report)
}

/// The numbers of the messages in a connection's frames, and its frames.
fn numbers(frames: &[Value]) -> Vec<u64> {
    let numbers = frames.iter().map(|frame| &frame["data"]["number"]);
    numbers.map(|number| number.as_u64().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn those_who_accept_it_get_one_frame_and_the_others_the_same_ones_by_one() {
    let connections = json!({"type": "connections", "connectionIds": ["a1", "a2", "b1"]});
    let users = json!({"type": "users", "userIds": ["alice", "bob"]});
    let talk = json!({"type": "channel", "channel": "talk:7"});
    for (target, is_kept) in [
        (to_alice(), true),
        (to_room(), true),
        (json!({"type": "all"}), true),
        (users, true),
        (connections, false),
        (talk, false),
    ] {
        for (store, id) in [(None, None), (None, Some("m")), (Some(false), Some("m"))] {
            let fixture = mixed().await;
            for id in ["a1", "a2"] {
                subscribe(&fixture, id, "room:7").await;
                subscribe(&fixture, id, "talk:7").await;
            }
            let request = BroadcastRequest {
                store,
                ..together(&target, 3, 5)
            };
            let report = send(&fixture, request, id).await;
            let batches = received(&fixture, "a1");
            let [batch] = batches.as_slice() else {
                panic!("{target}: {batches:?}")
            };
            assert_eq!(batch["type"], "batch");
            let single = received(&fixture, "a2");
            assert_eq!(batch["data"]["messages"], json!(single), "{target}");
            assert_eq!(numbers(&single), [1, 2, 3]);
            let name = id.unwrap_or("request");
            assert_eq!(single[1]["id"], format!("{name}.2"));
            let seqs: Vec<_> = single.iter().map(|one| &one["position"]["seq"]).collect();
            if is_kept && store.is_none() {
                assert_eq!(seqs, [1, 2, 3], "{target}");
            } else {
                assert_eq!(seqs, [&Value::Null; 3], "{target}");
            }
            // Connections are counted, not frames.
            let bob = received(&fixture, "b1").len() / 3;
            assert_eq!(report["success"], 2 + bob as u64, "{target}");
            assert_eq!(report["failure"], 0, "{target}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_appends_nothing_and_posts_the_same() {
    for (target, log) in [
        (to_room(), LogKey::channel("room:7")),
        (to_alice(), LogKey::user(&user_id("alice"))),
        (json!({"type": "all"}), LogKey::all()),
    ] {
        let fixture = mixed().await;
        subscribe(&fixture, "a2", "room:7").await;
        // Without an id it is another invocation of the same request.
        for id in [Some("m"), None] {
            let mut reports = Vec::new();
            for _ in 0..2 {
                reports.push(send(&fixture, together(&target, 3, 5), id).await);
                fixture.worker.clock.advance(Duration::from_secs(1));
            }
            assert_eq!(reports[0]["position"], reports[1]["position"], "{target}");
        }
        let head = fixture.worker.store.head(&log).await.unwrap().unwrap();
        assert_eq!(head.newest.seq, 6, "{target}");
        // What is remembered is posted once. The rest is posted again as it was.
        let frames = received(&fixture, "a2");
        let times = if log == LogKey::all() { 2 } else { 3 };
        assert_eq!(numbers(&frames), [1, 2, 3].repeat(times));
        if times == 3 {
            assert_eq!(frames[3..6], frames[6..9]);
        }
        // A report finds the position, too.
        let inquiry = json!({"action": "report", "messageId": "m"}).to_string();
        let inquiry = serde_json::from_str(&inquiry).unwrap();
        let asked = fixture.inquire(inquiry, call(&fixture, Some("m"))).await;
        assert_eq!(asked.unwrap().report.position.unwrap().seq, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_gets_nothing_more_and_is_counted_once() {
    let connections = json!({"type": "connections", "connectionIds": ["a2", "b1"]});
    for (error, counter) in [
        (PostError::Failed("reset".into()), "failed"),
        (PostError::TimedOut, "failed"),
        (PostError::TooLarge, "tooLarge"),
        (PostError::Gone, "gone"),
    ] {
        let fixture = mixed().await;
        fixture.worker.outbox.answer("a2", [Ok(()), Err(error)]);
        let report = send(&fixture, together(&connections, 3, 5), None).await;
        assert_eq!(report["success"], 1, "{report}");
        assert_eq!(report["failures"][counter], 1, "{report}");
        assert_eq!(report["failure"], 1, "{report}");
        assert_eq!(numbers(&received(&fixture, "a2")), [1]);
        assert_eq!(numbers(&received(&fixture, "b1")), [1, 2, 3]);
    }
    // A throttled one is repeated, and then the others follow.
    let fixture = mixed().await;
    let throttled = || Err(PostError::Throttled);
    let answers = [Ok(()), throttled(), throttled()];
    fixture.worker.outbox.answer("a2", answers);
    let report = send(&fixture, together(&connections, 3, 5), None).await;
    assert_eq!(report["success"], 2, "{report}");
    assert_eq!(numbers(&received(&fixture, "a2")), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_a_frame_is_refused_before_anything_is_kept() {
    let fixture = mixed().await;
    let unkept = json!({"type": "connections", "connectionIds": ["a1"]});
    for target in [to_room(), unkept] {
        let sent = fixture.send(together(&target, 4, 33_000), call(&fixture, None));
        let refused = sent.await.unwrap_err();
        assert!(matches!(refused, BroadcastError::BatchTooLarge { .. }));
        let fits = fixture.send(together(&target, 4, 32_000), call(&fixture, None));
        assert!(fits.await.is_ok(), "{target}");
    }
    let batch = fixture.worker.outbox.posted("a1").remove(0);
    assert!(batch.len() <= MAX_FRAME_BYTES);
    let too_long = together(&to_room(), 2, 98_304);
    let refused = fixture.send(too_long, call(&fixture, None)).await;
    assert!(matches!(
        refused,
        Err(BroadcastError::TooLargeToKeep { .. })
    ));
    let log = LogKey::channel("room:7");
    let head = fixture.worker.store.head(&log).await.unwrap();
    assert_eq!(head.unwrap().newest.seq, 4);
}

#[tokio::test(start_paused = true)]
async fn workers_post_the_same_frames() {
    for target in [json!({"type": "all"}), to_room()] {
        let fixture = mixed_with(1).await;
        for id in ["a1", "a2", "b1"] {
            subscribe(&fixture, id, "room:7").await;
        }
        let report = send(&fixture, together(&target, 3, 5), Some("m")).await;
        assert_eq!(report["position"]["seq"], 3, "{report}");
        let started = fixture.worker.workers.take();
        assert!(started.len() > 1, "{target}");
        // Later messages move the head on before the workers begin.
        send(&fixture, together(&target, 2, 5), Some("later")).await;
        assert!(!fixture.worker.workers.take().is_empty());
        for (id, segment) in started {
            let call = call(&fixture, Some(id.as_str()));
            fixture.worker.work_on(segment, call).await.unwrap();
        }
        let single = received(&fixture, "a2");
        assert_eq!(numbers(&single), [1, 2, 3], "{target}");
        let seqs: Vec<_> = single.iter().map(|one| &one["position"]["seq"]).collect();
        assert_eq!(seqs, [1, 2, 3], "{target}");
        assert_eq!(received(&fixture, "b1"), single);
        let batches = received(&fixture, "a1");
        assert_eq!(batches.len(), 1, "{target}");
        assert_eq!(batches[0]["data"]["messages"], json!(single));
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_goes_on_begins_with_the_first_message_again() {
    let fixture = mixed().await;
    let throttled = std::iter::repeat_n(Err(PostError::Throttled), 20);
    let answers = [Ok(())].into_iter().chain(throttled);
    fixture.worker.outbox.answer("a2", answers);
    let connections = json!({"type": "connections", "connectionIds": ["a2", "b1"]});
    let short = Call {
        deadline: fixture.worker.clock.now().plus(Duration::from_secs(7)),
        ..call(&fixture, Some("m"))
    };
    let sent = fixture.send(together(&connections, 3, 5), short).await;
    let report = sent.unwrap().report;
    assert_eq!((report.success, report.complete), (1, false));
    assert_eq!(numbers(&received(&fixture, "a2")), [1]);
    fixture.worker.outbox.answer("a2", []);
    for (_, segment) in fixture.worker.workers.take() {
        let call = call(&fixture, Some("m"));
        let done = fixture.worker.work_on(segment, call).await.unwrap().report;
        assert_eq!((done.success, done.complete), (2, true));
    }
    assert_eq!(numbers(&received(&fixture, "a2")), [1, 1, 2, 3]);
    assert_eq!(numbers(&received(&fixture, "b1")), [1, 2, 3]);
}
