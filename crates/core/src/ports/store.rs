use std::future::Future;
use std::time::Duration;

use belfry_protocol::{ConnectionId, UserId};

use super::RecipientStore;
use crate::budget::Budget;
use crate::connection::Connection;
use crate::time::{UnixMillis, UnixSeconds};

/// How long a store remembers the end of a connection that it did not know:
/// far longer than a `$connect` can be on its way (29 seconds at most).
pub const TOMBSTONE_LIFE: Duration = Duration::from_secs(10 * 60);

/// The store did not do what was asked. Whether a write took place is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation} failed: {cause}")]
pub struct StoreError {
    /// What was asked of the store.
    pub operation: &'static str,
    /// For the operator's log.
    pub cause: String,
}

/// A connection that wants in.
#[derive(Debug, Clone, Copy)]
pub struct Admission<'a> {
    /// Its row.
    pub connection: &'a Connection,
    /// When its token was made: a user who was signed out since is not let in.
    pub token_issued_at: UnixSeconds,
    /// A connection of the same user whose place it takes.
    pub replaces: Option<&'a ConnectionId>,
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// In all.
    pub total: u64,
    /// Of one user.
    pub per_user: u64,
}

/// What became of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The row stands, now or from an earlier try of the same handshake.
    Yes,
    /// Another handshake's row has this id; it was left as it is.
    Taken,
    /// The connection has ended already; there is no row.
    Ended,
    /// There is no place left.
    Full,
    /// The user has as many connections as allowed.
    UserFull,
    /// The user was signed out after the token was made.
    SignedOut,
}

/// What a frame finds: the row as it is afterwards, or why it is not served.
pub type Touched = Result<Connection, NotServed>;

/// Why a frame is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotServed {
    /// The row is live, and its token is over.
    TokenExpired,
    /// There is no live row.
    Unknown,
    /// The connection is over its budget. That it lives is noted.
    OverBudget {
        /// When the next frame will be within it.
        retry_after: Duration,
        /// How many frames were refused since the bucket was full; zero where
        /// two frames came at the same moment, and this one was neither
        /// counted nor noted.
        refusals: u32,
    },
}

/// A newer token of a connection's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Whose the token is.
    pub user_id: UserId,
    /// When the token ends.
    pub expires_at: UnixSeconds,
}

/// What became of an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extended {
    /// The end that holds now.
    Until(UnixSeconds),
    /// The connection is another user's. Nothing was changed.
    OtherUser,
    /// Nothing was moved, as any other frame would not have been served.
    Not(NotServed),
}

/// The connections there are.
///
/// A row whose `expires_at` has passed is never returned and never revived,
/// whether or not it has been deleted.
///
/// A row and the place that it takes (in all, and of its user) come together
/// and go together: at no moment is there a row without a place, or are there
/// more rows than places. The only exception is a connection that was
/// replaced: its place is its successor's, and its row stays until it closes.
pub trait ConnectionStore: RecipientStore {
    /// Writes a new row and takes a place. Doing it again with the same id,
    /// user and `connected_at` changes nothing and is [`Inserted::Yes`].
    ///
    /// `replaces` counts where it names a row of the same user that holds a
    /// place: then the new row takes over that place. Otherwise it is as if
    /// it were not there. A user may have as many successors on the way as
    /// places, no more.
    ///
    /// After [`Self::disconnect`] of the same connection, in whatever order
    /// the two run, no row is left.
    fn insert(
        &self,
        admission: Admission<'_>,
        places: Places,
    ) -> impl Future<Output = Result<Inserted, StoreError>> + Send;

    /// Takes a frame from the connection's budget and marks the row as seen
    /// now: one write for identity, expiry, life and budget, a second one
    /// where the bucket is not full. Never creates a row.
    fn touch(
        &self,
        id: &ConnectionId,
        budget: &Budget,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Touched, StoreError>> + Send;

    /// The same for a frame with a newer token: it moves the end of the
    /// session forward. An end that is later already stays, since frames of
    /// one connection run in no order; a session that is over is not revived.
    fn extend(
        &self,
        id: &ConnectionId,
        extension: &Extension,
        budget: &Budget,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Extended, StoreError>> + Send;

    /// Until when a user's tokens are void, if the user was signed out: those
    /// that were made at this second or before.
    fn signed_out_at(
        &self,
        user: &UserId,
    ) -> impl Future<Output = Result<Option<UnixSeconds>, StoreError>> + Send;

    /// The connection has ended: removes its row and gives its place back.
    /// Where there is no row, an insert that comes within [`TOMBSTONE_LIFE`]
    /// leaves none. Doing it again changes nothing.
    fn disconnect(
        &self,
        id: &ConnectionId,
        now: UnixMillis,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
