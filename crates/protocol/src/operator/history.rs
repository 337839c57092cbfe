use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BroadcastReport, ChannelName, Position, complete};

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
    /// request; what is left expires in any case.
    #[serde(
        default = "complete::by_default",
        skip_serializing_if = "complete::is_complete"
    )]
    pub complete: bool,
    /// How many subscribers were told. Absent if there was no history, or if they
    /// could not be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<BroadcastReport>,
}
