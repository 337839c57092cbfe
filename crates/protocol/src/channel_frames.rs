//! The `data` of frames about channels.

use std::num::NonZeroU64;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use crate::list::Item;
use crate::{
    Address, ChannelName, Epoch, ErrorCode, HeldLocks, Kind, List, MessageFrame, MessageId,
    Position, PresenceInfo, Present, Timestamp, UserId, shape,
};

/// The most channels that a connection may be subscribed to.
pub const MAX_CHANNELS: usize = 50;

/// The most messages that one `history` frame may ask for.
pub const MAX_HISTORY: u32 = 300;

/// The `data` of a `subscribe` frame.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Subscribe {
    /// The channels to subscribe to.
    #[serde(deserialize_with = "shape::objects")]
    pub channels: List<ChannelWanted, 1, MAX_CHANNELS>,
}

/// A channel to subscribe to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct ChannelWanted {
    /// The channel. `@me` and `@all` need no subscription; with `since` they
    /// recover what was missed.
    pub channel: Address,
    /// The server answers with the messages after this: a position, or what
    /// the user has acknowledged.
    #[serde(default)]
    pub since: Option<Since>,
    /// Makes the user present in the channel, and tells the others this.
    #[serde(default)]
    pub presence: Option<PresenceInfo>,
    /// Whether the answer has the channel's locks that are held. The default is
    /// `false`.
    #[serde(default)]
    pub locks: Option<bool>,
}

impl Item for ChannelWanted {
    const NAME: &'static str = "channel";
}

/// After what the messages begin that a subscriber recovers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// The position of the last message that the client has seen.
    Position(Position),
    /// `"acked"`: the position that the user has acknowledged, on any device.
    Acked,
}

impl Since {
    /// As text, in frames and in cursors.
    pub(crate) const ACKED: &'static str = "acked";
}

impl<'de> Deserialize<'de> for Since {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == Self::ACKED => Ok(Self::Acked),
            Value::Object(position) => shape::read(position)
                .map(Self::Position)
                .map_err(de::Error::custom),
            _ => Err(de::Error::custom(
                "since must be an object with epoch and seq, or \"acked\"",
            )),
        }
    }
}

impl JsonSchema for Since {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Since".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The position of the last message that the client has seen, or `acked`: the position that the user has acknowledged, on any device.",
            "anyOf": [generator.subschema_for::<Position>(), {"const": Self::ACKED}],
        })
    }
}

/// A channel, and what the client has seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct ChannelSince {
    /// The channel.
    pub channel: Address,
    /// The position of the last message that the client has seen.
    #[serde(default, deserialize_with = "shape::optional_object")]
    pub since: Option<Position>,
}

impl Item for ChannelSince {
    const NAME: &'static str = "channel";
}

/// The `data` of an `unsubscribe` frame.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Unsubscribe {
    /// The channels that the client no longer wants. It need not be subscribed
    /// to them.
    pub channels: List<ChannelName, 1, MAX_CHANNELS>,
}

/// The `data` of a `publish` frame.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Publish {
    /// The channel. Clients cannot publish to `@me` and `@all`.
    pub channel: ChannelName,
    /// What the message is about.
    pub kind: Kind,
    /// The content: any JSON value.
    #[serde(default)]
    pub data: Option<Value>,
    /// The idempotency key. A repeated frame of the same user with the same
    /// `messageId` is published once, if the message is kept. The default is an
    /// id of the server's.
    #[serde(default)]
    pub message_id: Option<MessageId>,
    /// Whether the channel's history keeps the message, if it has one. The
    /// default is `true`.
    #[serde(default)]
    pub store: Option<bool>,
    /// Whether this connection gets the message, too, if it is subscribed. The
    /// default is `false`.
    #[serde(default)]
    pub echo: Option<bool>,
}

/// The `data` of a client's `history` frame.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct ReadHistory {
    /// The channel.
    pub channel: Address,
    /// The position after which the messages begin.
    #[serde(deserialize_with = "shape::object")]
    pub after: Position,
    /// The most messages in the answer, 1 to 300. The default is 100.
    #[serde(default)]
    pub limit: HistoryLimit,
}

/// The most messages in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimit(pub u32);

impl Default for HistoryLimit {
    fn default() -> Self {
        Self(100)
    }
}

impl<'de> Deserialize<'de> for HistoryLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit = Option::<u32>::deserialize(deserializer)?;
        match limit {
            None => Ok(Self::default()),
            Some(limit @ 1..=MAX_HISTORY) => Ok(Self(limit)),
            Some(_) => Err(de::Error::custom(format_args!(
                "limit must be an integer from 1 to {MAX_HISTORY}"
            ))),
        }
    }
}

