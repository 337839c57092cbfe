//! Honest fakes of the ports, a clock for tests, and the contract suites that
//! hold the fakes and the real adapters to the ports' promises. A file has
//! the contract and the fake of a port or of a group of ports.

mod acks;
mod admissions;
mod authorizer;
mod broadcast_records;
mod callee;
mod clock;
mod connection_listing;
mod disconnections;
mod due_connections;
mod hooks;
mod lock_histories;
mod locks;
mod log_histories;
mod logs;
mod metrics;
mod outbox;
mod presence;
mod randomness;
mod reader_limits;
mod recipients;
mod removals;
mod segments;
mod sessions;
mod sign_outs;
mod store;
mod subscriptions;
mod verifier;
mod workers;

use std::time::Duration;

use belfry_protocol::{ConnectionId, UserId};

pub use authorizer::FakeAuthorizer;
pub use callee::{CallBehaviour, FakeCallee, callee_contract};
pub use clock::{TestClock, clock_contract};
pub use hooks::{FakeDeadLetters, FakeListener, hooks_contract};
pub use lock_histories::{LockMutant, explore_lock};
pub use log_histories::{Mutant, explore_log};
pub use metrics::{FakeMetrics, metrics_contract};
pub use outbox::{FakeOutbox, outbox_contract};
pub use randomness::{SeededRandomness, randomness_contract};
pub use store::FakeStore;
pub use verifier::{FakeVerifier, TestTokens, verifier_contract};
pub use workers::{FakeWorkers, workers_contract};

use crate::broadcast::{DeliverySettings, FanoutSettings};
use crate::channels::Claims;
use crate::connections::{Connection, ConnectionLimits};
use crate::frames::TokenBucket;
use crate::liveness::{Liveness, LivenessSettings};
use crate::ports::{
    Acks, Admission, Admissions, Admitted, BroadcastRecords, Capacity, ConnectionListing,
    ConnectionLookup, Departures, Disconnections, DueConnections, Locks, LogAppends, LogPeeks,
    LogPurges, LogReads, NewBroadcasts, NotServed, Presence, ReaderLimits, Receipts, Recipients,
    Removals, SegmentLeases, SegmentOffers, SegmentStates, SessionRefresh, Sessions, SignOuts,
    Subscribers, SubscriptionCounts, Subscriptions, Touched,
};
use crate::presence::PresenceSettings;
use crate::time::{UnixMillis, UnixSeconds};

/// When every test begins: 2026-01-01T00:00:00Z.
pub const START: UnixMillis = UnixMillis(1_767_225_600_000);

/// The defaults of template.yaml.
pub const LIVENESS: LivenessSettings = LivenessSettings {
    heartbeat_interval: Duration::from_secs(480),
    heartbeat_grace: Duration::from_secs(30),
    connection_lifetime: Duration::from_secs(7_200),
};

/// Posts fast.
pub const DELIVERY: DeliverySettings = DeliverySettings {
    concurrency: 64,
    post_timeout: Duration::from_secs(2),
    posts_per_second: 10_000.0,
};

/// The defaults of template.yaml, without a limit on broadcasts to everyone.
pub const FANOUT: FanoutSettings = FanoutSettings {
    connections_per_worker: 5_000,
    max_workers: 4,
    all_interval: Duration::ZERO,
};

/// Few users are announced, so that tests reach the limit.
pub const PRESENCE: PresenceSettings = PresenceSettings { announced: 5 };

/// A message rate limit that no test reaches by accident.
pub const BUCKET: TokenBucket = TokenBucket {
    interval: Duration::from_millis(10),
    burst: 1_000,
};

/// Limits that no test reaches by accident.
pub const LIMITS: ConnectionLimits = ConnectionLimits {
    total: 1_000_000,
    per_user: 1_000,
};

/// # Panics
/// If `text` is not a valid id.
#[must_use]
pub fn connection_id(text: &str) -> ConnectionId {
    ConnectionId::parse(text).expect("a connection id")
}

/// # Panics
/// If `text` is not a valid id.
#[must_use]
pub fn user_id(text: &str) -> UserId {
    UserId::parse(text).expect("a user id")
}

/// Claims of a member of a tenant.
#[must_use]
pub fn tenant(name: &str) -> Claims {
    let token = serde_json::json!({"tenant": name});
    let token = token.as_object().expect("an object");
    Claims::keep(token, ["tenant"]).expect("short claims")
}

