use belfry_protocol::{
    ChannelName, Envelope, HistoryPurged, Position, PurgeReport, ServerFrame, SubscribersTold,
    Version,
};

use crate::broadcast::Fanout;
use crate::log::{AppendError, LogKey, Purger};
use crate::ports::{
    Clock, Listing, LogAppends, LogPurges, LogReads, Metrics, NewBroadcasts, Outbox, Randomness,
    Removals, SegmentOffers, StoreError, Subscribers, Workers,
};
use crate::time::UnixMillis;

/// Deletes the histories of channels.
///
/// The messages are unreadable at once, by one write. Then the subscribers are
/// told, and the entries are deleted. A repeated call does what an earlier one
/// did not finish. With the same request id it deletes nothing newer.
#[derive(Debug)]
pub struct Purge<'a, S, O, C, M, W, R> {
    pub fanout: Fanout<'a, S, O, C, M, W, R>,
}

impl<S, O, C, M, W, R> Purge<'_, S, O, C, M, W, R>
where
    S: LogAppends + LogPurges + LogReads + NewBroadcasts + Removals + SegmentOffers + Subscribers,
    O: Outbox,
    C: Clock,
    M: Metrics,
    W: Workers,
    R: Randomness,
{
    /// Deletes a channel's history, and as many of its entries as the time until
    /// `deadline` allows.
    ///
    /// # Errors
    /// [`AppendError`]. After [`AppendError::Store`] the messages may be
    /// unreadable.
    pub async fn handle(
        &self,
        channel: &ChannelName,
        request_id: &str,
        deadline: UnixMillis,
    ) -> Result<PurgeReport, AppendError> {
        let log = LogKey::channel(channel.as_str());
        let purger = Purger {
            store: self.fanout.store,
            clock: self.fanout.clock,
            random: self.fanout.random,
        };
        let position = purger.purge(&log, request_id).await?;
        let told = match &position {
            Some(position) => self.tell(channel, position).await,
            None => None,
        };
        let (deleted, complete) = self.delete(&log, deadline).await?;
        Ok(PurgeReport {
            position,
            deleted,
            complete,
            told,
        })
    }

    /// A failure is no reason to purge again: operators may do so with another
    /// request, which takes newer messages.
    async fn tell(&self, channel: &ChannelName, position: &Position) -> Option<SubscribersTold> {
        let (work, frame) = (self.fanout.new_id(), self.frame(channel, position));
        let told = self
            .fanout
            .run_reported(channel, Listing::All, frame, None, &work);
        match told.await {
            // Without the id: nobody can ask for this work.
            Ok(report) => Some(SubscribersTold {
                status: report.status,
                success: report.success,
                failure: report.failure,
                failures: report.failures,
            }),
            Err(error) => {
                tracing::warn!(event = "purge.not-told", channel = %channel, reason = %error, "subscribers were not told of a purge");
                None
            }
        }
    }

    /// Returns how many were deleted, and whether these were all.
    async fn delete(&self, log: &LogKey, deadline: UnixMillis) -> Result<(u64, bool), StoreError> {
        let (mut deleted, mut after) = (0, None);
        loop {
            let page = self.fanout.store.delete_superseded(log, after.as_ref());
            let page = page.await?;
            deleted += page.deleted;
            after = page.next;
            if after.is_none() {
                return Ok((deleted, true));
            }
            if self.fanout.clock.now() >= deadline {
                return Ok((deleted, false));
            }
        }
    }

    fn frame(&self, channel: &ChannelName, position: &Position) -> String {
        ServerFrame::HistoryPurged(Envelope {
            version: Version,
            id: None,
            timestamp: Some(self.fanout.clock.now().to_timestamp()),
            data: HistoryPurged {
                channel: channel.clone(),
                position: position.clone(),
            },
            correlation_id: None,
        })
        .to_json()
    }
}

#[cfg(test)]
mod tests;
