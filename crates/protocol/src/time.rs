//! Timestamps in frames.

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::Offset;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time. In JSON it is RFC 3339 in UTC with a final `Z`, for example
/// `2026-02-09T18:11:43.822Z`.
// `jiff::Timestamp` ends a day before the year 9999 does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(DateTime);

/// The text is not a timestamp of the form that frames use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("timestamp must be RFC 3339 in UTC, like 2026-02-09T18:11:43.822Z")]
pub struct InvalidTimestamp;

/// Exactly the texts that the parser accepts, for the schema: every date of the
/// calendar, and 60 as a second, because leap seconds exist.
const PATTERN: &str = concat!(
    "^(",
    "[0-9]{4}-(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])",
    "|[0-9]{4}-(0[469]|11)-(0[1-9]|[12][0-9]|30)",
    "|[0-9]{4}-02-(0[1-9]|1[0-9]|2[0-8])",
    "|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29",
    r")T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]{1,9})?Z$",
);

impl Timestamp {
    /// Converts milliseconds since the Unix epoch. A time after the year 9999,
    /// which RFC 3339 cannot express, becomes the last moment of that year.
    #[must_use]
    pub fn from_millis(millis: u64) -> Self {
        let millis = i64::try_from(millis).unwrap_or(i64::MAX);
        let time = jiff::Timestamp::from_millisecond(millis);
        Self(time.map_or(DateTime::MAX, |time| Offset::UTC.to_datetime(time)))
    }

    /// Parses RFC 3339 in UTC, with 0 to 9 fractional digits. A leap second
    /// counts as the second before it.
    ///
    /// # Errors
    /// [`InvalidTimestamp`] for any other form, including other offsets.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        if !has_shape(text) {
            return Err(InvalidTimestamp);
        }
        let in_utc = text.trim_end_matches('Z');
        in_utc.parse().map(Self).map_err(|_| InvalidTimestamp)
    }
}

/// Whether the text has digits and separators where a timestamp has them.
/// jiff reads more forms than this one.
fn has_shape(text: &str) -> bool {
    let Some((seconds, rest)) = text.strip_suffix('Z').and_then(|t| t.split_at_checked(19)) else {
        return false;
    };
    let form_matches = seconds
        .bytes()
        .zip(b"dddd-dd-ddTdd:dd:dd")
        .all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            other => byte == *other,
        });
    let fraction_matches = match rest.strip_prefix('.') {
        Some(digits) => {
            (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
        }
        None => rest.is_empty(),
    };
    form_matches && fraction_matches
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}Z", self.0)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A point in time: RFC 3339 in UTC with a final `Z`, for example `2026-02-09T18:11:43.822Z`.",
            "type": "string",
            "format": "date-time",
            "pattern": PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_milliseconds_in_utc() {
        let time = Timestamp::from_millis(1_770_660_703_822);
        assert_eq!(time.to_string(), "2026-02-09T18:11:43.822Z");
        assert_eq!(
            Timestamp::from_millis(0).to_string(),
            "1970-01-01T00:00:00.000Z"
        );
        assert!(
            Timestamp::from_millis(u64::MAX)
                .to_string()
                .starts_with("9999-")
        );
    }

    #[test]
    fn parses_only_its_own_form() {
        assert!(Timestamp::parse("2026-02-09T18:11:43Z").is_ok());
        assert!(Timestamp::parse("2026-02-09T18:11:43.1Z").is_ok());
        let last = Timestamp::parse("9999-12-31T23:59:59.999999999Z").unwrap();
        assert_eq!(last, Timestamp::from_millis(u64::MAX));
        assert_eq!(last.to_string(), "9999-12-31T23:59:59.999Z");
        for wrong in [
            "",
            "Z",
            "2026-02-09",
            "2026-02-09T18:11:43",
            "2026-02-09T18:11:43+00:00",
            "2026-02-09 18:11:43Z",
            "2026-13-09T18:11:43Z",
            "2026-02-09T18:11:43.Z",
            "2026-02-09T18:11:43.1234567890Z",
            "202é-02-09T18:11:43Z",
        ] {
            assert!(Timestamp::parse(wrong).is_err(), "{wrong}");
        }
    }
}
