use std::time::Duration;

use belfry_protocol::{ChannelName, ConnectionId, LockName, MAX_LOCKS};

use super::store::State;
use super::{
    BUCKET, FakeStore, LIMITS, START, Store, TestClock, connection, connection_id, find, put,
};
use crate::connections::Connection;
use crate::locks::{LockKeeper, LockOutcome, TAKEOVER, release_all};
use crate::ports::{
    Admission, Admitted, FreeLock, Left, ListedLock, LockKey, LockPage, LockState, Locks,
    StoreError, Swapped, Touched,
};
use crate::time::UnixMillis;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A lock as the fake remembers it.
#[derive(Debug, Clone)]
pub(super) struct StoredLock {
    state: LockState,
    expires_at: UnixMillis,
}

impl StoredLock {
    pub(super) fn release_if_of(&mut self, owner: &ConnectionId) {
        if self.state.owner == *owner {
            self.state.until = UnixMillis(0);
        }
    }
}

impl State {
    pub(super) fn release_locks_of(&mut self, owner: &ConnectionId) {
        for listed in self.listed_locks_of(owner) {
            if let Some(lock) = self.locks.get_mut(&listed.key) {
                lock.release_if_of(owner);
            }
        }
    }

    /// Takes a connection off the list of an owner. Returns whether none is left.
    pub(super) fn leave_owner(&mut self, id: &ConnectionId, owner: &ConnectionId) -> bool {
        let Some(connections) = self.lock_owners.get_mut(owner) else {
            return true;
        };
        connections.remove(id);
        let is_last = connections.is_empty();
        if is_last {
            self.lock_owners.remove(owner);
        }
        is_last
    }

    pub(super) fn listed_locks_of(&self, owner: &ConnectionId) -> Vec<ListedLock> {
        let listed = self.listed_locks.iter().filter(|one| one.0 == *owner);
        listed.map(|(_, lock)| lock.clone()).collect()
    }
}

impl FakeStore {
    /// Forgets the locks that have expired.
    pub fn delete_expired_locks(&self, now: UnixMillis) {
        let mut state = self.working("delete_expired_locks").expect("a store");
        state.locks.retain(|_, lock| lock.expires_at > now);
    }
}

impl Locks for FakeStore {
    async fn find_lock(&self, key: &LockKey) -> Result<Option<LockState>, StoreError> {
        let state = self.working("find_lock")?;
        Ok(state.locks.get(key).map(|lock| lock.state.clone()))
    }

    async fn held_locks(
        &self,
        channel: &ChannelName,
        limit: usize,
        now: UnixMillis,
    ) -> Result<LockPage, StoreError> {
        let state = self.working("held_locks")?;
        let of_channel = state.locks.iter();
        let held = of_channel
            .filter(|(key, lock)| key.channel == *channel && lock.state.until > now)
            .map(|(key, lock)| (key.name.clone(), lock.state.clone()));
        let mut locks: Vec<_> = held.take(limit + 1).collect();
        let more = locks.len() > limit;
        locks.truncate(limit);
        Ok(LockPage { locks, more })
    }

    async fn list_lock(
        &self,
        connection: &Connection,
        lock: &ListedLock,
        most: usize,
    ) -> Result<bool, StoreError> {
        let mut state = self.working("list_lock")?;
        let entry = (connection.lock_owner().clone(), lock.clone());
        let of_owner = state.listed_locks.iter().filter(|one| one.0 == entry.0);
        if of_owner.count() >= most && !state.listed_locks.contains(&entry) {
            return Ok(false);
        }
        state.listed_locks.insert(entry);
        Ok(true)
    }

    async fn listed_locks(&self, owner: &ConnectionId) -> Result<Vec<ListedLock>, StoreError> {
        Ok(self.working("listed_locks")?.listed_locks_of(owner))
    }

    async fn unlist_locks(
        &self,
        owner: &ConnectionId,
        locks: &[ListedLock],
    ) -> Result<(), StoreError> {
        let mut state = self.working("unlist_locks")?;
        let listed = &mut state.listed_locks;
        listed.retain(|(of, lock)| of != owner || !locks.contains(lock));
        Ok(())
    }

