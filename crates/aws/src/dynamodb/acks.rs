//! What users have acknowledged: an item for each user in the log's partition
//! of the table `Subscriptions`, so that one query tells who has read up to
//! where.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use belfry_core::UnixMillis;
use belfry_core::log::LogKey;
use belfry_core::ports::{ACK_LIFETIME, Acks, Consistency, ReaderPage, Receipts, StoreError};
use belfry_protocol::{Epoch, Position, Receipt, UserId};

use super::row::{Item, integer, member_key, number, string, text};
use super::{BATCH, DynamoDb, failed, sdk_failed, wanted};

const QUERY: &str = "Query";

const UPDATE: &str = "UpdateItem";

/// The sort keys of acknowledgements; the user's id follows.
const PREFIX: &str = "a#";

impl Acks for DynamoDb {
    async fn acknowledge(
        &self,
        log: &LogKey,
        user: &UserId,
        position: &Position,
        now: UnixMillis,
    ) -> Result<Position, StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.subscriptions)
            .set_key(Some(key(log, user)))
            .update_expression("SET epoch = :epoch, seq = :seq, expiresAt = :end")
            .condition_expression(
                "attribute_not_exists(channel) OR epoch < :epoch \
                 OR (epoch = :epoch AND seq < :seq) OR expiresAt <= :now",
            )
            .expression_attribute_values(":epoch", text(position.epoch.as_str()))
            .expression_attribute_values(":seq", number(position.seq))
            .expression_attribute_values(":end", number(now.plus(ACK_LIFETIME).to_seconds().0))
            .expression_attribute_values(":now", number(now.to_seconds().0))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let error = match update.send().await {
            Ok(_) => return Ok(position.clone()),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                let newer = refused.item().and_then(read_position);
                newer.ok_or_else(|| malformed(UPDATE))
            }
            _ => Err(sdk_failed(UPDATE, &error)),
        }
    }

    async fn find_ack(
        &self,
        log: &LogKey,
        user: &UserId,
        now: UnixMillis,
    ) -> Result<Option<Position>, StoreError> {
        let table = &self.tables.subscriptions;
        let item = self.item(table, key(log, user)).await?;
        let item = item.filter(|item| counts(item, now));
        let position = item.map(|item| read_position(&item).ok_or_else(|| malformed("GetItem")));
        position.transpose()
    }
}

impl Receipts for DynamoDb {
    async fn readers(
        &self,
        log: &LogKey,
        from: &Position,
        after: Option<&UserId>,
        limit: usize,
        now: UnixMillis,
    ) -> Result<ReaderPage, StoreError> {
        let page = self
            .client
            .query()
            .table_name(&self.tables.subscriptions)
            .key_condition_expression("channel = :log AND begins_with(#member, :prefix)")
            // `member` is a reserved word of DynamoDB.
            .expression_attribute_names("#member", "member")
            .filter_expression("epoch = :epoch AND seq >= :seq AND expiresAt > :now")
            .expression_attribute_values(":log", text(log.as_str()))
            .expression_attribute_values(":prefix", text(PREFIX))
            .expression_attribute_values(":epoch", text(from.epoch.as_str()))
            .expression_attribute_values(":seq", number(from.seq))
            .expression_attribute_values(":now", number(now.to_seconds().0))
            .set_exclusive_start_key(after.map(|user| key(log, user)))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| sdk_failed(QUERY, &error))?;
        let reader = |item: &Item| {
            Some(Receipt {
                user_id: user_of(item)?,
                seq: integer(item, "seq").ok()?,
            })
        };
        let readers = page.items().iter().map(reader);
        let readers = readers.collect::<Option<_>>();
        let next = match page.last_evaluated_key() {
            None => None,
            Some(last) => Some(user_of(last).ok_or_else(|| malformed(QUERY))?),
        };
        Ok(ReaderPage {
            readers: readers.ok_or_else(|| malformed(QUERY))?,
            next,
        })
    }

    async fn acks_of_users(
        &self,
        users: &[UserId],
        now: UnixMillis,
    ) -> Result<Vec<(UserId, Position)>, StoreError> {
        let mut acks = Vec::new();
        for users in users.chunks(BATCH) {
            let keys = users.iter().map(|user| key(&LogKey::user(user), user));
            let attributes = "#member, epoch, seq, expiresAt";
            let mut wanted = wanted(keys.collect(), attributes, Consistency::Eventual)?;
            wanted.expression_attribute_names = Some([("#member".into(), "member".into())].into());
            let items = self.batch(&self.tables.subscriptions, wanted).await?;
            for item in items.iter().filter(|item| counts(item, now)) {
                let ack = user_of(item).zip(read_position(item));
                acks.push(ack.ok_or_else(|| malformed("BatchGetItem"))?);
            }
        }
        Ok(acks)
    }
}

fn key(log: &LogKey, user: &UserId) -> Item {
    member_key(log.as_str(), &format!("{PREFIX}{user}"))
}

fn user_of(item: &Item) -> Option<UserId> {
    let user = string(item, "member").ok()?.strip_prefix(PREFIX)?;
    UserId::parse(user).ok()
}

fn read_position(item: &Item) -> Option<Position> {
    Some(Position {
        epoch: Epoch::parse(string(item, "epoch").ok()?).ok()?,
        seq: integer(item, "seq").ok()?,
    })
}

/// DynamoDB may keep an item for days after its TTL.
fn counts(item: &Item, now: UnixMillis) -> bool {
    integer(item, "expiresAt").is_ok_and(|end| end > now.to_seconds().0)
}

fn malformed(operation: &'static str) -> StoreError {
    failed(operation, "a malformed acknowledgement")
}