/// A connection that began at [`START`], with a token for an hour and a row
/// that lives for 7,500 seconds.
#[must_use]
pub fn connection(id: &str, user: &str) -> Connection {
    let start = START.to_seconds().0;
    Connection {
        id: connection_id(id),
        user_id: user_id(user),
        connected_at: START,
        last_seen_at: START,
        expires_at: UnixSeconds(start + 7_500),
        token_expires_at: UnixSeconds(start + 3_600),
        claims: Claims::default(),
        has_session: false,
        accepts_batch: false,
        first: None,
        origin: None,
        source_ip: "192.0.2.1".into(),
        user_agent: Some("test".into()),
        liveness: Liveness::due_at(START.plus(Duration::from_secs(480))),
    }
}

/// Every port of the store: what the contract suites need to prepare and to
/// observe. Use cases name single ports.
pub trait Store:
    Acks
    + Admissions
    + BroadcastRecords
    + Capacity
    + ConnectionListing
    + ConnectionLookup
    + Disconnections
    + DueConnections
    + Locks
    + LogAppends
    + LogPeeks
    + LogPurges
    + LogReads
    + NewBroadcasts
    + Presence
    + ReaderLimits
    + Receipts
    + Recipients
    + Departures
    + Removals
    + SegmentLeases
    + SegmentOffers
    + SegmentStates
    + SessionRefresh
    + Sessions
    + SignOuts
    + Subscribers
    + SubscriptionCounts
    + Subscriptions
{
}

impl<S> Store for S where
    S: Acks
        + Admissions
        + BroadcastRecords
        + Capacity
        + ConnectionListing
        + ConnectionLookup
        + Disconnections
        + DueConnections
        + Locks
        + LogAppends
        + LogPeeks
        + LogPurges
        + LogReads
        + NewBroadcasts
        + Presence
        + ReaderLimits
        + Receipts
        + Recipients
        + Departures
        + Removals
        + SegmentLeases
        + SegmentOffers
        + SegmentStates
        + SessionRefresh
        + Sessions
        + SignOuts
        + Subscribers
        + SubscriptionCounts
        + Subscriptions
{
}

/// Holds a store to the promises of its ports. `new` makes an empty one.
///
/// # Panics
/// If a promise is broken.
pub async fn store_contract<S: Store>(new: impl AsyncFn() -> S) {
    admissions::contract(&new).await;
    disconnections::contract(&new).await;
    removals::contract(&new).await;
    sessions::contract(&new).await;
    sign_outs::contract(&new).await;
    due_connections::contract(&new).await;
    recipients::contract(&new).await;
    connection_listing::contract(&new).await;
    broadcast_records::contract(&new).await;
    segments::contract(&new).await;
    logs::contract(&new).await;
    reader_limits::contract(&new).await;
    subscriptions::contract(&new).await;
    presence::contract(&new).await;
    acks::contract(&new).await;
    locks::contract(&new).await;
}

/// Admits a connection whose token was issued at [`START`].
async fn admit<S: Store>(store: &S, row: &Connection, limits: ConnectionLimits) -> Admitted {
    let admission = Admission {
        connection: row,
        token_issued_at: START.to_seconds(),
        replaces: None,
    };
    store.admit(admission, limits).await.expect("admit")
}

/// Admits a connection below every limit.
async fn put<S: Store>(store: &S, row: &Connection) {
    assert_eq!(admit(store, row, LIMITS).await, Admitted::Yes);
}

async fn touch_at<S: Store>(store: &S, id: &str, now: UnixMillis) -> Touched {
    let touched = store.touch(&connection_id(id), &BUCKET, now).await;
    touched.expect("touch")
}

async fn find<S: Store>(store: &S, id: &str) -> Option<Connection> {
    store.find(&connection_id(id)).await.expect("find")
}

/// The row as a frame at [`START`] finds it.
async fn live<S: Store>(store: &S, id: &str) -> Option<Connection> {
    match touch_at(store, id, START).await {
        Touched::Live(row) => Some(row),
        Touched::NotServed(NotServed::Unknown) => None,
        other => panic!("{other:?}"),
    }
}

/// Expects that one of 5,000 histories with a mutant breaks a promise.
#[cfg(test)]
pub(crate) async fn breaks_a_promise(
    mutant: impl std::fmt::Debug,
    explore: impl AsyncFn(u64) -> Result<(), String>,
) {
    for seed in 0..5_000 {
        if let Err(wrong) = explore(seed).await {
            eprintln!("{mutant:?}: {wrong}");
            return;
        }
    }
    panic!("{mutant:?} breaks nothing");
}
