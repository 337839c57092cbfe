use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::ports::PostError;
use crate::testing::{FakeMetrics, FakeOutbox, FakeStore, FakeWorkers, TestClock};

type Fixture = Broadcaster<FakeStore, FakeOutbox, TestClock, FakeMetrics, FakeWorkers>;

/// So many connections, old enough for a 410 to be believed at once, of which
/// a worker takes on ten.
async fn fixture(connections: usize) -> Fixture {
    let fixture = Broadcaster {
        store: FakeStore::default(),
        outbox: FakeOutbox::default(),
        clock: TestClock::default(),
        metrics: FakeMetrics::default(),
        workers: FakeWorkers::default(),
        delivery: DeliverySettings {
            concurrency: 2,
            post_timeout: Duration::from_secs(3),
            posts_per_second: 1_000,
        },
        fanout: FanoutSettings {
            connections_per_worker: 10,
            max_workers: 4,
            all_interval: Duration::from_secs(60),
        },
    };
    for id in ids(connections) {
        fixture.store.put(&id, "u").await;
        fixture.outbox.open(&id);
    }
    fixture.clock.advance(Duration::from_secs(60));
    fixture
}

fn ids(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("c{n:03}"))
}

fn call(fixture: &Fixture, owner: &str, seconds: u64) -> Call {
    Call {
        message_id: MessageId::parse("m").unwrap(),
        is_named: true,
        owner: owner.into(),
        deadline: fixture.clock.now().plus(Duration::from_secs(seconds)),
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

/// Does what workers were asked for until nobody is asked any more.
async fn work(fixture: &Fixture, seconds: u64) {
    loop {
        let asked = fixture.workers.take();
        if asked.is_empty() {
            return;
        }
        for (_, segment) in asked {
            let call = call(fixture, &format!("worker {segment}"), seconds);
            fixture.work_on(segment, call).await.unwrap();
        }
    }
}

fn broadcasts_measured(fixture: &Fixture) -> Vec<u64> {
    let measured = fixture.metrics.take().into_iter();
    let recipients = measured.filter_map(|measured| match measured {
        Measured::Broadcast { recipients, .. } => Some(recipients),
        _ => None,
    });
    recipients.collect()
}

#[tokio::test(start_paused = true)]
async fn what_fits_one_invocation_is_posted_at_once() {
    let fixture = fixture(10).await;
    let report = send(&fixture, "").await.unwrap();
    assert_eq!((report.status, report.success), (BroadcastStatus::Done, 10));
    assert!(report.complete);
    assert!(fixture.workers.take().is_empty());
    assert_eq!(broadcasts_measured(&fixture), [10]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_is_split_among_workers() {
    let fixture = fixture(35).await;
    fixture.outbox.answer("c007", [Err(PostError::Gone)]);
    let begun = send(&fixture, "").await.unwrap();
    assert_eq!((begun.status, begun.success), (BroadcastStatus::Running, 0));
    assert!(!begun.complete);
    assert!(ids(35).all(|id| fixture.outbox.attempts(&id) == 0));
    work(&fixture, 60).await;
    let report = report(&fixture).await;
    assert_eq!(report.status, BroadcastStatus::Done);
    assert_eq!((report.success, report.failures.gone), (34, 1));
    assert!(ids(35).all(|id| fixture.outbox.attempts(&id) == 1));
    assert_eq!(fixture.store.row("c007"), None);
    assert_eq!(broadcasts_measured(&fixture), [35]);
}

#[tokio::test(start_paused = true)]
async fn the_same_request_again_posts_nothing() {
    for count in [10, 35] {
        let fixture = fixture(count).await;
        send(&fixture, "").await.unwrap();
        work(&fixture, 60).await;
        let again = send(&fixture, "").await.unwrap();
        assert_eq!(again.status, BroadcastStatus::Done);
        assert_eq!(again.success, count as u64);
        assert!(fixture.workers.take().is_empty());
        assert!(ids(count).all(|id| fixture.outbox.attempts(&id) == 1));
        let other = send(&fixture, "other").await;
        assert_eq!(other, Err(BroadcastError::OtherRequest));
    }
}

#[tokio::test(start_paused = true)]
async fn everyone_is_told_once_in_a_while() {
    let fixture = fixture(3).await;
    send(&fixture, "").await.unwrap();
    fixture.clock.advance(Duration::from_secs(20));
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
    fixture.clock.advance(Duration::from_secs(40));
    assert!(fixture.send(to_all(""), soon).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_runs_out_of_time_hands_on() {
    let fixture = fixture(35).await;
    // Every post takes three seconds, two at a time.
    for id in ids(35) {
        fixture.outbox.answer(&id, [Err(PostError::TimedOut)]);
    }
    send(&fixture, "").await.unwrap();
    let asked = fixture.workers.take();
    for (_, segment) in &asked {
        let call = call(&fixture, "first", 8);
        let delivered = fixture.work_on(*segment, call).await.unwrap();
        assert!(delivered.report.failure < 35);
    }
    assert_eq!(fixture.workers.asked(), asked.len(), "each has handed on");
    work(&fixture, 8).await;
    let report = report(&fixture).await;
    assert_eq!(report.status, BroadcastStatus::Done);
    assert_eq!((report.success, report.failures.failed), (0, 35));
    assert!(ids(35).all(|id| fixture.outbox.attempts(&id) == 1));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_remembered_is_refused() {
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
async fn a_client_that_takes_nothing_is_reported_and_kept() {
    let fixture = fixture(35).await;
    let never = vec![Err(PostError::Throttled); 1_000];
    fixture.outbox.answer("c000", never);
    send(&fixture, "").await.unwrap();
    work(&fixture, 60).await;
    let report = report(&fixture).await;
    assert_eq!((report.success, report.failures.throttled), (34, 1));
    assert!(fixture.store.row("c000").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_whose_workers_died_can_be_resumed() {
    let fixture = fixture(35).await;
    send(&fixture, "").await.unwrap();
    let lost = fixture.workers.take();
    assert_eq!(lost.len(), 4);
    assert_eq!(report(&fixture).await.status, BroadcastStatus::Running);
    fixture.clock.advance(Duration::from_secs(600));
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
async fn a_listing_that_fails_can_be_tried_again_at_once() {
    let fixture = fixture(10).await;
    fixture.store.fail_next_scan();
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
async fn a_broadcast_that_nobody_knows_is_no_broadcast() {
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
        while fixture.workers.take().is_empty() {
            fixture.clock.sleep(Duration::from_millis(100)).await;
        }
        for segment in 0..4 {
            let worker = self::call(&fixture, &format!("worker {segment}"), 60);
            fixture.work_on(segment, worker).await.unwrap();
        }
    };
    let (answer, ()) = futures_util::future::join(fixture.send(request, call), workers).await;
    let report = answer.unwrap().report;
    assert_eq!((report.status, report.success), (BroadcastStatus::Done, 35));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    // A worker dies at any moment, again and again, and is repeated as Lambda
    // does: everybody is posted to, nobody is counted twice, and what is posted
    // twice is within a page.
    #[test]
    fn workers_may_die_at_any_moment(
        deaths in proptest::collection::vec(1_u64..40, 0..8),
        gone in proptest::collection::btree_set(0_usize..35, 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let fixture = fixture(35).await;
            let gone: BTreeSet<String> = gone.iter().map(|n| format!("c{n:03}")).collect();
            for id in &gone {
                // Again and again: the first who learns of it may die.
                fixture.outbox.answer(id, vec![Err(PostError::Gone); 100]);
            }
            send(&fixture, "").await.unwrap();
            let mut deaths = deaths.into_iter();
            for (_, segment) in fixture.workers.take() {
                loop {
                    let call = call(&fixture, &format!("worker {segment}"), 60);
                    let work = fixture.work_on(segment, call);
                    let Some(after) = deaths.next() else {
                        work.await.unwrap();
                        break;
                    };
                    let death = fixture.clock.sleep(Duration::from_millis(after));
                    if let Either::Left((worked, _)) = select(pin!(work), pin!(death)).await {
                        worked.unwrap();
                        break;
                    }
                }
            }
            work(&fixture, 60).await;
            let report = report(&fixture).await;
            prop_assert_eq!(report.status, BroadcastStatus::Done);
            prop_assert_eq!(report.failures.gone, gone.len() as u64);
            prop_assert_eq!(report.success, 35 - gone.len() as u64);
            for id in ids(35) {
                prop_assert!(fixture.outbox.attempts(&id) >= 1);
                prop_assert_eq!(fixture.store.row(&id).is_none(), gone.contains(&id));
            }
            prop_assert_eq!(broadcasts_measured(&fixture), [35]);
            Ok(())
        })?;
    }
}
