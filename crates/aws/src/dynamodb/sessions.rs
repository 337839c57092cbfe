//! A frame's write to its connection's row: identity, expiry, liveness and
//! rate limit in one conditional update.

use std::time::Duration;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use belfry_core::UnixMillis;
use belfry_core::frames::{BucketLevel, TokenBucket};
use belfry_core::ports::{NotServed, Sessions, StoreError, Touched};
use belfry_protocol::ConnectionId;

use super::row::{self, Item, Row, integer, number};
use super::transaction::send_past_transactions;
use super::{DynamoDb, IS_LIVE, failed, key, sdk_failed};

const OPERATION: &str = "UpdateItem";

/// The bucket has a token.
pub(super) const HAS_TOKEN: &str =
    "(attribute_not_exists(bucketFullAt) OR bucketFullAt <= :latest)";

/// Takes a token.
pub(super) const TAKE_TOKEN: &str =
    "lastSeenAt = :seen, bucketFullAt = if_not_exists(bucketFullAt, :seen) + :interval";

/// Any frame answers the server's ping.
pub(super) const ANSWER_PING: &str = "REMOVE pingedAt, unreachableSince";

/// The condition of a live row with a valid token. Without the first part an
/// update would create a partial row.
pub(super) fn in_session() -> String {
    format!("attribute_exists(connectionId) AND {IS_LIVE} AND tokenExpiresAt > :now")
}

/// Result of a conditional update.
pub(super) enum Updated {
    /// The row after the update.
    Yes(Item),
    /// The row that did not meet the condition, if there is one.
    No(Option<Row>),
}

impl Sessions for DynamoDb {
    async fn touch(
        &self,
        id: &ConnectionId,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> Result<Touched, StoreError> {
        // Most frames find a full bucket.
        let update = self
            .frame(id, now)
            .update_expression(format!(
                "SET lastSeenAt = :seen, bucketFullAt = :full {ANSWER_PING}, refusals"
            ))
            .condition_expression(format!(
                "{} AND (attribute_not_exists(bucketFullAt) OR bucketFullAt <= :seen)",
                in_session()
            ))
            .expression_attribute_values(":full", number(now.plus(bucket.interval).0));
        match Box::pin(run(update)).await? {
            Updated::Yes(item) => live(&item),
            Updated::No(row) => match not_served(row.as_ref(), bucket, now) {
                None => Box::pin(self.take_token(id, bucket, now)).await,
                Some(NotServed::RateLimited { retry_after, .. }) => {
                    let refused = self.count_refusal(id, bucket, now, retry_after);
                    Box::pin(refused).await.map(Touched::NotServed)
                }
                Some(why) => Ok(Touched::NotServed(why)),
            },
        }
    }
}

impl DynamoDb {
    /// Counts a frame whose bucket is not full.
    pub(super) async fn take_token(
        &self,
        id: &ConnectionId,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> Result<Touched, StoreError> {
        let update = self
            .frame_taking_token(id, bucket, now)
            .update_expression(format!("SET {TAKE_TOKEN} {ANSWER_PING}"))
            .condition_expression(format!("{} AND {HAS_TOKEN}", in_session()));
        match run(update).await? {
            Updated::Yes(item) => live(&item),
            Updated::No(row) => {
                // A frame that came at the same time took the last token.
                let too_late = NotServed::RateLimited {
                    retry_after: bucket.interval,
                    refusals: 0,
                };
                let why = not_served(row.as_ref(), bucket, now);
                Ok(Touched::NotServed(why.unwrap_or(too_late)))
            }
        }
    }

    /// Counts a refusal. Any frame proves that the client lives, even a refused one.
    pub(super) async fn count_refusal(
        &self,
        id: &ConnectionId,
        bucket: &TokenBucket,
        now: UnixMillis,
        retry_after: Duration,
    ) -> Result<NotServed, StoreError> {
        let update = self
            .frame(id, now)
            .update_expression(format!(
                "SET lastSeenAt = :seen {ANSWER_PING} ADD refusals :one"
            ))
            .condition_expression(in_session())
            .expression_attribute_values(":one", number(1));
        Ok(match run(update).await? {
            Updated::Yes(item) => NotServed::RateLimited {
                retry_after,
                refusals: integer(&item, "refusals")
                    .map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX)),
            },
            // The session has ended meanwhile.
            Updated::No(row) => not_served(row.as_ref(), bucket, now).unwrap_or(NotServed::Unknown),
        })
    }

    /// An update for a frame whose bucket may not be full.
    pub(super) fn frame_taking_token(
        &self,
        id: &ConnectionId,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> UpdateItemFluentBuilder {
        let interval = u64::try_from(bucket.interval.as_millis()).unwrap_or(u64::MAX);
        self.frame(id, now)
            .expression_attribute_values(":interval", number(interval))
            .expression_attribute_values(":latest", number(bucket.latest_full_at(now).0))
    }

    /// An update for a frame that came now.
    fn frame(&self, id: &ConnectionId, now: UnixMillis) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.tables.connections)
            .set_key(Some(key(id)))
            .expression_attribute_values(":seen", number(now.0))
            .expression_attribute_values(":now", number(now.to_seconds().0))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }
}

pub(super) async fn run(update: UpdateItemFluentBuilder) -> Result<Updated, StoreError> {
    // A client may send while its successor replaces it.
    let error = match send_past_transactions(update).await {
        Ok(output) => return Ok(Updated::Yes(output.attributes.unwrap_or_default())),
        Err(error) => error,
    };
    let Some(UpdateItemError::ConditionalCheckFailedException(refused)) = error.as_service_error()
    else {
        return Err(sdk_failed(OPERATION, &error));
    };
    let row = refused.item().map(row::row).transpose();
    let row = row.map_err(|error| failed(OPERATION, error))?;
    Ok(Updated::No(row))
}

fn live(item: &Item) -> Result<Touched, StoreError> {
    let connection = row::connection(item).map_err(|error| failed(OPERATION, error))?;
    Ok(Touched::Live(connection))
}

/// Why a row did not meet a frame's condition. `None` if only the bucket was not
/// full, so that another attempt can take a token.
pub(super) fn not_served(
    row: Option<&Row>,
    bucket: &TokenBucket,
    now: UnixMillis,
) -> Option<NotServed> {
    let Some(row) = row.filter(|row| !row.connection.expires_at.has_passed(now)) else {
        return Some(NotServed::Unknown);
    };
    if row.connection.token_expires_at.has_passed(now) {
        return Some(NotServed::TokenExpired);
    }
    match bucket.level(row.bucket_full_at, now) {
        BucketLevel::Empty(retry_after) => Some(NotServed::RateLimited {
            retry_after,
            refusals: 0,
        }),
        BucketLevel::Full | BucketLevel::Partial => None,
    }
}
