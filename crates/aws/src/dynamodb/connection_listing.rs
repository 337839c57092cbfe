use belfry_core::UnixMillis;
use belfry_core::connections::Connection;
use belfry_core::ports::{ConnectionListing, ConnectionPage, StoreError};
use belfry_protocol::ConnectionId;

use super::recipients::{Unreadable, skip_unreadable};
use super::row::{self, CONNECTION_ID, Item, number, string};
use super::{DynamoDb, IS_LIVE, failed, key, sdk_failed};

/// The most rows that a page reads. The largest have two kilobytes, and DynamoDB
/// reads at most one megabyte for a page.
const PAGE: i32 = 500;

impl ConnectionListing for DynamoDb {
    async fn rows(
        &self,
        ids: &[ConnectionId],
        now: UnixMillis,
    ) -> Result<Vec<Connection>, StoreError> {
        Ok(readable(&self.live_rows(ids, None, now).await?))
    }

    async fn row_page(
        &self,
        after: Option<&ConnectionId>,
        now: UnixMillis,
    ) -> Result<ConnectionPage, StoreError> {
        const OPERATION: &str = "Scan";
        let page = self
            .client
            .scan()
            .table_name(&self.tables.connections)
            .limit(PAGE)
            .set_exclusive_start_key(after.map(key))
            .filter_expression(IS_LIVE)
            .expression_attribute_values(":now", number(now.to_seconds().0))
            .send()
            .await
            .map_err(|error| sdk_failed(OPERATION, &error))?;
        let next = page.last_evaluated_key().map(row::id).transpose();
        Ok(ConnectionPage {
            connections: readable(page.items()),
            next: next.map_err(|error| failed(OPERATION, error))?,
        })
    }
}

fn readable<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<Connection> {
    skip_unreadable(items.into_iter().map(|item| {
        row::connection(item).map_err(|error| Unreadable {
            id: string(item, CONNECTION_ID).unwrap_or_default().to_owned(),
            reason: error.to_string(),
        })
    }))
}
