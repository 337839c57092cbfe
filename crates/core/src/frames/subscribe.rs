use belfry_protocol::{
    Action, Address, ChannelError, ChannelName, ChannelRefused, ChannelState, ChannelWanted,
    ErrorCode, HeldLocks, List, MAX_CHANNELS, Present, Since, Subscribe, Subscribed, SubscribedTo,
};
use futures_util::future::{join_all, try_join_all};

use super::history::{Found, HistoryReader};
use super::permission::{Allowed, Judge, forbidden_channel};
use super::rejection::Rejection;
use crate::channels::Actions;
use crate::connections::Connection;
use crate::locks;
use crate::ports::{
    Acks, Arrival, Authorizer, Clock, JoinsPresence, Leave, Locks, LogReads, Metrics, NotServed,
    Presence, Randomness, StoreError, SubscribeResult, Subscription, Subscriptions,
};
use crate::presence::{PresenceSettings, present, within};

/// The most bytes of messages in an answer: it must fit into a message of API
/// Gateway with everything else.
pub(crate) const PAGE_BYTES: usize = 96 * 1024;

/// The most messages that a subscription recovers.
const MAX_RECOVERED: u64 = 300;

/// `subscribe`: subscribes to channels, then reads what the client has missed.
/// In this order: a message that the read does not find is posted.
pub(super) struct SubscribeHandler<'a, A, M, S, C, R> {
    pub(super) judge: Judge<'a, A, M>,
    pub(super) store: &'a S,
    pub(super) history: HistoryReader<'a, S, C, R>,
    pub(super) presence: PresenceSettings,
}

