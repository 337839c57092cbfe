use std::future::Future;

use belfry_protocol::{ChannelName, ConnectionId, LockName, UserId};

use super::StoreError;
use crate::connections::Connection;
use crate::time::UnixMillis;

/// Names a lock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockKey {
    pub channel: ChannelName,
    pub name: LockName,
}

/// A lock as it is stored: its holder, or its last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockState {
    pub user_id: UserId,
    /// See [`Connection::lock_owner`].
    pub owner: ConnectionId,
    /// When the connection was opened that last took or renewed it.
    pub connected_at: UnixMillis,
    /// Until when it is held. Zero if it was released.
    pub until: UnixMillis,
    /// Whether an operator has released it. Its holder may believe until then that
    /// it holds it, and cannot renew it.
    pub is_revoked: bool,
    /// Rises with every new holder.
    pub fencing: u64,
}

/// A lock on an owner's list, with the number that it is taken with. So a lock
/// that was released is told from the same one, taken again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedLock {
    pub key: LockKey,
    pub fencing: u64,
}

/// Locks of a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockPage {
    pub locks: Vec<(LockName, LockState)>,
    /// Whether there may be more.
    pub more: bool,
}

/// Result of [`Locks::swap_lock`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swapped {
    Yes,
    /// The lock is no longer as it was read; this is how it is now.
    No(Option<LockState>),
}

/// A lock that its owner no longer holds and that nobody has taken since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeLock {
    pub key: LockKey,
    pub fencing: u64,
}

/// Locks, and a list of each owner's. Reads are consistent.
///
/// A lock's state may be forgotten a day after its `until`, not before.
///
/// Invariant: the list of an owner has every lock that it holds, with its number.
/// A lock is listed before it is taken, and taken off the list when it is
/// released or has a higher number: then nobody can take it with this number any
/// more. Who takes it again lists it again. [`Subscriptions`] and
/// [`Departures`] read the list when a connection leaves channels.
///
/// [`Subscriptions`]: super::Subscriptions
/// [`Departures`]: super::Departures
pub trait Locks: Send + Sync {
    fn find_lock(
        &self,
        key: &LockKey,
    ) -> impl Future<Output = Result<Option<LockState>, StoreError>> + Send;

    /// The locks of a channel whose `until` is later than `now`, `limit` of them
    /// at most.
    fn held_locks(
        &self,
        channel: &ChannelName,
        limit: usize,
        now: UnixMillis,
    ) -> impl Future<Output = Result<LockPage, StoreError>> + Send;

    /// Adds a lock to the list of a connection's owner. Returns `false`, with nothing added,
    /// if `most` others are on it.
    fn list_lock(
        &self,
        connection: &Connection,
        lock: &ListedLock,
        most: usize,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// The list of an owner.
    fn listed_locks(
        &self,
        owner: &ConnectionId,
    ) -> impl Future<Output = Result<Vec<ListedLock>, StoreError>> + Send;

    /// Takes locks off an owner's list.
    fn unlist_locks(
        &self,
        owner: &ConnectionId,
        locks: &[ListedLock],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Replaces a lock's state, if it is as it was read. If the answer gets
    /// lost, a repeated call finds the new state there.
    fn swap_lock(
        &self,
        key: &LockKey,
        seen: Option<&LockState>,
        new: &LockState,
    ) -> impl Future<Output = Result<Swapped, StoreError>> + Send;

    /// Releases a lock, if this owner holds it or was the last to hold it. `None`
    /// if it is another's, or if a connection of the owner that was opened after
    /// `opened_by` has renewed it. A repeated call returns the same.
    fn release_lock(
        &self,
        key: &LockKey,
        owner: &ConnectionId,
        opened_by: UnixMillis,
    ) -> impl Future<Output = Result<Option<FreeLock>, StoreError>> + Send;

    /// Whether the connection is still there and its session lasts.
    fn is_in_session(
        &self,
        connection: &Connection,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}
