//! What a frame does to its connection's row: identity, expiry, life and
//! budget in one conditional write.

use std::time::Duration;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use belfry_core::ports::{Extended, Extension, NotServed, StoreError, Touched};
use belfry_core::{Bucket, Budget, UnixMillis, UnixSeconds};
use belfry_protocol::{ConnectionId, UserId};

use super::transaction::past_transactions;
use super::{DynamoConnections, IS_LIVE, failed, key, sdk_failed};
use crate::row::{self, Item, Row, integer, number, text};
use crate::state;

const OPERATION: &str = "UpdateItem";

/// A bucket with a token.
const HAS_ONE: &str = "(attribute_not_exists(budgetFullAt) OR budgetFullAt <= :latest)";

/// Takes a token from it.
const TAKE_ONE: &str =
    "lastSeenAt = :seen, budgetFullAt = if_not_exists(budgetFullAt, :seen) + :interval";

/// Any frame answers a sweeper's ping.
const ANSWER_PING: &str = "REMOVE pingedAt, unreachableSince";

/// A live row whose token is not over. Without the first part an update would
/// create a partial row.
fn in_session() -> String {
    format!("attribute_exists(connectionId) AND {IS_LIVE} AND tokenExpiresAt > :now")
}

/// A conditional write: the row afterwards, or the row that did not meet the
/// condition.
enum Update {
    Done(Item),
    Refused(Option<Row>),
}

impl DynamoConnections {
    pub(super) async fn count_frame(
        &self,
        id: &ConnectionId,
        budget: &Budget,
        now: UnixMillis,
    ) -> Result<Touched, StoreError> {
        // The bucket of a client that is not in a hurry is full.
        let update = self
            .frame(id, now)
            .update_expression(format!(
                "SET lastSeenAt = :seen, budgetFullAt = :full {ANSWER_PING}, refusals"
            ))
            .condition_expression(format!(
                "{} AND (attribute_not_exists(budgetFullAt) OR budgetFullAt <= :seen)",
                in_session()
            ))
            .expression_attribute_values(":full", number(now.plus(budget.interval).0));
        match run(update).await? {
            Update::Done(item) => live(&item),
            Update::Refused(row) => match reason(row.as_ref(), budget, now) {
                None => self.take_one(id, budget, now).await,
                Some(NotServed::OverBudget { retry_after, .. }) => {
                    let refused = self.count_refusal(id, budget, now, retry_after).await;
                    refused.map(Err)
                }
                Some(why) => Ok(Err(why)),
            },
        }
    }

    /// Takes a frame from a bucket that is not full.
    async fn take_one(
        &self,
        id: &ConnectionId,
        budget: &Budget,
        now: UnixMillis,
    ) -> Result<Touched, StoreError> {
        let update = self
            .paying_frame(id, budget, now)
            .update_expression(format!("SET {TAKE_ONE} {ANSWER_PING}"))
            .condition_expression(format!("{} AND {HAS_ONE}", in_session()));
        match run(update).await? {
            Update::Done(item) => live(&item),
            Update::Refused(row) => {
                // A frame that came at the same moment took the last one.
                let too_late = NotServed::OverBudget {
                    retry_after: budget.interval,
                    refusals: 0,
                };
                Ok(Err(reason(row.as_ref(), budget, now).unwrap_or(too_late)))
            }
        }
    }

