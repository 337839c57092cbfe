//! Holds each operation to the capacity units that docs/COSTS.md
//! documents, as DynamoDB counts them. To print them:
//! `cargo test --package belfry-aws --test adapters cost -- --nocapture`.

mod broadcasts;
mod operator;
mod publishes;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use belfry_aws::DynamoDb;
use belfry_core::UnixMillis;
use belfry_core::UnixSeconds;
use belfry_core::channels::{Actions, Claims};
use belfry_core::connections::{Connection, MAX_KEPT_BYTES, Recipient};
use belfry_core::frames::TokenBucket;
use belfry_core::hooks::HookSubject;
use belfry_core::liveness::Liveness;
use belfry_core::locks::{LockKeeper, LockOutcome, release_all};
use belfry_core::log::{
    AppendId, Appender, Entry, Head, LogKey, Message, Purger, RecoveryLimits, RecoveryReader,
};
use belfry_core::ports::{
    Acks, Admission, Admissions, Admitted, Advanced, Capacity, Clock, ConnectionLookup, Departures,
    Disconnections, DueConnections, Extended, Extension, HookEvents, JoinsPresence, LeaveOutcome,
    Listing, LockKey, Locks, LogAppends, LogPeeks, LogReads, Presence, ReaderLimits, Receipts,
    Removals, Segment, SessionRefresh, Sessions, SubscribeResult, Subscribers, Subscription,
    Subscriptions, Touched,
};
use belfry_core::testing::{
    BUCKET, FakeMetrics, LIMITS, START, SeededRandomness, TestClock, connection, connection_id,
    user_id,
};
use belfry_protocol::{Action, ChannelName, Epoch, LockName, Position, PresenceInfo};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::counter_audit::ids_of_shard;
use crate::database::{endpoint, tables};
use crate::hooks::hooked;

/// Capacity units.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Units {
    read: f64,
    write: f64,
}

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5.1} write {:>6.1} read", self.write, self.read)
    }
}

/// A proxy of the database that counts what each call consumes.
struct Meter {
    database: String,
    client: reqwest::Client,
    sum: Mutex<Units>,
}