    async fn swap_lock(
        &self,
        key: &LockKey,
        seen: Option<&LockState>,
        new: &LockState,
    ) -> Result<Swapped, StoreError> {
        let mut state = self.working("swap_lock")?;
        let now = state.locks.get(key).map(|lock| lock.state.clone());
        if now.as_ref() != seen {
            return Ok(Swapped::No(now));
        }
        let stored = StoredLock {
            state: new.clone(),
            expires_at: new.until.plus(DAY),
        };
        state.locks.insert(key.clone(), stored);
        Ok(Swapped::Yes)
    }

    async fn release_lock(
        &self,
        key: &LockKey,
        owner: &ConnectionId,
        opened_by: UnixMillis,
    ) -> Result<Option<FreeLock>, StoreError> {
        let mut state = self.working("release_lock")?;
        let lock = state.locks.get_mut(key);
        let lock = lock.filter(|lock| lock.state.owner == *owner);
        let lock = lock.filter(|lock| lock.state.connected_at <= opened_by);
        Ok(lock.map(|lock| {
            lock.release_if_of(owner);
            FreeLock {
                key: key.clone(),
                fencing: lock.state.fencing,
            }
        }))
    }

    async fn is_in_session(&self, connection: &Connection) -> Result<bool, StoreError> {
        let state = self.working("is_in_session")?;
        let row = state.rows.get(&connection.id).map(|row| &row.connection);
        let is_there =
            |row: &Connection| row.connected_at == connection.connected_at && !row.is_signed_out();
        Ok(row.is_some_and(is_there))
    }
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    a_lock_is_swapped_if_it_is_as_it_was_read(&new().await).await;
    only_its_holder_releases_a_lock(&new().await).await;
    a_connection_lists_so_many_locks(&new().await).await;
    a_full_list_makes_room(&new().await).await;
    locks_are_released_with_their_connection(&new().await).await;
    locks_that_are_held_are_listed(&new().await).await;
    for first in [0, 1] {
        locks_outlive_a_connection_that_was_replaced(&new().await, first).await;
    }
    only_a_session_hands_its_locks_on(&new().await).await;
    a_connection_that_was_replaced_gives_up_no_lock_of_the_new_one(&new().await).await;
}

pub(super) fn key(name: &str) -> LockKey {
    LockKey {
        channel: ChannelName::parse("room:7").expect("a name"),
        name: LockName::parse(name).expect("a name"),
    }
}

fn listed(key: &LockKey, fencing: u64) -> ListedLock {
    let key = key.clone();
    ListedLock { key, fencing }
}

fn held(row: &Connection, seconds: u64, fencing: u64) -> LockState {
    LockState {
        user_id: row.user_id.clone(),
        owner: row.lock_owner().clone(),
        connected_at: row.connected_at,
        until: START.plus(Duration::from_secs(seconds)),
        is_revoked: false,
        fencing,
    }
}

/// A connection whose row is marked.
pub(super) async fn open<S: Store>(store: &S, id: &str, user: &str) -> Connection {
    put(store, &connection(id, user)).await;
    let id = connection_id(id);
    let begun = store.begin_session(&id, &BUCKET, START).await;
    match begun.expect("begin_session") {
        Touched::Live(connection) => connection,
        other => panic!("{other:?}"),
    }
}

async fn a_lock_is_swapped_if_it_is_as_it_was_read<S: Store>(store: &S) {
    let key = key("title");
    let (one, two) = (connection("c1", "alice"), connection("c2", "bob"));
    assert_eq!(store.find_lock(&key).await, Ok(None));
    let first = held(&one, 30, 7);
    let swapped = store.swap_lock(&key, None, &first).await;
    assert_eq!(swapped, Ok(Swapped::Yes));
    assert_eq!(store.find_lock(&key).await, Ok(Some(first.clone())));
    let second = held(&two, 60, 8);
    let no = Ok(Swapped::No(Some(first.clone())));
    assert_eq!(store.swap_lock(&key, None, &second).await, no);
    let renewed = LockState {
        connected_at: START.plus(Duration::from_millis(1)),
        ..first.clone()
    };
    for other in [held(&one, 31, 7), held(&one, 30, 6), renewed] {
        let swapped = store.swap_lock(&key, Some(&other), &second).await;
        assert_eq!(swapped, no);
    }
    let swapped = store.swap_lock(&key, Some(&first), &second).await;
    assert_eq!(swapped, Ok(Swapped::Yes));
    // The call is repeated because its answer got lost.
    let swapped = store.swap_lock(&key, Some(&first), &second).await;
    assert_eq!(swapped, Ok(Swapped::No(Some(second))));
}

