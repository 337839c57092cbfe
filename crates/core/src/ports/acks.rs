use std::future::Future;
use std::time::Duration;

use belfry_protocol::{Position, Receipt, UserId};

use super::StoreError;
use crate::log::LogKey;
use crate::time::UnixMillis;

/// How long a user's position is kept after it has moved.
pub const ACK_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The positions that users have acknowledged, one for each log and user.
///
/// Reads are consistent. A position counts for [`ACK_LIFETIME`].
pub trait Acks: Send + Sync {
    /// Moves a user's position forward: to a higher number of the same epoch,
    /// or to a newer epoch. Returns the position that counts afterwards.
    fn acknowledge(
        &self,
        log: &LogKey,
        user: &UserId,
        position: &Position,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Position, StoreError>> + Send;

    /// A user's position, if there is one.
    fn find_ack(
        &self,
        log: &LogKey,
        user: &UserId,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Option<Position>, StoreError>> + Send;
}

/// A page of a log's readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderPage {
    /// An empty page does not mean the end.
    pub readers: Vec<Receipt>,
    /// Continue after this user; `None` at the end.
    pub next: Option<UserId>,
}

/// Tells who has read up to where. Reads may lag a moment behind.
pub trait Receipts: Send + Sync {
    /// A page of at most `limit` users whose position is at or beyond another
    /// one in the same epoch.
    fn readers(
        &self,
        log: &LogKey,
        from: &Position,
        after: Option<&UserId>,
        limit: usize,
        now: UnixMillis,
    ) -> impl Future<Output = Result<ReaderPage, StoreError>> + Send;

    /// Each of these users' own position in the log of the messages to that
    /// user. Users without one are left out.
    fn acks_of_users(
        &self,
        users: &[UserId],
        now: UnixMillis,
    ) -> impl Future<Output = Result<Vec<(UserId, Position)>, StoreError>> + Send;
}
