//! Departures in the due list: the partitions `due#00` to `due#15` of `State`,
//! ordered by the time at which something is due.

use std::time::Duration;

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use belfry_core::UnixMillis;
use belfry_core::connections::shard_of;
use belfry_core::ports::{Departure, Departures, StoreError};
use belfry_protocol::ConnectionId;
use futures_util::future::try_join_all;

use super::row::{Item, number, string, text};
use super::{DynamoDb, failed, sdk_failed, state};

/// When a departure is due: longer than a frame can be under way (the function
/// `Default` has 27 seconds), and clocks may differ.
const DUE_AFTER: Duration = Duration::from_secs(35);

/// How long a departure is kept if no sweep ever processes it.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

const SHARDS: u32 = 16;

/// Departures of a shard in a sweep. What is left is due in the next one.
const PAGE: i32 = 1_000;

const KIND: &str = "departure";

impl Departures for DynamoDb {
    async fn due_departures(&self, now: UnixMillis) -> Result<Vec<Departure>, StoreError> {
        let shards = (0..SHARDS).map(|shard| self.due_in_shard(shard, now));
        let due = try_join_all(shards).await?;
        Ok(due.into_iter().flatten().collect())
    }

    async fn depart(&self, departure: &Departure) -> Result<(), StoreError> {
        let (id, state) = (&departure.connection, &self.tables.state);
        self.leave_channels(id).await?;
        self.delete(state, state::session(id)).await?;
        self.delete(state, due_key(departure)).await
    }
}

impl DynamoDb {
    /// Notes the departure of a connection whose row is removed now.
    pub(super) fn put_departure(
        &self,
        id: &ConnectionId,
        now: UnixMillis,
    ) -> Result<TransactWriteItem, StoreError> {
        let departure = Departure {
            connection: id.clone(),
            due_at: now.plus(DUE_AFTER),
        };
        let mut item = due_key(&departure);
        let end = departure.due_at.plus(KEPT).to_seconds();
        item.insert("expiresAt".into(), number(end.0));
        let put = Put::builder()
            .table_name(&self.tables.state)
            .set_item(Some(item))
            .build()
            .map_err(|error| failed("TransactWriteItems", error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    async fn due_in_shard(
        &self,
        shard: u32,
        now: UnixMillis,
    ) -> Result<Vec<Departure>, StoreError> {
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
        Ok(page.items().iter().filter_map(departure).collect())
    }
}

fn due_key(departure: &Departure) -> Item {
    let id = &departure.connection;
    let sk = format!("{:013}#{KIND}#{id}", departure.due_at.0);
    state::due(shard_of(id, SHARDS), &sk)
}

/// Reads a departure. Other kinds of things may be due, too.
fn departure(item: &Item) -> Option<Departure> {
    let (due_at, rest) = string(item, "sk").ok()?.split_once('#')?;
    let (kind, id) = rest.split_once('#')?;
    (kind == KIND).then_some(())?;
    Some(Departure {
        connection: ConnectionId::parse(id).ok()?,
        due_at: UnixMillis(due_at.parse().ok()?),
    })
}
