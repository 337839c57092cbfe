use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::log::{AppendId, Appender, Lost, Message, RecoveryLimits, RecoveryReader};
use crate::ports::{JoinsPresence, Subscription, Subscriptions};
use crate::testing::{
    DELIVERY, FANOUT, FakeMetrics, FakeOutbox, FakeStore, FakeWorkers, START, SeededRandomness,
    TestClock, connection,
};
use belfry_protocol::BroadcastStatus;

#[derive(Default)]
struct Stack {
    store: FakeStore,
    outbox: FakeOutbox,
    clock: TestClock,
    metrics: FakeMetrics,
    workers: FakeWorkers,
    random: SeededRandomness,
}

fn room() -> ChannelName {
    ChannelName::parse("room:7").unwrap()
}

fn log() -> LogKey {
    LogKey::channel("room:7")
}

impl Stack {
    async fn subscribe(&self, id: &str) {
        self.store.put(id, "alice").await;
        self.outbox.open(id);
        let wanted = Subscription {
            channel: room(),
            ends_at: START.plus(Duration::from_secs(3_600)).to_seconds(),
            allowed: None,
            actions: [].into_iter().collect(),
            presence: JoinsPresence::No,
        };
        let row = connection(id, "alice");
        let subscribed = self.store.subscribe(&row, &[wanted], 50, START).await;
        subscribed.unwrap();
    }

    async fn append(&self, count: usize) -> Position {
        let mut position = None;
        for n in 0..count {
            let id = AppendId(format!("m{n}-{}", self.random.index(1 << 30)));
            let message = Message {
                id: &id,
                retention: Duration::from_secs(600),
                remember_until: None,
                frames: |_: &Position| vec!["frame".into()],
            };
            let appender = Appender {
                store: &self.store,
                clock: &self.clock,
                random: &self.random,
                metrics: &self.metrics,
            };
            let appended = appender.append(&log(), &message).await.unwrap();
            appender.store(&log(), &appended).await.unwrap();
            position = Some(appended.position);
        }
        position.unwrap()
    }

    async fn purge(&self) -> Result<PurgeReport, AppendError> {
        self.request("request").await
    }

    async fn request(&self, id: &str) -> Result<PurgeReport, AppendError> {
        let deadline = self.clock.now().plus(Duration::from_secs(50));
        self.purge_until(id, deadline).await
    }

    async fn purge_until(
        &self,
        id: &str,
        deadline: UnixMillis,
    ) -> Result<PurgeReport, AppendError> {
        let purge = Purge {
            fanout: Fanout {
                store: &self.store,
                outbox: &self.outbox,
                clock: &self.clock,
                metrics: &self.metrics,
                workers: &self.workers,
                random: &self.random,
                delivery: DELIVERY,
                settings: FANOUT,
            },
        };
        purge.handle(&room(), id, deadline).await
    }

    async fn lost(&self, since: &Position) -> Option<Lost> {
        let reader = RecoveryReader {
            store: &self.store,
            clock: &self.clock,
            random: &self.random,
        };
        let limits = RecoveryLimits {
            messages: 100,
            bytes: 10_000,
            missed: None,
        };
        reader.since(&log(), since, limits).await.unwrap().lost
    }

    async fn entries(&self, position: &Position) -> usize {
        let numbers = 1..=position.seq;
        let log = log();
        let entries = self.store.entries(&log, &position.epoch, numbers);
        entries.await.unwrap().len()
    }
}

