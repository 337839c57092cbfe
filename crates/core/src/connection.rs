//! A connection as Belfry remembers it.

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

impl From<&Connection> for Recipient {
    fn from(connection: &Connection) -> Self {
        Self {
            id: connection.id.clone(),
            connected_at: connection.connected_at,
            token_expires_at: connection.token_expires_at,
        }
    }
}