impl JsonSchema for HistoryLimit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HistoryLimit".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": MAX_HISTORY,
        })
    }
}

/// The `data` of a `sync` frame.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Sync {
    /// The channels to compare.
    #[serde(deserialize_with = "shape::objects")]
    pub channels: List<ChannelSince, 1, MAX_CHANNELS>,
}

/// The `data` of an `ack` frame: the user has read every message up to a
/// position.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Ack {
    /// The channel.
    pub channel: Address,
    /// The history that the number belongs to.
    pub epoch: Epoch,
    /// The number of the last message that was read.
    pub seq: NonZeroU64,
}

/// The `data` of an `acked` frame: the user's position, on all devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acked {
    /// The channel.
    pub channel: Address,
    /// The newest position that the user has acknowledged.
    #[serde(flatten)]
    pub position: Position,
}

/// The `data` of a `subscribed` frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Subscribed {
    /// The channels in the order of the client's frame.
    pub channels: Vec<SubscribedTo>,
    /// Whose token opened the stream. Only over HTTP: a socket's `welcome` says
    /// it.
    #[serde(flatten)]
    pub session: Option<ReaderSession>,
}

/// The session in which an HTTP reader reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReaderSession {
    /// The user whose token it is. Only over HTTP.
    pub user_id: UserId,
    /// When the token expires. Only over HTTP.
    pub token_expires_at: Timestamp,
}

/// What became of one channel of a `subscribe` frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SubscribedTo {
    /// The connection is not subscribed. The other channels are not affected.
    Refused(ChannelRefused),
    /// The connection is subscribed.
    Yes(ChannelState),
}

/// A channel that the client may not subscribe to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelRefused {
    /// The channel.
    pub channel: Address,
    /// The reason.
    pub error: ChannelError,
}

/// Why a client may not subscribe to a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelError {
    /// What went wrong, for programs.
    pub code: ErrorCode,
    /// What went wrong, for people. The text may change.
    pub message: String,
}

/// A channel that the connection is subscribed to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelState {
    /// The channel.
    pub channel: Address,
    /// When the subscription ends, unless the client subscribes again. Absent
    /// if it lasts as long as the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Who is present. Absent if the client did not ask to be present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<Present>,
    /// The locks that are held. Absent if the client did not ask for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locks: Option<HeldLocks>,
    /// What was missed. Absent if the channel has no history.
    #[serde(flatten)]
    pub history: Option<HistoryPage>,
}

/// A page of a channel's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryPage {
    /// The channel's present epoch.
    pub epoch: Epoch,
    /// The number of the channel's newest message. Zero if there is none.
    pub seq: u64,
    /// Only in an answer to a position: whether no message after it is lost.
    /// All of them are in `messages` and the pages after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<bool>,
    /// Only if `recovered` is `false`: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<NotRecovered>,
    /// The messages after the position, without a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<MessageFrame>>,
    /// Whether more messages follow the last one: ask for them with `history`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<bool>,
}

/// Why messages cannot be recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NotRecovered {
    /// The position belongs to another history.
    Epoch,
    /// Some of the messages are no longer kept.
    Expired,
    /// More messages were missed than a subscription recovers.
    TooFar,
}

/// The `data` of an `unsubscribed` frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unsubscribed {
    /// The channels that the connection is no longer subscribed to.
    pub channels: Vec<ChannelName>,
    /// Why the server has ended the subscriptions. Absent in the reply to
    /// `unsubscribe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ErrorCode>,
}

/// The `data` of a `published` frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// The channel.
    pub channel: ChannelName,
    /// The `id` of the message.
    pub message_id: MessageId,
    /// The position of the message. Absent if it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// The `data` of a server's `history` frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// The channel.
    pub channel: Address,
    /// The messages.
    #[serde(flatten)]
    pub page: HistoryPage,
}

/// The `data` of a `synced` frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Synced {
    /// The channels in the order of the client's frame.
    pub channels: Vec<SyncedChannel>,
}

/// A channel as the server knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SyncedChannel {
    /// The channel.
    pub channel: Address,
    /// Whether the connection is subscribed. Always `true` for `@me` and `@all`.
    pub subscribed: bool,
    /// The channel's newest position. Absent if the channel has no history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Whether there is something after the client's position: ask for it with
    /// `history`. Absent if the client sent no position or the channel has no
    /// history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<bool>,
}
