use std::time::Duration;

use belfry_protocol::{
    BroadcastInquiry, BroadcastReport, BroadcastRequest, BroadcastStatus, Drain, Kick,
    PresenceRequest, PresentInChannel, ReceiptsReport, ReceiptsRequest, Target, WaitSeconds,
};
use futures_util::future::{join, join_all};

use super::actions::OperatorAction;
use super::recipients::Audience;
use super::report::Reports;
use super::split;
use super::tally::Tally;
use super::{Broadcast, BroadcastError, Call, Delivered, WORKER_START, Worker};
use crate::ports::{
    Begun, BroadcastRecord, BroadcastRecords, Capacity, Clock, Listing, LogAppends, LogReads,
    MetricEvent, Metrics, NewBroadcasts, Outbox, Presence, Randomness, Receipts, Recipients,
    Removals, Segment, SegmentLeases, SegmentOffers, SegmentStates, StoreError, Subscribers,
    Workers,
};
use crate::presence::{PresenceSettings, present_in};
use crate::time::UnixMillis;

/// Makes broadcasts: remembers them, limits their rate, splits the large ones
/// among workers, and reports.
///
/// A broadcast with a caller-supplied id, or to more than one user, is
/// remembered. Its segments are leased, processed page by page, and released,
/// each by one conditional write. If an invocation dies, its retry, a repeated
/// request, or `resume` continues the work.
#[derive(Debug)]
pub struct Broadcaster<S, O, C, M, W, R> {
    /// Processes the segments of small broadcasts. The coordinator uses its
    /// ports, too.
    pub worker: Worker<S, O, C, M, W, R>,
    pub fanout: FanoutSettings,
    pub presence: PresenceSettings,
}

/// When a broadcast is split, and how often one may go to everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FanoutSettings {
    /// Largest broadcast that one invocation delivers itself, at least one.
    pub connections_per_worker: u32,
    /// Maximum concurrent workers of a broadcast, at least one.
    pub max_workers: u32,
    /// Minimum interval between two broadcasts to everyone.
    pub all_interval: Duration,
}

impl<S: Presence, O, C, M, W, R> Broadcaster<S, O, C, M, W, R> {
    /// Answers who is present in a channel.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn presence(&self, request: PresenceRequest) -> Result<PresentInChannel, StoreError> {
        present_in(&self.worker.store, request.channel, self.presence).await
    }
}

/// How many subscribers tell how many a channel has.
const SAMPLE: usize = 100;

