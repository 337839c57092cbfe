//! Messages that reach clients: notifications of servers and messages of other
//! clients.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Address, FrameId, Kind, Position, Timestamp, UserId, Version};

/// The fields of a message besides `type`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Message<D> {
    /// The protocol version that the sender used.
    pub version: Version,
    /// Identifies the message. Messages of different senders may have the same
    /// id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FrameId>,
    /// When the event that the message reports happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// Whom the message is for. Absent for messages to users or to everyone of
    /// which no history is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Address>,
    /// The message's position in the channel's history. Absent if the message
    /// is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The client that published the message. Only `message` frames have it,
    /// and they always do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Sender>,
    /// The content of the message.
    pub data: D,
    /// The `id` of the frame that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<FrameId>,
}

/// The client that published a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sender {
    /// The user whose token opened the connection.
    pub user_id: UserId,
}

/// The `data` of a `message` frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageData {
    /// What the message is about.
    pub kind: Kind,
    /// What the client published: any JSON value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// A message of a channel's history: a whole `notification` or `message` frame,
/// the same one that subscribers received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageFrame(String);

impl MessageFrame {
    /// A frame that Belfry made.
    #[must_use]
    pub fn new(json: String) -> Self {
        Self(json)
    }

    /// The frame as JSON.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Serialize for MessageFrame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let frame: &RawValue = serde_json::from_str(&self.0).map_err(ser::Error::custom)?;
        frame.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MessageFrame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let frame = serde_json::Map::<String, Value>::deserialize(deserializer)?;
        Ok(Self(Value::Object(frame).to_string()))
    }
}

impl JsonSchema for MessageFrame {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MessageFrame".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A whole `notification` or `message` frame, the same one that subscribers received.",
            "type": "object",
        })
    }
}
