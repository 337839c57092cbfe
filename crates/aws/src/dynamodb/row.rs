//! A connection as a DynamoDB item. docs/ARCHITECTURE.md lists the attributes.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use belfry_core::channels::Claims;
use belfry_core::connections::{Connection, Recipient};
use belfry_core::liveness::Liveness;
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{ConnectionId, UserId};

pub(super) const CONNECTION_ID: &str = "connectionId";
pub(super) const SHARD: &str = "shard";
pub(super) const CLAIMS: &str = "claims";
pub(super) const HAS_SESSION: &str = "hasSession";
/// Short, so that the largest row is one write unit.
pub(super) const ACCEPTS_BATCH: &str = "accept";
pub(super) const FIRST: &str = "first";

/// The attributes that listings read. The user index projects all but the last.
pub(super) const RECIPIENT_ATTRIBUTES: &str =
    "connectionId, userId, connectedAt, tokenExpiresAt, expiresAt, accept";

pub(super) type Item = HashMap<String, AttributeValue>;

/// A row, with the attributes that only the adapter uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) connection: Connection,
    /// Its counter, and its partition of the due index.
    pub(super) shard: u32,
    /// When its token bucket is full again.
    pub(super) bucket_full_at: UnixMillis,
}

/// An item is not a valid row.
#[derive(Debug, thiserror::Error)]
#[error("attribute {0} is missing or malformed")]
pub(super) struct MalformedRow(&'static str);

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A new connection's item. Its token bucket is full, and no sweep has seen it.
pub(super) fn to_item(connection: &Connection, shard: u32) -> Item {
    let optional = [
        ("origin", &connection.origin),
        ("userAgent", &connection.user_agent),
    ];
    [
        (CONNECTION_ID, text(connection.id.as_str())),
        ("userId", text(connection.user_id.as_str())),
        ("connectedAt", number(connection.connected_at.0)),
        ("lastSeenAt", number(connection.last_seen_at.0)),
        ("expiresAt", number(connection.expires_at.0)),
        ("tokenExpiresAt", number(connection.token_expires_at.0)),
        ("sourceIp", text(&connection.source_ip)),
        (SHARD, number(shard.into())),
        ("dueAt", number(connection.liveness.due_at.0)),
    ]
    .into_iter()
    .chain(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, text(value.as_ref()?)))),
    )
    .chain(session_attributes(connection))
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// What only connections that use channels have.
fn session_attributes(
    connection: &Connection,
) -> impl Iterator<Item = (&'static str, AttributeValue)> {
    let claims = (!connection.claims.is_empty()).then(|| (CLAIMS, claims(&connection.claims)));
    let session = (HAS_SESSION, AttributeValue::Bool(true));
    let session = connection.has_session.then_some(session);
    let first = connection.first.as_ref();
    let first = first.map(|first| (FIRST, text(first.as_str())));
    claims.into_iter().chain(session).chain(first)
}

pub(super) fn claims(claims: &Claims) -> AttributeValue {
    text(claims.to_json())
}

pub(super) fn row(item: &Item) -> Result<Row, MalformedRow> {
    let shard = u32::try_from(integer(item, SHARD)?).map_err(|_| MalformedRow(SHARD))?;
    Ok(Row {
        connection: connection(item)?,
        shard,
        bucket_full_at: optional_time(item, "bucketFullAt").unwrap_or(UnixMillis(0)),
    })
}

pub(super) fn connection(item: &Item) -> Result<Connection, MalformedRow> {
    Ok(Connection {
        id: id(item)?,
        user_id: user_id(item)?,
        connected_at: UnixMillis(integer(item, "connectedAt")?),
        last_seen_at: UnixMillis(integer(item, "lastSeenAt")?),
        expires_at: UnixSeconds(integer(item, "expiresAt")?),
        token_expires_at: UnixSeconds(integer(item, "tokenExpiresAt")?),
        claims: match string(item, CLAIMS) {
            Ok(claims) => Claims::from_json(claims).map_err(|_| MalformedRow(CLAIMS))?,
            Err(_) => Claims::default(),
        },
        has_session: item.contains_key(HAS_SESSION),
        accepts_batch: item.contains_key(ACCEPTS_BATCH),
        first: match string(item, FIRST) {
            Ok(first) => Some(ConnectionId::parse(first).map_err(|_| MalformedRow(FIRST))?),
            Err(_) => None,
        },
        origin: string(item, "origin").ok().map(Into::into),
        source_ip: string(item, "sourceIp")?.into(),
        user_agent: string(item, "userAgent").ok().map(Into::into),
        liveness: Liveness {
            due_at: UnixMillis(integer(item, "dueAt")?),
            pinged_at: optional_time(item, "pingedAt"),
            unreachable_since: optional_time(item, "unreachableSince"),
            reconnect_sent: item.contains_key("reconnectSent"),
            replaced_at: optional_time(item, "replacedAt"),
        },
    })
}

pub(super) fn recipient(item: &Item) -> Result<Recipient, MalformedRow> {
    Ok(Recipient {
        id: id(item)?,
        user_id: user_id(item)?,
        connected_at: UnixMillis(integer(item, "connectedAt")?),
        token_expires_at: UnixSeconds(integer(item, "tokenExpiresAt")?),
        accepts_batch: item.contains_key(ACCEPTS_BATCH),
    })
}

