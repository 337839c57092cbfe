use belfry_protocol::{
    Action, Address, ChannelError, ChannelName, ChannelRefused, ChannelSince, ChannelState,
    ErrorCode, List, MAX_CHANNELS, Position, Subscribe, Subscribed, SubscribedTo,
};
use futures_util::future::{join_all, try_join_all};

use super::history::{Found, HistoryReader};
use super::permission::{Allowed, Judge, forbidden_channel};
use super::rejection::Rejection;
use crate::connections::Connection;
use crate::ports::{
    Authorizer, Clock, LogReads, Metrics, NotServed, Randomness, StoreError, SubscribeResult,
    Subscription, Subscriptions,
};

/// The most bytes of messages in an answer: it must fit into a message of API
/// Gateway with everything else.
pub(super) const PAGE_BYTES: usize = 96 * 1024;

/// The most messages that a subscription recovers.
const MAX_RECOVERED: u64 = 300;

/// `subscribe`: subscribes to channels, then reads what the client has missed.
/// In this order: a message that the read does not find is posted.
pub(super) struct SubscribeHandler<'a, A, M, S, C, R> {
    pub(super) judge: Judge<'a, A, M>,
    pub(super) store: &'a S,
    pub(super) history: HistoryReader<'a, S, C, R>,
}

impl<A, M, S, C, R> SubscribeHandler<'_, A, M, S, C, R>
where
    A: Authorizer,
    M: Metrics,
    S: Subscriptions + LogReads,
    C: Clock,
    R: Randomness,
{
    /// Subscribes a connection that was marked.
    pub(super) async fn handle(
        &self,
        connection: &Connection,
        frame: Subscribe,
    ) -> Result<Subscribed, Rejection> {
        let wanted: Vec<ChannelSince> = List::into_vec(frame.channels);
        let judged = join_all(wanted.iter().map(|one| self.judge(connection, one))).await;
        let too_many = self.subscribe(connection, &wanted, &judged).await?;
        let outcomes = wanted
            .into_iter()
            .zip(judged)
            .map(async |(wanted, judged)| {
                let ChannelSince { channel, since } = wanted;
                let allowed = match (&channel, judged) {
                    (Address::Channel(name), Some(_)) if too_many.contains(name) => {
                        Err(too_many_channels())
                    }
                    (_, Some(allowed)) => Ok(allowed),
                    (_, None) => Err(forbidden_channel()),
                };
                let found = match &allowed {
                    Ok(_) => self.recover(&channel, since.as_ref()).await?,
                    Err(_) => None,
                };
                Ok::<_, StoreError>((channel, allowed, found))
            });
        let mut bytes = PAGE_BYTES;
        let channels = try_join_all(outcomes).await?.into_iter();
        let channels = channels.map(|(channel, allowed, found)| match allowed {
            Err(error) => SubscribedTo::Refused(ChannelRefused { channel, error }),
            Ok(allowed) => SubscribedTo::Yes(ChannelState {
                channel,
                until: allowed
                    .by_application
                    .map(|_| allowed.ends_at.to_millis().to_timestamp()),
                history: found.map(|found| found.into_page(&mut bytes)),
            }),
        });
        Ok(Subscribed {
            channels: channels.collect(),
        })
    }

    async fn recover(
        &self,
        channel: &Address,
        since: Option<&Position>,
    ) -> Result<Option<Found>, StoreError> {
        self.history.recover(channel, since, MAX_RECOVERED).await
    }

    /// Whether the connection may subscribe. Everyone receives `@me` and `@all`.
    async fn judge(&self, connection: &Connection, wanted: &ChannelSince) -> Option<Allowed> {
        match &wanted.channel {
            Address::Me | Address::All => Some(Allowed {
                ends_at: connection.token_expires_at,
                by_application: None,
            }),
            Address::Channel(name) => {
                let (judge, now) = (&self.judge, self.history.now());
                judge.allows(connection, name, Action::Subscribe, now).await
            }
        }
    }

    /// Writes the subscriptions. Returns the channels that were too many.
    async fn subscribe(
        &self,
        connection: &Connection,
        wanted: &[ChannelSince],
        judged: &[Option<Allowed>],
    ) -> Result<Vec<ChannelName>, Rejection> {
        let mut subscriptions: Vec<Subscription> = Vec::new();
        for (wanted, judged) in wanted.iter().zip(judged) {
            let (Address::Channel(name), Some(allowed)) = (&wanted.channel, judged) else {
                continue;
            };
            // A channel may be named twice.
            if subscriptions.iter().all(|one| one.channel != *name) {
                subscriptions.push(allowed.subscription(name));
            }
        }
        if subscriptions.is_empty() {
            return Ok(Vec::new());
        }
        let subscribed = self
            .store
            .subscribe(connection, &subscriptions, MAX_CHANNELS)
            .await?;
        match subscribed {
            SubscribeResult::Subscribed { too_many } => Ok(too_many),
            SubscribeResult::Ended => Err(NotServed::Unknown.into()),
        }
    }
}

fn too_many_channels() -> ChannelError {
    ChannelError {
        code: ErrorCode::TooManyChannels,
        message: format!("a connection may be subscribed to {MAX_CHANNELS} channels"),
    }
}
