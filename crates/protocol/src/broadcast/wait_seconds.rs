use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// The longest that a caller may wait for a broadcast to finish, in seconds.
/// AWS's SDKs give up on an invocation after 60 seconds; this leaves room.
pub const MAX_WAIT_SECONDS: u8 = 20;

/// How long a caller waits for a broadcast to finish, in seconds. `null`
/// counts as 0, like an absent field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct WaitSeconds(pub u8);

impl JsonSchema for WaitSeconds {
    fn schema_name() -> Cow<'static, str> {
        "WaitSeconds".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["integer", "null"], "minimum": 0, "maximum": MAX_WAIT_SECONDS})
    }
}

/// Reads the seconds, with errors that name the field.
struct WaitSecondsVisitor;

impl<'de> de::Visitor<'de> for WaitSecondsVisitor {
    type Value = WaitSeconds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "waitSeconds to be an integer from 0 to {MAX_WAIT_SECONDS}"
        )
    }

    fn visit_none<E>(self) -> Result<WaitSeconds, E> {
        Ok(WaitSeconds::default())
    }

    // What a buffered `null` becomes.
    fn visit_unit<E>(self) -> Result<WaitSeconds, E> {
        Ok(WaitSeconds::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<WaitSeconds, D::Error> {
        deserializer.deserialize_u8(self)
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<WaitSeconds, E> {
        match u8::try_from(seconds) {
            Ok(seconds @ ..=MAX_WAIT_SECONDS) => Ok(WaitSeconds(seconds)),
            _ => Err(E::invalid_value(de::Unexpected::Unsigned(seconds), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for WaitSeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(WaitSecondsVisitor)
    }
}
