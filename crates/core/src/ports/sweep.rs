use std::future::Future;

use belfry_protocol::{ConnectionId, UserId};

use super::StoreError;
use crate::connection::{Connection, Watch};
use crate::time::UnixMillis;

/// Into how many parts the connections are divided, each with its own order
/// by time.
pub const PARTS: u32 = 16;

/// Where a list of what is due goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueCursor {
    /// The last connection of the page before.
    pub id: ConnectionId,
    /// When it was due.
    pub due_at: UnixMillis,
}

/// A part of what is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuePage {
    /// Connections that were due when the index was written, the longest
    /// overdue first; the rows say whether they still are.
    pub ids: Vec<ConnectionId>,
    /// Where to go on; `None` at the end.
    pub next: Option<DueCursor>,
}

/// What only a sweeper does to the connections.
pub trait SweepStore: Send + Sync {
    /// A page of the connections in one of [`PARTS`] whose `due_at` is not
    /// after `now`. It may be a moment behind writes.
    fn due(
        &self,
        part: u32,
        from: Option<DueCursor>,
        now: UnixMillis,
    ) -> impl Future<Output = Result<DuePage, StoreError>> + Send;

    /// The row as it is at this moment, live or not.
    fn read(
        &self,
        id: &ConnectionId,
    ) -> impl Future<Output = Result<Option<Connection>, StoreError>> + Send;

    /// Replaces what a sweeper remembers of the row, if no other sweep did
    /// since it was read (the same `due_at`) and, where `next` says that a
    /// ping is unanswered, no frame came since. Says whether it did.
    fn watch(
        &self,
        seen: &Connection,
        next: &Watch,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Makes every token of the user void that was made until now, and names
    /// the user's connections: no other one can come with such a token.
    fn sign_out(
        &self,
        user: &UserId,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Vec<ConnectionId>, StoreError>> + Send;

    /// Ends the session of a row that was read, as if its token were over now.
    fn end_session(
        &self,
        seen: &Connection,
        now: UnixMillis,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Compares a part of the counters with the rows and corrects what differs
    /// for long: a row that DynamoDB or an operator removed did not give its
    /// place back. A counter that is right stays so.
    fn audit(&self, now: UnixMillis) -> impl Future<Output = Result<(), StoreError>> + Send;
}
