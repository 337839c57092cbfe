use std::collections::HashMap;
use std::future::Future;
use std::ops::RangeInclusive;

use belfry_protocol::{Epoch, Position};

use super::{CLOCK_LEEWAY, StoreError};
use crate::log::{AppendId, Entry, Head, LogKey};
use crate::time::{UnixMillis, UnixSeconds};

/// The end of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    pub head: Head,
    /// Whether the newest entry is stored as well. It may be although this says
    /// that it is not.
    pub is_stored: bool,
}

/// Result of [`LogAppends::advance`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advanced {
    Yes,
    /// The head is not where the caller believed it to be. Nothing was
    /// written. The head now, if there is one.
    Moved(Option<Head>),
    /// The head was moved for the same [`Memory::id`] before, there. Nothing was
    /// written.
    Before(Position),
}

/// How long an append, or a purge, is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory<'a> {
    pub id: &'a AppendId,
    pub until: UnixSeconds,
    /// What was remembered until then or before is forgotten. A store deletes it at
    /// some time.
    pub forgotten: UnixSeconds,
}

impl Memory<'_> {
    /// What is forgotten now. The clocks of those who remember and those who ask
    /// may differ.
    #[must_use]
    pub fn forgotten(now: UnixMillis) -> UnixSeconds {
        now.minus(CLOCK_LEEWAY).to_seconds()
    }
}

/// Reads logs. Every read is consistent.
pub trait LogReads: Send + Sync {
    fn head(&self, log: &LogKey) -> impl Future<Output = Result<Option<Head>, StoreError>> + Send;

    /// Stored entries of an epoch in the order of their numbers, expired ones
    /// included. Entries after the first may be left out at the end, since a
    /// page has a limited size. The head's entry may be missing.
    fn entries(
        &self,
        log: &LogKey,
        epoch: &Epoch,
        numbers: RangeInclusive<u64>,
    ) -> impl Future<Output = Result<Vec<Entry>, StoreError>> + Send;
}

/// Looks at logs without reading them, cheaply.
pub trait LogPeeks: Send + Sync {
    /// The newest positions of logs, as they are now or were a moment ago. Logs
    /// may be missing; what a look does not show, a later one does.
    fn peek(
        &self,
        logs: &[LogKey],
    ) -> impl Future<Output = Result<HashMap<LogKey, Position>, StoreError>> + Send;
}

/// Where the deletion of a log's entries continues: after this entry.
pub type DeletedTo = (Epoch, u64);

/// Result of [`LogPurges::delete_superseded`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedPage {
    pub deleted: u64,
    /// `None` at the end.
    pub next: Option<DeletedTo>,
}

/// Deletes what logs no longer need.
pub trait LogPurges: Send + Sync {
    /// Deletes the entries of a page that belong to another epoch than the head.
    /// An entry of the head's epoch is never deleted, whoever moves the head
    /// meanwhile: an epoch never comes back.
    fn delete_superseded(
        &self,
        log: &LogKey,
        after: Option<&DeletedTo>,
    ) -> impl Future<Output = Result<DeletedPage, StoreError>> + Send;
}

/// Appends to logs.
pub trait LogAppends: Send + Sync {
    fn tail(&self, log: &LogKey) -> impl Future<Output = Result<Option<Tail>, StoreError>> + Send;

    /// Moves the head on condition that it is at `from`; `None`: that there is
    /// none. The head is kept until `expires_at` at least. With a memory, the
    /// head is moved once for its id until its end, whoever calls.
    /// After an error the head may have been moved, and
    /// [`Advanced::Moved`] may be the answer to a repetition of a call that
    /// moved it.
    fn advance(
        &self,
        log: &LogKey,
        from: Option<&Position>,
        to: &Head,
        expires_at: UnixSeconds,
        memory: Option<Memory<'_>>,
    ) -> impl Future<Output = Result<Advanced, StoreError>> + Send;

    /// Where a message that is remembered was appended to a log, read
    /// consistently.
    fn find_append(
        &self,
        log: &LogKey,
        id: &AppendId,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Option<Position>, StoreError>> + Send;

    /// Stores an entry, unless one with its number is stored in this epoch.
    fn store(
        &self,
        log: &LogKey,
        epoch: &Epoch,
        entry: &Entry,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