async fn meter() -> (Arc<Meter>, DynamoDb) {
    let meter = Arc::new(Meter {
        database: endpoint().await,
        client: crate::plain_http(),
        sum: Mutex::default(),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(count).with_state(Arc::clone(&meter));
    tokio::spawn(async { axum::serve(listener, app).await });
    let client = crate::clients(&url).dynamodb();
    (meter, DynamoDb::new(client, tables()))
}

async fn count(State(meter): State<Arc<Meter>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut request: Value = serde_json::from_slice(&body).unwrap();
    request["ReturnConsumedCapacity"] = json!("INDEXES");
    let operation = headers["x-amz-target"].clone();
    let operation = operation.to_str().unwrap().rsplit('.').next().unwrap();
    let answer = crate::proxy::forward(
        &meter.client,
        &meter.database,
        headers,
        request.to_string().into(),
    )
    .await;
    let (status, text) = answer;
    let consumed = consumed(operation, status, &serde_json::from_slice(&text).unwrap());
    let mut sum = meter.sum.lock().unwrap();
    sum.read += consumed.read;
    sum.write += consumed.write;
    (status, text).into_response()
}

fn consumed(operation: &str, status: StatusCode, answer: &Value) -> Units {
    if status != StatusCode::OK {
        // AWS: a write whose condition fails consumes a unit for each
        // kilobyte of the item, and does not report it.
        assert!(["PutItem", "UpdateItem"].contains(&operation), "{answer}");
        return Units {
            read: 0.0,
            write: 1.0,
        };
    }
    let consumed = &answer["ConsumedCapacity"];
    let one = std::slice::from_ref(consumed);
    let tables = consumed.as_array().map_or(one, Vec::as_slice);
    let units = tables.iter().map(|t| t["CapacityUnits"].as_f64().unwrap());
    let units = units.sum();
    if ["GetItem", "BatchGetItem", "Query", "Scan"].contains(&operation) {
        return Units {
            read: units,
            write: 0.0,
        };
    }
    Units {
        read: 0.0,
        write: units,
    }
}

impl Meter {
    /// Discards the units that the setup consumed.
    fn reset(&self) {
        *self.sum.lock().unwrap() = Units::default();
    }

    /// Expects that an operation consumed exactly its documented units since
    /// the last call.
    fn expect(&self, operation: &str) {
        let units = std::mem::take(&mut *self.sum.lock().unwrap());
        println!("{operation:<60} {units}");
        let documented = documented();
        let expected = documented.iter().find(|(name, _)| name == operation);
        let (_, expected) = expected.unwrap_or_else(|| panic!("{operation} is not documented"));
        assert_eq!(units, *expected, "{operation}");
    }
}

/// The table of docs/COSTS.md: operations and their units. `belfry cost`
/// multiplies the same ones.
fn documented() -> Vec<(String, Units)> {
    let page = include_str!("../../../../docs/COSTS.md");
    let (_, table) = page
        .split_once("| operation | write units | read units | $ a million |")
        .expect("the table of units");
    let rows = table.lines().skip(2).take_while(|row| row.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let units = Units {
            write: cells[2].parse().expect(row),
            read: cells[3].parse().expect(row),
        };
        (cells[1].replace('`', ""), units)
    })
    .collect()
}

#[test]
fn every_documented_operation_is_measured() {
    for (operation, _) in documented() {
        let expected = format!("meter.expect(\"{operation}\")");
        let tests = [
            include_str!("cost.rs"),
            include_str!("cost/broadcasts.rs"),
            include_str!("cost/operator.rs"),
            include_str!("cost/publishes.rs"),
        ];
        assert!(
            tests.iter().any(|test| test.contains(&expected)),
            "{operation}"
        );
    }
}

fn admission(row: &Connection) -> Admission<'_> {
    Admission {
        connection: row,
        token_issued_at: START.to_seconds(),
        replaces: None,
    }
}

fn is_live(touched: &Touched) -> bool {
    matches!(touched, Touched::Live(_))
}

fn after(seconds: u64) -> UnixMillis {
    START.plus(Duration::from_secs(seconds))
}

#[tokio::test]
async fn connects_and_disconnects() {
    let (meter, store) = meter().await;
    // The longest values that a client can choose.
    let bounded = "x".repeat(MAX_KEPT_BYTES);
    let row = |id: &str| Connection {
        origin: Some(bounded.clone()),
        user_agent: Some(bounded.clone()),
        user_id: user_id(&"🔔".repeat(128)),
        ..connection(id, "alice")
    };
    let first = row("R0oXAdfD0kwCH6w=");
    assert_eq!(
        store.admit(admission(&first), LIMITS).await,
        Ok(Admitted::Yes)
    );
    meter.expect("connect");
    for n in 0..19 {
        let row = row(&format!("R0oXAdfD0kwC{n:03}="));
        assert_eq!(
            store.admit(admission(&row), LIMITS).await,
            Ok(Admitted::Yes)
        );
    }
    meter.reset();
    let row_21 = row("R0oXAdfD0kwCHxx=");
    let replacing = Admission {
        replaces: Some(&first.id),
        ..admission(&row_21)
    };
    assert_eq!(store.admit(replacing, LIMITS).await, Ok(Admitted::Yes));
    meter.expect("connect, replacing another connection");
    store.disconnect(&first.id, START).await.unwrap();
    meter.expect("disconnect of a connection that was replaced");
    store.disconnect(&row_21.id, START).await.unwrap();
    meter.expect("disconnect");
    store.disconnect(&row_21.id, START).await.unwrap();
    meter.expect("disconnect, repeated or before the connect");
    let seen = Recipient::from(&row("R0oXAdfD0kwC000="));
    store.remove_unchanged(&seen, START).await.unwrap();
    meter.expect("removal of a connection that is gone");
}

