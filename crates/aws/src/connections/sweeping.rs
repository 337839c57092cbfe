//! What only the sweeper does.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use belfry_core::ports::{DueCursor, DuePage, StoreError};
use belfry_core::{Connection, UnixMillis, Watch};
use belfry_protocol::{ConnectionId, UserId};

use super::admission::connection_ids;
use super::transaction::past_transactions;
use super::{DynamoConnections, condition_failed, failed, key, sdk_failed};
use crate::row::{self, Item, SLOT, integer, number};
use crate::state;

/// The index on time: `slot`, then `dueAt`. It holds keys and nothing else,
/// so frames never write to it.
pub(super) const DUE_INDEX: &str = "due-index";

/// How many connections a page has at most: few enough that a sweep that has
/// no time left has not read much for nothing.
const PAGE: i32 = 100;

impl DynamoConnections {
    pub(super) async fn query_due(
        &self,
        part: u32,
        from: Option<DueCursor>,
        now: UnixMillis,
    ) -> Result<DuePage, StoreError> {
        const OPERATION: &str = "Query";
        let begin = from.map(|from| {
            let mut item = key(&from.id);
            item.insert(SLOT.into(), number(part.into()));
            item.insert("dueAt".into(), number(from.due_at.0));
            item
        });
        let page = self
            .client
            .query()
            .table_name(&self.tables.connections)
            .index_name(DUE_INDEX)
            .key_condition_expression("slot = :part AND dueAt <= :now")
            .expression_attribute_values(":part", number(part.into()))
            .expression_attribute_values(":now", number(now.0))
            .set_exclusive_start_key(begin)
            .limit(PAGE)
            .send()
            .await
            .map_err(|error| sdk_failed(OPERATION, &error))?;
        let id = |item: &Item| row::id(item).map_err(|error| failed(OPERATION, error));
        // One row that cannot be read must not stop a sweep.
        let ids = page.items().iter().filter_map(|item| id(item).ok());
        let next = page.last_evaluated_key().map(|last| {
            Ok(DueCursor {
                id: id(last)?,
                due_at: UnixMillis(
                    integer(last, "dueAt").map_err(|error| failed(OPERATION, error))?,
                ),
            })
        });
        Ok(DuePage {
            ids: ids.collect(),
            next: next.transpose()?,
        })
    }

    /// Moves `dueAt`, which nobody else does, and notes what was done.
    pub(super) async fn write_watch(
        &self,
        seen: &Connection,
        next: &Watch,
    ) -> Result<bool, StoreError> {
        let mut update = self
            .client
            .update_item()
            .table_name(&self.tables.connections)
            .set_key(Some(key(&seen.id)))
            .expression_attribute_values(":due", number(seen.watch.due_at.0))
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
        if next.told_to_reconnect {
            set.push("toldToReconnect = :told");
            update = update.expression_attribute_values(":told", AttributeValue::Bool(true));
        }
        let mut expression = format!("SET {}", set.join(", "));
        if !remove.is_empty() {
            expression = format!("{expression} REMOVE {}", remove.join(", "));
        }
        // A frame may have come while the ping was on its way.
        let mut condition = "dueAt = :due";
        if next.pinged_at.is_some() {
            condition = "dueAt = :due AND lastSeenAt = :seen";
            update = update.expression_attribute_values(":seen", number(seen.last_seen_at.0));
        }
        let update = update
            .update_expression(expression)
            .condition_expression(condition);
        match past_transactions(update).await {
            Ok(_) => Ok(true),
            Err(error) if condition_failed(&error) => Ok(false),
            Err(error) => Err(sdk_failed("UpdateItem", &error)),
        }
    }

    pub(super) async fn write_end(
        &self,
        seen: &Connection,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.connections)
            .set_key(Some(key(&seen.id)))
            .update_expression("SET tokenExpiresAt = :now")
            .condition_expression("connectedAt = :seen AND tokenExpiresAt > :now")
            .expression_attribute_values(":now", number(now.to_seconds().0))
            .expression_attribute_values(":seen", number(seen.connected_at.0));
        match past_transactions(update).await {
            Ok(_) => Ok(()),
            Err(error) if condition_failed(&error) => Ok(()),
            Err(error) => Err(sdk_failed("UpdateItem", &error)),
        }
    }

    /// Invariant: every connection of the user is either in the set that is
    /// returned, or was let in with a token that is newer than the mark: mark
    /// and set are one item, and [`Self::admit`] writes it under a condition.
    pub(super) async fn write_mark(
        &self,
        user: &UserId,
        now: UnixMillis,
    ) -> Result<Vec<ConnectionId>, StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::user(user)))
            .update_expression("SET signedOutAt = :now, expiresAt = :end")
            .condition_expression("attribute_not_exists(signedOutAt) OR signedOutAt < :now")
            .expression_attribute_values(":now", number(now.to_seconds().0))
            .expression_attribute_values(":end", number(state::user_expires_at(now).0))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        // The user may be connecting at this moment.
        let item = match past_transactions(update).await {
            Ok(output) => output.attributes,
            Err(error) => match error.as_service_error() {
                // It stands already, or a later one does.
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    refused.item().cloned()
                }
                _ => return Err(sdk_failed("UpdateItem", &error)),
            },
        };
        let ids = connection_ids(item.as_ref());
        Ok(ids
            .iter()
            .filter_map(|id| ConnectionId::parse(id).ok())
            .collect())
    }
}
