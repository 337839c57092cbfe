use std::time::Duration;

use belfry_protocol::{BroadcastReport, BroadcastRequest, Failures, MAX_FRAME_BYTES, MessageId};

use super::Fixture;
use crate::broadcast::tally::SAMPLE;
use crate::broadcast::{BroadcastError, Call, Delivered, DeliverySettings, FanoutSettings};
use crate::ports::{Clock, MetricEvent, PostError};
use crate::testing::connection;

async fn broadcaster(connections: &[(&str, &str)]) -> Fixture {
    let connections = connections.iter().map(|(id, user)| (id.to_string(), *user));
    let delivery = DeliverySettings {
        concurrency: 4,
        post_timeout: Duration::from_secs(3),
        posts_per_second: 100_000.0,
    };
    let fanout = FanoutSettings {
        connections_per_worker: 1_000,
        max_workers: 4,
        all_interval: Duration::ZERO,
    };
    super::broadcaster(connections, delivery, fanout).await
}

/// An invocation with this much time, without a caller-supplied id.
fn call(fixture: &Fixture, id: &str, time: Duration) -> Call {
    Call {
        message_id: MessageId::parse(id).unwrap(),
        is_named: false,
        owner: format!("request of {id}"),
        deadline: fixture.worker.clock.now().plus(time),
    }
}

async fn send_with(
    fixture: &Fixture,
    request: &str,
    time: Duration,
) -> Result<Delivered, BroadcastError> {
    let request = BroadcastRequest::parse(request).unwrap();
    fixture.send(request, call(fixture, "m", time)).await
}

async fn send(fixture: &Fixture, target: &str) -> BroadcastReport {
    let request = format!(
        r#"{{"target":{target},"message":{{"type":"notification","data":{{"kind":"k"}}}}}}"#
    );
    let report = send_with(fixture, &request, Duration::from_secs(30))
        .await
        .unwrap()
        .report;
    assert_eq!(report.failure, report.failures.total());
    report
}

fn counts(report: &BroadcastReport) -> (u64, Failures) {
    (report.success, report.failures)
}

const TO_ALL: &str =
    r#"{"target":{"type":"all"},"message":{"type":"notification","data":{"kind":"k"}}}"#;

const TO_U: &str = r#"{"target":{"type":"user","userId":"u"},"message":{"type":"notification","data":{"kind":"k"}}}"#;

const ALL: &str = r#"{"type":"all"}"#;
const NONE: Failures = Failures {
    gone: 0,
    throttled: 0,
    too_large: 0,
    failed: 0,
    not_attempted: 0,
};

