use std::time::Duration;

use belfry_protocol::{Action, ChannelName, ConnectionId};

use super::store::{PAGE, State};
use super::{BUCKET, FakeStore, START, Store, connection, connection_id, put, user_id};
use crate::channels::Actions;
use crate::connections::{Connection, Recipient, shard_of};
use crate::hooks::PendingEvent;
use crate::ports::{
    Departure, Departures, Due, JoinsPresence, Leave, Left, ListedLock, Listing, Segment,
    StoreError, SubscribeResult, SubscriberPage, Subscribers, Subscription, SubscriptionCounts,
    Subscriptions, SubscriptionsCounted, Touched,
};
use crate::time::{UnixMillis, UnixSeconds};

/// A subscription as the fake remembers it.
#[derive(Debug, Clone)]
pub(super) struct Subscribed {
    pub(super) recipient: Recipient,
    pub(super) subscription: Subscription,
}

impl Subscriptions for FakeStore {
    async fn subscribe(
        &self,
        connection: &Connection,
        wanted: &[Subscription],
        most: usize,
        now: UnixMillis,
    ) -> Result<SubscribeResult, StoreError> {
        let mut state = self.working("subscribe")?;
        let row = state.rows.get(&connection.id);
        let is_there =
            |row: &Connection| row.connected_at == connection.connected_at && !row.is_signed_out();
        if !row.is_some_and(|row| is_there(&row.connection)) {
            return Ok(SubscribeResult::Ended);
        }
        let (mut too_many, mut arrivals, mut leaves) = (Vec::new(), Vec::new(), Vec::new());
        for subscription in wanted {
            let key = (subscription.channel.clone(), connection.id.clone());
            let of_connection = |key: &&(ChannelName, ConnectionId)| key.1 == connection.id;
            let others = state.subscriptions.keys().filter(of_connection).count();
            if others >= most && !state.subscriptions.contains_key(&key) {
                too_many.push(key.0);
                continue;
            }
            let (channel, user) = (&subscription.channel, &connection.user_id);
            let presence = match &subscription.presence {
                JoinsPresence::No => {
                    leaves.extend(state.leave_now(connection, channel, now));
                    JoinsPresence::No
                }
                JoinsPresence::AsBefore => JoinsPresence::AsBefore,
                JoinsPresence::With(info) => {
                    let id = &connection.id;
                    let was_absent = state.presence.is_absent(channel, user);
                    let arrival = state.presence.join(channel, user, id, info, now);
                    if let (true, Some(arrival)) = (was_absent, &arrival) {
                        state.write_event(PendingEvent::joined(channel, user, arrival.at));
                    }
                    arrivals.extend(arrival);
                    JoinsPresence::AsBefore
                }
            };
            let subscribed = Subscribed {
                recipient: Recipient {
                    token_expires_at: subscription.ends_at,
                    ..Recipient::from(connection)
                },
                subscription: Subscription {
                    presence,
                    ..subscription.clone()
                },
            };
            state.subscriptions.insert(key, subscribed);
        }
        Ok(SubscribeResult::Subscribed {
            too_many,
            arrivals,
            leaves,
        })
    }

    async fn unsubscribe(
        &self,
        connection: &Connection,
        channels: &[ChannelName],
        now: UnixMillis,
    ) -> Result<Left, StoreError> {
        let mut state = self.working("unsubscribe")?;
        let mut leaves = Vec::new();
        for channel in channels {
            leaves.extend(state.leave_now(connection, channel, now));
            let key = (channel.clone(), connection.id.clone());
            state.subscriptions.remove(&key);
        }
        let mut locks = state.listed_locks_of(connection.lock_owner());
        locks.retain(|one| channels.contains(&one.key.channel));
        Ok(Left { leaves, locks })
    }

