use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use belfry_core::connections::{Connection, END_BY_SIGN_OUT};
use belfry_core::ports::{SignOuts, StoreError};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{ConnectionId, UserId};

use super::admissions::connection_ids;
use super::row::{self, number, text};
use super::transaction::send_past_transactions;
use super::{DynamoDb, condition_failed, failed, key, sdk_failed, state};

impl SignOuts for DynamoDb {
    /// Invariant: every connection of the user is either in the set that is
    /// returned, or was admitted with a token that is newer than the sign-out:
    /// both are in one item, and `admit` writes it under a condition.
    async fn sign_out(
        &self,
        user: &UserId,
        void_until: UnixSeconds,
        now: UnixMillis,
    ) -> Result<Vec<ConnectionId>, StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::user(user)))
            .update_expression("SET signedOutAt = :until, expiresAt = :end")
            .condition_expression("attribute_not_exists(signedOutAt) OR signedOutAt < :until")
            .expression_attribute_values(":until", number(void_until.0))
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

    async fn end_session(
        &self,
        user: &UserId,
        id: &ConnectionId,
        now: UnixMillis,
    ) -> Result<Option<Connection>, StoreError> {
        // This writes without reading first: a read could miss the row of a
        // transaction although its write to the user's set is already visible.
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.connections)
            .set_key(Some(key(id)))
            .update_expression("SET tokenExpiresAt = :signedOut, dueAt = :now")
            .condition_expression("userId = :user")
            .expression_attribute_values(":signedOut", number(END_BY_SIGN_OUT.0))
            .expression_attribute_values(":now", number(now.0))
            .expression_attribute_values(":user", text(user.as_str()))
            .return_values(ReturnValue::AllNew);
        let item = match send_past_transactions(update).await {
            Ok(output) => output.attributes,
            Err(error) if condition_failed(&error) => None,
            Err(error) => return Err(sdk_failed("UpdateItem", &error)),
        };
        let row = item.as_ref().map(row::connection).transpose();
        let row = row.map_err(|error| failed("UpdateItem", error))?;
        if let Some(row) = row.as_ref().filter(|row| row.has_session) {
            // Nothing may be posted because of them, even if the connection
            // cannot be closed.
            Box::pin(self.leave_channels(row, now)).await?;
        }
        Ok(row)
    }
}
