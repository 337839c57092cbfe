//! The work on one segment of a broadcast.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, join, select};

use super::posting::Posting;
use super::source::{Source, SourcePage, live};
use super::tally::{Delivery, Tally};
use super::{BroadcastError, Broadcaster};
use crate::ports::{
    BroadcastKey, BroadcastStore, Clock, Kept, Lease, Metrics, Outbox, Progress, RecipientStore,
    Segment, StoreError, Workers,
};
use crate::time::UnixMillis;

/// For how long a segment is held at a time. Whoever is stopped for longer, as
/// Lambda can, loses it to the next one who comes.
pub(super) const LEASE: Duration = Duration::from_secs(120);

/// How often a lease is made longer, beside the work: twice in vain does no harm.
const RENEWAL: Duration = Duration::from_secs(40);

/// For how long a segment is kept for a worker that was asked for, before it
/// counts as forgotten: Lambda tries a failed event again after one minute.
pub(super) const STARTING: Duration = Duration::from_secs(60);

/// What is left of the time when no new page is begun.
const LAST_PAGE: Duration = Duration::from_secs(5);

/// A broadcast that is under way.
#[derive(Debug)]
pub(super) struct Broadcast {
    pub(super) key: BroadcastKey,
    pub(super) frame: String,
    pub(super) source: Source,
    /// In how many parts it is done, at least one.
    pub(super) segments: u32,
}

/// How the work on a segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Every recipient is counted.
    Done,
    /// Time is up; what is left is written down, and kept for whoever is asked
    /// to go on.
    OutOfTime,
    /// Somebody else has taken the segment. What they did not know of is
    /// posted twice, and counted by them alone.
    Lost,
}

impl<S, O, C, M, W> Broadcaster<S, O, C, M, W>
where
    S: RecipientStore + BroadcastStore,
    O: Outbox,
    C: Clock,
    M: Metrics,
    W: Workers,
{
    /// Works on a segment that was taken: page by page, and after each page
    /// one write with the position and the counts. Whoever dies between a post
    /// and that write leaves a page that is posted again, with the same id,
    /// and counted once.
    ///
    /// Rows of connections that are gone are removed after the write: before
    /// it they would be missing from the counts of whoever goes on.
    ///
    /// `lease` holds what was written last, also after an error.
    pub(super) async fn work(
        &self,
        broadcast: &Broadcast,
        segment: u32,
        lease: &mut Lease,
        deadline: UnixMillis,
        tally: &mut Tally,
    ) -> Result<Ended, StoreError> {
        let key = &broadcast.key;
        let part = Segment {
            index: segment,
            total: broadcast.segments,
        };
        // What has been written; the counts of this work come on top.
        let before = lease.progress.clone();
        let (mut cursor, mut is_listed) = (before.cursor, before.is_listed);
        let mut posting = self.posting(&broadcast.frame, deadline);
        let mut ahead = None;
        if !before.pending.is_empty() {
            // A page of their own, after which the list goes on where it was.
            let (found, missing) = live(&self.store, &before.pending, self.clock.now()).await?;
            let next = cursor.clone().filter(|_| !is_listed);
            ahead = Some(Ok(SourcePage {
                found,
                missing,
                next,
            }));
        }
        loop {
            if !is_listed || ahead.is_some() {
                let page = match ahead.take() {
                    Some(page) => page,
                    None => self.page(broadcast, part, cursor.as_deref()).await,
                }?;
                for id in page.missing {
                    tally.count(&id, Delivery::Gone);
                }
                // The next page is read meanwhile: at many posts a second that
                // takes long enough to cost some.
                let reading = async {
                    let from = page.next.as_deref()?;
                    Some(self.page(broadcast, part, Some(from)).await)
                };
                let posted = join(posting.post(page.found, tally), reading);
                match self.while_held(key, segment, lease, posted).await {
                    Some(((), read)) => ahead = read,
                    None => return Ok(Ended::Lost),
                }
                is_listed = page.next.is_none();
                cursor = page.next.or(cursor);
            }
            let is_late = posting.is_over(self.clock.now().plus(LAST_PAGE));
            if is_listed && !is_late {
                let finished = posting.finish(tally);
                if self
                    .while_held(key, segment, lease, finished)
                    .await
                    .is_none()
                {
                    return Ok(Ended::Lost);
                }
            }
            let pending = posting.waiting();
            let is_done = is_listed && pending.is_empty();
            let stops = !is_done && (is_listed || is_late);
            let now = self.clock.now();
            let kept = if stops {
                Kept::ForAnyone(now.plus(STARTING))
            } else {
                Kept::ForOwner(now.plus(LEASE))
            };
            let next = Lease {
                progress: Progress {
                    cursor: cursor.clone(),
                    is_listed,
                    pending,
                    success: before.success + tally.success,
                    failures: before.failures + tally.failures,
                    is_done,
                },
                ..lease.clone()
            };
            if !self.store.checkpoint(key, segment, &next, kept).await? {
                return Ok(Ended::Lost);
            }
            *lease = next;
            if stops {
                return Ok(Ended::OutOfTime);
            }
            self.forget(tally, deadline).await;
            if is_done {
                return Ok(Ended::Done);
            }
        }
    }

    /// What comes of some work during which the segment stays held, or `None`
    /// where somebody else has taken it.
    async fn while_held<T>(
        &self,
        key: &BroadcastKey,
        segment: u32,
        lease: &Lease,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let losing = async {
            loop {
                self.clock.sleep(RENEWAL).await;
                let until = self.clock.now().plus(LEASE);
                // What fails now may succeed the next time.
                if self.store.hold(key, segment, lease, until).await == Ok(false) {
                    return;
                }
            }
        };
        match select(pin!(work), pin!(losing)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    /// Works on everything at once, remembering nothing: for what is small and
    /// has no id of its caller's.
    pub(super) async fn work_unrecorded(
        &self,
        broadcast: &Broadcast,
        deadline: UnixMillis,
        tally: &mut Tally,
    ) -> Result<(), BroadcastError> {
        let whole = Segment { index: 0, total: 1 };
        let listing = self.page(broadcast, whole, None);
        let listed = self.before(deadline, listing).await;
        let page = listed.ok_or(BroadcastError::NoTime)??;
        let mut posting = self.posting(&broadcast.frame, deadline);
        posting.post(page.found, tally).await;
        posting.finish(tally).await;
        posting.give_up(tally);
        self.forget(tally, deadline).await;
        Ok(())
    }

    async fn page(
        &self,
        broadcast: &Broadcast,
        part: Segment,
        from: Option<&str>,
    ) -> Result<SourcePage, StoreError> {
        let now = self.clock.now();
        broadcast.source.page(&self.store, part, from, now).await
    }

    fn posting<'a>(&'a self, frame: &'a str, deadline: UnixMillis) -> Posting<'a, O, C> {
        Posting::new(&self.outbox, &self.clock, self.delivery, frame, deadline)
    }
}