#[tokio::test]
async fn frames() {
    let (meter, store) = meter().await;
    let row = connection("c1", "alice");
    store.admit(admission(&row), LIMITS).await.unwrap();
    meter.reset();
    let bucket = TokenBucket::per_minute(600);
    let now = after(10);
    let touched = store.touch(&row.id, &bucket, now).await.unwrap();
    assert!(is_live(&touched));
    meter.expect("frame");
    let touched = store.touch(&row.id, &bucket, now).await.unwrap();
    assert!(is_live(&touched));
    meter.expect("frame right after another");
    let extension = Extension {
        user_id: user_id("alice"),
        expires_at: UnixSeconds(row.token_expires_at.0 + 60),
        claims: Claims::default(),
    };
    let later = Extension {
        expires_at: UnixSeconds(extension.expires_at.0 + 60),
        ..extension.clone()
    };
    let extend = async |extension, now| {
        let signed_out_at = store.signed_out_at(&user_id("alice")).await;
        assert_eq!(signed_out_at, Ok(None));
        let extended = store.extend(&row.id, extension, &bucket, now).await;
        assert!(matches!(extended, Ok(Extended::Until(_))));
    };
    let now = after(20);
    extend(&extension, now).await;
    meter.expect("auth.refresh");
    extend(&later, now).await;
    meter.expect("auth.refresh right after another frame");
    let now = after(30);
    extend(&extension, now).await;
    meter.expect("auth.refresh that does not extend the session");
    let of_bob = Extension {
        user_id: user_id("bob"),
        ..later
    };
    let now = after(40);
    assert_eq!(store.signed_out_at(&of_bob.user_id).await, Ok(None));
    let extended = store.extend(&row.id, &of_bob, &bucket, now).await;
    assert_eq!(extended, Ok(Extended::OtherUser));
    meter.expect("auth.refresh with another user's token");
    while is_live(&store.touch(&row.id, &bucket, now).await.unwrap()) {}
    meter.reset();
    assert!(!is_live(&store.touch(&row.id, &bucket, now).await.unwrap()));
    meter.expect("frame over the rate limit");
}

#[tokio::test]
async fn sweeps() {
    let (meter, store) = meter().await;
    for n in 0..1_000_u32 {
        let row = Connection {
            liveness: Liveness::due_at(after(if n < 10 { 0 } else { 480 })),
            ..connection(&format!("c{n}"), &format!("user-{}", n / 10))
        };
        store.admit(admission(&row), LIMITS).await.unwrap();
    }
    meter.reset();
    let due: Vec<_> = store.due(START).collect().await;
    assert_eq!(due.len(), 10);
    meter.expect("sweep: listing the due connections");
    let row = store.find(&connection_id("c1")).await.unwrap().unwrap();
    let pinged = Liveness {
        pinged_at: Some(START),
        ..Liveness::due_at(after(30))
    };
    assert_eq!(store.record_liveness(&row, &pinged).await, Ok(true));
    meter.expect("sweep: checking a connection");
    store.open_connections().await.unwrap();
    meter.expect("sweep: counting the open connections");
    // The first audit only notes counters.
    store.audit_counters(START).await.unwrap();
    meter.reset();
    store.audit_counters(after(60)).await.unwrap();
    meter.expect("sweep: comparing four counters with their rows");
}