#[tokio::test(start_paused = true)]
async fn subscribers_are_told_and_entries_deleted() {
    let stack = Stack::default();
    stack.subscribe("c1").await;
    let nothing = stack.purge().await.unwrap();
    assert_eq!((nothing.position, nothing.told), (None, None));
    assert!(stack.outbox.posted("c1").is_empty());
    let newest = stack.append(20).await;
    let report = stack.purge().await.unwrap();
    assert_eq!((report.deleted, report.complete), (20, true));
    let told = report.told.expect("subscribers");
    assert_eq!((told.success, told.status), (1, BroadcastStatus::Done));
    let position = report.position.expect("a history");
    let frame: Value = serde_json::from_str(&stack.outbox.posted("c1")[0]).unwrap();
    assert_eq!(frame["type"], "history.purged");
    assert_eq!(frame["data"]["channel"], "room:7");
    assert_eq!(frame["data"]["position"]["seq"], position.seq);
    assert_eq!(frame["data"]["position"]["epoch"], position.epoch.as_str());
    assert_eq!(stack.lost(&newest).await, Some(Lost::Epoch));
    assert_eq!(stack.lost(&position).await, None);
    let again = stack.purge().await.unwrap();
    assert_eq!((again.position, again.deleted), (Some(position), 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_deleted_by_the_next_call() {
    let stack = Stack::default();
    let newest = stack.append(20).await;
    let now = stack.clock.now();
    let report = stack.purge_until("request", now).await.unwrap();
    assert!(!report.complete && report.deleted < 20, "{report:?}");
    assert_eq!(stack.lost(&newest).await, Some(Lost::Epoch), "at once");
    let rest = stack.purge().await.unwrap();
    assert!(rest.complete);
    assert_eq!(report.deleted + rest.deleted, 20);
    assert_eq!(rest.position, report.position);
}

/// Whatever it was doing when it died: what was purged cannot be read, and the
/// next call finishes the work.
#[tokio::test(start_paused = true)]
async fn a_purge_that_dies_is_finished_by_the_next_one() {
    for calls in 0.. {
        let stack = Stack::default();
        stack.subscribe("c1").await;
        let newest = stack.append(10).await;
        stack.store.fail_after(calls);
        let died = stack.purge().await.is_err();
        stack.store.recover();
        let report = stack.purge().await.unwrap();
        let position = report.position.expect("a history");
        assert!(report.complete);
        assert_eq!(stack.lost(&newest).await, Some(Lost::Epoch), "{calls}");
        assert_eq!(stack.entries(&newest).await, 0, "{calls}");
        assert!(!stack.outbox.posted("c1").is_empty(), "{calls}");
        let next = stack.append(1).await;
        assert_eq!((next.epoch, next.seq), (position.epoch, 11), "{calls}");
        if !died {
            return;
        }
    }
}

/// Lambda repeats an invocation with its request id, hours later perhaps, and
/// another purge may have come between.
#[tokio::test(start_paused = true)]
async fn a_repeated_request_keeps_what_was_published_since() {
    for comes_between in [false, true] {
        let stack = Stack::default();
        stack.append(10).await;
        let now = stack.clock.now();
        let first = stack.purge_until("first", now).await.unwrap();
        let position = first.position.expect("a history");
        assert!(!first.complete);
        stack.append(1).await;
        if comes_between {
            let other = stack.request("other").await.unwrap();
            assert_ne!(other.position.as_ref(), Some(&position));
        }
        let newest = stack.append(1).await;
        stack.clock.advance(Duration::from_secs(500));
        let again = stack.request("first").await.unwrap();
        assert_eq!(again.position.as_ref(), Some(&position), "the same one");
        assert!(again.complete);
        assert_eq!(stack.lost(&newest).await, None);
        let kept = if comes_between { 1 } else { 2 };
        assert_eq!(stack.entries(&newest).await, kept);
        let next = stack.request("next").await.unwrap();
        assert_eq!(
            (next.deleted, stack.entries(&newest).await),
            (kept as u64, 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn many_subscribers_are_told_by_workers() {
    let stack = Stack::default();
    for n in 0..150 {
        stack.subscribe(&format!("c{n}")).await;
    }
    stack.append(1).await;
    let report = stack.purge().await.unwrap();
    let told = report.told.expect("subscribers");
    assert_eq!((told.status, told.success), (BroadcastStatus::Running, 0));
    assert_eq!(stack.workers.started(), 1);
}
