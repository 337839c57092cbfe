use aws_sdk_dynamodb::types::{Delete, TransactWriteItem, Update};
use belfry_core::UnixMillis;
use belfry_core::connections::Recipient;
use belfry_core::hooks::{HookSubject, PendingEvent};
use belfry_core::ports::{Removals, StoreError};
use futures_util::future::join;
use tokio::time::Instant;

use super::row::{Row, number};
use super::transaction::{Condition, PATIENT, Transaction};
use super::{DynamoDb, failed, key, state};

const OPERATION: &str = "TransactWriteItems";

/// How often a removal is attempted while the row changes. A row can be
/// replaced once, so a few attempts are enough.
pub(super) const ATTEMPTS: u32 = 8;

impl Removals for DynamoDb {
    async fn remove_unchanged(&self, seen: &Recipient, now: UnixMillis) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            match self.row(&seen.id).await? {
                Some(row) if row.connection.connected_at == seen.connected_at => {
                    if Box::pin(self.remove(&row, now)).await? {
                        return Ok(());
                    }
                }
                _ => return Ok(()),
            }
        }
        Err(failed(
            "remove_unchanged",
            "the row changed at every attempt",
        ))
    }
}

impl DynamoDb {
    /// Removes the row, its id in the user's set, its count and its
    /// subscriptions. Returns `false` if the row has changed since it was read:
    /// it is gone, was replaced or was marked.
    pub(super) async fn remove(&self, row: &Row, now: UnixMillis) -> Result<bool, StoreError> {
        let removed = self.remove_row(row, now).await?;
        if !removed {
            return Ok(false);
        }
        let id = &row.connection.id;
        let subject = HookSubject::Connection(id.clone());
        let left = async {
            if !row.connection.has_session {
                return;
            }
            // A sweep does it again.
            if let Err(error) = self.leave_channels(&row.connection, now).await {
                tracing::warn!(event = "connection.subscriptions-left", connectionId = %id, reason = %error, "could not end the subscriptions of a connection; a sweep does it");
            }
        };
        join(Box::pin(self.start_delivery(&subject)), Box::pin(left)).await;
        Ok(true)
    }

    async fn remove_row(&self, row: &Row, now: UnixMillis) -> Result<bool, StoreError> {
        let connection = &row.connection;
        let is_counted = connection.liveness.replaced_at.is_none();
        let exists = |is_there| {
            if is_there {
                "attribute_exists"
            } else {
                "attribute_not_exists"
            }
        };
        let condition = format!(
            "connectedAt = :seen AND {}(replacedAt) AND {}(hasSession)",
            exists(!is_counted),
            exists(connection.has_session)
        );
        let delete = Delete::builder()
            .table_name(&self.tables.connections)
            .set_key(Some(key(&connection.id)))
            .condition_expression(condition)
            .expression_attribute_values(":seen", number(connection.connected_at.0))
            .build()
            .map_err(|error| failed(OPERATION, error))?;
        let mut items = vec![
            TransactWriteItem::builder().delete(delete).build(),
            self.leave_user(connection, &connection.id)?,
        ];
        if connection.has_session {
            items.push(self.put_departure(connection, now)?);
        }
        items.extend(self.put_event(&PendingEvent::closed(connection, now))?);
        let without_count = items.len();
        if is_counted {
            items.push(self.count_down(row.shard)?);
        }
        let begun = Instant::now();
        match self.transact(PATIENT, |_| items.clone().into()).await? {
            Transaction::Done => return Ok(true),
            Transaction::Refused(conditions) => {
                if conditions.first().is_some_and(Condition::has_failed) {
                    return Ok(false);
                }
            }
        }
        // The counter is zero: somebody changed it by hand. Remove the row all
        // the same; the audit corrects the counter.
        items.truncate(without_count);
        let patience = PATIENT.saturating_sub(begun.elapsed());
        let without_counter = self.transact(patience, |_| items.clone().into()).await?;
        Ok(matches!(without_counter, Transaction::Done))
    }

    fn count_down(&self, shard: u32) -> Result<TransactWriteItem, StoreError> {
        let update = Update::builder()
            .table_name(&self.tables.state)
            .set_key(Some(state::shard(shard)))
            .update_expression("SET connections = connections - :one")
            .condition_expression("connections >= :one")
            .expression_attribute_values(":one", number(1))
            .build()
            .map_err(|error| failed(OPERATION, error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }
}
