use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use belfry_protocol::{ChannelName, ConnectionId, PresenceInfo, UserId};

use super::{BUCKET, FakeStore, START, Store, connection, connection_id, put};
use crate::channels::Actions;
use crate::connections::Connection;
use crate::hooks::PendingEvent;
use crate::ports::{
    Arrival, Due, DueCount, JoinsPresence, Leave, LeaveOutcome, Listing, Presence, PresentUser,
    PresentUsers, Segment, StoreError, SubscribeResult, Subscription, Touched,
};
use crate::time::UnixMillis;

/// How long after it was asked for a count is due, at most.
const COUNT_AFTER: Duration = Duration::from_secs(60);

/// Who is present, as the fake remembers it.
#[derive(Default)]
pub(super) struct PresenceState {
    users: BTreeMap<(ChannelName, UserId), User>,
    leaves: Vec<Leave>,
    counts: BTreeMap<ChannelName, UnixMillis>,
    counted: BTreeMap<ChannelName, u64>,
}

struct User {
    connections: BTreeSet<ConnectionId>,
    info: PresenceInfo,
    leaves_at: UnixMillis,
    changed_at: UnixMillis,
    /// The leave that made the user absent.
    absent_by: Option<Leave>,
    is_announced: bool,
}

impl PresenceState {
    pub(super) fn join(
        &mut self,
        channel: &ChannelName,
        user: &UserId,
        id: &ConnectionId,
        info: &PresenceInfo,
        now: UnixMillis,
    ) -> Option<Arrival> {
        let key = (channel.clone(), user.clone());
        let mut is_new = !self.users.contains_key(&key);
        let user = self.users.entry(key).or_insert_with(|| User {
            connections: BTreeSet::new(),
            info: info.clone(),
            leaves_at: UnixMillis(0),
            changed_at: UnixMillis(0),
            absent_by: None,
            is_announced: false,
        });
        is_new |= user.absent_by.is_some() || !user.is_announced;
        let is_update = !is_new && user.info != *info;
        user.connections.insert(id.clone());
        user.info = info.clone();
        user.absent_by = None;
        if !is_new && !is_update {
            return None;
        }
        user.is_announced = false;
        user.changed_at = now.max(UnixMillis(user.changed_at.0 + 1));
        Some(Arrival {
            channel: channel.clone(),
            info: info.clone(),
            is_update,
            at: user.changed_at,
        })
    }

    pub(super) fn is_absent(&self, channel: &ChannelName, user: &UserId) -> bool {
        let user = self.users.get(&(channel.clone(), user.clone()));
        user.is_none_or(|user| user.absent_by.is_some())
    }

    /// Returns whether it was the last connection.
    pub(super) fn leave(&mut self, leave: Leave) -> bool {
        if !self.leaves.contains(&leave) {
            self.leaves.push(leave.clone());
        }
        let Some(user) = self.users.get_mut(&(leave.channel, leave.user)) else {
            return false;
        };
        if !user.connections.remove(&leave.connection) {
            return false;
        }
        user.leaves_at = leave.due_at;
        user.connections.is_empty()
    }

    pub(super) fn due(&self, now: UnixMillis) -> Due {
        let leaves = self.leaves.iter().filter(|one| one.due_at <= now);
        let counts = self.counts.iter().filter(|(_, due_at)| **due_at <= now);
        let counts = counts.map(|(channel, due_at)| DueCount {
            channel: channel.clone(),
            due_at: *due_at,
        });
        Due {
            departures: Vec::new(),
            leaves: leaves.cloned().collect(),
            counts: counts.collect(),
        }
    }

    fn of<'a>(&'a self, channel: &'a ChannelName) -> impl Iterator<Item = PresentUser> + 'a {
        let users = self.users.iter();
        let users =
            users.filter(move |((name, _), user)| name == channel && user.absent_by.is_none());
        users.map(|((_, user_id), user)| PresentUser {
            user_id: user_id.clone(),
            connections: user.connections.len() as u64,
            info: user.info.clone(),
        })
    }
}

