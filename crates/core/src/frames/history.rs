use belfry_protocol::{
    Action, Address, ChannelName, ErrorCode, History, HistoryPage, MessageFrame, NotRecovered,
    Position, ReadHistory, Refused, Since, Sync, Synced, SyncedChannel, UserId,
};
use futures_util::future::try_join_all;

use super::permission::{Judge, forbidden};
use super::rejection::Rejection;
use super::subscribe::PAGE_BYTES;
use crate::channels::ChannelRules;
use crate::connections::Connection;
use crate::log::{LogKey, Lost, Recovery, RecoveryLimits, RecoveryReader};
use crate::ports::{
    Acks, Authorizer, Clock, LogReads, Metrics, Randomness, StoreError, Subscription, Subscriptions,
};
use crate::time::UnixMillis;

/// The most messages in a page.
const PAGE_MESSAGES: u32 = 300;

/// Reads channels' histories for a user.
pub(crate) struct HistoryReader<'a, S, C, R> {
    pub(crate) rules: &'a ChannelRules,
    /// The user whose messages are those to `@me`.
    pub(crate) user: &'a UserId,
    pub(crate) log: RecoveryReader<'a, S, C, R>,
}

/// What a subscriber learns of a channel's history.
pub(crate) enum Found {
    /// The newest position.
    Newest(Position),
    /// What the client has missed.
    Missed(Recovery),
}

impl Found {
    /// The page of it that fits into the bytes that are left.
    pub(crate) fn into_page(self, bytes: &mut usize) -> HistoryPage {
        match self {
            Self::Newest(newest) => page_at(newest),
            Self::Missed(recovery) => {
                let recovery = recovery.within(*bytes);
                let taken: usize = recovery.entries.iter().map(|entry| entry.frame.len()).sum();
                *bytes = bytes.saturating_sub(taken);
                to_page(recovery)
            }
        }
    }
}

impl<S: LogReads, C: Clock, R: Randomness> HistoryReader<'_, S, C, R> {
    pub(super) fn now(&self) -> UnixMillis {
        self.log.clock.now()
    }

    /// The log of an address, if its history is kept.
    pub(crate) fn log_of(&self, address: &Address) -> Option<LogKey> {
        self.rules.history(address)?;
        Some(match address {
            Address::Me => LogKey::user(self.user),
            Address::All => LogKey::all(),
            Address::Channel(name) => LogKey::channel(name.as_str()),
        })
    }

    /// The position after which a client's messages begin. If the user has
    /// acknowledged nothing, there is none, as without `since`.
    pub(crate) async fn position_of(
        &self,
        log: &LogKey,
        since: Option<Since>,
    ) -> Result<Option<Position>, StoreError>
    where
        S: Acks,
    {
        match since {
            None => Ok(None),
            Some(Since::Position(position)) => Ok(Some(position)),
            Some(Since::Acked) => {
                let (store, now) = (self.log.store, self.now());
                store.find_ack(log, self.user, now).await
            }
        }
    }

    /// What a client has missed since a position, or the newest position. `None`
    /// if no history is kept.
    pub(crate) async fn recover(
        &self,
        address: &Address,
        since: Option<&Position>,
        most: u64,
    ) -> Result<Option<Found>, StoreError> {
        let Some(log) = self.log_of(address) else {
            return Ok(None);
        };
        let Some(since) = since else {
            let newest = self.log.newest(&log).await?;
            return Ok(Some(Found::Newest(newest)));
        };
        let limits = RecoveryLimits {
            messages: PAGE_MESSAGES,
            bytes: PAGE_BYTES,
            missed: Some(most),
        };
        let recovery = self.log.since(&log, since, limits).await?;
        Ok(Some(Found::Missed(recovery)))
    }

    /// The newest position, and whether it is beyond the client's.
    async fn compare(
        &self,
        address: &Address,
        since: Option<&Position>,
    ) -> Result<(Option<Position>, Option<bool>), StoreError> {
        let Some(log) = self.log_of(address) else {
            return Ok((None, None));
        };
        let Some(since) = since else {
            return Ok((Some(self.log.newest(&log).await?), None));
        };
        let compared = self.log.compare(&log, since).await?;
        Ok((Some(compared.newest), Some(compared.missed)))
    }
}

/// The log of an address that the connection may read.
pub(super) async fn readable<A, M, S, C, R>(
    judge: &Judge<'_, A, M>,
    reader: &HistoryReader<'_, S, C, R>,
    connection: &Connection,
    address: &Address,
) -> Result<LogKey, Rejection>
where
    A: Authorizer,
    M: Metrics,
    S: LogReads + Subscriptions,
    C: Clock,
    R: Randomness,
{
    if let Address::Channel(name) = address {
        let (store, action) = (reader.log.store, Action::Subscribe);
        may(judge, store, connection, name, action, reader.now()).await?;
    }
    Ok(reader.log_of(address).ok_or_else(no_history)?)
}

