use std::time::Duration;

use belfry_protocol::Position;

use super::append::HEAD_LIFETIME;
use super::{Entry, Head, LogKey, epoch};
use crate::ports::{Clock, LogReads, Randomness, StoreError};
use crate::time::UnixMillis;

/// How far the clocks of two functions may be apart, with a wide margin.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(24 * 60 * 60);

/// How much one answer may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryLimits {
    /// The most messages in a page, at least one.
    pub messages: u32,
    /// The most bytes of frames in a page.
    pub bytes: usize,
    /// The most messages that may have been missed. `None`: any number.
    pub missed: Option<u64>,
}

/// What a client gets that has seen a log up to a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The log's newest position.
    pub newest: Position,
    /// Consecutive messages, beginning right after the client's position. None
    /// if `lost` is set.
    pub entries: Vec<Entry>,
    /// Whether more messages follow, up to `newest`.
    pub more: bool,
    /// Why the messages after the client's position cannot be had. `None`:
    /// every message is in `entries`, or follows them.
    pub lost: Option<Lost>,
}

impl Recovery {
    /// The part of it that fits. The rest follows, as `more` says.
    #[must_use]
    pub fn within(mut self, bytes: usize) -> Self {
        let mut total = 0;
        let end = self.entries.iter().position(|entry| {
            total += entry.frame.len();
            total > bytes
        });
        if let Some(end) = end {
            self.entries.truncate(end);
            self.more = true;
        }
        self
    }
}

/// Why missed messages cannot be recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The position belongs to another history.
    Epoch,
    /// Some of the messages have expired.
    Expired,
    /// More messages than a recovery may have.
    TooFar,
}

/// A log's newest position beside a client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    pub newest: Position,
    /// Whether something comes after the client's position, or the position
    /// belongs to another history.
    pub missed: bool,
}

/// Reads what a client has missed.
#[derive(Debug)]
pub struct RecoveryReader<'a, S, C, R> {
    pub store: &'a S,
    pub clock: &'a C,
    pub random: &'a R,
}

impl<S: LogReads, C: Clock, R: Randomness> RecoveryReader<'_, S, C, R> {
    /// The newest position. That of a log without messages has the number zero.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest(&self, log: &LogKey) -> Result<Position, StoreError> {
        let begun = self.clock.now();
        let head = self.store.head(log).await?;
        Ok(self.position(head.as_ref(), begun))
    }

    /// The newest position, and whether there is something after `since`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn compare(&self, log: &LogKey, since: &Position) -> Result<Compared, StoreError> {
        let begun = self.clock.now();
        let head = self.store.head(log).await?;
        let newest = self.position(head.as_ref(), begun);
        let is_same = is_same_history(since, head.as_ref(), self.clock.now());
        Ok(Compared {
            missed: !is_same || since.seq != newest.seq,
            newest,
        })
    }

    /// The messages after a position.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn since(
        &self,
        log: &LogKey,
        since: &Position,
        limits: RecoveryLimits,
    ) -> Result<Recovery, StoreError> {
        // The head first: see the invariants of the log.
        let begun = self.clock.now();
        let head = self.store.head(log).await?;
        let recovery = Recovery {
            newest: self.position(head.as_ref(), begun),
            entries: Vec::new(),
            more: false,
            lost: None,
        };
        let lost = |why| {
            Ok(Recovery {
                lost: Some(why),
                ..recovery.clone()
            })
        };
        let now = self.clock.now();
        let newest = recovery.newest.seq;
        if !is_same_history(since, head.as_ref(), now) || since.seq > newest {
            return lost(Lost::Epoch);
        }
        let Some(head) = head.filter(|_| since.seq < newest) else {
            return Ok(recovery);
        };
        if limits.missed.is_some_and(|most| newest - since.seq > most) {
            return lost(Lost::TooFar);
        }
        let first = since.seq + 1;
        let last = newest.min(since.seq + u64::from(limits.messages));
        let entries = self.consecutive(log, head, first, last).await?;
        let live = entries
            .into_iter()
            .take_while(|entry| !entry.expires_at.has_passed(now));
        let live: Vec<_> = live.collect();
        if live.is_empty() {
            return lost(Lost::Expired);
        }
        let recovery = Recovery {
            more: live.last().is_none_or(|entry| entry.seq < newest),
            entries: live,
            ..recovery
        };
        Ok(recovery.within(limits.bytes))
    }

    /// The entries from `first` on without a gap, up to `last` at most.
    async fn consecutive(
        &self,
        log: &LogKey,
        head: Head,
        first: u64,
        last: u64,
    ) -> Result<Vec<Entry>, StoreError> {
        let stored = last.min(head.first() - 1);
        let mut entries = if first <= stored {
            let numbers = first..=stored;
            self.store.entries(log, &head.epoch, numbers).await?
        } else {
            Vec::new()
        };
        let gap = (first..).zip(&entries).position(|(n, e)| n != e.seq);
        entries.truncate(gap.unwrap_or(entries.len()));
        let next = entries.last().map_or(first, |entry| entry.seq + 1);
        if next >= head.first() {
            let held = head
                .entries()
                .filter(|entry| (next..=last).contains(&entry.seq));
            entries.extend(held);
        }
        Ok(entries)
    }

    /// The position of a head that was read after `begun`. That of no head
    /// says since when there was none, at the earliest.
    fn position(&self, head: Option<&Head>, begun: UnixMillis) -> Position {
        let before_first = || Position {
            epoch: epoch::new(begun, self.random),
            seq: 0,
        };
        head.map_or_else(before_first, Head::position)
    }
}

/// Whether every message that was published after `since` has a number above
/// its own in the log's present epoch.
///
/// A position with the number zero was given out when the log had no head, so
/// every head came later. In an empty log it stays valid for as long as a head
/// that came and went meanwhile would have been kept.
fn is_same_history(since: &Position, head: Option<&Head>, now: UnixMillis) -> bool {
    if since.seq > 0 {
        return head.is_some_and(|head| head.epoch == since.epoch);
    }
    let valid = HEAD_LIFETIME.saturating_sub(CLOCK_TOLERANCE);
    epoch::begun_at(&since.epoch).is_some_and(|at| now.since(at) < valid)
}
