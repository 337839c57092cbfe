//! Locks in channels.
//!
//! Invariant: never do two connections hold a lock at the same time. A holder
//! holds it until `until` by the clock of the function that told it, and a
//! renewal never makes `until` earlier. Another connection takes it only after
//! [`TAKEOVER`] beyond that by the clock of its own function. Functions' clocks
//! are at most two seconds wrong, so they differ by four at most.
//!
//! A connection and the one that replaces it count as one holder, under the name
//! of the first of them, [`Connection::lock_owner`]. A function that dies leaves
//! nothing half done: one write admits the successor and makes it a holder. The
//! locks are released when no connection of that name is left, in whatever order
//! they end. A connection becomes a holder only by the write that finds the row of
//! its predecessor, and ceases to be one only after its own row was removed or its
//! session ended. So a set of holders that has become empty stays empty, and the
//! write that empties it releases the locks. A late `unlock` does not release what
//! a successor has renewed since. The order of connections is that of API
//! Gateway's `connectedAt`: if its hosts' clocks put a successor before its
//! predecessor, `unlock` by the successor does nothing to what it has not renewed,
//! and the lock's seconds end it.
//!
//! An operator may revoke a lock. Its holder was told an end and may not hear of
//! it, so the end stays, and only renewals are refused.

use std::collections::BTreeSet;
use std::time::Duration;

use belfry_protocol::{ChannelName, ConnectionId, HeldLock, HeldLocks, Holder, MAX_LOCKS};

use crate::connections::Connection;
use crate::fitting::fitting;
use crate::ports::{
    Clock, FreeLock, ListedLock, LockKey, LockPage, LockState, Locks, StoreError, Swapped,
};
use crate::time::UnixMillis;

/// How long after its `until` a lock can be taken by another connection: twice
/// what a clock may be wrong, and a second.
pub const TAKEOVER: Duration = Duration::from_secs(5);

/// The most locks of a channel that an answer lists.
const LISTED: usize = 100;

/// How often a lock is attempted while others change it.
const ATTEMPTS: u32 = 8;

/// Result of [`LockKeeper::lock`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockOutcome {
    /// The connection holds the lock.
    Locked(Grant),
    /// Another connection holds it.
    Held(LockState),
    /// The connection is on its limit.
    TooMany,
    /// The connection has ended and holds nothing.
    Ended,
}

/// A lock that a connection holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub state: LockState,
    pub kind: GrantKind,
}

/// How a connection came to hold a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantKind {
    /// It held the lock before.
    Renewal,
    /// The lock was free.
    New,
    /// The last holder had let its seconds end.
    Takeover,
}

/// Takes and releases locks.
#[derive(Debug)]
pub struct LockKeeper<'a, S, C> {
    pub store: &'a S,
    pub clock: &'a C,
}

