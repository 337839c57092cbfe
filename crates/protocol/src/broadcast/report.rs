use std::ops::Add;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{MessageId, Position, complete};

/// The report of a broadcast. `success + failure` is the number of recipients
/// counted so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BroadcastReport {
    /// The idempotency key of the broadcast, and the `id` of its frames.
    pub message_id: MessageId,
    /// The progress of the broadcast.
    pub status: BroadcastStatus,
    /// Recipients for which API Gateway accepted the message.
    pub success: u64,
    /// Recipients that were not reached: the sum of `failures`.
    pub failure: u64,
    /// Recipients that were not reached, by cause.
    pub failures: Failures,
    /// `false` if some recipients are not counted yet, otherwise absent. Ask
    /// again while `status` is `running`; send `resume` if it is `stopped`.
    #[serde(
        default = "complete::by_default",
        skip_serializing_if = "complete::is_complete"
    )]
    pub complete: bool,
    /// The message's position in the history of the channel, the user or
    /// everyone. Absent if the message is not kept, and for several users: each
    /// has a history of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// How many users have acknowledged the message. Only in later reports on a
    /// broadcast with `receipts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<u64>,
}

/// The progress of a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BroadcastStatus {
    /// Every recipient is counted.
    Done,
    /// Workers are sending the message.
    Running,
    /// The workers died before they finished. `resume` continues their work.
    Stopped,
}

/// Recipients that were not reached, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// The connection does not exist.
    pub gone: u64,
    /// API Gateway throttled the post, and its retries, too.
    pub throttled: u64,
    /// API Gateway refused the message as too large.
    pub too_large: u64,
    /// The post timed out or failed otherwise. The message may have arrived.
    pub failed: u64,
    /// The function's time ran out before the post.
    pub not_attempted: u64,
}

impl Add for Failures {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            gone: self.gone + other.gone,
            throttled: self.throttled + other.throttled,
            too_large: self.too_large + other.too_large,
            failed: self.failed + other.failed,
            not_attempted: self.not_attempted + other.not_attempted,
        }
    }
}

impl Failures {
    /// The sum over all causes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.gone + self.throttled + self.too_large + self.failed + self.not_attempted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_the_documented_form() {
        let failures = Failures {
            gone: 1,
            ..Failures::default()
        };
        let report = BroadcastReport {
            message_id: MessageId::parse("m").unwrap(),
            status: BroadcastStatus::Done,
            success: 2,
            failure: failures.total(),
            failures,
            complete: true,
            position: None,
            acknowledged: None,
        };
        insta::assert_snapshot!(serde_json::to_string(&report).unwrap(), @r#"{"messageId":"m","status":"done","success":2,"failure":1,"failures":{"gone":1,"throttled":0,"tooLarge":0,"failed":0,"notAttempted":0}}"#);
    }
}
