//! Logs in the table `Messages`: a partition for each log, with its head and
//! its entries.
//!
//! An entry's sort key begins with the epoch, so late writes of an old epoch
//! never meet those of a new one. Epochs begin with a hexadecimal digit, so
//! `head` is the last key.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use belfry_core::log::{AppendId, Entry, Head, LogKey};
use belfry_core::ports::{
    Advanced, Consistency, LogAppends, LogPeeks, LogReads, Memory, StoreError, Tail,
};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{Epoch, Position};
use tokio::time::Instant;

use super::row::{Item, integer, number, string, text};
use super::transaction::{Condition, IMPATIENT, Transaction, back_off};
use super::{BATCH, BATCH_GET, DynamoDb, failed, sdk_failed, state, wanted, written};
use crate::randomness::SystemRandomness;

pub(super) const HEAD: &str = "head";

/// The head's attribute with the frames that were appended together with the
/// newest one.
const FRAMES_BEFORE: &str = "framesBefore";

const PUT: &str = "PutItem";

const QUERY: &str = "Query";

const MALFORMED_APPEND: &str = "a malformed append";

const MALFORMED_HEAD: &str = "a malformed head of a log";

impl LogReads for DynamoDb {
    async fn head(&self, log: &LogKey) -> Result<Option<Head>, StoreError> {
        let item = self.item(&self.tables.messages, key(log, HEAD)).await?;
        item.as_ref().map(|item| head(item, "GetItem")).transpose()
    }

    async fn entries(
        &self,
        log: &LogKey,
        epoch: &Epoch,
        numbers: RangeInclusive<u64>,
    ) -> Result<Vec<Entry>, StoreError> {
        let page = self
            .client
            .query()
            .table_name(&self.tables.messages)
            .key_condition_expression("channel = :log AND #position BETWEEN :first AND :last")
            // `position` is a reserved word of DynamoDB.
            .expression_attribute_names("#position", "position")
            .expression_attribute_values(":log", text(log.as_str()))
            .expression_attribute_values(":first", text(entry_key(epoch, *numbers.start())))
            .expression_attribute_values(":last", text(entry_key(epoch, *numbers.end())))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| sdk_failed(QUERY, &error))?;
        let entries = page.items().iter().map(|item| entry(item, QUERY));
        entries.collect()
    }
}

impl LogPeeks for DynamoDb {
    async fn peek(&self, logs: &[LogKey]) -> Result<HashMap<LogKey, Position>, StoreError> {
        let mut found = HashMap::new();
        for logs in logs.chunks(BATCH) {
            let keys = logs.iter().map(|log| key(log, HEAD)).collect();
            let heads = wanted(keys, "channel, epoch, seq", Consistency::Eventual)?;
            for head in self.batch(&self.tables.messages, heads).await? {
                let read = || Some((string(&head, "channel").ok()?, position(&head)?));
                let (log, position) = read().ok_or_else(|| failed(BATCH_GET, MALFORMED_HEAD))?;
                if let Some(log) = logs.iter().find(|one| one.as_str() == log) {
                    found.insert(log.clone(), position);
                }
            }
        }
        Ok(found)
    }
}

