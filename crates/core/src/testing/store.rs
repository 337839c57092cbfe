use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use belfry_protocol::{ChannelName, ConnectionId, Position, UserId};

use super::hooks::HookState;
use super::locks::StoredLock;
use super::logs::Logs;
use super::presence::PresenceState;
use super::segments::Broadcasts;
use super::subscriptions::Subscribed;
use super::{LIMITS, START, connection, connection_id};
use crate::connections::Connection;
use crate::frames::{BucketLevel, TokenBucket};
use crate::hooks::PendingEvent;
use crate::log::LogKey;
use crate::ports::{
    Admission, Admissions, Admitted, Departure, JoinsPresence, Leave, ListedLock, LockKey,
    NotServed, StoreError,
};
use crate::presence::PRESENCE_GRACE;
use crate::time::{UnixMillis, UnixSeconds};

/// Rows in a page of a listing: few, so that tests turn pages.
pub(super) const PAGE: usize = 2;

/// Longer than any function may still work on a frame of the connection.
const DEPARTURE: Duration = Duration::from_secs(35);

type Change = Box<dyn FnOnce(&mut Connection) + Send>;

/// A store in memory. It implements every store port, each in the file of the
/// port's contract.
#[derive(Default)]
pub struct FakeStore {
    state: Mutex<State>,
    broadcasts: Mutex<Broadcasts>,
    pub(super) logs: Mutex<Logs>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) rows: BTreeMap<ConnectionId, Row>,
    pub(super) ended: HashSet<ConnectionId>,
    pub(super) signed_out: HashMap<UserId, UnixSeconds>,
    pub(super) subscriptions: BTreeMap<(ChannelName, ConnectionId), Subscribed>,
    pub(super) departures: Vec<Departure>,
    pub(super) presence: PresenceState,
    /// Positions, and when they were moved.
    pub(super) acks: BTreeMap<(LogKey, UserId), (Position, UnixMillis)>,
    pub(super) locks: BTreeMap<LockKey, StoredLock>,
    pub(super) listed_locks: BTreeSet<(ConnectionId, ListedLock)>,
    /// The connections of each owner of locks that has more than one.
    pub(super) lock_owners: BTreeMap<ConnectionId, BTreeSet<ConnectionId>>,
    calls: HashMap<&'static str, u32>,
    pub(super) hooks: HookState,
    pub(super) readers: HashMap<UserId, super::reader_limits::ReaderUse>,
    failing: bool,
    /// Fails after so many calls.
    fails_after: Option<u32>,
    /// Those who remove rows die right after it.
    leaves_remains: bool,
    fails_next: Option<&'static str>,
    hangs_on: Option<&'static str>,
    pub(super) before_removal: BTreeMap<ConnectionId, Change>,
}

pub(super) struct Row {
    pub(super) connection: Connection,
    full_at: UnixMillis,
    refusals: u32,
}

impl Row {
    pub(super) fn new(connection: &Connection) -> Self {
        Self {
            connection: connection.clone(),
            full_at: connection.connected_at,
            refusals: 0,
        }
    }

    /// Whether it counts towards the limit: a replaced connection does not.
    pub(super) fn counts(&self) -> bool {
        self.connection.liveness.replaced_at.is_none()
    }

    /// Why a frame is not served, apart from the rate limit.
    pub(super) fn not_served(&self, now: UnixMillis) -> Option<NotServed> {
        if self.connection.expires_at.has_passed(now) {
            Some(NotServed::Unknown)
        } else if self.connection.is_signed_out() {
            Some(NotServed::SignedOut)
        } else if self.connection.token_expires_at.has_passed(now) {
            Some(NotServed::TokenExpired)
        } else {
            None
        }
    }

    /// Counts a frame. Returns the refusal if it is over the rate limit.
    pub(super) fn count_frame(
        &mut self,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> Option<NotServed> {
        self.connection.last_seen_at = now;
        self.connection.liveness.pinged_at = None;
        self.connection.liveness.unreachable_since = None;
        match bucket.level(self.full_at, now) {
            BucketLevel::Full => {
                self.full_at = now.plus(bucket.interval);
                self.refusals = 0;
                None
            }
            BucketLevel::Partial => {
                self.full_at = self.full_at.plus(bucket.interval);
                None
            }
            BucketLevel::Empty(retry_after) => {
                self.refusals += 1;
                Some(NotServed::RateLimited {
                    retry_after,
                    refusals: self.refusals,
                })
            }
        }
    }
}

impl State {
    /// Removes a row, and what belongs to it.
    pub(super) fn remove(&mut self, id: &ConnectionId, now: UnixMillis) {
        let Some(row) = self.rows.remove(id) else {
            return;
        };
        self.write_event(PendingEvent::closed(&row.connection, now));
        if row.connection.has_session {
            let lock_owner = row.connection.lock_owner().clone();
            if !self.leaves_remains {
                self.end_subscriptions(id, now);
                if self.leave_owner(id, &lock_owner) {
                    self.release_locks_of(&lock_owner);
                }
            }
            self.departures.push(Departure {
                connection: id.clone(),
                lock_owner,
                due_at: now.plus(DEPARTURE),
            });
        }
    }
}

impl State {
    /// Ends every subscription of a connection.
    pub(super) fn end_subscriptions(&mut self, id: &ConnectionId, now: UnixMillis) {
        let ended = self
            .subscriptions
            .extract_if(.., |(_, member), _| member == id);
        for ((channel, _), subscribed) in ended {
            let user = &subscribed.recipient.user_id;
            if subscribed.subscription.presence != JoinsPresence::No {
                let due_at = now.plus(PRESENCE_GRACE);
                let leave = Leave {
                    channel,
                    user: user.clone(),
                    connection: id.clone(),
                    due_at,
                };
                self.presence.leave(leave);
            }
        }
    }
}

impl FakeStore {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test panics while it holds the store")
    }

