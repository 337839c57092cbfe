//! A frame's write to its connection's row: identity, expiry, liveness and
//! rate limit in one conditional update.

use std::time::Duration;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use belfry_core::UnixMillis;
use belfry_core::frames::{BucketLevel, TokenBucket};
use belfry_core::ports::{NotServed, Sessions, StoreError, Touched};
use belfry_protocol::ConnectionId;

use super::row::{self, Item, Row, integer, number};
use super::transaction::send_past_transactions;
use super::{DynamoDb, IS_LIVE, failed, key, sdk_failed};

const OPERATION: &str = "UpdateItem";

/// Any frame answers the server's ping.
const ANSWER_PING: &str = "REMOVE pingedAt, unreachableSince";

/// The condition of a live row with a valid token. Without the first part an
/// update would create a partial row.
fn in_session() -> String {
    format!("attribute_exists(connectionId) AND {IS_LIVE} AND tokenExpiresAt > :now")
}

/// What a frame changes in its row, apart from counting itself.
#[derive(Debug, Default)]
pub(super) struct FrameChange {
    /// Assignments of an update expression, each followed by a comma.
    pub(super) set: &'static str,
    /// A condition that begins with `AND`.
    pub(super) condition: &'static str,
    /// The values that the assignments and the condition refer to.
    pub(super) values: Vec<(&'static str, AttributeValue)>,
}

/// Result of a frame's write.
pub(super) enum Counted {
    /// The row after the frame was counted.
    Yes(Item),
    NotServed(NotServed),
    /// The row is in session and does not meet the condition of the
    /// [`FrameChange`]. The frame was not counted.
    Unmet,
}

/// Result of a conditional update.
#[expect(
    clippy::large_enum_variant,
    reason = "it is moved once, right after it is made"
)]
enum Updated {
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
        let no_change = FrameChange::default();
        self.touch_with(id, bucket, now, &no_change).await
    }

    async fn begin_session(
        &self,
        id: &ConnectionId,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> Result<Touched, StoreError> {
        let mark = FrameChange {
            set: "hasSession = :yes,",
            condition: "",
            values: vec![(":yes", AttributeValue::Bool(true))],
        };
        self.touch_with(id, bucket, now, &mark).await
    }

    async fn accept_batch(
        &self,
        id: &ConnectionId,
        bucket: &TokenBucket,
        begins_session: bool,
        now: UnixMillis,
    ) -> Result<Touched, StoreError> {
        let marks = FrameChange {
            set: if begins_session {
                "hasSession = :yes, accept = :yes,"
            } else {
                "accept = :yes,"
            },
            condition: "",
            values: vec![(":yes", AttributeValue::Bool(true))],
        };
        self.touch_with(id, bucket, now, &marks).await
    }
}

impl DynamoDb {
    /// Counts a frame that changes its row without a condition.
    async fn touch_with(
        &self,
        id: &ConnectionId,
        bucket: &TokenBucket,
        now: UnixMillis,
        change: &FrameChange,
    ) -> Result<Touched, StoreError> {
        match self.count_frame(id, bucket, now, change, |_| true).await? {
            Counted::Yes(item) => {
                let connection =
                    row::connection(&item).map_err(|error| failed(OPERATION, error))?;
                Ok(Touched::Live(connection))
            }
            Counted::NotServed(why) => Ok(Touched::NotServed(why)),
            // Without a condition there is no such row.
            Counted::Unmet => Ok(Touched::NotServed(NotServed::Unknown)),
        }
    }

