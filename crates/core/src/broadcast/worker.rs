use std::pin::pin;
use std::time::Duration;

use belfry_protocol::{BroadcastReport, MessageId, Position};
use futures_util::future::{Either, ready, select};
use futures_util::stream::{self, StreamExt};

use super::content::{Published, Publisher};
use super::delivery::{Delivery, DeliverySettings};
use super::fanout::remove_gone;
use super::receipts::ReceiptReports;
use super::recipients::{AudiencePage, Lister};
use super::report::Reports;
use super::segment::{LEASE, RunEnd, SegmentRun};
use super::tally::Tally;
use super::{Broadcast, BroadcastError, Call, Delivered, POLL};
use crate::channels::ChannelRules;
use crate::log::{Appender, LogKey};
use crate::ports::{
    Acquired, BroadcastRecords, Clock, LogAppends, LogReads, MetricEvent, Metrics, Outbox,
    Randomness, Recipients, Removals, Segment, SegmentLeases, SegmentStates, StoreError,
    Subscribers, Workers,
};
use crate::time::{UnixMillis, millis};

/// Maximum concurrent removals of rows.
const REMOVALS: usize = 64;

/// How long a worker waits for a segment that is leased to another one, since
/// clocks differ. A lease that ends later is being worked on.
const LEASE_PATIENCE: Duration = Duration::from_secs(5);

/// Processes segments of broadcasts.
#[derive(Debug)]
pub struct Worker<S, O, C, M, W, R> {
    pub store: S,
    pub outbox: O,
    pub clock: C,
    pub metrics: M,
    /// Asked to continue when time runs out.
    pub workers: W,
    pub random: R,
    /// Say which messages are kept.
    pub rules: ChannelRules,
    pub delivery: DeliverySettings,
}