async fn only_its_holder_releases_a_lock<S: Store>(store: &S) {
    let key = key("cell:7");
    let (one, two) = (connection("c1", "alice"), connection("c2", "bob"));
    assert_eq!(store.release_lock(&key, &one.id, START).await, Ok(None));
    assert_eq!(store.find_lock(&key).await, Ok(None));
    let state = held(&one, 30, 7);
    let swapped = store.swap_lock(&key, None, &state).await;
    assert_eq!(swapped, Ok(Swapped::Yes));
    let earlier = START.minus(Duration::from_millis(1));
    for (id, opened_by) in [(&two.id, START), (&one.id, earlier)] {
        let released = store.release_lock(&key, id, opened_by).await;
        assert_eq!(released, Ok(None));
    }
    assert_eq!(store.find_lock(&key).await, Ok(Some(state.clone())));
    let free = FreeLock {
        key: key.clone(),
        fencing: 7,
    };
    for _ in 0..2 {
        let released = store.release_lock(&key, &one.id, START).await;
        assert_eq!(released, Ok(Some(free.clone())));
        let until = UnixMillis(0);
        let state = LockState {
            until,
            ..state.clone()
        };
        assert_eq!(store.find_lock(&key).await, Ok(Some(state)));
    }
}

async fn a_connection_lists_so_many_locks<S: Store>(store: &S) {
    let row = open(store, "c1", "alice").await;
    let [a, b, c] = ["a", "b", "c"].map(|name| listed(&key(name), 7));
    let again = listed(&a.key, 8);
    for (lock, fits) in [
        (&a, true),
        (&b, true),
        (&c, false),
        (&again, false),
        (&a, true),
    ] {
        assert_eq!(store.list_lock(&row, lock, 2).await, Ok(fits));
    }
    let all = async || {
        let channels = [a.key.channel.clone()];
        let left = store.unsubscribe(&row, &channels, START).await;
        let mut locks = left.expect("unsubscribe").locks;
        locks.sort();
        let mut same = store.listed_locks(&row.id).await.expect("listed_locks");
        same.sort();
        assert_eq!(locks, same);
        locks
    };
    assert_eq!(all().await, [a.clone(), b.clone()]);
    for _ in 0..2 {
        let locks = [a.clone(), c.clone(), listed(&b.key, 8)];
        assert_eq!(store.unlist_locks(&row.id, &locks).await, Ok(()));
        assert_eq!(all().await, std::slice::from_ref(&b), "by its number");
    }
    let other = [ChannelName::parse("room:8").expect("a name")];
    let left = store.unsubscribe(&row, &other, START).await;
    assert_eq!(left, Ok(Left::default()), "no lock of another channel");
    let unknown = connection_id("unknown");
    assert_eq!(store.unlist_locks(&unknown, &[a]).await, Ok(()));
    assert_eq!(store.listed_locks(&unknown).await, Ok(vec![]));
}

async fn locks_are_released_with_their_connection<S: Store>(store: &S) {
    let row = open(store, "c1", "alice").await;
    let other = open(store, "c2", "bob").await;
    let (mine, taken) = (key("mine"), key("taken"));
    for (key, fencing) in [(&mine, 6), (&mine, 7), (&taken, 6)] {
        let lock = listed(key, fencing);
        assert_eq!(store.list_lock(&row, &lock, 20).await, Ok(true));
    }
    for (key, row) in [(&mine, &row), (&taken, &other)] {
        let swapped = store.swap_lock(key, None, &held(row, 30, 7)).await;
        assert_eq!(swapped, Ok(Swapped::Yes));
    }
    assert_eq!(store.is_in_session(&row).await, Ok(true));
    assert_eq!(store.disconnect(&row.id, START).await, Ok(()));
    assert_eq!(store.is_in_session(&row).await, Ok(false));
    let state = store.find_lock(&mine).await.expect("find_lock");
    assert_eq!(state.map(|state| state.until), Some(UnixMillis(0)));
    let state = store.find_lock(&taken).await;
    assert_eq!(state, Ok(Some(held(&other, 30, 7))));
    // A sweep does it again, and tells what is free.
    let later = START.plus(Duration::from_secs(60));
    let due = store.due_list(later).await.expect("due_list").departures;
    for _ in 0..2 {
        let mut left = store.depart(&due[0]).await.expect("depart");
        left.sort();
        let all = [listed(&mine, 6), listed(&mine, 7), listed(&taken, 6)];
        assert_eq!(left, all);
        let free = release_all(store, &row.id, &left).await;
        let (key, fencing) = (mine.clone(), 7);
        assert_eq!(free, Ok(vec![FreeLock { key, fencing }]));
    }
    assert_eq!(store.forget_departure(&due[0]).await, Ok(()));
    assert_eq!(store.depart(&due[0]).await, Ok(vec![]));
}

