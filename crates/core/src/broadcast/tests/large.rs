use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use belfry_protocol::{
    BroadcastInquiry, BroadcastReport, BroadcastRequest, BroadcastStatus, MessageId, WaitSeconds,
};
use futures_util::future::{Either, join, select};
use proptest::prelude::*;
use serde_json::json;

use super::{Fixture, broadcaster};
use crate::broadcast::{BroadcastError, Call, DeliverySettings, FanoutSettings, Worker};
use crate::connections::Connection;
use crate::ports::{Clock, MetricEvent, PostError, SignOuts};
use crate::testing::{connection, connection_id, user_id};

/// A worker takes on ten connections.
async fn fixture(connections: usize) -> Fixture {
    let connections = ids(connections).map(|id| (id, "u"));
    let delivery = DeliverySettings {
        concurrency: 2,
        post_timeout: Duration::from_secs(3),
        posts_per_second: 1_000.0,
    };
    let fanout = FanoutSettings {
        connections_per_worker: 10,
        max_workers: 4,
        all_interval: Duration::from_secs(60),
    };
    broadcaster(connections, delivery, fanout).await
}

fn ids(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("c{n:03}"))
}

fn call(fixture: &Fixture, owner: &str, seconds: u64) -> Call {
    Call {
        message_id: MessageId::parse("m").unwrap(),
        is_named: true,
        owner: owner.into(),
        deadline: fixture
            .worker
            .clock
            .now()
            .plus(Duration::from_secs(seconds)),
    }
}

fn to_all(text: &str) -> BroadcastRequest {
    let request = format!(
        r#"{{"target":{{"type":"all"}},"message":{{"type":"notification","data":{{"kind":"k","text":"{text}"}}}}}}"#
    );
    BroadcastRequest::parse(&request).unwrap()
}

async fn send(fixture: &Fixture, text: &str) -> Result<BroadcastReport, BroadcastError> {
    let call = call(fixture, "caller", 60);
    let delivered = fixture.send(to_all(text), call).await?;
    Ok(delivered.report)
}

async fn report(fixture: &Fixture) -> BroadcastReport {
    let inquiry = BroadcastInquiry::Report {
        message_id: MessageId::parse("m").unwrap(),
        wait_seconds: WaitSeconds::default(),
    };
    let call = call(fixture, "asks", 60);
    fixture.inquire(inquiry, call).await.unwrap().report
}

/// Runs workers until no more are started.
async fn work(fixture: &Fixture, seconds: u64) {
    loop {
        let started = fixture.worker.workers.take();
        if started.is_empty() {
            return;
        }
        for (_, segment) in started {
            let call = call(fixture, &format!("worker {segment}"), seconds);
            fixture.worker.work_on(segment, call).await.unwrap();
        }
    }
}

fn finished_broadcasts(fixture: &Fixture) -> Vec<u64> {
    let events = fixture.worker.metrics.take().into_iter();
    let recipients = events.filter_map(|event| match event {
        MetricEvent::BroadcastDone { recipients, .. } => Some(recipients),
        _ => None,
    });
    recipients.collect()
}

#[tokio::test(start_paused = true)]
async fn a_small_broadcast_is_delivered_at_once() {
    let fixture = fixture(10).await;
    let report = send(&fixture, "").await.unwrap();
    assert_eq!((report.status, report.success), (BroadcastStatus::Done, 10));
    assert!(report.complete);
    assert!(fixture.worker.workers.take().is_empty());
    assert_eq!(finished_broadcasts(&fixture), [10]);
}

#[tokio::test(start_paused = true)]
async fn a_large_broadcast_is_split_among_workers() {
    let fixture = fixture(35).await;
    fixture.worker.outbox.answer("c007", [Err(PostError::Gone)]);
    let begun = send(&fixture, "").await.unwrap();
    assert_eq!((begun.status, begun.success), (BroadcastStatus::Running, 0));
    assert!(!begun.complete);
    assert!(ids(35).all(|id| fixture.worker.outbox.attempts(&id) == 0));
    work(&fixture, 60).await;
    let report = report(&fixture).await;
    assert_eq!(report.status, BroadcastStatus::Done);
    assert_eq!((report.success, report.failures.gone), (34, 1));
    assert!(ids(35).all(|id| fixture.worker.outbox.attempts(&id) == 1));
    assert_eq!(fixture.worker.store.row("c007"), None);
    assert_eq!(finished_broadcasts(&fixture), [35]);
}