impl Presence for FakeStore {
    async fn present(
        &self,
        channel: &ChannelName,
        limit: usize,
    ) -> Result<PresentUsers, StoreError> {
        let state = self.working("present")?;
        let mut users: Vec<_> = state.presence.of(channel).take(limit + 1).collect();
        let more = users.len() > limit;
        users.truncate(limit);
        Ok(PresentUsers { users, more })
    }

    async fn announced(&self, channel: &ChannelName, user: &UserId) -> Result<(), StoreError> {
        let mut state = self.working("announced")?;
        let key = (channel.clone(), user.clone());
        if let Some(user) = state.presence.users.get_mut(&key) {
            user.is_announced = true;
        }
        Ok(())
    }

    async fn make_absent(
        &self,
        leave: &Leave,
        now: UnixMillis,
    ) -> Result<LeaveOutcome, StoreError> {
        let mut state = self.working("make_absent")?;
        let key = (leave.channel.clone(), leave.user.clone());
        let Some(user) = state.presence.users.get_mut(&key) else {
            return Ok(LeaveOutcome::AsKnown);
        };
        if !user.connections.is_empty() || user.leaves_at > now {
            return Ok(if user.is_announced || user.absent_by.is_some() {
                LeaveOutcome::AsKnown
            } else {
                LeaveOutcome::Unannounced(Arrival {
                    channel: leave.channel.clone(),
                    info: user.info.clone(),
                    is_update: true,
                    at: user.changed_at,
                })
            });
        }
        let has_left = user.absent_by.is_none();
        if has_left {
            user.absent_by = Some(leave.clone());
            user.is_announced = false;
            user.changed_at = now.max(UnixMillis(user.changed_at.0 + 1));
        }
        if user.absent_by.as_ref() != Some(leave) {
            return Ok(LeaveOutcome::AsKnown);
        }
        let at = user.changed_at;
        if has_left {
            state.write_event(PendingEvent::left(&leave.channel, &leave.user, at));
        }
        Ok(LeaveOutcome::Absent(at))
    }

    async fn forget_leave(&self, leave: &Leave) -> Result<(), StoreError> {
        let mut state = self.working("forget_leave")?;
        state.presence.leaves.retain(|one| one != leave);
        Ok(())
    }

    async fn count_later(&self, channel: &ChannelName, now: UnixMillis) -> Result<(), StoreError> {
        let mut state = self.working("count_later")?;
        let due_at = now.plus(COUNT_AFTER);
        state
            .presence
            .counts
            .entry(channel.clone())
            .or_insert(due_at);
        Ok(())
    }

    async fn count(&self, channel: &ChannelName, _: UnixMillis) -> Result<u64, StoreError> {
        let mut state = self.working("count")?;
        let count = state.presence.of(channel).count() as u64;
        state.presence.counted.insert(channel.clone(), count);
        Ok(count)
    }

    async fn last_count(&self, channel: &ChannelName) -> Result<Option<u64>, StoreError> {
        let state = self.working("last_count")?;
        Ok(state.presence.counted.get(channel).copied())
    }

    async fn forget_count(&self, due: &DueCount) -> Result<(), StoreError> {
        let mut state = self.working("forget_count")?;
        state.presence.counts.remove(&due.channel);
        Ok(())
    }
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    a_user_comes_and_goes_once_however_many_connections(&new().await).await;
    a_user_who_comes_back_was_never_gone(&new().await).await;
    changes_of_a_user_have_rising_times(&new().await).await;
    an_arrival_that_was_not_announced_is_announced_again(&new().await).await;
    a_subscription_without_presence_ends_it(&new().await).await;
    presence_ends_with_the_connection(&new().await).await;
    those_who_are_present_are_listed_and_counted(&new().await).await;
}

fn room() -> ChannelName {
    ChannelName::parse("room:7").expect("a name")
}

