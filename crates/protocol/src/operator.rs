//! What operators ask of Belfry, and the reports they get.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{InvalidRequest, UserId, request};

/// A request from an operator. `action` selects what to do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    tag = "action",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum OperatorRequest {
    /// Sign a user out: close all of their connections, and accept no token
    /// that was issued before now.
    SignOut {
        /// The user to sign out.
        user_id: UserId,
    },
}

impl OperatorRequest {
    /// Parses a request.
    ///
    /// # Errors
    /// [`InvalidRequest`], which names the field.
    pub fn parse(text: &str) -> Result<Self, InvalidRequest> {
        request::parse(text, &[])
    }
}

/// The report for an operator's request. Its shape depends on the `action`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OperatorReport {
    /// For `signOut`.
    SignOut(SignOutReport),
}

/// Result of signing a user out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignOutReport {
    /// Connections that were closed.
    pub closed: u64,
    /// Connections that could not be closed. Repeating the request is safe.
    pub failed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_strictly() {
        let sign_out = OperatorRequest::parse(r#"{"action":"signOut","userId":"alice"}"#);
        let user_id = UserId::parse("alice").unwrap();
        assert_eq!(sign_out, Ok(OperatorRequest::SignOut { user_id }));
        for (wrong, names) in [
            ("{}", "action"),
            ("[]", "object"),
            (r#"{"action":"dance"}"#, "dance"),
            (r#"{"action":"sweep"}"#, "sweep"),
            (r#"{"action":"signOut"}"#, "userId"),
            (r#"{"action":"signOut","userId":""}"#, "userId"),
            (r#"{"action":"signOut","userId":"alice","now":true}"#, "now"),
            (
                r#"{"action":"signOut","action":"signOut","userId":"alice"}"#,
                "action",
            ),
        ] {
            let error = OperatorRequest::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(names), "{wrong}: {error}");
        }
    }
}