impl<S, O, C, M, W, R> Broadcaster<S, O, C, M, W, R>
where
    S: Recipients
        + Removals
        + Capacity
        + NewBroadcasts
        + Receipts
        + BroadcastRecords
        + LogAppends
        + LogReads
        + SegmentOffers
        + SegmentLeases
        + SegmentStates
        + Subscribers,
    O: Outbox,
    C: Clock,
    M: Metrics,
    W: Workers,
    R: Randomness,
{
    /// Sends the message, or has it sent by workers.
    ///
    /// # Errors
    /// [`BroadcastError`]. After [`BroadcastError::Store`] and
    /// [`BroadcastError::NoWorker`] some recipients may have the message; after
    /// every other error nobody has.
    pub async fn send(
        &self,
        request: BroadcastRequest,
        call: Call,
    ) -> Result<Delivered, BroadcastError> {
        let requested_at = self.now();
        let may_be_small = matches!(request.target, Target::User { .. } | Target::Channel { .. });
        // A report on receipts comes later.
        let must_be_remembered = call.is_named || request.receipts == Some(true);
        if may_be_small && !must_be_remembered {
            let sent = self.send_unrecorded(&request, &call, requested_at).await?;
            if let Some(delivered) = sent {
                return Ok(delivered);
            }
        }
        let wait = request.wait_seconds;
        let broadcast = self.begin(request, &call, requested_at).await?;
        self.proceed(broadcast, &call, wait, requested_at).await
    }

    /// Closes connections, or has them closed by workers. Those that are opened
    /// later stay, so clients may come back at once.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub async fn kick(&self, kick: Kick, call: Call) -> Result<Delivered, BroadcastError> {
        let wait = kick.wait_seconds;
        self.act(kick.into(), wait, call).await
    }

    /// Asks clients to open another connection, or has workers ask them.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub async fn drain(&self, drain: Drain, call: Call) -> Result<Delivered, BroadcastError> {
        let wait = drain.wait_seconds;
        self.act(drain.into(), wait, call).await
    }

    async fn act(
        &self,
        action: OperatorAction,
        wait: WaitSeconds,
        call: Call,
    ) -> Result<Delivered, BroadcastError> {
        let requested_at = self.now();
        let canonical = action.to_json();
        let broadcast = Broadcast::of_operator(&call.message_id, action, requested_at);
        let broadcast = self.remember(broadcast, canonical).await?;
        self.proceed(broadcast, &call, wait, requested_at).await
    }

    /// Answers an inquiry about a broadcast.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub async fn inquire(
        &self,
        inquiry: BroadcastInquiry,
        call: Call,
    ) -> Result<Delivered, BroadcastError> {
        let broadcast = self.worker.remembered(&call.message_id).await?;
        if broadcast.action.is_some() {
            return Err(BroadcastError::Unknown);
        }
        self.answer(inquiry, broadcast, &call).await
    }

    /// Answers an inquiry about a `kick` or a `drain`.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub async fn inquire_of_action(
        &self,
        inquiry: BroadcastInquiry,
        call: Call,
    ) -> Result<Delivered, BroadcastError> {
        let unknown = BroadcastError::UnknownAction;
        let broadcast = match self.worker.remembered(&call.message_id).await {
            Ok(broadcast) if broadcast.action.is_some() => broadcast,
            Ok(_) | Err(BroadcastError::Unknown) => return Err(unknown),
            Err(error) => return Err(error),
        };
        self.answer(inquiry, broadcast, &call).await
    }

    async fn answer(
        &self,
        inquiry: BroadcastInquiry,
        mut broadcast: Broadcast,
        call: &Call,
    ) -> Result<Delivered, BroadcastError> {
        let requested_at = self.now();
        match inquiry {
            BroadcastInquiry::Report { wait_seconds, .. } => {
                broadcast.position = self.worker.find_position(&broadcast).await?;
                let reports = self.reports();
                let report = reports.wait(&broadcast, call.deadline, wait_seconds);
                let mut report = report.await?;
                if broadcast.receipts {
                    let receipts = self.worker.receipts(call.deadline);
                    report.acknowledged = receipts.acknowledged(&broadcast).await?;
                }
                Ok(self.delivered(report, requested_at, Tally::default()))
            }
            BroadcastInquiry::Resume { wait_seconds, .. } => {
                self.proceed(broadcast, call, wait_seconds, requested_at)
                    .await
            }
        }
    }

    /// Answers who has acknowledged a message.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub async fn receipts(
        &self,
        request: ReceiptsRequest,
        deadline: UnixMillis,
    ) -> Result<ReceiptsReport, BroadcastError> {
        self.worker.receipts(deadline).report(request).await
    }

    /// A message to one user or to a small channel without a caller-supplied id:
    /// the broadcast is not remembered, because there is little to lose. Returns
    /// `None` if the channel has too many subscribers for that.
    async fn send_unrecorded(
        &self,
        request: &BroadcastRequest,
        call: &Call,
        requested_at: UnixMillis,
    ) -> Result<Option<Delivered>, BroadcastError> {
        let worker = &self.worker;
        let (id, deadline) = (&call.message_id, call.deadline);
        let mut broadcast = Broadcast::new(id, request.clone(), requested_at, &worker.rules)?;
        let published = worker.publish(&mut broadcast).await?;
        let mut tally = Tally::default();
        let delivering = async {
            let page = worker.first_page(&broadcast, deadline).await?;
            let most = usize::try_from(self.fanout.connections_per_worker).unwrap_or(usize::MAX);
            if broadcast.audience.channel().is_some()
                && (page.next.is_some() || page.posts.len() > most)
            {
                return Ok(false);
            }
            worker
                .deliver_at_once(&broadcast, page, deadline, &mut tally)
                .await;
            Ok::<_, BroadcastError>(true)
        };
        let ((), delivered) = join(worker.store_entry(published), delivering).await;
        if !delivered? {
            return Ok(None);
        }
        worker.measure_posts(&mut tally);
        let (success, failures) = (tally.success, tally.failures);
        worker.metrics.record(MetricEvent::BroadcastDone {
            recipients: success + failures.total(),
            took: self.now().since(requested_at),
        });
        let report = BroadcastReport {
            message_id: call.message_id.clone(),
            status: BroadcastStatus::Done,
            success,
            failure: failures.total(),
            failures,
            complete: true,
            position: broadcast.position,
            acknowledged: None,
        };
        Ok(Some(self.delivered(report, requested_at, tally)))
    }

    /// Remembers a new broadcast, or finds the original of a repeated request.
    async fn begin(
        &self,
        request: BroadcastRequest,
        call: &Call,
        requested_at: UnixMillis,
    ) -> Result<Broadcast, BroadcastError> {
        let id = &call.message_id;
        let canonical = request.canonical();
        let to_all = matches!(request.target, Target::All {});
        let broadcast = Broadcast::new(id, request, requested_at, &self.worker.rules)?;
        if to_all {
            self.reserve_all(call, requested_at).await?;
        }
        self.remember(broadcast, canonical).await
    }

    /// Splits and remembers a broadcast, or finds the original if its id is
    /// known. `canonical` tells it from others.
    async fn remember(
        &self,
        mut broadcast: Broadcast,
        canonical: String,
    ) -> Result<Broadcast, BroadcastError> {
        broadcast.segments = self.split(&broadcast.audience).await?;
        let bytes = canonical.len();
        let record = BroadcastRecord {
            request: canonical,
            started_at: broadcast.key.started_at,
            segments: broadcast.segments,
        };
        let id = &broadcast.key.id;
        let begun = self.store().begin(id, &record, broadcast.expires_at());
        match begun.await? {
            Begun::New => Ok(broadcast),
            Begun::Known(original) if original.request == record.request => {
                Broadcast::restore(id, &original, &self.worker.rules)
            }
            Begun::Known(_) => Err(BroadcastError::OtherRequest),
            Begun::TooLarge { max_bytes } => {
                Err(BroadcastError::RequestTooLarge { bytes, max_bytes })
            }
        }
    }

    /// A repeated request needs no reservation: the original had one.
    async fn reserve_all(&self, call: &Call, now: UnixMillis) -> Result<(), BroadcastError> {
        let (id, interval) = (&call.message_id, self.fanout.all_interval);
        if interval.is_zero() || self.store().find_record(id, now).await?.is_some() {
            return Ok(());
        }
        match self.store().reserve_all(id, now, interval).await? {
            None => Ok(()),
            Some(wait) => Err(BroadcastError::RateLimited { interval, wait }),
        }
    }

    async fn split(&self, audience: &Audience) -> Result<u32, StoreError> {
        let recipients = if let Some(named) = audience.named() {
            u64::try_from(named).unwrap_or(u64::MAX)
        } else if let Some(channel) = audience.channel() {
            let whole = Segment { index: 0, total: 1 };
            let listing =
                self.store()
                    .subscribers(channel, Listing::All, whole, None, SAMPLE, self.now());
            listing.await?.about
        } else {
            self.store().open_connections().await?
        };
        Ok(split::segments(recipients, &self.fanout))
    }

    /// Publishes the message, processes what is left, here or in workers, and
    /// reports.
    async fn proceed(
        &self,
        mut broadcast: Broadcast,
        call: &Call,
        wait: WaitSeconds,
        requested_at: UnixMillis,
    ) -> Result<Delivered, BroadcastError> {
        let published = self.worker.publish(&mut broadcast).await?;
        let mut tally = Tally::default();
        let delivering = async {
            if broadcast.segments == 1 {
                self.worker.process(&broadcast, 0, call, &mut tally).await?;
            } else {
                self.start_workers(&broadcast).await?;
            }
            let report = self.reports().wait(&broadcast, call.deadline, wait).await?;
            Ok::<_, BroadcastError>(report)
        };
        let stored = self.worker.store_entry(published);
        let ((), report) = join(stored, delivering).await;
        Ok(self.delivered(report?, requested_at, tally))
    }

    /// Starts a worker for every segment that is neither done nor leased.
    /// Workers that were asked for earlier may have been lost.
    async fn start_workers(&self, broadcast: &Broadcast) -> Result<(), BroadcastError> {
        let key = &broadcast.key;
        let now = self.now();
        let views = self.store().segments(key).await?;
        let taken_care_of: Vec<u32> = views
            .iter()
            .filter(|(_, view)| {
                view.progress.is_done || view.is_leased && view.reserved_until > now
            })
            .map(|(index, _)| *index)
            .collect();
        let idle = (0..broadcast.segments).filter(|index| !taken_care_of.contains(index));
        let started = idle.map(|segment| async move {
            self.worker.start_worker(&key.id, segment).await?;
            let until = now.plus(WORKER_START);
            let offered = self
                .store()
                .offer(key, segment, now, until, broadcast.expires_at());
            Ok(offered.await?)
        });
        // All of them, even if one fails: the others have work to do.
        join_all(started).await.into_iter().collect()
    }

    fn delivered(
        &self,
        report: BroadcastReport,
        requested_at: UnixMillis,
        tally: Tally,
    ) -> Delivered {
        self.worker.delivered(report, requested_at, tally)
    }

    fn reports(&self) -> Reports<'_, S, C> {
        self.worker.reports()
    }

    fn store(&self) -> &S {
        &self.worker.store
    }

    fn now(&self) -> UnixMillis {
        self.worker.clock.now()
    }
}
