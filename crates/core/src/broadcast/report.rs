use std::time::Duration;

use belfry_protocol::{BroadcastReport, BroadcastStatus, Failures, WaitSeconds};

use super::{Broadcast, POLL, WORKER_START};
use crate::ports::{Clock, SegmentStates, StoreError};
use crate::time::UnixMillis;

/// Reports on broadcasts. It only reads.
pub(super) struct Reports<'a, S, C> {
    pub(super) store: &'a S,
    pub(super) clock: &'a C,
}

impl<S: SegmentStates, C: Clock> Reports<'_, S, C> {
    /// The report when the broadcast ends, or when the caller's wait or the
    /// time for the answer is over.
    pub(super) async fn wait(
        &self,
        broadcast: &Broadcast,
        deadline: UnixMillis,
        wait: WaitSeconds,
    ) -> Result<BroadcastReport, StoreError> {
        let wait = Duration::from_secs(wait.0.into());
        let until = self.clock.now().plus(wait).min(deadline);
        loop {
            let report = self.report(broadcast).await?;
            if report.status != BroadcastStatus::Running || self.clock.now() >= until {
                return Ok(report);
            }
            self.clock.sleep(POLL).await;
        }
    }

    /// The sum of the segments now.
    pub(super) async fn report(
        &self,
        broadcast: &Broadcast,
    ) -> Result<BroadcastReport, StoreError> {
        let now = self.clock.now();
        let views = self.store.segments(&broadcast.key).await?;
        // Right after the start some segments may not have been offered yet.
        let is_new = broadcast.key.started_at.plus(WORKER_START) > now;
        let mut is_running = is_new && views.len() < broadcast.segments as usize;
        let (mut success, mut failures, mut done) = (0, Failures::default(), 0);
        for (_, view) in &views {
            success += view.progress.success;
            failures = failures + view.progress.failures;
            done += u32::from(view.progress.is_done);
            is_running |= !view.progress.is_done && view.reserved_until > now;
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
            position: broadcast.position.clone(),
            acknowledged: None,
        })
    }
}
