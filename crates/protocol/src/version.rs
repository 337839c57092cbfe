//! The protocol's version.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The version of the protocol that a frame speaks: any `1.x`.
///
/// Additive changes raise the minor version, so a server reads every minor
/// version of its major one; what it writes says `1.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version;

/// Why a version was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not of the form `MAJOR.MINOR`.
    #[error("version must be a string of the form MAJOR.MINOR, like \"1.0\"")]
    Malformed,
    /// A major version that this server does not speak.
    #[error("this server speaks version 1.x")]
    Unsupported,
}

const WRITTEN: &str = "1.0";
const PATTERN: &str = "^1\\.(0|[1-9][0-9]{0,4})$";

impl Version {
    /// Reads `MAJOR.MINOR`, each a number of at most five digits.
    ///
    /// # Errors
    /// [`VersionError`]; a well-formed version with another major is
    /// [`VersionError::Unsupported`].
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
        json_schema!({"type": "string", "pattern": PATTERN})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_minor_of_major_one() {
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
