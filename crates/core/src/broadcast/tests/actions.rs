use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use belfry_protocol::{
    BroadcastInquiry, BroadcastReport, BroadcastRequest, BroadcastStatus, Drain, Kick, MessageId,
    OperatorRequest, WaitSeconds,
};
use futures_util::future::{Either, join, select};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::kept::subscribe;
use super::{Fixture, broadcaster};
use crate::broadcast::{BroadcastError, Call, DeliverySettings, FanoutSettings};
use crate::connections::Connection;
use crate::ports::{Clock, MetricEvent, Outbox, PostError, SignOuts};
use crate::testing::{connection, connection_id, user_id};

const ALL: &str = r#"{"type":"all"}"#;

/// Connections of alice, and two of bob. A worker takes on ten.
async fn fixture(connections: usize) -> Fixture {
    let alice = ids(connections).map(|id| (id, "alice"));
    let bob = ["b1", "b2"].map(|id| (id.to_owned(), "bob"));
    let delivery = DeliverySettings {
        concurrency: 2,
        post_timeout: Duration::from_secs(3),
        posts_per_second: 1_000.0,
    };
    let fanout = FanoutSettings {
        connections_per_worker: 10,
        max_workers: 4,
        all_interval: Duration::ZERO,
    };
    broadcaster(alice.chain(bob), delivery, fanout).await
}

fn ids(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("c{n:03}"))
}

fn call(fixture: &Fixture, owner: &str) -> Call {
    Call {
        message_id: MessageId::parse("m").unwrap(),
        is_named: true,
        owner: owner.into(),
        deadline: fixture.worker.clock.now().plus(Duration::from_secs(60)),
    }
}

