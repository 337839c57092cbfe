//! The due list: the partitions `due#00` to `due#15` of `State`,
//! ordered by the time at which something is due.

use std::time::Duration;

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use belfry_core::UnixMillis;
use belfry_core::connections::{Connection, shard_of};
use belfry_core::ports::{Departure, Departures, Due, ListedLock, StoreError};
use belfry_protocol::ConnectionId;
use futures_util::future::try_join_all;

use super::presence::{COUNT, LEAVE, due_count, due_leave};
use super::row::{Item, number, string, text};
use super::transaction::send_past_transactions;
use super::{DynamoDb, failed, sdk_failed, state, written};

/// When a departure is due: longer than a frame can be under way (the function
/// `Default` has 27 seconds), and clocks may differ.
const DUE_AFTER: Duration = Duration::from_secs(35);

/// How long something that is due is kept if no sweep ever processes it.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

pub(super) const SHARDS: u32 = 16;

/// Items of a shard in a sweep. What is left is due in the next one.
const PAGE: i32 = 1_000;

const DEPARTURE: &str = "departure";

/// Only of a connection that has replaced another one.
const LOCK_OWNER: &str = "lockOwner";

impl Departures for DynamoDb {
    async fn due_list(&self, now: UnixMillis) -> Result<Due, StoreError> {
        let shards = (0..SHARDS).map(|shard| self.due_in_shard(shard, now));
        let mut due = Due::default();
        for item in try_join_all(shards).await?.iter().flatten() {
            read(item, &mut due);
        }
        Ok(due)
    }

    async fn depart(&self, departure: &Departure) -> Result<Vec<ListedLock>, StoreError> {
        let left_at = departure.due_at.minus(DUE_AFTER);
        let Departure {
            connection,
            lock_owner,
            ..
        } = departure;
        self.end_subscriptions(connection, lock_owner, left_at)
            .await
    }

    async fn forget_departure(&self, departure: &Departure) -> Result<(), StoreError> {
        let Departure {
            connection,
            lock_owner,
            ..
        } = departure;
        if !self
            .delete_session(connection, "attribute_not_exists(holders)")
            .await?
        {
            self.forget_channels(connection).await?;
        }
        if connection != lock_owner {
            // Unless others hold the locks, or its own departure is still due.
            let unused = "attribute_not_exists(holders) AND attribute_not_exists(channels)";
            self.delete_session(lock_owner, unused).await?;
        }
        let state = &self.tables.state;
        self.delete(state, departure_key(departure)).await
    }
}

impl DynamoDb {
    /// Notes the departure of a connection whose row is removed now.
    pub(super) fn put_departure(
        &self,
        connection: &Connection,
        now: UnixMillis,
    ) -> Result<TransactWriteItem, StoreError> {
        let departure = Departure {
            connection: connection.id.clone(),
            lock_owner: connection.lock_owner().clone(),
            due_at: now.plus(DUE_AFTER),
        };
        let mut item = due_item(departure_key(&departure), departure.due_at, []);
        if let Some(first) = &connection.first {
            item.insert(LOCK_OWNER.into(), text(first.as_str()));
        }
        let put = Put::builder()
            .table_name(&self.tables.state)
            .set_item(Some(item))
            .build()
            .map_err(|error| failed("TransactWriteItems", error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Deletes what is remembered of a connection, on a condition. Returns whether
    /// it held.
    async fn delete_session(&self, id: &ConnectionId, condition: &str) -> Result<bool, StoreError> {
        let delete = self
            .client
            .delete_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::session(id)))
            .condition_expression(condition);
        written("DeleteItem", delete.send().await)
    }

    /// Leaves only the locks, which others hold, too.
    async fn forget_channels(&self, id: &ConnectionId) -> Result<(), StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::session(id)))
            .update_expression("REMOVE channels, present, userId")
            // Creates nothing.
            .condition_expression("attribute_exists(pk)");
        written("UpdateItem", send_past_transactions(update).await).map(drop)
    }

    async fn due_in_shard(&self, shard: u32, now: UnixMillis) -> Result<Vec<Item>, StoreError> {
        let page = self
            .client
            .query()
            .table_name(&self.tables.state)
            .key_condition_expression("pk = :shard AND sk <= :now")
            .expression_attribute_values(":shard", text(state::due_pk(shard)))
            .expression_attribute_values(":now", text(format!("{:013}~", now.0)))
            .limit(PAGE)
            .send()
            .await
            .map_err(|error| sdk_failed("Query", &error))?;
        Ok(page.items.unwrap_or_default())
    }
}

/// The key of something that is due.
pub(super) fn due_key(kind: &str, due_at: UnixMillis, shard: u32, name: &str) -> Item {
    state::due(shard, &format!("{:013}#{kind}#{name}", due_at.0))
}

/// The item of something that is due.
pub(super) fn due_item<const N: usize>(
    mut key: Item,
    due_at: UnixMillis,
    attributes: [(&str, &str); N],
) -> Item {
    let end = due_at.plus(KEPT).to_seconds();
    key.insert("expiresAt".into(), number(end.0));
    let attributes = attributes.map(|(name, value)| (name.to_owned(), text(value)));
    key.extend(attributes);
    key
}

fn departure_key(departure: &Departure) -> Item {
    let id = &departure.connection;
    due_key(
        DEPARTURE,
        departure.due_at,
        shard_of(id, SHARDS),
        id.as_str(),
    )
}

/// Reads something that is due. Other kinds of things may be due, too.
fn read(item: &Item, due: &mut Due) -> Option<()> {
    let (due_at, rest) = string(item, "sk").ok()?.split_once('#')?;
    let (kind, name) = rest.split_once('#')?;
    let due_at = UnixMillis(due_at.parse().ok()?);
    match kind {
        DEPARTURE => due.departures.push(Departure {
            connection: ConnectionId::parse(name).ok()?,
            lock_owner: ConnectionId::parse(string(item, LOCK_OWNER).unwrap_or(name)).ok()?,
            due_at,
        }),
        LEAVE => due.leaves.push(due_leave(item, due_at)?),
        COUNT => due.counts.push(due_count(item, due_at)?),
        _ => {}
    }
    Some(())
}
