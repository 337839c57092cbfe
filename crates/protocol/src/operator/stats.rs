use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ChannelName, complete};

/// A request to count connections and subscribers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadStats {}

/// The size of a stack. Rates and latencies are metrics in CloudWatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Connections that are counted as open.
    pub connections: u64,
    /// How many there may be. Absent if there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u64>,
    /// Subscriptions to channels.
    pub channels: ChannelCounts,
}

/// Subscribers of channels. Subscriptions that have just ended may be counted,
/// and those that have just begun may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChannelCounts {
    /// Subscriptions that were counted.
    pub subscriptions: u64,
    /// `false` if there are more than were counted, otherwise absent. Then the
    /// numbers are those of a sample.
    #[serde(
        default = "complete::by_default",
        skip_serializing_if = "complete::is_complete"
    )]
    pub complete: bool,
    /// The ten channels with the most subscribers, largest first.
    pub largest: Vec<SubscriberCount>,
}

/// The number of a channel's subscribers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubscriberCount {
    /// The channel.
    pub channel: ChannelName,
    /// How many subscriptions were counted.
    pub subscribers: u64,
}
