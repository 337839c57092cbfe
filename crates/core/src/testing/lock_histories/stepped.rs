use std::sync::{Arc, Mutex};

use belfry_protocol::{ChannelName, ConnectionId};

use super::LockMutant;
use crate::connections::Connection;
use crate::locks::TAKEOVER;
use crate::ports::{
    FreeLock, ListedLock, LockKey, LockPage, LockState, Locks, StoreError, Swapped,
};
use crate::testing::connection_id;
use crate::testing::log_histories::Gate;
use crate::time::UnixMillis;

/// Whom a mutant names that takes its own lock for another's.
pub(super) const NOBODY: &str = "nobody";

/// A store as one client's functions see it: each call waits for its turn, and
/// the answer may get lost.
pub(super) struct Stepped<'a, S> {
    store: &'a S,
    own: ConnectionId,
    gate: Arc<Gate>,
    mutant: Option<LockMutant>,
    random: Mutex<fastrand::Rng>,
    /// What a mutant was told instead of what is there.
    real: Mutex<Option<LockState>>,
    /// The number that a mutant wrote last.
    number: Mutex<Option<u64>>,
}

impl<'a, S: Locks> Stepped<'a, S> {
    pub(super) fn new(
        store: &'a S,
        own: &ConnectionId,
        gate: &Arc<Gate>,
        mutant: Option<LockMutant>,
        random: fastrand::Rng,
    ) -> Self {
        Self {
            store,
            own: own.clone(),
            gate: gate.clone(),
            mutant,
            random: Mutex::new(random),
            real: Mutex::new(None),
            number: Mutex::new(None),
        }
    }

    /// The number that a client is told.
    pub(super) fn told(&self, number: u64) -> u64 {
        let written = self.number.lock().expect("no panic").take();
        written.unwrap_or(number)
    }

    fn is(&self, mutant: LockMutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn one_of(&self, number: u32) -> bool {
        self.random.lock().expect("no panic").u32(0..number) == 0
    }

    /// The answer, after another wait. One of twenty gets lost.
    async fn answer<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.gate.pass().await;
        if self.one_of(20) {
            return Err(StoreError {
                operation: "a call",
                cause: "the answer got lost".into(),
            });
        }
        answer
    }

    /// What a mutant sees.
    fn seen(&self, state: Option<LockState>) -> Option<LockState> {
        *self.real.lock().expect("no panic") = state.clone();
        let mut state = state?;
        if state.until == UnixMillis(0) {
            return Some(state);
        }
        if self.is(LockMutant::TakesOverAtOnce) {
            state.until = state.until.minus(TAKEOVER);
        }
        if self.is(LockMutant::ShortensOnRenewal) && state.owner == self.own {
            state.until = UnixMillis(1);
        }
        Some(state)
    }
}

impl<S: Locks> Locks for Stepped<'_, S> {
    async fn find_lock(&self, key: &LockKey) -> Result<Option<LockState>, StoreError> {
        self.gate.pass().await;
        let state = self.store.find_lock(key).await?;
        self.answer(Ok(self.seen(state))).await
    }

    async fn held_locks(
        &self,
        channel: &ChannelName,
        limit: usize,
        now: UnixMillis,
    ) -> Result<LockPage, StoreError> {
        self.store.held_locks(channel, limit, now).await
    }

    async fn list_lock(
        &self,
        connection: &Connection,
        lock: &ListedLock,
        most: usize,
    ) -> Result<bool, StoreError> {
        self.gate.pass().await;
        if self.is(LockMutant::DoesNotList) {
            return Ok(true);
        }
        let listed = self.store.list_lock(connection, lock, most).await;
        self.answer(listed).await
    }

    async fn listed_locks(&self, owner: &ConnectionId) -> Result<Vec<ListedLock>, StoreError> {
        self.gate.pass().await;
        let listed = self.store.listed_locks(owner).await;
        self.answer(listed).await
    }

    async fn unlist_locks(
        &self,
        owner: &ConnectionId,
        locks: &[ListedLock],
    ) -> Result<(), StoreError> {
        self.gate.pass().await;
        let mut locks = locks.to_vec();
        if self.is(LockMutant::UnlistsByName) {
            // A history has one lock.
            locks = self.store.listed_locks(owner).await?;
        }
        let unlisted = self.store.unlist_locks(owner, &locks).await;
        self.answer(unlisted).await
    }

    async fn swap_lock(
        &self,
        key: &LockKey,
        _: Option<&LockState>,
        new: &LockState,
    ) -> Result<Swapped, StoreError> {
        let seen = self.real.lock().expect("no panic").clone();
        let mut new = new.clone();
        match &seen {
            Some(seen) if self.is(LockMutant::KeepsNumber) => new.fencing = seen.fencing,
            None if self.is(LockMutant::RestartsNumbers) => new.fencing = 1,
            _ => {}
        }
        if self.is(LockMutant::KeepsNumber) || self.is(LockMutant::RestartsNumbers) {
            *self.number.lock().expect("no panic") = Some(new.fencing);
        }
        self.gate.pass().await;
        let mut swapped = self.store.swap_lock(key, seen.as_ref(), &new).await?;
        if let (true, Swapped::No(now)) = (self.is(LockMutant::SwapsBlindly), &swapped) {
            swapped = self.store.swap_lock(key, now.as_ref(), &new).await?;
        }
        self.gate.pass().await;
        // The answer gets lost, and the client repeats the call.
        if self.one_of(6) {
            swapped = self.store.swap_lock(key, seen.as_ref(), &new).await?;
        }
        if let Swapped::No(now) = swapped {
            let mut now = self.seen(now);
            if self.is(LockMutant::IgnoresLostAnswers)
                && let Some(state) = now.as_mut().filter(|now| **now == new)
            {
                state.owner = connection_id(NOBODY);
            }
            swapped = Swapped::No(now);
        }
        self.answer(Ok(swapped)).await
    }

    async fn release_lock(
        &self,
        key: &LockKey,
        owner: &ConnectionId,
        mut opened_by: UnixMillis,
    ) -> Result<Option<FreeLock>, StoreError> {
        self.gate.pass().await;
        let mut holder = owner.clone();
        if self.is(LockMutant::UnlocksLate) {
            opened_by = UnixMillis(u64::MAX);
        }
        if self.is(LockMutant::ReleasesBlindly)
            && let Some(state) = self.store.find_lock(key).await?
        {
            holder = state.owner;
        }
        let released = self.store.release_lock(key, &holder, opened_by).await;
        self.answer(released).await
    }

    async fn is_in_session(&self, connection: &Connection) -> Result<bool, StoreError> {
        self.gate.pass().await;
        if self.is(LockMutant::DoesNotLookAgain) {
            return Ok(true);
        }
        let is_in_session = self.store.is_in_session(connection).await;
        self.answer(is_in_session).await
    }
}