impl<S, O, C, M, W, R> Worker<S, O, C, M, W, R>
where
    S: Recipients
        + Removals
        + BroadcastRecords
        + LogAppends
        + LogReads
        + SegmentLeases
        + SegmentStates
        + Subscribers,
    O: Outbox,
    C: Clock,
    M: Metrics,
    W: Workers,
    R: Randomness,
{
    /// Processes one segment of a remembered broadcast, and asks another worker
    /// to continue if time runs out.
    ///
    /// # Errors
    /// [`BroadcastError`]; Lambda retries the event.
    pub async fn work_on(&self, segment: u32, call: Call) -> Result<Delivered, BroadcastError> {
        let begun = self.clock.now();
        let mut broadcast = self.remembered(&call.message_id).await?;
        // The report counts every segment that has a state.
        let segments = broadcast.segments;
        if segment >= segments {
            return Err(BroadcastError::NoSuchSegment { segments });
        }
        if let Some((message, log)) = broadcast.unpublished() {
            let published = self.publisher().find_or_publish(message, &log).await?;
            broadcast.published(&published);
        }
        let mut tally = Tally::default();
        self.process(&broadcast, segment, &call, &mut tally).await?;
        let report = self.reports().report(&broadcast).await?;
        Ok(self.delivered(report, begun, tally))
    }

    pub(super) async fn remembered(&self, id: &MessageId) -> Result<Broadcast, BroadcastError> {
        let record = self.store.find_record(id, self.clock.now()).await?;
        let record = record.ok_or(BroadcastError::Unknown)?;
        Broadcast::restore(id, &record, &self.rules)
    }

    /// Appends the message to its log, if it is kept in a single one, unless it
    /// was appended before. [`Self::store_entry`] must follow.
    pub(super) async fn publish(
        &self,
        broadcast: &mut Broadcast,
    ) -> Result<Option<(LogKey, Published)>, BroadcastError> {
        let Some((message, log)) = broadcast.unpublished() else {
            return Ok(None);
        };
        let published = self.publisher().publish(message, &log).await?;
        broadcast.published(&published);
        Ok(Some((log, published)))
    }

    /// Where the message is kept, if it is kept in a single log and was
    /// appended.
    pub(super) async fn find_position(
        &self,
        broadcast: &Broadcast,
    ) -> Result<Option<Position>, StoreError> {
        let Some((message, log)) = broadcast.unpublished() else {
            return Ok(None);
        };
        let found = self.publisher().find(message, &log).await?;
        Ok(found.map(|published| published.position))
    }

    pub(super) fn receipts(&self, deadline: UnixMillis) -> ReceiptReports<'_, S, C, R, M> {
        ReceiptReports {
            store: &self.store,
            clock: &self.clock,
            rules: &self.rules,
            publisher: self.publisher(),
            deadline,
        }
    }

    pub(super) async fn store_entry(&self, published: Option<(LogKey, Published)>) {
        if let Some((log, published)) = published {
            self.publisher().store(&log, &published).await;
        }
    }

    /// Acquires a segment and processes it, unless another worker does.
    pub(super) async fn process(
        &self,
        broadcast: &Broadcast,
        segment: u32,
        call: &Call,
        tally: &mut Tally,
    ) -> Result<(), BroadcastError> {
        let key = &broadcast.key;
        let lease = match self.acquire(broadcast, segment, &call.owner).await? {
            Acquired::Lease(lease) => lease,
            Acquired::LeasedUntil(_) => return Ok(()),
            // The worker that finished it may have died before it said so.
            Acquired::Done => return Ok(self.finish_if_last(broadcast).await?),
        };
        let part = Segment {
            index: segment,
            total: broadcast.segments,
        };
        let mut run = SegmentRun::new(self, broadcast, part, lease, call.deadline, tally);
        let ended = run.run().await;
        let lease = run.into_lease();
        self.measure_posts(tally);
        match ended {
            Ok(RunEnd::Done) => self.finish_if_last(broadcast).await?,
            Ok(RunEnd::OutOfTime) => {
                let started = self.start_worker(&key.id, segment).await;
                self.remove_gone(broadcast, tally, call.deadline).await;
                started?;
            }
            Ok(RunEnd::LeaseLost) => {}
            Err(error) => {
                // Release the lease, so that a retry need not wait for its
                // end. If this fails, too, the retry waits.
                let now = self.clock.now();
                let _ = self.store.renew(key, segment, &lease, now).await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Acquires a segment, waiting a little if its lease is about to end.
    async fn acquire(
        &self,
        broadcast: &Broadcast,
        segment: u32,
        owner: &str,
    ) -> Result<Acquired, StoreError> {
        loop {
            let now = self.clock.now();
            let until = now.plus(LEASE);
            let expires_at = broadcast.expires_at();
            let acquired =
                self.store
                    .acquire(&broadcast.key, segment, owner, now, until, expires_at);
            match acquired.await? {
                Acquired::LeasedUntil(until) if until.since(now) <= LEASE_PATIENCE => {
                    self.clock.sleep(until.since(now).max(POLL)).await;
                }
                acquired => return Ok(acquired),
            }
        }
    }

    /// The first page of all recipients.
    pub(super) async fn first_page(
        &self,
        broadcast: &Broadcast,
        deadline: UnixMillis,
    ) -> Result<AudiencePage, BroadcastError> {
        let (whole, now) = (Segment { index: 0, total: 1 }, self.clock.now());
        let lister = self.lister();
        let listing = lister.page(broadcast, whole, None, now);
        let listed = self.before(deadline, listing).await;
        listed.ok_or(BroadcastError::NoTime)?
    }

    /// Delivers to a page now and remembers nothing: for small broadcasts
    /// without a caller-supplied id.
    pub(super) async fn deliver_at_once(
        &self,
        broadcast: &Broadcast,
        page: AudiencePage,
        deadline: UnixMillis,
        tally: &mut Tally,
    ) {
        let mut delivery = self.delivery(deadline).at_once();
        // This invocation ends within a minute.
        delivery.post(page.posts, deadline, tally).await;
        delivery.retry_waiting(tally).await;
        delivery.give_up(tally);
        self.remove_gone(broadcast, tally, deadline).await;
    }

    pub(super) fn lister(&self) -> Lister<'_, S, C, R, M> {
        Lister {
            store: &self.store,
            publisher: self.publisher(),
        }
    }

    fn publisher(&self) -> Publisher<'_, S, C, R, M> {
        Publisher {
            appender: Appender {
                store: &self.store,
                clock: &self.clock,
                random: &self.random,
                metrics: &self.metrics,
            },
        }
    }

    pub(super) fn delivery(&self, deadline: UnixMillis) -> Delivery<'_, O, C, M, R> {
        Delivery::new(
            &self.outbox,
            &self.clock,
            &self.metrics,
            &self.random,
            self.delivery,
            deadline,
        )
    }

    pub(super) async fn start_worker(
        &self,
        id: &MessageId,
        segment: u32,
    ) -> Result<(), BroadcastError> {
        let started = self.workers.start(id, segment).await;
        started.map_err(BroadcastError::NoWorker)
    }

    /// The invocation that ends the last segment records how long the whole
    /// broadcast took, or what came of an operator's action.
    async fn finish_if_last(&self, broadcast: &Broadcast) -> Result<(), StoreError> {
        let report = self.reports().report(broadcast).await?;
        let now = self.clock.now();
        if !report.complete || !self.store.finish(&broadcast.key, now).await? {
            return Ok(());
        }
        let took = now.since(broadcast.key.started_at);
        let Some(action) = &broadcast.action else {
            self.metrics.record(MetricEvent::BroadcastDone {
                recipients: report.success + report.failure,
                took,
            });
            return Ok(());
        };
        tracing::info!(
            event = "operator.completed",
            action = action.name(),
            messageId = %report.message_id,
            success = report.success,
            failure = report.failure,
            gone = report.failures.gone,
            durationMs = millis(took),
            "an operator's action is done"
        );
        Ok(())
    }

    /// Removes the rows of gone connections, and only the rows that were read:
    /// a connection that came back under the same id keeps its own. If that
    /// fails or takes too long, a row expires by itself and the next broadcast
    /// tries again: the report must not be late for it.
    pub(super) async fn remove_gone(
        &self,
        broadcast: &Broadcast,
        tally: &mut Tally,
        deadline: UnixMillis,
    ) {
        let gone = std::mem::take(&mut tally.gone);
        if gone.is_empty() {
            return;
        }
        let (mut left, mut problem) = (gone.len(), None);
        let removals = stream::iter(&gone)
            .map(|recipient| {
                let channel = broadcast.audience.channel();
                remove_gone(&self.store, recipient, channel, self.clock.now())
            })
            .buffer_unordered(REMOVALS)
            .for_each(|removed| {
                match removed {
                    Ok(()) => left -= 1,
                    Err(error) => problem = Some(error.to_string()),
                }
                ready(())
            });
        let in_time = self.before(deadline, removals).await;
        tally.rows_kept += u64::try_from(left).unwrap_or(u64::MAX);
        if left > 0 {
            let reason = problem.unwrap_or_else(|| "time ran out".to_owned());
            tracing::warn!(
                event = "rows.remove-failed",
                rows = left,
                reason,
                complete = in_time.is_some(),
                "could not remove rows of connections that are gone"
            );
        }
    }

    /// The result of some work, or `None` if the deadline comes first.
    async fn before<F: Future>(&self, deadline: UnixMillis, work: F) -> Option<F::Output> {
        let time_is_up = self.clock.sleep(deadline.since(self.clock.now()));
        match select(pin!(work), pin!(time_is_up)).await {
            Either::Left((result, _)) => Some(result),
            Either::Right(_) => None,
        }
    }

    pub(super) fn measure_posts(&self, tally: &mut Tally) {
        self.metrics.record(MetricEvent::Posted {
            success: tally.success,
            failures: tally.failures,
            latencies: std::mem::take(&mut tally.latencies).into_values(),
        });
    }

    pub(super) fn delivered(
        &self,
        report: BroadcastReport,
        requested_at: UnixMillis,
        tally: Tally,
    ) -> Delivered {
        Delivered {
            report,
            sample: tally.sample,
            rows_kept: tally.rows_kept,
            took: self.clock.now().since(requested_at),
        }
    }

    pub(super) fn reports(&self) -> Reports<'_, S, C> {
        Reports {
            store: &self.store,
            clock: &self.clock,
        }
    }
}
