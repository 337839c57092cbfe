use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BroadcastStatus, ChannelName, Failures, Position, complete};

/// A request to delete a channel's history.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeHistory {
    /// The channel.
    pub channel: ChannelName,
}

/// Result of deleting a channel's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PurgeReport {
    /// Where the new history begins. No client can read what was before. Absent
    /// if there was no history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Messages that were deleted.
    pub deleted: u64,
    /// `false` if some are left to delete, otherwise absent. Repeat the
    /// request; what is left expires in any case. A message that was published
    /// just before the purge may be stored after this answer: nobody can read it,
    /// and it expires as well.
    #[serde(
        default = "complete::by_default",
        skip_serializing_if = "complete::is_complete"
    )]
    pub complete: bool,
    /// How many subscribers were told. Absent if there was no history, or if they
    /// could not be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<SubscribersTold>,
}

/// How many subscribers were told of a purge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubscribersTold {
    /// `running` if workers are telling them, because there are many. They are not
    /// counted then.
    pub status: BroadcastStatus,
    /// Subscribers for which API Gateway accepted the frame.
    pub success: u64,
    /// Subscribers that were not told: the sum of `failures`.
    pub failure: u64,
    /// Subscribers that were not told, by cause.
    pub failures: Failures,
}
