use std::sync::Arc;
use std::time::Duration;

use belfry_aws::DynamoDb;
use belfry_core::broadcast::{Call, DeliverySettings, Fanout, FanoutSettings, Worker};
use belfry_core::channels::ChannelRules;
use belfry_core::connections::Connection;
use belfry_core::frames::TokenBucket;
use belfry_core::ports::{
    Admissions, Clock, JoinsPresence, Listing, Sessions, Subscription, Subscriptions, Touched,
};
use belfry_core::testing::{
    FakeMetrics, FakeOutbox, FakeWorkers, LIMITS, SeededRandomness, TestClock, connection,
};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{Action, ChannelName, MessageId};

use super::{Meter, admission, after, meter};

type Poster = Worker<DynamoDb, FakeOutbox, TestClock, FakeMetrics, FakeWorkers, SeededRandomness>;

const DELIVERY: DeliverySettings = DeliverySettings {
    concurrency: 64,
    post_timeout: Duration::from_secs(3),
    posts_per_second: 100_000.0,
};

fn channel() -> ChannelName {
    ChannelName::parse("room:7").unwrap()
}

async fn poster() -> (Arc<Meter>, Poster) {
    let (meter, store) = meter().await;
    let worker = Worker {
        store,
        outbox: FakeOutbox::default(),
        clock: TestClock::default(),
        metrics: FakeMetrics::default(),
        workers: FakeWorkers::default(),
        random: SeededRandomness::default(),
        rules: ChannelRules::default(),
        delivery: DELIVERY,
    };
    (meter, worker)
}

/// Subscribes connections with ids as long as those of API Gateway, of users
/// with ids as long as those of Cognito.
async fn subscribe(worker: &Poster, numbers: std::ops::Range<u32>) {
    let bucket = TokenBucket::per_minute(600);
    for n in numbers {
        let id = format!("R0oXAdfD0k{n:05}=");
        let user = format!("4f1c2a9e-7b1d-4c1f-9a57-0d6f3f1{n:05}");
        // DynamoDB does not store the zeros at the end of a number.
        let row = connection(&id, &user);
        let row = Connection {
            connected_at: UnixMillis(row.connected_at.0 + 1),
            token_expires_at: UnixSeconds(row.token_expires_at.0 + 1),
            expires_at: UnixSeconds(row.expires_at.0 + 1),
            ..row
        };
        let admitted = worker.store.admit(admission(&row), LIMITS).await;
        admitted.unwrap();
        let begun = worker.store.begin_session(&row.id, &bucket, after(10));
        let Ok(Touched::Live(row)) = begun.await else {
            panic!("{id} has ended")
        };
        let subscription = Subscription {
            channel: channel(),
            ends_at: row.token_expires_at,
            allowed: None,
            actions: [Action::Subscribe, Action::Publish].into_iter().collect(),
            presence: JoinsPresence::No,
        };
        let wanted = [subscription];
        let subscribed = worker.store.subscribe(&row, &wanted, 50, after(10));
        subscribed.await.unwrap();
        worker.outbox.open(&id);
    }
}

/// Posts a message to every subscriber, as `publish` does after it has appended
/// it. Returns how many have it.
async fn post(worker: &Poster, id: &str, bytes: usize, connections_per_worker: u32) -> u64 {
    let fanout = Fanout {
        store: &worker.store,
        outbox: &worker.outbox,
        clock: &worker.clock,
        metrics: &worker.metrics,
        workers: &worker.workers,
        random: &worker.random,
        delivery: DELIVERY,
        settings: FanoutSettings {
            connections_per_worker,
            max_workers: 4,
            all_interval: Duration::ZERO,
        },
    };
    let (id, frame) = (MessageId::parse(id).unwrap(), "x".repeat(bytes));
    let channel = channel();
    let posted = fanout.run(&channel, Listing::All, frame, None, &id);
    posted.await.unwrap();
    let mut success = None;
    for (message_id, segment) in worker.workers.take() {
        let call = Call {
            message_id,
            is_named: true,
            owner: format!("worker {segment}"),
            deadline: worker.clock.now().plus(Duration::from_secs(60)),
        };
        // A test's thread has a small stack.
        let delivered = Box::pin(worker.work_on(segment, call)).await.unwrap();
        success = delivered
            .report
            .complete
            .then_some(delivered.report.success);
    }
    success.expect("the last worker's report is complete")
}

#[tokio::test]
async fn workers() {
    let (meter, worker) = poster().await;
    subscribe(&worker, 0..500).await;
    meter.reset();
    assert_eq!(post(&worker, "one-page", 700, 5_000).await, 500);
    meter.expect("publish: a worker posts to 500 subscribers");
    assert_eq!(post(&worker, "large", 5_000, 5_000).await, 500);
    meter.expect("publish: a worker posts 5 KB to 500 subscribers");
    subscribe(&worker, 500..1_500).await;
    meter.reset();
    assert_eq!(post(&worker, "two-pages", 700, 5_000).await, 1_500);
    meter.expect("publish: a worker posts to 1,500 subscribers");
    // The first page tells about how many there are.
    assert_eq!(post(&worker, "two-workers", 700, 1_000).await, 1_500);
    meter.expect("publish: two workers post to 1,500 subscribers");
}
