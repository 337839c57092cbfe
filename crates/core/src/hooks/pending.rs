use std::time::Duration;

use belfry_protocol::{
    ChannelName, ConnectionEvent, ConnectionId, HookEvent, PresenceEvent, UserId, Version,
};
use uuid::Uuid;

use crate::connections::Connection;
use crate::time::UnixMillis;

/// Something whose events have an order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookSubject {
    Connection(ConnectionId),
    /// A user in a channel.
    Member(ChannelName, UserId),
}

impl HookSubject {
    /// A name of a fixed length. It never changes, not even in another build of
    /// Belfry.
    #[must_use]
    pub fn key(&self) -> Uuid {
        match self {
            Self::Connection(id) => name(&["connection", id.as_str()]),
            Self::Member(channel, user) => name(&["member", channel.as_str(), user.as_str()]),
        }
    }
}

/// An event that the application was not told of yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEvent {
    /// When it happened. The times of a subject's events rise.
    pub at: UnixMillis,
    pub event: HookEvent,
}

impl PendingEvent {
    #[must_use]
    pub fn opened(connection: &Connection) -> Self {
        let at = connection.connected_at;
        let event = connection_event("connection.opened", connection, at);
        Self {
            at,
            event: HookEvent::ConnectionOpened(event),
        }
    }

    /// A connection's end has one id, however often and when it is written.
    #[must_use]
    pub fn closed(connection: &Connection, now: UnixMillis) -> Self {
        // API Gateway says when it began, and a function when it ended.
        let at = now.max(connection.connected_at.plus(Duration::from_millis(1)));
        let event = connection_event("connection.closed", connection, at);
        Self {
            at,
            event: HookEvent::ConnectionClosed(event),
        }
    }

    #[must_use]
    pub fn joined(channel: &ChannelName, user: &UserId, at: UnixMillis) -> Self {
        Self {
            at,
            event: HookEvent::PresenceJoined(presence_event("presence.joined", channel, user, at)),
        }
    }

    #[must_use]
    pub fn left(channel: &ChannelName, user: &UserId, at: UnixMillis) -> Self {
        Self {
            at,
            event: HookEvent::PresenceLeft(presence_event("presence.left", channel, user, at)),
        }
    }

    #[must_use]
    pub fn subject(&self) -> HookSubject {
        match &self.event {
            HookEvent::ConnectionOpened(event) | HookEvent::ConnectionClosed(event) => {
                HookSubject::Connection(event.connection_id.clone())
            }
            HookEvent::PresenceJoined(event) | HookEvent::PresenceLeft(event) => {
                HookSubject::Member(event.channel.clone(), event.user_id.clone())
            }
        }
    }
}

fn connection_event(kind: &str, connection: &Connection, at: UnixMillis) -> ConnectionEvent {
    let Connection {
        id,
        user_id,
        connected_at,
        ..
    } = connection;
    ConnectionEvent {
        version: Version,
        id: name(&[kind, id.as_str(), &connected_at.0.to_string()]).to_string(),
        time: at.to_timestamp(),
        connection_id: id.clone(),
        user_id: user_id.clone(),
        connected_at: connected_at.to_timestamp(),
    }
}

fn presence_event(
    kind: &str,
    channel: &ChannelName,
    user: &UserId,
    at: UnixMillis,
) -> PresenceEvent {
    PresenceEvent {
        version: Version,
        id: name(&[kind, channel.as_str(), user.as_str(), &at.0.to_string()]).to_string(),
        time: at.to_timestamp(),
        channel: channel.clone(),
        user_id: user.clone(),
    }
}

/// None of the parts has a line break.
fn name(parts: &[&str]) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, parts.join("\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, connection, user_id};

    #[test]
    fn an_event_has_the_same_id_however_often_it_is_made() {
        let row = connection("c1", "alice");
        let later = START.plus(Duration::from_secs(9));
        let closed = PendingEvent::closed(&row, START);
        assert_eq!(
            closed.event.id(),
            PendingEvent::closed(&row, later).event.id()
        );
        assert_ne!(closed.event.id(), PendingEvent::opened(&row).event.id());
        let again = Connection {
            connected_at: later,
            ..row
        };
        assert_ne!(
            closed.event.id(),
            PendingEvent::closed(&again, later).event.id()
        );
    }

    #[test]
    fn a_connection_ends_after_it_began_whatever_the_clocks_say() {
        let row = connection("c1", "alice");
        let early = START.minus(Duration::from_secs(2));
        assert!(PendingEvent::closed(&row, early).at > PendingEvent::opened(&row).at);
    }

    #[test]
    fn subjects_with_similar_names_differ() {
        let member = |channel: &str, user: &str| {
            HookSubject::Member(ChannelName::parse(channel).unwrap(), user_id(user)).key()
        };
        assert_ne!(member("a", "b#c"), member("a", "b"));
        assert_ne!(member("a:b", "c"), member("a", "b:c"));
        // A connection stays in its partition for ever.
        let id = crate::testing::connection_id("R0oXAdfD0kwCH6w=");
        println!("{}", HookSubject::Connection(id).key());
    }
}
