//! The `data` of frames about calls.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use crate::InvalidText;

/// The `data` of a `call` frame.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Call {
    /// What the application is asked to do.
    pub action: CallAction,
    /// What it needs for that: any JSON value.
    #[serde(default)]
    pub data: Option<Value>,
}

const MAX_ACTION_BYTES: usize = 64;

const ACTION_RULE: &str = "1 to 64 characters of A-Z a-z 0-9 - _ . :";

/// The name of something that the application does for clients, like
/// `quote.edit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct CallAction(String);

impl CallAction {
    /// Checks the length and the characters.
    ///
    /// # Errors
    /// [`InvalidText`], which says what the type allows.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidText> {
        let text = text.into();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        if (1..=MAX_ACTION_BYTES).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(InvalidText::new("action", ACTION_RULE))
        }
    }
}

impl fmt::Display for CallAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for CallAction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = CallAction;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "action to be {ACTION_RULE}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CallAction, E> {
                CallAction::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl JsonSchema for CallAction {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CallAction".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": format!("The name of something that the application does for clients: {ACTION_RULE}."),
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_ACTION_BYTES,
            "pattern": "^[A-Za-z0-9_.:-]+$",
        })
    }
}