#[tokio::test(start_paused = true)]
async fn each_target_reaches_its_connections_once() {
    let people = [
        ("a1", "alice"),
        ("a2", "alice"),
        ("b1", "bob"),
        ("c1", "carol"),
    ];
    for (target, reached) in [
        (r#"{"type":"user","userId":"alice"}"#, vec!["a1", "a2"]),
        (r#"{"type":"user","userId":"nobody"}"#, vec![]),
        (
            r#"{"type":"users","userIds":["alice","carol","alice"]}"#,
            vec!["a1", "a2", "c1"],
        ),
        (
            r#"{"type":"connections","connectionIds":["b1","a1","b1"]}"#,
            vec!["a1", "b1"],
        ),
        (ALL, vec!["a1", "a2", "b1", "c1"]),
    ] {
        let fixture = broadcaster(&people).await;
        let report = send(&fixture, target).await;
        assert_eq!(counts(&report), (reached.len() as u64, NONE), "{target}");
        for (id, _) in people {
            let expected = usize::from(reached.contains(&id));
            assert_eq!(
                fixture.worker.outbox.posted(id).len(),
                expected,
                "{target} {id}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn excluded_connections_get_nothing() {
    let fixture = broadcaster(&[("a1", "alice"), ("a2", "alice")]).await;
    let request = r#"{"target":{"type":"connections","connectionIds":["a1","a2","x"]},"exclude":["a1","x"],"message":{"type":"notification","data":{"kind":"k"}}}"#;
    let delivered = send_with(&fixture, request, Duration::from_secs(30))
        .await
        .unwrap();
    assert_eq!(counts(&delivered.report), (1, NONE));
    assert!(fixture.worker.outbox.posted("a1").is_empty());
}

#[tokio::test(start_paused = true)]
async fn ids_without_a_row_are_counted_as_gone() {
    let fixture = broadcaster(&[("a1", "alice")]).await;
    fixture.worker.outbox.open("stranger");
    let report = send(
        &fixture,
        r#"{"type":"connections","connectionIds":["stranger","a1"]}"#,
    )
    .await;
    assert_eq!(counts(&report), (1, Failures { gone: 1, ..NONE }));
    assert!(fixture.worker.outbox.posted("stranger").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_session_with_an_expired_token_gets_nothing() {
    let fixture = broadcaster(&[("a1", "alice")]).await;
    fixture.worker.clock.advance(Duration::from_secs(3_600));
    assert_eq!(counts(&send(&fixture, ALL).await), (0, NONE));
    assert!(fixture.worker.outbox.posted("a1").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failure_stops_nobody_and_is_counted_by_cause() {
    let fixture = broadcaster(&[("a", "u"), ("b", "u"), ("c", "u"), ("d", "u"), ("e", "u")]).await;
    fixture.worker.outbox.answer("a", [Err(PostError::Gone)]);
    fixture
        .worker
        .outbox
        .answer("b", [Err(PostError::TooLarge)]);
    fixture
        .worker
        .outbox
        .answer("c", [Err(PostError::TimedOut)]);
    fixture
        .worker
        .outbox
        .answer("d", [Err(PostError::Failed("500".into()))]);
    let report = send(&fixture, ALL).await;
    assert_eq!(
        counts(&report),
        (
            1,
            Failures {
                gone: 1,
                too_large: 1,
                failed: 2,
                ..NONE
            }
        )
    );
    assert_eq!(
        fixture.worker.store.row("a"),
        None,
        "a gone connection is removed"
    );
    for id in ["b", "c", "d", "e"] {
        assert!(fixture.worker.store.row(id).is_some(), "{id}");
        assert_eq!(
            fixture.worker.outbox.attempts(id),
            1,
            "{id}: a post that may have arrived is not retried"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_is_repeated_while_the_handshake_may_be_pending() {
    const ALICE: &str = r#"{"type":"user","userId":"alice"}"#;
    let fixture = broadcaster(&[]).await;
    for id in ["back", "gone"] {
        let mut young = connection(id, "alice");
        young.connected_at = fixture.worker.clock.now().minus(Duration::from_secs(30));
        fixture.worker.store.put_row(&young).await;
    }
    fixture.worker.outbox.open("back");
    fixture.worker.outbox.answer("back", [Err(PostError::Gone)]);
    let before = fixture.worker.clock.now();
    let report = send(&fixture, ALICE).await;
    let waited = fixture.worker.clock.now().since(before);
    assert_eq!(counts(&report), (1, Failures { gone: 1, ..NONE }));
    assert_eq!(fixture.worker.outbox.attempts("gone"), 2);
    // A 410 proves nothing yet, so the row is left for later.
    assert!(fixture.worker.store.row("gone").is_some());
    fixture.worker.clock.sleep(Duration::from_secs(5)).await;
    send(&fixture, ALICE).await;
    assert_eq!(fixture.worker.outbox.attempts("gone"), 3);
    assert_eq!(fixture.worker.store.row("gone"), None);
    assert!(fixture.worker.store.row("back").is_some());
    assert!((1_000..=2_000).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_during_the_broadcast_gets_nothing() {
    let fixture = broadcaster(&[]).await;
    let now = fixture.worker.clock.now();
    let mut ending = connection("ending", "alice");
    ending.token_expires_at = now.plus(Duration::from_secs(1)).to_seconds();
    ending.connected_at = now;
    fixture.worker.store.put_row(&ending).await;
    fixture.worker.outbox.open("ending");
    // Retried after a second or two.
    fixture
        .worker
        .outbox
        .answer("ending", [Err(PostError::Gone)]);
    let report = send(&fixture, ALL).await;
    assert_eq!(counts(&report), (0, Failures { gone: 1, ..NONE }));
    assert!(fixture.worker.outbox.posted("ending").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_replaced_meanwhile_is_kept() {
    let fixture = broadcaster(&[("a", "alice")]).await;
    fixture.worker.outbox.answer("a", [Err(PostError::Gone)]);
    fixture.worker.store.before_removal("a", |row| {
        row.connected_at = row.connected_at.plus(Duration::from_secs(1))
    });
    let report = send(&fixture, ALL).await;
    assert_eq!(counts(&report), (0, Failures { gone: 1, ..NONE }));
    assert!(fixture.worker.store.row("a").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_hangs_does_not_delay_the_report() {
    let fixture = broadcaster(&[("a", "u"), ("b", "u")]).await;
    fixture.worker.outbox.answer("a", [Err(PostError::Gone)]);
    fixture.worker.store.hang_on("remove_unchanged");
    let begun = fixture.worker.clock.now();
    let delivered = send_with(&fixture, TO_ALL, Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(counts(&delivered.report), (1, Failures { gone: 1, ..NONE }));
    assert_eq!(delivered.rows_kept, 1);
    assert_eq!(
        fixture.worker.clock.now().since(begun),
        Duration::from_secs(5)
    );
}

#[tokio::test(start_paused = true)]
async fn the_sample_says_why_posts_failed() {
    let fixture = broadcaster(&[("a", "u")]).await;
    fixture.worker.outbox.answer(
        "a",
        [Err(PostError::Failed("403 ForbiddenException".into()))],
    );
    let delivered = send_with(&fixture, TO_ALL, Duration::from_secs(5))
        .await
        .unwrap();
    assert!(
        delivered.sample[0].1.contains("ForbiddenException"),
        "{:?}",
        delivered.sample
    );
}

#[tokio::test(start_paused = true)]
async fn throttled_posts_are_retried_and_their_rows_kept() {
    let fixture = broadcaster(&[("a", "u"), ("b", "u")]).await;
    fixture
        .worker
        .outbox
        .answer("a", vec![Err(PostError::Throttled); 3]);
    fixture
        .worker
        .outbox
        .answer("b", vec![Err(PostError::Throttled); 1_000]);
    let report = send(&fixture, ALL).await;
    assert_eq!(
        counts(&report),
        (
            1,
            Failures {
                throttled: 1,
                ..NONE
            }
        )
    );
    assert_eq!(fixture.worker.outbox.attempts("a"), 4);
    assert!(fixture.worker.outbox.attempts("b") < 20);
    assert!(fixture.worker.store.row("b").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_that_nobody_resumes_does_not_wait_for_the_end_of_an_outage() {
    let ids: Vec<String> = (0..30).map(|n| format!("c{n:02}")).collect();
    for count in [1, 30] {
        let people: Vec<_> = ids[..count].iter().map(|id| (id.as_str(), "u")).collect();
        let fixture = broadcaster(&people).await;
        fixture.worker.outbox.go_down();
        let begun = fixture.worker.clock.now();
        let time = Duration::from_secs(55);
        let report = send_with(&fixture, TO_U, time).await.unwrap().report;
        let took = fixture.worker.clock.now().since(begun);
        assert!((10..=11).contains(&took.as_secs()), "{took:?}");
        let Failures {
            failed,
            not_attempted,
            ..
        } = report.failures;
        assert_eq!((report.success, failed + not_attempted), (0, count as u64));
        let tried = ids
            .iter()
            .filter(|id| fixture.worker.outbox.attempts(id) > 0);
        assert_eq!(failed, tried.count() as u64, "only what was tried");
    }
}

#[tokio::test(start_paused = true)]
async fn recipients_without_time_are_counted_as_not_attempted() {
    let ids: Vec<String> = (0..20).map(|n| format!("c{n:02}")).collect();
    let people: Vec<_> = ids.iter().map(|id| (id.as_str(), "u")).collect();
    let fixture = broadcaster(&people).await;
    for id in &ids {
        fixture.worker.outbox.answer(id, [Err(PostError::TimedOut)]);
    }
    let begun = fixture.worker.clock.now();
    let delivered = send_with(&fixture, TO_U, Duration::from_secs(7))
        .await
        .unwrap();
    // Four at a time, three seconds each: two rounds; in a third they would be cut short.
    assert_eq!(
        counts(&delivered.report),
        (
            0,
            Failures {
                failed: 8,
                not_attempted: 12,
                ..NONE
            }
        )
    );
    assert_eq!(fixture.worker.clock.now().since(begun).as_secs(), 6);
    assert_eq!(delivered.sample.len(), SAMPLE);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_post_at_the_deadline_stays_throttled() {
    let fixture = broadcaster(&[("a", "u")]).await;
    fixture
        .worker
        .outbox
        .answer("a", vec![Err(PostError::Throttled); 1_000]);
    let delivered = send_with(&fixture, TO_U, Duration::from_millis(50))
        .await
        .unwrap();
    assert_eq!(
        counts(&delivered.report),
        (
            0,
            Failures {
                throttled: 1,
                ..NONE
            }
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_fails_reaches_nobody() {
    let fixture = broadcaster(&[("a", "u")]).await;
    fixture.worker.store.fail_from_now_on();
    for request in [TO_ALL, TO_U] {
        let error = send_with(&fixture, request, Duration::from_secs(30))
            .await
            .unwrap_err();
        assert!(matches!(error, BroadcastError::Store(_)), "{error:?}");
    }
    assert_eq!(fixture.worker.outbox.attempts("a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_takes_all_the_time_reaches_nobody() {
    let fixture = broadcaster(&[("a", "u")]).await;
    fixture.worker.store.hang_on("of_user");
    let begun = fixture.worker.clock.now();
    let error = send_with(&fixture, TO_U, Duration::from_secs(7))
        .await
        .unwrap_err();
    assert_eq!(error, BroadcastError::NoTime);
    assert_eq!(fixture.worker.clock.now().since(begun).as_secs(), 7);
    assert_eq!(fixture.worker.outbox.attempts("a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_is_refused_before_anyone_gets_it() {
    let fixture = broadcaster(&[("a", "u")]).await;
    let text = "x".repeat(MAX_FRAME_BYTES);
    let request = format!(
        r#"{{"target":{{"type":"all"}},"message":{{"type":"notification","data":{{"kind":"k","text":"{text}"}}}}}}"#
    );
    let error = send_with(&fixture, &request, Duration::from_secs(30))
        .await
        .unwrap_err();
    assert!(matches!(error, BroadcastError::PayloadTooLarge { bytes } if bytes > MAX_FRAME_BYTES));
    assert_eq!(fixture.worker.outbox.attempts("a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_is_measured_once_with_every_post() {
    let fixture = broadcaster(&[("a1", "alice"), ("a2", "alice"), ("b1", "bob")]).await;
    fixture.worker.outbox.answer("b1", [Err(PostError::Gone)]);
    let report = send(&fixture, ALL).await;
    let events = fixture.worker.metrics.take();
    let [
        MetricEvent::Posted {
            success,
            failures,
            latencies,
        },
        MetricEvent::BroadcastDone { recipients: 3, .. },
    ] = events.as_slice()
    else {
        panic!("{events:?}");
    };
    assert_eq!((*success, *failures), counts(&report));
    assert_eq!((*success, failures.gone), (2, 1));
    assert_eq!(latencies.len(), 3);
}
