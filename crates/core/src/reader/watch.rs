use belfry_protocol::{
    Action, Address, ChannelError, ChannelRefused, ChannelState, Cursor, ErrorCode, HistoryPage,
    MessageFrame, Position, ReaderSession, Since, SubscribedTo,
};
use futures_util::future::try_join_all;

use super::{Reader, Refusal, SIGN_OUT_CHECK, caller};
use crate::frames::{Found, HistoryReader, PAGE_BYTES, forbidden_channel};
use crate::log::{LogKey, RecoveryReader};
use crate::ports::{
    Acks, Authorizer, Clock, Identity, LogPeeks, LogReads, Metrics, Randomness, SessionRefresh,
    StoreError,
};
use crate::time::{UnixMillis, UnixSeconds};

/// The channels of a reader, and how far it has read each of them.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) identity: Identity,
    channels: Vec<Watched>,
    sign_out_checked_at: UnixMillis,
}

#[derive(Debug)]
enum Watched {
    /// With what it was to begin after: if it is allowed again, nothing is
    /// skipped.
    Refused(ChannelRefused, Option<Since>),
    Open(OpenChannel),
}

#[derive(Debug)]
struct OpenChannel {
    address: Address,
    log: LogKey,
    /// When the application is asked again, if it decides.
    asked_until: Option<UnixSeconds>,
    /// Everything up to it was read. `None`: the reader begins with the newest.
    position: Option<Position>,
    /// What the last read found, without the messages. `None`: nothing was read.
    page: Option<HistoryPage>,
}

/// What a read found.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The cursor before the messages.
    pub(super) begins_at: Cursor,
    /// Messages, and the cursor after each.
    pub(super) messages: Vec<(MessageFrame, String)>,
    /// Channels whose messages cannot all be had.
    pub(super) lost: Vec<SubscribedTo>,
}

impl Watch {
    pub(super) fn cursor(&self) -> Cursor {
        let positions = self.channels.iter().map(|channel| match channel {
            Watched::Refused(_, since) => since.clone(),
            Watched::Open(open) => open.position.clone().map(Since::Position),
        });
        positions.collect()
    }

    pub(super) fn session(&self) -> ReaderSession {
        ReaderSession {
            user_id: self.identity.user_id.clone(),
            token_expires_at: self.identity.expires_at.to_millis().to_timestamp(),
        }
    }

    /// The result for each channel.
    pub(super) fn states(&self) -> Vec<SubscribedTo> {
        let channels = self.channels.iter().map(|channel| match channel {
            Watched::Refused(refused, _) => SubscribedTo::Refused(refused.clone()),
            Watched::Open(open) => open.state(),
        });
        channels.collect()
    }

    /// The channels that can be read, with their places in the request.
    fn open(&self) -> impl Iterator<Item = (usize, &OpenChannel)> {
        let channels = self.channels.iter().enumerate();
        channels.filter_map(|(index, channel)| match channel {
            Watched::Refused(..) => None,
            Watched::Open(open) => Some((index, open)),
        })
    }

    /// Takes over what was found in a channel's log. Returns its messages.
    fn take_over(&mut self, index: usize, found: Found, read: &mut Read) -> Vec<MessageFrame> {
        let Watched::Open(open) = &mut self.channels[index] else {
            return Vec::new();
        };
        let is_first = open.page.is_none();
        let mut bytes = PAGE_BYTES;
        let mut page = found.into_page(&mut bytes);
        let messages = page.messages.take().unwrap_or_default();
        page.more = None;
        let is_lost = page.recovered == Some(false);
        if is_lost || open.position.is_none() {
            open.position = Some(Position {
                epoch: page.epoch.clone(),
                seq: page.seq,
            });
        }
        open.page = Some(page);
        if is_lost && !is_first {
            read.lost.push(open.state());
        }
        messages
    }

    /// Goes on by one message.
    fn step(&mut self, index: usize) {
        if let Watched::Open(open) = &mut self.channels[index]
            && let (Some(position), Some(page)) = (&mut open.position, &open.page)
        {
            // A position before the first message may be of any epoch.
            position.epoch = page.epoch.clone();
            position.seq += 1;
        }
    }
}

impl OpenChannel {
    fn state(&self) -> SubscribedTo {
        SubscribedTo::Yes(ChannelState {
            channel: self.address.clone(),
            until: None,
            presence: None,
            locks: None,
            history: self.page.clone(),
        })
    }

    /// Whether its log may have something new. An old view of the log never
    /// has: what it does not show, a later one does.
    fn may_be_behind(&self, newest: Option<&Position>) -> bool {
        let (Some(position), Some(_)) = (&self.position, &self.page) else {
            return true;
        };
        newest.is_some_and(|newest| newest.epoch != position.epoch || newest.seq > position.seq)
    }
}

