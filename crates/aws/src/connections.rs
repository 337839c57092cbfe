//! The connection store on DynamoDB.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure,
};
use belfry_core::ports::{ConnectionStore, Cursor, Inserted, Page, Segment, StoreError};
use belfry_core::{Connection, Recipient, UnixMillis, UnixSeconds};
use belfry_protocol::{ConnectionId, UserId};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::row::{self, CONNECTION_ID, Item, RECIPIENT_ATTRIBUTES, number, text};
use crate::sdk_error::describe;

const USER_INDEX: &str = "userId-index";

/// A live row: one whose time has not come. DynamoDB may keep rows for days
/// after that, so every read asks.
const IS_LIVE: &str = "expiresAt > :now";

/// DynamoDB's limit for one batch.
const BATCH: usize = 100;

/// How many batches are read at a time.
const PARALLEL_BATCHES: usize = 4;

/// How often DynamoDB may leave a part of a batch undone before the read fails.
const BATCH_TRIES: u32 = 6;

/// The connections in a DynamoDB table.
#[derive(Debug, Clone)]
pub struct DynamoConnections {
    client: Client,
    table: String,
}

impl DynamoConnections {
    /// A store on an existing table.
    #[must_use]
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// One batch, asked again for what DynamoDB leaves undone.
    async fn batch(&self, mut keys: Vec<Item>) -> Result<Vec<Item>, StoreError> {
        const OPERATION: &str = "BatchGetItem";
        let mut items = Vec::with_capacity(keys.len());
        for attempt in 0..BATCH_TRIES {
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .projection_expression(RECIPIENT_ATTRIBUTES)
                // A row that was just written counts as there: its absence means "gone".
                .consistent_read(true)
                .build()
                .map_err(|error| failed(OPERATION, error))?;
            let answer = self
                .client
                .batch_get_item()
                .request_items(&self.table, wanted)
                .send()
                .await
                .map_err(|error| sdk_failed(OPERATION, &error))?;
            items.extend(
                answer
                    .responses
                    .into_iter()
                    .flatten()
                    .flat_map(|(_, found)| found),
            );
            keys = answer
                .unprocessed_keys
                .into_iter()
                .flatten()
                .flat_map(|(_, left)| left.keys)
                .collect();
            if keys.is_empty() {
                return Ok(items);
            }
            tokio::time::sleep(Duration::from_millis(20 << attempt)).await;
        }
        Err(failed(OPERATION, "some keys were never processed"))
    }
}

