use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use belfry_core::ports::{
    Acquired, BroadcastKey, Lease, Progress, Reservation, SegmentLeases, SegmentOffers,
    SegmentStates, SegmentView, StoreError,
};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{ConnectionId, Failures};

use super::row::{Item, integer, number, text};
use super::{DynamoDb, failed, sdk_failed, state, written};

/// The owner of a segment that is reserved for the next worker. No invocation's
/// id looks like it.
const NEXT_WORKER: &str = "*";

impl SegmentStates for DynamoDb {
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
}

impl SegmentOffers for DynamoDb {
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
                "SET leaseOwner = :next, leaseExpiresAt = :until, expiresAt = :end, \
                 isDone = if_not_exists(isDone, :no)",
            )
            .condition_expression(
                "(attribute_not_exists(isDone) OR isDone = :no) \
                 AND (attribute_not_exists(leaseExpiresAt) OR leaseExpiresAt <= :now)",
            )
            .expression_attribute_values(":next", text(NEXT_WORKER))
            .expression_attribute_values(":until", number(until.0))
            .expression_attribute_values(":end", number(expires_at.0))
            .expression_attribute_values(":now", number(now.0))
            .expression_attribute_values(":no", AttributeValue::Bool(false));
        written("UpdateItem", update.send().await).map(drop)
    }
}

impl SegmentLeases for DynamoDb {
    /// Invariant: `leaseVersion` grows with every acquisition, and a checkpoint is
    /// written only if it is the version that its worker acquired. So if
    /// two workers believe that they own the segment, only one can write.
    async fn acquire(
        &self,
        key: &BroadcastKey,
        segment: u32,
        owner: &str,
        now: UnixMillis,
        until: UnixMillis,
        expires_at: UnixSeconds,
    ) -> Result<Acquired, StoreError> {
        const OPERATION: &str = "UpdateItem";
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::segment(key, segment)))
            .update_expression(
                "SET leaseOwner = :owner, leaseExpiresAt = :until, expiresAt = :end, \
                 isDone = if_not_exists(isDone, :no) ADD leaseVersion :one",
            )
            .condition_expression(
                "(attribute_not_exists(isDone) OR isDone = :no) \
                 AND (attribute_not_exists(leaseExpiresAt) OR leaseExpiresAt <= :now \
                 OR leaseOwner = :owner OR leaseOwner = :next)",
            )
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":next", text(NEXT_WORKER))
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
                Ok(Acquired::Lease(Lease {
                    version: integer(&item, "leaseVersion").map_err(|_| malformed())?,
                    owner: owner.to_owned(),
                    progress: view.progress,
                }))
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    let item = refused.item().ok_or_else(malformed)?;
                    let (_, view) = view_of(item).ok_or_else(malformed)?;
                    Ok(if view.progress.is_done {
                        Acquired::Done
                    } else {
                        Acquired::LeasedUntil(view.reserved_until)
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
        reservation: Reservation,
    ) -> Result<bool, StoreError> {
        let (owner, until) = match reservation {
            Reservation::Owner(until) => (lease.owner.as_str(), until),
            Reservation::NextWorker(until) => (NEXT_WORKER, until),
        };
        let progress = &lease.progress;
        let failures = &progress.failures;
        let pending = progress
            .pending
            .iter()
            .map(|id| text(id.as_str()))
            .collect();
        // Whole values, not increments: writing them again changes nothing.
        let mut expression =
            "SET leaseOwner = :owner, leaseExpiresAt = :until, pendingIds = :pending, listingDone = :listed, \
             isDone = :done, accepted = :accepted, gone = :gone, throttled = :throttled, \
             tooLarge = :tooLarge, failed = :failed, notAttempted = :notAttempted"
                .to_owned();
        let mut update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::segment(key, segment)))
            .condition_expression("leaseVersion = :version")
            .expression_attribute_values(":version", number(lease.version))
            .expression_attribute_values(":until", number(until.0))
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":pending", AttributeValue::L(pending))
            .expression_attribute_values(":listed", AttributeValue::Bool(progress.listing_done))
            .expression_attribute_values(":done", AttributeValue::Bool(progress.is_done))
            .expression_attribute_values(":accepted", number(progress.success))
            .expression_attribute_values(":gone", number(failures.gone))
            .expression_attribute_values(":throttled", number(failures.throttled))
            .expression_attribute_values(":tooLarge", number(failures.too_large))
            .expression_attribute_values(":failed", number(failures.failed))
            .expression_attribute_values(":notAttempted", number(failures.not_attempted));
        if let Some(cursor) = &progress.cursor {
            expression.push_str(", #cursor = :cursor");
            // `cursor` is a reserved word of DynamoDB.
            update = update
                .expression_attribute_names("#cursor", "cursor")
                .expression_attribute_values(":cursor", text(cursor.to_string()));
        }
        written(
            "UpdateItem",
            update.update_expression(expression).send().await,
        )
    }

    async fn renew(
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
            .update_expression("SET leaseExpiresAt = :until")
            .condition_expression("leaseVersion = :version AND isDone = :no")
            .expression_attribute_values(":until", number(until.0))
            .expression_attribute_values(":version", number(lease.version))
            .expression_attribute_values(":no", AttributeValue::Bool(false));
        written("UpdateItem", update.send().await)
    }
}

/// A segment's number and state. `None` if the item is malformed. Attributes
/// that no checkpoint has written yet are absent.
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
    let cursor = match item.get("cursor") {
        // A malformed cursor must not start the segment again.
        Some(text) => Some(text.as_s().ok()?.parse().ok()?),
        None => None,
    };
    let progress = Progress {
        cursor,
        listing_done: flag("listingDone"),
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
    let reserved_until = UnixMillis(integer(item, "leaseExpiresAt").ok()?);
    let owner = item.get("leaseOwner").and_then(|owner| owner.as_s().ok())?;
    let view = SegmentView {
        reserved_until,
        is_leased: owner != NEXT_WORKER,
        progress,
    };
    Some((index, view))
}