async fn locks_that_are_held_are_listed<S: Store>(store: &S) {
    let row = connection("c1", "alice");
    let room = key("a").channel;
    let listed = async |limit| store.held_locks(&room, limit, START).await;
    assert_eq!(listed(100).await, Ok(LockPage::default()));
    let elsewhere = LockKey {
        channel: ChannelName::parse("room:8").expect("a name"),
        ..key("a")
    };
    let mut expected = Vec::new();
    // The second one's seconds are over.
    for (key, seconds) in [
        (key("a"), 30),
        (key("b"), 0),
        (key("c"), 5),
        (elsewhere, 30),
    ] {
        let state = held(&row, seconds, 7);
        let swapped = store.swap_lock(&key, None, &state).await;
        assert_eq!(swapped, Ok(Swapped::Yes));
        if key.channel == room && seconds > 0 {
            expected.push((key.name, state));
        }
    }
    let (locks, more) = (expected.clone(), false);
    assert_eq!(listed(2).await, Ok(LockPage { locks, more }));
    let (locks, more) = (expected[..1].to_vec(), true);
    assert_eq!(listed(1).await, Ok(LockPage { locks, more }));
    let released = store.release_lock(&key("a"), &row.id, START).await;
    assert!(released.expect("release_lock").is_some());
    let (locks, more) = (expected[1..].to_vec(), false);
    assert_eq!(listed(100).await, Ok(LockPage { locks, more }));
}

/// A connection, marked, that replaces another one of the user.
pub(super) async fn succeed<S: Store>(store: &S, id: &str, old: &Connection) -> Connection {
    let row = Connection {
        user_id: old.user_id.clone(),
        connected_at: old.connected_at.plus(Duration::from_millis(1)),
        ..connection(id, "alice")
    };
    let admission = Admission {
        connection: &row,
        token_issued_at: START.to_seconds(),
        replaces: Some(&old.id),
    };
    assert_eq!(store.admit(admission, LIMITS).await, Ok(Admitted::Yes));
    let begun = store.begin_session(&row.id, &BUCKET, START).await;
    match begun.expect("begin_session") {
        Touched::Live(connection) => connection,
        other => panic!("{other:?}"),
    }
}

/// Three connections replace one another; the first and the last one end in
/// either order.
async fn locks_outlive_a_connection_that_was_replaced<S: Store>(store: &S, first: usize) {
    let one = open(store, "c1", "alice").await;
    let key = key("title");
    let lock = listed(&key, 7);
    assert_eq!(store.list_lock(&one, &lock, 20).await, Ok(true));
    let state = held(&one, 30, 7);
    let swapped = store.swap_lock(&key, None, &state).await;
    assert_eq!(swapped, Ok(Swapped::Yes));
    let two = succeed(store, "c2", &one).await;
    assert!(two.has_session);
    assert_eq!(store.disconnect(&two.id, START).await, Ok(()));
    assert_eq!(store.find_lock(&key).await, Ok(Some(state.clone())));

    let other = open(store, "o1", "alice").await;
    let other_key = self::key("other");
    let other_lock = listed(&other_key, 9);
    assert_eq!(store.list_lock(&other, &other_lock, 20).await, Ok(true));
    let last = succeed(store, "o2", &other).await;
    let last = succeed(store, "o3", &last).await;
    assert_eq!(last.lock_owner(), &other.id);
    let state = held(&last, 30, 9);
    let swapped = store.swap_lock(&other_key, None, &state).await;
    assert_eq!(swapped, Ok(Swapped::Yes));
    assert_eq!(store.disconnect(&connection_id("o2"), START).await, Ok(()));
    let mut ends = [other, last];
    ends.rotate_left(first);
    assert_eq!(store.disconnect(&ends[0].id, START).await, Ok(()));
    // A sweep changes nothing as long as one of them is left.
    let later = START.plus(Duration::from_secs(60));
    for departure in store.due_list(later).await.expect("due_list").departures {
        let locks = store.depart(&departure).await;
        assert_eq!(locks, Ok(vec![]), "{departure:?}");
        assert_eq!(store.forget_departure(&departure).await, Ok(()));
    }
    assert_eq!(store.find_lock(&other_key).await, Ok(Some(state)));
    assert_eq!(store.disconnect(&ends[1].id, START).await, Ok(()));
    let state = store.find_lock(&other_key).await.expect("find_lock");
    assert_eq!(state.map(|state| state.until), Some(UnixMillis(0)));
    let due = store.due_list(later).await.expect("due_list").departures;
    assert_eq!(store.depart(&due[0]).await, Ok(vec![other_lock]));
}

