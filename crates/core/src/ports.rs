//! What the rules need from outside, as narrow traits.
//!
//! Each promises what its docs say; the contract suites in `testing` hold the
//! fakes and the real adapters to it.

use std::future::Future;
use std::time::Duration;

use belfry_protocol::{ConnectionId, UserId};

use crate::connection::{Connection, Recipient};
use crate::time::{UnixMillis, UnixSeconds};

/// The time, and waiting.
pub trait Clock: Send + Sync {
    /// Now. It may jump; nothing may depend on it growing.
    fn now(&self) -> UnixMillis;

    /// Waits.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// The store did not do what was asked. Whether a write took place is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation} failed: {cause}")]
pub struct StoreError {
    /// What was asked of the store.
    pub operation: &'static str,
    /// For the operator's log.
    pub cause: String,
}

/// What became of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The row stands, now or from an earlier try of the same handshake.
    Yes,
    /// Another handshake's row has this id; it was left as it is.
    Taken,
}

/// One of several disjoint parts of the table, which may be read in parallel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Counted from zero.
    pub index: u32,
    /// How many parts there are, at least one.
    pub total: u32,
}

/// Where a listing goes on. Opaque outside the adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub ConnectionId);

/// A part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Live connections; an empty page does not mean the end.
    pub recipients: Vec<Recipient>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// The connections there are.
///
/// A row whose `expires_at` has passed is never returned and never revived,
/// whether or not it has been deleted. Listings may be a moment behind writes,
/// in both directions. A row that cannot be read is skipped and logged: one
/// bad row must not stop a broadcast.
pub trait ConnectionStore: Send + Sync {
    /// Writes a new row. Doing it again with the same id, user and
    /// `connected_at` changes nothing and is [`Inserted::Yes`].
    fn insert(
        &self,
        connection: &Connection,
    ) -> impl Future<Output = Result<Inserted, StoreError>> + Send;

    /// Marks the row as seen now and returns it as it is afterwards; `None`
    /// where there is no live row. Never creates one.
    fn touch(
        &self,
        id: &ConnectionId,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Option<Connection>, StoreError>> + Send;

    /// Moves the end of the session's token forward and returns the end that
    /// holds afterwards: one that is later already stays, since frames of one
    /// connection run in no order. `None` where there is no live row of this
    /// connection (the same id and `connected_at`), or its token is over: a
    /// session that has ended is not revived.
    fn extend_token(
        &self,
        seen: &Connection,
        expires_at: UnixSeconds,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Option<UnixSeconds>, StoreError>> + Send;

    /// Removes the row. Removing what is not there succeeds.
    fn remove(&self, id: &ConnectionId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes the row if it is still the one that was read: the same id and
    /// `connected_at`. Anything else succeeds and changes nothing.
    fn remove_unchanged(
        &self,
        seen: &Recipient,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A user's live connections.
    fn of_user(
        &self,
        user: &UserId,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Vec<Recipient>, StoreError>> + Send;

    /// Those of the connections that are live, in no particular order. The
    /// ids must be distinct.
    fn of_ids(
        &self,
        ids: &[ConnectionId],
        now: UnixMillis,
    ) -> impl Future<Output = Result<Vec<Recipient>, StoreError>> + Send;

    /// One page of a segment's live connections.
    fn scan(
        &self,
        segment: Segment,
        from: Option<Cursor>,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;
}

/// Why a post did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The connection does not exist. On a connection that is being opened
    /// this can be wrong for a moment.
    #[error("gone")]
    Gone,
    /// Too many calls, or the client's buffer is full. It may succeed later.
    #[error("throttled")]
    Throttled,
    /// The message is larger than the API carries.
    #[error("too large")]
    TooLarge,
    /// No answer in time. The message may have arrived.
    #[error("timed out")]
    TimedOut,
    /// Anything else. The message may have arrived.
    #[error("failed: {0}")]
    Failed(String),
}

/// The way to the sockets.
///
/// Nothing is retried inside: the caller knows what a second post would mean.
/// Two posts to one connection have no promised order.
pub trait Outbox: Send + Sync {
    /// Sends a text frame. Success means that API Gateway accepted it, not
    /// that the client read it.
    fn post(
        &self,
        id: &ConnectionId,
        frame: &str,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), PostError>> + Send;

    /// Closes the connection. Closing what is not there succeeds.
    fn close(&self, id: &ConnectionId) -> impl Future<Output = Result<(), PostError>> + Send;
}

/// Who a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user_id: UserId,
    /// When the token ends.
    pub expires_at: UnixSeconds,
}

/// Why a token was not accepted. `Display` is for the operator's log: it never
/// holds a part of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The token is not good, and will not be later.
    #[error("{0}")]
    Rejected(&'static str),
    /// Whether the token is good cannot be told now: there are no keys.
    #[error("signing keys unavailable: {0}")]
    KeysUnavailable(String),
}

/// The judge of tokens.
pub trait TokenVerifier: Send + Sync {
    /// Whether the token is good at this time, give or take the leeway of a
    /// handshake, and whom it speaks for.
    fn verify(
        &self,
        token: &str,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Identity, VerifyError>> + Send;
}