impl<V, A, S, O, C, M, W, R> Reader<V, A, S, O, C, M, W, R>
where
    A: Authorizer,
    S: Acks + LogPeeks + LogReads + SessionRefresh,
    C: Clock,
    M: Metrics,
    R: Randomness,
{
    /// Judges the channels. One that is refused does not affect the others.
    pub(super) async fn watch(
        &self,
        identity: Identity,
        channels: Vec<(Address, Option<Since>)>,
    ) -> Result<Watch, Refusal> {
        let judged = channels
            .into_iter()
            .map(|(address, since)| self.judged(&identity, address, since));
        let channels = try_join_all(judged).await?;
        let all_refused = channels
            .iter()
            .all(|one| matches!(one, Watched::Refused(..)));
        if let Some(Watched::Refused(first, _)) = channels.first()
            && all_refused
        {
            return Err(first.error.clone().into());
        }
        Ok(Watch {
            identity,
            channels,
            sign_out_checked_at: self.clock.now(),
        })
    }

    async fn judged(
        &self,
        identity: &Identity,
        address: Address,
        since: Option<Since>,
    ) -> Result<Watched, StoreError> {
        let (log, asked_until) = match self.may_read(identity, &address).await {
            Ok(allowed) => allowed,
            Err(error) => {
                let refused = ChannelRefused {
                    channel: address,
                    error,
                };
                return Ok(Watched::Refused(refused, since));
            }
        };
        let history = self.history(identity);
        let position = history.position_of(&log, since).await?;
        Ok(Watched::Open(OpenChannel {
            address,
            log,
            asked_until,
            position,
            page: None,
        }))
    }

    /// The log of a channel that the user may read, and until when that is
    /// certain.
    async fn may_read(
        &self,
        identity: &Identity,
        address: &Address,
    ) -> Result<(LogKey, Option<UnixSeconds>), ChannelError> {
        let mut asked_until = None;
        if let Address::Channel(name) = address {
            let (judge, now) = (self.judge(), self.clock.now());
            let allowed = judge.allows(caller(identity), name, Action::Subscribe, now);
            let allowed = allowed.await.ok_or_else(forbidden_channel)?;
            asked_until = allowed.by_application.then_some(allowed.ends_at);
        }
        let log = self.history(identity).log_of(address);
        Ok((log.ok_or_else(no_history)?, asked_until))
    }

    fn history<'a>(&'a self, identity: &'a Identity) -> HistoryReader<'a, S, C, R> {
        HistoryReader {
            rules: &self.rules,
            user: &identity.user_id,
            log: RecoveryReader {
                store: &self.store,
                clock: &self.clock,
                random: &self.random,
            },
        }
    }

    /// Reads what is new.
    pub(super) async fn read(&self, watch: &mut Watch) -> Result<Read, StoreError> {
        let logs: Vec<LogKey> = watch
            .open()
            .filter(|(_, open)| open.page.is_some())
            .map(|(_, open)| open.log.clone())
            .collect();
        let newest = self.store.peek(&logs).await?;
        let history = &self.history(&watch.identity);
        let behind = watch
            .open()
            .filter(|(_, open)| open.may_be_behind(newest.get(&open.log)));
        let found = behind.map(async |(index, open)| {
            let since = open.position.as_ref();
            let found = history.recover(&open.address, since, u64::MAX).await?;
            Ok::<_, StoreError>((index, found))
        });
        let found = try_join_all(found).await?;
        let mut read = Read::default();
        let mut messages = Vec::new();
        for (index, found) in found {
            if let Some(found) = found {
                messages.push((index, watch.take_over(index, found, &mut read)));
            }
        }
        read.begins_at = watch.cursor();
        for (index, messages) in messages {
            for message in messages {
                watch.step(index);
                read.messages.push((message, watch.cursor().to_string()));
            }
        }
        Ok(read)
    }

    /// Looks whether the reader may go on. Returns the channels that it may no
    /// longer read.
    pub(super) async fn check(&self, watch: &mut Watch) -> Result<Vec<Address>, Refusal> {
        let now = self.clock.now();
        if watch.identity.expires_at.has_passed(now) {
            return Err(Refusal::TokenExpired);
        }
        if now.since(watch.sign_out_checked_at) >= SIGN_OUT_CHECK {
            if self.is_signed_out(&watch.identity).await? {
                return Err(Refusal::SignedOut);
            }
            watch.sign_out_checked_at = now;
        }
        let identity = &watch.identity;
        let mut ended = Vec::new();
        for channel in &mut watch.channels {
            let Watched::Open(open) = channel else {
                continue;
            };
            if !open.asked_until.is_some_and(|until| until.has_passed(now)) {
                continue;
            }
            match self.may_read(identity, &open.address).await {
                Ok((_, asked_until)) => open.asked_until = asked_until,
                Err(error) => {
                    let address = open.address.clone();
                    ended.push(address.clone());
                    let position = open.position.take().map(Since::Position);
                    let refused = ChannelRefused {
                        channel: address,
                        error,
                    };
                    *channel = Watched::Refused(refused, position);
                }
            }
        }
        if !ended.is_empty() && watch.open().next().is_none() {
            return Err(forbidden_channel().into());
        }
        Ok(ended)
    }
}

fn no_history() -> ChannelError {
    ChannelError {
        code: ErrorCode::InvalidMessage,
        message: "no history of this channel is kept, so it cannot be read over HTTP".into(),
    }
}
