//! The protocol's version.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The protocol version of a frame: any `1.x`.
///
/// Additive changes raise the minor version, so a server accepts every minor
/// version of its major version. It writes `1.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version;

/// The reason why a version is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// The text does not have the form `MAJOR.MINOR`.
    #[error("version must be a string of the form MAJOR.MINOR, like \"1.0\"")]
    Malformed,
    /// The server does not support this major version.
    #[error("version is not supported; this server supports 1.x")]
    Unsupported,
}

const WRITTEN: &str = "1.0";
const PATTERN: &str = "^1\\.(0|[1-9][0-9]{0,4})$";

impl Version {
    /// Parses `MAJOR.MINOR`, two numbers of at most five digits.
    ///
    /// # Errors
    /// [`VersionError::Unsupported`] if the text is well formed but the major
    /// version is not 1.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let is_number = |part: &str| {
            (1..=5).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_digit())
                && (part == "0" || !part.starts_with('0'))
        };
        match text.split_once('.') {
            Some(("1", minor)) if is_number(minor) => Ok(Self),
            Some((major, minor)) if is_number(major) && is_number(minor) => {
                Err(VersionError::Unsupported)
            }
            _ => Err(VersionError::Malformed),
        }
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(WRITTEN)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl JsonSchema for Version {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The protocol version, `1.x`. Belfry writes `1.0`.",
            "type": "string",
            "pattern": PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_every_minor_version_of_major_1() {
        for text in ["1.0", "1.1", "1.99999"] {
            assert_eq!(Version::parse(text), Ok(Version), "{text}");
        }
        for text in ["0.9", "2.0", "11.0", "99999.1"] {
            assert_eq!(
                Version::parse(text),
                Err(VersionError::Unsupported),
                "{text}"
            );
        }
        for text in [
            "", "1", "1.", ".0", "1.0.0", "01.0", "1.00", "v1.0", "1.0 ", "1.100000", "1.-1",
        ] {
            assert_eq!(Version::parse(text), Err(VersionError::Malformed), "{text}");
        }
    }
}
