//! Who is there: queries, batches and scans.

use std::time::Duration;

use aws_sdk_dynamodb::types::KeysAndAttributes;
use belfry_core::ports::{Cursor, Page, Segment, StoreError};
use belfry_core::{Recipient, UnixMillis};
use belfry_protocol::{ConnectionId, UserId};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::{DynamoConnections, IS_LIVE, failed, key, sdk_failed};
use crate::row::{self, CONNECTION_ID, Item, RECIPIENT_ATTRIBUTES, number, text};

const USER_INDEX: &str = "userId-index";

/// DynamoDB's limit for one batch.
pub(super) const BATCH: usize = 100;

/// The most rows that a page of a scan looks at: as many posts as a worker that
/// dies may have made in vain.
const PAGE: i32 = 1_000;

/// How many batches are read at a time.
const PARALLEL_BATCHES: usize = 4;

/// How often DynamoDB may leave a part of a batch undone before the read fails.
const BATCH_TRIES: u32 = 6;

impl DynamoConnections {
    pub(super) async fn query_user(
        &self,
        user: &UserId,
        now: UnixMillis,
    ) -> Result<Vec<Recipient>, StoreError> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.tables.connections)
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

    pub(super) async fn read_batches(
        &self,
        ids: &[ConnectionId],
        now: UnixMillis,
    ) -> Result<Vec<Recipient>, StoreError> {
        let batches: Vec<Vec<Item>> = ids
            .chunks(BATCH)
            .map(|chunk| chunk.iter().map(key).collect())
            .collect();
        let items = stream::iter(batches)
            .map(|keys| self.batch(&self.tables.connections, keys, RECIPIENT_ATTRIBUTES))
            .buffer_unordered(PARALLEL_BATCHES)
            .try_concat()
            .await?;
        let is_live = |item: &&Item| row::expires_at(item).is_some_and(|end| !end.has_passed(now));
        Ok(readable(items.iter().filter(is_live)))
    }

    pub(super) async fn scan_segment(
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
            .table_name(&self.tables.connections)
            .segment(part(segment.index)?)
            .total_segments(part(segment.total)?)
            .limit(PAGE)
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

    /// One batch, asked again for what DynamoDB leaves undone. Items that are
    /// not there are left out.
    pub(super) async fn batch(
        &self,
        table: &str,
        mut keys: Vec<Item>,
        attributes: &str,
    ) -> Result<Vec<Item>, StoreError> {
        const OPERATION: &str = "BatchGetItem";
        let mut items = Vec::with_capacity(keys.len());
        for attempt in 0..BATCH_TRIES {
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .projection_expression(attributes)
                // A row that was just written counts as there: its absence means "gone".
                .consistent_read(true)
                .build()
                .map_err(|error| failed(OPERATION, error))?;
            let answer = self
                .client
                .batch_get_item()
                .request_items(table, wanted)
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
