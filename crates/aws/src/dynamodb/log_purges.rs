use aws_sdk_dynamodb::types::{DeleteRequest, WriteRequest};
use belfry_core::log::LogKey;
use belfry_core::ports::{DeletedPage, DeletedTo, LogPurges, LogReads, StoreError};
use belfry_protocol::Epoch;

use super::logs::{HEAD, entry_key, key};
use super::row::{Item, string, text};
use super::{DynamoDb, failed, sdk_failed};

const QUERY: &str = "Query";

/// Entries in a page. DynamoDB reads at most one megabyte for it, and the largest
/// entries have a tenth of that.
const PAGE: i32 = 250;

impl LogPurges for DynamoDb {
    /// Invariant: the page is read first and the head afterwards. An entry is
    /// stored when the head has its epoch, or later. So if the head has another
    /// one now, the entry's epoch is over. The page is read consistently, so
    /// that no entry that was stored before is left.
    async fn delete_superseded(
        &self,
        log: &LogKey,
        after: Option<&DeletedTo>,
    ) -> Result<DeletedPage, StoreError> {
        let after = after.map(|(epoch, seq)| key(log, &entry_key(epoch, *seq)));
        let page = self
            .client
            .query()
            .table_name(&self.tables.messages)
            .key_condition_expression("channel = :log AND #position < :head")
            .projection_expression("#position")
            // `position` is a reserved word of DynamoDB.
            .expression_attribute_names("#position", "position")
            .expression_attribute_values(":log", text(log.as_str()))
            .expression_attribute_values(":head", text(HEAD))
            .set_exclusive_start_key(after)
            .consistent_read(true)
            .limit(PAGE)
            .send()
            .await
            .map_err(|error| sdk_failed(QUERY, &error))?;
        let head = self.head(log).await?;
        let mut deletes = Vec::new();
        for item in page.items() {
            let (epoch, _) = entry_of(item)?;
            if head.as_ref().is_some_and(|head| head.epoch == epoch) {
                continue;
            }
            let position = string(item, "position").map_err(|error| failed(QUERY, error))?;
            let delete = DeleteRequest::builder().set_key(Some(key(log, position)));
            let delete = delete.build().map_err(|error| failed(QUERY, error))?;
            deletes.push(WriteRequest::builder().delete_request(delete).build());
        }
        let deleted = deletes.len() as u64;
        self.write_batches(&self.tables.messages, deletes).await?;
        Ok(DeletedPage {
            deleted,
            next: page.last_evaluated_key().map(entry_of).transpose()?,
        })
    }
}

fn entry_of(item: &Item) -> Result<DeletedTo, StoreError> {
    let read = || {
        let (epoch, seq) = string(item, "position").ok()?.rsplit_once('#')?;
        Some((Epoch::parse(epoch).ok()?, seq.parse().ok()?))
    };
    read().ok_or_else(|| failed(QUERY, "a malformed entry of a log"))
}
