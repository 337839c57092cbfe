use std::cmp::Reverse;

use belfry_protocol::{ChannelCounts, Stats, SubscriberCount};
use futures_util::future::try_join;

use crate::ports::{Capacity, Clock, StoreError, SubscriptionCounts};

/// Pages of subscriptions that are read.
const PAGES: u32 = 16;

/// Channels that are named.
const LARGEST: usize = 10;

/// Tells how large a stack is.
#[derive(Debug)]
pub struct ReadStats<S, C> {
    pub store: S,
    pub clock: C,
    /// How many connections there may be.
    pub max_connections: u64,
}

impl<S: Capacity + SubscriptionCounts, C: Clock> ReadStats<S, C> {
    /// # Errors
    /// [`StoreError`].
    pub async fn handle(&self) -> Result<Stats, StoreError> {
        let now = self.clock.now();
        let counted = self.store.count_subscriptions(PAGES, now);
        let (connections, counted) = try_join(self.store.open_connections(), counted).await?;
        let subscriptions = counted.by_channel.values().sum();
        let mut largest: Vec<_> = counted.by_channel.into_iter().collect();
        largest
            .sort_by(|(one, many), (other, few)| (Reverse(many), one).cmp(&(Reverse(few), other)));
        let largest = largest.into_iter().take(LARGEST);
        Ok(Stats {
            connections,
            max_connections: Some(self.max_connections),
            channels: ChannelCounts {
                subscriptions,
                complete: !counted.more,
                largest: largest
                    .map(|(channel, subscribers)| SubscriberCount {
                        channel,
                        subscribers,
                    })
                    .collect(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{JoinsPresence, Subscription, Subscriptions};
    use crate::testing::{FakeStore, START, TestClock, connection};
    use belfry_protocol::ChannelName;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_largest_channels_come_first() {
        let stats = ReadStats {
            store: FakeStore::default(),
            clock: TestClock::default(),
            max_connections: 7,
        };
        // Channel n has n subscribers, and one whose subscription has ended.
        let subscribe = async |id: &str, seconds: u64, channels: std::ops::Range<usize>| {
            stats.store.put(id, "alice").await;
            let wanted = channels.map(|n| Subscription {
                channel: ChannelName::parse(format!("room:{n:02}")).unwrap(),
                ends_at: START.plus(Duration::from_secs(seconds)).to_seconds(),
                allowed: None,
                actions: [].into_iter().collect(),
                presence: JoinsPresence::No,
            });
            let wanted: Vec<_> = wanted.collect();
            let row = connection(id, "alice");
            let subscribed = stats.store.subscribe(&row, &wanted, 50, START).await;
            subscribed.unwrap();
        };
        subscribe("c1", 60, 1..4).await;
        subscribe("c2", 60, 2..4).await;
        subscribe("c3", 60, 3..4).await;
        subscribe("c4", 30, 1..4).await;
        stats.clock.advance(Duration::from_secs(30));
        let read = stats.handle().await.unwrap();
        assert_eq!((read.connections, read.max_connections), (4, Some(7)));
        assert_eq!(
            (read.channels.subscriptions, read.channels.complete),
            (6, true)
        );
        let largest = read.channels.largest.iter();
        let largest: Vec<_> = largest
            .map(|one| (one.channel.as_str(), one.subscribers))
            .collect();
        assert_eq!(largest, [("room:03", 3), ("room:02", 2), ("room:01", 1)]);
        subscribe("c5", 60, 10..50).await;
        let read = stats.handle().await.unwrap();
        assert_eq!(read.channels.largest.len(), LARGEST);
        assert!(!read.channels.complete, "more than the pages hold");
    }
}
