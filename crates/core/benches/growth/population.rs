//! Who is subscribed to what: computed, not stored.

use belfry_protocol::ChannelName;

/// Subscribers of every room but the largest.
pub(crate) const ROOM: u32 = 20;

/// Rooms are numbered; room 0 is the largest. If there are ten times as many
/// connections as rooms, each connection is in two of the others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Population {
    pub(crate) connections: u32,
    pub(crate) rooms: u32,
    pub(crate) largest: u32,
}

impl Population {
    /// A tenth as many rooms, and a tenth of all in the largest.
    pub(crate) fn of(connections: u32) -> Self {
        Self {
            connections,
            rooms: connections / 10,
            largest: connections / 10,
        }
    }

    pub(crate) fn subscribers(self, room: u32) -> u32 {
        if room == 0 { self.largest } else { ROOM }
    }

    /// The number of a subscriber's connection.
    pub(crate) fn subscriber(self, room: u32, index: u32) -> u32 {
        if room == 0 {
            index
        } else {
            (room * ROOM + index) % self.connections
        }
    }

    /// The reverse.
    pub(crate) fn index(self, room: u32, number: u32) -> u32 {
        if room == 0 {
            number
        } else {
            let first = room * ROOM % self.connections;
            (number + self.connections - first) % self.connections
        }
    }
}

pub(crate) fn channel(room: u32) -> ChannelName {
    ChannelName::parse(format!("room:{room}")).expect("a channel")
}

pub(crate) fn room(channel: &ChannelName) -> u32 {
    let number = channel.as_str().strip_prefix("room:");
    number.expect("a room").parse().expect("a room's number")
}
