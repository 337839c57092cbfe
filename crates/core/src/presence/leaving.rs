use super::{Announcer, Change};
use crate::ports::{
    Arrival, Clock, DueCount, Leave, LeaveOutcome, Metrics, NewBroadcasts, Outbox, Presence,
    Randomness, Removals, SegmentOffers, StoreError, Subscribers, Workers,
};

/// Processes what is due about presence.
impl<S, O, C, M, W, R> Announcer<'_, S, O, C, M, W, R>
where
    S: NewBroadcasts + Presence + Removals + SegmentOffers + Subscribers,
    O: Outbox,
    C: Clock,
    M: Metrics,
    W: Workers,
    R: Randomness,
{
    /// Makes a user who has not come back absent, and tells the others. Also tells
    /// them what they should have been told before.
    pub(crate) async fn leave(&self, leave: &Leave) -> Result<(), StoreError> {
        let (store, now) = (self.fanout.store, self.fanout.clock.now());
        let (channel, user) = (&leave.channel, &leave.user);
        match store.make_absent(leave, now).await? {
            LeaveOutcome::AsKnown => {}
            LeaveOutcome::Absent(at) => {
                self.announce(channel, user, Change::Left, at, None).await?;
            }
            LeaveOutcome::Unannounced(Arrival { info, at, .. }) => {
                let change = Change::Updated(&info);
                self.announce(channel, user, change, at, None).await?;
                store.announced(channel, user).await?;
            }
        }
        store.forget_leave(leave).await
    }

    /// Counts the users of a channel, and announces the number.
    pub(crate) async fn count(&self, due: &DueCount) -> Result<(), StoreError> {
        self.announce_count(&due.channel).await?;
        self.fanout.store.forget_count(due).await
    }
}