async fn a_connection_that_was_replaced_gives_up_no_lock_of_the_new_one<S: Store>(store: &S) {
    let one = open(store, "c1", "alice").await;
    let two = succeed(store, "c2", &one).await;
    let key = key("title");
    let lock = listed(&key, 7);
    assert_eq!(store.list_lock(&two, &lock, 20).await, Ok(true));
    let swapped = store.swap_lock(&key, None, &held(&two, 30, 7)).await;
    assert_eq!(swapped, Ok(Swapped::Yes));
    let clock = TestClock::default();
    let keeper = LockKeeper {
        store,
        clock: &clock,
    };
    let released = keeper.unlock_all(&one, &[lock]).await;
    assert_eq!(released, Ok(vec![]));
    // It is still listed, so the end of both releases it.
    for id in [&one.id, &two.id] {
        assert_eq!(store.disconnect(id, START).await, Ok(()));
    }
    let state = store.find_lock(&key).await.expect("find_lock");
    assert_eq!(state.map(|state| state.until), Some(UnixMillis(0)));
}

async fn a_full_list_makes_room<S: Store>(store: &S) {
    let one = open(store, "c1", "alice").await;
    let clock = TestClock::default();
    let keeper = LockKeeper {
        store,
        clock: &clock,
    };
    let lifetime = Duration::from_secs(30);
    let lock = async |name: &str| keeper.lock(&one, &key(name), lifetime).await;
    for number in 0..MAX_LOCKS {
        let locked = lock(&format!("cell:{number}")).await;
        assert!(matches!(locked, Ok(LockOutcome::Locked(_))), "{locked:?}");
    }
    assert_eq!(lock("more").await, Ok(LockOutcome::TooMany));
    // The seconds of one end, and another connection takes it.
    clock.advance(lifetime + TAKEOVER);
    let other = open(store, "c2", "bob").await;
    let taken = keeper.lock(&other, &key("cell:3"), lifetime).await;
    assert!(matches!(taken, Ok(LockOutcome::Locked(_))), "{taken:?}");
    let locked = lock("more").await;
    assert!(matches!(locked, Ok(LockOutcome::Locked(_))), "{locked:?}");
    assert_eq!(lock("again").await, Ok(LockOutcome::TooMany));
    let listed = store.listed_locks(&one.id).await.expect("listed_locks");
    assert!(listed.iter().all(|one| one.key != key("cell:3")));
}

async fn only_a_session_hands_its_locks_on<S: Store>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    let successor = succeed(store, "c2", &connection("c1", "alice")).await;
    assert_eq!(successor.lock_owner(), &successor.id, "nothing to hand on");
    let one = open(store, "d1", "alice").await;
    let ended = store.end_session(&one.user_id, &one.id, START).await;
    assert!(ended.expect("end_session").is_some());
    let successor = succeed(store, "d2", &one).await;
    assert_eq!(successor.lock_owner(), &successor.id, "it was signed out");
    let bob = connection("e2", "bob");
    let admission = Admission {
        connection: &bob,
        token_issued_at: START.to_seconds(),
        replaces: Some(&successor.id),
    };
    assert_eq!(store.admit(admission, LIMITS).await, Ok(Admitted::Yes));
    let bob = find(store, "e2").await.expect("a row");
    assert_eq!(bob.lock_owner(), &bob.id, "another user's");
}
