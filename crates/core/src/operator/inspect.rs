use std::collections::BTreeSet;

use belfry_protocol::{ConnectionDetails, ConnectionId, HeldByConnection, SubscribedChannel};
use futures_util::future::{join3, try_join_all};

use super::list::listed;
use crate::connections::Connection;
use crate::ports::{
    Clock, ConnectionLookup, JoinsPresence, LockKey, Locks, Sockets, StoreError, Subscription,
    Subscriptions,
};
use crate::time::UnixMillis;

/// Tells what is known of a connection.
#[derive(Debug)]
pub struct Inspect<S, O, C> {
    pub store: S,
    pub sockets: O,
    pub clock: C,
}

impl<S, O, C> Inspect<S, O, C>
where
    S: ConnectionLookup + Locks + Subscriptions,
    O: Sockets,
    C: Clock,
{
    /// What is known of the connection. Nothing if it is unknown; that is no
    /// error. Neither is it one if API Gateway does not answer: operators need
    /// the rest most while it is down.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn handle(&self, id: &ConnectionId) -> Result<ConnectionDetails, StoreError> {
        let (row, socket, channels) = join3(
            self.store.find(id),
            self.sockets.find_socket(id),
            self.store.channels(id),
        )
        .await;
        let (row, channels) = (row?, channels?);
        let now = self.clock.now();
        let subscriptions = self.store.find_subscriptions(id, &channels).await?;
        let lasting = subscriptions
            .into_iter()
            .filter(|one| !one.ends_at.has_passed(now));
        let mut channels: Vec<_> = lasting.map(subscribed).collect();
        channels.sort_by(|one, other| one.channel.cmp(&other.channel));
        let owner = row.as_ref().map_or(id, Connection::lock_owner);
        let locks = self.locks(owner, now).await?;
        let row = row.filter(|row| !row.expires_at.has_passed(now));
        let (socket, socket_unknown) = match socket {
            Ok(socket) => (socket, None),
            Err(error) => (None, Some(error.to_string())),
        };
        Ok(ConnectionDetails {
            connection: row.as_ref().map(listed),
            socket,
            socket_unknown,
            channels,
            locks,
        })
    }

    /// Those on the owner's list that it really holds.
    async fn locks(
        &self,
        owner: &ConnectionId,
        now: UnixMillis,
    ) -> Result<Vec<HeldByConnection>, StoreError> {
        let listed = self.store.listed_locks(owner).await?;
        let keys: BTreeSet<_> = listed.into_iter().map(|one| one.key).collect();
        let held = keys.into_iter().map(async |key| {
            let state = self.store.find_lock(&key).await?;
            let is_held = state.is_some_and(|state| state.owner == *owner && state.until > now);
            Ok::<_, StoreError>(is_held.then_some(key))
        });
        let held = try_join_all(held).await?.into_iter().flatten();
        Ok(held
            .map(|LockKey { channel, name }| HeldByConnection { channel, name })
            .collect())
    }
}