    /// The state, unless the store was told to fail.
    pub(super) fn working(
        &self,
        operation: &'static str,
    ) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.state();
        *state.calls.entry(operation).or_default() += 1;
        match &mut state.fails_after {
            Some(0) => state.failing = true,
            Some(calls) => *calls -= 1,
            None => {}
        }
        let fails_now = state.fails_next.take_if(|next| *next == operation);
        if state.failing || fails_now.is_some() {
            return Err(StoreError {
                operation,
                cause: "told to fail".into(),
            });
        }
        Ok(state)
    }

    /// The broadcasts, unless the store was told to fail.
    pub(super) fn broadcasts(
        &self,
        operation: &'static str,
    ) -> Result<MutexGuard<'_, Broadcasts>, StoreError> {
        drop(self.working(operation)?);
        let broadcasts = self.broadcasts.lock();
        Ok(broadcasts.expect("no test panics while it holds the store"))
    }

    /// The logs, unless the store was told to fail.
    pub(super) fn logs(&self, operation: &'static str) -> Result<MutexGuard<'_, Logs>, StoreError> {
        drop(self.working(operation)?);
        Ok(self
            .logs
            .lock()
            .expect("no test panics while it holds the store"))
    }

    /// Admits a connection that began at [`START`].
    ///
    /// # Panics
    /// If it is refused.
    pub async fn put(&self, id: &str, user: &str) {
        self.put_row(&connection(id, user)).await;
    }

    /// Admits a connection.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn put_row(&self, row: &Connection) {
        let admission = Admission {
            connection: row,
            token_issued_at: START.to_seconds(),
            replaces: None,
        };
        assert_eq!(self.admit(admission, LIMITS).await, Ok(Admitted::Yes));
    }

    /// Removes a row without a disconnect.
    pub fn forget(&self, id: &str) {
        self.state().rows.remove(&connection_id(id));
    }

    /// The row, live or not.
    #[must_use]
    pub fn row(&self, id: &str) -> Option<Connection> {
        let state = self.state();
        let row = state.rows.get(&connection_id(id));
        row.map(|row| row.connection.clone())
    }

    /// The rows, live or not.
    #[must_use]
    pub fn rows(&self) -> Vec<Connection> {
        let state = self.state();
        state
            .rows
            .values()
            .map(|row| row.connection.clone())
            .collect()
    }

    /// Whether there are no rows at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state().rows.is_empty()
    }

    /// How often an operation was called.
    #[must_use]
    pub fn calls(&self, operation: &str) -> u32 {
        self.state().calls.get(operation).copied().unwrap_or(0)
    }

    /// Makes every later call fail.
    pub fn fail_from_now_on(&self) {
        self.state().failing = true;
    }

    /// Makes every call fail after so many, as if the caller died there.
    pub fn fail_after(&self, calls: u32) {
        self.state().fails_after = Some(calls);
    }

    /// Ends what [`Self::fail_after`] began.
    pub fn recover(&self) {
        let mut state = self.state();
        (state.failing, state.fails_after) = (false, None);
    }

    /// Whether those who remove rows die right after it, and leave the rest to a
    /// sweep.
    pub fn leave_remains(&self, yes: bool) {
        self.state().leaves_remains = yes;
    }

    /// Makes the next call of an operation fail.
    pub fn fail_next(&self, operation: &'static str) {
        self.state().fails_next = Some(operation);
    }

    /// Makes every later call of an operation hang.
    pub fn hang_on(&self, operation: &'static str) {
        self.state().hangs_on = Some(operation);
    }

    /// Returns unless the store was told to hang.
    pub(super) async fn responds(&self, operation: &'static str) {
        let hangs = self.state().hangs_on == Some(operation);
        if hangs {
            std::future::pending::<()>().await;
        }
    }

    /// Changes the row just before the next conditional removal reads it.
    pub fn before_removal(&self, id: &str, change: impl FnOnce(&mut Connection) + Send + 'static) {
        self.state()
            .before_removal
            .insert(connection_id(id), Box::new(change));
    }
}

pub(super) fn is_live(row: &Connection, now: UnixMillis) -> bool {
    !row.expires_at.has_passed(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        super::super::store_contract(async || FakeStore::default()).await;
    }
}
