use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, join, select};

use super::delivery::Delivery;
use super::recipients::AudiencePage;
use super::tally::{PostOutcome, Tally};
use super::{Broadcast, BroadcastError, WORKER_START, Worker};
use crate::ports::{
    BroadcastRecords, Clock, Cursor, Lease, LogAppends, LogReads, Metrics, Outbox, Progress,
    Randomness, Recipients, Removals, Reservation, Segment, SegmentLeases, SegmentStates,
    Subscribers, Workers,
};
use crate::time::UnixMillis;

/// Length of a lease. A worker that is stopped for longer, as Lambda can stop
/// it, loses the segment to the next worker.
pub(super) const LEASE: Duration = Duration::from_secs(120);

/// How often a lease is renewed beside the work. Two failures in a row do no harm.
const RENEWAL: Duration = Duration::from_secs(40);

/// With less time than this left, no new page is begun.
const LAST_PAGE: Duration = Duration::from_secs(5);

/// How the work on a segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunEnd {
    /// Every recipient is counted.
    Done,
    /// Time ran out. The rest is recorded and reserved for the worker that is
    /// asked to continue.
    OutOfTime,
    /// Another worker has acquired the segment. It may post again to a page that
    /// was not recorded, and it alone counts that page.
    LeaseLost,
}

/// One worker's run over a segment: page by page, with one write of position
/// and counts after each page. If the worker dies between a post and that
/// write, the page is posted again, with the same message id, and counted once.
///
/// Rows of gone connections are removed after the write: before it they would
/// be missing from the counts of the worker that continues.
pub(super) struct SegmentRun<'a, S, O, C, M, W, R> {
    worker: &'a Worker<S, O, C, M, W, R>,
    broadcast: &'a Broadcast,
    segment: Segment,
    deadline: UnixMillis,
    /// With the progress that was written last. The counts of this run come
    /// on top of those it began with, in `before`.
    lease: Lease,
    before: Progress,
    cursor: Option<Cursor>,
    listing_done: bool,
    /// The next page, if it was read while the last one was posted.
    read_ahead: Option<Result<AudiencePage, BroadcastError>>,
    delivery: Delivery<'a, O, C, M, R>,
    tally: &'a mut Tally,
}

