//! What a rule allows.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a client may do in a channel.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Receive the channel's messages and read its history.
    Subscribe,
    /// Send messages to the channel.
    Publish,
    /// See who is there.
    Presence,
    /// Take the channel's locks.
    Lock,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Subscribe, Self::Publish, Self::Presence, Self::Lock];

    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Presence => "presence",
            Self::Lock => "lock",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The actions that a rule allows: at least one, each once, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct AllowedActions(Vec<Action>);

impl AllowedActions {
    /// The actions.
    #[must_use]
    pub fn as_slice(&self) -> &[Action] {
        &self.0
    }
}

/// The `allow` of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// These actions.
    Actions(AllowedActions),
    /// `"ask"`: the application's function decides.
    Ask,
}

impl Allow {
    /// Whether the rule itself allows an action. A rule that asks does not.
    #[must_use]
    pub fn allows(&self, action: Action) -> bool {
        match self {
            Self::Actions(actions) => actions.0.contains(&action),
            Self::Ask => false,
        }
    }
}

const ASK: &str = "ask";

impl Serialize for Allow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Actions(actions) => actions.serialize(serializer),
            Self::Ask => serializer.serialize_str(ASK),
        }
    }
}

struct AllowVisitor;

impl<'de> de::Visitor<'de> for AllowVisitor {
    type Value = Allow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "\"ask\" or a list of one or more of subscribe, publish, presence, lock, each once",
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Allow, E> {
        if text == ASK {
            return Ok(Allow::Ask);
        }
        Err(E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Allow, A::Error> {
        let mut actions = Vec::new();
        while let Some(word) = items.next_element::<String>()? {
            let known = Action::ALL.into_iter().find(|one| one.as_str() == word);
            match known {
                Some(action) if !actions.contains(&action) => actions.push(action),
                _ => return Err(de::Error::invalid_value(de::Unexpected::Str(&word), &self)),
            }
        }
        if actions.is_empty() {
            return Err(de::Error::invalid_length(0, &self));
        }
        Ok(Allow::Actions(AllowedActions(actions)))
    }
}

impl<'de> Deserialize<'de> for Allow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AllowVisitor)
    }
}

impl JsonSchema for Allow {
    fn schema_name() -> Cow<'static, str> {
        "Allow".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                {
                    "type": "array",
                    "items": {"type": "string", "enum": Action::ALL.map(Action::as_str)},
                    "minItems": 1,
                    "uniqueItems": true,
                },
                {"type": "string", "const": ASK},
            ],
        })
    }
}
