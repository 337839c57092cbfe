//! Broadcasts that are remembered: one item for each, and one for each of its
//! segments, in the table `State`.

use std::time::Duration;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use belfry_core::ports::{
    Begun, BroadcastKey, BroadcastRecord, BroadcastStore, Kept, Lease, Progress, SegmentView,
    StoreError, Taken,
};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{ConnectionId, Failures, MessageId};

use super::{DynamoConnections, condition_failed, failed, sdk_failed};
use crate::row::{self, Item, integer, number, text};
use crate::state;

/// Holds a segment that anyone may take. No invocation's id looks like it.
const ANYONE: &str = "*";

impl BroadcastStore for DynamoConnections {
    async fn begin(
        &self,
        id: &MessageId,
        record: &BroadcastRecord,
        expires_at: UnixSeconds,
    ) -> Result<Begun, StoreError> {
        const OPERATION: &str = "PutItem";
        let mut item = state::broadcast(id);
        item.extend([
            ("request".into(), text(record.request.as_str())),
            ("startedAt".into(), number(record.started_at.0)),
            ("segments".into(), number(record.segments.into())),
            ("expiresAt".into(), number(expires_at.0)),
        ]);
        let put = self
            .client
            .put_item()
            .table_name(&self.tables.state)
            .set_item(Some(item))
            // DynamoDB deletes what has expired, some day.
            .condition_expression("attribute_not_exists(pk) OR expiresAt <= :now")
            .expression_attribute_values(":now", number(record.started_at.to_seconds().0))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match put.send().await {
            Ok(_) => Ok(Begun::New),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(refused)) => {
                    let known = refused.item().and_then(record_of);
                    let known = known.ok_or_else(|| failed(OPERATION, "a malformed record"));
                    known.map(Begun::Known)
                }
                _ => Err(sdk_failed(OPERATION, &error)),
            },
        }
    }

    async fn record(
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

    async fn segments(&self, key: &BroadcastKey) -> Result<Vec<(u32, SegmentView)>, StoreError> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.tables.state)
            .key_condition_expression("pk = :broadcast AND begins_with(sk, :segment)")
            .expression_attribute_values(":broadcast", text(state::broadcast_pk(&key.id)))
            .expression_attribute_values(":segment", text(state::segments(key)))
            .consistent_read(true)
            .into_paginator()
            .send();
        let mut views = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| sdk_failed("Query", &error))?;
            for item in page.items() {
                let view = view_of(item).ok_or_else(|| failed("Query", "a malformed segment"));
                views.push(view?);
            }
        }
        Ok(views)
    }

    async fn offer(
        &self,
        key: &BroadcastKey,
        segment: u32,
        now: UnixMillis,
        until: UnixMillis,
        expires_at: UnixSeconds,
    ) -> Result<(), StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::segment(key, segment)))
            .update_expression(
                "SET holder = :anyone, heldUntil = :until, expiresAt = :end, \
                 isDone = if_not_exists(isDone, :no)",
            )
            .condition_expression(
                "(attribute_not_exists(isDone) OR isDone = :no) \
                 AND (attribute_not_exists(heldUntil) OR heldUntil <= :now)",
            )
            .expression_attribute_values(":anyone", text(ANYONE))
            .expression_attribute_values(":until", number(until.0))
            .expression_attribute_values(":end", number(expires_at.0))
            .expression_attribute_values(":now", number(now.0))
            .expression_attribute_values(":no", AttributeValue::Bool(false));
        written(update.send().await).map(drop)
    }

    /// Invariant: `takenTimes` grows with every taking, and a checkpoint is
    /// written only where it is what its worker has read. So of two workers
    /// that both believe to hold a segment one writes.
    async fn take(
        &self,
        key: &BroadcastKey,
        segment: u32,
        owner: &str,
        now: UnixMillis,
        until: UnixMillis,
        expires_at: UnixSeconds,
    ) -> Result<Taken, StoreError> {
        const OPERATION: &str = "UpdateItem";
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::segment(key, segment)))
            .update_expression(
                "SET holder = :owner, heldUntil = :until, expiresAt = :end, \
                 isDone = if_not_exists(isDone, :no) ADD takenTimes :one",
            )
            .condition_expression(
                "(attribute_not_exists(isDone) OR isDone = :no) \
                 AND (attribute_not_exists(heldUntil) OR heldUntil <= :now \
                 OR holder = :owner OR holder = :anyone)",
            )
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":anyone", text(ANYONE))
            .expression_attribute_values(":until", number(until.0))
            .expression_attribute_values(":end", number(expires_at.0))
            .expression_attribute_values(":now", number(now.0))
            .expression_attribute_values(":no", AttributeValue::Bool(false))
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let malformed = || failed(OPERATION, "a malformed segment");
        match update.send().await {
            Ok(output) => {
                let item = output.attributes.unwrap_or_default();
                let (_, view) = view_of(&item).ok_or_else(malformed)?;
                Ok(Taken::Yes(Lease {
                    version: integer(&item, "takenTimes").map_err(|_| malformed())?,
                    owner: owner.to_owned(),
                    progress: view.progress,
                }))
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    let item = refused.item().ok_or_else(malformed)?;
                    let (_, view) = view_of(item).ok_or_else(malformed)?;
                    Ok(if view.progress.is_done {
                        Taken::Done
                    } else {
                        Taken::Held(view.held_until)
                    })
                }
                _ => Err(sdk_failed(OPERATION, &error)),
            },
        }
    }

    async fn checkpoint(
        &self,
        key: &BroadcastKey,
        segment: u32,
        lease: &Lease,
        kept: Kept,
    ) -> Result<bool, StoreError> {
        let (holder, until) = match kept {
            Kept::ForOwner(until) => (lease.owner.as_str(), until),
            Kept::ForAnyone(until) => (ANYONE, until),
        };
        let progress = &lease.progress;
        let failures = &progress.failures;
        let pending = progress
            .pending
            .iter()
            .map(|id| text(id.as_str()))
            .collect();
        // Whole values, no sums: writing them again changes nothing.
        let mut expression =
            "SET holder = :holder, heldUntil = :until, pendingIds = :pending, isListed = :listed, \
             isDone = :done, accepted = :accepted, gone = :gone, throttled = :throttled, \
             tooLarge = :tooLarge, failed = :failed, notAttempted = :notAttempted"
                .to_owned();
        let mut update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::segment(key, segment)))
            .condition_expression("takenTimes = :version")
            .expression_attribute_values(":version", number(lease.version))
            .expression_attribute_values(":until", number(until.0))
            .expression_attribute_values(":holder", text(holder))
            .expression_attribute_values(":pending", AttributeValue::L(pending))
            .expression_attribute_values(":listed", AttributeValue::Bool(progress.is_listed))
            .expression_attribute_values(":done", AttributeValue::Bool(progress.is_done))
            .expression_attribute_values(":accepted", number(progress.success))
            .expression_attribute_values(":gone", number(failures.gone))
            .expression_attribute_values(":throttled", number(failures.throttled))
            .expression_attribute_values(":tooLarge", number(failures.too_large))
            .expression_attribute_values(":failed", number(failures.failed))
            .expression_attribute_values(":notAttempted", number(failures.not_attempted));
        if let Some(cursor) = &progress.cursor {
            expression.push_str(", place = :place");
            update = update.expression_attribute_values(":place", text(cursor.as_str()));
        }
        written(update.update_expression(expression).send().await)
    }

    async fn hold(
        &self,
        key: &BroadcastKey,
        segment: u32,
        lease: &Lease,
        until: UnixMillis,
    ) -> Result<bool, StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::segment(key, segment)))
            .update_expression("SET heldUntil = :until")
            .condition_expression("takenTimes = :version AND isDone = :no")
            .expression_attribute_values(":until", number(until.0))
            .expression_attribute_values(":version", number(lease.version))
            .expression_attribute_values(":no", AttributeValue::Bool(false));
        written(update.send().await)
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
        written(update.send().await)
    }

    async fn take_turn(
        &self,
        id: &MessageId,
        now: UnixMillis,
        interval: Duration,
    ) -> Result<Option<Duration>, StoreError> {
        const OPERATION: &str = "UpdateItem";
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::turn()))
            .update_expression("SET messageId = :id, takenAt = :now")
            .condition_expression("attribute_not_exists(takenAt) OR takenAt <= :before")
            .expression_attribute_values(":id", text(id.as_str()))
            .expression_attribute_values(":now", number(now.0))
            .expression_attribute_values(":before", number(now.minus(interval).0))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let error = match update.send().await {
            Ok(_) => return Ok(None),
            Err(error) => error,
        };
        let Some(UpdateItemError::ConditionalCheckFailedException(refused)) =
            error.as_service_error()
        else {
            return Err(sdk_failed(OPERATION, &error));
        };
        let item = refused.item();
        let has_it = item.and_then(|item| item.get("messageId"));
        if has_it == Some(&text(id.as_str())) {
            return Ok(None);
        }
        let taken_at = item.and_then(|item| integer(item, "takenAt").ok());
        let taken_at = taken_at.ok_or_else(|| failed(OPERATION, "a malformed turn"))?;
        Ok(Some(UnixMillis(taken_at).plus(interval).since(now)))
    }
}

