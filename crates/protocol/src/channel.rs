//! The addresses of messages: channels, a user's own connections, everybody.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::InvalidText;

const MAX_NAME_BYTES: usize = 128;

const NAME_RULE: &str = "1 to 128 characters of A-Z a-z 0-9 - _ . = , ; + ~ @ in segments joined by \":\", not beginning with \"@\"";

macro_rules! name_pattern {
    () => {
        "[A-Za-z0-9_.=,;+~-][A-Za-z0-9_.=,;+~@-]*(:[A-Za-z0-9_.=,;+~@-]+)*"
    };
}

/// The name of a channel, like `room:7`: segments joined by colons.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ChannelName(String);

impl ChannelName {
    /// Checks the length, the segments and their characters.
    ///
    /// # Errors
    /// [`InvalidText`], which says what a name is.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidText> {
        let text = text.into();
        let valid = text.len() <= MAX_NAME_BYTES
            && !text.starts_with('@')
            && text.split(':').all(Self::is_segment);
        if valid {
            Ok(Self(text))
        } else {
            Err(InvalidText::new("channel", NAME_RULE))
        }
    }

    /// Whether a text can be a segment of a name. The first segment of a name
    /// cannot begin with `@`, though.
    #[must_use]
    pub fn is_segment(text: &str) -> bool {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.=,;+~@".contains(&b))
    }

    /// The parts between the colons: at least one, none empty.
    pub fn segments(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.split(':')
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ChannelName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_str(TextVisitor(NAME_RULE))?;
        Self::parse(text).map_err(de::Error::custom)
    }
}

impl JsonSchema for ChannelName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ChannelName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": format!("The name of a channel: {NAME_RULE}."),
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_NAME_BYTES,
            "pattern": concat!("^", name_pattern!(), "$"),
        })
    }
}

impl crate::list::Item for ChannelName {
    const NAME: &'static str = "channel";
}

const ME: &str = "@me";
const ALL: &str = "@all";
const ADDRESS_RULE: &str = "\"@me\", \"@all\" or the name of a channel: 1 to 128 characters of A-Z a-z 0-9 - _ . = , ; + ~ @ in segments joined by \":\"";

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// `@me`: every connection of the user who says so.
    Me,
    /// `@all`: every connection.
    All,
    /// The subscribers of a channel.
    Channel(ChannelName),
}

impl Address {
    /// Reads `@me`, `@all` or the name of a channel.
    ///
    /// # Errors
    /// [`InvalidText`], which says what an address is.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidText> {
        let text = text.into();
        match text.as_str() {
            ME => Ok(Self::Me),
            ALL => Ok(Self::All),
            _ => ChannelName::parse(text)
                .map(Self::Channel)
                .map_err(|_| InvalidText::new("channel", ADDRESS_RULE)),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Me => ME,
            Self::All => ALL,
            Self::Channel(name) => name.as_str(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_str(TextVisitor(ADDRESS_RULE))?;
        Self::parse(text).map_err(de::Error::custom)
    }
}

impl JsonSchema for Address {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`@me` (the user's own connections), `@all` (every connection), or the name of a channel.",
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_NAME_BYTES,
            "pattern": concat!("^(@me|@all|", name_pattern!(), ")$"),
        })
    }
}

impl crate::list::Item for Address {
    const NAME: &'static str = "channel";
}

/// Reads a string, with errors that name the field.
struct TextVisitor(&'static str);

impl de::Visitor<'_> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel to be {}", self.0)
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_segments_of_name_characters() {
        let longest = "x".repeat(128);
        for good in ["room:7", "a", "A-Z_.=,;+~:@me", "a:b:c:d", &longest] {
            assert_eq!(ChannelName::parse(good).unwrap().as_str(), good);
        }
        let too_long = "x".repeat(129);
        for wrong in [
            "", ":", "a:", ":a", "a::b", "@me", "@all", "@", "a b", "a/b", "a*", "*", "a:{sub}",
            "ü", "a\n", "a\0", &too_long,
        ] {
            let error = ChannelName::parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with("channel must be 1 to 128"), "{wrong:?}");
        }
    }

    #[test]
    fn a_name_gives_its_segments() {
        let name = ChannelName::parse("tenant:acme:orders").unwrap();
        assert!(name.segments().eq(["tenant", "acme", "orders"]));
    }

    #[test]
    fn an_address_is_one_text() {
        for (text, address) in [
            ("@me", Address::Me),
            ("@all", Address::All),
            (
                "room:7",
                Address::Channel(ChannelName::parse("room:7").unwrap()),
            ),
        ] {
            let json = format!("\"{text}\"");
            assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
            assert_eq!(serde_json::to_string(&address).unwrap(), json);
        }
    }

    #[test]
    fn errors_name_the_field_and_never_the_value() {
        for wrong in ["\"@nobody\"", "\"a b\"", "987", "[\"a b\"]"] {
            let of_name = serde_json::from_str::<ChannelName>(wrong).unwrap_err();
            let of_address = serde_json::from_str::<Address>(wrong).unwrap_err();
            for error in [of_name.to_string(), of_address.to_string()] {
                assert!(error.contains("channel"), "{error}");
                let repeated = ["nobody", "a b"].iter().any(|value| error.contains(value));
                assert!(!repeated, "{error}");
            }
        }
    }
}