impl<S: Locks, C: Clock> LockKeeper<'_, S, C> {
    /// Takes a lock, or renews it if the connection holds it.
    ///
    /// # Errors
    /// [`StoreError`]. The connection may hold the lock.
    pub async fn lock(
        &self,
        connection: &Connection,
        key: &LockKey,
        lifetime: Duration,
    ) -> Result<LockOutcome, StoreError> {
        let mut seen = self.store.find_lock(key).await?;
        // For the attempts of this call.
        let mut listed = Vec::new();
        // Whether the lock may be the connection's because of this call. What has
        // ended the connection may have released its locks before that.
        let mut is_new = false;
        for _ in 0..ATTEMPTS {
            let now = self.clock.now();
            let until = now.plus(lifetime);
            let new = match &seen {
                Some(state) if is_held_by(state, connection) => {
                    let is_known = state.connected_at >= connection.connected_at;
                    if is_known && state.until >= until {
                        return Ok(LockOutcome::Locked(Grant {
                            state: state.clone(),
                            kind: GrantKind::Renewal,
                        }));
                    }
                    LockState {
                        until: until.max(state.until),
                        connected_at: connection.connected_at.max(state.connected_at),
                        ..state.clone()
                    }
                }
                Some(state) if state.until.plus(TAKEOVER) > now => {
                    // It was taken here, and revoked before the answer came.
                    if is_new
                        && belongs_to(state, connection)
                        && !self.store.is_in_session(connection).await?
                    {
                        release(self.store, connection, key).await?;
                        return Ok(LockOutcome::Ended);
                    }
                    self.strike(connection, state, listed).await;
                    return Ok(LockOutcome::Held(state.clone()));
                }
                Some(_) | None => LockState {
                    user_id: connection.user_id.clone(),
                    owner: connection.lock_owner().clone(),
                    connected_at: connection.connected_at,
                    until,
                    is_revoked: false,
                    fencing: next_fencing(seen.as_ref(), now),
                },
            };
            let kind = match &seen {
                Some(seen) if seen.fencing == new.fencing => GrantKind::Renewal,
                Some(seen) if seen.until > UnixMillis(0) => GrantKind::Takeover,
                Some(_) | None => GrantKind::New,
            };
            if kind != GrantKind::Renewal {
                let (key, fencing) = (key.clone(), new.fencing);
                listed.push(ListedLock { key, fencing });
                if !self.list(connection, &listed[listed.len() - 1]).await? {
                    return Ok(LockOutcome::TooMany);
                }
            }
            let connected_at = seen.as_ref().map(|seen| seen.connected_at);
            is_new |= kind != GrantKind::Renewal || connected_at != Some(new.connected_at);
            match self.store.swap_lock(key, seen.as_ref(), &new).await? {
                // It was swapped, but the answer got lost.
                Swapped::No(Some(now)) if now == new => {}
                Swapped::No(now) => {
                    seen = now;
                    continue;
                }
                Swapped::Yes => {}
            }
            if is_new && !self.store.is_in_session(connection).await? {
                release(self.store, connection, key).await?;
                return Ok(LockOutcome::Ended);
            }
            return Ok(LockOutcome::Locked(Grant { state: new, kind }));
        }
        Err(always_changed("lock"))
    }

    /// Lists a lock, if there is room, or can be made.
    async fn list(&self, connection: &Connection, lock: &ListedLock) -> Result<bool, StoreError> {
        let list = || self.store.list_lock(connection, lock, MAX_LOCKS);
        if list().await? {
            return Ok(true);
        }
        let listed = self.store.listed_locks(connection.lock_owner()).await?;
        let states = listed.iter().map(|one| self.store.find_lock(&one.key));
        let states = futures_util::future::try_join_all(states).await?;
        let left = listed.into_iter().zip(states).filter(|(one, state)| {
            let over = state.as_ref().and_then(|state| over(state, connection));
            Some(one.fencing) <= over
        });
        let left: Vec<_> = left.map(|(one, _)| one).collect();
        self.unlist(connection, &left).await?;
        Ok(!left.is_empty() && list().await?)
    }

    /// Takes what became of attempts off the list. What is left there counts
    /// towards the limit until it is full, and is harmless otherwise.
    async fn strike(&self, connection: &Connection, state: &LockState, listed: Vec<ListedLock>) {
        let mut left = listed;
        left.retain(|one| Some(one.fencing) <= over(state, connection));
        if let Err(error) = self.unlist(connection, &left).await {
            tracing::warn!(event = "lock.left-listed", connectionId = %connection.id, reason = %error, "could not take a lock off a connection's list");
        }
    }

    async fn unlist(
        &self,
        connection: &Connection,
        locks: &[ListedLock],
    ) -> Result<(), StoreError> {
        if locks.is_empty() {
            return Ok(());
        }
        let owner = connection.lock_owner();
        self.store.unlist_locks(owner, locks).await
    }

    /// Releases a lock. `None` if the connection does not hold it.
    ///
    /// # Errors
    /// [`StoreError`]. The lock may be released.
    pub async fn unlock(
        &self,
        connection: &Connection,
        key: &LockKey,
    ) -> Result<Option<FreeLock>, StoreError> {
        let free = release(self.store, connection, key).await?;
        if let Some(FreeLock { key, fencing }) = free.clone() {
            let released = ListedLock { key, fencing };
            self.unlist(connection, &[released]).await?;
        }
        Ok(free)
    }

    /// Releases locks of a connection's list.
    ///
    /// # Errors
    /// [`StoreError`]. Some locks may be released.
    pub async fn unlock_all(
        &self,
        connection: &Connection,
        listed: &[ListedLock],
    ) -> Result<Vec<FreeLock>, StoreError> {
        let keys = keys(listed);
        let released = keys.iter().map(async |&key| {
            let free = release(self.store, connection, key).await?;
            let over = match &free {
                Some(free) => Some(free.fencing),
                None => {
                    let state = self.store.find_lock(key).await?;
                    state.and_then(|state| over(&state, connection))
                }
            };
            Ok((free, over))
        });
        let released = futures_util::future::try_join_all(released).await?;
        let mut left = Vec::new();
        let mut all_free = Vec::new();
        for (key, (free, over)) in keys.into_iter().zip(released) {
            all_free.extend(free);
            let is_left = |one: &&ListedLock| one.key == *key && Some(one.fencing) <= over;
            left.extend(listed.iter().filter(is_left).cloned());
        }
        self.unlist(connection, &left).await?;
        Ok(all_free)
    }
}