fn kick_of(target: &str, code: &str) -> Kick {
    let request = format!(r#"{{"action":"kick","target":{target},"code":"{code}"}}"#);
    match OperatorRequest::parse(&request) {
        Ok(OperatorRequest::Kick(kick)) => kick,
        other => panic!("{other:?}"),
    }
}

fn drain_of(target: &str, percent: u32) -> Drain {
    let request = format!(
        r#"{{"action":"drain","target":{target},"withinSeconds":300,"percent":{percent}}}"#
    );
    match OperatorRequest::parse(&request) {
        Ok(OperatorRequest::Drain(drain)) => drain,
        other => panic!("{other:?}"),
    }
}

async fn kick(fixture: &Fixture, target: &str) -> Result<BroadcastReport, BroadcastError> {
    let call = call(fixture, "caller");
    let kicked = fixture.kick(kick_of(target, "RECONNECT"), call).await?;
    Ok(kicked.report)
}

async fn drain(fixture: &Fixture, target: &str, percent: u32) -> BroadcastReport {
    let call = call(fixture, "caller");
    let drained = fixture.drain(drain_of(target, percent), call).await;
    drained.unwrap().report
}

fn report_inquiry() -> BroadcastInquiry {
    BroadcastInquiry::Report {
        message_id: MessageId::parse("m").unwrap(),
        wait_seconds: WaitSeconds::default(),
    }
}

async fn report(fixture: &Fixture) -> BroadcastReport {
    let asked = fixture.inquire_of_action(report_inquiry(), call(fixture, "asks"));
    asked.await.unwrap().report
}

/// Runs workers until no more are started.
async fn work(fixture: &Fixture) {
    loop {
        let started = fixture.worker.workers.take();
        if started.is_empty() {
            return;
        }
        for (_, segment) in started {
            let call = call(fixture, &format!("worker {segment}"));
            fixture.worker.work_on(segment, call).await.unwrap();
        }
    }
}

fn is_open(fixture: &Fixture, id: &str) -> bool {
    fixture.worker.outbox.is_open(id)
}

/// The codes of the error frames that a connection got.
fn told(fixture: &Fixture, id: &str) -> Vec<String> {
    let frames = fixture.worker.outbox.posted(id).into_iter();
    let codes = frames.map(|frame| {
        let frame: Value = serde_json::from_str(&frame).unwrap();
        assert_eq!(frame["type"], "error", "{frame}");
        frame["data"]["code"].as_str().unwrap().to_owned()
    });
    codes.collect()
}

/// Opens a connection now.
async fn open(fixture: &Fixture, id: &str) {
    let now = fixture.worker.clock.now();
    let end = now.plus(Duration::from_secs(3_600)).to_seconds();
    let row = Connection {
        connected_at: now,
        expires_at: end,
        token_expires_at: end,
        ..connection(id, "alice")
    };
    fixture.worker.store.put_row(&row).await;
    fixture.worker.outbox.open(id);
}

/// A sign-out may have ended the session and not closed the connection.
#[tokio::test(start_paused = true)]
async fn a_kick_closes_a_connection_whose_session_has_ended() {
    for target in [
        r#"{"type":"user","userId":"alice"}"#,
        r#"{"type":"connections","connectionIds":["c000"]}"#,
    ] {
        let fixture = fixture(1).await;
        let (store, now) = (&fixture.worker.store, fixture.worker.clock.now());
        let (alice, id) = (user_id("alice"), connection_id("c000"));
        let ended = store.end_session(&alice, &id, now).await.unwrap();
        assert!(ended.is_some());
        let report = kick(&fixture, target).await.unwrap();
        assert_eq!((report.success, report.failure), (1, 0), "{target}");
        assert!(!is_open(&fixture, "c000"), "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kick_tells_and_closes_its_target_and_nobody_else() {
    for (target, kicked) in [
        (r#"{"type":"user","userId":"bob"}"#, vec!["b1", "b2"]),
        (
            r#"{"type":"users","userIds":["bob","nobody"]}"#,
            vec!["b1", "b2"],
        ),
        (
            r#"{"type":"connections","connectionIds":["b2","c001"]}"#,
            vec!["b2", "c001"],
        ),
        (
            r#"{"type":"channel","channel":"room:7"}"#,
            vec!["b1", "c000"],
        ),
        (ALL, vec!["b1", "b2", "c000", "c001", "c002"]),
    ] {
        for code in ["RECONNECT", "TOKEN_EXPIRED", "CLOSED_BY_OPERATOR"] {
            let fixture = fixture(3).await;
            for id in ["b1", "c000"] {
                subscribe(&fixture, id, "room:7").await;
            }
            let call = call(&fixture, "caller");
            let report = fixture.kick(kick_of(target, code), call).await.unwrap();
            let report = report.report;
            assert_eq!(report.status, BroadcastStatus::Done, "{target}");
            let count = kicked.len() as u64;
            assert_eq!((report.success, report.failure), (count, 0), "{target}");
            for id in ["b1", "b2", "c000", "c001", "c002"] {
                let is_kicked = kicked.contains(&id);
                assert_eq!(is_open(&fixture, id), !is_kicked, "{target} {id}");
                let codes = if is_kicked { vec![code] } else { vec![] };
                assert_eq!(told(&fixture, id), codes, "{target} {id}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kick_and_a_drain_are_no_broadcasts_in_metrics() {
    for count in [3, 35] {
        let fixture = fixture(count).await;
        drain(&fixture, ALL, 100).await;
        work(&fixture).await;
        let other = Call {
            message_id: MessageId::parse("n").unwrap(),
            ..call(&fixture, "caller")
        };
        fixture
            .kick(kick_of(ALL, "RECONNECT"), other)
            .await
            .unwrap();
        work(&fixture).await;
        let events = fixture.worker.metrics.take();
        let is_post = |event: &MetricEvent| matches!(event, MetricEvent::Posted { .. });
        assert!(events.iter().all(is_post), "{events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_cannot_be_told_is_closed_and_counted() {
    let fixture = fixture(5).await;
    let outbox = &fixture.worker.outbox;
    outbox.answer("c000", [Err(PostError::TimedOut)]);
    outbox.answer("c001", [Err(PostError::Failed("broken".into()))]);
    outbox.answer("c002", vec![Err(PostError::Throttled); 1_000]);
    // It is told once it is no longer throttled.
    outbox.answer("c003", vec![Err(PostError::Throttled); 3]);
    let report = kick(&fixture, ALL).await.unwrap();
    assert_eq!(report.status, BroadcastStatus::Done);
    let failures = (report.failures.failed, report.failures.throttled);
    assert_eq!((report.success, failures), (4, (2, 1)));
    for id in ids(5) {
        assert!(!is_open(&fixture, &id), "{id}");
    }
    assert_eq!(told(&fixture, "c003"), ["RECONNECT"]);
}

#[tokio::test(start_paused = true)]
async fn a_close_is_tried_again_and_its_failure_counted() {
    let fixture = fixture(3).await;
    let outbox = &fixture.worker.outbox;
    for id in ["c000", "c001"] {
        outbox.refuse_closing(id);
    }
    let allow = async {
        fixture.worker.clock.sleep(Duration::from_secs(5)).await;
        outbox.allow_closing("c000");
        std::future::pending::<()>().await;
    };
    let kicking = kick(&fixture, ALL);
    let Either::Left((report, _)) = select(pin!(kicking), pin!(allow)).await else {
        unreachable!("it never ends");
    };
    let report = report.unwrap();
    assert_eq!((report.success, report.failures.throttled), (4, 1));
    assert!(!is_open(&fixture, "c000") && is_open(&fixture, "c001"));
    for id in ["c000", "c001"] {
        assert_eq!(told(&fixture, id).len(), 1, "{id} is told once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_gone_is_forgotten_and_closed_all_the_same() {
    let fixture = fixture(3).await;
    fixture.worker.outbox.answer("c000", [Err(PostError::Gone)]);
    let named = r#"{"type":"connections","connectionIds":["c000","c001","unknown"]}"#;
    let report = kick(&fixture, named).await.unwrap();
    assert_eq!((report.success, report.failures.gone), (1, 2));
    assert_eq!(fixture.worker.store.row("c000"), None);
    assert!(!is_open(&fixture, "c000"), "the 410 was wrong");
}

#[tokio::test(start_paused = true)]
async fn a_kick_waits_for_a_handshake_that_is_pending() {
    for completes in [true, false] {
        let fixture = fixture(1).await;
        open(&fixture, "pending").await;
        let outbox = &fixture.worker.outbox;
        outbox.close(&connection_id("pending")).await.unwrap();
        let handshake = async {
            fixture.worker.clock.sleep(Duration::from_secs(20)).await;
            if completes {
                outbox.open("pending");
            }
        };
        let begun = fixture.worker.clock.now();
        let (report, ()) = join(kick(&fixture, ALL), handshake).await;
        let report = report.unwrap();
        assert_eq!(report.status, BroadcastStatus::Done);
        let gone = u64::from(!completes);
        assert_eq!((report.success, report.failures.gone), (4 - gone, gone));
        assert!(!is_open(&fixture, "pending"));
        assert_eq!(told(&fixture, "pending").len(), usize::from(completes));
        let is_kept = fixture.worker.store.row("pending").is_some();
        assert_eq!(is_kept, completes, "no client may come any more");
        let took = fixture.worker.clock.now().since(begun).as_secs();
        assert!((20..40).contains(&took), "{took}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_not_told_is_closed_again_when_its_handshake_has_ended() {
    let fixture = fixture(0).await;
    open(&fixture, "pending").await;
    let outbox = &fixture.worker.outbox;
    outbox.answer("pending", [Err(PostError::Failed("broken".into()))]);
    outbox.close(&connection_id("pending")).await.unwrap();
    let handshake = async {
        fixture.worker.clock.sleep(Duration::from_secs(20)).await;
        outbox.open("pending");
    };
    let (report, ()) = join(kick(&fixture, ALL), handshake).await;
    let report = report.unwrap();
    assert_eq!((report.success, report.failures.failed), (2, 1));
    assert!(!is_open(&fixture, "pending"));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_keeps_failing_does_not_delay_the_close() {
    let fixture = fixture(5).await;
    let fails = Err(PostError::Unavailable("500".into()));
    let outbox = &fixture.worker.outbox;
    outbox.answer("c000", vec![fails.clone(); 1_000]);
    // It is told after some failures.
    outbox.answer("c001", vec![fails; 4]);
    let begun = fixture.worker.clock.now();
    let report = kick(&fixture, ALL).await.unwrap();
    assert_eq!(report.status, BroadcastStatus::Done);
    assert_eq!((report.success, report.failures.failed), (6, 1));
    assert!(ids(5).all(|id| !is_open(&fixture, &id)));
    assert_eq!(told(&fixture, "c001"), ["RECONNECT"]);
    let took = fixture.worker.clock.now().since(begun);
    assert!((5..8).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_is_left_alone() {
    for target in [
        ALL,
        r#"{"type":"user","userId":"alice"}"#,
        r#"{"type":"channel","channel":"room:7"}"#,
    ] {
        let fixture = fixture(8).await;
        for id in ids(8) {
            subscribe(&fixture, &id, "room:7").await;
        }
        // It is remembered, and nothing else is done.
        fixture.worker.store.fail_next("acquire");
        assert!(kick(&fixture, target).await.is_err(), "{target}");
        fixture.worker.clock.advance(Duration::from_secs(1));
        open(&fixture, "again").await;
        subscribe(&fixture, "again", "room:7").await;
        let report = kick(&fixture, target).await.unwrap();
        assert_eq!(report.status, BroadcastStatus::Done, "{target}");
        assert!(ids(8).all(|id| !is_open(&fixture, &id)), "{target}");
        assert!(is_open(&fixture, "again"), "{target}");
        assert_eq!(fixture.worker.outbox.attempts("again"), 0, "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_asks_each_client_once_and_closes_nobody() {
    let fixture = fixture(35).await;
    let begun = fixture.worker.clock.now();
    drain(&fixture, ALL, 100).await;
    fixture.worker.clock.advance(Duration::from_secs(20));
    open(&fixture, "later").await;
    work(&fixture).await;
    let report = report(&fixture).await;
    assert_eq!((report.status, report.success), (BroadcastStatus::Done, 37));
    let deadline = begun.plus(Duration::from_secs(300)).to_timestamp();
    let data = json!({"deadline": deadline, "withinMs": 300_000});
    for id in ids(35) {
        let posted = fixture.worker.outbox.posted(&id);
        let [frame] = posted.as_slice() else {
            panic!("{id}: {posted:?}");
        };
        let frame: Value = serde_json::from_str(frame).unwrap();
        assert_eq!(
            (&frame["type"], &frame["data"]),
            (&json!("reconnect"), &data)
        );
        assert!(is_open(&fixture, &id));
    }
    assert_eq!(fixture.worker.outbox.attempts("later"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_share_is_counted_alone_and_grows_by_adding_to_it() {
    let (mut before, mut sizes) = (BTreeSet::new(), Vec::new());
    for percent in [1, 10, 20, 50, 100] {
        let fixture = fixture(200).await;
        drain(&fixture, ALL, percent).await;
        work(&fixture).await;
        let report = report(&fixture).await;
        let outbox = &fixture.worker.outbox;
        let asked: BTreeSet<String> = ids(200).filter(|id| outbox.attempts(id) > 0).collect();
        let bobs = ["b1", "b2"]
            .into_iter()
            .filter(|id| outbox.attempts(id) > 0);
        let count = asked.len() + bobs.count();
        assert_eq!((report.success, report.failure), (count as u64, 0));
        assert!(before.is_subset(&asked), "{percent}");
        sizes.push(asked.len());
        before = asked;
    }
    assert_eq!(sizes[4], 200);
    assert!((10..=30).contains(&sizes[1]), "{sizes:?}");
    assert!((75..=125).contains(&sizes[3]), "{sizes:?}");
    // Of those that are named and do not exist, too, only a share is counted.
    let fixture = fixture(0).await;
    let named: Vec<_> = ids(200).collect();
    let named = json!({"type": "connections", "connectionIds": named}).to_string();
    let report = drain(&fixture, &named, 10).await;
    let report = if report.complete {
        report
    } else {
        work(&fixture).await;
        self::report(&fixture).await
    };
    assert_eq!(report.failures.gone, sizes[1] as u64);
}

#[tokio::test(start_paused = true)]
async fn an_id_names_one_action() {
    let fixture = fixture(3).await;
    assert_eq!(kick(&fixture, ALL).await.unwrap().success, 5);
    open(&fixture, "later").await;
    let again = kick(&fixture, ALL).await.unwrap();
    assert_eq!((again.success, again.status), (5, BroadcastStatus::Done));
    assert!(is_open(&fixture, "later"));
    let other = |code| fixture.kick(kick_of(ALL, code), call(&fixture, "caller"));
    let refused = Err(BroadcastError::OtherRequest);
    assert_eq!(other("CLOSED_BY_OPERATOR").await, refused);
    let drained = fixture.drain(drain_of(ALL, 100), call(&fixture, "caller"));
    assert_eq!(drained.await, refused);
    let message =
        r#"{"target":{"type":"all"},"message":{"type":"notification","data":{"kind":"k"}}}"#;
    let message = || BroadcastRequest::parse(message).unwrap();
    let sent = fixture.send(message(), call(&fixture, "caller")).await;
    assert_eq!(sent, refused);
    // Each function knows its own.
    let asked = fixture.inquire(report_inquiry(), call(&fixture, "asks"));
    assert_eq!(asked.await, Err(BroadcastError::Unknown));
    let named = |id| Call {
        message_id: MessageId::parse(id).unwrap(),
        ..call(&fixture, "caller")
    };
    fixture.send(message(), named("n")).await.unwrap();
    for id in ["n", "unknown"] {
        let asked = fixture.inquire_of_action(report_inquiry(), named(id));
        assert_eq!(asked.await, Err(BroadcastError::UnknownAction), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kick_whose_workers_died_can_be_resumed() {
    let fixture = fixture(35).await;
    kick(&fixture, ALL).await.unwrap();
    assert_eq!(fixture.worker.workers.take().len(), 4);
    fixture.worker.clock.advance(Duration::from_secs(600));
    assert_eq!(report(&fixture).await.status, BroadcastStatus::Stopped);
    let resume = BroadcastInquiry::Resume {
        message_id: MessageId::parse("m").unwrap(),
        wait_seconds: WaitSeconds::default(),
    };
    let resumed = fixture.inquire_of_action(resume, call(&fixture, "operator"));
    assert_eq!(
        resumed.await.unwrap().report.status,
        BroadcastStatus::Running
    );
    work(&fixture).await;
    assert_eq!(report(&fixture).await.success, 37);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    // A worker dies at any moment, again and again, and is retried as Lambda
    // does; the rows of connections that were closed disappear meanwhile. Every
    // connection of the target is closed, or counted as not; nobody else is; and
    // a client that was counted as told is not told again, but for a page with
    // each death.
    #[test]
    fn workers_may_die_at_any_moment(
        deaths in proptest::collection::vec(1_u64..40, 0..8),
        stuck in proptest::collection::btree_set(0_usize..35, 0..6),
        untold in proptest::collection::btree_set(0_usize..35, 0..6),
        forgets in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let fixture = fixture(35).await;
            let outbox = &fixture.worker.outbox;
            let names = |set: BTreeSet<usize>| -> BTreeSet<String> {
                set.iter().map(|n| format!("c{n:03}")).collect()
            };
            let (stuck, untold) = (names(stuck), names(untold));
            for id in &stuck {
                outbox.refuse_closing(id);
            }
            for id in &untold {
                outbox.answer(id, vec![Err(PostError::Failed("broken".into())); 100]);
            }
            // What $disconnect does.
            let forget = || {
                for id in ids(35).filter(|id| forgets && !outbox.is_open(id)) {
                    fixture.worker.store.forget(&id);
                }
            };
            for id in ids(35) {
                subscribe(&fixture, &id, "room:7").await;
            }
            let mut died = 0;
            let mut deaths = deaths.into_iter();
            let room = r#"{"type":"channel","channel":"room:7"}"#;
            let begun = kick(&fixture, room).await.unwrap();
            prop_assert_eq!(begun.status, BroadcastStatus::Running);
            for (_, segment) in fixture.worker.workers.take() {
                loop {
                    let call = call(&fixture, &format!("worker {segment}"));
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
                    died += 1;
                    forget();
                }
                forget();
            }
            work(&fixture).await;
            let report = report(&fixture).await;
            prop_assert_eq!(report.status, BroadcastStatus::Done);
            for id in ids(35) {
                prop_assert_eq!(is_open(&fixture, &id), stuck.contains(&id), "{}", id);
                prop_assert!(told(&fixture, &id).len() <= 1 + died, "{}", id);
            }
            prop_assert!(is_open(&fixture, "b1") && is_open(&fixture, "b2"));
            let stuck_count = stuck.len() as u64;
            prop_assert_eq!(report.failures.throttled, stuck_count);
            let untold = untold.difference(&stuck).count() as u64;
            let told = 35 - stuck_count - untold;
            prop_assert!(report.success <= told && report.failures.failed <= untold);
            if died == 0 {
                prop_assert_eq!((report.success, report.failures.failed), (told, untold));
            }
            Ok(())
        })?;
    }
}