    async fn channels(&self, id: &ConnectionId) -> Result<Vec<ChannelName>, StoreError> {
        let state = self.working("channels")?;
        let of_connection = state.subscriptions.keys().filter(|key| key.1 == *id);
        Ok(of_connection.map(|(channel, _)| channel.clone()).collect())
    }

    async fn find_subscriptions(
        &self,
        id: &ConnectionId,
        channels: &[ChannelName],
    ) -> Result<Vec<Subscription>, StoreError> {
        let state = self.working("find_subscriptions")?;
        let find = |channel: &ChannelName| {
            let found = state.subscriptions.get(&(channel.clone(), id.clone()));
            found.map(|subscribed| subscribed.subscription.clone())
        };
        Ok(channels.iter().filter_map(find).collect())
    }
}

impl State {
    /// Ends the presence by a subscription, if it had it. Returns the leave if
    /// no other connection of the user is present.
    fn leave_now(
        &mut self,
        connection: &Connection,
        channel: &ChannelName,
        now: UnixMillis,
    ) -> Option<Leave> {
        let key = (channel.clone(), connection.id.clone());
        let subscribed = self.subscriptions.get(&key)?;
        if subscribed.subscription.presence == JoinsPresence::No {
            return None;
        }
        let leave = Leave {
            channel: channel.clone(),
            user: connection.user_id.clone(),
            connection: connection.id.clone(),
            due_at: now,
        };
        self.presence.leave(leave.clone()).then_some(leave)
    }
}

impl SubscriptionCounts for FakeStore {
    async fn count_subscriptions(
        &self,
        pages: u32,
        now: UnixMillis,
    ) -> Result<SubscriptionsCounted, StoreError> {
        let state = self.working("count_subscriptions")?;
        let most = PAGE * pages as usize;
        let mut counted = SubscriptionsCounted {
            more: state.subscriptions.len() > most,
            ..SubscriptionsCounted::default()
        };
        for ((channel, _), one) in state.subscriptions.iter().take(most) {
            if !one.subscription.ends_at.has_passed(now) {
                *counted.by_channel.entry(channel.clone()).or_default() += 1;
            }
        }
        Ok(counted)
    }
}

impl Subscribers for FakeStore {
    async fn subscribers(
        &self,
        channel: &ChannelName,
        listing: Listing,
        segment: Segment,
        after: Option<&ConnectionId>,
        limit: usize,
        now: UnixMillis,
    ) -> Result<SubscriberPage, StoreError> {
        let state = self.working("subscribers")?;
        let members = state.subscriptions.iter().filter(|((name, id), _)| {
            name == channel
                && shard_of(id, segment.total) == segment.index
                && after.is_none_or(|after| id > after)
        });
        let is_listed = |one: &Subscribed| match listing {
            Listing::All => true,
            Listing::Present => one.subscription.presence != JoinsPresence::No,
            Listing::Allowed(action) => one.subscription.actions.contains(action),
        };
        let mut page: Vec<_> = members
            .filter(|(_, subscribed)| is_listed(subscribed))
            .map(|(_, subscribed)| subscribed.recipient.clone())
            .collect();
        let about = page.len() as u64;
        // Like DynamoDB, which does not look whether something follows a page that
        // is full.
        let more = page.len() >= limit;
        page.truncate(limit);
        let next = more
            .then(|| page.last().map(|last| last.id.clone()))
            .flatten();
        page.retain(|recipient| !recipient.token_expires_at.has_passed(now));
        Ok(SubscriberPage {
            recipients: page,
            next,
            about,
        })
    }

    async fn remove_subscriber(
        &self,
        channel: &ChannelName,
        seen: &Recipient,
    ) -> Result<(), StoreError> {
        let mut state = self.working("remove_subscriber")?;
        let key = (channel.clone(), seen.id.clone());
        let same = |one: &Subscribed| one.recipient.connected_at == seen.connected_at;
        if state.subscriptions.get(&key).is_some_and(same) {
            state.subscriptions.remove(&key);
        }
        Ok(())
    }
}

