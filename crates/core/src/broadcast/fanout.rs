use std::time::Duration;

use belfry_protocol::{
    BroadcastReport, BroadcastStatus, ChannelName, ConnectionId, Failures, MessageId,
};
use futures_util::future::join_all;

use super::content::Frames;
use super::delivery::Delivery;
use super::recipients::posts;
use super::stored::StoredPublish;
use super::tally::Tally;
use super::{DeliverySettings, FanoutSettings, Post, WORKER_START, expires_at, split};
use crate::connections::Recipient;
use crate::ports::{
    BroadcastKey, BroadcastRecord, Clock, Listing, MetricEvent, Metrics, NewBroadcasts, Outbox,
    Randomness, Removals, Segment, SegmentOffers, StoreError, Subscribers, Workers,
};
use crate::time::UnixMillis;

/// The most subscribers that the invocation of a client's frame posts to
/// itself. The client waits for it.
const INLINE: usize = 100;

/// How long that may take. A subscriber that does not read misses the post, and
/// recovers the message from the channel's log.
const INLINE_TIME: Duration = Duration::from_secs(3);

/// Posts a client's message to the subscribers of a channel.
#[derive(Debug)]
pub struct Fanout<'a, S, O, C, M, W, R> {
    pub store: &'a S,
    pub outbox: &'a O,
    pub clock: &'a C,
    pub metrics: &'a M,
    pub workers: &'a W,
    pub random: &'a R,
    pub delivery: DeliverySettings,
    pub settings: FanoutSettings,
}

impl<S, O, C, M, W, R> Fanout<'_, S, O, C, M, W, R>
where
    S: NewBroadcasts + Removals + SegmentOffers + Subscribers,
    O: Outbox,
    C: Clock,
    M: Metrics,
    W: Workers,
    R: Randomness,
{
    /// Posts the frame to these subscribers, or has workers do it if there are
    /// many. `id` names the work of the workers; it must be new.
    ///
    /// # Errors
    /// [`StoreError`]. Some subscribers may have the message.
    pub async fn run(
        &self,
        channel: &ChannelName,
        listing: Listing,
        frame: String,
        exclude: Option<ConnectionId>,
        id: &MessageId,
    ) -> Result<(), StoreError> {
        let run = self.run_reported(channel, listing, frame, exclude, id);
        run.await.map(drop)
    }

    /// The same. The report says who was reached until now.
    ///
    /// # Errors
    /// [`StoreError`]. Some subscribers may have the message.
    pub(crate) async fn run_reported(
        &self,
        channel: &ChannelName,
        listing: Listing,
        frame: String,
        exclude: Option<ConnectionId>,
        id: &MessageId,
    ) -> Result<BroadcastReport, StoreError> {
        let begun = self.clock.now();
        let whole = Segment { index: 0, total: 1 };
        // One more than are posted to here: a page that is full has a next one,
        // even if that is empty.
        let subscribers = self
            .store
            .subscribers(channel, listing, whole, None, INLINE + 1, begun);
        let page = subscribers.await?;
        if page.next.is_some() || page.recipients.len() > INLINE {
            let publish = StoredPublish {
                channel: channel.clone(),
                listing,
                frame,
                exclude,
            };
            self.hand_over(id, &publish, page.about, begun).await?;
            return Ok(report(id, BroadcastStatus::Running, 0, Failures::default()));
        }
        let mut recipients = page.recipients;
        recipients.retain(|recipient| Some(&recipient.id) != exclude.as_ref());
        let posts = posts(recipients, &Frames::one(frame));
        let (success, failures) = self.post(channel, posts, begun).await;
        Ok(report(id, BroadcastStatus::Done, success, failures))
    }

    /// A new id for the work of workers. Two of these are equal once in 10¹⁸ or
    /// so.
    pub(crate) fn new_id(&self) -> MessageId {
        let part = || self.random.index(1 << 32);
        let text = format!("fanout-{}-{:08x}{:08x}", self.clock.now().0, part(), part());
        MessageId::parse(text).expect("visible ASCII")
    }

    /// Returns how many have the message, and how many have not.
    async fn post(
        &self,
        channel: &ChannelName,
        posts: Vec<Post>,
        begun: UnixMillis,
    ) -> (u64, Failures) {
        if posts.is_empty() {
            return (0, Failures::default());
        }
        let deadline = begun.plus(INLINE_TIME);
        let mut tally = Tally::default();
        let mut delivery = Delivery::new(
            self.outbox,
            self.clock,
            self.metrics,
            self.random,
            self.delivery,
            deadline,
        );
        let count = posts.len();
        delivery.post(posts, deadline, &mut tally).await;
        // If most are throttled, the account is. If a few are, they do not read,
        // and the publisher must not wait for them at every message.
        if delivery.waiting().len() > count / 2 {
            delivery.retry_waiting(&mut tally).await;
        }
        delivery.give_up(&mut tally);
        let removals = tally.gone.iter().map(|gone| {
            let now = self.clock.now();
            remove_gone(self.store, gone, Some(channel), now)
        });
        let removed = join_all(removals).await;
        if let Some(error) = removed.iter().find_map(|removed| removed.as_ref().err()) {
            tracing::warn!(event = "rows.remove-failed", reason = %error, "could not remove a subscriber that is gone");
        }
        let (success, failures) = (tally.success, tally.failures);
        self.metrics.record(MetricEvent::Posted {
            success,
            failures,
            latencies: std::mem::take(&mut tally.latencies).into_values(),
        });
        self.metrics.record(MetricEvent::BroadcastDone {
            recipients: success + failures.total(),
            took: self.clock.now().since(begun),
        });
        (success, failures)
    }

    /// Remembers the message and starts a worker for each segment.
    async fn hand_over(
        &self,
        id: &MessageId,
        publish: &StoredPublish,
        subscribers: u64,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let segments = split::segments(subscribers, &self.settings);
        let record = BroadcastRecord {
            request: publish.to_json(),
            started_at: now,
            segments,
        };
        let end = expires_at(now);
        self.store.begin(id, &record, end).await?;
        let key = BroadcastKey {
            id: id.clone(),
            started_at: now,
        };
        let started = (0..segments).map(async |segment| {
            let started = self.workers.start(id, segment).await;
            started.map_err(|cause| StoreError {
                operation: "starting a worker",
                cause,
            })?;
            let until = now.plus(WORKER_START);
            self.store.offer(&key, segment, now, until, end).await
        });
        // All of them, even if one fails: the others have work to do.
        join_all(started).await.into_iter().collect()
    }
}

fn report(
    id: &MessageId,
    status: BroadcastStatus,
    success: u64,
    failures: Failures,
) -> BroadcastReport {
    BroadcastReport {
        message_id: id.clone(),
        status,
        success,
        failure: failures.total(),
        failures,
        complete: status == BroadcastStatus::Done,
        position: None,
        acknowledged: None,
    }
}

/// Removes the row of a connection that is gone, and its subscription: the row
/// may have been removed in a way that left the subscription.
pub(super) async fn remove_gone<S: Removals + Subscribers>(
    store: &S,
    gone: &Recipient,
    channel: Option<&ChannelName>,
    now: UnixMillis,
) -> Result<(), StoreError> {
    store.remove_unchanged(gone, now).await?;
    match channel {
        Some(channel) => store.remove_subscriber(channel, gone).await,
        None => Ok(()),
    }
}
