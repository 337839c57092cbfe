use aws_sdk_dynamodb::types::AttributeValue;
use belfry_core::UnixMillis;
use belfry_core::connections::Connection;
use belfry_core::liveness::Liveness;
use belfry_core::ports::{DueConnections, Randomness, StoreError};
use belfry_protocol::ConnectionId;
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};

use super::row::{self, Item, SHARD, integer, number};
use super::shard_counters::SHARDS;
use super::transaction::send_past_transactions;
use super::{DynamoDb, failed, key, sdk_failed, written};
use crate::randomness::SystemRandomness;

/// The due index: keys `shard` and `dueAt`. It projects keys and nothing else,
/// so frames never write to it; only sweeps move rows in it.
pub(super) const DUE_INDEX: &str = "due-index";

/// Connections in a page: few enough that a sweep that runs out of time has read
/// little in vain.
const PAGE: i32 = 100;

/// Maximum concurrent shards.
const CONCURRENCY: usize = 16;

const OPERATION: &str = "Query";

/// Where a shard's listing continues.
struct DueCursor {
    id: ConnectionId,
    due_at: u64,
}

impl DueConnections for DynamoDb {
    /// Lists several shards at a time, beginning with a random one, so that no
    /// shard is always the last.
    fn due(&self, now: UnixMillis) -> impl Stream<Item = Result<ConnectionId, StoreError>> + Send {
        let first = u32::try_from(SystemRandomness.index(SHARDS as usize)).unwrap_or(0);
        stream::iter(0..SHARDS)
            .map(move |n| self.due_in((first + n) % SHARDS, now).boxed())
            .flatten_unordered(CONCURRENCY)
    }

    async fn record_liveness(
        &self,
        seen: &Connection,
        next: &Liveness,
    ) -> Result<bool, StoreError> {
        let mut update = self
            .client
            .update_item()
            .table_name(&self.tables.connections)
            .set_key(Some(key(&seen.id)))
            .expression_attribute_values(":due", number(seen.liveness.due_at.0))
            .expression_attribute_values(":next", number(next.due_at.0));
        let (mut set, mut remove) = (vec!["dueAt = :next"], Vec::new());
        match next.pinged_at {
            Some(at) => {
                set.push("pingedAt = :pinged");
                update = update.expression_attribute_values(":pinged", number(at.0));
            }
            None => remove.push("pingedAt"),
        }
        match next.unreachable_since {
            Some(since) => {
                set.push("unreachableSince = :since");
                update = update.expression_attribute_values(":since", number(since.0));
            }
            None => remove.push("unreachableSince"),
        }
        if next.reconnect_sent {
            set.push("reconnectSent = :sent");
            update = update.expression_attribute_values(":sent", AttributeValue::Bool(true));
        }
        let mut expression = format!("SET {}", set.join(", "));
        if !remove.is_empty() {
            expression = format!("{expression} REMOVE {}", remove.join(", "));
        }
        // A frame may have come while the ping was posted.
        let mut condition = "dueAt = :due";
        if next.pinged_at.is_some() {
            condition = "dueAt = :due AND lastSeenAt = :seen";
            update = update.expression_attribute_values(":seen", number(seen.last_seen_at.0));
        }
        let update = update
            .update_expression(expression)
            .condition_expression(condition);
        written("UpdateItem", send_past_transactions(update).await)
    }
}

impl DynamoDb {
    fn due_in(
        &self,
        shard: u32,
        now: UnixMillis,
    ) -> impl Stream<Item = Result<ConnectionId, StoreError>> + Send {
        // Outside: whether there is a next page. Inside: where it begins.
        let begin: Option<Option<DueCursor>> = Some(None);
        let pages = stream::try_unfold(begin, move |from| async move {
            let Some(from) = from else { return Ok(None) };
            let (ids, next) = self.due_page(shard, from, now).await?;
            let ids = stream::iter(ids.into_iter().map(Ok));
            Ok(Some((ids, next.map(Some))))
        });
        pages.try_flatten()
    }

    async fn due_page(
        &self,
        shard: u32,
        from: Option<DueCursor>,
        now: UnixMillis,
    ) -> Result<(Vec<ConnectionId>, Option<DueCursor>), StoreError> {
        let begin = from.map(|from| {
            let mut item = key(&from.id);
            item.insert(SHARD.into(), number(shard.into()));
            item.insert("dueAt".into(), number(from.due_at));
            item
        });
        let page = self
            .client
            .query()
            .table_name(&self.tables.connections)
            .index_name(DUE_INDEX)
            // `shard` is a reserved word of DynamoDB.
            .key_condition_expression("#shard = :shard AND dueAt <= :now")
            .expression_attribute_names("#shard", SHARD)
            .expression_attribute_values(":shard", number(shard.into()))
            .expression_attribute_values(":now", number(now.0))
            .set_exclusive_start_key(begin)
            .limit(PAGE)
            .send()
            .await
            .map_err(|error| sdk_failed(OPERATION, &error))?;
        // One row that cannot be read must not stop a sweep.
        let ids = page.items().iter().filter_map(|item| row::id(item).ok());
        let next = page.last_evaluated_key().map(cursor).transpose()?;
        Ok((ids.collect(), next))
    }
}

fn cursor(last: &Item) -> Result<DueCursor, StoreError> {
    let malformed = |error| failed(OPERATION, error);
    Ok(DueCursor {
        id: row::id(last).map_err(malformed)?,
        due_at: integer(last, "dueAt").map_err(malformed)?,
    })
}
