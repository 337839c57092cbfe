use std::sync::Arc;
use std::time::Duration;

use belfry_aws::DynamoDb;
use belfry_core::broadcast::{Broadcaster, Call, DeliverySettings, FanoutSettings, Worker};
use belfry_core::channels::ChannelRules;
use belfry_core::ports::{Admissions, Clock};
use belfry_core::presence::PresenceSettings;
use belfry_core::testing::{
    FakeMetrics, FakeOutbox, FakeWorkers, LIMITS, SeededRandomness, TestClock, connection,
};
use belfry_protocol::{BroadcastRequest, BroadcasterRequest, MessageId, OperatorRequest};
use serde_json::{Value, json};

use super::{Meter, admission, meter};

type Costed =
    Broadcaster<DynamoDb, FakeOutbox, TestClock, FakeMetrics, FakeWorkers, SeededRandomness>;

/// A broadcaster, and 1,000 users with a connection each.
async fn costed() -> (Arc<Meter>, Costed) {
    let (meter, store) = meter().await;
    let outbox = FakeOutbox::default();
    for n in 0..1_000_u32 {
        let row = connection(&format!("c{n}"), &format!("user-{n}"));
        store.admit(admission(&row), LIMITS).await.unwrap();
        outbox.open(&format!("c{n}"));
    }
    meter.reset();
    let broadcaster = Broadcaster {
        worker: Worker {
            store,
            outbox,
            clock: TestClock::default(),
            metrics: FakeMetrics::default(),
            workers: FakeWorkers::default(),
            random: SeededRandomness::default(),
            rules: ChannelRules::default(),
            delivery: DeliverySettings {
                concurrency: 64,
                post_timeout: Duration::from_secs(3),
                posts_per_second: 100_000.0,
            },
        },
        fanout: FanoutSettings {
            connections_per_worker: 5_000,
            max_workers: 4,
            all_interval: Duration::from_secs(60),
        },
        presence: PresenceSettings { announced: 100 },
    };
    (meter, broadcaster)
}

trait Send {
    /// Returns how many connections got it.
    async fn send_one(&self, id: &str, is_named: bool, target: Value) -> u64;
    async fn send_ten(&self, id: &str, is_named: bool, target: Value) -> u64;
    async fn request(&self, id: &str, is_named: bool, request: Value) -> u64;
}

fn message() -> Value {
    json!({"type": "notification", "data": {"kind": "k"}})
}

impl Send for Costed {
    async fn send_one(&self, id: &str, is_named: bool, target: Value) -> u64 {
        let request = json!({"target": target, "message": message()});
        self.request(id, is_named, request).await
    }

    async fn send_ten(&self, id: &str, is_named: bool, target: Value) -> u64 {
        let request = json!({"target": target, "messages": vec![message(); 10]});
        self.request(id, is_named, request).await
    }

    async fn request(&self, id: &str, is_named: bool, request: Value) -> u64 {
        let request = BroadcastRequest::parse(&request.to_string()).unwrap();
        let call = Call {
            message_id: MessageId::parse(id).unwrap(),
            is_named,
            owner: "caller".into(),
            deadline: self.worker.clock.now().plus(Duration::from_secs(60)),
        };
        // A test's thread has a small stack.
        let sent = Box::pin(self.send(request, call)).await.unwrap();
        sent.report.success
    }
}

/// Does what an operator asks for. Returns how many clients were told.
async fn act(broadcaster: &Costed, id: &str, request: Value) -> u64 {
    let call = Call {
        message_id: MessageId::parse(id).unwrap(),
        is_named: true,
        owner: "operator".into(),
        deadline: broadcaster.worker.clock.now().plus(Duration::from_secs(60)),
    };
    let acted = match OperatorRequest::parse(&request.to_string()).unwrap() {
        OperatorRequest::Kick(kick) => Box::pin(broadcaster.kick(kick, call)).await,
        OperatorRequest::Drain(drain) => Box::pin(broadcaster.drain(drain, call)).await,
        other => panic!("{other:?}"),
    };
    acted.unwrap().report.success
}