impl Departures for FakeStore {
    async fn due_list(&self, now: UnixMillis) -> Result<Due, StoreError> {
        let state = self.working("due_list")?;
        let departures = state.departures.iter().filter(|one| one.due_at <= now);
        Ok(Due {
            departures: departures.cloned().collect(),
            ..state.presence.due(now)
        })
    }

    async fn depart(&self, departure: &Departure) -> Result<Vec<ListedLock>, StoreError> {
        let mut state = self.working("depart")?;
        let Departure {
            connection,
            lock_owner,
            due_at,
        } = departure;
        state.end_subscriptions(connection, *due_at);
        if !state.leave_owner(connection, lock_owner) {
            return Ok(Vec::new());
        }
        Ok(state.listed_locks_of(lock_owner))
    }

    async fn forget_departure(&self, departure: &Departure) -> Result<(), StoreError> {
        let mut state = self.working("forget_departure")?;
        let gone = &departure.connection;
        // Others may hold the locks under this name.
        if !state.lock_owners.contains_key(gone) {
            state.listed_locks.retain(|(owner, _)| owner != gone);
        }
        state.departures.retain(|one| one != departure);
        Ok(())
    }
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    a_subscriber_is_listed_until_it_unsubscribes(&new().await).await;
    a_subscription_ends_when_it_says(&new().await).await;
    a_connection_has_a_limit_of_channels(&new().await).await;
    subscriptions_end_with_their_connection(&new().await).await;
    a_connection_that_has_ended_is_not_subscribed(&new().await).await;
    segments_list_every_subscriber_once(&new().await).await;
    a_ghost_can_be_removed(&new().await).await;
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).expect("a name")
}

fn subscription(name: &str) -> Subscription {
    Subscription {
        channel: channel(name),
        ends_at: connection("any", "alice").token_expires_at,
        allowed: None,
        presence: JoinsPresence::No,
        actions: Actions::default(),
    }
}

/// A connection whose row is marked.
async fn open<S: Store>(store: &S, id: &str) -> Connection {
    put(store, &connection(id, "alice")).await;
    let id = connection_id(id);
    let begun = store.begin_session(&id, &BUCKET, START).await;
    match begun.expect("begin_session") {
        Touched::Live(connection) => connection,
        other => panic!("{other:?}"),
    }
}

async fn subscribe<S: Store>(store: &S, row: &Connection, names: &[&str]) -> SubscribeResult {
    let wanted: Vec<_> = names.iter().map(|name| subscription(name)).collect();
    let subscribed = store.subscribe(row, &wanted, 50, START).await;
    subscribed.expect("subscribe")
}

async fn list<S: Store>(store: &S, name: &str, now: UnixMillis) -> Vec<String> {
    let whole = Segment { index: 0, total: 1 };
    let name = channel(name);
    let page = store
        .subscribers(&name, Listing::All, whole, None, 100, now)
        .await;
    let page = page.expect("subscribers");
    assert_eq!(page.next, None);
    let mut ids: Vec<_> = page
        .recipients
        .iter()
        .map(|one| one.id.to_string())
        .collect();
    ids.sort();
    ids
}

fn subscribed(too_many: Vec<ChannelName>) -> SubscribeResult {
    SubscribeResult::Subscribed {
        too_many,
        arrivals: vec![],
        leaves: vec![],
    }
}

fn all() -> SubscribeResult {
    subscribed(vec![])
}

