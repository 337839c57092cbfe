use std::time::Duration;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use belfry_core::ports::{Begun, BroadcastRecord, NewBroadcasts, StoreError};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::MessageId;

use super::broadcast_records::record_of;
use super::row::{integer, number, text};
use super::{DynamoDb, failed, sdk_failed, state};

/// The longest request that is remembered. An item holds 400 KB.
const MAX_REQUEST_BYTES: usize = 380_000;

impl NewBroadcasts for DynamoDb {
    async fn begin(
        &self,
        id: &MessageId,
        record: &BroadcastRecord,
        expires_at: UnixSeconds,
    ) -> Result<Begun, StoreError> {
        const OPERATION: &str = "PutItem";
        if record.request.len() > MAX_REQUEST_BYTES {
            return Ok(Begun::TooLarge {
                max_bytes: MAX_REQUEST_BYTES,
            });
        }
        let mut item = state::broadcast(id);
        item.extend([
            ("request".into(), text(record.request.as_str())),
            ("startedAt".into(), number(record.started_at.0)),
            ("segments".into(), number(record.segments.into())),
            ("expiresAt".into(), number(expires_at.0)),
        ]);
        let put = self
            .client
            .put_item()
            .table_name(&self.tables.state)
            .set_item(Some(item))
            // DynamoDB deletes expired items late.
            .condition_expression("attribute_not_exists(pk) OR expiresAt <= :now")
            .expression_attribute_values(":now", number(record.started_at.to_seconds().0))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match put.send().await {
            Ok(_) => Ok(Begun::New),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(refused)) => {
                    let known = refused.item().and_then(record_of);
                    let known = known.ok_or_else(|| failed(OPERATION, "a malformed record"));
                    known.map(Begun::Known)
                }
                _ => Err(sdk_failed(OPERATION, &error)),
            },
        }
    }

    async fn reserve_all(
        &self,
        id: &MessageId,
        now: UnixMillis,
        interval: Duration,
    ) -> Result<Option<Duration>, StoreError> {
        const OPERATION: &str = "UpdateItem";
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::last_to_all()))
            .update_expression("SET messageId = :id, startedAt = :now")
            .condition_expression("attribute_not_exists(startedAt) OR startedAt <= :before")
            .expression_attribute_values(":id", text(id.as_str()))
            .expression_attribute_values(":now", number(now.0))
            .expression_attribute_values(":before", number(now.minus(interval).0))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let error = match update.send().await {
            Ok(_) => return Ok(None),
            Err(error) => error,
        };
        let Some(UpdateItemError::ConditionalCheckFailedException(refused)) =
            error.as_service_error()
        else {
            return Err(sdk_failed(OPERATION, &error));
        };
        let item = refused.item();
        let last = item.and_then(|item| item.get("messageId"));
        if last == Some(&text(id.as_str())) {
            return Ok(None);
        }
        let started_at = item.and_then(|item| integer(item, "startedAt").ok());
        let started_at = started_at.ok_or_else(|| failed(OPERATION, "a malformed item"))?;
        Ok(Some(UnixMillis(started_at).plus(interval).since(now)))
    }
}
