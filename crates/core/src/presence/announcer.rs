use belfry_protocol::{
    ChannelName, ConnectionId, Envelope, PresenceChange, PresenceInfo, ServerFrame, UserId, Version,
};

use super::PresenceSettings;
use crate::broadcast::Fanout;
use crate::ports::{
    Arrival, Clock, DueCount, Leave, LeaveOutcome, Listing, MetricEvent, Metrics, NewBroadcasts,
    Outbox, Presence, Randomness, Removals, SegmentOffers, StoreError, Subscribers, Workers,
};
use crate::time::UnixMillis;

/// A change of a user's presence.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change<'a> {
    Joined(&'a PresenceInfo),
    Updated(&'a PresenceInfo),
    Left,
}

/// A change of a user's presence in a channel, to be announced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announcement<'a> {
    pub(crate) channel: &'a ChannelName,
    pub(crate) user: &'a UserId,
    pub(crate) change: Change<'a>,
    pub(crate) at: UnixMillis,
    /// How many users were present after the change. `None` if they are too many
    /// to announce each.
    pub(crate) count: Option<u64>,
}

/// Tells those who are present in a channel who comes and goes.
#[derive(Debug)]
pub(crate) struct Announcer<'a, S, O, C, M, W, R> {
    pub(crate) fanout: Fanout<'a, S, O, C, M, W, R>,
    pub(crate) settings: PresenceSettings,
}

impl<S, O, C, M, W, R> Announcer<'_, S, O, C, M, W, R>
where
    S: NewBroadcasts + Presence + Removals + SegmentOffers + Subscribers,
    O: Outbox,
    C: Clock,
    M: Metrics,
    W: Workers,
    R: Randomness,
{
    /// Announces a change, except to one connection. If there are too many users
    /// for that, a count is made due.
    pub(crate) async fn announce(
        &self,
        announcement: Announcement<'_>,
        except: Option<&ConnectionId>,
    ) -> Result<(), StoreError> {
        let Announcement {
            channel,
            user,
            change,
            at,
            count,
        } = announcement;
        match change {
            Change::Joined(_) => self.fanout.metrics.record(MetricEvent::PresenceJoined),
            Change::Left => self.fanout.metrics.record(MetricEvent::PresenceLeft),
            Change::Updated(_) => {}
        }
        let Some(count) = count else {
            let now = self.fanout.clock.now();
            return self.fanout.store.count_later(channel, now).await;
        };
        let data = PresenceChange {
            channel: channel.clone(),
            user_id: Some(user.clone()),
            info: match change {
                Change::Joined(info) | Change::Updated(info) => Some(info.clone()),
                Change::Left => None,
            },
            count,
            at: at.to_timestamp(),
        };
        let frame = self.envelope(data);
        let frame = match change {
            Change::Joined(_) => ServerFrame::PresenceJoined(frame),
            Change::Updated(_) => ServerFrame::PresenceUpdated(frame),
            Change::Left => ServerFrame::PresenceLeft(frame),
        };
        self.post(channel, &frame, except).await
    }

    /// How many users are present. `None` if they are too many to announce each.
    pub(crate) async fn count_announced(
        &self,
        channel: &ChannelName,
    ) -> Result<Option<u64>, StoreError> {
        let store = self.fanout.store;
        let present = store.present(channel, self.settings.announced).await?;
        Ok((!present.more).then_some(present.users.len() as u64))
    }

    /// Makes a user who has not come back absent, and tells the others. Also tells
    /// them what they should have been told before.
    pub(crate) async fn leave(&self, leave: &Leave) -> Result<(), StoreError> {
        let (store, now) = (self.fanout.store, self.fanout.clock.now());
        match store.make_absent(leave, now).await? {
            LeaveOutcome::AsKnown => {}
            LeaveOutcome::Absent(at) => self.tell(leave, Change::Left, at).await?,
            LeaveOutcome::Unannounced(Arrival { info, at, .. }) => {
                self.tell(leave, Change::Updated(&info), at).await?;
                store.announced(&leave.channel, &leave.user).await?;
            }
        }
        store.forget_leave(leave).await
    }

    /// Announces what came of a leave.
    async fn tell(
        &self,
        leave: &Leave,
        change: Change<'_>,
        at: UnixMillis,
    ) -> Result<(), StoreError> {
        let announcement = Announcement {
            channel: &leave.channel,
            user: &leave.user,
            change,
            at,
            count: self.count_announced(&leave.channel).await?,
        };
        self.announce(announcement, None).await
    }

    /// Counts the users of a large channel, and announces the number. Its time is
    /// before the count, so of two counts the later one has seen more.
    pub(crate) async fn count(&self, due: &DueCount) -> Result<(), StoreError> {
        let (store, now) = (self.fanout.store, self.fanout.clock.now());
        let channel = &due.channel;
        let data = PresenceChange {
            channel: channel.clone(),
            user_id: None,
            info: None,
            count: store.count(channel, now).await?,
            at: now.to_timestamp(),
        };
        let frame = ServerFrame::PresenceUpdated(self.envelope(data));
        self.post(channel, &frame, None).await?;
        store.forget_count(due).await
    }

    fn envelope(&self, data: PresenceChange) -> Envelope<PresenceChange> {
        Envelope {
            version: Version,
            id: None,
            timestamp: Some(self.fanout.clock.now().to_timestamp()),
            data,
            correlation_id: None,
        }
    }

    async fn post(
        &self,
        channel: &ChannelName,
        frame: &ServerFrame,
        except: Option<&ConnectionId>,
    ) -> Result<(), StoreError> {
        let (id, frame) = (self.fanout.new_id(), frame.to_json());
        self.fanout
            .run(channel, Listing::Present, frame, except.cloned(), &id)
            .await
    }
}