/// The highest number with which the connection's owner does not hold a lock and
/// can no longer take it. `None` if the lock is the owner's.
fn over(state: &LockState, connection: &Connection) -> Option<u64> {
    (!belongs_to(state, connection)).then_some(state.fencing)
}

/// The locks of a list, each once.
fn keys(listed: &[ListedLock]) -> BTreeSet<&LockKey> {
    listed.iter().map(|one| &one.key).collect()
}

/// Releases a lock for a connection, unless its successor has renewed it.
async fn release<S: Locks>(
    store: &S,
    connection: &Connection,
    key: &LockKey,
) -> Result<Option<FreeLock>, StoreError> {
    let owner = connection.lock_owner();
    store
        .release_lock(key, owner, connection.connected_at)
        .await
}

/// Releases locks of an owner of which no connection is left. Its list stays.
///
/// # Errors
/// [`StoreError`]. Some locks may be released.
pub async fn release_all<S: Locks>(
    store: &S,
    owner: &ConnectionId,
    listed: &[ListedLock],
) -> Result<Vec<FreeLock>, StoreError> {
    let any_time = UnixMillis(u64::MAX);
    let released = keys(listed)
        .into_iter()
        .map(|key| store.release_lock(key, owner, any_time));
    let released = futures_util::future::try_join_all(released).await?;
    Ok(released.into_iter().flatten().collect())
}

/// Takes a lock from its holder: it cannot renew the lock. The holder was told an
/// end and is not asked, so nobody else gets the lock before that. A new fencing
/// number makes a renewal that is under way fail.
///
/// Returns until when the lock is held, or `None` if it is free.
///
/// # Errors
/// [`StoreError`]. The lock may be revoked.
pub(crate) async fn revoke<S: Locks>(
    store: &S,
    key: &LockKey,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, StoreError> {
    let mut seen = store.find_lock(key).await?;
    for _ in 0..ATTEMPTS {
        let Some(held) = seen.filter(|state| state.until > now) else {
            return Ok(None);
        };
        if held.is_revoked {
            return Ok(Some(held.until));
        }
        let new = LockState {
            is_revoked: true,
            fencing: next_fencing(Some(&held), now),
            ..held.clone()
        };
        match store.swap_lock(key, Some(&held), &new).await? {
            Swapped::Yes => return Ok(Some(new.until)),
            Swapped::No(now) => seen = now,
        }
    }
    Err(always_changed("unlock"))
}

/// The locks of a channel that are held.
pub(crate) async fn held<S: Locks>(
    store: &S,
    channel: &ChannelName,
    now: UnixMillis,
) -> Result<HeldLocks, StoreError> {
    let LockPage { locks, more } = store.held_locks(channel, LISTED, now).await?;
    let held = locks.into_iter().map(|(name, state)| HeldLock {
        name,
        until: state.until.to_timestamp(),
        fencing: state.fencing,
        holder: Holder {
            user_id: state.user_id,
        },
    });
    Ok(HeldLocks {
        held: held.collect(),
        more,
    })
}

/// As many of the locks as fit into the bytes that are left.
pub(crate) fn within(mut locks: HeldLocks, bytes: &mut usize) -> HeldLocks {
    let all = locks.held.len();
    locks.held = fitting(locks.held, bytes, serde_json::to_string);
    locks.more |= locks.held.len() < all;
    locks
}

fn always_changed(operation: &'static str) -> StoreError {
    StoreError {
        operation,
        cause: "the lock changed at every attempt".into(),
    }
}

/// Whether the connection can renew the lock.
fn is_held_by(state: &LockState, connection: &Connection) -> bool {
    belongs_to(state, connection) && !state.is_revoked
}

/// Whether the connection was the last to take the lock, and has not released it.
fn belongs_to(state: &LockState, connection: &Connection) -> bool {
    state.owner == *connection.lock_owner() && state.until > UnixMillis(0)
}

/// Above every number before, even if the state was forgotten: a lock cannot be
/// taken more often than once a millisecond, so the time is always ahead.
fn next_fencing(seen: Option<&LockState>, now: UnixMillis) -> u64 {
    seen.map_or(0, |seen| seen.fencing + 1).max(now.0)
}
