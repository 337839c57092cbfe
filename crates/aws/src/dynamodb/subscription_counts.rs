use std::collections::HashMap;

use belfry_core::UnixMillis;
use belfry_core::ports::{StoreError, SubscriptionCounts, SubscriptionsCounted};
use belfry_protocol::ChannelName;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::row::{number, string, text};
use super::{DynamoDb, failed, sdk_failed};

const SCAN: &str = "Scan";

/// Maximum concurrent pages.
const CONCURRENCY: usize = 4;

impl SubscriptionCounts for DynamoDb {
    /// Each page is the beginning of another segment of the table, so that a
    /// sample is of the whole table.
    async fn count_subscriptions(
        &self,
        pages: u32,
        now: UnixMillis,
    ) -> Result<SubscriptionsCounted, StoreError> {
        stream::iter(0..pages)
            .map(|segment| self.count_segment(segment, pages, now))
            .buffer_unordered(CONCURRENCY)
            .try_fold(SubscriptionsCounted::default(), async |mut sum, page| {
                for (channel, count) in page.by_channel {
                    *sum.by_channel.entry(channel).or_default() += count;
                }
                sum.more |= page.more;
                Ok(sum)
            })
            .await
    }
}

impl DynamoDb {
    async fn count_segment(
        &self,
        segment: u32,
        total: u32,
        now: UnixMillis,
    ) -> Result<SubscriptionsCounted, StoreError> {
        let number_of = |n: u32| i32::try_from(n).map_err(|error| failed(SCAN, error));
        let page = self
            .client
            .scan()
            .table_name(&self.tables.subscriptions)
            .segment(number_of(segment)?)
            .total_segments(number_of(total)?)
            .projection_expression("channel")
            .filter_expression("begins_with(#member, :subscriptions) AND endsAt > :now")
            // `member` is a reserved word of DynamoDB.
            .expression_attribute_names("#member", "member")
            .expression_attribute_values(":subscriptions", text("c#"))
            .expression_attribute_values(":now", number(now.to_seconds().0))
            .send()
            .await
            .map_err(|error| sdk_failed(SCAN, &error))?;
        let mut by_channel: HashMap<ChannelName, u64> = HashMap::new();
        for item in page.items() {
            // One item that cannot be read must not stop a count.
            let channel = string(item, "channel").ok();
            if let Some(channel) = channel.and_then(|name| ChannelName::parse(name).ok()) {
                *by_channel.entry(channel).or_default() += 1;
            }
        }
        Ok(SubscriptionsCounted {
            by_channel,
            more: page.last_evaluated_key().is_some(),
        })
    }
}
