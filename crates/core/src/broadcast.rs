//! One message to many connections.

mod delivery;
mod recipients;
mod sample;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use belfry_protocol::{
    BroadcastReport, BroadcastRequest, BroadcastStatus, ConnectionId, Failures, List,
    MAX_FRAME_BYTES, MessageId,
};
use futures_util::future::{Either, select};
use futures_util::stream::{self, StreamExt};

use delivery::Delivery;
pub use delivery::DeliverySettings;
use recipients::Recipients;
use sample::Sample;

use crate::ports::{Clock, ConnectionStore, Measured, Metrics, Outbox, StoreError};
use crate::time::UnixMillis;

/// How many failed connections a report names: enough to start looking, few
/// enough for a log line.
const SAMPLE: usize = 5;

/// The use case: find the recipients, then post to each.
///
/// Recipients are listed before the first post, so a listing that fails has
/// reached nobody and can simply be tried again. One connection's failure
/// never stops the others.
#[derive(Debug)]
pub struct Broadcaster<S, O, C, M> {
    /// Keeps the rows.
    pub store: S,
    /// Reaches the sockets.
    pub outbox: O,
    /// Tells the time.
    pub clock: C,
    /// Counts posts.
    pub metrics: M,
    /// How posts are made.
    pub delivery: DeliverySettings,
}

/// Why a broadcast reached nobody. `Display` is for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BroadcastError {
    /// The message is larger than a frame may be.
    #[error(
        "message: the frame has {bytes} bytes with its id and timestamp; at most {MAX_FRAME_BYTES} can be sent"
    )]
    PayloadTooLarge {
        /// The size of the frame.
        bytes: usize,
    },
    /// The recipients could not be listed.
    #[error("the recipients could not be listed, nobody was reached; try again ({0})")]
    Store(#[from] StoreError),
    /// Listing the recipients took all the time there was.
    #[error("no time was left after listing the recipients, nobody was reached")]
    NoTime,
}

/// What became of a broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// For the caller.
    pub report: BroadcastReport,
    /// Some of the connections that were not reached, each with the cause,
    /// for the operator.
    pub sample: Vec<(ConnectionId, String)>,
    /// Rows of connections that are gone which could not be removed.
    pub rows_kept: u64,
    /// From the request to the report.
    pub took: Duration,
}

impl<S: ConnectionStore, O: Outbox, C: Clock, M: Metrics> Broadcaster<S, O, C, M> {
    /// Sends the message, posting until `deadline` at the latest.
    ///
    /// # Errors
    /// [`BroadcastError`]; then nothing was posted.
    pub async fn handle(
        &self,
        request: BroadcastRequest,
        message_id: MessageId,
        deadline: UnixMillis,
    ) -> Result<Delivered, BroadcastError> {
        let begun = self.clock.now();
        let timestamp = begun.to_timestamp();
        let frame = request.message.into_frame(&message_id, timestamp).to_json();
        if frame.len() > MAX_FRAME_BYTES {
            return Err(BroadcastError::PayloadTooLarge { bytes: frame.len() });
        }

        let listing = recipients::find(&self.store, request.target, begun);
        let listed = self.before(deadline, listing).await;
        let Recipients {
            mut found,
            mut missing,
        } = listed.ok_or(BroadcastError::NoTime)??;
        let excluded = request.exclude.map(List::into_vec).unwrap_or_default();
        let excluded: HashSet<_> = excluded.into_iter().collect();
        found.retain(|recipient| !excluded.contains(&recipient.id));
        missing.retain(|id| !excluded.contains(id));

        let (mut tally, posts) = (Tally::default(), Sample::default());
        for id in missing {
            tally.count(&id, Delivery::Gone);
        }
        let mut deliveries = stream::iter(&found)
            .map(async |recipient| {
                let delivery = self.deliver(recipient, &frame, deadline, &posts).await;
                (&recipient.id, delivery)
            })
            .buffer_unordered(self.delivery.concurrency);
        while let Some((id, delivery)) = deliveries.next().await {
            tally.count(id, delivery);
        }
        drop(deliveries);
        let took = self.clock.now().since(begun);
        let delivered = tally.into_delivered(message_id, took);
        self.metrics.record(Measured::Broadcast {
            success: delivered.report.success,
            failures: delivered.report.failures,
            took,
            posts: posts.into_values(),
        });
        Ok(delivered)
    }

    /// What comes of some work, or `None` where the deadline comes first.
    async fn before<F: Future>(&self, deadline: UnixMillis, work: F) -> Option<F::Output> {
        let time_is_up = self.clock.sleep(deadline.since(self.clock.now()));
        match select(pin!(work), pin!(time_is_up)).await {
            Either::Left((outcome, _)) => Some(outcome),
            Either::Right(_) => None,
        }
    }
}

#[derive(Default)]
struct Tally {
    success: u64,
    failures: Failures,
    sample: Vec<(ConnectionId, String)>,
    rows_kept: u64,
}

impl Tally {
    fn count(&mut self, id: &ConnectionId, delivery: Delivery) {
        let (counter, cause) = match delivery {
            Delivery::Accepted => {
                self.success += 1;
                return;
            }
            Delivery::Gone => (&mut self.failures.gone, "gone".into()),
            Delivery::GoneRowKept(why) => {
                self.rows_kept += 1;
                (
                    &mut self.failures.gone,
                    format!("gone, its row is kept: {why}"),
                )
            }
            Delivery::Throttled => (&mut self.failures.throttled, "throttled".into()),
            Delivery::TooLarge => (&mut self.failures.too_large, "too large".into()),
            Delivery::Failed(why) => (&mut self.failures.failed, format!("failed: {why}")),
            Delivery::NotAttempted => (&mut self.failures.not_attempted, "not attempted".into()),
        };
        *counter += 1;
        if self.sample.len() < SAMPLE {
            self.sample.push((id.clone(), cause));
        }
    }

    fn into_delivered(self, message_id: MessageId, took: Duration) -> Delivered {
        Delivered {
            report: BroadcastReport {
                message_id,
                status: BroadcastStatus::Done,
                success: self.success,
                failure: self.failures.total(),
                failures: self.failures,
            },
            sample: self.sample,
            rows_kept: self.rows_kept,
            took,
        }
    }
}