#[tokio::test]
async fn a_comparison_row_by_row() {
    let (meter, store) = meter().await;
    let rows: Vec<_> = ids_of_shard(0)
        .take(100)
        .map(|id| connection(&id, &format!("user-{id}")))
        .collect();
    for row in &rows {
        store.admit(admission(row), LIMITS).await.unwrap();
    }
    let successor = Connection {
        id: connection_id("successor"),
        ..rows[0].clone()
    };
    let replacing = Admission {
        replaces: Some(&rows[0].id),
        ..admission(&successor)
    };
    assert_eq!(store.admit(replacing, LIMITS).await, Ok(Admitted::Yes));
    store.audit_counters(START).await.unwrap();
    meter.reset();
    store.audit_counters(after(60)).await.unwrap();
    meter.expect("sweep: comparing four counters, one with more rows than it says");
    assert_eq!(store.open_connections().await, Ok(100));
}

#[tokio::test]
async fn logs() {
    let (meter, store) = meter().await;
    let (clock, random) = (TestClock::default(), SeededRandomness::default());
    let metrics = FakeMetrics::default();
    let appender = Appender {
        store: &store,
        clock: &clock,
        random: &random,
        metrics: &metrics,
    };
    let reader = RecoveryReader {
        store: &store,
        clock: &clock,
        random: &random,
    };
    let log = LogKey::channel("room:7");
    let publish_together = async |count, id: &str, remember_until, is_stored: bool| {
        let message = Message {
            id: &AppendId(id.into()),
            retention: Duration::from_secs(600),
            remember_until,
            frames: |_: &Position| vec!["x".repeat(700); count],
        };
        let appended = appender.append(&log, &message).await.unwrap();
        if is_stored {
            appender.store(&log, &appended).await.unwrap();
        }
        appended.position
    };
    let publish = async |id: &str, remember_until, is_stored| {
        publish_together(1, id, remember_until, is_stored).await
    };
    let first = publish("m1", None, true).await;
    let other = LogKey::channel("room:8");
    meter.reset();
    let mut newest = publish("m2", None, true).await;
    meter.expect("log: a message");
    let tomorrow = after(86_400).to_seconds();
    publish("m3", Some(tomorrow), true).await;
    meter.expect("log: a message with an id");
    publish("m4", None, false).await;
    meter.reset();
    newest.seq = publish("m5", None, true).await.seq;
    meter.expect("log: a message whose predecessor's publisher died");
    assert_eq!(reader.newest(&log).await.unwrap(), newest);
    meter.expect("log: the newest position");
    assert_eq!(store.peek(&[log.clone(), other]).await.unwrap().len(), 1);
    meter.expect("HTTP reader: looking at 2 channels");
    let limits = RecoveryLimits {
        messages: 100,
        bytes: 98_304,
        missed: Some(300),
    };
    let recovered = async |since: &Position| {
        let recovery = reader.since(&log, since, limits).await.unwrap();
        assert_eq!(recovery.lost, None);
        recovery.entries.len()
    };
    assert_eq!(recovered(&newest).await, 0);
    meter.expect("log: recovery, nothing missed");
    assert_eq!(recovered(&first).await, 4);
    meter.expect("log: recovery, 4 messages missed");
    publish_together(10, "m6", Some(tomorrow), true).await;
    meter.expect("log: 10 messages that are appended together, with an id");
}

#[tokio::test]
async fn readers() {
    let (meter, store) = meter().await;
    let alice = user_id("alice");
    let place = store.take_place(&alice, 20, after(60), START).await;
    let place = place.unwrap().expect("a place");
    store.leave_place(&alice, place).await.unwrap();
    meter.expect("HTTP reader: the beginning and the end of a stream or a poll that waits");
    assert_eq!(store.signed_out_at(&alice).await, Ok(None));
    meter.expect("HTTP reader: checking for a sign-out");
    store
        .take_token(&alice, &BUCKET, START)
        .await
        .unwrap()
        .unwrap();
    meter.expect("HTTP reader: counting a message");
}

