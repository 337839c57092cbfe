//! How long messages are kept.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

const SHORTEST: u32 = 60;
const LONGEST: u32 = 30 * 24 * 3_600;

/// A history: its messages can be recovered for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryRule {
    /// How long a message is kept, in seconds: a minute to 30 days.
    seconds: Seconds,
}

impl HistoryRule {
    /// How long a message is kept, in seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.seconds.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
struct Seconds(u32);

struct SecondsVisitor;

impl de::Visitor<'_> for SecondsVisitor {
    type Value = Seconds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seconds to be an integer from {SHORTEST} to {LONGEST}")
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Seconds, E> {
        match u32::try_from(seconds) {
            Ok(seconds @ SHORTEST..=LONGEST) => Ok(Seconds(seconds)),
            _ => Err(E::invalid_value(de::Unexpected::Unsigned(seconds), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(SecondsVisitor)
    }
}

impl JsonSchema for Seconds {
    fn schema_name() -> Cow<'static, str> {
        "Seconds".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": SHORTEST, "maximum": LONGEST})
    }
}
