//! Honest fakes of the ports, a clock for tests, and the contract suites that
//! hold fakes and adapters to the ports' promises.

mod broadcasts;
mod clock;
mod contract;
mod metrics;
mod outbox;
mod store;
mod verifier;

use std::time::Duration;

use belfry_protocol::{ConnectionId, UserId};

pub use broadcasts::FakeWorkers;
pub use clock::TestClock;
pub use contract::{outbox_contract, store_contract};
pub use metrics::FakeMetrics;
pub use outbox::FakeOutbox;
pub use store::FakeStore;
pub use verifier::FakeVerifier;

use crate::budget::Budget;
use crate::connection::{Connection, Watch};
use crate::ports::Places;
use crate::schedule::Schedule;
use crate::time::{UnixMillis, UnixSeconds};

/// When every test begins: 2026-01-01T00:00:00Z.
pub const START: UnixMillis = UnixMillis(1_767_225_600_000);

/// When connections are looked at, as template.yaml has it by default.
pub const SCHEDULE: Schedule = Schedule {
    heartbeat_interval: Duration::from_secs(480),
    heartbeat_grace: Duration::from_secs(30),
    connection_lifetime: Duration::from_secs(7_200),
};

/// A budget that no test exhausts by accident.
pub const BUDGET: Budget = Budget {
    interval: Duration::from_millis(10),
    burst: 1_000,
};

/// More places than a test takes.
pub const PLACES: Places = Places {
    total: 1_000_000,
    per_user: 1_000,
};

/// A connection id.
///
/// # Panics
/// If the text is none.
#[must_use]
pub fn connection_id(text: &str) -> ConnectionId {
    ConnectionId::parse(text).expect("a connection id")
}

/// A user id.
///
/// # Panics
/// If the text is none.
#[must_use]
pub fn user_id(text: &str) -> UserId {
    UserId::parse(text).expect("a user id")
}

/// A connection that began at [`START`], with an hour on its token and a row
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
        origin: None,
        source_ip: "192.0.2.1".into(),
        user_agent: Some("test".into()),
        watch: Watch::until(START.plus(Duration::from_secs(480))),
    }
}
