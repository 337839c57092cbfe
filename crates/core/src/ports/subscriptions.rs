use std::future::Future;

use belfry_protocol::{Action, ChannelName, ConnectionId, PresenceInfo};

use super::{Arrival, DueCount, Leave, ListedLock, Segment, StoreError};
use crate::channels::Actions;
use crate::connections::{Connection, Recipient};
use crate::time::{UnixMillis, UnixSeconds};

/// A connection's subscription to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub channel: ChannelName,
    /// From then on nothing may be posted because of it.
    pub ends_at: UnixSeconds,
    /// What the application's function allows until then. `None` if the channel
    /// rules say what is allowed.
    pub allowed: Option<Actions>,
    /// What the connection may do in the channel, whoever decided.
    pub actions: Actions,
    pub presence: JoinsPresence,
}

/// What a subscription does with its user's presence in the channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum JoinsPresence {
    /// The user is not present by this connection. If it was, it leaves at
    /// once.
    #[default]
    No,
    /// The user is present by this connection, as before.
    AsBefore,
    /// The user is present by this connection and tells this.
    With(PresenceInfo),
}

/// Result of [`Subscriptions::subscribe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscribeResult {
    Subscribed {
        /// The connection is subscribed, except to these channels: it may not
        /// have that many.
        too_many: Vec<ChannelName>,
        /// To be announced, and then marked as [announced].
        ///
        /// [announced]: super::Presence::announced
        arrivals: Vec<Arrival>,
        /// Due now.
        leaves: Vec<Leave>,
    },
    /// The connection has ended, or its session has. No subscription is left.
    Ended,
}

/// Result of [`Subscriptions::unsubscribe`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Due now: where the user was present by this connection alone, it leaves at
    /// once.
    pub leaves: Vec<Leave>,
    /// To be released: the locks in these channels that the connection holds or
    /// may hold.
    pub locks: Vec<ListedLock>,
}

/// A connection's subscriptions.
///
/// Reads are consistent. Subscriptions end with their connection, however it
/// ends: see [`Departures`].
pub trait Subscriptions: Send + Sync {
    /// Subscribes a connection that [`Sessions::begin_session`] has marked. A
    /// subscription that exists is replaced.
    ///
    /// [`Sessions::begin_session`]: super::Sessions::begin_session
    fn subscribe(
        &self,
        connection: &Connection,
        wanted: &[Subscription],
        most: usize,
        now: UnixMillis,
    ) -> impl Future<Output = Result<SubscribeResult, StoreError>> + Send;

    /// Ends subscriptions. Those that do not exist are no error.
    fn unsubscribe(
        &self,
        connection: &Connection,
        channels: &[ChannelName],
        now: UnixMillis,
    ) -> impl Future<Output = Result<Left, StoreError>> + Send;

    /// The channels that a connection is or may be subscribed to.
    fn channels(
        &self,
        id: &ConnectionId,
    ) -> impl Future<Output = Result<Vec<ChannelName>, StoreError>> + Send;

    /// Those of these subscriptions of a connection that exist, ended or not.
    fn find_subscriptions(
        &self,
        id: &ConnectionId,
        channels: &[ChannelName],
    ) -> impl Future<Output = Result<Vec<Subscription>, StoreError>> + Send;
}

/// Which subscribers are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    All,
    /// Those whose users are present by them.
    Present,
    /// Those that may do this.
    Allowed(Action),
}

/// A page of a channel's subscribers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberPage {
    /// An empty page does not mean the end.
    pub recipients: Vec<Recipient>,
    /// Continue after this connection; `None` at the end.
    pub next: Option<ConnectionId>,
    /// About how many subscribers the segment has, if this is its first page.
    pub about: u64,
}

/// Lists a channel's subscribers. Reads are consistent.
pub trait Subscribers: Send + Sync {
    /// A page of a segment of the subscribers whose subscriptions have not
    /// ended, of at most `limit`.
    fn subscribers(
        &self,
        channel: &ChannelName,
        listing: Listing,
        segment: Segment,
        after: Option<&ConnectionId>,
        limit: usize,
        now: UnixMillis,
    ) -> impl Future<Output = Result<SubscriberPage, StoreError>> + Send;

    /// Removes a subscription whose connection is gone, unless it was replaced
    /// since it was read.
    fn remove_subscriber(
        &self,
        channel: &ChannelName,
        seen: &Recipient,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Ends the subscriptions of connections that have ended.
///
/// Whoever removes the row of a marked connection ends its subscriptions at
/// once and notes a departure. A frame that was under way may subscribe after
/// that and die before it notices. When the departure is due, no such frame can
/// be under way, and a sweep ends the subscriptions that are left.
pub trait Departures: Send + Sync {
    /// What is due. The rest is due in the next sweep if it is too much.
    fn due_list(&self, now: UnixMillis) -> impl Future<Output = Result<Due, StoreError>> + Send;

    /// Ends the subscriptions. If no connection with the same owner of locks is
    /// left, returns the locks that the owner holds or may hold, to be released. A
    /// repeated call returns the same.
    fn depart(
        &self,
        departure: &Departure,
    ) -> impl Future<Output = Result<Vec<ListedLock>, StoreError>> + Send;

    /// Forgets a departure that was processed, with the list of the connection's
    /// locks.
    fn forget_departure(
        &self,
        departure: &Departure,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What is due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    pub departures: Vec<Departure>,
    pub leaves: Vec<Leave>,
    pub counts: Vec<DueCount>,
}

/// A connection that was subscribed to channels and has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    pub connection: ConnectionId,
    /// See [`Connection::lock_owner`].
    pub lock_owner: ConnectionId,
    pub due_at: UnixMillis,
}
