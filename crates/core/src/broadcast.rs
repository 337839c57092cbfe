//! One message to many connections.

#[cfg(test)]
mod fanout_tests;
mod pace;
mod posting;
mod report;
mod sample;
mod segment;
mod source;
mod tally;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::time::Duration;

use belfry_protocol::{
    BroadcastInquiry, BroadcastReport, BroadcastRequest, BroadcastStatus, ConnectionId,
    MAX_FRAME_BYTES, MessageId, Target, WaitSeconds,
};
use futures_util::future::{Either, join_all, ready, select};
use futures_util::stream::{self, StreamExt};

pub use posting::DeliverySettings;
use segment::{Broadcast, Ended, LEASE, STARTING};
use source::Source;
use tally::Tally;

use crate::ports::{
    Begun, BroadcastKey, BroadcastRecord, BroadcastStore, Clock, Measured, Metrics, Outbox,
    RecipientStore, StoreError, Taken, Workers,
};
use crate::time::{UnixMillis, UnixSeconds};

/// How many rows are removed at a time.
const REMOVALS_AT_A_TIME: usize = 64;

/// How long a broadcast is remembered: for so long its id names it.
const MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a worker waits for a segment that somebody else still holds, since
/// clocks differ. What is held longer is being worked on.
const TURN: Duration = Duration::from_secs(5);

/// The longest request that is remembered, in bytes: an item of DynamoDB holds
/// 400 KB.
const MAX_REQUEST_BYTES: usize = 380_000;

/// How often a caller who waits is told of progress, so to speak.
const LOOK: Duration = Duration::from_millis(250);

/// The use case: find the recipients, then post to each.
///
/// A broadcast that has an id of its caller's, or may be large, is remembered:
/// its segments are taken, worked on page by page, and given back, each by one
/// conditional write (see `segment.rs`). What an invocation that dies leaves
/// is gone on with by its repetition, by a repeated request, or by `resume`.
#[derive(Debug)]
pub struct Broadcaster<S, O, C, M, W> {
    /// Keeps rows and broadcasts.
    pub store: S,
    /// Reaches the sockets.
    pub outbox: O,
    /// Tells the time.
    pub clock: C,
    /// Counts posts.
    pub metrics: M,
    /// Does what is too much for one invocation.
    pub workers: W,
    /// How posts are made.
    pub delivery: DeliverySettings,
    /// When a broadcast is split, and how often one may go to everyone.
    pub fanout: FanoutSettings,
}

/// When a broadcast is split, and how often one may go to everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FanoutSettings {
    /// How many connections one invocation takes on, at least one.
    pub connections_per_worker: u32,
    /// The most invocations at a time, at least one.
    pub max_workers: u32,
    /// How long after one broadcast to everyone the next may come.
    pub all_interval: Duration,
}

/// The invocation that a request came with.
#[derive(Debug, Clone)]
pub struct Call {
    /// The broadcast's id.
    pub message_id: MessageId,
    /// Whether the caller gave the id.
    pub is_named: bool,
    /// The invocation's own id, which stays the same when it is repeated.
    pub owner: String,
    /// When the answer must be ready.
    pub deadline: UnixMillis,
}

/// Why a broadcast was not done. `Display` is for the caller.
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
    /// The request is larger than can be remembered.
    #[error(
        "target: the request has {bytes} bytes; at most {MAX_REQUEST_BYTES} can be remembered. Send it in parts"
    )]
    RequestTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Another request has this id.
    #[error("messageId: another request was made with this id")]
    OtherRequest,
    /// No broadcast of this id is remembered.
    #[error("messageId: no broadcast of this id is remembered")]
    Unknown,
    /// Another broadcast to everyone came too shortly before.
    #[error("target: one broadcast to all every {interval:?} is allowed; wait {wait:?}")]
    RateLimited {
        /// How often one may come.
        interval: Duration,
        /// How long to wait.
        wait: Duration,
    },
    /// The store failed.
    #[error("the broadcast could not be finished; ask again with the same messageId ({0})")]
    Store(#[from] StoreError),
    /// No worker could be asked to begin, or to go on.
    #[error("no worker could be asked to go on; ask again with the same messageId ({0})")]
    NoWorker(String),
    /// Listing the recipients took all the time there was.
    #[error("no time was left after listing the recipients, nobody was reached")]
    NoTime,
}

