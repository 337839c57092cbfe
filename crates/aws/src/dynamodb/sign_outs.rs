use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use belfry_core::UnixMillis;
use belfry_core::connections::Connection;
use belfry_core::ports::{SignOuts, StoreError};
use belfry_protocol::{ConnectionId, UserId};

use super::admissions::connection_ids;
use super::row::number;
use super::transaction::send_past_transactions;
use super::{DynamoDb, key, sdk_failed, state, written};

impl SignOuts for DynamoDb {
    /// Invariant: every connection of the user is either in the set that is
    /// returned, or was admitted with a token that is newer than the sign-out:
    /// both are in one item, and `admit` writes it under a condition.
    async fn sign_out(
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
        let item = match send_past_transactions(update).await {
            Ok(output) => output.attributes,
            Err(error) => match error.as_service_error() {
                // This sign-out is written already, or a later one.
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

    async fn end_session(&self, seen: &Connection, now: UnixMillis) -> Result<(), StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.connections)
            .set_key(Some(key(&seen.id)))
            .update_expression("SET tokenExpiresAt = :now")
            .condition_expression("connectedAt = :seen AND tokenExpiresAt > :now")
            .expression_attribute_values(":now", number(now.to_seconds().0))
            .expression_attribute_values(":seen", number(seen.connected_at.0));
        let sent = send_past_transactions(update).await;
        written("UpdateItem", sent).map(drop)
    }
}