impl LogAppends for DynamoDb {
    /// One query, which is no snapshot: the entry may have been stored since it
    /// was read. Then it is stored again, which changes nothing.
    async fn tail(&self, log: &LogKey) -> Result<Option<Tail>, StoreError> {
        let page = self
            .client
            .query()
            .table_name(&self.tables.messages)
            .key_condition_expression("channel = :log")
            .expression_attribute_values(":log", text(log.as_str()))
            .scan_index_forward(false)
            .limit(2)
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| sdk_failed(QUERY, &error))?;
        let mut items = page.items().iter();
        let is_head = |item: &&Item| string(item, "position").is_ok_and(|key| key == HEAD);
        let Some(item) = items.next().filter(is_head) else {
            return Ok(None);
        };
        let head = head(item, QUERY)?;
        let stored = items.next().and_then(|item| item.get("position"));
        let is_stored = stored == Some(&text(entry_key(&head.epoch, head.newest.seq)));
        Ok(Some(Tail { head, is_stored }))
    }

    async fn advance(
        &self,
        log: &LogKey,
        from: Option<&Position>,
        to: &Head,
        expires_at: UnixSeconds,
        memory: Option<Memory<'_>>,
    ) -> Result<Advanced, StoreError> {
        let head = self.put_head(log, from, to, expires_at)?;
        match memory {
            None => Box::pin(self.put_alone(head)).await,
            Some(memory) => {
                let mark = self.put_mark(log, to, memory)?;
                Box::pin(self.put_with_mark(head, mark)).await
            }
        }
    }

    async fn find_append(
        &self,
        log: &LogKey,
        id: &AppendId,
        now: UnixMillis,
    ) -> Result<Option<Position>, StoreError> {
        let mark = self
            .item(&self.tables.state, state::append(id, log))
            .await?;
        let forgotten = Memory::forgotten(now).0;
        let is_remembered =
            |mark: &Item| integer(mark, "expiresAt").is_ok_and(|until| until > forgotten);
        let Some(mark) = mark.filter(is_remembered) else {
            return Ok(None);
        };
        let found = position(&mark).ok_or_else(|| failed("GetItem", MALFORMED_APPEND))?;
        Ok(Some(found))
    }

    async fn store(&self, log: &LogKey, epoch: &Epoch, entry: &Entry) -> Result<(), StoreError> {
        let put = self
            .client
            .put_item()
            .table_name(&self.tables.messages)
            .set_item(Some(entry_item(log, epoch, entry)))
            .condition_expression("attribute_not_exists(channel)");
        written(PUT, put.send().await).map(drop)
    }
}

impl DynamoDb {
    /// While a transaction holds the head, it tries again, and in the end it
    /// fails: an attempt that the SDK gave up may still be on its way, so
    /// nobody may say that nothing was written.
    async fn put_alone(&self, put: Put) -> Result<Advanced, StoreError> {
        let request = self
            .client
            .put_item()
            .table_name(put.table_name)
            .set_item(Some(put.item))
            .set_condition_expression(put.condition_expression)
            .set_expression_attribute_names(put.expression_attribute_names)
            .set_expression_attribute_values(put.expression_attribute_values)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let (begun, mut retries) = (Instant::now(), 0);
        loop {
            let error = match request.clone().send().await {
                Ok(_) => return Ok(Advanced::Yes),
                Err(error) => error,
            };
            match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(refused)) => {
                    let old = refused.item().map(|item| head(item, PUT));
                    return Ok(Advanced::Moved(old.transpose()?));
                }
                // A message that is remembered is being appended.
                Some(PutItemError::TransactionConflictException(_))
                    if begun.elapsed() <= IMPATIENT =>
                {
                    back_off(retries, &SystemRandomness).await;
                    retries += 1;
                }
                _ => return Err(sdk_failed(PUT, &error)),
            }
        }
    }

    async fn put_with_mark(&self, put: Put, mark: Put) -> Result<Advanced, StoreError> {
        const OPERATION: &str = "TransactWriteItems";
        let items = [put, mark].map(|put| TransactWriteItem::builder().put(put).build());
        let attempt = |_| items.to_vec().into();
        let conditions = match self.transact(IMPATIENT, attempt).await? {
            Transaction::Done => return Ok(Advanced::Yes),
            Transaction::Refused(conditions) => conditions,
        };
        match conditions.as_slice() {
            [_, Condition::Failed(Some(mark))] => {
                let before = position(mark);
                let before = before.ok_or_else(|| failed(OPERATION, MALFORMED_APPEND))?;
                Ok(Advanced::Before(before))
            }
            [Condition::Failed(old), _] => {
                let old = old.as_ref().map(|item| head(item, OPERATION));
                Ok(Advanced::Moved(old.transpose()?))
            }
            _ => Err(failed(OPERATION, "refused without a reason")),
        }
    }

    /// Moves the head to its next entry.
    fn put_head(
        &self,
        log: &LogKey,
        from: Option<&Position>,
        to: &Head,
        expires_at: UnixSeconds,
    ) -> Result<Put, StoreError> {
        let mut item = key(log, HEAD);
        if !to.frames_before.is_empty() {
            let frames = to.frames_before.iter().map(text).collect();
            item.insert(FRAMES_BEFORE.into(), AttributeValue::L(frames));
        }
        item.extend([
            ("epoch".into(), text(to.epoch.as_str())),
            ("seq".into(), number(to.newest.seq)),
            ("appendId".into(), text(&to.newest.append_id.0)),
            ("frame".into(), text(&to.newest.frame)),
            ("entryExpiresAt".into(), number(to.newest.expires_at.0)),
            ("expiresAt".into(), number(expires_at.0)),
        ]);
        let put = Put::builder()
            .table_name(&self.tables.messages)
            .set_item(Some(item))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match from {
            None => put.condition_expression("attribute_not_exists(channel)"),
            Some(from) => put
                .condition_expression("epoch = :epoch AND seq = :seq")
                .expression_attribute_values(":epoch", text(from.epoch.as_str()))
                .expression_attribute_values(":seq", number(from.seq)),
        };
        put.build().map_err(|error| failed(PUT, error))
    }

    /// Remembers that a message was appended to a log, or that it was purged.
    /// DynamoDB may delete what is forgotten days later.
    fn put_mark(&self, log: &LogKey, to: &Head, memory: Memory<'_>) -> Result<Put, StoreError> {
        let mut item = state::append(memory.id, log);
        item.extend([
            ("epoch".into(), text(to.epoch.as_str())),
            ("seq".into(), number(to.newest.seq)),
            ("expiresAt".into(), number(memory.until.0)),
        ]);
        Put::builder()
            .table_name(&self.tables.state)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk) OR expiresAt <= :forgotten")
            .expression_attribute_values(":forgotten", number(memory.forgotten.0))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|error| failed(PUT, error))
    }
}

