//! Removing a connection: its row, its id in the user's set and its place, or
//! nothing.

use aws_sdk_dynamodb::types::{Delete, TransactWriteItem, Update};
use belfry_core::Recipient;
use belfry_core::UnixMillis;
use belfry_core::ports::{StoreError, TOMBSTONE_LIFE};
use belfry_protocol::ConnectionId;

use super::transaction::{Condition, PATIENT, Transaction};
use super::{DynamoConnections, failed, key, sdk_failed};
use crate::row::{Row, number};
use crate::state;

const OPERATION: &str = "TransactWriteItems";

/// How often a row is looked at that changes each time before it is removed.
/// It can be replaced once, so a few times are enough.
const LOOKS: u32 = 8;

const ALWAYS_CHANGING: &str = "the row changed each time it was to be removed";

impl DynamoConnections {
    /// See the invariant at [`Self::admit`]: where there is no row, the
    /// tombstone is written before the row is looked for again.
    pub(super) async fn forget(
        &self,
        id: &ConnectionId,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let mut is_remembered = false;
        for _ in 0..LOOKS {
            match self.row(id).await? {
                Some(row) if self.release(&row).await? => return Ok(()),
                Some(_) => {}
                None if is_remembered => return Ok(()),
                None => {
                    self.remember_end(id, now).await?;
                    is_remembered = true;
                }
            }
        }
        Err(failed(OPERATION, ALWAYS_CHANGING))
    }

    pub(super) async fn forget_unchanged(&self, seen: &Recipient) -> Result<(), StoreError> {
        for _ in 0..LOOKS {
            match self.row(&seen.id).await? {
                Some(row) if row.connection.connected_at == seen.connected_at => {
                    if self.release(&row).await? {
                        return Ok(());
                    }
                }
                _ => return Ok(()),
            }
        }
        Err(failed(OPERATION, ALWAYS_CHANGING))
    }

    async fn remember_end(&self, id: &ConnectionId, now: UnixMillis) -> Result<(), StoreError> {
        let expires_at = now.plus(TOMBSTONE_LIFE).to_seconds();
        let put = self
            .client
            .put_item()
            .table_name(&self.tables.state)
            .set_item(Some(state::tombstone(id)))
            .item("expiresAt", number(expires_at.0));
        let written = put.send().await;
        written
            .map(drop)
            .map_err(|error| sdk_failed("PutItem", &error))
    }

    /// Removes the row with what it holds. `false` where it has changed since
    /// it was read: it is gone, or its place is another's now.
    async fn release(&self, row: &Row) -> Result<bool, StoreError> {
        let connection = &row.connection;
        let holds_a_place = connection.watch.replaced_at.is_none();
        let condition = if holds_a_place {
            "connectedAt = :seen AND attribute_not_exists(replacedAt)"
        } else {
            "connectedAt = :seen AND attribute_exists(replacedAt)"
        };
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
        if holds_a_place {
            items.push(self.give_back(row.slot)?);
        }
        match self.transact(PATIENT, |_| items.clone().into()).await? {
            Transaction::Done => return Ok(true),
            Transaction::Refused(conditions) => {
                if conditions.first().is_some_and(Condition::has_failed) {
                    return Ok(false);
                }
            }
        }
        // The counter says that nobody is there: somebody has changed it by
        // hand. The row goes all the same; the audit sets the counter right.
        items.truncate(2);
        let again = self.transact(PATIENT, |_| items.clone().into()).await?;
        Ok(matches!(again, Transaction::Done))
    }

    fn give_back(&self, slot: u32) -> Result<TransactWriteItem, StoreError> {
        let update = Update::builder()
            .table_name(&self.tables.state)
            .set_key(Some(state::slot(slot)))
            .update_expression("SET connections = connections - :one")
            .condition_expression("connections >= :one")
            .expression_attribute_values(":one", number(1))
            .build()
            .map_err(|error| failed(OPERATION, error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }
}
