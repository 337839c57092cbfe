//! A token on the wire.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

/// A token as it came, good or not. It never shows itself: what is printed for
/// debugging ends in logs.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct BearerToken(String);

impl BearerToken {
    /// The token itself, for whoever judges it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for BearerToken {
    fn from(token: &str) -> Self {
        Self(token.to_owned())
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debugging_shows_no_token() {
        let token: BearerToken = serde_json::from_str("\"secret\"").unwrap();
        assert_eq!(token.reveal(), "secret");
        assert_eq!(format!("{token:?}"), "BearerToken(…)");
    }
}
