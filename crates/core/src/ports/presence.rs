use std::future::Future;

use belfry_protocol::{ChannelName, ConnectionId, PresenceInfo, UserId};

use super::StoreError;
use crate::time::UnixMillis;

/// A user in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentUser {
    pub user_id: UserId,
    /// Zero if the user has left and the grace period is not over.
    pub connections: u64,
    pub info: PresenceInfo,
}

/// Users in a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PresentUsers {
    pub users: Vec<PresentUser>,
    /// Whether there are more.
    pub more: bool,
}

/// A user's arrival in a channel that the others are to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub channel: ChannelName,
    pub info: PresenceInfo,
    /// Whether the user was present already and told something else.
    pub is_update: bool,
    /// When it happened. The times of a user's changes in a channel rise.
    pub at: UnixMillis,
}

/// The end of a user's last connection in a channel. When it is due, and the
/// user has not come back, the user has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leave {
    pub channel: ChannelName,
    pub user: UserId,
    /// The connection that ended.
    pub connection: ConnectionId,
    pub due_at: UnixMillis,
}

/// Result of [`Presence::make_absent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaveOutcome {
    /// The user is absent since then.
    Absent(UnixMillis),
    /// There is nothing to tell the others.
    AsKnown,
    /// The user is present, and the function that was to announce the last
    /// change has died.
    Unannounced(Arrival),
}

/// Who is present in which channel. [`Subscriptions`] writes it, since presence
/// belongs to a subscription and ends with it. Reads are consistent.
///
/// [`Subscriptions`]: super::Subscriptions
pub trait Presence: Send + Sync {
    /// Users who are present, `limit` of them at most.
    fn present(
        &self,
        channel: &ChannelName,
        limit: usize,
    ) -> impl Future<Output = Result<PresentUsers, StoreError>> + Send;

    /// Remembers that an arrival was announced. Until then a repetition of the
    /// frame announces it again.
    fn announced(
        &self,
        channel: &ChannelName,
        user: &UserId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes a user who has not come back absent. A repetition says the same; so
    /// if two leaves of a user are due, only one of them says it.
    fn make_absent(
        &self,
        leave: &Leave,
        now: UnixMillis,
    ) -> impl Future<Output = Result<LeaveOutcome, StoreError>> + Send;

    /// Forgets a leave that was processed.
    fn forget_leave(&self, leave: &Leave) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes a count of a channel's users due.
    fn count_later(
        &self,
        channel: &ChannelName,
        now: UnixMillis,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Counts a channel's users and remembers the number.
    fn count(
        &self,
        channel: &ChannelName,
        now: UnixMillis,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// The number that was counted last.
    fn last_count(
        &self,
        channel: &ChannelName,
    ) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;

    /// Forgets a count that was due.
    fn forget_count(&self, due: &DueCount) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A count of a channel's users that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueCount {
    pub channel: ChannelName,
    pub due_at: UnixMillis,
}