fn to_one() -> Value {
    json!({"type": "user", "userId": "user-1"})
}

fn to_two() -> Value {
    json!({"type": "users", "userIds": ["user-1", "user-2"]})
}

fn to_all() -> Value {
    json!({"type": "all"})
}

fn to_room() -> Value {
    json!({"type": "channel", "channel": "room:7"})
}

#[tokio::test]
async fn broadcasts() {
    let (meter, mut broadcaster) = costed().await;
    assert_eq!(broadcaster.send_one("m1", false, to_one()).await, 1);
    meter.expect("broadcast to a user, without an id");
    assert_eq!(broadcaster.send_one("m2", true, to_one()).await, 1);
    meter.expect("broadcast to a user, with an id");
    assert_eq!(broadcaster.send_one("m2", true, to_one()).await, 1);
    meter.expect("broadcast to a user, repeated with its id");
    assert_eq!(broadcaster.send_one("m3", true, to_all()).await, 1_000);
    meter.expect("broadcast to all, 1,000 connections");
    assert_eq!(broadcaster.send_one("m4", false, to_room()).await, 0);
    meter.expect("broadcast to a channel without history");
    let asked = json!({"action": "presence", "channel": "room:7"}).to_string();
    let Ok(BroadcasterRequest::Presence(asked)) = BroadcasterRequest::parse(&asked) else {
        panic!("{asked}")
    };
    broadcaster.presence(asked).await.unwrap();
    meter.expect("presence: a server asks who is present");

    let rules = r#"{"version":"1.0","user":{"history":{"seconds":600}},
        "all":{"history":{"seconds":600}},
        "channels":[{"match":"room:*","allow":["subscribe"],"history":{"seconds":600}}]}"#;
    broadcaster.worker.rules = rules.parse().unwrap();
    for target in [to_one(), to_room()] {
        broadcaster.send_one("before", false, target).await;
    }
    meter.reset();
    assert_eq!(broadcaster.send_one("m5", false, to_one()).await, 1);
    meter.expect("broadcast to a user with history");
    assert_eq!(broadcaster.send_one("m6", true, to_two()).await, 2);
    meter.expect("broadcast to two users with histories, with an id");
    broadcaster.send_one("m7", false, to_room()).await;
    meter.expect("broadcast to a channel with history");
    let interval = broadcaster.fanout.all_interval;
    broadcaster.worker.clock.advance(interval);
    assert_eq!(broadcaster.send_one("m8", true, to_all()).await, 1_000);
    meter.expect("broadcast to all with history, 1,000 connections");

    broadcaster.send_ten("m9", false, to_room()).await;
    meter.expect("broadcast of 10 messages to a channel with history");
    assert_eq!(broadcaster.send_ten("m10", true, to_two()).await, 2);
    meter.expect("broadcast of 10 messages to two users with histories, with an id");
    broadcaster.worker.clock.advance(interval);
    assert_eq!(broadcaster.send_ten("m11", true, to_all()).await, 1_000);
    meter.expect("broadcast of 10 messages to all with history, 1,000 connections");
    let of_user_3 = json!({"type": "user", "userId": "user-3"});
    let unkept = json!({"target": of_user_3, "messages": vec![message(); 10], "store": false});
    assert_eq!(broadcaster.request("m12", false, unkept).await, 1);
    meter.expect("broadcast of 10 messages to a user, without an id");
}

#[tokio::test]
async fn operators() {
    let (meter, broadcaster) = costed().await;
    let drain = json!({"action": "drain", "target": to_all(), "withinSeconds": 300});
    assert_eq!(act(&broadcaster, "d", drain).await, 1_000);
    meter.expect("drain, 1,000 connections");
    let kick = json!({"action": "kick", "target": to_one()});
    assert_eq!(act(&broadcaster, "k", kick).await, 1);
    meter.expect("kick of a user with one connection");
}
