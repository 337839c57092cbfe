use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::connection::Connection;
use crate::ports::PostError;
use crate::testing::{FakeMetrics, FakeOutbox, FakeStore, FakeWorkers, TestClock, connection};

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
    assert_eq!(report(&fixture).await.status, BroadcastStatus::Running);
    work(&fixture, 8).await;
    let report = report(&fixture).await;
    assert_eq!(report.status, BroadcastStatus::Done);
    assert_eq!((report.success, report.failures.failed), (0, 35));
    assert!(ids(35).all(|id| fixture.outbox.attempts(&id) == 1));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_be_asked_is_somebodys_to_know() {
    let fixture = fixture(35).await;
    fixture.workers.refuse(1);
    let failed = send(&fixture, "").await;
    let refused = BroadcastError::NoWorker("told to refuse".into());
    assert_eq!(failed, Err(refused.clone()));
    assert_eq!(fixture.workers.asked(), 3, "the others begin");
    work(&fixture, 60).await;
    assert!(send(&fixture, "").await.unwrap().success < 35);
    // The last one is asked now, and finds nobody to go on.
    let asked = fixture.workers.take();
    assert_eq!(asked.len(), 1);
    fixture.workers.refuse(1);
    let late = call(&fixture, "worker", 5);
    let failed = fixture.work_on(asked[0].1, late).await;
    assert_eq!(failed, Err(refused));
    let again = call(&fixture, "worker", 60);
    let done = fixture.work_on(asked[0].1, again).await.unwrap();
    assert_eq!((done.report.complete, done.report.success), (true, 35));
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_where_telling_it_failed() {
    let fixture = fixture(35).await;
    send(&fixture, "").await.unwrap();
    fixture.store.fail_next("finish");
    let mut failures = 0;
    for (_, segment) in fixture.workers.take() {
        let worker = || call(&fixture, &format!("worker {segment}"), 60);
        if fixture.work_on(segment, worker()).await.is_err() {
            failures += 1;
            fixture.work_on(segment, worker()).await.unwrap();
        }
    }
    assert_eq!(failures, 1);
    assert_eq!(broadcasts_measured(&fixture), [35]);
}

#[tokio::test(start_paused = true)]
async fn a_segment_stays_held_however_long_a_page_takes() {
    let mut fixture = fixture(35).await;
    fixture.delivery.post_timeout = Duration::from_secs(300);
    for id in ids(35) {
        fixture.outbox.answer(&id, [Err(PostError::TimedOut)]);
    }
    send(&fixture, "").await.unwrap();
    assert_eq!(fixture.workers.asked(), 4);
    let slow = fixture.work_on(0, call(&fixture, "slow", 885));
    let other = async {
        fixture.clock.sleep(Duration::from_secs(250)).await;
        assert_eq!(report(&fixture).await.status, BroadcastStatus::Running);
        let other = call(&fixture, "other", 885);
        fixture.work_on(0, other).await.unwrap();
    };
    let (slow, ()) = futures_util::future::join(slow, other).await;
    assert!(slow.unwrap().report.failures.failed > 0, "it kept it");
    assert!(ids(35).all(|id| fixture.outbox.attempts(&id) <= 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_has_lost_a_segment_stops() {
    let fixture = fixture(35).await;
    for id in ids(35) {
        fixture
            .outbox
            .answer(&id, vec![Err(PostError::Throttled); 100]);
    }
    send(&fixture, "").await.unwrap();
    assert_eq!(fixture.workers.asked(), 4);
    let first = fixture.work_on(0, call(&fixture, "worker 0", 885));
    let again = async {
        fixture.clock.sleep(Duration::from_secs(1)).await;
        // The same invocation, which Lambda repeats while the first still runs.
        let again = fixture.work_on(0, call(&fixture, "worker 0", 885));
        again.await.unwrap()
    };
    let (first, again) = futures_util::future::join(first, again).await;
    first.unwrap();
    let counted = again.report.success + again.report.failure;
    let of_segment = ids(35).filter(|id| fixture.outbox.attempts(id) > 0).count();
    assert_eq!(counted, of_segment as u64, "each is counted once");
}

#[tokio::test(start_paused = true)]
async fn a_repetition_needs_no_turn() {
    let fixture = fixture(3).await;
    assert_eq!(send(&fixture, "").await.unwrap().success, 3);
    fixture.clock.advance(Duration::from_secs(70));
    let other = Call {
        message_id: MessageId::parse("n").unwrap(),
        ..call(&fixture, "caller", 60)
    };
    assert!(fixture.send(to_all("other"), other).await.is_ok());
    // It is the other one's turn, and this one has had its own.
    assert_eq!(send(&fixture, "").await.unwrap().success, 3);
    assert_eq!(send(&fixture, "?").await, Err(BroadcastError::OtherRequest));
}

#[tokio::test(start_paused = true)]
async fn an_id_that_was_forgotten_is_a_new_one() {
    let fixture = fixture(35).await;
    send(&fixture, "").await.unwrap();
    work(&fixture, 60).await;
    assert_eq!(report(&fixture).await.success, 35);
    fixture.clock.advance(Duration::from_secs(25 * 60 * 60));
    fixture.store.put_row(&later_row(&fixture, "late")).await;
    fixture.outbox.open("late");
    send(&fixture, "something else").await.unwrap();
    work(&fixture, 60).await;
    let report = report(&fixture).await;
    assert_eq!((report.status, report.success), (BroadcastStatus::Done, 1));
}

/// A connection that began just now.
fn later_row(fixture: &Fixture, id: &str) -> Connection {
    let now = fixture.clock.now();
    let end = now.plus(Duration::from_secs(3_600)).to_seconds();
    Connection {
        connected_at: now,
        expires_at: end,
        token_expires_at: end,
        ..connection(id, "u")
    }
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
    fixture.store.fail_next("scan");
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
