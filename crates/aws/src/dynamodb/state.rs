//! The items of the table `State`. docs/ARCHITECTURE.md lists them.

use std::time::Duration;

use belfry_core::connections::Connection;
use belfry_core::log::{AppendId, LogKey};
use belfry_core::ports::{BroadcastKey, CLOCK_LEEWAY, MAX_TOKEN_LIFETIME};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{ConnectionId, MessageId, UserId};

use super::row::{Item, text};

/// How long a sign-out is remembered: until every token that it voids is
/// refused as expired. It voids tokens that were issued up to the leeway after
/// it, and a handshake accepts a token up to the leeway after its expiry.
const SIGN_OUT_LIFETIME: Duration =
    MAX_TOKEN_LIFETIME.saturating_add(CLOCK_LEEWAY.saturating_mul(2));

/// The longest lifetime of a row: the upper bound of `CONNECTION_TTL_SECONDS`.
const MAX_ROW_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A user's connections, and when the user was signed out.
pub(super) fn user(id: &UserId) -> Item {
    item(&format!("user#{id}"), "connections")
}

/// When a user's item may expire: not before every connection that it lists
/// and every sign-out that it marks, whichever write came last.
pub(super) fn user_expires_at(written_at: UnixMillis) -> UnixSeconds {
    written_at
        .plus(MAX_ROW_LIFETIME)
        .plus(SIGN_OUT_LIFETIME)
        .to_seconds()
}

/// When the item of a connection's channels and locks may expire: not before any
/// connection that replaces it, whichever of them writes last.
pub(super) fn session_expires_at(connection: &Connection) -> UnixSeconds {
    UnixSeconds(connection.expires_at.0 + MAX_ROW_LIFETIME.as_secs())
}

/// The counter of a shard's connections.
pub(super) fn shard(shard: u32) -> Item {
    item(&format!("shard#{shard:02}"), "connections")
}

/// The mark of a connection that ended before its row was written.
pub(super) fn tombstone(id: &ConnectionId) -> Item {
    item(&format!("connection#{id}"), "ended")
}

/// The partition of a broadcast: its record and its segments.
pub(super) fn broadcast_pk(id: &MessageId) -> String {
    format!("broadcast#{id}")
}

/// The record of a broadcast.
pub(super) fn broadcast(id: &MessageId) -> Item {
    item(&broadcast_pk(id), "record")
}

/// The prefix of the sort keys of a broadcast's segments; the number follows.
/// It has the time, because DynamoDB may delete the record of an older
/// broadcast with the same id before its segments.
pub(super) fn segments(key: &BroadcastKey) -> String {
    format!("segment#{}#", key.started_at.0)
}

/// A segment of a broadcast.
pub(super) fn segment(key: &BroadcastKey, segment: u32) -> Item {
    let sk = format!("{}{segment:04}", segments(key));
    item(&broadcast_pk(&key.id), &sk)
}

/// Where a message was appended to a log.
pub(super) fn append(id: &AppendId, log: &LogKey) -> Item {
    item(&format!("append#{}", id.0), log.as_str())
}

/// The channels of a connection.
pub(super) fn session(id: &ConnectionId) -> Item {
    item(&format!("session#{id}"), "channels")
}

/// A shard of what is due.
pub(super) fn due_pk(shard: u32) -> String {
    format!("due#{shard:02}")
}

/// Something that is due.
pub(super) fn due(shard: u32, sk: &str) -> Item {
    item(&due_pk(shard), sk)
}

/// A shard of what the application is to be told.
pub(super) fn hooks_pk(shard: u8) -> String {
    format!("hooks#{shard:02}")
}

/// Something that the application is to be told.
pub(super) fn hooks(shard: u8, sk: &str) -> Item {
    item(&hooks_pk(shard), sk)
}

/// What the HTTP readers of a user use.
pub(super) fn readers(user: &UserId) -> Item {
    item(&format!("reader#{user}"), "limits")
}

/// The last broadcast to everyone.
pub(super) fn last_to_all() -> Item {
    item("broadcasts#all", "last")
}

fn item(pk: &str, sk: &str) -> Item {
    [("pk", pk), ("sk", sk)]
        .map(|(name, value)| (name.to_owned(), text(value)))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_out_is_remembered_longer_than_any_token_that_it_voids_is_accepted() {
        let signed_out = UnixMillis(1_767_225_600_999);
        // The last token that the sign-out voids.
        let issued = signed_out.plus(CLOCK_LEEWAY).to_seconds();
        let expires = issued.to_millis().plus(MAX_TOKEN_LIFETIME);
        let refused_from = expires.plus(CLOCK_LEEWAY);
        // Even if no connection kept the item longer.
        let forgotten = signed_out.plus(SIGN_OUT_LIFETIME);
        assert!(forgotten >= refused_from);
        assert!(user_expires_at(signed_out) > refused_from.to_seconds());
    }
}