fn info(name: &str) -> PresenceInfo {
    PresenceInfo::from_json(&format!(r#"{{"name":"{name}"}}"#)).expect("info")
}

fn after(seconds: u64) -> UnixMillis {
    START.plus(Duration::from_secs(seconds))
}

/// A marked row.
async fn open<S: Store>(store: &S, id: &str, user: &str) -> Connection {
    put(store, &connection(id, user)).await;
    let id = connection_id(id);
    let begun = store.begin_session(&id, &BUCKET, START).await;
    match begun.expect("begin_session") {
        Touched::Live(connection) => connection,
        other => panic!("{other:?}"),
    }
}

/// Subscribes to the room. Returns the arrival and the leave, if any.
async fn subscribe<S: Store>(
    store: &S,
    row: &Connection,
    presence: JoinsPresence,
    now: UnixMillis,
) -> (Option<Arrival>, Option<Leave>) {
    let wanted = [Subscription {
        channel: room(),
        ends_at: row.token_expires_at,
        allowed: None,
        actions: Actions::default(),
        presence,
    }];
    let subscribed = store.subscribe(row, &wanted, 50, now).await;
    match subscribed.expect("subscribe") {
        SubscribeResult::Subscribed {
            mut arrivals,
            mut leaves,
            ..
        } => (arrivals.pop(), leaves.pop()),
        SubscribeResult::Ended => panic!("ended"),
    }
}

/// Subscribes, and announces what comes of it.
async fn join<S: Store>(
    store: &S,
    row: &Connection,
    name: &str,
    now: UnixMillis,
) -> Option<(bool, UnixMillis)> {
    let (arrival, leave) = subscribe(store, row, JoinsPresence::With(info(name)), now).await;
    assert_eq!(leave, None);
    let arrival = arrival?;
    assert_eq!((&arrival.channel, &arrival.info), (&room(), &info(name)));
    let announced = store.announced(&room(), &row.user_id).await;
    assert_eq!(announced, Ok(()));
    Some((arrival.is_update, arrival.at))
}

async fn users<S: Store>(store: &S) -> Vec<(String, u64)> {
    let present = store.present(&room(), 100).await.expect("present");
    assert!(!present.more);
    let mut users: Vec<_> = present
        .users
        .iter()
        .map(|user| (user.user_id.to_string(), user.connections))
        .collect();
    users.sort();
    users
}

fn alice(connections: u64) -> Vec<(String, u64)> {
    vec![("alice".into(), connections)]
}

async fn leaves<S: Store>(store: &S, now: UnixMillis) -> Vec<Leave> {
    store.due_list(now).await.expect("due_list").leaves
}

async fn unsubscribe<S: Store>(store: &S, row: &Connection, now: UnixMillis) -> Vec<Leave> {
    let left = store.unsubscribe(row, &[room()], now).await;
    left.expect("unsubscribe").leaves
}

async fn a_user_comes_and_goes_once_however_many_connections<S: Store>(store: &S) {
    let (one, two) = (
        open(store, "c1", "alice").await,
        open(store, "c2", "alice").await,
    );
    assert_eq!(
        join(store, &one, "a", after(1)).await,
        Some((false, after(1)))
    );
    assert_eq!(join(store, &two, "a", after(2)).await, None);
    assert_eq!(
        join(store, &two, "b", after(3)).await,
        Some((true, after(3)))
    );
    assert_eq!(users(store).await, alice(2));
    assert_eq!(unsubscribe(store, &one, after(4)).await, []);
    assert_eq!(users(store).await, alice(1));
    for left in leaves(store, after(5)).await {
        assert_eq!(
            store.make_absent(&left, after(5)).await,
            Ok(LeaveOutcome::AsKnown)
        );
        assert_eq!(store.forget_leave(&left).await, Ok(()));
    }
    let left = unsubscribe(store, &two, after(6)).await;
    let [left] = &left[..] else {
        panic!("{left:?}")
    };
    assert_eq!(leaves(store, after(6)).await, std::slice::from_ref(left));
    for _ in 0..2 {
        let absent = store.make_absent(left, after(7)).await;
        assert_eq!(absent, Ok(LeaveOutcome::Absent(after(7))));
        assert_eq!(users(store).await, []);
    }
    // Another leave of the same connection has nothing to tell.
    let later = Leave {
        due_at: after(7),
        ..left.clone()
    };
    let known = store.make_absent(&later, after(7)).await;
    assert_eq!(known, Ok(LeaveOutcome::AsKnown));
    for _ in 0..2 {
        assert_eq!(store.forget_leave(left).await, Ok(()));
        assert_eq!(leaves(store, after(100)).await, []);
    }
    assert_eq!(unsubscribe(store, &two, after(8)).await, []);
}

async fn a_user_who_comes_back_was_never_gone<S: Store>(store: &S) {
    let one = open(store, "c1", "alice").await;
    join(store, &one, "a", after(1)).await;
    assert_eq!(store.disconnect(&one.id, after(2)).await, Ok(()));
    assert_eq!(users(store).await, alice(0));
    let two = open(store, "c2", "alice").await;
    assert_eq!(join(store, &two, "a", after(30)).await, None);
    let [left] = &leaves(store, after(62)).await[..] else {
        panic!("one leave is due")
    };
    assert_eq!(
        store.make_absent(left, after(62)).await,
        Ok(LeaveOutcome::AsKnown)
    );
    assert_eq!(users(store).await, alice(1));
    // It leaves again: the first leave is not the last word.
    assert_eq!(store.disconnect(&two.id, after(61)).await, Ok(()));
    assert_eq!(
        store.make_absent(left, after(63)).await,
        Ok(LeaveOutcome::AsKnown)
    );
    assert_eq!(
        store.make_absent(left, after(121)).await,
        Ok(LeaveOutcome::Absent(after(121)))
    );
}

async fn changes_of_a_user_have_rising_times<S: Store>(store: &S) {
    let row = open(store, "c1", "alice").await;
    let mut last = UnixMillis(0);
    // Each function's clock is another one.
    for now in [after(10), after(8), after(8), after(12)] {
        let (is_update, at) = join(store, &row, "a", now).await.expect("an arrival");
        assert!(
            !is_update && at > last && at >= now,
            "{at:?} after {last:?}"
        );
        last = at;
        let left = unsubscribe(store, &row, now).await;
        let absent = store.make_absent(&left[0], now).await;
        let Ok(LeaveOutcome::Absent(at)) = absent else {
            panic!("{absent:?}")
        };
        assert!(at > last && at >= now, "{at:?} after {last:?}");
        last = at;
    }
}

async fn an_arrival_that_was_not_announced_is_announced_again<S: Store>(store: &S) {
    let row = open(store, "c1", "alice").await;
    for name in ["a", "a", "b"] {
        let presence = JoinsPresence::With(info(name));
        let (arrival, _) = subscribe(store, &row, presence, after(1)).await;
        assert!(!arrival.expect("an arrival").is_update);
    }
    // Whatever leave is due next finds it, too.
    let other = open(store, "c2", "alice").await;
    let presence = JoinsPresence::With(info("b"));
    subscribe(store, &other, presence, after(1)).await;
    unsubscribe(store, &other, after(1)).await;
    let left = leaves(store, after(1)).await;
    let absent = store.make_absent(&left[0], after(1)).await;
    let Ok(LeaveOutcome::Unannounced(arrival)) = absent else {
        panic!("{absent:?}")
    };
    assert_eq!((arrival.channel, arrival.info), (room(), info("b")));
    assert!(join(store, &row, "b", after(2)).await.is_some());
    assert_eq!(join(store, &row, "b", after(3)).await, None);
    let absent = store.make_absent(&left[0], after(1)).await;
    assert_eq!(absent, Ok(LeaveOutcome::AsKnown));
}

async fn a_subscription_without_presence_ends_it<S: Store>(store: &S) {
    let row = open(store, "c1", "alice").await;
    assert_eq!(
        subscribe(store, &row, JoinsPresence::No, after(1)).await,
        (None, None)
    );
    let listed = async |listing| {
        let whole = Segment { index: 0, total: 1 };
        let room = room();
        let page = store.subscribers(&room, listing, whole, None, 10, after(1));
        page.await.expect("subscribers").recipients.len()
    };
    let both = async || [listed(Listing::All).await, listed(Listing::Present).await];
    assert_eq!(both().await, [1, 0]);
    join(store, &row, "a", after(2)).await;
    assert_eq!(both().await, [1, 1]);
    assert_eq!(
        subscribe(store, &row, JoinsPresence::AsBefore, after(3)).await,
        (None, None)
    );
    let found = store.find_subscriptions(&row.id, &[room()]).await;
    let found = found.expect("find_subscriptions");
    assert_eq!(found[0].presence, JoinsPresence::AsBefore);
    assert_eq!(both().await, [1, 1]);
    let (arrival, leave) = subscribe(store, &row, JoinsPresence::No, after(4)).await;
    assert_eq!((arrival, both().await), (None, [1, 0]));
    let leave = leave.expect("a leave");
    assert_eq!(
        store.make_absent(&leave, after(4)).await,
        Ok(LeaveOutcome::Absent(after(4)))
    );
    assert_eq!(users(store).await, []);
}

async fn presence_ends_with_the_connection<S: Store>(store: &S) {
    let row = open(store, "c1", "alice").await;
    join(store, &row, "a", after(1)).await;
    assert_eq!(store.disconnect(&row.id, after(10)).await, Ok(()));
    assert_eq!(leaves(store, after(69)).await, []);
    let due = store.due_list(after(70)).await.expect("due_list");
    // The departure does it again, and changes nothing.
    for departure in &due.departures {
        assert_eq!(store.depart(departure).await, Ok(vec![]));
        assert_eq!(store.forget_departure(departure).await, Ok(()));
    }
    let [left] = &leaves(store, after(70)).await[..] else {
        panic!("one leave is due")
    };
    assert_eq!(left.due_at, after(70));
    assert_eq!(
        store.make_absent(left, after(70)).await,
        Ok(LeaveOutcome::Absent(after(70)))
    );
    assert_eq!(store.forget_leave(left).await, Ok(()));
    assert_eq!(store.due_list(after(9_000)).await, Ok(Due::default()));
    assert_eq!(users(store).await, []);
}

async fn those_who_are_present_are_listed_and_counted<S: Store>(store: &S) {
    for n in 0..7 {
        let row = open(store, &format!("c{n}"), &format!("user-{n}")).await;
        join(store, &row, "a", after(1)).await;
        if n == 0 {
            let left = unsubscribe(store, &row, after(2)).await;
            let absent = store.make_absent(&left[0], after(2)).await;
            assert_eq!(absent, Ok(LeaveOutcome::Absent(after(2))));
        }
    }
    for (limit, found, more) in [(3, 3, true), (5, 5, true), (6, 6, false), (9, 6, false)] {
        let present = store.present(&room(), limit).await.expect("present");
        assert_eq!(
            (present.users.len(), present.more),
            (found, more),
            "{limit}"
        );
    }
    assert_eq!(store.last_count(&room()).await, Ok(None));
    assert_eq!(store.count(&room(), after(3)).await, Ok(6));
    assert_eq!(store.last_count(&room()).await, Ok(Some(6)));
    for _ in 0..2 {
        assert_eq!(store.count_later(&room(), after(3)).await, Ok(()));
    }
    assert_eq!(store.due_list(after(3)).await.expect("due_list").counts, []);
    let due = store.due_list(after(63)).await.expect("due_list").counts;
    let [count] = &due[..] else { panic!("{due:?}") };
    assert_eq!(count.channel, room());
    assert_eq!(store.forget_count(count).await, Ok(()));
    assert_eq!(
        store.due_list(after(63)).await.expect("due_list").counts,
        []
    );
}
