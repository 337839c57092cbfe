//! The items of the table `State`. docs/ARCHITECTURE.md lists them.

use std::time::Duration;

use belfry_core::ports::BroadcastKey;
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{ConnectionId, MessageId, UserId};

use crate::row::{Item, text};

/// How long a mark of a sign-out is needed: the longest life of a Cognito
/// access token (AWS: "between 5 minutes and 24 hours"). Older tokens have
/// ended by themselves.
const MARK_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest life of a row, the upper bound of `CONNECTION_TTL_SECONDS`.
const MAX_ROW_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Who holds places: a user's connections and when the user was signed out.
pub(crate) fn user(id: &UserId) -> Item {
    item(&format!("user#{id}"), "connections")
}

/// When a user's item may be forgotten: not before every connection that it
/// lists and every mark that it holds have ended, whichever write came last.
pub(crate) fn user_expires_at(written_at: UnixMillis) -> UnixSeconds {
    written_at.plus(MAX_ROW_LIFE).plus(MARK_LIFE).to_seconds()
}

/// How many of all places are taken, one of several counters.
pub(crate) fn slot(slot: u32) -> Item {
    item(&format!("slot#{slot:02}"), "connections")
}

/// The memory of a connection that ended before its row was written.
pub(crate) fn tombstone(id: &ConnectionId) -> Item {
    item(&format!("connection#{id}"), "ended")
}

/// The partition of a broadcast: its record and its segments.
pub(crate) fn broadcast_pk(id: &MessageId) -> String {
    format!("broadcast#{id}")
}

/// What was asked for, and when.
pub(crate) fn broadcast(id: &MessageId) -> Item {
    item(&broadcast_pk(id), "record")
}

/// How the sort keys of a broadcast's segments begin; their number follows.
/// With the time, since DynamoDB may delete the record of an older broadcast
/// of the same id before its segments.
pub(crate) fn segments(key: &BroadcastKey) -> String {
    format!("segment#{}#", key.started_at.0)
}

/// How far a segment of a broadcast is, and who works on it.
pub(crate) fn segment(key: &BroadcastKey, segment: u32) -> Item {
    let sk = format!("{}{segment:04}", segments(key));
    item(&broadcast_pk(&key.id), &sk)
}

/// Which broadcast to everyone was the last, and when.
pub(crate) fn turn() -> Item {
    item("broadcasts#all", "turn")
}

fn item(pk: &str, sk: &str) -> Item {
    [("pk", pk), ("sk", sk)]
        .map(|(name, value)| (name.to_owned(), text(value)))
        .into()
}