/// What became of a broadcast, or of one invocation's part of it.
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

impl<S, O, C, M, W> Broadcaster<S, O, C, M, W>
where
    S: RecipientStore + BroadcastStore,
    O: Outbox,
    C: Clock,
    M: Metrics,
    W: Workers,
{
    /// Sends the message, or has it sent.
    ///
    /// # Errors
    /// [`BroadcastError`]. After [`BroadcastError::Store`] some may have got
    /// the message; every other one has reached nobody.
    pub async fn send(
        &self,
        request: BroadcastRequest,
        call: Call,
    ) -> Result<Delivered, BroadcastError> {
        let begun = self.clock.now();
        let wait = request.wait_seconds;
        let to_one = matches!(request.target, Target::User { .. });
        let to_all = matches!(request.target, Target::All {});
        let text = request.canonical();
        let mut broadcast = broadcast(&call.message_id, request, begun)?;
        if to_one && !call.is_named {
            let mut tally = Tally::default();
            self.work_unrecorded(&broadcast, call.deadline, &mut tally)
                .await?;
            return Ok(self.delivered_at_once(call.message_id, begun, tally));
        }

        if text.len() > MAX_REQUEST_BYTES {
            return Err(BroadcastError::RequestTooLarge { bytes: text.len() });
        }
        if to_all {
            self.take_turn(&call.message_id, begun).await?;
        }
        broadcast.segments = self.segments_for(&broadcast.source).await?;
        let record = BroadcastRecord {
            request: text,
            started_at: begun,
            segments: broadcast.segments,
        };
        let expires_at = forgotten_at(begun);
        let begun = self.store.begin(&call.message_id, &record, expires_at);
        match begun.await? {
            Begun::New => {}
            Begun::Known(known) if known.request != record.request => {
                return Err(BroadcastError::OtherRequest);
            }
            // As it was: who has it already got the first one's timestamp.
            Begun::Known(known) => broadcast = restored(&call.message_id, &known)?,
        }
        self.go_on(&broadcast, &call, wait).await
    }

    /// Answers a question about a broadcast.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub async fn inquire(
        &self,
        inquiry: BroadcastInquiry,
        call: Call,
    ) -> Result<Delivered, BroadcastError> {
        let begun = self.clock.now();
        let broadcast = self.remembered(&call.message_id).await?;
        match inquiry {
            BroadcastInquiry::Report { wait_seconds, .. } => {
                let report = self.wait_for(&broadcast, call.deadline, wait_seconds);
                Ok(self.delivered(report.await?, begun, Tally::default()))
            }
            BroadcastInquiry::Resume { wait_seconds, .. } => {
                self.go_on(&broadcast, &call, wait_seconds).await
            }
        }
    }

    /// A worker's part: works on one segment, and asks another worker to go on
    /// where the time does not suffice.
    ///
    /// # Errors
    /// [`BroadcastError`]; Lambda tries the event again.
    pub async fn work_on(&self, segment: u32, call: Call) -> Result<Delivered, BroadcastError> {
        let begun = self.clock.now();
        let broadcast = self.remembered(&call.message_id).await?;
        let mut tally = Tally::default();
        self.take_and_work(&broadcast, segment, &call, &mut tally)
            .await?;
        let report = self.report(&broadcast).await?;
        Ok(self.delivered(report, begun, tally))
    }

    async fn remembered(&self, id: &MessageId) -> Result<Broadcast, BroadcastError> {
        let known = self.store.record(id, self.clock.now()).await?;
        restored(id, &known.ok_or(BroadcastError::Unknown)?)
    }

    /// Works on what is left, here or in workers, and reports.
    async fn go_on(
        &self,
        broadcast: &Broadcast,
        call: &Call,
        wait: WaitSeconds,
    ) -> Result<Delivered, BroadcastError> {
        let begun = self.clock.now();
        let mut tally = Tally::default();
        if broadcast.segments == 1 {
            self.take_and_work(broadcast, 0, call, &mut tally).await?;
        } else {
            self.start_workers(broadcast).await?;
        }
        let report = self.wait_for(broadcast, call.deadline, wait).await?;
        Ok(self.delivered(report, begun, tally))
    }

    async fn take_and_work(
        &self,
        broadcast: &Broadcast,
        segment: u32,
        call: &Call,
        tally: &mut Tally,
    ) -> Result<(), BroadcastError> {
        let key = &broadcast.key;
        let expires_at = forgotten_at(key.started_at);
        let mut lease = loop {
            let now = self.clock.now();
            let (owner, until) = (&call.owner, now.plus(LEASE));
            let taken = self.store.take(key, segment, owner, now, until, expires_at);
            match taken.await? {
                Taken::Yes(lease) => break lease,
                Taken::Held(until) if until.since(now) <= TURN => {
                    let wait = until.since(now).max(LOOK);
                    self.clock.sleep(wait).await;
                }
                Taken::Held(_) => return Ok(()),
                // Whoever ended it may have died before telling.
                Taken::Done => return Ok(self.finish_if_last(broadcast).await?),
            }
        };
        let worked = self
            .work(broadcast, segment, &mut lease, call.deadline, tally)
            .await;
        self.measure_posts(tally);
        if worked.is_err() {
            // Whoever tries again need not wait until the lease is over. If
            // this fails, too, that is all that it costs.
            let now = self.clock.now();
            let _ = self.store.hold(key, segment, &lease, now).await;
        }
        match worked? {
            Ended::Done => self.finish_if_last(broadcast).await?,
            Ended::OutOfTime => {
                let asked = self.hand_on(&key.id, segment).await;
                self.forget(tally, call.deadline).await;
                asked?;
            }
            Ended::Lost => {}
        }
        Ok(())
    }

    async fn hand_on(&self, id: &MessageId, segment: u32) -> Result<(), BroadcastError> {
        let asked = self.workers.start(id, segment).await;
        asked.map_err(BroadcastError::NoWorker)
    }

    /// Asks a worker for every segment that is not done, and that nobody works
    /// on. Who was asked for before may have been lost.
    async fn start_workers(&self, broadcast: &Broadcast) -> Result<(), BroadcastError> {
        let key = &broadcast.key;
        let now = self.clock.now();
        let views = self.store.segments(key).await?;
        let begun: Vec<u32> = views
            .iter()
            .filter(|(_, view)| view.progress.is_done || view.is_taken && view.held_until > now)
            .map(|(index, _)| *index)
            .collect();
        let idle = (0..broadcast.segments).filter(|index| !begun.contains(index));
        let asked = idle.map(|segment| async move {
            self.hand_on(&key.id, segment).await?;
            let (until, end) = (now.plus(STARTING), forgotten_at(key.started_at));
            let offered = self.store.offer(key, segment, now, until, end);
            Ok(offered.await?)
        });
        // All of them, also where one fails: the others have something to do.
        join_all(asked).await.into_iter().collect()
    }

    /// In how many segments a broadcast is done.
    async fn segments_for(&self, source: &Source) -> Result<u32, StoreError> {
        let recipients = match source.named() {
            Some(named) => u64::try_from(named).unwrap_or(u64::MAX),
            None => self.store.count().await?,
        };
        let per_worker = u64::from(self.fanout.connections_per_worker.max(1));
        let workers = recipients.div_ceil(per_worker);
        let most = u64::from(self.fanout.max_workers.max(1));
        Ok(u32::try_from(workers.clamp(1, most)).unwrap_or(1))
    }

    /// A new broadcast to everyone needs its turn; one that is known has had it.
    async fn take_turn(&self, id: &MessageId, now: UnixMillis) -> Result<(), BroadcastError> {
        let interval = self.fanout.all_interval;
        if interval.is_zero() || self.store.record(id, now).await?.is_some() {
            return Ok(());
        }
        match self.store.take_turn(id, now, interval).await? {
            None => Ok(()),
            Some(wait) => Err(BroadcastError::RateLimited { interval, wait }),
        }
    }

    fn measure_posts(&self, tally: &mut Tally) {
        self.metrics.record(Measured::Posted {
            success: tally.success,
            failures: tally.failures,
            posts: std::mem::take(&mut tally.times).into_values(),
        });
    }

    fn delivered_at_once(&self, id: MessageId, begun: UnixMillis, mut tally: Tally) -> Delivered {
        self.measure_posts(&mut tally);
        let (success, failures) = (tally.success, tally.failures);
        self.metrics.record(Measured::Broadcast {
            recipients: success + failures.total(),
            took: self.clock.now().since(begun),
        });
        let report = BroadcastReport {
            message_id: id,
            status: BroadcastStatus::Done,
            success,
            failure: failures.total(),
            failures,
            complete: true,
        };
        self.delivered(report, begun, tally)
    }

    fn delivered(&self, report: BroadcastReport, begun: UnixMillis, tally: Tally) -> Delivered {
        Delivered {
            report,
            sample: tally.sample,
            rows_kept: tally.rows_kept,
            took: self.clock.now().since(begun),
        }
    }

    /// Removes the rows of connections that are gone, and only those that were
    /// read: a connection that came back under the same id keeps its own.
    /// Where that fails or takes too long a row expires by itself, and the next
    /// broadcast tries again: the report must not come late for it.
    async fn forget(&self, tally: &mut Tally, deadline: UnixMillis) {
        let gone = std::mem::take(&mut tally.gone);
        if gone.is_empty() {
            return;
        }
        let (mut left, mut problem) = (gone.len(), None);
        let removals = stream::iter(&gone)
            .map(|recipient| self.store.remove_unchanged(recipient))
            .buffer_unordered(REMOVALS_AT_A_TIME)
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
            let late = || "time ran out".to_owned();
            let reason = problem.unwrap_or_else(late);
            tracing::warn!(
                rows = left,
                reason,
                complete = in_time.is_some(),
                "rows of connections that are gone were not removed"
            );
        }
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

