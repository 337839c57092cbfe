use std::time::Duration;

use belfry_protocol::{ConnectionId, UserId};

use crate::liveness::Liveness;
use crate::ports::Randomness;
use crate::time::{UnixMillis, UnixSeconds};

/// A connection as Belfry remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The id that API Gateway assigned.
    pub id: ConnectionId,
    /// The user of the token that opened it.
    pub user_id: UserId,
    /// Start of the handshake, as reported by API Gateway.
    pub connected_at: UnixMillis,
    /// When the client last sent a frame.
    pub last_seen_at: UnixMillis,
    /// From then on the row does not count, even if it still exists.
    pub expires_at: UnixSeconds,
    /// End of the token, and with it of the session.
    pub token_expires_at: UnixSeconds,
    /// The page that opened it; absent for clients other than browsers.
    pub origin: Option<String>,
    /// The client's address as API Gateway saw it.
    pub source_ip: String,
    pub user_agent: Option<String>,
    pub liveness: Liveness,
}

/// The part of a connection that a broadcast needs: what the user index
/// projects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recipient {
    pub id: ConnectionId,
    /// With the id it identifies the row that was read.
    pub connected_at: UnixMillis,
    /// From then on nothing may be posted to it.
    pub token_expires_at: UnixSeconds,
}

/// A younger row may only seem gone: API Gateway answers 410 until the
/// handshake is complete.
const YOUNG: Duration = Duration::from_secs(10);

impl Recipient {
    /// Whether a 410 must be confirmed before it is believed.
    pub(crate) fn is_young(&self, now: UnixMillis) -> bool {
        now.since(self.connected_at) < YOUNG
    }
}

/// Wait before a 410 of a young connection is confirmed, jittered so that many
/// connections are not retried together.
pub(crate) fn confirm_after(random: &impl Randomness) -> Duration {
    random.between(Duration::from_secs(1), Duration::from_secs(2))
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