#[tokio::test]
async fn subscriptions() {
    let (meter, store) = meter().await;
    let row = connection("c1", "alice");
    store.admit(admission(&row), LIMITS).await.unwrap();
    meter.reset();
    let names = ["room:1", "room:2", "room:3"].map(|name| ChannelName::parse(name).unwrap());
    let wanted = names.clone().map(|channel| Subscription {
        channel,
        ends_at: row.token_expires_at,
        allowed: None,
        presence: JoinsPresence::No,
        actions: [Action::Subscribe, Action::Lock].into_iter().collect(),
    });
    let bucket = TokenBucket::per_minute(600);
    let begun = store
        .begin_session(&row.id, &bucket, after(10))
        .await
        .unwrap();
    let Touched::Live(row) = begun else {
        panic!("{begun:?}")
    };
    let subscribed = store.subscribe(&row, &wanted, 50, after(10)).await.unwrap();
    let nothing = SubscribeResult::Subscribed {
        too_many: vec![],
        arrivals: vec![],
        leaves: vec![],
    };
    assert_eq!(subscribed, nothing);
    meter.expect("subscribe to 3 channels");
    let whole = Segment { index: 0, total: 1 };
    let listing = store.subscribers(&names[0], Listing::All, whole, None, 100, after(10));
    assert_eq!(listing.await.unwrap().recipients.len(), 1);
    meter.expect("publish: listing the subscribers");
    store
        .unsubscribe(&row, &names[..1], after(20))
        .await
        .unwrap();
    meter.expect("unsubscribe from a channel");
    store.disconnect(&row.id, START).await.unwrap();
    meter.expect("disconnect of a subscriber to 2 channels");
    let due = store.due_list(after(60)).await.unwrap();
    meter.expect("sweep: listing what is due");
    assert_eq!(store.depart(&due.departures[0]).await, Ok(vec![]));
    store.forget_departure(&due.departures[0]).await.unwrap();
    meter.expect("sweep: a departure from 2 channels");
}

#[tokio::test]
async fn presence() {
    let (meter, store) = meter().await;
    let channel = ChannelName::parse("room:1").unwrap();
    let mut rows = Vec::new();
    for (id, user) in [("c1", "alice"), ("c2", "alice"), ("c3", "bob")] {
        let row = connection(id, user);
        store.admit(admission(&row), LIMITS).await.unwrap();
        let bucket = TokenBucket::per_minute(600);
        let begun = store.begin_session(&row.id, &bucket, START).await.unwrap();
        let Touched::Live(row) = begun else {
            panic!("{begun:?}")
        };
        rows.push(row);
    }
    meter.reset();
    let come = async |row: &Connection| {
        let wanted = [Subscription {
            channel: channel.clone(),
            ends_at: row.token_expires_at,
            allowed: None,
            actions: Actions::default(),
            presence: JoinsPresence::With(PresenceInfo::default()),
        }];
        let subscribed = store.subscribe(row, &wanted, 50, after(1)).await.unwrap();
        let SubscribeResult::Subscribed { arrivals, .. } = subscribed else {
            panic!("{subscribed:?}")
        };
        if !arrivals.is_empty() {
            store.announced(&channel, &row.user_id).await.unwrap();
        }
        arrivals.len()
    };
    assert_eq!(come(&rows[0]).await, 1);
    meter.expect("presence: subscribing, the user's first connection");
    assert_eq!(come(&rows[1]).await, 0);
    meter.expect("presence: subscribing, another connection of the user");
    assert_eq!(come(&rows[2]).await, 1);
    meter.reset();
    let present = store.present(&channel, 100).await.unwrap();
    assert_eq!(present.users.len(), 2);
    meter.expect("presence: listing the users");
    let channels = [channel.clone()];
    let left = store.unsubscribe(&rows[2], &channels, after(2));
    let left = left.await.unwrap().leaves;
    let absent = store.make_absent(&left[0], after(2)).await.unwrap();
    assert!(matches!(absent, LeaveOutcome::Absent(_)));
    store.forget_leave(&left[0]).await.unwrap();
    meter.expect("presence: unsubscribing, the user's last connection");
    store.disconnect(&rows[1].id, after(3)).await.unwrap();
    meter.expect("presence: disconnect of a connection that is present in a channel");
    let leave = &store.due_list(after(63)).await.unwrap().leaves[0];
    meter.reset();
    let known = store.make_absent(leave, after(63)).await.unwrap();
    assert_eq!(known, LeaveOutcome::AsKnown);
    store.forget_leave(leave).await.unwrap();
    meter.expect("sweep: a leave of a user who is still present");
}

