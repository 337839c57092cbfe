//! The names of locks, and the `data` of frames about locks.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{ChannelName, InvalidText, Timestamp, UserId};

/// The most locks that a connection may hold.
pub const MAX_LOCKS: usize = 20;

const MAX_NAME_BYTES: usize = 128;

const NAME_RULE: &str =
    "1 to 128 characters of A-Z a-z 0-9 - _ . = , ; + ~ @ in segments joined by \":\"";

/// The name of a lock in its channel, like `title` or `cell:7`: segments joined
/// by colons.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct LockName(String);

impl LockName {
    /// Checks the length, the segments and their characters.
    ///
    /// # Errors
    /// [`InvalidText`], which says what a name is.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidText> {
        let text = text.into();
        if text.len() <= MAX_NAME_BYTES && text.split(':').all(ChannelName::is_segment) {
            Ok(Self(text))
        } else {
            Err(InvalidText::new("name", NAME_RULE))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

struct NameVisitor;

impl de::Visitor<'_> for NameVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "name to be {NAME_RULE}")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

impl<'de> Deserialize<'de> for LockName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_str(NameVisitor)?;
        Self::parse(text).map_err(de::Error::custom)
    }
}

impl JsonSchema for LockName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LockName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": format!("The name of a lock in its channel: {NAME_RULE}."),
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_NAME_BYTES,
            "pattern": "^[A-Za-z0-9_.=,;+~@-]+(:[A-Za-z0-9_.=,;+~@-]+)*$",
        })
    }
}

/// The `data` of a `lock` frame.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Lock {
    /// The channel. The connection must be subscribed to it.
    pub channel: ChannelName,
    /// The lock's name in the channel.
    pub name: LockName,
    /// How long the connection holds the lock unless it locks again, in seconds,
    /// 5 to 300. The default is 30.
    #[serde(default)]
    pub seconds: LockSeconds,
}

/// How long a lock is held, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockSeconds(pub u32);

const SHORTEST: u32 = 5;

const LONGEST: u32 = 300;

impl Default for LockSeconds {
    fn default() -> Self {
        Self(30)
    }
}

impl<'de> Deserialize<'de> for LockSeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<u32>::deserialize(deserializer)? {
            None => Ok(Self::default()),
            Some(seconds @ SHORTEST..=LONGEST) => Ok(Self(seconds)),
            Some(_) => Err(de::Error::custom(format_args!(
                "seconds must be an integer from {SHORTEST} to {LONGEST}"
            ))),
        }
    }
}

impl JsonSchema for LockSeconds {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LockSeconds".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "null"],
            "minimum": SHORTEST,
            "maximum": LONGEST,
        })
    }
}

/// The `data` of an `unlock` frame.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Unlock {
    /// The channel.
    pub channel: ChannelName,
    /// The lock's name in the channel. The connection need not hold it.
    pub name: LockName,
}

/// The `data` of a `locked` frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Locked {
    /// The channel.
    pub channel: ChannelName,
    /// The lock's name in the channel.
    pub name: LockName,
    /// Until when the connection holds the lock, unless it locks again.
    pub until: Timestamp,
    /// The fencing number. It rises with every new holder, so that whoever
    /// stores what the holder writes can refuse a former holder.
    pub fencing: u64,
}

/// The `data` of an `unlocked` frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unlocked {
    /// The channel.
    pub channel: ChannelName,
    /// The lock's name in the channel.
    pub name: LockName,
}

/// The connection that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The user whose token opened the connection.
    pub user_id: UserId,
}

/// The locks of a channel that are held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldLocks {
    /// The locks, in no particular order. The others are free.
    pub held: Vec<HeldLock>,
    /// `true` if there may be more than `held` has, otherwise absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A lock that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldLock {
    /// The lock's name in the channel.
    pub name: LockName,
    /// Who holds the lock.
    pub holder: Holder,
    /// Until when, unless the holder locks again.
    pub until: Timestamp,
    /// The fencing number of the holder.
    pub fencing: u64,
}

/// The `data` of a `lock.changed` frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LockChanged {
    /// The channel.
    pub channel: ChannelName,
    /// The lock's name in the channel.
    pub name: LockName,
    /// Who holds the lock. Absent if it is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// Until when, unless the holder locks again. Absent if the lock is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The fencing number of the holder, or of the last one.
    pub fencing: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_segments_of_name_characters() {
        for good in ["title", "cell:7", "@x", "a:@b", &"x".repeat(128)] {
            assert_eq!(LockName::parse(good).unwrap().as_str(), good);
        }
        for wrong in ["", ":", "a:", "a::b", "a b", "a#b", "ü", &"x".repeat(129)] {
            let error = LockName::parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with("name must be 1 to 128"), "{wrong:?}");
        }
        let wrong_type = serde_json::from_str::<LockName>("7").unwrap_err();
        assert!(wrong_type.to_string().contains("name to be 1 to 128"));
    }

    #[test]
    fn seconds_have_bounds_and_a_default() {
        let read = |text| serde_json::from_str::<LockSeconds>(text).map(|seconds| seconds.0);
        for (text, seconds) in [("null", 30), ("5", 5), ("300", 300)] {
            assert_eq!(read(text).unwrap(), seconds);
        }
        for wrong in ["4", "301", "-1", "5.5", "\"9\""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