/// Whether a conditional update was made.
fn written(
    sent: Result<UpdateItemOutput, SdkError<UpdateItemError, HttpResponse>>,
) -> Result<bool, StoreError> {
    match sent {
        Ok(_) => Ok(true),
        Err(error) if condition_failed(&error) => Ok(false),
        Err(error) => Err(sdk_failed("UpdateItem", &error)),
    }
}

fn record_of(item: &Item) -> Option<BroadcastRecord> {
    Some(BroadcastRecord {
        request: item.get("request")?.as_s().ok()?.clone(),
        started_at: UnixMillis(integer(item, "startedAt").ok()?),
        segments: u32::try_from(integer(item, "segments").ok()?).ok()?,
    })
}

/// A segment's number, and how far it is. What no checkpoint has written yet
/// is absent.
fn view_of(item: &Item) -> Option<(u32, SegmentView)> {
    let sk = item.get("sk")?.as_s().ok()?;
    let index = sk.rsplit('#').next()?.parse().ok()?;
    let flag = |name: &str| item.get(name).and_then(|value| value.as_bool().ok()) == Some(&true);
    let count = |name: &'static str| integer(item, name).unwrap_or_default();
    let pending = item.get("pendingIds").and_then(|list| list.as_l().ok());
    let pending = pending.into_iter().flatten().map(|id| {
        let id = id.as_s().ok()?;
        ConnectionId::parse(id.as_str()).ok()
    });
    let place = item.get("place").and_then(|place| place.as_s().ok());
    let progress = Progress {
        cursor: place.cloned(),
        is_listed: flag("isListed"),
        pending: pending.collect::<Option<_>>()?,
        success: count("accepted"),
        failures: Failures {
            gone: count("gone"),
            throttled: count("throttled"),
            too_large: count("tooLarge"),
            failed: count("failed"),
            not_attempted: count("notAttempted"),
        },
        is_done: flag("isDone"),
    };
    let held_until = UnixMillis(integer(item, "heldUntil").ok()?);
    let holder = item.get("holder").and_then(|holder| holder.as_s().ok())?;
    let view = SegmentView {
        held_until,
        is_taken: holder != ANYONE,
        progress,
    };
    Some((index, view))
}