async fn a_subscriber_is_listed_until_it_unsubscribes<S: Store>(store: &S) {
    let (one, two) = (open(store, "c1").await, open(store, "c2").await);
    assert_eq!(list(store, "room:7", START).await, [""; 0]);
    for _ in 0..2 {
        assert_eq!(subscribe(store, &one, &["room:7", "room:8"]).await, all());
    }
    assert_eq!(subscribe(store, &two, &["room:7"]).await, all());
    assert_eq!(list(store, "room:7", START).await, ["c1", "c2"]);
    assert_eq!(list(store, "room:8", START).await, ["c1"]);
    let mut channels = store.channels(&one.id).await.expect("channels");
    channels.sort();
    assert_eq!(channels, [channel("room:7"), channel("room:8")]);
    let names = ["room:7", "room:8", "room:9"].map(channel);
    let found = store.find_subscriptions(&one.id, &names[1..]).await;
    assert_eq!(found, Ok(vec![subscription("room:8")]));
    let whole = Segment { index: 0, total: 1 };
    let page = store
        .subscribers(&names[1], Listing::All, whole, None, 10, START)
        .await;
    let page = page.expect("subscribers");
    assert_eq!(page.recipients, [Recipient::from(&one)]);
    for _ in 0..2 {
        let left = [names[0].clone(), names[2].clone()];
        let unsubscribed = store.unsubscribe(&one, &left, START).await;
        assert_eq!(unsubscribed, Ok(Left::default()));
        assert_eq!(list(store, "room:7", START).await, ["c2"]);
        assert_eq!(store.channels(&one.id).await, Ok(vec![channel("room:8")]));
    }
}

async fn a_subscription_ends_when_it_says<S: Store>(store: &S) {
    let row = open(store, "c1").await;
    let asked = Subscription {
        ends_at: UnixSeconds(START.to_seconds().0 + 60),
        allowed: Some([Action::Subscribe, Action::Publish].into_iter().collect()),
        actions: [Action::Subscribe, Action::Publish].into_iter().collect(),
        ..subscription("doc:7")
    };
    let subscribed = store
        .subscribe(&row, std::slice::from_ref(&asked), 50, START)
        .await;
    assert_eq!(subscribed, Ok(all()));
    let found = store.find_subscriptions(&row.id, &[channel("doc:7")]).await;
    assert_eq!(found, Ok(vec![asked]));
    let whole = Segment { index: 0, total: 1 };
    for (action, listed) in [(Action::Publish, 1), (Action::Lock, 0)] {
        let name = channel("doc:7");
        let listing = Listing::Allowed(action);
        let page = store.subscribers(&name, listing, whole, None, 10, START);
        let page = page.await.expect("subscribers");
        assert_eq!(page.recipients.len(), listed, "{action}");
    }
    let end = START.plus(Duration::from_secs(60));
    assert_eq!(list(store, "doc:7", START).await, ["c1"]);
    assert_eq!(list(store, "doc:7", end).await, [""; 0]);
}

async fn a_connection_has_a_limit_of_channels<S: Store>(store: &S) {
    let row = open(store, "c1").await;
    let wanted = |names: &[&str]| {
        names
            .iter()
            .map(|name| subscription(name))
            .collect::<Vec<_>>()
    };
    let subscribed = store.subscribe(&row, &wanted(&["a", "b"]), 3, START).await;
    assert_eq!(subscribed, Ok(all()));
    let subscribed = store
        .subscribe(&row, &wanted(&["b", "c", "d", "e"]), 3, START)
        .await;
    let too_many = vec![channel("d"), channel("e")];
    assert_eq!(subscribed, Ok(self::subscribed(too_many)));
    assert_eq!(store.channels(&row.id).await.expect("channels").len(), 3);
    assert_eq!(list(store, "c", START).await, ["c1"]);
    assert_eq!(list(store, "d", START).await, [""; 0]);
    store
        .unsubscribe(&row, &[channel("a")], START)
        .await
        .expect("unsubscribe");
    let subscribed = store.subscribe(&row, &wanted(&["d"]), 3, START).await;
    assert_eq!(subscribed, Ok(all()));
}

