use belfry_core::UnixMillis;
use belfry_core::connections::Recipient;
use belfry_core::ports::{Consistency, RecipientPage, Recipients, Segment, StoreError};
use belfry_protocol::{ConnectionId, UserId};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::admissions::connection_ids;
use super::row::{self, CONNECTION_ID, Item, RECIPIENT_ATTRIBUTES, number, string, text};
use super::{BATCH, DynamoDb, IS_LIVE, failed, key, sdk_failed, state, wanted};

const USER_INDEX: &str = "userId-index";

/// The most rows that a page of a scan reads, and so the most posts that a
/// worker repeats after another one died.
const PAGE: i32 = 1_000;

/// Maximum concurrent batches.
const BATCHES: usize = 4;

impl Recipients for DynamoDb {
    async fn of_user(
        &self,
        user: &UserId,
        consistency: Consistency,
        now: UnixMillis,
    ) -> Result<Vec<Recipient>, StoreError> {
        match consistency {
            Consistency::Strong => Box::pin(self.of_user_by_set(user, now)).await,
            Consistency::Eventual => self.of_user_by_index(user, now).await,
        }
    }

    async fn of_ids(
        &self,
        ids: &[ConnectionId],
        now: UnixMillis,
    ) -> Result<Vec<Recipient>, StoreError> {
        let rows = self.live_rows(ids, RECIPIENT_ATTRIBUTES, now).await?;
        Ok(readable(&rows))
    }

    async fn scan(
        &self,
        segment: Segment,
        after: Option<&ConnectionId>,
        consistency: Consistency,
        now: UnixMillis,
    ) -> Result<RecipientPage, StoreError> {
        const OPERATION: &str = "Scan";
        let number_of = |n: u32| i32::try_from(n).map_err(|error| failed(OPERATION, error));
        let output = self
            .client
            .scan()
            .table_name(&self.tables.connections)
            .segment(number_of(segment.index)?)
            .total_segments(number_of(segment.total)?)
            .limit(PAGE)
            .consistent_read(consistency == Consistency::Strong)
            .set_exclusive_start_key(after.map(key))
            .projection_expression(RECIPIENT_ATTRIBUTES)
            .filter_expression(IS_LIVE)
            .expression_attribute_values(":now", number(now.to_seconds().0))
            .send()
            .await
            .map_err(|error| sdk_failed(OPERATION, &error))?;
        let next = output.last_evaluated_key().map(row::id).transpose();
        Ok(RecipientPage {
            recipients: readable(output.items()),
            next: next.map_err(|error| failed(OPERATION, error))?,
        })
    }
}

impl DynamoDb {
    /// The rows of these connections that have not expired, with these attributes
    /// or whole. A missing row means "gone", so a row that was just written must
    /// be found.
    pub(super) async fn live_rows(
        &self,
        ids: &[ConnectionId],
        attributes: impl Into<Option<&str>>,
        now: UnixMillis,
    ) -> Result<Vec<Item>, StoreError> {
        let attributes = attributes.into();
        let batches = ids.chunks(BATCH).map(|ids| {
            let keys = ids.iter().map(key).collect();
            wanted(keys, attributes, Consistency::Strong)
        });
        let batches = batches.collect::<Result<Vec<_>, _>>()?;
        let mut rows = stream::iter(batches)
            .map(|wanted| self.batch(&self.tables.connections, wanted))
            .buffer_unordered(BATCHES)
            .try_concat()
            .await?;
        rows.retain(|row| row::expires_at(row).is_some_and(|end| !end.has_passed(now)));
        Ok(rows)
    }

    async fn of_user_by_index(
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

    /// An index is never read consistently, but the user's set is: `$connect`
    /// writes it together with the row.
    async fn of_user_by_set(
        &self,
        user: &UserId,
        now: UnixMillis,
    ) -> Result<Vec<Recipient>, StoreError> {
        let set = self.item(&self.tables.state, state::user(user)).await?;
        let ids = connection_ids(set.as_ref()).into_iter();
        let ids: Vec<_> = ids.filter_map(|id| ConnectionId::parse(id).ok()).collect();
        let mut found = self.of_ids(&ids, now).await?;
        found.retain(|recipient| recipient.user_id == *user);
        Ok(found)
    }
}

/// The rows that can be read.
fn readable<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<Recipient> {
    let id = |item: &Item| string(item, CONNECTION_ID).unwrap_or_default().to_owned();
    skip_unreadable(items.into_iter().map(|item| {
        row::recipient(item).map_err(|error| Unreadable {
            id: id(item),
            reason: error.to_string(),
        })
    }))
}

/// An item that cannot be read.
pub(super) struct Unreadable {
    pub(super) id: String,
    pub(super) reason: String,
}

/// The items that can be read. The others are skipped and logged together: one
/// bad item must neither stop a broadcast nor flood the log.
pub(super) fn skip_unreadable<T>(items: impl Iterator<Item = Result<T, Unreadable>>) -> Vec<T> {
    let mut unreadable = Vec::new();
    let found = items
        .filter_map(|item| item.map_err(|error| unreadable.push(error)).ok())
        .collect();
    if let Some(Unreadable { id, reason }) = unreadable.first() {
        tracing::warn!(
            event = "rows.unreadable",
            rows = unreadable.len(),
            connectionId = id,
            reason,
            "skipped rows that cannot be read, this one for example"
        );
    }
    found
}
