//! Frames that the server sends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Acked, Bare, ChannelName, ConnectionId, Envelope, ErrorData, History, LockChanged, Locked,
    Message, MessageData, MessageFrame, NotificationData, Position, PresenceChange,
    PresentInChannel, Published, Subscribed, Synced, Timestamp, Unlocked, Unsubscribed, UserId,
};

/// A frame from the server. Clients must ignore fields that they do not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
#[schemars(transform = crate::advice::describe_closes)]
pub enum ServerFrame {
    /// The reply to `ping`.
    Pong(Bare),
    /// The reply to `hello`.
    Welcome(Envelope<Welcome>),
    /// The reply to `echo`, with the same `data`.
    Echo(Envelope<Value>),
    /// The reply to `auth.refresh`.
    #[serde(rename = "auth.refreshed")]
    AuthRefreshed(Envelope<AuthRefreshed>),
    /// Checks whether a silent client is still there. The client must send
    /// `pong` or any other frame, or the server closes the connection.
    Ping(Bare),
    /// Announces the end of this connection. The client should open a new
    /// connection, then close this one.
    Reconnect(Envelope<Reconnect>),
    /// Says why the server refused a frame, or why it closes the connection.
    Error(Envelope<ErrorData>),
    /// A message from a caller of the broadcaster.
    Notification(Message<NotificationData>),
    /// A message from another client.
    Message(Message<MessageData>),
    /// Several messages from a caller of the broadcaster. Only for clients that
    /// accept it.
    Batch(Envelope<Batch>),
    /// The reply to `subscribe`.
    Subscribed(Envelope<Subscribed>),
    /// The reply to `unsubscribe`, or the end of subscriptions that are no
    /// longer allowed.
    Unsubscribed(Envelope<Unsubscribed>),
    /// The reply to `publish`: the message is published.
    Published(Envelope<Published>),
    /// The reply to `history`.
    History(Envelope<History>),
    /// A channel's history was deleted, and another one begins.
    #[serde(rename = "history.purged")]
    HistoryPurged(Envelope<HistoryPurged>),
    /// The reply to `sync`.
    Synced(Envelope<Synced>),
    /// The reply to `presence`.
    Presence(Envelope<PresentInChannel>),
    /// A user has come into a channel.
    #[serde(rename = "presence.joined")]
    PresenceJoined(Envelope<PresenceChange>),
    /// A user has left a channel.
    #[serde(rename = "presence.left")]
    PresenceLeft(Envelope<PresenceChange>),
    /// A user tells something else about itself, or the number of users in a
    /// large channel has changed.
    #[serde(rename = "presence.updated")]
    PresenceUpdated(Envelope<PresenceChange>),
    /// The reply to `call`, with what the application's function returned.
    #[serde(rename = "result")]
    CallResult(Envelope<Value>),
    /// The reply to `ack`.
    Acked(Envelope<Acked>),
    /// The reply to `lock`.
    Locked(Envelope<Locked>),
    /// The reply to `unlock`.
    Unlocked(Envelope<Unlocked>),
    /// Another connection has locked, renewed or released a lock of a channel.
    #[serde(rename = "lock.changed")]
    LockChanged(Envelope<LockChanged>),
}

impl ServerFrame {
    /// The frame as the text that goes over the socket.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Every key is a string and no `Serialize` in this crate fails.
        serde_json::to_string(self).expect("every frame serializes to JSON")
    }
}

/// The `data` of a `welcome` frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// The id of this connection.
    pub connection_id: ConnectionId,
    /// The user whose token opened the connection.
    pub user_id: UserId,
    /// When the connection was opened.
    pub connected_at: Timestamp,
    /// When the token expires. The server then closes the connection, unless
    /// `auth.refresh` has extended the session.
    pub token_expires_at: Timestamp,
    /// When API Gateway cuts the connection, at the latest.
    pub connection_expires_at: Timestamp,
    /// The limits on what the client may send.
    pub limits: Limits,
    /// What became of the subscriptions that the client asked for in `hello`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribed: Option<Subscribed>,
    /// The channels that a rule has subscribed the connection to. Absent if there
    /// is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auto_subscribed: Vec<AutoSubscribed>,
    /// `true` if the connection has replaced another one and holds its locks,
    /// otherwise absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_locks: bool,
}

/// A channel that a rule has subscribed the connection to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AutoSubscribed {
    /// The channel.
    pub channel: ChannelName,
    /// The channel's newest position: every later message is posted to the
    /// connection. Absent if the channel has no history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// The `data` of a `batch` frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Batch {
    /// The frames that other clients get one by one, in order.
    pub messages: Vec<MessageFrame>,
}

/// The `data` of an `auth.refreshed` frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthRefreshed {
    /// When the session now ends. The server then closes the connection, unless
    /// another `auth.refresh` has extended the session.
    pub token_expires_at: Timestamp,
}

/// The `data` of a `reconnect` frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reconnect {
    /// When API Gateway cuts this connection, at the latest. If an operator asks
    /// for a new connection, when it should be open.
    pub deadline: Timestamp,
    /// Choose a random moment within this time to open the new connection, in
    /// milliseconds. If it is absent, open it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
}

/// The `data` of a `history.purged` frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryPurged {
    /// The channel.
    pub channel: ChannelName,
    /// Where the new history begins: the first message comes after it.
    pub position: Position,
}

/// Limits on what a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// The largest frame, in bytes of UTF-8.
    pub max_message_bytes: usize,
    /// The message rate limit: frames per minute in the long run. A burst
    /// may have a tenth of that, or 5 frames if that is more.
    pub messages_per_minute: u32,
}
