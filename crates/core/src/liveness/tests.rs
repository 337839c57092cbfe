use std::time::Duration;

use super::*;
use crate::connections::Connection;
use crate::locks::{Grant, LockKeeper, LockOutcome};
use crate::ports::{
    Clock, Departures, Disconnections, JoinsPresence, LockKey, MetricEvent, Outbox, PostError,
    Sessions, SignOuts, Subscription, Subscriptions, Touched, Waiting,
};
use crate::testing::{
    BUCKET, DELIVERY, FANOUT, FakeMetrics, FakeOutbox, FakeStore, FakeWorkers, LIVENESS, PRESENCE,
    START, SeededRandomness, TestClock, connection, connection_id, user_id,
};
use crate::time::UnixSeconds;
use belfry_protocol::{Action, ChannelName, LockName, SweepReport};
use serde_json::{Value, json};

type Fixture =
    Sweeper<FakeStore, FakeOutbox, TestClock, FakeMetrics, FakeWorkers, SeededRandomness>;

fn sweeper() -> Fixture {
    Sweeper {
        store: FakeStore::default(),
        outbox: FakeOutbox::default(),
        clock: TestClock::default(),
        metrics: FakeMetrics::default(),
        workers: FakeWorkers::default(),
        random: SeededRandomness::default(),
        settings: LIVENESS,
        delivery: DELIVERY,
        fanout: FANOUT,
        presence: PRESENCE,
    }
}

fn after(seconds: u64) -> UnixMillis {
    START.plus(Duration::from_secs(seconds))
}

/// An open socket with its row, and a token for a day.
async fn open(sweeper: &Fixture, id: &str) {
    let row = Connection {
        token_expires_at: UnixSeconds(START.to_seconds().0 + 86_400),
        ..connection(id, "alice")
    };
    sweeper.store.put_row(&row).await;
    sweeper.outbox.open(id);
}

async fn sweep_at(sweeper: &Fixture, now: UnixMillis) -> SweepReport {
    sweeper.clock.set(now);
    let deadline = now.plus(Duration::from_secs(55));
    sweeper.sweep(deadline).await.unwrap()
}

async fn frame_at(sweeper: &Fixture, id: &str, now: UnixMillis) {
    let bucket = BUCKET;
    let touched = sweeper.store.touch(&connection_id(id), &bucket, now).await;
    assert!(matches!(touched, Ok(Touched::Live(_))));
}

fn last_posted(sweeper: &Fixture, id: &str) -> Value {
    serde_json::from_str(sweeper.outbox.posted(id).last().unwrap()).unwrap()
}

/// A row that is due while its handshake may still be pending.
async fn with_a_young_row() -> Fixture {
    let mut sweeper = sweeper();
    sweeper.settings.heartbeat_interval = Duration::from_secs(5);
    let row = Connection {
        liveness: Liveness::due_at(after(5)),
        ..connection("c1", "alice")
    };
    sweeper.store.put_row(&row).await;
    sweeper
}

