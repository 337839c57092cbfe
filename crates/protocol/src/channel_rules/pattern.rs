//! Which channels a rule is about.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{ChannelName, InvalidText};

const MAX_CLAIM_BYTES: usize = 64;

const RULE: &str = "segments joined by \":\", each a name, \"*\" for any one, or \"{claim}\" for a claim of the token; the last can be \"**\" for all that follow; like room:*, user:{sub} or demo:**";

/// Equal to [`ChannelPattern::parse`], as `tests/formats/patterns.rs` proves.
const SCHEMA: &str = r"^(\*\*|(\*|\{[!-z|~]{1,64}\}|[A-Za-z0-9_.=,;+~-][A-Za-z0-9_.=,;+~@-]*)(:(\*|\{[!-z|~]{1,64}\}|[A-Za-z0-9_.=,;+~@-]+))*(:\*\*)?)$";

/// The `match` of a rule: a channel's name with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelPattern {
    text: String,
    segments: Vec<PatternSegment>,
}

/// A part of a [`ChannelPattern`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternSegment {
    /// This very segment.
    Name(String),
    /// `{claim}`: a segment that equals the claim's value, or one of them.
    Claim(String),
    /// `*`: any one segment.
    Any,
    /// `**`: one or more segments. It is always the last.
    Rest,
}

impl ChannelPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`InvalidText`], which says what a pattern is.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidText> {
        let text = text.into();
        match Self::split(&text) {
            Some(segments) if !text.starts_with('@') => Ok(Self { segments, text }),
            _ => Err(InvalidText::new("match", RULE)),
        }
    }

    /// Splits at the colons outside braces.
    fn split(text: &str) -> Option<Vec<PatternSegment>> {
        let (mut segments, mut rest) = (Vec::new(), text);
        loop {
            let (segment, after) = if let Some(inside) = rest.strip_prefix('{') {
                let (claim, after) = inside.split_once('}')?;
                (Self::claim(claim)?, after)
            } else {
                let end = rest.find(':').unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                let segment = match word {
                    "*" => PatternSegment::Any,
                    "**" => PatternSegment::Rest,
                    name if ChannelName::is_segment(name) => PatternSegment::Name(name.to_owned()),
                    _ => return None,
                };
                (segment, after)
            };
            let is_rest = segment == PatternSegment::Rest;
            segments.push(segment);
            if after.is_empty() {
                return Some(segments);
            }
            rest = after.strip_prefix(':').filter(|_| !is_rest)?;
        }
    }

    fn claim(name: &str) -> Option<PatternSegment> {
        let valid = (1..=MAX_CLAIM_BYTES).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_graphic() && b != b'{');
        valid.then(|| PatternSegment::Claim(name.to_owned()))
    }

    /// The segments: at least one.
    #[must_use]
    pub fn segments(&self) -> &[PatternSegment] {
        &self.segments
    }

    /// The claims that the pattern names.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            PatternSegment::Claim(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether the pattern has a `*` or `**`, so that claims alone do not make
    /// it a channel's name.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        let is_wildcard = |segment| matches!(segment, &PatternSegment::Any | &PatternSegment::Rest);
        self.segments.iter().any(is_wildcard)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ChannelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for ChannelPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for ChannelPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl JsonSchema for ChannelPattern {
    fn schema_name() -> Cow<'static, str> {
        "ChannelPattern".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": SCHEMA})
    }
}

#[cfg(test)]
mod tests {
    use super::PatternSegment::{Any, Claim, Name, Rest};
    use super::*;

    #[test]
    fn a_pattern_is_split_outside_braces() {
        let name = |text: &str| Name(text.into());
        let claim = |text: &str| Claim(text.into());
        for (text, segments) in [
            ("room", vec![name("room")]),
            ("**", vec![Rest]),
            ("*", vec![Any]),
            ("demo:**", vec![name("demo"), Rest]),
            ("*:a@b:*", vec![Any, name("a@b"), Any]),
            ("{sub}", vec![claim("sub")]),
            (
                "tenant:{custom:tenant}:**",
                vec![name("tenant"), claim("custom:tenant"), Rest],
            ),
            (
                "{https://x.test/a*|~}:7",
                vec![claim("https://x.test/a*|~"), name("7")],
            ),
        ] {
            let pattern = ChannelPattern::parse(text).unwrap();
            assert_eq!(pattern.segments(), segments, "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let long = format!("{{{}}}", "x".repeat(65));
        for wrong in [
            "", ":", "a:", ":a", "a::b", "@me", "@all", "@", "a b", "a/b", "a*", "***", "**:a",
            "a:**:b", "a:**b", "{}", "{a", "a}", "{a}b", "b{a}", "{a{b}", "{{a}}", "{a b}", "{ü}",
            "ü", "{a}:", "{a}{b}", "a\n", &long,
        ] {
            let error = ChannelPattern::parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with("match must be segments"), "{wrong:?}");
        }
    }
}
