//! How a broadcast stands.

use std::time::Duration;

use belfry_protocol::{BroadcastReport, BroadcastStatus, Failures, MessageId, WaitSeconds};

use super::{Broadcaster, Call, LOOK};
use crate::ports::{
    BroadcastRecord, BroadcastStore, Clock, ConnectionStore, Measured, Metrics, Outbox, StoreError,
    SweepStore, Workers,
};
use crate::time::UnixMillis;

/// How long a worker that was asked for may take until it begins, before it
/// counts as dead: Lambda tries a failed event again after one and two minutes.
const STARTING: Duration = Duration::from_secs(60);

impl<S, O, C, M, W> Broadcaster<S, O, C, M, W>
where
    S: ConnectionStore + SweepStore + BroadcastStore,
    O: Outbox,
    C: Clock,
    M: Metrics,
    W: Workers,
{
    /// The report at the end of the broadcast, or when the wait or the time
    /// for the answer is over.
    pub(super) async fn wait_for(
        &self,
        call: &Call,
        known: &BroadcastRecord,
        asked_at: UnixMillis,
        wait: WaitSeconds,
    ) -> Result<BroadcastReport, StoreError> {
        let patience = Duration::from_secs(wait.0.into());
        let until = self.clock.now().plus(patience).min(call.deadline);
        loop {
            let report = self.report(&call.message_id, known, asked_at).await?;
            if report.status != BroadcastStatus::Running || self.clock.now() >= until {
                return Ok(report);
            }
            self.clock.sleep(LOOK).await;
        }
    }

    /// How a broadcast stands: the sum of its segments at this moment. Workers
    /// were asked for at `asked_at`, and may not have begun yet.
    pub(super) async fn report(
        &self,
        id: &MessageId,
        known: &BroadcastRecord,
        asked_at: UnixMillis,
    ) -> Result<BroadcastReport, StoreError> {
        let now = self.clock.now();
        let views = self.store.segments(id).await?;
        let (mut success, mut failures, mut done, mut held) = (0, Failures::default(), 0, false);
        for (_, view) in &views {
            success += view.progress.success;
            failures = failures + view.progress.failures;
            done += u32::from(view.progress.is_done);
            held |= !view.progress.is_done && view.held_until > now;
        }
        let is_starting = asked_at.plus(STARTING) > now;
        let status = if done == known.segments {
            BroadcastStatus::Done
        } else if held || is_starting {
            BroadcastStatus::Running
        } else {
            BroadcastStatus::Stopped
        };
        Ok(BroadcastReport {
            message_id: id.clone(),
            status,
            success,
            failure: failures.total(),
            failures,
            complete: status == BroadcastStatus::Done,
        })
    }

    /// Whoever ends the last segment tells how long the whole took.
    pub(super) async fn finish_if_last(
        &self,
        id: &MessageId,
        known: &BroadcastRecord,
    ) -> Result<(), StoreError> {
        let report = self.report(id, known, known.started_at).await?;
        let now = self.clock.now();
        if report.complete && self.store.finish(id, now).await? {
            self.metrics.record(Measured::Broadcast {
                recipients: report.success + report.failure,
                took: now.since(known.started_at),
            });
        }
        Ok(())
    }
}