impl ConnectionStore for DynamoConnections {
    async fn insert(&self, connection: &Connection) -> Result<Inserted, StoreError> {
        let result = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(row::to_item(connection)))
            .condition_expression("attribute_not_exists(connectionId)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let error = match result {
            Ok(_) => return Ok(Inserted::Yes),
            Err(error) => error,
        };
        let Some(PutItemError::ConditionalCheckFailedException(refused)) = error.as_service_error()
        else {
            return Err(sdk_failed("PutItem", &error));
        };
        // Lambda and the SDK repeat calls whose answer was lost: the same
        // handshake's row is as good as a new one.
        let same_handshake = refused
            .item()
            .and_then(|item| row::connection(item).ok())
            .is_some_and(|row| {
                row.user_id == connection.user_id && row.connected_at == connection.connected_at
            });
        Ok(if same_handshake {
            Inserted::Yes
        } else {
            Inserted::Taken
        })
    }

    async fn touch(
        &self,
        id: &ConnectionId,
        now: UnixMillis,
    ) -> Result<Option<Connection>, StoreError> {
        const OPERATION: &str = "UpdateItem";
        let result = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(id)))
            .update_expression("SET lastSeenAt = :seen")
            // Without the first part an update would create a partial row.
            .condition_expression(format!("attribute_exists(connectionId) AND {IS_LIVE}"))
            .expression_attribute_values(":seen", number(now.0))
            .expression_attribute_values(":now", number(now.to_seconds().0))
            .return_values(ReturnValue::AllNew)
            .send()
            .await;
        match result {
            Ok(output) => {
                let item = output.attributes.unwrap_or_default();
                row::connection(&item)
                    .map(Some)
                    .map_err(|error| failed(OPERATION, error))
            }
            Err(error) if condition_failed(&error) => Ok(None),
            Err(error) => Err(sdk_failed(OPERATION, &error)),
        }
    }

    async fn extend_token(
        &self,
        seen: &Connection,
        expires_at: UnixSeconds,
        now: UnixMillis,
    ) -> Result<Option<UnixSeconds>, StoreError> {
        const OPERATION: &str = "UpdateItem";
        let result = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(&seen.id)))
            .update_expression("SET tokenExpiresAt = :end")
            .condition_expression(format!(
                "connectedAt = :seen AND {IS_LIVE} AND tokenExpiresAt > :now AND tokenExpiresAt < :end"
            ))
            .expression_attribute_values(":end", number(expires_at.0))
            .expression_attribute_values(":seen", number(seen.connected_at.0))
            .expression_attribute_values(":now", number(now.to_seconds().0))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let error = match result {
            Ok(_) => return Ok(Some(expires_at)),
            Err(error) => error,
        };
        let Some(UpdateItemError::ConditionalCheckFailedException(refused)) =
            error.as_service_error()
        else {
            return Err(sdk_failed(OPERATION, &error));
        };
        // Either there is no such session any more, or it ends no earlier.
        let Some(item) = refused.item() else {
            return Ok(None);
        };
        let row = row::connection(item).map_err(|error| failed(OPERATION, error))?;
        let goes_on = row.connected_at == seen.connected_at
            && !row.expires_at.has_passed(now)
            && !row.token_expires_at.has_passed(now);
        Ok(goes_on.then_some(row.token_expires_at))
    }

    async fn remove(&self, id: &ConnectionId) -> Result<(), StoreError> {
        self.client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key(id)))
            .send()
            .await
            .map(drop)
            .map_err(|error| sdk_failed("DeleteItem", &error))
    }

    async fn remove_unchanged(&self, seen: &Recipient) -> Result<(), StoreError> {
        let result = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key(&seen.id)))
            .condition_expression("connectedAt = :seen")
            .expression_attribute_values(":seen", number(seen.connected_at.0))
            .send()
            .await;
        match result {
            Ok(_) => Ok(()),
            Err(error) if condition_failed(&error) => Ok(()),
            Err(error) => Err(sdk_failed("DeleteItem", &error)),
        }
    }

    async fn of_user(&self, user: &UserId, now: UnixMillis) -> Result<Vec<Recipient>, StoreError> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(USER_INDEX)
            .key_condition_expression("userId = :user")
            .filter_expression(IS_LIVE)
            .expression_attribute_values(":user", text(user.as_str()))
            .expression_attribute_values(":now", number(now.to_seconds().0))
            .into_paginator()
            .send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| sdk_failed("Query", &error))?;
            found.extend(readable(page.items()));
        }
        Ok(found)
    }

    async fn of_ids(
        &self,
        ids: &[ConnectionId],
        now: UnixMillis,
    ) -> Result<Vec<Recipient>, StoreError> {
        let batches: Vec<Vec<Item>> = ids
            .chunks(BATCH)
            .map(|chunk| chunk.iter().map(key).collect())
            .collect();
        let items = stream::iter(batches)
            .map(|keys| self.batch(keys))
            .buffer_unordered(PARALLEL_BATCHES)
            .try_concat()
            .await?;
        let is_live = |item: &&Item| row::expires_at(item).is_some_and(|end| !end.has_passed(now));
        Ok(readable(items.iter().filter(is_live)))
    }

    async fn scan(
        &self,
        segment: Segment,
        from: Option<Cursor>,
        now: UnixMillis,
    ) -> Result<Page, StoreError> {
        const OPERATION: &str = "Scan";
        let part = |n: u32| i32::try_from(n).map_err(|error| failed(OPERATION, error));
        let output = self
            .client
            .scan()
            .table_name(&self.table)
            .segment(part(segment.index)?)
            .total_segments(part(segment.total)?)
            .set_exclusive_start_key(from.map(|Cursor(last)| key(&last)))
            .projection_expression(RECIPIENT_ATTRIBUTES)
            .filter_expression(IS_LIVE)
            .expression_attribute_values(":now", number(now.to_seconds().0))
            .send()
            .await
            .map_err(|error| sdk_failed(OPERATION, &error))?;
        let next = match output.last_evaluated_key() {
            None => None,
            Some(last) => {
                let id = last.get(CONNECTION_ID).and_then(|value| value.as_s().ok());
                let id = id.and_then(|id| ConnectionId::parse(id).ok());
                Some(Cursor(id.ok_or_else(|| {
                    failed(OPERATION, "a key that is no connection id")
                })?))
            }
        };
        let recipients = readable(output.items());
        Ok(Page { recipients, next })
    }
}

fn key(id: &ConnectionId) -> Item {
    Item::from([(CONNECTION_ID.to_owned(), text(id.as_str()))])
}

/// The rows that can be read. The others are skipped, and logged together: one
/// bad row must neither stop a broadcast nor flood the log.
fn readable<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<Recipient> {
    let mut found = Vec::new();
    let mut unreadable = Vec::new();
    for item in items {
        match row::recipient(item) {
            Ok(recipient) => found.push(recipient),
            Err(error) => unreadable.push((item, error)),
        }
    }
    if let Some((item, error)) = unreadable.first() {
        let id = item
            .get(CONNECTION_ID)
            .and_then(|id| id.as_s().ok())
            .map_or("", String::as_str);
        tracing::warn!(rows = unreadable.len(), connectionId = id, reason = %error, "skipping rows that cannot be read, this one for example");
    }
    found
}

/// Whether a write was not made because its condition did not hold.
fn condition_failed<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    error.code() == Some("ConditionalCheckFailedException")
}

fn failed(operation: &'static str, cause: impl ToString) -> StoreError {
    StoreError {
        operation,
        cause: cause.to_string(),
    }
}

fn sdk_failed<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    failed(operation, describe(error))
}