#[tokio::test]
async fn acknowledgements() {
    let (meter, store) = meter().await;
    let (log, alice) = (LogKey::channel("room:7"), user_id("alice"));
    let at = |seq| Position {
        epoch: Epoch::parse("19b76da0800aaaaaaaa").unwrap(),
        seq,
    };
    let newest = Entry {
        seq: 9,
        append_id: AppendId("m".into()),
        expires_at: after(600).to_seconds(),
        frame: "x".repeat(700),
    };
    let head = Head {
        epoch: at(9).epoch,
        frames_before: Vec::new(),
        newest,
    };
    let end = after(86_400).to_seconds();
    let begun = store.advance(&log, None, &head, end, None).await;
    assert_eq!(begun, Ok(Advanced::Yes));
    // As the frame's handler does it.
    let ack = async |seq| {
        assert_eq!(store.head(&log).await.unwrap().as_ref(), Some(&head));
        store.acknowledge(&log, &alice, &at(seq), START).await
    };
    meter.reset();
    assert_eq!(ack(5).await, Ok(at(5)));
    meter.expect("ack");
    assert_eq!(ack(4).await, Ok(at(5)));
    meter.expect("ack that moves nothing");
    assert_eq!(store.find_ack(&log, &alice, START).await, Ok(Some(at(5))));
    meter.expect("subscribe since what was acknowledged");
    for n in 1..100 {
        let user = user_id(&format!("user-{n}"));
        store.acknowledge(&log, &user, &at(9), START).await.unwrap();
    }
    meter.reset();
    let found = store.head(&log).await.unwrap();
    assert_eq!(found.as_ref(), Some(&head));
    let page = store.readers(&log, &at(1), None, 1_000, START).await;
    assert_eq!(page.unwrap().readers.len(), 100);
    meter.expect("receipts of a channel, 100 users");
    let users: Vec<_> = (0..100).map(|n| user_id(&format!("user-{n}"))).collect();
    let acks = store.acks_of_users(&users, START).await;
    assert_eq!(acks, Ok(vec![]));
    meter.expect("receipts of 100 users' own messages");
}

