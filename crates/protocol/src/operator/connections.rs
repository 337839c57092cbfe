use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HeldByConnection;
use crate::bounded::Bounded;
use crate::{Action, ChannelName, ConnectionId, Target, Timestamp, UserId};

/// A request to list connections. Filters apply together.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListConnections {
    /// Whose connections to list.
    pub target: Target,
    /// Only those that a page of this origin opened.
    #[serde(default)]
    pub origin: Option<String>,
    /// Only those that were opened at least this long ago, in seconds.
    #[serde(default)]
    pub min_age_seconds: Option<Bounded<0, 7_200>>,
    /// Only those that have sent nothing for this long, in seconds.
    #[serde(default)]
    pub min_silence_seconds: Option<Bounded<0, 7_200>>,
    /// Only those that a `drain` with this `percent` asks. The default is 100.
    #[serde(default)]
    pub percent: Option<Bounded<1, 100>>,
    /// The size of a page. The default is 100.
    #[serde(default)]
    pub limit: Option<Bounded<1, 500>>,
    /// The `cursor` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// A page of connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionList {
    /// Connections, in no particular order. An empty page does not mean the
    /// end.
    pub connections: Vec<ListedConnection>,
    /// For the next page. Absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A connection as Belfry remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedConnection {
    /// Its id.
    pub connection_id: ConnectionId,
    /// The user of the token that opened it.
    pub user_id: UserId,
    /// When it was opened.
    pub connected_at: Timestamp,
    /// When the client last sent a frame. Before the first one, when it was
    /// opened.
    pub last_seen_at: Timestamp,
    /// When its session ends, unless the client extends it.
    pub token_expires_at: Timestamp,
    /// The origin of the page that opened it. Absent for clients other than
    /// browsers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The client's address as API Gateway saw it.
    pub source_ip: String,
    /// What the client calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// A request for everything that is known of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InspectConnection {
    /// The connection.
    pub connection_id: ConnectionId,
}

/// What is known of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionDetails {
    /// What Belfry remembers. Absent if it knows no such connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ListedConnection>,
    /// What API Gateway says. Absent if there is no such connection, or its
    /// handshake is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<Socket>,
    /// Why API Gateway did not answer. Then `socket` is absent, and nobody knows
    /// whether the connection is open. Otherwise absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_unknown: Option<String>,
    /// The channels that it is subscribed to.
    pub channels: Vec<SubscribedChannel>,
    /// The locks that it, or a connection that replaced it, holds.
    pub locks: Vec<HeldByConnection>,
}

/// A connection as API Gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Socket {
    /// When it was opened.
    pub connected_at: Timestamp,
    /// When a message last passed, in either direction.
    pub last_active_at: Timestamp,
}

/// A subscription of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscribedChannel {
    /// The channel.
    pub channel: ChannelName,
    /// What the connection may do there.
    pub actions: Vec<Action>,
    /// Whether its user is present there by this connection.
    pub present: bool,
    /// When the subscription ends, unless the client extends it.
    pub ends_at: Timestamp,
}
