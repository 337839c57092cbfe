//! Tokens as clients send them.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

/// A token, not verified yet. Its debug output hides the text, because debug
/// output ends up in logs.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(description = "A token of the user pool, as a JWT.")]
pub struct BearerToken(String);

impl BearerToken {
    /// The text of the token, to verify it.
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
    fn debug_output_hides_the_token() {
        let token: BearerToken = serde_json::from_str("\"secret\"").unwrap();
        assert_eq!(token.reveal(), "secret");
        assert_eq!(format!("{token:?}"), "BearerToken(…)");
    }
}
