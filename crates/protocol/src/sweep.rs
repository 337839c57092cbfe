//! Sweeps: the schedule's request to the sweeper and its report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{InvalidRequest, request};

/// Request to check every connection that is due. The schedule sends it; it
/// takes no parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepRequest {
    action: SweepAction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
enum SweepAction {
    Sweep,
}

impl SweepRequest {
    /// Parses a request.
    ///
    /// # Errors
    /// [`InvalidRequest`], which names the field.
    pub fn parse(text: &str) -> Result<Self, InvalidRequest> {
        request::read_action(request::object(text)?, &["sweep"])
    }
}

/// Result of a sweep. Each connection that was due counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SweepReport {
    /// Connections that need nothing now: alive, or rescheduled by another
    /// sweep.
    pub kept: u64,
    /// Silent connections that got a `ping`.
    pub pinged: u64,
    /// Connections that got a `reconnect` frame, because they near the end of
    /// their lifetime.
    pub reconnect_sent: u64,
    /// Connections closed because their token expired.
    pub expired: u64,
    /// Connections closed because they did not answer a `ping`, or accepted no
    /// frame for five minutes.
    pub silent: u64,
    /// Connections closed because a newer connection replaced them.
    pub replaced: u64,
    /// Connections removed because they reached the end of their lifetime.
    pub outlived: u64,
    /// Connections removed because API Gateway no longer knew them.
    pub gone: u64,
    /// Connections that could not be checked. The next sweep tries again.
    pub failed: u64,
    /// `true` if the sweep checked everything that was due before its time
    /// ran out.
    pub complete: bool,
    /// Open connections now, according to the counters.
    pub connections: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_strictly() {
        assert!(SweepRequest::parse(r#"{"action":"sweep"}"#).is_ok());
        for (wrong, names) in [
            ("{}", "action"),
            ("[]", "object"),
            (r#"{"action":"dance"}"#, "action must be sweep"),
            (
                r#"{"action":"signOut","userId":"alice"}"#,
                "action must be sweep",
            ),
            (r#"{"action":"sweep","now":true}"#, "now"),
            (r#"{"action":"sweep","action":"sweep"}"#, "action"),
        ] {
            let error = SweepRequest::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(names), "{wrong}: {error}");
        }
    }
}
