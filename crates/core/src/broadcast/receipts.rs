//! Who has acknowledged a message.

use belfry_protocol::{Address, Position, ReceiptsHistory, ReceiptsReport, ReceiptsRequest};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::content::{Content, Publisher};
use super::{Broadcast, BroadcastError};
use crate::channels::ChannelRules;
use crate::log::LogKey;
use crate::ports::{Clock, LogAppends, LogReads, Metrics, Randomness, Receipts};
use crate::time::UnixMillis;

/// The most users in a report.
const USERS: usize = 100;

/// Users that are read at a time to count them.
const PAGE: usize = 1_000;

/// The most pages that are read to count, or to find the users of a report.
const PAGES: usize = 100;

/// Maximum concurrent reads of several users' positions.
const READS: usize = 8;

/// Answers who has acknowledged a message.
pub(super) struct ReceiptReports<'a, S, C, R, M> {
    pub(super) store: &'a S,
    pub(super) clock: &'a C,
    pub(super) rules: &'a ChannelRules,
    pub(super) publisher: Publisher<'a, S, C, R, M>,
    pub(super) deadline: UnixMillis,
}

impl<S, C, R, M> ReceiptReports<'_, S, C, R, M>
where
    S: LogAppends + LogReads + Receipts,
    C: Clock,
    R: Randomness,
    M: Metrics,
{
    /// The users who have acknowledged a message: a page of them, and on the
    /// first page how many there are.
    pub(super) async fn report(
        &self,
        request: ReceiptsRequest,
    ) -> Result<ReceiptsReport, BroadcastError> {
        let (channel, log) = match request.history {
            ReceiptsHistory::Channel(name) => {
                let log = LogKey::channel(name.as_str());
                (Address::Channel(name), log)
            }
            ReceiptsHistory::All => (Address::All, LogKey::all()),
            ReceiptsHistory::User(user) => (Address::Me, LogKey::user(&user)),
        };
        if self.rules.history(&channel).is_none() {
            return Err(BroadcastError::NoHistory);
        }
        let epoch = match request.epoch {
            Some(epoch) => Some(epoch),
            None => self.store.head(&log).await?.map(|head| head.epoch),
        };
        let is_first = request.after.is_none();
        let mut report = ReceiptsReport {
            channel,
            epoch,
            count: is_first.then_some(0),
            users: Vec::new(),
            next: None,
        };
        let Some(epoch) = report.epoch.clone() else {
            return Ok(report);
        };
        let position = Position {
            epoch,
            seq: request.seq.get(),
        };
        let limit = if is_first { PAGE } else { USERS };
        let (mut after, mut more) = (request.after, false);
        for number in 1.. {
            let now = self.time_left()?;
            let listing = self
                .store
                .readers(&log, &position, after.as_ref(), limit, now);
            let page = listing.await?;
            if let Some(count) = &mut report.count {
                *count += page.readers.len() as u64;
            }
            let room = USERS - report.users.len();
            more |= page.readers.len() > room;
            report.users.extend(page.readers.into_iter().take(room));
            after = page.next;
            let is_full = report.users.len() == USERS;
            let is_last = number == PAGES || !is_first && is_full;
            if after.is_none() || is_last {
                break;
            }
        }
        if after.is_some() && is_first {
            report.count = None;
        }
        report.next = after;
        if more {
            report.next = report.users.last().map(|user| user.user_id.clone());
        }
        Ok(report)
    }

    /// How many users have acknowledged the message of a broadcast. `None` if
    /// its history is no longer kept, or if there are too many to count.
    pub(super) async fn acknowledged(
        &self,
        broadcast: &Broadcast,
    ) -> Result<Option<u64>, BroadcastError> {
        let Content::Kept(message) = &broadcast.content else {
            return Ok(None);
        };
        if let Some(log) = broadcast.audience.log() {
            return match &broadcast.position {
                Some(position) => self.count(&log, position).await,
                None => Ok(Some(0)),
            };
        }
        let users = broadcast.audience.users();
        let acks = self.store.acks_of_users(users, self.clock.now()).await?;
        let reads = acks.into_iter().map(async |(user, acked)| {
            let sent = self.publisher.find(message, &LogKey::user(&user)).await?;
            let has_read = sent.is_some_and(|sent| {
                sent.position.epoch == acked.epoch && sent.position.seq <= acked.seq
            });
            Ok::<_, BroadcastError>(u64::from(has_read))
        });
        let reads = stream::iter(reads).buffer_unordered(READS);
        let sum = reads.try_fold(0, async |sum, one| Ok(sum + one)).await?;
        Ok(Some(sum))
    }

    /// `None` if there are too many to count.
    async fn count(
        &self,
        log: &LogKey,
        position: &Position,
    ) -> Result<Option<u64>, BroadcastError> {
        let (mut count, mut after) = (0, None);
        for _ in 0..PAGES {
            let now = self.time_left()?;
            let listing = self.store.readers(log, position, after.as_ref(), PAGE, now);
            let page = listing.await?;
            count += page.readers.len() as u64;
            after = page.next;
            if after.is_none() {
                return Ok(Some(count));
            }
        }
        Ok(None)
    }

    fn time_left(&self) -> Result<UnixMillis, BroadcastError> {
        let now = self.clock.now();
        if now >= self.deadline {
            return Err(BroadcastError::NoTimeToCount);
        }
        Ok(now)
    }
}