fn subscribed(subscription: Subscription) -> SubscribedChannel {
    SubscribedChannel {
        actions: subscription.actions.iter().collect(),
        present: subscription.presence != JoinsPresence::No,
        ends_at: subscription.ends_at.to_millis().to_timestamp(),
        channel: subscription.channel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locks::{LockKeeper, LockOutcome};
    use crate::ports::{Sessions, Touched};
    use crate::testing::{BUCKET, FakeOutbox, FakeStore, START, TestClock, connection_id};
    use belfry_protocol::{Action, ChannelName, LockName, PresenceInfo};
    use std::time::Duration;

    fn inspect() -> Inspect<FakeStore, FakeOutbox, TestClock> {
        Inspect {
            store: FakeStore::default(),
            sockets: FakeOutbox::default(),
            clock: TestClock::default(),
        }
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    /// Opens a connection that subscribes, until so many seconds from now.
    async fn subscribe(
        inspect: &Inspect<FakeStore, FakeOutbox, TestClock>,
        id: &str,
        channels: [(&str, u64); 2],
    ) -> Connection {
        inspect.store.put(id, "alice").await;
        inspect.sockets.open(id);
        let id = connection_id(id);
        let begun = inspect.store.begin_session(&id, &BUCKET, START).await;
        let Ok(Touched::Live(row)) = begun else {
            panic!("{begun:?}")
        };
        let wanted = channels.map(|(name, seconds)| Subscription {
            channel: channel(name),
            ends_at: START.plus(Duration::from_secs(seconds)).to_seconds(),
            allowed: None,
            actions: [Action::Subscribe, Action::Lock].into_iter().collect(),
            presence: JoinsPresence::With(PresenceInfo::default()),
        });
        let subscribed = inspect.store.subscribe(&row, &wanted, 50, START).await;
        subscribed.unwrap();
        row
    }

    async fn lock(
        inspect: &Inspect<FakeStore, FakeOutbox, TestClock>,
        row: &Connection,
        name: &str,
        seconds: u64,
    ) {
        let keeper = LockKeeper {
            store: &inspect.store,
            clock: &inspect.clock,
        };
        let key = LockKey {
            channel: channel("room:7"),
            name: LockName::parse(name).unwrap(),
        };
        let lifetime = Duration::from_secs(seconds);
        let locked = keeper.lock(row, &key, lifetime).await;
        assert!(matches!(locked, Ok(LockOutcome::Locked(_))), "{locked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_a_connection_has_is_told() {
        let inspect = inspect();
        let row = subscribe(&inspect, "c1", [("room:7", 3_600), ("room:8", 60)]).await;
        lock(&inspect, &row, "short", 30).await;
        lock(&inspect, &row, "long", 300).await;
        let details = inspect.handle(&row.id).await.unwrap();
        let connection = details.connection.expect("a row");
        assert_eq!(connection.user_id.as_str(), "alice");
        assert!(details.socket.is_some());
        let channels = details.channels.iter();
        let channels: Vec<_> = channels
            .map(|one| (one.channel.as_str(), one.present, one.actions.len()))
            .collect();
        assert_eq!(channels, [("room:7", true, 2), ("room:8", true, 2)]);
        assert_eq!(details.locks.len(), 2);
        inspect.clock.advance(Duration::from_secs(100));
        let details = inspect.handle(&row.id).await.unwrap();
        assert_eq!(details.channels.len(), 1, "the other has ended");
        let locks: Vec<_> = details.locks.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(locks, ["long"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_of_a_connection_may_be_nothing_or_half() {
        let inspect = inspect();
        let unknown = inspect.handle(&connection_id("c1")).await.unwrap();
        assert!(unknown.connection.is_none() && unknown.socket.is_none());
        assert!(unknown.channels.is_empty() && unknown.locks.is_empty());
        inspect.store.put("c1", "alice").await;
        let pending = inspect.handle(&connection_id("c1")).await.unwrap();
        assert!(pending.connection.is_some() && pending.socket.is_none());
        inspect.sockets.open("c1");
        inspect.clock.advance(Duration::from_secs(7_500));
        let expired = inspect.handle(&connection_id("c1")).await.unwrap();
        assert!(expired.connection.is_none() && expired.socket.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_is_an_error() {
        let inspect = inspect();
        inspect.store.fail_next("find");
        let failed = inspect.handle(&connection_id("c1")).await;
        assert!(failed.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_is_told_while_api_gateway_does_not_answer() {
        let inspect = inspect();
        let row = subscribe(&inspect, "c1", [("room:7", 3_600), ("room:8", 60)]).await;
        inspect.sockets.go_down();
        let details = inspect.handle(&row.id).await.unwrap();
        assert!(details.connection.is_some() && details.channels.len() == 2);
        assert_eq!(details.socket, None);
        assert_eq!(details.socket_unknown.as_deref(), Some("unavailable: down"));
        inspect.sockets.recover();
        let details = inspect.handle(&row.id).await.unwrap();
        assert!(details.socket.is_some() && details.socket_unknown.is_none());
    }
}