pub(super) fn key(log: &LogKey, position: &str) -> Item {
    [("channel", log.as_str()), ("position", position)]
        .map(|(name, value)| (name.to_owned(), text(value)))
        .into()
}

/// The sort key of an entry. Twenty digits hold every number.
pub(super) fn entry_key(epoch: &Epoch, seq: u64) -> String {
    format!("{epoch}#{seq:020}")
}

fn entry_item(log: &LogKey, epoch: &Epoch, entry: &Entry) -> Item {
    let mut item = key(log, &entry_key(epoch, entry.seq));
    item.extend([
        ("seq".into(), number(entry.seq)),
        ("appendId".into(), text(&entry.append_id.0)),
        ("frame".into(), text(&entry.frame)),
        ("expiresAt".into(), number(entry.expires_at.0)),
    ]);
    item
}

fn head(item: &Item, operation: &'static str) -> Result<Head, StoreError> {
    let read = || {
        let position = position(item)?;
        let frames_before = frames_before(item)?;
        if position.seq <= frames_before.len() as u64 {
            return None;
        }
        Some(Head {
            frames_before,
            newest: Entry {
                expires_at: UnixSeconds(integer(item, "entryExpiresAt").ok()?),
                ..any_entry(item)?
            },
            epoch: position.epoch,
        })
    };
    read().ok_or_else(|| failed(operation, MALFORMED_HEAD))
}

fn frames_before(item: &Item) -> Option<Vec<String>> {
    let Some(frames) = item.get(FRAMES_BEFORE) else {
        return Some(Vec::new());
    };
    let frames = frames.as_l().ok()?.iter();
    frames.map(|frame| frame.as_s().ok().cloned()).collect()
}

fn entry(item: &Item, operation: &'static str) -> Result<Entry, StoreError> {
    any_entry(item).ok_or_else(|| failed(operation, "a malformed entry of a log"))
}

fn any_entry(item: &Item) -> Option<Entry> {
    Some(Entry {
        seq: integer(item, "seq").ok()?,
        append_id: AppendId(string(item, "appendId").ok()?.into()),
        expires_at: UnixSeconds(integer(item, "expiresAt").ok()?),
        frame: string(item, "frame").ok()?.into(),
    })
}

fn position(item: &Item) -> Option<Position> {
    Some(Position {
        epoch: Epoch::parse(string(item, "epoch").ok()?).ok()?,
        seq: integer(item, "seq").ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_sort_by_number_and_before_the_head() {
        let epoch = Epoch::parse("19b76da0800aaaaaaaa").unwrap();
        let keys = [1, 9, 10, u64::MAX].map(|seq| entry_key(&epoch, seq));
        assert!(keys.is_sorted());
        assert!(keys.iter().all(|key| key.as_str() < HEAD));
    }
}
