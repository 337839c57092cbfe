use std::collections::HashMap;
use std::future::Future;

use belfry_protocol::ChannelName;

use super::StoreError;
use crate::time::UnixMillis;

/// How many subscriptions channels have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionsCounted {
    pub by_channel: HashMap<ChannelName, u64>,
    /// Whether there may be more.
    pub more: bool,
}

/// Counts subscriptions for operators, by reading them.
pub trait SubscriptionCounts: Send + Sync {
    /// The subscriptions that have not ended, in at most so many pages of the
    /// store. What was written a moment ago may be missing.
    fn count_subscriptions(
        &self,
        pages: u32,
        now: UnixMillis,
    ) -> impl Future<Output = Result<SubscriptionsCounted, StoreError>> + Send;
}