async fn subscriptions_end_with_their_connection<S: Store>(store: &S) {
    for (id, is_disconnected) in [("c1", true), ("c2", false)] {
        let row = open(store, id).await;
        subscribe(store, &row, &["room:7", "room:8"]).await;
        if is_disconnected {
            assert_eq!(store.disconnect(&row.id, START).await, Ok(()));
        } else {
            let seen = Recipient::from(&row);
            assert_eq!(store.remove_unchanged(&seen, START).await, Ok(()));
        }
        for name in ["room:7", "room:8"] {
            assert_eq!(list(store, name, START).await, [""; 0], "{id}");
        }
    }
    // A frame may subscribe late and die.
    assert_eq!(store.due_list(START).await, Ok(Due::default()));
    let later = START.plus(Duration::from_secs(60));
    let due = store.due_list(later).await.expect("due_list").departures;
    let mut ids: Vec<_> = due.iter().map(|one| one.connection.to_string()).collect();
    ids.sort();
    assert_eq!(ids, ["c1", "c2"]);
    for departure in &due {
        for _ in 0..2 {
            assert_eq!(store.depart(departure).await, Ok(vec![]));
        }
    }
    assert_eq!(
        store.due_list(later).await.expect("due_list").departures,
        due
    );
    for departure in due.iter().chain(&due) {
        assert_eq!(store.forget_departure(departure).await, Ok(()));
    }
    assert_eq!(store.due_list(later).await, Ok(Due::default()));
    for id in ["c1", "c2"] {
        assert_eq!(store.channels(&connection_id(id)).await, Ok(vec![]), "{id}");
    }
    // A connection that never subscribed has no departure.
    put(store, &connection("c3", "alice")).await;
    assert_eq!(store.disconnect(&connection_id("c3"), START).await, Ok(()));
    assert_eq!(store.due_list(later).await, Ok(Due::default()));
}

async fn a_connection_that_has_ended_is_not_subscribed<S: Store>(store: &S) {
    let row = open(store, "c1").await;
    assert_eq!(store.disconnect(&row.id, START).await, Ok(()));
    assert_eq!(
        subscribe(store, &row, &["room:7"]).await,
        SubscribeResult::Ended
    );
    let row = open(store, "c2").await;
    let ended = store.end_session(&user_id("alice"), &row.id, START).await;
    assert!(ended.expect("end_session").is_some());
    assert_eq!(
        subscribe(store, &row, &["room:7"]).await,
        SubscribeResult::Ended
    );
    assert_eq!(list(store, "room:7", START).await, [""; 0]);
}

async fn segments_list_every_subscriber_once<S: Store>(store: &S) {
    for n in 0..40 {
        let row = open(store, &format!("c{n}")).await;
        subscribe(store, &row, &["room:7"]).await;
    }
    for total in [1, 3, 100] {
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..total {
            let mut after = None;
            loop {
                let segment = Segment { index, total };
                let name = channel("room:7");
                let page = store
                    .subscribers(&name, Listing::All, segment, after.as_ref(), 7, START)
                    .await
                    .expect("subscribers");
                assert!(page.recipients.len() <= 7);
                for one in page.recipients {
                    assert!(seen.insert(one.id.clone()), "{} twice", one.id);
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        assert_eq!(seen.len(), 40, "{total} segments");
    }
}

async fn a_ghost_can_be_removed<S: Store>(store: &S) {
    let row = open(store, "c1").await;
    subscribe(store, &row, &["room:7"]).await;
    let other = Recipient {
        connected_at: START.plus(Duration::from_secs(1)),
        ..Recipient::from(&row)
    };
    let name = channel("room:7");
    assert_eq!(store.remove_subscriber(&name, &other).await, Ok(()));
    assert_eq!(list(store, "room:7", START).await, ["c1"]);
    let seen = Recipient::from(&row);
    for _ in 0..2 {
        assert_eq!(store.remove_subscriber(&name, &seen).await, Ok(()));
        assert_eq!(list(store, "room:7", START).await, [""; 0]);
    }
}
