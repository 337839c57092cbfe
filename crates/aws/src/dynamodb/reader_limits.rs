//! What the HTTP readers of a user use: an item in `State`, with an attribute for
//! each place that is taken, and the bucket of what the user publishes.

use std::time::Duration;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use belfry_core::UnixMillis;
use belfry_core::frames::{BucketLevel, TokenBucket};
use belfry_core::ports::{Randomness, ReaderLimits, ReaderPlace, StoreError};
use belfry_protocol::UserId;

use super::row::{Item, integer, number};
use super::{DynamoDb, condition_failed, sdk_failed, state};
use crate::randomness::SystemRandomness;

const UPDATE: &str = "UpdateItem";

/// How often a place is tried that another reader was faster to take.
const ATTEMPTS: u32 = 10;

/// Longer than any place is taken and than any bucket needs to fill.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

impl ReaderLimits for DynamoDb {
    async fn take_place(
        &self,
        user: &UserId,
        places: u32,
        until: UnixMillis,
        now: UnixMillis,
    ) -> Result<Option<ReaderPlace>, StoreError> {
        let mut free: Vec<u32> = (0..places).collect();
        for _ in 0..ATTEMPTS {
            if free.is_empty() {
                break;
            }
            // At random, so that readers who come together seldom meet.
            let place = free[SystemRandomness.index(free.len())];
            let update = self
                .update_use(user, now)
                .update_expression("SET #place = :until, expiresAt = :end")
                .condition_expression("attribute_not_exists(#place) OR #place <= :now")
                .expression_attribute_names("#place", attribute(place))
                .expression_attribute_values(":until", number(until.0))
                .expression_attribute_values(":now", number(now.0));
            let Some(used) = refused(update).await? else {
                return Ok(Some(ReaderPlace {
                    number: place,
                    until,
                }));
            };
            let ends_at = |place: &u32| used.get(&attribute(*place))?.as_n().ok()?.parse().ok();
            let is_taken = |place: &u32| ends_at(place).is_some_and(|end: u64| end > now.0);
            free = (0..places).filter(|place| !is_taken(place)).collect();
        }
        Ok(None)
    }

    async fn leave_place(&self, user: &UserId, place: ReaderPlace) -> Result<(), StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::readers(user)))
            .update_expression("REMOVE #place")
            .condition_expression("#place = :until")
            .expression_attribute_names("#place", attribute(place.number))
            .expression_attribute_values(":until", number(place.until.0));
        match update.send().await {
            Ok(_) => Ok(()),
            Err(error) if condition_failed(&error) => Ok(()),
            Err(error) => Err(sdk_failed(UPDATE, &error)),
        }
    }

    /// As a connection's bucket: one that is full and one that is filling have
    /// writes of their own.
    async fn take_token(
        &self,
        user: &UserId,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> Result<Result<(), Duration>, StoreError> {
        let from_full = self
            .update_use(user, now)
            .update_expression("SET bucketFullAt = :full, expiresAt = :end")
            .condition_expression("attribute_not_exists(bucketFullAt) OR bucketFullAt <= :now")
            .expression_attribute_values(":full", number(now.plus(bucket.interval).0))
            .expression_attribute_values(":now", number(now.0));
        let Some(used) = refused(from_full).await? else {
            return Ok(Ok(()));
        };
        let full_at = integer(&used, "bucketFullAt").map_or(now, UnixMillis);
        if let BucketLevel::Empty(wait) = bucket.level(full_at, now) {
            return Ok(Err(wait));
        }
        let interval = u64::try_from(bucket.interval.as_millis()).unwrap_or(u64::MAX);
        let from_filling = self
            .update_use(user, now)
            .update_expression("SET bucketFullAt = bucketFullAt + :interval, expiresAt = :end")
            .condition_expression("bucketFullAt <= :latest")
            .expression_attribute_values(":interval", number(interval))
            .expression_attribute_values(":latest", number(bucket.latest_full_at(now).0));
        Ok(match refused(from_filling).await? {
            None => Ok(()),
            Some(_) => Err(bucket.interval),
        })
    }
}

impl DynamoDb {
    fn update_use(&self, user: &UserId, now: UnixMillis) -> UpdateItemFluentBuilder {
        let end = now.plus(LIFETIME).to_seconds();
        self.client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::readers(user)))
            .expression_attribute_values(":end", number(end.0))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }
}

/// The item as it is, if the condition of an update did not hold.
async fn refused(update: UpdateItemFluentBuilder) -> Result<Option<Item>, StoreError> {
    match update.send().await {
        Ok(_) => Ok(None),
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                Ok(Some(refused.item().cloned().unwrap_or_default()))
            }
            _ => Err(sdk_failed(UPDATE, &error)),
        },
    }
}

fn attribute(place: u32) -> String {
    format!("place{place}")
}