/// A sign-out that cannot close the connection.
async fn sign_out(fixture: &Fixture, id: &str) {
    let Worker { store, clock, .. } = &fixture.worker;
    let (user, id) = (user_id("u"), connection_id(id));
    let ended = store.end_session(&user, &id, clock.now());
    assert!(ended.await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_posted_to_slowly_is_read_again() {
    for to_all in [true, false] {
        // The fake's pages of two take 40 seconds; the named connections are
        // one page, which takes five minutes.
        let mut fixture = fixture(10).await;
        let every = if to_all { 20 } else { 30 };
        fixture.worker.delivery.posts_per_second = 1.0 / f64::from(every);
        let list: Vec<_> = ids(10).collect();
        let target = if to_all {
            json!({"type": "all"})
        } else {
            json!({"type": "connections", "connectionIds": list})
        };
        let request =
            json!({"target": target, "message": {"type": "notification", "data": {"kind": "k"}}});
        let request = BroadcastRequest::parse(&request.to_string()).unwrap();
        let sent = fixture.send(request, call(&fixture, "caller", 900));
        let signed_out = async {
            fixture.worker.clock.sleep(Duration::from_secs(5)).await;
            sign_out(&fixture, "c003").await;
        };
        let (delivered, ()) = join(sent, signed_out).await;
        let report = delivered.unwrap().report;
        assert_eq!(report.status, BroadcastStatus::Done, "{report:?}");
        assert_eq!((report.success, report.failures.gone), (9, 1));
        assert_eq!(fixture.worker.outbox.attempts("c003"), 0);
        let others = list.iter().filter(|id| *id != "c003");
        for id in others {
            assert_eq!(fixture.worker.outbox.attempts(id), 1, "{id}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_posts_nothing() {
    for count in [10, 35] {
        let fixture = fixture(count).await;
        send(&fixture, "").await.unwrap();
        work(&fixture, 60).await;
        let again = send(&fixture, "").await.unwrap();
        assert_eq!(again.status, BroadcastStatus::Done);
        assert_eq!(again.success, count as u64);
        assert!(fixture.worker.workers.take().is_empty());
        assert!(ids(count).all(|id| fixture.worker.outbox.attempts(&id) == 1));
        let other = send(&fixture, "other").await;
        assert_eq!(other, Err(BroadcastError::OtherRequest));
    }
}

#[tokio::test(start_paused = true)]
async fn broadcasts_to_all_are_rate_limited() {
    let fixture = fixture(3).await;
    send(&fixture, "").await.unwrap();
    fixture.worker.clock.advance(Duration::from_secs(20));
    let soon = Call {
        message_id: MessageId::parse("n").unwrap(),
        ..call(&fixture, "caller", 60)
    };
    let refused = fixture.send(to_all(""), soon.clone()).await.unwrap_err();
    assert!(
        matches!(refused, BroadcastError::RateLimited { wait, .. } if wait.as_secs() == 39),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("wait 39."), "{refused}");
    fixture.worker.clock.advance(Duration::from_secs(40));
    assert!(fixture.send(to_all(""), soon).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_runs_out_of_time_starts_the_next() {
    let fixture = fixture(35).await;
    // Two at a time.
    fixture.worker.outbox.slow_down(Duration::from_secs(3));
    send(&fixture, "").await.unwrap();
    let started = fixture.worker.workers.take();
    for (_, segment) in &started {
        let call = call(&fixture, "first", 8);
        let delivered = fixture.worker.work_on(*segment, call).await.unwrap();
        assert!(delivered.report.success < 35);
    }
    assert_eq!(
        fixture.worker.workers.started(),
        started.len(),
        "each has started the next"
    );
    assert_eq!(report(&fixture).await.status, BroadcastStatus::Running);
    work(&fixture, 8).await;
    let report = report(&fixture).await;
    assert_eq!(report.status, BroadcastStatus::Done);
    assert_eq!((report.success, report.failure), (35, 0));
    assert!(ids(35).all(|id| fixture.worker.outbox.attempts(&id) == 1));
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_handed_over_until_it_ends() {
    for count in [10, 35] {
        let fixture = fixture(count).await;
        let outbox = &fixture.worker.outbox;
        outbox.go_down();
        let call = call(&fixture, "caller", 60);
        let sent = fixture.send(to_all(""), call).await.unwrap().report;
        assert_eq!(sent.status, BroadcastStatus::Running);
        for _ in 0..3 {
            let started = fixture.worker.workers.take();
            assert!(!started.is_empty());
            for (_, segment) in started {
                let call = self::call(&fixture, "worker", 120);
                fixture.worker.work_on(segment, call).await.unwrap();
            }
        }
        let unfinished = report(&fixture).await;
        assert!(!unfinished.complete, "{unfinished:?}");
        assert_eq!((unfinished.success, unfinished.failure), (0, 0));
        let in_vain: usize = ids(count).map(|id| outbox.attempts(&id)).sum();
        assert!(in_vain < 4 * 3 * 30, "{in_vain} posts in six minutes each");
        outbox.recover();
        work(&fixture, 60).await;
        let report = report(&fixture).await;
        assert_eq!(report.status, BroadcastStatus::Done);
        assert_eq!((report.success, report.failure), (count as u64, 0));
        assert!(ids(count).all(|id| outbox.posted(&id).len() == 1));
    }
}

/// The broadcaster has a minute, and hands over to a worker. That gives it up.
#[tokio::test(start_paused = true)]
async fn a_connection_that_always_fails_is_given_up_by_the_next_worker() {
    let fixture = fixture(10).await;
    let fails = Err(PostError::Unavailable("500".into()));
    fixture.worker.outbox.answer("c003", vec![fails; 5_000]);
    let begun = fixture.worker.clock.now();
    let sent = send(&fixture, "").await.unwrap();
    assert_eq!((sent.status, sent.success), (BroadcastStatus::Running, 9));
    let [(_, segment)] = fixture.worker.workers.take()[..] else {
        panic!("one worker continues");
    };
    let call = call(&fixture, "worker", 885);
    let done = fixture.worker.work_on(segment, call).await.unwrap().report;
    assert_eq!(done.status, BroadcastStatus::Done);
    assert_eq!(
        (done.success, done.failures.failed, done.failure),
        (9, 1, 1)
    );
    let took = fixture.worker.clock.now().since(begun);
    assert!(took < Duration::from_secs(8 * 60), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_be_started_is_an_error() {
    let fixture = fixture(35).await;
    fixture.worker.workers.refuse(1);
    let failed = send(&fixture, "").await;
    let refused = BroadcastError::NoWorker("told to refuse".into());
    assert_eq!(failed, Err(refused.clone()));
    assert_eq!(fixture.worker.workers.started(), 3, "the others start");
    work(&fixture, 60).await;
    assert!(send(&fixture, "").await.unwrap().success < 35);
    // The last one starts now, and cannot start the next.
    let started = fixture.worker.workers.take();
    assert_eq!(started.len(), 1);
    fixture.worker.workers.refuse(1);
    let late = call(&fixture, "worker", 5);
    let failed = fixture.worker.work_on(started[0].1, late).await;
    assert_eq!(failed, Err(refused));
    let again = call(&fixture, "worker", 60);
    let done = fixture.worker.work_on(started[0].1, again).await.unwrap();
    assert_eq!((done.report.complete, done.report.success), (true, 35));
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_does_not_exist_changes_nothing() {
    let fixture = fixture(35).await;
    send(&fixture, "").await.unwrap();
    let started = fixture.worker.workers.started();
    work(&fixture, 60).await;
    let finished = report(&fixture).await;
    assert_eq!((finished.complete, finished.success), (true, 35));
    let segments = u32::try_from(started).unwrap();
    for segment in [segments, u32::MAX] {
        let call = call(&fixture, "worker", 60);
        let refused = fixture.worker.work_on(segment, call).await;
        assert_eq!(refused, Err(BroadcastError::NoSuchSegment { segments }));
    }
    assert_eq!(report(&fixture).await, finished);
}

#[tokio::test(start_paused = true)]
async fn the_end_is_recorded_even_if_recording_it_failed_once() {
    let fixture = fixture(35).await;
    send(&fixture, "").await.unwrap();
    fixture.worker.store.fail_next("finish");
    let mut failures = 0;
    for (_, segment) in fixture.worker.workers.take() {
        let worker = || call(&fixture, &format!("worker {segment}"), 60);
        if fixture.worker.work_on(segment, worker()).await.is_err() {
            failures += 1;
            fixture.worker.work_on(segment, worker()).await.unwrap();
        }
    }
    assert_eq!(failures, 1);
    assert_eq!(finished_broadcasts(&fixture), [35]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_however_long_a_page_takes() {
    let mut fixture = fixture(35).await;
    fixture.worker.delivery.post_timeout = Duration::from_secs(300);
    fixture.worker.outbox.slow_down(Duration::from_secs(300));
    send(&fixture, "").await.unwrap();
    assert_eq!(fixture.worker.workers.started(), 4);
    let slow = fixture.worker.work_on(0, call(&fixture, "slow", 885));
    let other = async {
        fixture.worker.clock.sleep(Duration::from_secs(250)).await;
        assert_eq!(report(&fixture).await.status, BroadcastStatus::Running);
        let other = call(&fixture, "other", 885);
        fixture.worker.work_on(0, other).await.unwrap();
    };
    let (slow, ()) = futures_util::future::join(slow, other).await;
    assert!(slow.unwrap().report.success > 0, "it kept its lease");
    assert!(ids(35).all(|id| fixture.worker.outbox.attempts(&id) <= 1));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_lost_its_lease_stops() {
    let fixture = fixture(35).await;
    for id in ids(35) {
        fixture
            .worker
            .outbox
            .answer(&id, vec![Err(PostError::Throttled); 100]);
    }
    send(&fixture, "").await.unwrap();
    assert_eq!(fixture.worker.workers.started(), 4);
    let first = fixture.worker.work_on(0, call(&fixture, "worker 0", 885));
    let again = async {
        fixture.worker.clock.sleep(Duration::from_secs(1)).await;
        // The same invocation, which Lambda retries while the first still runs.
        let again = fixture.worker.work_on(0, call(&fixture, "worker 0", 885));
        again.await.unwrap()
    };
    let (first, again) = futures_util::future::join(first, again).await;
    first.unwrap();
    let counted = again.report.success + again.report.failure;
    let of_segment = ids(35)
        .filter(|id| fixture.worker.outbox.attempts(id) > 0)
        .count();
    assert_eq!(counted, of_segment as u64, "each is counted once");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_needs_no_reservation() {
    let fixture = fixture(3).await;
    assert_eq!(send(&fixture, "").await.unwrap().success, 3);
    fixture.worker.clock.advance(Duration::from_secs(70));
    let other = Call {
        message_id: MessageId::parse("n").unwrap(),
        ..call(&fixture, "caller", 60)
    };
    assert!(fixture.send(to_all("other"), other).await.is_ok());
    // The interval is the other broadcast's, and the original had its own.
    assert_eq!(send(&fixture, "").await.unwrap().success, 3);
    assert_eq!(send(&fixture, "?").await, Err(BroadcastError::OtherRequest));
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_id_is_a_new_one() {
    let fixture = fixture(35).await;
    send(&fixture, "").await.unwrap();
    work(&fixture, 60).await;
    assert_eq!(report(&fixture).await.success, 35);
    fixture
        .worker
        .clock
        .advance(Duration::from_secs(25 * 60 * 60));
    fixture
        .worker
        .store
        .put_row(&later_row(&fixture, "late"))
        .await;
    fixture.worker.outbox.open("late");
    send(&fixture, "something else").await.unwrap();
    work(&fixture, 60).await;
    let report = report(&fixture).await;
    assert_eq!((report.status, report.success), (BroadcastStatus::Done, 1));
}

/// A connection that begins now.
fn later_row(fixture: &Fixture, id: &str) -> Connection {
    let now = fixture.worker.clock.now();
    let end = now.plus(Duration::from_secs(3_600)).to_seconds();
    Connection {
        connected_at: now,
        expires_at: end,
        token_expires_at: end,
        ..connection(id, "u")
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_too_large_to_remember_is_refused() {
    let fixture = fixture(1).await;
    let ids: Vec<String> = (0..10_000).map(|n| format!("{n:040}")).collect();
    let request = serde_json::json!({
        "target": {"type": "connections", "connectionIds": ids},
        "message": {"type": "notification", "data": {"kind": "k"}},
    });
    let request = BroadcastRequest::parse(&request.to_string()).unwrap();
    let call = call(&fixture, "caller", 60);
    let refused = fixture.send(request, call).await.unwrap_err();
    assert!(
        refused.to_string().contains("Send it in parts"),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stuck_client_is_reported_and_kept() {
    let fixture = fixture(35).await;
    let never = vec![Err(PostError::Throttled); 1_000];
    fixture.worker.outbox.answer("c000", never);
    send(&fixture, "").await.unwrap();
    work(&fixture, 60).await;
    let report = report(&fixture).await;
    assert_eq!((report.success, report.failures.throttled), (34, 1));
    assert!(fixture.worker.store.row("c000").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_whose_workers_died_can_be_resumed() {
    let fixture = fixture(35).await;
    send(&fixture, "").await.unwrap();
    let lost = fixture.worker.workers.take();
    assert_eq!(lost.len(), 4);
    assert_eq!(report(&fixture).await.status, BroadcastStatus::Running);
    fixture.worker.clock.advance(Duration::from_secs(600));
    let stopped = report(&fixture).await;
    assert_eq!(stopped.status, BroadcastStatus::Stopped);
    assert!(!stopped.complete);
    let inquiry = BroadcastInquiry::Resume {
        message_id: MessageId::parse("m").unwrap(),
        wait_seconds: WaitSeconds::default(),
    };
    let call = call(&fixture, "operator", 60);
    let resumed = fixture.inquire(inquiry, call).await.unwrap().report;
    assert_eq!(resumed.status, BroadcastStatus::Running);
    work(&fixture, 60).await;
    assert_eq!(report(&fixture).await.success, 35);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_fails_can_be_retried_at_once() {
    let fixture = fixture(10).await;
    fixture.worker.store.fail_next("scan");
    let failed = send(&fixture, "").await;
    assert!(
        matches!(failed, Err(BroadcastError::Store(_))),
        "{failed:?}"
    );
    let again = Call {
        owner: "somebody else".into(),
        ..call(&fixture, "caller", 60)
    };
    let report = fixture.send(to_all(""), again).await.unwrap().report;
    assert_eq!((report.status, report.success), (BroadcastStatus::Done, 10));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_broadcast_is_an_error() {
    let fixture = fixture(0).await;
    let inquiry = BroadcastInquiry::Report {
        message_id: MessageId::parse("m").unwrap(),
        wait_seconds: WaitSeconds::default(),
    };
    let call = call(&fixture, "asks", 60);
    let unknown = fixture.inquire(inquiry, call).await;
    assert_eq!(unknown, Err(BroadcastError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_wait_for_the_end() {
    let fixture = fixture(35).await;
    let mut request = to_all("");
    request.wait_seconds = WaitSeconds(20);
    let call = call(&fixture, "caller", 60);
    let workers = async {
        while fixture.worker.workers.take().is_empty() {
            fixture.worker.clock.sleep(Duration::from_millis(100)).await;
        }
        for segment in 0..4 {
            let worker = self::call(&fixture, &format!("worker {segment}"), 60);
            fixture.worker.work_on(segment, worker).await.unwrap();
        }
    };
    let (answer, ()) = futures_util::future::join(fixture.send(request, call), workers).await;
    let report = answer.unwrap().report;
    assert_eq!((report.status, report.success), (BroadcastStatus::Done, 35));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    // A worker dies at any moment, again and again, and is retried as Lambda
    // does: everyone is posted to, no one is counted twice, and at most a page
    // is posted twice for each death. Connections that always fail keep nobody
    // waiting for ever, although each worker begins to count anew.
    #[test]
    fn workers_may_die_at_any_moment(
        deaths in proptest::collection::vec(1_u64..40, 0..8),
        gone in proptest::collection::btree_set(0_usize..35, 0..12),
        failing in proptest::collection::btree_set(0_usize..35, 0..5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let fixture = fixture(35).await;
            let names = |set: &BTreeSet<usize>| -> BTreeSet<String> {
                set.iter().map(|n| format!("c{n:03}")).collect()
            };
            let (failing, mut gone) = (names(&failing), names(&gone));
            gone.retain(|id| !failing.contains(id));
            for id in &failing {
                let fails = Err(PostError::Unavailable("500".into()));
                fixture.worker.outbox.answer(id, vec![fails; 5_000]);
            }
            for id in &gone {
                // Again and again: the first worker that learns of it may die.
                fixture.worker.outbox.answer(id, vec![Err(PostError::Gone); 100]);
            }
            send(&fixture, "").await.unwrap();
            let mut deaths = deaths.into_iter();
            for (_, segment) in fixture.worker.workers.take() {
                loop {
                    let call = call(&fixture, &format!("worker {segment}"), 885);
                    let work = fixture.worker.work_on(segment, call);
                    let Some(after) = deaths.next() else {
                        work.await.unwrap();
                        break;
                    };
                    let death = fixture.worker.clock.sleep(Duration::from_millis(after));
                    if let Either::Left((worked, _)) = select(pin!(work), pin!(death)).await {
                        worked.unwrap();
                        break;
                    }
                }
            }
            prop_assert_eq!(fixture.worker.workers.take(), []);
            let report = report(&fixture).await;
            prop_assert_eq!(report.status, BroadcastStatus::Done);
            prop_assert_eq!(report.failures.gone, gone.len() as u64);
            prop_assert_eq!(report.failures.failed, failing.len() as u64);
            prop_assert_eq!(report.success, 35 - report.failure);
            for id in ids(35) {
                prop_assert!(fixture.worker.outbox.attempts(&id) >= 1);
                prop_assert_eq!(fixture.worker.store.row(&id).is_none(), gone.contains(&id));
            }
            prop_assert_eq!(finished_broadcasts(&fixture), [35]);
            Ok(())
        })?;
    }
}
