//! Identifiers that come from outside, each a bounded piece of text.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// A text was empty, too long, or held a character that its type forbids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} must be {expected}")]
pub struct InvalidText {
    name: &'static str,
    expected: String,
}

/// What a type of text allows.
struct Rule {
    /// The name of the field that usually holds it: error messages say it.
    name: &'static str,
    max_chars: usize,
    /// Only visible ASCII (`!` to `~`); otherwise everything but control characters.
    ascii: bool,
}

impl Rule {
    fn expected(&self) -> String {
        let characters = if self.ascii {
            "visible ASCII characters"
        } else {
            "characters, none of them a control character"
        };
        format!("a string of 1 to {} {characters}", self.max_chars)
    }

    fn check(&self, text: &str) -> Result<(), InvalidText> {
        let chars = text.chars().take(self.max_chars + 1).count();
        let allowed = |c: char| {
            if self.ascii {
                c.is_ascii_graphic()
            } else {
                !c.is_ascii_control()
            }
        };
        if (1..=self.max_chars).contains(&chars) && text.chars().all(allowed) {
            return Ok(());
        }
        Err(InvalidText {
            name: self.name,
            expected: self.expected(),
        })
    }

    fn schema(&self) -> Schema {
        let pattern = if self.ascii {
            "^[!-~]+$"
        } else {
            "^[^\\u0000-\\u001f\\u007f]+$"
        };
        json_schema!({"type": "string", "minLength": 1, "maxLength": self.max_chars, "pattern": pattern})
    }
}

/// Reads a string and checks it, with errors that name the field.
struct TextVisitor(&'static Rule);

impl de::Visitor<'_> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.0.name, self.0.expected())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        self.0.check(text).map_err(E::custom)?;
        Ok(text.to_owned())
    }
}

macro_rules! text_type {
    ($(#[$doc:meta])* $type:ident, $rule:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $type(String);

        impl $type {
            const RULE: &'static Rule = &$rule;

            /// Checks the text against this type's rule.
            ///
            /// # Errors
            /// [`InvalidText`], which says what is expected.
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidText> {
                let text = text.into();
                Self::RULE.check(&text)?;
                Ok(Self(text))
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(TextVisitor(Self::RULE)).map(Self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                Self::RULE.schema()
            }
        }

        impl crate::list::Item for $type {
            const NAME: &'static str = Self::RULE.name;
        }
    };
}

text_type! {
    /// The name that API Gateway gives a connection, opaque: 1 to 128 visible ASCII characters.
    ConnectionId, Rule { name: "connectionId", max_chars: 128, ascii: true }
}
text_type! {
    /// The user a connection belongs to, as the token's claim says: 1 to 128 characters.
    UserId, Rule { name: "userId", max_chars: 128, ascii: false }
}
text_type! {
    /// The idempotency key of a broadcast and the `id` of its frames: 1 to 128 visible ASCII characters.
    MessageId, Rule { name: "messageId", max_chars: 128, ascii: true }
}
text_type! {
    /// A client's own name for a frame, which the reply repeats as `correlationId`: 1 to 128 characters.
    FrameId, Rule { name: "id", max_chars: 128, ascii: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters() {
        assert!(UserId::parse("ü".repeat(128)).is_ok());
        assert!(UserId::parse("ü".repeat(129)).is_err());
        assert!(UserId::parse("").is_err());
    }

    #[test]
    fn connection_ids_are_visible_ascii() {
        assert!(ConnectionId::parse("R0oXAdfD0kwCH6w=").is_ok());
        for wrong in ["", "a b", "a\n", "ü", &"x".repeat(129)] {
            assert!(ConnectionId::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_wrong_type_is_named_in_the_error() {
        let error = serde_json::from_str::<UserId>("5").unwrap_err().to_string();
        assert!(error.contains("userId, a string of 1 to 128"), "{error}");
    }
}