    /// Any frame proves life, also one that is refused.
    async fn count_refusal(
        &self,
        id: &ConnectionId,
        budget: &Budget,
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
            Update::Done(item) => NotServed::OverBudget {
                retry_after,
                refusals: integer(&item, "refusals")
                    .map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX)),
            },
            // It has ended meanwhile.
            Update::Refused(row) => reason(row.as_ref(), budget, now).unwrap_or(NotServed::Unknown),
        })
    }

    pub(super) async fn move_token_end(
        &self,
        id: &ConnectionId,
        extension: &Extension,
        budget: &Budget,
        now: UnixMillis,
    ) -> Result<Extended, StoreError> {
        let update = self
            .paying_frame(id, budget, now)
            .update_expression(format!(
                "SET tokenExpiresAt = :end, {TAKE_ONE} {ANSWER_PING}"
            ))
            .condition_expression(format!(
                "{} AND userId = :user AND tokenExpiresAt < :end AND {HAS_ONE}",
                in_session()
            ))
            .expression_attribute_values(":user", text(extension.user_id.as_str()))
            .expression_attribute_values(":end", number(extension.expires_at.0));
        let row = match run(update).await? {
            Update::Done(_) => return Ok(Extended::Until(extension.expires_at)),
            Update::Refused(row) => row,
        };
        let is_anothers = |row: &Row| row.connection.user_id != extension.user_id;
        match reason(row.as_ref(), budget, now) {
            Some(why @ (NotServed::Unknown | NotServed::TokenExpired)) => Ok(Extended::Not(why)),
            _ if row.as_ref().is_some_and(is_anothers) => Ok(Extended::OtherUser),
            Some(NotServed::OverBudget { retry_after, .. }) => {
                let refused = self.count_refusal(id, budget, now, retry_after).await;
                refused.map(Extended::Not)
            }
            // The end that stands is as late already.
            None => Ok(match self.take_one(id, budget, now).await? {
                Ok(row) => Extended::Until(row.token_expires_at),
                Err(why) => Extended::Not(why),
            }),
        }
    }

    pub(super) async fn mark(&self, user: &UserId) -> Result<Option<UnixSeconds>, StoreError> {
        let item = self.item(&self.tables.state, state::user(user)).await?;
        Ok(item.and_then(|item| integer(&item, "signedOutAt").ok().map(UnixSeconds)))
    }

    /// An update that takes a frame from a bucket that may not be full.
    fn paying_frame(
        &self,
        id: &ConnectionId,
        budget: &Budget,
        now: UnixMillis,
    ) -> UpdateItemFluentBuilder {
        let interval = u64::try_from(budget.interval.as_millis()).unwrap_or(u64::MAX);
        self.frame(id, now)
            .expression_attribute_values(":interval", number(interval))
            .expression_attribute_values(":latest", number(budget.latest_full_at(now).0))
    }

    /// An update of the row by a frame that came now.
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

async fn run(update: UpdateItemFluentBuilder) -> Result<Update, StoreError> {
    // A client may talk while its successor takes over its place.
    let error = match past_transactions(update).await {
        Ok(output) => return Ok(Update::Done(output.attributes.unwrap_or_default())),
        Err(error) => error,
    };
    let Some(UpdateItemError::ConditionalCheckFailedException(refused)) = error.as_service_error()
    else {
        return Err(sdk_failed(OPERATION, &error));
    };
    let row = refused.item().map(row::row).transpose();
    let row = row.map_err(|error| failed(OPERATION, error))?;
    Ok(Update::Refused(row))
}

fn live(item: &Item) -> Result<Touched, StoreError> {
    let connection = row::connection(item).map_err(|error| failed(OPERATION, error))?;
    Ok(Ok(connection))
}

/// Why a row did not meet a frame's condition; `None` where another try would
/// meet it, with a bucket that is not full.
fn reason(row: Option<&Row>, budget: &Budget, now: UnixMillis) -> Option<NotServed> {
    let Some(row) = row.filter(|row| !row.connection.expires_at.has_passed(now)) else {
        return Some(NotServed::Unknown);
    };
    if row.connection.token_expires_at.has_passed(now) {
        return Some(NotServed::TokenExpired);
    }
    match budget.look(row.budget_full_at, now) {
        Bucket::Empty(retry_after) => Some(NotServed::OverBudget {
            retry_after,
            refusals: 0,
        }),
        Bucket::Full | Bucket::Enough => None,
    }
}
