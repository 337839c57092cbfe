//! Frames that the server sends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Bare, ConnectionId, Envelope, ErrorData, NotificationData, Timestamp, UserId};

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ServerFrame {
    /// Answers `ping`.
    Pong(Bare),
    /// Answers `hello`.
    Welcome(Envelope<Welcome>),
    /// Answers `echo`, with the same data.
    Echo(Envelope<Value>),
    /// Answers `auth.refresh`.
    #[serde(rename = "auth.refreshed")]
    AuthRefreshed(Envelope<AuthRefreshed>),
    /// Are you there? The server asks a client that has been silent for long.
    Ping(Bare),
    /// This connection will end soon: open another one, then close this one.
    Reconnect(Envelope<Reconnect>),
    /// A frame was refused, or the connection is about to be closed.
    Error(Envelope<ErrorData>),
    /// Something happened that a REST handler wants the user to know.
    Notification(Envelope<NotificationData>),
}

impl ServerFrame {
    /// The frame as it goes over the socket.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Cannot fail: every key is a string and no Serialize of ours errs.
        serde_json::to_string(self).expect("a frame is always representable as JSON")
    }
}

/// The `data` of a `welcome` frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// This connection.
    pub connection_id: ConnectionId,
    /// The user whose token opened it.
    pub user_id: UserId,
    /// When it was opened.
    pub connected_at: Timestamp,
    /// When the token ends, and with it the connection.
    pub token_expires_at: Timestamp,
    /// When API Gateway ends the connection at the latest.
    pub connection_expires_at: Timestamp,
    /// What this server accepts.
    pub limits: Limits,
}

/// The `data` of an `auth.refreshed` frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthRefreshed {
    /// When the session's token ends now, and with it the connection.
    pub token_expires_at: Timestamp,
}

/// The `data` of a `reconnect` frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reconnect {
    /// When API Gateway ends this connection at the latest.
    pub deadline: Timestamp,
}

/// What a client must stay within.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// The longest frame, in bytes of UTF-8.
    pub max_message_bytes: usize,
    /// How many frames a minute may be sent, over a longer time.
    pub messages_per_minute: u32,
}
