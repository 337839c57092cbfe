//! The work on one segment of a broadcast.

use std::time::Duration;

use belfry_protocol::MessageId;

use super::posting::Posting;
use super::source::{Source, live};
use super::tally::{Delivery, Tally};
use super::{BroadcastError, Broadcaster};
use crate::ports::{
    BroadcastStore, Clock, ConnectionStore, Lease, Metrics, Outbox, Progress, Segment, StoreError,
    SweepStore, Workers,
};
use crate::time::UnixMillis;

/// For how long a segment is held: longer than a page takes at the slowest.
pub(super) const LEASE: Duration = Duration::from_secs(120);

/// For how long a segment that is handed on seems to be held: until the next
/// worker is there, nobody needs to take it for dead.
const HANDED_ON: Duration = Duration::from_secs(2);

/// What is left of the time when no new page is begun.
const LAST_PAGE: Duration = Duration::from_secs(5);

/// A broadcast that is under way.
#[derive(Debug)]
pub(super) struct Broadcast {
    pub(super) id: MessageId,
    pub(super) frame: String,
    pub(super) source: Source,
    pub(super) segments: u32,
}

/// How the work on a segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Every recipient is counted.
    Done,
    /// Time is up; what is left is written down, and nobody holds it.
    OutOfTime,
    /// Somebody else has taken the segment. What they did not know of is
    /// posted twice, and counted by them alone.
    Lost,
}

impl<S, O, C, M, W> Broadcaster<S, O, C, M, W>
where
    S: ConnectionStore + SweepStore + BroadcastStore,
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
        let part = Segment {
            index: segment,
            total: broadcast.segments,
        };
        // What has been written; the counts of this work come on top.
        let before = lease.progress.clone();
        let (mut cursor, mut is_listed) = (before.cursor, before.is_listed);
        let mut posting = self.posting(&broadcast.frame, deadline);
        if !before.pending.is_empty() {
            let (found, missing) = live(&self.store, &before.pending, self.clock.now()).await?;
            for id in missing {
                tally.count(&id, Delivery::Gone);
            }
            posting.post(found, tally).await;
        }
        loop {
            if !is_listed {
                let from = cursor.as_deref();
                let now = self.clock.now();
                let page = broadcast.source.page(&self.store, part, from, now);
                let page = page.await?;
                for id in page.missing {
                    tally.count(&id, Delivery::Gone);
                }
                posting.post(page.found, tally).await;
                is_listed = page.next.is_none();
                cursor = page.next.or(cursor);
            }
            let is_late = self.clock.now().plus(LAST_PAGE) >= deadline;
            if is_listed && !is_late {
                posting.finish(tally).await;
            }
            let pending = posting.waiting();
            let is_done = is_listed && pending.is_empty();
            let stops = is_listed || is_late;
            let now = self.clock.now();
            let until = now.plus(if stops { HANDED_ON } else { LEASE });
            let next = Lease {
                version: lease.version,
                progress: Progress {
                    cursor: cursor.clone(),
                    is_listed,
                    pending,
                    success: before.success + tally.success,
                    failures: before.failures + tally.failures,
                    is_done,
                },
            };
            let written = self
                .store
                .checkpoint(&broadcast.id, segment, &next, until)
                .await?;
            if !written {
                return Ok(Ended::Lost);
            }
            *lease = next;
            self.forget(tally, deadline).await;
            if is_done {
                return Ok(Ended::Done);
            }
            if stops {
                return Ok(Ended::OutOfTime);
            }
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
        let listing = broadcast
            .source
            .page(&self.store, whole, None, self.clock.now());
        let listed = self.before(deadline, listing).await;
        let page = listed.ok_or(BroadcastError::NoTime)??;
        let mut posting = self.posting(&broadcast.frame, deadline);
        posting.post(page.found, tally).await;
        posting.finish(tally).await;
        posting.give_up(tally);
        self.forget(tally, deadline).await;
        Ok(())
    }

    fn posting<'a>(&'a self, frame: &'a str, deadline: UnixMillis) -> Posting<'a, O, C> {
        Posting::new(&self.outbox, &self.clock, self.delivery, frame, deadline)
    }
}