fn nothing() -> SweepReport {
    SweepReport {
        complete: true,
        connections: 1,
        ..SweepReport::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged_once_and_closed_after_the_grace() {
    let sweeper = sweeper();
    open(&sweeper, "c1").await;
    assert_eq!(sweep_at(&sweeper, after(479)).await, nothing());
    let pinged = SweepReport {
        pinged: 1,
        ..nothing()
    };
    assert_eq!(sweep_at(&sweeper, after(500)).await, pinged);
    assert_eq!(last_posted(&sweeper, "c1")["type"], "ping");
    assert_eq!(sweep_at(&sweeper, after(529)).await, nothing());
    let silent = SweepReport {
        silent: 1,
        connections: 0,
        ..nothing()
    };
    let _ = sweeper.metrics.take();
    assert_eq!(sweep_at(&sweeper, after(560)).await, silent);
    let done = MetricEvent::SweepDone {
        report: silent,
        took: Duration::ZERO,
        departures: Waiting::default(),
        leaves: Waiting::default(),
    };
    assert_eq!(sweeper.metrics.take(), [done]);
    assert!(!sweeper.outbox.is_open("c1"));
    assert!(sweeper.store.is_empty());
    assert_eq!(sweeper.outbox.attempts("c1"), 1);
}

#[tokio::test(start_paused = true)]
async fn any_frame_proves_life_and_prevents_pings() {
    let sweeper = sweeper();
    open(&sweeper, "c1").await;
    sweep_at(&sweeper, after(500)).await;
    frame_at(&sweeper, "c1", after(520)).await;
    let kept = SweepReport {
        kept: 1,
        ..nothing()
    };
    assert_eq!(sweep_at(&sweeper, after(560)).await, kept);
    assert_eq!(sweep_at(&sweeper, after(999)).await, nothing());
    // Frames do not move the due time; sweeps do.
    frame_at(&sweeper, "c1", after(990)).await;
    assert_eq!(sweep_at(&sweeper, after(1_001)).await, kept);
    assert_eq!(sweep_at(&sweeper, after(1_469)).await, nothing());
    assert_eq!(sweep_at(&sweeper, after(1_470)).await.pinged, 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_gone_is_removed_at_the_ping() {
    let sweeper = sweeper();
    open(&sweeper, "c1").await;
    sweeper.outbox.close(&connection_id("c1")).await.unwrap();
    assert_eq!(sweep_at(&sweeper, after(500)).await.gone, 1);
    assert!(sweeper.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_post_is_repeated_while_the_handshake_may_be_pending() {
    let sweeper = with_a_young_row().await;
    sweeper.outbox.answer("c1", [Err(PostError::Gone)]);
    sweeper.outbox.open("c1");
    assert_eq!(sweep_at(&sweeper, after(6)).await.pinged, 1);
    assert_eq!(sweeper.outbox.attempts("c1"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_handshake_may_be_pending_is_kept() {
    let sweeper = with_a_young_row().await;
    assert_eq!(sweep_at(&sweeper, after(6)).await.kept, 1);
    assert_eq!(sweeper.outbox.attempts("c1"), 2);
    assert_eq!(sweep_at(&sweeper, after(36)).await.gone, 1);
    assert!(sweeper.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_due_early_is_pinged_until_there_is_a_sign_of_a_client() {
    let sweeper = sweeper();
    for id in ["c1", "c2", "c3"] {
        let row = Connection {
            liveness: Liveness::due_at(after(35)),
            ..connection(id, id)
        };
        sweeper.store.put_row(&row).await;
    }
    sweeper.outbox.open("c2");
    sweeper.outbox.open("c3");
    frame_at(&sweeper, "c3", after(30)).await;
    let expected = SweepReport {
        gone: 1,
        pinged: 1,
        kept: 1,
        connections: 2,
        ..nothing()
    };
    assert_eq!(sweep_at(&sweeper, after(36)).await, expected);
    assert!(sweeper.store.row("c1").is_none());
    frame_at(&sweeper, "c2", after(37)).await;
    let kept = SweepReport {
        kept: 1,
        connections: 2,
        ..nothing()
    };
    assert_eq!(sweep_at(&sweeper, after(70)).await, kept);
    assert_eq!(sweeper.outbox.attempts("c2"), 1);
    assert_eq!(sweeper.outbox.attempts("c3"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_closes_what_a_sign_out_could_not() {
    let sweeper = sweeper();
    sweeper.store.put("c1", "alice").await;
    sweeper.outbox.open("c1");
    let (alice, c1) = (user_id("alice"), connection_id("c1"));
    let ended = sweeper.store.end_session(&alice, &c1, after(40)).await;
    assert!(ended.unwrap().is_some());
    assert_eq!(sweep_at(&sweeper, after(60)).await.expired, 1);
    assert_eq!(last_posted(&sweeper, "c1")["data"]["code"], "SIGNED_OUT");
    assert!(!sweeper.outbox.is_open("c1") && sweeper.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_while_the_handshake_may_be_pending_is_ended_later() {
    let sweeper = sweeper();
    let row = Connection {
        token_expires_at: after(5).to_seconds(),
        liveness: Liveness::due_at(after(5)),
        ..connection("c1", "alice")
    };
    sweeper.store.put_row(&row).await;
    assert_eq!(sweep_at(&sweeper, after(6)).await.kept, 1);
    // The handshake is complete.
    sweeper.outbox.open("c1");
    assert_eq!(sweep_at(&sweeper, after(20)).await.expired, 1);
    assert!(!sweeper.outbox.is_open("c1") && sweeper.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_token_and_is_told() {
    let sweeper = sweeper();
    sweeper.store.put("c1", "alice").await;
    sweeper.outbox.open("c1");
    for n in 1..=7 {
        frame_at(&sweeper, "c1", after(n * 450)).await;
        sweep_at(&sweeper, after(n * 480)).await;
    }
    assert!(sweeper.outbox.is_open("c1"));
    assert_eq!(sweep_at(&sweeper, after(3_600)).await.expired, 1);
    assert_eq!(last_posted(&sweeper, "c1")["data"]["code"], "TOKEN_EXPIRED");
    assert!(!sweeper.outbox.is_open("c1"));
    assert!(sweeper.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_is_asked_once_to_reconnect_before_it_is_cut() {
    let sweeper = sweeper();
    open(&sweeper, "c1").await;
    let mut asked = Vec::new();
    for minute in 1..120 {
        let now = after(minute * 60);
        frame_at(&sweeper, "c1", now).await;
        let report = sweep_at(&sweeper, now).await;
        if report.reconnect_sent == 1 {
            asked.push(minute);
        }
    }
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!((105..=110).contains(&asked[0]), "{asked:?}");
    let frame = last_posted(&sweeper, "c1");
    assert_eq!(frame["type"], "reconnect");
    assert_eq!(frame["data"]["deadline"], "2026-01-01T02:00:00.000Z");
}

#[tokio::test(start_paused = true)]
async fn the_next_sweep_retries_failures() {
    let sweeper = sweeper();
    open(&sweeper, "c1").await;
    for (error, at) in [(PostError::Throttled, 500), (PostError::TimedOut, 560)] {
        sweeper.outbox.answer("c1", [Err(error)]);
        assert_eq!(sweep_at(&sweeper, after(at)).await.failed, 1);
        assert_eq!(
            sweep_at(&sweeper, after(at)).await,
            nothing(),
            "not at once"
        );
    }
    assert_eq!(sweep_at(&sweeper, after(620)).await.pinged, 1);
    sweeper.outbox.refuse_closing("c1");
    assert_eq!(sweep_at(&sweeper, after(660)).await.failed, 1);
    assert!(sweeper.store.row("c1").is_some(), "it is open and due");
    sweeper.store.fail_from_now_on();
    sweeper.clock.set(after(720));
    assert!(sweeper.sweep(after(800)).await.is_err());
}

/// The number of posts to all of these.
fn attempts(sweeper: &Fixture, count: usize) -> usize {
    let ids = (0..count).map(|n| format!("c{n}"));
    ids.map(|id| sweeper.outbox.attempts(&id)).sum()
}

#[tokio::test(start_paused = true)]
async fn a_sweep_pauses_while_the_api_fails_and_does_the_rest() {
    let sweeper = sweeper();
    for n in 0..1_000 {
        open(&sweeper, &format!("c{n}")).await;
    }
    sweeper.store.put("left", "bob").await;
    let left = connection_id("left");
    let begun = sweeper.store.begin_session(&left, &BUCKET, START).await;
    assert!(matches!(begun, Ok(Touched::Live(_))));
    sweeper.store.disconnect(&left, START).await.unwrap();
    sweeper.outbox.go_down();
    let report = sweep_at(&sweeper, after(500)).await;
    assert!(!report.complete);
    let in_vain = attempts(&sweeper, 1_000);
    assert!((5..80).contains(&in_vain), "{in_vain}");
    assert_eq!(report.failed, in_vain as u64);
    let took = sweeper.clock.now().since(after(500));
    assert!(took <= Duration::from_secs(11), "{took:?}");
    let events = sweeper.metrics.take();
    assert!(events.contains(&MetricEvent::PostingPaused), "{events:?}");
    let due = sweeper.store.due_list(after(500)).await.unwrap();
    assert!(due.departures.is_empty(), "the departure needs no API");
    sweeper.outbox.recover();
    let report = sweep_at(&sweeper, after(600)).await;
    assert_eq!((report.pinged, report.complete), (1_000, true));
}

#[tokio::test(start_paused = true)]
async fn a_sweep_goes_on_when_the_api_works_again() {
    let sweeper = sweeper();
    for n in 0..1_000 {
        open(&sweeper, &format!("c{n}")).await;
    }
    sweeper.outbox.go_down();
    sweeper.clock.set(after(500));
    let recovers = async {
        sweeper.clock.sleep(Duration::from_secs(4)).await;
        sweeper.outbox.recover();
    };
    let (report, ()) = tokio::join!(sweeper.sweep(after(555)), recovers);
    let report = report.unwrap();
    assert!(report.complete);
    assert_eq!(report.pinged + report.failed, 1_000);
    assert!(report.failed < 80, "{report:?}");
}

/// The others are listed after them, and all under way have failed.
#[tokio::test(start_paused = true)]
async fn connections_that_always_fail_keep_no_sweep_from_the_others() {
    let sweeper = sweeper();
    for n in 0..300 {
        let id = format!("c{n}");
        if n < 70 {
            let fails = Err(PostError::Unavailable("500".into()));
            sweeper.outbox.answer(&id, [fails]);
        }
        open(&sweeper, &id).await;
    }
    let (mut pinged, mut failed) = (0, 0);
    for minute in 0..2 {
        let report = sweep_at(&sweeper, after(500 + minute * 60)).await;
        (pinged, failed) = (pinged + report.pinged, failed + report.failed);
    }
    assert_eq!((pinged, failed), (300, 70));
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_client_is_given_up_after_a_while() {
    let sweeper = sweeper();
    for id in ["deaf", "back", "talks"] {
        open(&sweeper, id).await;
    }
    for minute in 9..14 {
        for id in ["deaf", "back", "talks"] {
            sweeper.outbox.answer(id, [Err(PostError::Throttled)]);
        }
        let report = sweep_at(&sweeper, after(minute * 60)).await;
        assert!(report.failed >= 2, "minute {minute}: {report:?}");
        if minute == 10 {
            frame_at(&sweeper, "talks", after(620)).await;
        }
    }
    // The last attempt decides, not the time alone.
    sweeper.outbox.answer("deaf", [Err(PostError::Throttled)]);
    sweeper.outbox.answer("back", []);
    let report = sweep_at(&sweeper, after(14 * 60)).await;
    assert_eq!((report.silent, report.pinged), (1, 1), "{report:?}");
    let back = sweeper.store.row("back").unwrap();
    assert_eq!(back.liveness.unreachable_since, None, "it was reached");
    assert!(!sweeper.outbox.is_open("deaf"));
    assert!(sweeper.outbox.is_open("back") && sweeper.outbox.is_open("talks"));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_outlived_its_connection_is_removed() {
    let sweeper = sweeper();
    open(&sweeper, "c1").await;
    assert_eq!(sweep_at(&sweeper, after(7_300)).await.outlived, 1);
    assert!(sweeper.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn checks_without_time_are_left_and_reported() {
    let sweeper = sweeper();
    for n in 0..300 {
        open(&sweeper, &format!("c{n}")).await;
    }
    sweeper.clock.set(after(500));
    let report = sweeper.sweep(after(500)).await.unwrap();
    assert!(!report.complete);
    assert_eq!(report.pinged, 0);
    let report = sweep_at(&sweeper, after(500)).await;
    assert_eq!((report.pinged, report.complete), (300, true));
}

#[tokio::test(start_paused = true)]
async fn two_sweeps_at_once_count_each_connection_once() {
    let sweeper = sweeper();
    for n in 0..100 {
        open(&sweeper, &format!("c{n}")).await;
    }
    sweeper.clock.set(after(500));
    let deadline = after(555);
    let (one, other) = tokio::join!(sweeper.sweep(deadline), sweeper.sweep(deadline));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.pinged + other.pinged, 100);
    assert_eq!(one.failed + other.failed, 0);
    assert_eq!(sweep_at(&sweeper, after(500)).await.pinged, 0);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_fails_is_an_error_after_everything_else() {
    let sweeper = sweeper();
    open(&sweeper, "c1").await;
    sweeper.clock.set(after(500));
    for listing in ["due", "due_list"] {
        sweeper.store.fail_next(listing);
        assert!(sweeper.sweep(after(555)).await.is_err(), "{listing}");
        let recorded = sweeper.metrics.take();
        assert!(
            matches!(recorded[..], [MetricEvent::SweepDone { .. }]),
            "{listing}: {recorded:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn departures_that_wait_are_counted_with_the_age_of_the_oldest() {
    let sweeper = sweeper();
    for (id, left) in [("c1", 0), ("c2", 10)] {
        open(&sweeper, id).await;
        let id = connection_id(id);
        let begun = sweeper.store.begin_session(&id, &BUCKET, START).await;
        assert!(matches!(begun, Ok(Touched::Live(_))));
        sweeper.store.disconnect(&id, after(left)).await.unwrap();
    }
    let counted = async |now| {
        sweep_at(&sweeper, now).await;
        match &sweeper.metrics.take()[..] {
            [MetricEvent::SweepDone { departures, .. }] => *departures,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(counted(after(30)).await, Waiting::default());
    sweeper.store.fail_next("depart");
    let both = Waiting {
        number: 2,
        oldest: Duration::from_secs(25),
    };
    assert_eq!(counted(after(60)).await, both);
    let left = counted(after(120)).await;
    assert_eq!(left.number, 1, "it could not be processed before");
    assert!(left.oldest >= Duration::from_secs(75), "{left:?}");
    assert_eq!(counted(after(180)).await, Waiting::default());
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_delays_the_report_by_the_grace_only() {
    let sweeper = sweeper();
    open(&sweeper, "c1").await;
    sweeper.clock.set(after(500));
    sweeper.store.hang_on("find");
    let report = sweeper.sweep(after(540)).await.unwrap();
    assert!(!report.complete, "{report:?}");
    assert_eq!(sweeper.clock.now(), after(550));
}

#[tokio::test(start_paused = true)]
async fn who_may_lock_is_told_of_locks_that_a_departure_released() {
    let sweeper = sweeper();
    let key = LockKey {
        channel: ChannelName::parse("room:7").unwrap(),
        name: LockName::parse("title").unwrap(),
    };
    let mut rows = Vec::new();
    for (id, may_lock) in [("c1", true), ("c2", true), ("c3", false)] {
        open(&sweeper, id).await;
        let begun = sweeper
            .store
            .begin_session(&connection_id(id), &BUCKET, START)
            .await;
        let Ok(Touched::Live(row)) = begun else {
            panic!("{begun:?}")
        };
        let actions = [Action::Lock].into_iter().filter(|_| may_lock).collect();
        let subscription = Subscription {
            channel: key.channel.clone(),
            ends_at: row.token_expires_at,
            allowed: None,
            actions,
            presence: JoinsPresence::No,
        };
        let subscribed = sweeper
            .store
            .subscribe(&row, &[subscription], 50, START)
            .await;
        assert!(subscribed.is_ok());
        rows.push(row);
    }
    let keeper = LockKeeper {
        store: &sweeper.store,
        clock: &sweeper.clock,
    };
    let minute = Duration::from_secs(60);
    let locked = keeper.lock(&rows[0], &key, minute).await;
    let Ok(LockOutcome::Locked(Grant { state: held, .. })) = locked else {
        panic!("{locked:?}")
    };
    sweeper.store.disconnect(&rows[0].id, START).await.unwrap();
    // A sweep that dies before it forgets the departure is repeated.
    sweeper.store.fail_next("forget_departure");
    for told in 1..=2 {
        sweep_at(&sweeper, after(60 * told)).await;
        assert_eq!(sweeper.outbox.posted("c2").len() as u64, told);
    }
    sweep_at(&sweeper, after(180)).await;
    assert_eq!(sweeper.outbox.posted("c2").len(), 2);
    let frame = last_posted(&sweeper, "c2");
    assert_eq!(frame["type"], "lock.changed");
    let free = json!({"channel": "room:7", "name": "title", "fencing": held.fencing});
    assert_eq!(frame["data"], free);
    assert!(sweeper.outbox.posted("c3").is_empty());
}
