use belfry_core::operator::{Inspect, Unlock};
use belfry_core::ports::{ConnectionListing, LogPurges, SubscriptionCounts};
use belfry_core::testing::FakeOutbox;
use belfry_protocol::{ConnectionId, ReleaseLock};

use super::*;

fn room() -> ChannelName {
    ChannelName::parse("room:7").unwrap()
}

async fn subscribe(store: &DynamoDb, id: &str) -> Connection {
    let row = connection(id, "alice");
    store.admit(admission(&row), LIMITS).await.unwrap();
    let bucket = TokenBucket::per_minute(600);
    let begun = store.begin_session(&row.id, &bucket, after(10)).await;
    let Ok(Touched::Live(row)) = begun else {
        panic!("{begun:?}")
    };
    let subscription = Subscription {
        channel: room(),
        ends_at: row.token_expires_at,
        allowed: None,
        actions: [Action::Subscribe, Action::Lock].into_iter().collect(),
        presence: JoinsPresence::No,
    };
    let subscribed = store.subscribe(&row, &[subscription], 50, after(10)).await;
    assert!(subscribed.is_ok());
    row
}

/// Subscribes 100 connections.
async fn crowd() -> (Arc<Meter>, DynamoDb, Vec<ConnectionId>) {
    let (meter, store) = meter().await;
    let mut ids = Vec::new();
    for n in 0..100 {
        ids.push(subscribe(&store, &format!("c{n}")).await.id);
    }
    meter.reset();
    (meter, store, ids)
}

#[tokio::test]
async fn operators_list() {
    let (meter, store, ids) = crowd().await;
    let page = store.row_page(None, START).await.unwrap();
    assert_eq!(page.connections.len(), 100);
    meter.expect("operator: listing 100 connections of all");
    assert_eq!(store.rows(&ids, START).await.unwrap().len(), 100);
    meter.expect("operator: reading 100 connections by id");
}

#[tokio::test]
async fn operators_count() {
    let (meter, store, _) = crowd().await;
    let counted = store.count_subscriptions(16, START).await.unwrap();
    assert_eq!(counted.by_channel[&room()], 100);
    meter.expect("operator: counting 100 subscriptions");
}

#[tokio::test]
async fn operators_inspect_and_unlock() {
    let (meter, store) = meter().await;
    let row = subscribe(&store, "c1").await;
    let clock = TestClock::default();
    let keeper = LockKeeper {
        store: &store,
        clock: &clock,
    };
    let key = LockKey {
        channel: room(),
        name: LockName::parse("title").unwrap(),
    };
    let lifetime = Duration::from_secs(30);
    let locked = keeper.lock(&row, &key, lifetime).await.unwrap();
    assert!(matches!(locked, LockOutcome::Locked(_)));
    let inspect = Inspect {
        store: store.clone(),
        sockets: FakeOutbox::default(),
        clock: clock.clone(),
    };
    meter.reset();
    let found = inspect.handle(&row.id).await.unwrap();
    assert_eq!((found.channels.len(), found.locks.len()), (1, 1));
    meter.expect("operator: inspecting a connection with a channel and a lock");
    let unlock = Unlock { store, clock };
    let LockKey { channel, name } = key;
    let released = unlock.handle(ReleaseLock { channel, name }).await.unwrap();
    assert!(released.released);
    meter.expect("operator: releasing a lock");
}

#[tokio::test]
async fn operators_purge() {
    let (meter, store) = meter().await;
    let log = LogKey::channel("room:7");
    let (clock, random) = (TestClock::default(), SeededRandomness::default());
    let metrics = FakeMetrics::default();
    for n in 0..100 {
        let id = AppendId(format!("m{n}"));
        let message = Message {
            id: &id,
            retention: Duration::from_secs(600),
            remember_until: None,
            frames: |_: &Position| vec!["f".repeat(500)],
        };
        let appender = Appender {
            store: &store,
            clock: &clock,
            random: &random,
            metrics: &metrics,
        };
        let appended = appender.append(&log, &message).await.unwrap();
        appender.store(&log, &appended).await.unwrap();
    }
    meter.reset();
    let purger = Purger {
        store: &store,
        clock: &clock,
        random: &random,
    };
    assert!(purger.purge(&log, "request").await.unwrap().is_some());
    meter.expect("operator: beginning a new history");
    let page = store.delete_superseded(&log, None).await.unwrap();
    assert_eq!((page.deleted, page.next), (100, None));
    meter.expect("operator: deleting 100 messages of an old one");
}
