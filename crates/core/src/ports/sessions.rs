use std::future::Future;
use std::time::Duration;

use belfry_protocol::{ConnectionId, UserId};

use super::StoreError;
use crate::channels::Claims;
use crate::connections::Connection;
use crate::frames::TokenBucket;
use crate::time::{UnixMillis, UnixSeconds};

/// Result of [`Sessions::touch`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is moved once, right after it is made"
)]
pub enum Touched {
    /// The row after the frame was counted.
    Live(Connection),
    NotServed(NotServed),
}

/// Why a frame is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotServed {
    /// The row is live, but its token has expired.
    TokenExpired,
    /// The row is live, but a sign-out ended its session.
    SignedOut,
    /// There is no live row.
    Unknown,
    /// The connection is over its message rate limit. Its liveness is recorded
    /// all the same.
    RateLimited {
        /// Wait until the next frame is within the limit.
        retry_after: Duration,
        /// Frames refused since the bucket was last full. Zero if two frames
        /// came at the same time and this one was neither counted nor recorded.
        refusals: u32,
    },
}

/// Connections as frames see them.
///
/// A row whose `expires_at` has passed is never returned and never revived,
/// whether or not it has been deleted.
pub trait Sessions: Send + Sync {
    /// Takes a token from the connection's bucket and marks the row as seen
    /// now: one write for identity, expiry, liveness and rate limit, and a
    /// second one if the bucket is not full. Never creates a row.
    fn touch(
        &self,
        id: &ConnectionId,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Touched, StoreError>> + Send;

    /// The same, and marks the connection as one that may be subscribed to
    /// channels.
    fn begin_session(
        &self,
        id: &ConnectionId,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Touched, StoreError>> + Send;

    /// The same as [`Self::touch`], or with `begins_session` as
    /// [`Self::begin_session`], and marks the connection for good as one whose
    /// client accepts `batch` frames.
    fn accept_batch(
        &self,
        id: &ConnectionId,
        bucket: &TokenBucket,
        begins_session: bool,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Touched, StoreError>> + Send;
}

/// A newer token of a connection's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// The token's user.
    pub user_id: UserId,
    pub expires_at: UnixSeconds,
    /// Replace the connection's.
    pub claims: Claims,
}

/// Result of [`SessionRefresh::extend`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is moved once, right after it is made"
)]
pub enum Extended {
    /// The connection with the end of the session that is in force now.
    Until(Connection),
    /// The connection belongs to another user. The frame was counted, and
    /// nothing was extended.
    OtherUser,
    /// Nothing was extended: no other frame would have been served either.
    NotServed(NotServed),
}

/// Extends sessions with newer tokens.
pub trait SessionRefresh: Send + Sync {
    /// Counts a frame as [`Sessions::touch`] does and moves the session's end
    /// forward. A later end stays, since the frames of a connection are
    /// handled in any order. A session that has ended is not revived.
    fn extend(
        &self,
        id: &ConnectionId,
        extension: &Extension,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Extended, StoreError>> + Send;

    /// If the user was signed out: tokens issued at this second or before are
    /// void.
    fn signed_out_at(
        &self,
        user: &UserId,
    ) -> impl Future<Output = Result<Option<UnixSeconds>, StoreError>> + Send;
}
