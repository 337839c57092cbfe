//! The `data` of frames about who is present in a channel.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use crate::{ChannelName, Timestamp, UserId};

/// The longest `info`, in bytes of JSON.
pub const MAX_PRESENCE_INFO_BYTES: usize = 1_024;

/// What a user tells the others in a channel: a JSON object of at most
/// [`MAX_PRESENCE_INFO_BYTES`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PresenceInfo(Map<String, Value>);

impl PresenceInfo {
    /// The object as compact JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Every key is a string.
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// Reads what [`Self::to_json`] wrote.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl<'de> Deserialize<'de> for PresenceInfo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let info = Self(Map::deserialize(deserializer)?);
        if info.to_json().len() > MAX_PRESENCE_INFO_BYTES {
            return Err(de::Error::custom(format_args!(
                "must be an object of at most {MAX_PRESENCE_INFO_BYTES} bytes of JSON"
            )));
        }
        Ok(info)
    }
}

impl JsonSchema for PresenceInfo {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PresenceInfo".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "What a user tells the others in a channel: at most 1,024 bytes of JSON.",
        })
    }
}

/// The `data` of a client's `presence` frame.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct ReadPresence {
    /// The channel.
    pub channel: ChannelName,
}

/// The `data` of a server's `presence` frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PresentInChannel {
    /// The channel.
    pub channel: ChannelName,
    /// Who is present.
    #[serde(flatten)]
    pub present: Present,
}

/// Who is present in a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Present {
    /// The users who are present, in no particular order.
    pub members: Vec<Member>,
    /// The number of users who are present. If there are more than `members`
    /// has, it may be some minutes old.
    pub count: u64,
    /// `true` if there are more users than `members` has, otherwise absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A user who is present in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The user.
    pub user_id: UserId,
    /// How many connections of the user are present. Zero if the user has
    /// gone and may come back within the grace period.
    pub connections: u64,
    /// What the user last told the others.
    pub info: PresenceInfo,
}

/// The `data` of `presence.joined`, `presence.left` and `presence.updated`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PresenceChange {
    /// The channel.
    pub channel: ChannelName,
    /// The user. Absent in a `presence.updated` that tells the count alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// What the user tells the others. `presence.left` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<PresenceInfo>,
    /// The number of users who are present.
    pub count: u64,
    /// When the user's presence changed, or the users were counted. Of two
    /// changes of a user's presence, and of two counts, the later one holds,
    /// whichever arrives first.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_a_small_object() {
        let long = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
        let fits = long(MAX_PRESENCE_INFO_BYTES);
        assert_eq!(
            PresenceInfo::from_json(&fits).map(|info| info.to_json()),
            Some(fits)
        );
        for wrong in [
            long(MAX_PRESENCE_INFO_BYTES + 1).as_str(),
            "[]",
            "null",
            "\"a\"",
        ] {
            assert_eq!(PresenceInfo::from_json(wrong), None, "{wrong}");
        }
    }
}
