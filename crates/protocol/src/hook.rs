//! Hooks: what the application's function is told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ChannelName, ConnectionId, Timestamp, UserId, Version};

/// An event that the application's function is told of, at least once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum HookEvent {
    /// A connection was opened.
    #[serde(rename = "connection.opened")]
    ConnectionOpened(ConnectionEvent),
    /// A connection has ended, for whatever reason.
    #[serde(rename = "connection.closed")]
    ConnectionClosed(ConnectionEvent),
    /// A user has come into a channel.
    #[serde(rename = "presence.joined")]
    PresenceJoined(PresenceEvent),
    /// A user has left a channel.
    #[serde(rename = "presence.left")]
    PresenceLeft(PresenceEvent),
}

impl HookEvent {
    /// The value of `type`.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::ConnectionOpened(_) => "connection.opened",
            Self::ConnectionClosed(_) => "connection.closed",
            Self::PresenceJoined(_) => "presence.joined",
            Self::PresenceLeft(_) => "presence.left",
        }
    }

    /// The id, equal whenever the same event is told again.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::ConnectionOpened(event) | Self::ConnectionClosed(event) => &event.id,
            Self::PresenceJoined(event) | Self::PresenceLeft(event) => &event.id,
        }
    }

    /// The event as the text that the function gets.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Every key is a string and no `Serialize` in this crate fails.
        serde_json::to_string(self).expect("every event serializes to JSON")
    }
}

/// The end or the beginning of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionEvent {
    /// The version of this format.
    pub version: Version,
    /// The id, equal whenever the same event is told again.
    pub id: String,
    /// When it happened. The times of a connection's events rise.
    pub time: Timestamp,
    /// The connection.
    pub connection_id: ConnectionId,
    /// The user whose token opened the connection.
    pub user_id: UserId,
    /// When the connection was opened.
    pub connected_at: Timestamp,
}

/// A change of who is present in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PresenceEvent {
    /// The version of this format.
    pub version: Version,
    /// The id, equal whenever the same event is told again.
    pub id: String,
    /// When it happened. The times of a user's events in a channel rise.
    pub time: Timestamp,
    /// The channel.
    pub channel: ChannelName,
    /// The user.
    pub user_id: UserId,
}