impl<'a, S, O, C, M, W, R> SegmentRun<'a, S, O, C, M, W, R>
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
    pub(super) fn new(
        worker: &'a Worker<S, O, C, M, W, R>,
        broadcast: &'a Broadcast,
        segment: Segment,
        lease: Lease,
        deadline: UnixMillis,
        tally: &'a mut Tally,
    ) -> Self {
        let before = lease.progress.clone();
        Self {
            worker,
            broadcast,
            segment,
            deadline,
            lease,
            cursor: before.cursor.clone(),
            listing_done: before.listing_done,
            before,
            read_ahead: None,
            delivery: worker.delivery(deadline),
            tally,
        }
    }

    pub(super) async fn run(&mut self) -> Result<RunEnd, BroadcastError> {
        loop {
            if let Some(page) = self.next_page().await?
                && !self.deliver(page).await
            {
                return Ok(RunEnd::LeaseLost);
            }
            let is_late = self.delivery.is_over(self.now().plus(LAST_PAGE));
            if self.is_listed() && !is_late && !self.retry_waiting().await {
                return Ok(RunEnd::LeaseLost);
            }
            if let Some(ended) = self.checkpoint(is_late).await? {
                return Ok(ended);
            }
        }
    }

    /// The lease as it was written last, even after an error.
    pub(super) fn into_lease(self) -> Lease {
        self.lease
    }

    async fn next_page(&mut self) -> Result<Option<AudiencePage>, BroadcastError> {
        let (broadcast, lister) = (self.broadcast, self.worker.lister());
        let (read_ahead, now) = (self.read_ahead.take(), self.now());
        let mut pending = std::mem::take(&mut self.before.pending);
        pending.extend(self.delivery.take_unattempted());
        if !pending.is_empty() {
            // A page of its own. Then the listing continues where it was.
            let next = self.cursor.clone().filter(|_| !self.listing_done);
            let page = lister.of_ids(&broadcast.content, &pending, next, now);
            return page.await.map(Some);
        }
        if self.listing_done {
            return Ok(None);
        }
        match read_ahead {
            // Read it again.
            Some(Ok(page)) if page.fresh_until() <= now => {}
            Some(page) => return page.map(Some),
            None => {}
        }
        let page = lister.page(broadcast, self.segment, self.cursor.as_ref(), now);
        page.await.map(Some)
    }

    /// Posts to a page and reads the next one meanwhile: at many posts a second
    /// a read takes as long as several posts. Returns `false` if the lease was
    /// lost.
    async fn deliver(&mut self, page: AudiencePage) -> bool {
        let fresh_until = page.fresh_until();
        for id in page.missing {
            self.tally.count(&id, PostOutcome::Gone);
        }
        let (worker, broadcast, segment) = (self.worker, self.broadcast, self.segment);
        let reading = async {
            let (from, now) = (page.next.as_ref()?, worker.clock.now());
            let lister = worker.lister();
            Some(lister.page(broadcast, segment, Some(from), now).await)
        };
        let posting = self.delivery.post(page.posts, fresh_until, self.tally);
        let posted = join(posting, reading);
        let Some(((), read)) =
            while_leased(worker, broadcast, segment.index, &self.lease, posted).await
        else {
            return false;
        };
        self.read_ahead = read;
        self.listing_done = page.next.is_none();
        self.cursor = page.next.or(self.cursor.take());
        true
    }

    /// Retries the connections that wait for another attempt. Returns `false`
    /// if the lease was lost.
    async fn retry_waiting(&mut self) -> bool {
        let retried = self.delivery.retry_waiting(self.tally);
        let (worker, index) = (self.worker, self.segment.index);
        while_leased(worker, self.broadcast, index, &self.lease, retried)
            .await
            .is_some()
    }

    /// Writes position and counts, then removes the rows of gone connections.
    /// Returns how the run ended, if it did.
    async fn checkpoint(&mut self, is_late: bool) -> Result<Option<RunEnd>, BroadcastError> {
        let pending = self.delivery.waiting();
        let is_done = self.listing_done && pending.is_empty();
        let stops = !is_done && (self.is_listed() || is_late);
        let now = self.now();
        let reservation = if stops {
            Reservation::NextWorker(now.plus(WORKER_START))
        } else {
            Reservation::Owner(now.plus(LEASE))
        };
        let next = Lease {
            progress: Progress {
                cursor: self.cursor.clone(),
                listing_done: self.listing_done,
                pending,
                success: self.before.success + self.tally.success,
                failures: self.before.failures + self.tally.failures,
                is_done,
            },
            version: self.lease.version,
            owner: self.lease.owner.clone(),
        };
        let (store, key) = (&self.worker.store, &self.broadcast.key);
        let written = store.checkpoint(key, self.segment.index, &next, reservation);
        if !written.await? {
            return Ok(Some(RunEnd::LeaseLost));
        }
        self.lease = next;
        if stops {
            return Ok(Some(RunEnd::OutOfTime));
        }
        self.worker
            .remove_gone(self.broadcast, self.tally, self.deadline)
            .await;
        Ok(is_done.then_some(RunEnd::Done))
    }

    /// Whether every recipient was read and had its turn.
    fn is_listed(&self) -> bool {
        self.listing_done && !self.delivery.has_unattempted()
    }

    fn now(&self) -> UnixMillis {
        self.worker.clock.now()
    }
}

/// The result of some work during which the lease is renewed, or `None` if
/// another worker has acquired the segment.
async fn while_leased<S: SegmentLeases, O, C: Clock, M, W, R, T>(
    worker: &Worker<S, O, C, M, W, R>,
    broadcast: &Broadcast,
    segment: u32,
    lease: &Lease,
    work: impl Future<Output = T>,
) -> Option<T> {
    let losing = async {
        loop {
            worker.clock.sleep(RENEWAL).await;
            let until = worker.clock.now().plus(LEASE);
            let renewed = worker.store.renew(&broadcast.key, segment, lease, until);
            // A renewal that fails now may succeed the next time.
            if renewed.await == Ok(false) {
                return;
            }
        }
    };
    match select(pin!(work), pin!(losing)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
