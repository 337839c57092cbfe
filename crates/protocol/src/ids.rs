//! Identifiers from outside: texts of bounded length.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// The text is empty, too long, or contains a character that its type forbids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} must be {expected}")]
pub struct InvalidText {
    name: &'static str,
    expected: String,
}

impl InvalidText {
    pub(crate) fn new(name: &'static str, expected: impl Into<String>) -> Self {
        Self {
            name,
            expected: expected.into(),
        }
    }
}

/// The rule that a type of text follows.
struct Rule {
    /// What error messages call the text: the field that usually holds it.
    name: &'static str,
    description: &'static str,
    max_chars: usize,
    /// Whether only visible ASCII (`!` to `~`) is allowed. Otherwise every
    /// character is, except control characters (U+0000 to U+001F and U+007F to
    /// U+009F).
    ascii: bool,
}

impl Rule {
    fn expected(&self) -> String {
        let characters = if self.ascii {
            "visible ASCII characters"
        } else {
            "characters without control characters"
        };
        format!("a string of 1 to {} {characters}", self.max_chars)
    }

    fn check(&self, text: &str) -> Result<(), InvalidText> {
        let chars = text.chars().take(self.max_chars + 1).count();
        let allowed = |c: char| {
            if self.ascii {
                c.is_ascii_graphic()
            } else {
                !c.is_control()
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
            "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"
        };
        json_schema!({
            "description": self.description,
            "type": "string",
            "minLength": 1,
            "maxLength": self.max_chars,
            "pattern": pattern,
        })
    }
}

/// Reads a string and checks it, with errors that name the field.
struct TextVisitor(&'static Rule);

impl de::Visitor<'_> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to be {}", self.0.name, self.0.expected())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        self.0.check(text).map_err(E::custom)?;
        Ok(text.to_owned())
    }
}

macro_rules! text_type {
    (
        #[doc = $doc:literal] $type:ident,
        name: $name:literal,
        max_chars: $max_chars:literal,
        ascii: $ascii:literal
    ) => {
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $type(String);

        impl $type {
            const RULE: &'static Rule = &Rule {
                name: $name,
                description: $doc.trim_ascii(),
                max_chars: $max_chars,
                ascii: $ascii,
            };

            /// Checks the length and the characters.
            ///
            /// # Errors
            /// [`InvalidText`], which says what the type allows.
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidText> {
                let text = text.into();
                Self::RULE.check(&text)?;
                Ok(Self(text))
            }

            /// The text.
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
                deserializer
                    .deserialize_str(TextVisitor(Self::RULE))
                    .map(Self)
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
    /// The opaque id that API Gateway gives a connection: 1 to 128 visible ASCII characters.
    ConnectionId, name: "connectionId", max_chars: 128, ascii: true
}
text_type! {
    /// The user of a connection, from a claim of the token: 1 to 128 characters without control characters.
    UserId, name: "userId", max_chars: 128, ascii: false
}
text_type! {
    /// The idempotency key of a broadcast and the `id` of its frames: 1 to 128 visible ASCII characters.
    MessageId, name: "messageId", max_chars: 128, ascii: true
}
text_type! {
    /// Names one history of a channel: 1 to 64 visible ASCII characters. Positions of different epochs cannot be compared.
    Epoch, name: "epoch", max_chars: 64, ascii: true
}
text_type! {
    /// What a message is about: 1 to 64 characters without control characters.
    Kind, name: "kind", max_chars: 64, ascii: false
}
text_type! {
    /// The sender's id for a frame: 1 to 128 characters without control characters.
    FrameId, name: "a frame id", max_chars: 128, ascii: false
}

text_type! {
    /// A group of users, as the token's claim `cognito:groups` names it: 1 to 128 characters without control characters.
    Group, name: "group", max_chars: 128, ascii: false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_limit_counts_characters() {
        assert!(UserId::parse("ü".repeat(128)).is_ok());
        assert!(UserId::parse("ü".repeat(129)).is_err());
        assert!(UserId::parse("").is_err());
    }

    #[test]
    fn control_characters_are_refused() {
        for control in ('\0'..'\u{100}').filter(|c| c.is_control()) {
            assert!(
                UserId::parse(format!("a{control}b")).is_err(),
                "{control:?}"
            );
            assert!(FrameId::parse(control).is_err(), "{control:?}");
        }
        assert!(UserId::parse("\u{a0}ü\u{200d}").is_ok());
    }

    #[test]
    fn a_connection_id_is_visible_ascii() {
        assert!(ConnectionId::parse("R0oXAdfD0kwCH6w=").is_ok());
        for wrong in ["", "a b", "a\n", "ü", &"x".repeat(129)] {
            assert!(ConnectionId::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_error_about_a_wrong_type_names_the_field() {
        let error = serde_json::from_str::<UserId>("5").unwrap_err().to_string();
        assert!(
            error.contains("userId to be a string of 1 to 128"),
            "{error}"
        );
    }
}
