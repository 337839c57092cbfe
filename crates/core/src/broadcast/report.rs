//! How a broadcast stands.

use std::time::Duration;

use belfry_protocol::{BroadcastReport, BroadcastStatus, Failures, WaitSeconds};

use super::segment::{Broadcast, STARTING};
use super::{Broadcaster, LOOK};
use crate::ports::{
    BroadcastStore, Clock, Measured, Metrics, Outbox, RecipientStore, StoreError, Workers,
};
use crate::time::UnixMillis;

impl<S, O, C, M, W> Broadcaster<S, O, C, M, W>
where
    S: RecipientStore + BroadcastStore,
    O: Outbox,
    C: Clock,
    M: Metrics,
    W: Workers,
{
    /// The report at the end of the broadcast, or when the wait or the time
    /// for the answer is over.
    pub(super) async fn wait_for(
        &self,
        broadcast: &Broadcast,
        deadline: UnixMillis,
        wait: WaitSeconds,
    ) -> Result<BroadcastReport, StoreError> {
        let patience = Duration::from_secs(wait.0.into());
        let until = self.clock.now().plus(patience).min(deadline);
        loop {
            let report = self.report(broadcast).await?;
            if report.status != BroadcastStatus::Running || self.clock.now() >= until {
                return Ok(report);
            }
            self.clock.sleep(LOOK).await;
        }
    }

    /// How a broadcast stands: the sum of its segments at this moment.
    pub(super) async fn report(
        &self,
        broadcast: &Broadcast,
    ) -> Result<BroadcastReport, StoreError> {
        let now = self.clock.now();
        let views = self.store.segments(&broadcast.key).await?;
        // Those that nobody was asked for yet: it has only just begun.
        let is_new = broadcast.key.started_at.plus(STARTING) > now;
        let mut is_running = is_new && views.len() < broadcast.segments as usize;
        let (mut success, mut failures, mut done) = (0, Failures::default(), 0);
        for (_, view) in &views {
            success += view.progress.success;
            failures = failures + view.progress.failures;
            done += u32::from(view.progress.is_done);
            is_running |= !view.progress.is_done && view.held_until > now;
        }
        let status = if done == broadcast.segments {
            BroadcastStatus::Done
        } else if is_running {
            BroadcastStatus::Running
        } else {
            BroadcastStatus::Stopped
        };
        Ok(BroadcastReport {
            message_id: broadcast.key.id.clone(),
            status,
            success,
            failure: failures.total(),
            failures,
            complete: status == BroadcastStatus::Done,
        })
    }

    /// Whoever ends the last segment tells how long the whole took.
    pub(super) async fn finish_if_last(&self, broadcast: &Broadcast) -> Result<(), StoreError> {
        let report = self.report(broadcast).await?;
        let now = self.clock.now();
        if report.complete && self.store.finish(&broadcast.key, now).await? {
            self.metrics.record(Measured::Broadcast {
                recipients: report.success + report.failure,
                took: now.since(broadcast.key.started_at),
            });
        }
        Ok(())
    }
}
