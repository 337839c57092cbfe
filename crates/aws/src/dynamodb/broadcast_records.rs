use belfry_core::UnixMillis;
use belfry_core::ports::{BroadcastKey, BroadcastRecord, BroadcastRecords, StoreError};
use belfry_protocol::MessageId;

use super::row::{self, Item, integer, number};
use super::{DynamoDb, failed, state, written};

impl BroadcastRecords for DynamoDb {
    async fn find_record(
        &self,
        id: &MessageId,
        now: UnixMillis,
    ) -> Result<Option<BroadcastRecord>, StoreError> {
        let item = self.item(&self.tables.state, state::broadcast(id)).await?;
        let is_live = |item: &Item| row::expires_at(item).is_some_and(|end| !end.has_passed(now));
        let item = item.filter(is_live);
        let record =
            |item: &Item| record_of(item).ok_or_else(|| failed("GetItem", "a malformed record"));
        item.as_ref().map(record).transpose()
    }

    async fn finish(&self, key: &BroadcastKey, now: UnixMillis) -> Result<bool, StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::broadcast(&key.id)))
            .update_expression("SET finishedAt = :now")
            .condition_expression("startedAt = :started AND attribute_not_exists(finishedAt)")
            .expression_attribute_values(":started", number(key.started_at.0))
            .expression_attribute_values(":now", number(now.0));
        written("UpdateItem", update.send().await)
    }
}

pub(super) fn record_of(item: &Item) -> Option<BroadcastRecord> {
    Some(BroadcastRecord {
        request: item.get("request")?.as_s().ok()?.clone(),
        started_at: UnixMillis(integer(item, "startedAt").ok()?),
        segments: u32::try_from(integer(item, "segments").ok()?).ok()?,
    })
}
