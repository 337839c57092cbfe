//! Requests of operators and their reports.

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
    /// Sign a user out: close every connection of the user, and refuse every
    /// token that was issued before.
    SignOut {
        /// The user to sign out.
        user_id: UserId,
    },
}

/// Every `action`, for the check and its error message.
const ACTIONS: &[&str] = &["signOut"];

impl OperatorRequest {
    /// Parses a request.
    ///
    /// # Errors
    /// [`InvalidRequest`], which names the field.
    pub fn parse(text: &str) -> Result<Self, InvalidRequest> {
        request::read_action(request::object(text)?, ACTIONS)
    }
}

/// The report on an operator's request. Its fields depend on the `action`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OperatorReport {
    /// The report on `signOut`.
    SignOut(SignOutReport),
}

/// Result of signing a user out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignOutReport {
    /// Connections that were closed.
    pub closed: u64,
    /// Connections that could not be closed. Their sessions have ended, and
    /// sweeps try to close them. Repeating the request is safe.
    pub failed: u64,
    /// Connections whose session could not be ended: if they are open, they are
    /// served until their token expires. Repeat the request.
    pub not_ended: u64,
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
            (r#"{"action":"dance"}"#, "action must be signOut"),
            (r#"{"action":"sweep"}"#, "action must be signOut"),
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