#[tokio::test]
async fn locks() {
    let (meter, store) = meter().await;
    let bucket = TokenBucket::per_minute(600);
    let channel = ChannelName::parse("room:7").unwrap();
    let open = async |id: &str| {
        let row = connection(id, "alice");
        store.admit(admission(&row), LIMITS).await.unwrap();
        let begun = store.begin_session(&row.id, &bucket, after(10)).await;
        let Ok(Touched::Live(row)) = begun else {
            panic!("{begun:?}")
        };
        let subscription = Subscription {
            channel: channel.clone(),
            ends_at: row.token_expires_at,
            allowed: None,
            actions: [Action::Subscribe, Action::Lock].into_iter().collect(),
            presence: JoinsPresence::No,
        };
        let subscribed = store.subscribe(&row, &[subscription], 50, after(10)).await;
        assert!(subscribed.is_ok());
        row
    };
    let (one, two) = (open("c1").await, open("c2").await);
    let clock = TestClock::default();
    let keeper = LockKeeper {
        store: &store,
        clock: &clock,
    };
    let [title, body, other] = ["title", "body", "other"].map(|name| LockKey {
        channel: channel.clone(),
        name: LockName::parse(name).unwrap(),
    });
    let lock = async |row: &Connection, key: &LockKey| {
        let lifetime = Duration::from_secs(30);
        keeper.lock(row, key, lifetime).await.unwrap()
    };
    meter.reset();
    assert!(matches!(lock(&one, &title).await, LockOutcome::Locked(_)));
    meter.expect("lock");
    clock.advance(Duration::from_secs(10));
    assert!(matches!(lock(&one, &title).await, LockOutcome::Locked(_)));
    meter.expect("lock, renewed");
    assert!(matches!(lock(&two, &title).await, LockOutcome::Held(_)));
    meter.expect("lock, held by another connection");
    lock(&one, &body).await;
    lock(&one, &other).await;
    meter.reset();
    let held = store.held_locks(&channel, 100, clock.now()).await.unwrap();
    assert_eq!(held.locks.len(), 3);
    meter.expect("locks: listing those that are held");
    assert!(keeper.unlock(&one, &other).await.unwrap().is_some());
    meter.expect("unlock");
    lock(&two, &other).await;
    meter.reset();
    let channels = [channel.clone()];
    let left = store.unsubscribe(&two, &channels, after(20)).await.unwrap();
    let free = keeper.unlock_all(&two, &left.locks).await.unwrap();
    assert_eq!(free.len(), 1);
    meter.expect("unsubscribe from a channel, with a lock");
    store.disconnect(&one.id, START).await.unwrap();
    meter.expect("disconnect of a subscriber to a channel who holds 2 locks");
    let due = store.due_list(after(60)).await.unwrap().departures;
    meter.reset();
    let listed = store.depart(&due[0]).await.unwrap();
    let free = release_all(&store, &one.id, &listed).await.unwrap();
    assert_eq!(free.len(), 2);
    store.forget_departure(&due[0]).await.unwrap();
    meter.expect("sweep: a departure from a channel, with 2 locks");
}

#[tokio::test]
async fn hooks() {
    let (meter, store) = meter().await;
    let store = hooked()(store);
    let row = |id: &str| Connection {
        user_id: user_id(&"🔔".repeat(128)),
        ..connection(id, "alice")
    };
    let one = row("R0oXAdfD0kwCH6w=");
    assert_eq!(
        store.admit(admission(&one), LIMITS).await,
        Ok(Admitted::Yes)
    );
    meter.expect("connect, with a hook");
    store.disconnect(&one.id, after(1)).await.unwrap();
    meter.expect("disconnect, with a hook");
    let subject = HookSubject::Connection(one.id.clone());
    let events = store.events_of(&subject).await.unwrap().events;
    store.forget_event(&events[0]).await.unwrap();
    meter.expect("hooks: telling of an event");
    store.forget_event(&events[1]).await.unwrap();
    meter.reset();
    assert_eq!(store.waiting().await.unwrap().len(), 0);
    meter.expect("hooks: a run of the schedule when nothing waits");

    let two = row("R0oXAdfD0kwCHxx=");
    store.admit(admission(&two), LIMITS).await.unwrap();
    let bucket = TokenBucket::per_minute(600);
    let begun = store.begin_session(&two.id, &bucket, START).await.unwrap();
    let Touched::Live(two) = begun else {
        panic!("{begun:?}")
    };
    meter.reset();
    let channel = ChannelName::parse("room:1").unwrap();
    let wanted = [Subscription {
        channel: channel.clone(),
        ends_at: two.token_expires_at,
        allowed: None,
        actions: Actions::default(),
        presence: JoinsPresence::With(PresenceInfo::default()),
    }];
    store.subscribe(&two, &wanted, 50, after(1)).await.unwrap();
    store.announced(&channel, &two.user_id).await.unwrap();
    meter.expect("presence: subscribing, the user's first connection, with a hook");
    let left = store.unsubscribe(&two, &[channel], after(2)).await.unwrap();
    store.make_absent(&left.leaves[0], after(2)).await.unwrap();
    store.forget_leave(&left.leaves[0]).await.unwrap();
    meter.expect("presence: unsubscribing, the user's last connection, with a hook");
}
