//! What the sweeper is asked to do, and what it answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{InvalidRequest, UserId, request};

/// A request to the sweeper.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    tag = "action",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum SweeperRequest {
    /// Look after every connection that is due: what the schedule asks for.
    Sweep {},
    /// Sign a user out: every connection of theirs is closed, and tokens
    /// issued until now open no new one.
    SignOut {
        /// The user.
        user_id: UserId,
    },
}

impl SweeperRequest {
    /// Parses a request.
    ///
    /// # Errors
    /// [`InvalidRequest`], which names the field.
    pub fn parse(text: &str) -> Result<Self, InvalidRequest> {
        request::parse(text, &[])
    }
}

/// What the sweeper answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SweeperReport {
    /// To `sweep`.
    Sweep(SweepReport),
    /// To `signOut`.
    SignOut(SignOutReport),
}

/// What a sweep did. Each connection that was due is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SweepReport {
    /// Alive, or moved by another sweep meanwhile; to be looked at again later.
    pub kept: u64,
    /// Silent, and asked for a sign of life.
    pub pinged: u64,
    /// Told to move to a new connection.
    pub told_to_reconnect: u64,
    /// Closed: their token was over.
    pub expired: u64,
    /// Closed: no sign of life after a ping.
    pub silent: u64,
    /// Closed: another connection has taken their place.
    pub replaced: u64,
    /// Removed: their lifetime was over.
    pub outlived: u64,
    /// Removed: API Gateway did not know them any more.
    pub gone: u64,
    /// Not looked after, because something failed. The next sweep tries again.
    pub failed: u64,
    /// Whether everything that was due was looked at before time ran out.
    pub complete: bool,
    /// How many connections are open now, as the counters say.
    pub connections: u64,
}

/// What became of a sign-out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignOutReport {
    /// Connections that were closed.
    pub closed: u64,
    /// Connections that could not be closed; asking again is safe.
    pub failed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_strictly() {
        let sweep = SweeperRequest::parse(r#"{"action":"sweep"}"#);
        assert_eq!(sweep, Ok(SweeperRequest::Sweep {}));
        let sign_out = SweeperRequest::parse(r#"{"action":"signOut","userId":"alice"}"#);
        let user_id = UserId::parse("alice").unwrap();
        assert_eq!(sign_out, Ok(SweeperRequest::SignOut { user_id }));
        for (wrong, names) in [
            ("{}", "action"),
            ("[]", "object"),
            (r#"{"action":"dance"}"#, "dance"),
            (r#"{"action":"signOut"}"#, "userId"),
            (r#"{"action":"signOut","userId":""}"#, "userId"),
            (r#"{"action":"sweep","now":true}"#, "now"),
            (r#"{"action":"sweep","action":"signOut"}"#, "action"),
        ] {
            let error = SweeperRequest::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(names), "{wrong}: {error}");
        }
    }
}
