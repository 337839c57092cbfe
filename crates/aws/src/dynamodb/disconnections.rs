use belfry_core::UnixMillis;
use belfry_core::ports::{Disconnections, StoreError, TOMBSTONE_LIFETIME};
use belfry_protocol::ConnectionId;

use super::removals::ATTEMPTS;
use super::row::number;
use super::{DynamoDb, failed, sdk_failed, state};

impl Disconnections for DynamoDb {
    /// See the invariant at `admit`: if there is no row, the tombstone is
    /// written before the row is looked up again.
    async fn disconnect(&self, id: &ConnectionId, now: UnixMillis) -> Result<(), StoreError> {
        let mut has_tombstone = false;
        for _ in 0..ATTEMPTS {
            match self.row(id).await? {
                Some(row) if Box::pin(self.remove(&row, now)).await? => return Ok(()),
                Some(_) => {}
                None if has_tombstone => return Ok(()),
                None => {
                    self.put_tombstone(id, now).await?;
                    has_tombstone = true;
                }
            }
        }
        Err(failed("disconnect", "the row changed at every attempt"))
    }
}

impl DynamoDb {
    async fn put_tombstone(&self, id: &ConnectionId, now: UnixMillis) -> Result<(), StoreError> {
        let expires_at = now.plus(TOMBSTONE_LIFETIME).to_seconds();
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
}
