//! A connection as Belfry remembers it.

use std::time::Duration;

use belfry_protocol::{ConnectionId, UserId};

use crate::time::{UnixMillis, UnixSeconds};

/// A connection's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// API Gateway's name for it.
    pub id: ConnectionId,
    /// Whose token opened it.
    pub user_id: UserId,
    /// When API Gateway began the handshake.
    pub connected_at: UnixMillis,
    /// When the client last sent a frame.
    pub last_seen_at: UnixMillis,
    /// From when on the row counts for nothing, whether or not it still exists.
    pub expires_at: UnixSeconds,
    /// From when on the token, and with it the session, is over.
    pub token_expires_at: UnixSeconds,
    /// The page that opened it; absent for clients that are no browsers.
    pub origin: Option<String>,
    /// The client's address as API Gateway saw it.
    pub source_ip: String,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// What a sweeper remembers of it.
    pub watch: Watch,
}

/// What a sweeper remembers of a connection. Frames change nothing of it but
/// that a ping is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// When a sweeper must look at it next.
    pub due_at: UnixMillis,
    /// When it was pinged, if no frame came since.
    pub pinged_at: Option<UnixMillis>,
    /// Since when pings do not get through to it, if no frame came since.
    pub unreachable_since: Option<UnixMillis>,
    /// Whether it was told to reconnect.
    pub told_to_reconnect: bool,
    /// When another connection took over its place.
    pub replaced_at: Option<UnixMillis>,
}

impl Watch {
    /// Of a new connection.
    #[must_use]
    pub fn until(due_at: UnixMillis) -> Self {
        Self {
            due_at,
            pinged_at: None,
            unreachable_since: None,
            told_to_reconnect: false,
            replaced_at: None,
        }
    }
}

/// What a broadcast needs to know of a connection: what the index projects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recipient {
    /// API Gateway's name for it.
    pub id: ConnectionId,
    /// When API Gateway began the handshake. With the id it tells whether a
    /// row is still the one that was read.
    pub connected_at: UnixMillis,
    /// From when on nothing may be posted to it.
    pub token_expires_at: UnixSeconds,
}

/// A row younger than this may be gone only in appearance: API Gateway
/// answers 410 until the handshake is complete.
const YOUNG: Duration = Duration::from_secs(10);

impl Recipient {
    /// Whether a 410 must be confirmed before it is believed.
    pub(crate) fn is_young(&self, now: UnixMillis) -> bool {
        now.since(self.connected_at) < YOUNG
    }
}

/// How long to wait before a young connection that seems gone is asked again:
/// one or two seconds, so that many are not asked again together.
pub(crate) fn confirm_after() -> Duration {
    Duration::from_millis(fastrand::u64(1_000..=2_000))
}

impl From<&Connection> for Recipient {
    fn from(connection: &Connection) -> Self {
        Self {
            id: connection.id.clone(),
            connected_at: connection.connected_at,
            token_expires_at: connection.token_expires_at,
        }
    }
}