/// `history`: a page of the messages after a position.
pub(super) async fn read<A, M, S, C, R>(
    judge: &Judge<'_, A, M>,
    reader: &HistoryReader<'_, S, C, R>,
    connection: &Connection,
    frame: ReadHistory,
) -> Result<History, Rejection>
where
    A: Authorizer,
    M: Metrics,
    S: LogReads + Subscriptions,
    C: Clock,
    R: Randomness,
{
    let ReadHistory {
        channel,
        after,
        limit,
    } = frame;
    let log = readable(judge, reader, connection, &channel).await?;
    let limits = RecoveryLimits {
        messages: limit.0,
        bytes: PAGE_BYTES,
        missed: None,
    };
    let recovery = reader.log.since(&log, &after, limits).await?;
    Ok(History {
        channel,
        page: to_page(recovery),
    })
}

/// `sync`: the newest positions, and whether the connection is subscribed.
pub(super) async fn sync<S, C, R>(
    reader: &HistoryReader<'_, S, C, R>,
    connection: &Connection,
    frame: Sync,
) -> Result<Synced, Rejection>
where
    S: LogReads + Subscriptions,
    C: Clock,
    R: Randomness,
{
    let wanted = frame.channels.into_vec();
    let names: Vec<ChannelName> = wanted
        .iter()
        .filter_map(|one| match &one.channel {
            Address::Channel(name) => Some(name.clone()),
            Address::Me | Address::All => None,
        })
        .collect();
    let store = reader.log.store;
    let found = store.find_subscriptions(&connection.id, &names).await?;
    let now = reader.now();
    let is_subscribed = |address: &Address| match address {
        Address::Me | Address::All => true,
        Address::Channel(name) => found
            .iter()
            .any(|one| one.channel == *name && !one.ends_at.has_passed(now)),
    };
    let channels = wanted.into_iter().map(async |one| {
        let subscribed = is_subscribed(&one.channel);
        // Nobody learns how busy a channel is that is not the client's.
        let (position, missed) = if subscribed {
            let since = one.since.as_ref();
            reader.compare(&one.channel, since).await?
        } else {
            (None, None)
        };
        Ok::<_, StoreError>(SyncedChannel {
            channel: one.channel,
            subscribed,
            position,
            missed,
        })
    });
    let channels = try_join_all(channels).await?;
    Ok(Synced { channels })
}

/// Refuses an action that is not allowed. What the application allowed when the
/// connection subscribed holds for as long as it said.
pub(super) async fn may<A: Authorizer, M: Metrics, S: Subscriptions>(
    judge: &Judge<'_, A, M>,
    store: &S,
    connection: &Connection,
    channel: &ChannelName,
    action: Action,
    now: UnixMillis,
) -> Result<(), Rejection> {
    if judge.asks(connection.into(), channel) {
        let names = std::slice::from_ref(channel);
        let found = store.find_subscriptions(&connection.id, names).await?;
        let holds = |one: &Subscription| !one.ends_at.has_passed(now);
        let allowed = found
            .iter()
            .filter(|one| holds(one))
            .find_map(|one| one.allowed);
        if allowed.is_some_and(|allowed| allowed.contains(action)) {
            return Ok(());
        }
    }
    match judge.allows(connection.into(), channel, action, now).await {
        Some(_) => Ok(()),
        None => Err(forbidden().into()),
    }
}

fn no_history() -> Refused {
    Refused::new(
        ErrorCode::InvalidMessage,
        "no history of this channel is kept",
    )
}

fn page_at(newest: Position) -> HistoryPage {
    HistoryPage {
        epoch: newest.epoch,
        seq: newest.seq,
        recovered: None,
        reason: None,
        messages: None,
        more: None,
    }
}

fn to_page(recovery: Recovery) -> HistoryPage {
    let messages = recovery.entries.into_iter();
    let messages = messages
        .map(|entry| MessageFrame::new(entry.frame))
        .collect();
    HistoryPage {
        recovered: Some(recovery.lost.is_none()),
        reason: recovery.lost.map(|lost| match lost {
            Lost::Epoch => NotRecovered::Epoch,
            Lost::Expired => NotRecovered::Expired,
            Lost::TooFar => NotRecovered::TooFar,
        }),
        messages: Some(messages),
        more: Some(recovery.more),
        ..page_at(recovery.newest)
    }
}