    /// Takes a token from the connection's bucket, marks the row as seen now
    /// and changes what `change` says. `meets` tells whether a row meets the
    /// condition of `change`.
    ///
    /// Every frame is counted here. Invariant: a bucket that is full counts
    /// from now. DynamoDB has no maximum, so a full bucket and one that is
    /// filling have writes of their own. Most frames find a full bucket.
    pub(super) async fn count_frame(
        &self,
        id: &ConnectionId,
        bucket: &TokenBucket,
        now: UnixMillis,
        change: &FrameChange,
        meets: impl Fn(&Row) -> bool + Send,
    ) -> Result<Counted, StoreError> {
        let update = self
            .frame(id, now, change)
            .update_expression(format!(
                "SET {} lastSeenAt = :seen, bucketFullAt = :full {ANSWER_PING}, refusals",
                change.set
            ))
            .condition_expression(format!(
                "{} {} AND (attribute_not_exists(bucketFullAt) OR bucketFullAt <= :seen)",
                in_session(),
                change.condition
            ))
            .expression_attribute_values(":full", number(now.plus(bucket.interval).0));
        let row = match Box::pin(run(update)).await? {
            Updated::Yes(item) => return Ok(Counted::Yes(item)),
            Updated::No(row) => row,
        };
        let row = match countable(row, now, &meets) {
            Ok(row) => row,
            Err(uncounted) => return Ok(uncounted),
        };
        match bucket.level(row.bucket_full_at, now) {
            BucketLevel::Empty(retry_after) => {
                let refused = self.count_refusal(id, now, retry_after);
                Box::pin(refused).await.map(Counted::NotServed)
            }
            BucketLevel::Full | BucketLevel::Partial => {
                Box::pin(self.take_token(id, bucket, now, change, meets)).await
            }
        }
    }

    /// Counts a frame whose bucket is filling.
    async fn take_token(
        &self,
        id: &ConnectionId,
        bucket: &TokenBucket,
        now: UnixMillis,
        change: &FrameChange,
        meets: impl Fn(&Row) -> bool + Send,
    ) -> Result<Counted, StoreError> {
        let interval = u64::try_from(bucket.interval.as_millis()).unwrap_or(u64::MAX);
        let update = self
            .frame(id, now, change)
            .update_expression(format!(
                "SET {} lastSeenAt = :seen, bucketFullAt = bucketFullAt + :interval {ANSWER_PING}",
                change.set
            ))
            .condition_expression(format!(
                "{} {} AND bucketFullAt BETWEEN :seen AND :latest",
                in_session(),
                change.condition
            ))
            .expression_attribute_values(":interval", number(interval))
            .expression_attribute_values(":latest", number(bucket.latest_full_at(now).0));
        let row = match run(update).await? {
            Updated::Yes(item) => return Ok(Counted::Yes(item)),
            Updated::No(row) => row,
        };
        // A frame that came at the same time took the last token.
        let too_late = Counted::NotServed(NotServed::RateLimited {
            retry_after: bucket.interval,
            refusals: 0,
        });
        Ok(countable(row, now, &meets).err().unwrap_or(too_late))
    }

    /// Counts a refusal. Any frame proves that the client lives, even a refused one.
    async fn count_refusal(
        &self,
        id: &ConnectionId,
        now: UnixMillis,
        retry_after: Duration,
    ) -> Result<NotServed, StoreError> {
        let update = self
            .frame(id, now, &FrameChange::default())
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
            Updated::No(row) => in_session_row(row, now).err().unwrap_or(NotServed::Unknown),
        })
    }

    /// An update for a frame that came now.
    fn frame(
        &self,
        id: &ConnectionId,
        now: UnixMillis,
        change: &FrameChange,
    ) -> UpdateItemFluentBuilder {
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.connections)
            .set_key(Some(key(id)))
            .expression_attribute_values(":seen", number(now.0))
            .expression_attribute_values(":now", number(now.to_seconds().0))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let values = change.values.iter();
        values.fold(update, |update, (name, value)| {
            update.expression_attribute_values(*name, value.clone())
        })
    }
}

async fn run(update: UpdateItemFluentBuilder) -> Result<Updated, StoreError> {
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

/// The row, if only its bucket kept a frame from being counted; otherwise the
/// reason.
fn countable(
    row: Option<Row>,
    now: UnixMillis,
    meets: impl Fn(&Row) -> bool,
) -> Result<Row, Counted> {
    let row = in_session_row(row, now).map_err(Counted::NotServed)?;
    if meets(&row) {
        Ok(row)
    } else {
        Err(Counted::Unmet)
    }
}

/// The row if it is in session, or else why it is not.
fn in_session_row(row: Option<Row>, now: UnixMillis) -> Result<Row, NotServed> {
    let row = row.filter(|row| !row.connection.expires_at.has_passed(now));
    let row = row.ok_or(NotServed::Unknown)?;
    if row.connection.is_signed_out() {
        return Err(NotServed::SignedOut);
    }
    if row.connection.token_expires_at.has_passed(now) {
        return Err(NotServed::TokenExpired);
    }
    Ok(row)
}