pub(super) fn expires_at(item: &Item) -> Option<UnixSeconds> {
    integer(item, "expiresAt").ok().map(UnixSeconds)
}

fn optional_time(item: &Item, name: &'static str) -> Option<UnixMillis> {
    integer(item, name).ok().map(UnixMillis)
}

/// The key of an item in the partition of a channel, or of a log.
pub(super) fn member_key(channel: &str, member: &str) -> Item {
    [("channel", channel), ("member", member)]
        .map(|(name, value)| (name.to_owned(), text(value)))
        .into()
}

fn user_id(item: &Item) -> Result<UserId, MalformedRow> {
    UserId::parse(string(item, "userId")?).map_err(|_| MalformedRow("userId"))
}

pub(super) fn id(item: &Item) -> Result<ConnectionId, MalformedRow> {
    ConnectionId::parse(string(item, CONNECTION_ID)?).map_err(|_| MalformedRow(CONNECTION_ID))
}

pub(super) fn string<'a>(item: &'a Item, name: &'static str) -> Result<&'a str, MalformedRow> {
    let value = item.get(name).and_then(|value| value.as_s().ok());
    value.map(String::as_str).ok_or(MalformedRow(name))
}

pub(super) fn integer(item: &Item, name: &'static str) -> Result<u64, MalformedRow> {
    let value = item.get(name).and_then(|value| value.as_n().ok());
    value
        .and_then(|digits| digits.parse().ok())
        .ok_or(MalformedRow(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use belfry_core::connections::MAX_KEPT_BYTES;

    fn example() -> Connection {
        Connection {
            id: ConnectionId::parse("R0oXAdfD0kwCH6w=").unwrap(),
            user_id: UserId::parse("alice").unwrap(),
            connected_at: UnixMillis(1_770_660_703_822),
            last_seen_at: UnixMillis(1_770_660_703_823),
            expires_at: UnixSeconds(1_770_668_203),
            token_expires_at: UnixSeconds(1_770_664_303),
            claims: Claims::default(),
            has_session: false,
            accepts_batch: false,
            first: None,
            origin: Some("https://app.example.com".into()),
            source_ip: "192.0.2.1".into(),
            user_agent: None,
            liveness: Liveness::due_at(UnixMillis(1_770_661_183_822)),
        }
    }

    #[test]
    fn a_row_survives_its_item() {
        let item = to_item(&example(), 7);
        assert!(!item.contains_key("userAgent"));
        let row = row(&item).unwrap();
        assert_eq!((row.connection, row.shard), (example(), 7));
        assert_eq!(
            recipient(&item).unwrap().connected_at,
            example().connected_at
        );
    }

    #[test]
    fn the_largest_row_is_one_write_unit() {
        let largest = Connection {
            user_id: UserId::parse("🔔".repeat(128)).unwrap(),
            origin: Some("o".repeat(MAX_KEPT_BYTES)),
            source_ip: "2001:0db8:0000:0000:0000:ffff:192.168.100.228".into(),
            user_agent: Some("u".repeat(MAX_KEPT_BYTES)),
            first: Some(example().id),
            ..example()
        };
        // AWS, "DynamoDB item sizes and formats": names and texts count their
        // bytes, a number half its digits and one byte.
        let mut item = to_item(&largest, 15);
        // Frames and sweeps add these.
        for name in [
            "pingedAt",
            "unreachableSince",
            "replacedAt",
            "bucketFullAt",
            "refusals",
        ] {
            item.insert(name.into(), number(1_770_661_183_822));
        }
        for name in ["reconnectSent", HAS_SESSION, ACCEPTS_BATCH] {
            item.insert(name.into(), AttributeValue::Bool(true));
        }
        let bytes: usize = item
            .iter()
            .map(|(name, value)| match value {
                AttributeValue::N(digits) => name.len() + digits.len().div_ceil(2) + 1,
                AttributeValue::Bool(_) => name.len() + 1,
                value => name.len() + value.as_s().unwrap().len(),
            })
            .sum();
        assert!(bytes <= 1_024, "{bytes} bytes");
    }

    #[test]
    fn a_malformed_row_is_an_error_that_names_the_attribute() {
        for name in [
            CONNECTION_ID,
            "userId",
            "connectedAt",
            "tokenExpiresAt",
            "sourceIp",
            "dueAt",
            SHARD,
        ] {
            for wrong in [
                None,
                Some(AttributeValue::Bool(true)),
                Some(number(1)),
                Some(text("")),
            ] {
                let mut item = to_item(&example(), 7);
                item.remove(name);
                let still_fine =
                    matches!(
                        (&wrong, name),
                        (
                            Some(AttributeValue::N(_)),
                            "connectedAt" | "tokenExpiresAt" | "dueAt" | SHARD
                        )
                    ) || matches!((&wrong, name), (Some(AttributeValue::S(_)), "sourceIp"));
                item.extend(wrong.map(|value| (name.to_owned(), value)));
                match row(&item) {
                    Ok(_) => assert!(still_fine, "{name}"),
                    Err(error) => assert!(error.to_string().contains(name)),
                }
            }
        }
    }
}