impl<A, M, S, C, R> SubscribeHandler<'_, A, M, S, C, R>
where
    A: Authorizer,
    M: Metrics,
    S: Acks + Locks + Subscriptions + LogReads + Presence,
    C: Clock,
    R: Randomness,
{
    /// Subscribes a connection that was marked.
    pub(super) async fn handle(
        &self,
        connection: &Connection,
        frame: Subscribe,
    ) -> Result<(Subscribed, PresenceChanges), Rejection> {
        let wanted: Vec<ChannelWanted> = List::into_vec(frame.channels);
        let judged = join_all(wanted.iter().map(|one| self.judge(connection, one))).await;
        let subscribed = self.subscribe(connection, &wanted, &judged).await?;
        let (too_many, arrivals, leaves) = subscribed;
        let outcomes = wanted
            .into_iter()
            .zip(judged)
            .map(async |(wanted, judged)| {
                let ChannelWanted { channel, since, .. } = &wanted;
                let allowed = match (channel, judged) {
                    (Address::Channel(name), Ok(_)) if too_many.contains(name) => {
                        Err(too_many_channels())
                    }
                    (_, judged) => judged,
                };
                let mut listed = Listed::default();
                if allowed.is_ok() {
                    listed = Listed {
                        found: self.recover(channel, since.clone()).await?,
                        present: self.present(&wanted).await?,
                        locks: self.locks(&wanted).await?,
                    };
                }
                Ok::<_, StoreError>((wanted.channel, allowed, listed))
            });
        let outcomes = try_join_all(outcomes).await?;
        let counted = arrivals.into_iter().map(|arrival| {
            let mut listed = outcomes.iter().filter_map(|(channel, _, listed)| {
                let is_of = matches!(channel, Address::Channel(name) if *name == arrival.channel);
                listed.present.as_ref().filter(|_| is_of)
            });
            let count = listed
                .next()
                .and_then(|present| (!present.more).then_some(present.count));
            (arrival, count)
        });
        let changes = PresenceChanges {
            arrivals: counted.collect(),
            leaves,
        };
        let mut bytes = PAGE_BYTES;
        let channels = outcomes
            .into_iter()
            .map(|(channel, allowed, listed)| match allowed {
                Err(error) => SubscribedTo::Refused(ChannelRefused { channel, error }),
                Ok(allowed) => SubscribedTo::Yes(ChannelState {
                    channel,
                    until: allowed
                        .by_application
                        .then(|| allowed.ends_at.to_millis().to_timestamp()),
                    presence: listed.present.map(|one| within(one, &mut bytes)),
                    locks: listed.locks.map(|one| locks::within(one, &mut bytes)),
                    history: listed.found.map(|found| found.into_page(&mut bytes)),
                }),
            });
        let subscribed = Subscribed {
            channels: channels.collect(),
            session: None,
        };
        Ok((subscribed, changes))
    }

    async fn present(&self, wanted: &ChannelWanted) -> Result<Option<Present>, StoreError> {
        match (&wanted.channel, &wanted.presence) {
            (Address::Channel(name), Some(_)) => {
                present(self.store, name, self.presence).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The locks that are held. Listed after the subscription was written, so a
    /// change that this does not see is posted.
    async fn locks(&self, wanted: &ChannelWanted) -> Result<Option<HeldLocks>, StoreError> {
        match &wanted.channel {
            Address::Channel(name) if wanted.locks == Some(true) => {
                let now = self.history.now();
                locks::held(self.store, name, now).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    async fn recover(
        &self,
        channel: &Address,
        since: Option<Since>,
    ) -> Result<Option<Found>, StoreError> {
        let Some(log) = self.history.log_of(channel) else {
            return Ok(None);
        };
        let since = self.history.position_of(&log, since).await?;
        let since = since.as_ref();
        self.history.recover(channel, since, MAX_RECOVERED).await
    }

    /// Whether the connection may subscribe. Everyone receives `@me` and `@all`.
    async fn judge(
        &self,
        connection: &Connection,
        wanted: &ChannelWanted,
    ) -> Result<Allowed, ChannelError> {
        let name = match &wanted.channel {
            Address::Channel(name) => name,
            Address::Me | Address::All if wanted.presence.is_some() => {
                return Err(not_allowed("presence is"));
            }
            Address::Me | Address::All if wanted.locks == Some(true) => {
                return Err(not_allowed("locks are"));
            }
            Address::Me | Address::All => {
                return Ok(Allowed {
                    ends_at: connection.token_expires_at,
                    actions: Actions::default(),
                    by_application: false,
                });
            }
        };
        let (judge, now) = (&self.judge, self.history.now());
        let caller = connection.into();
        let allowed = judge.allows(caller, name, Action::Subscribe, now).await;
        match allowed {
            None => Err(forbidden_channel()),
            Some(allowed)
                if wanted.presence.is_some() && !allowed.actions.contains(Action::Presence) =>
            {
                Err(not_allowed("presence is"))
            }
            Some(allowed)
                if wanted.locks == Some(true) && !allowed.actions.contains(Action::Lock) =>
            {
                Err(not_allowed("locks are"))
            }
            Some(allowed) => Ok(allowed),
        }
    }

    /// Writes the subscriptions. Returns the channels that were too many, and what
    /// the others in the channels are to be told.
    async fn subscribe(
        &self,
        connection: &Connection,
        wanted: &[ChannelWanted],
        judged: &[Result<Allowed, ChannelError>],
    ) -> Result<(Vec<ChannelName>, Vec<Arrival>, Vec<Leave>), Rejection> {
        let mut subscriptions: Vec<Subscription> = Vec::new();
        for (wanted, judged) in wanted.iter().zip(judged) {
            let (Address::Channel(name), Ok(allowed)) = (&wanted.channel, judged) else {
                continue;
            };
            // A channel may be named twice.
            if subscriptions.iter().all(|one| one.channel != *name) {
                let presence = match &wanted.presence {
                    Some(info) => JoinsPresence::With(info.clone()),
                    None => JoinsPresence::No,
                };
                subscriptions.push(allowed.subscription(name, presence));
            }
        }
        if subscriptions.is_empty() {
            return Ok(Default::default());
        }
        let now = self.history.now();
        let subscribed = self
            .store
            .subscribe(connection, &subscriptions, MAX_CHANNELS, now)
            .await?;
        match subscribed {
            SubscribeResult::Subscribed {
                too_many,
                arrivals,
                leaves,
            } => Ok((too_many, arrivals, leaves)),
            SubscribeResult::Ended => Err(NotServed::Unknown.into()),
        }
    }
}

/// What the answer says about a channel.
#[derive(Default)]
struct Listed {
    found: Option<Found>,
    present: Option<Present>,
    locks: Option<HeldLocks>,
}

/// What the others in the channels are to be told.
#[derive(Debug, Default)]
pub(super) struct PresenceChanges {
    /// Each with the number of users, which was listed after the arrival was
    /// written. `None` if they are too many to announce each.
    pub(super) arrivals: Vec<(Arrival, Option<u64>)>,
    pub(super) leaves: Vec<Leave>,
}

fn not_allowed(what: &str) -> ChannelError {
    ChannelError {
        code: ErrorCode::Forbidden,
        message: format!("{what} not allowed in this channel"),
    }
}

fn too_many_channels() -> ChannelError {
    ChannelError {
        code: ErrorCode::TooManyChannels,
        message: format!("a connection may be subscribed to {MAX_CHANNELS} channels"),
    }
}
