//! Locks in channels.
//!
//! Invariant: never do two connections hold a lock at the same time. A holder
//! holds it until `until` by the clock of the function that told it, and a
//! renewal never makes `until` earlier. Another connection takes it only after
//! [`TAKEOVER`] beyond that by the clock of its own function. Functions' clocks
//! are at most two seconds wrong, so they differ by four at most.
//!
//! A connection and the one that replaces it count as one holder, under the name
//! of the first of them, [`Connection::lock_owner`]. So nothing is carried over
//! that a death could leave half-way: the write that admits the successor makes
//! it a holder, too. The locks are released when no connection of that name is
//! left, in whatever order they end. A connection is put on the name's list only
//! by the write that finds the row of its predecessor, and taken off only after
//! its own row was removed or its session ended. So a list that has become empty
//! stays empty, and whoever empties it releases the locks. A late `unlock` does
//! not release what a successor has renewed since.

use std::time::Duration;

use belfry_protocol::{ChannelName, ConnectionId, HeldLock, HeldLocks, Holder, MAX_LOCKS};

use crate::connections::Connection;
use crate::fitting::fitting;
use crate::ports::{Clock, FreeLock, LockKey, LockPage, LockState, Locks, StoreError, Swapped};
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
        let mut is_listed = false;
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
                    if is_listed {
                        self.unlist(connection, key).await;
                    }
                    return Ok(LockOutcome::Held(state.clone()));
                }
                Some(_) | None => LockState {
                    user_id: connection.user_id.clone(),
                    owner: connection.lock_owner().clone(),
                    connected_at: connection.connected_at,
                    until,
                    fencing: next_fencing(seen.as_ref(), now),
                },
            };
            let kind = match &seen {
                Some(seen) if seen.fencing == new.fencing => GrantKind::Renewal,
                Some(seen) if seen.until > UnixMillis(0) => GrantKind::Takeover,
                Some(_) | None => GrantKind::New,
            };
            if kind != GrantKind::Renewal && !is_listed {
                is_listed = self.store.list_lock(connection, key, MAX_LOCKS).await?;
                if !is_listed {
                    return Ok(LockOutcome::TooMany);
                }
            }
            match self.store.swap_lock(key, seen.as_ref(), &new).await? {
                // It was swapped, but the answer got lost.
                Swapped::No(Some(now)) if now == new => {}
                Swapped::No(now) => {
                    seen = now;
                    continue;
                }
                Swapped::Yes => {}
            }
            // What has ended the connection may have released its locks before
            // this one was taken.
            if is_listed && !self.store.is_in_session(connection).await? {
                release(self.store, connection, key).await?;
                return Ok(LockOutcome::Ended);
            }
            return Ok(LockOutcome::Locked(Grant { state: new, kind }));
        }
        Err(StoreError {
            operation: "lock",
            cause: "the lock changed at every attempt".into(),
        })
    }

    /// Takes a lock off the list that the connection did not get. One that is
    /// left counts towards the limit and is harmless otherwise.
    async fn unlist(&self, connection: &Connection, key: &LockKey) {
        let keys = std::slice::from_ref(key);
        let owner = connection.lock_owner();
        if let Err(error) = self.store.unlist_locks(owner, keys).await {
            tracing::warn!(event = "lock.left-listed", connectionId = %connection.id, reason = %error, "could not take a lock off a connection's list");
        }
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
        if free.is_some() {
            let (owner, keys) = (connection.lock_owner(), std::slice::from_ref(key));
            self.store.unlist_locks(owner, keys).await?;
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
        keys: &[LockKey],
    ) -> Result<Vec<FreeLock>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let released = keys.iter().map(|key| self.give_up(connection, key));
        let (free, unlisted): (Vec<_>, Vec<_>) = futures_util::future::try_join_all(released)
            .await?
            .into_iter()
            .unzip();
        let unlisted: Vec<_> = unlisted.into_iter().flatten().collect();
        if !unlisted.is_empty() {
            let owner = connection.lock_owner();
            self.store.unlist_locks(owner, &unlisted).await?;
        }
        Ok(free.into_iter().flatten().collect())
    }

    /// Releases a lock. Returns it if it is free now, and its key unless the
    /// successor holds it: then it stays on the list that they share.
    async fn give_up(
        &self,
        connection: &Connection,
        key: &LockKey,
    ) -> Result<(Option<FreeLock>, Option<LockKey>), StoreError> {
        let free = release(self.store, connection, key).await?;
        let is_held = free.is_none() && {
            let state = self.store.find_lock(key).await?;
            state.is_some_and(|state| is_held_by(&state, connection))
        };
        Ok((free, (!is_held).then(|| key.clone())))
    }
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
    keys: &[LockKey],
) -> Result<Vec<FreeLock>, StoreError> {
    let any_time = UnixMillis(u64::MAX);
    let released = keys
        .iter()
        .map(|key| store.release_lock(key, owner, any_time));
    let released = futures_util::future::try_join_all(released).await?;
    Ok(released.into_iter().flatten().collect())
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

fn is_held_by(state: &LockState, connection: &Connection) -> bool {
    state.owner == *connection.lock_owner() && state.until > UnixMillis(0)
}

/// Above every number before, even if the state was forgotten: a lock cannot be
/// taken more often than once a millisecond, so the time is always ahead.
fn next_fencing(seen: Option<&LockState>, now: UnixMillis) -> u64 {
    seen.map_or(0, |seen| seen.fencing + 1).max(now.0)
}