/// A request as it is worked on, in one segment for the time being.
fn broadcast(
    id: &MessageId,
    request: BroadcastRequest,
    started_at: UnixMillis,
) -> Result<Broadcast, BroadcastError> {
    let timestamp = started_at.to_timestamp();
    let frame = request.message.into_frame(id, timestamp).to_json();
    if frame.len() > MAX_FRAME_BYTES {
        return Err(BroadcastError::PayloadTooLarge { bytes: frame.len() });
    }
    Ok(Broadcast {
        key: BroadcastKey {
            id: id.clone(),
            started_at,
        },
        frame,
        source: Source::new(request.target, request.exclude),
        segments: 1,
    })
}

/// A broadcast as it was begun.
fn restored(id: &MessageId, known: &BroadcastRecord) -> Result<Broadcast, BroadcastError> {
    let unreadable = |error: &dyn std::fmt::Display| StoreError {
        operation: "reading a broadcast",
        cause: error.to_string(),
    };
    let request = BroadcastRequest::parse(&known.request).map_err(|error| unreadable(&error))?;
    Ok(Broadcast {
        segments: known.segments,
        ..broadcast(id, request, known.started_at)?
    })
}

fn forgotten_at(started_at: UnixMillis) -> UnixSeconds {
    started_at.plus(MEMORY).to_seconds()
}
