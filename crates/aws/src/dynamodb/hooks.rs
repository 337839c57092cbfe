//! Events that the application is to be told of: the partitions `hooks#00` to
//! `hooks#15` of `State`. `belfry_core::hooks` states the invariants.

use std::collections::VecDeque;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{Put, TransactWriteItem, Update};
use belfry_core::UnixMillis;
use belfry_core::hooks::{GIVE_UP_AFTER, HookSubject, PendingEvent};
use belfry_core::ports::{
    HookEvents, MetricEvent, Metrics, PendingEvents, StoreError, WaitingSubject,
};
use futures_util::future::try_join_all;

use super::row::{Item, integer, number, string, text};
use super::transaction::{Condition, IMPATIENT, Transaction, send_past_transactions};
use super::{DynamoDb, failed, sdk_failed, state};
use crate::clock::SystemClock;
use crate::lambda::LambdaHooks;
use crate::metrics::EmfMetrics;

const QUERY: &str = "Query";

const TRANSACTION: &str = "TransactWriteItems";

const SHARDS: u8 = 16;

/// Events of a subject that are listed at once.
const LISTED: usize = 100;

/// Pages of a shard, of 1 MB each, that one listing of what waits reads: about
/// 30,000 events. The next one lists the rest.
const MAX_PAGES: usize = 10;

/// Who delivers the events, if the application has a hook.
#[derive(Debug, Clone)]
pub(super) struct Hooks {
    pub(super) function: LambdaHooks,
    pub(super) metrics: EmfMetrics<SystemClock>,
}

impl HookEvents for DynamoDb {
    async fn waiting(&self) -> Result<Vec<WaitingSubject>, StoreError> {
        let shards = (0..SHARDS).map(|shard| self.waiting_in(shard));
        Ok(try_join_all(shards).await?.concat())
    }

    /// A query is no snapshot. It reads the newest event first: when that was
    /// written, the earlier ones were there, so it finds those too.
    async fn events_of(&self, subject: &HookSubject) -> Result<PendingEvents, StoreError> {
        let key = subject.key();
        let mut pages = self
            .query_hooks(shard_of(subject))
            .key_condition_expression("pk = :shard AND begins_with(sk, :subject)")
            .expression_attribute_values(":subject", text(format!("{}#", key.simple())))
            .scan_index_forward(false)
            .consistent_read(true)
            .into_paginator()
            .send();
        let (mut oldest, mut more) = (VecDeque::new(), false);
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| sdk_failed(QUERY, &error))?;
            for item in page.items.unwrap_or_default() {
                oldest.push_front(item);
                if oldest.len() > LISTED {
                    oldest.pop_back();
                    more = true;
                }
            }
        }
        let events = oldest.iter().map(read).collect::<Option<_>>();
        let events = events.ok_or_else(malformed)?;
        Ok(PendingEvents { events, more })
    }

    async fn forget_event(&self, event: &PendingEvent) -> Result<(), StoreError> {
        self.delete(&self.tables.state, key_of(event)).await
    }
}

impl DynamoDb {
    /// The item of an event, for the transaction that makes it true. `None` if
    /// the application has no hook.
    pub(super) fn put_event(
        &self,
        pending: &PendingEvent,
    ) -> Result<Option<TransactWriteItem>, StoreError> {
        if self.hooks.is_none() {
            return Ok(None);
        }
        // Long after it was given up, if anything delivers at all.
        let end = pending.at.plus(GIVE_UP_AFTER * 7).to_seconds();
        let put = Put::builder()
            .table_name(&self.tables.state)
            .set_item(Some(key_of(pending)))
            .item("at", number(pending.at.0))
            .item("event", text(pending.event.to_json()))
            .item("expiresAt", number(end.0))
            .build()
            .map_err(|error| failed(TRANSACTION, error))?;
        Ok(Some(TransactWriteItem::builder().put(put).build()))
    }

    /// Starts the delivery of an event that was just written. If that fails, the
    /// schedule delivers it.
    pub(super) async fn start_delivery(&self, subject: &HookSubject) {
        let Some(hooks) = &self.hooks else {
            return;
        };
        if let Err(reason) = hooks.function.start(subject).await {
            tracing::warn!(
                event = "hook.not-started",
                reason,
                "could not start the delivery of an event; the schedule delivers it"
            );
            hooks.metrics.record(MetricEvent::HookNotStarted);
        }
    }

    /// Sends a conditional update, together with the event that it makes true.
    /// Returns the item that did not meet the condition, empty if there was
    /// none, or `None` if the update was made.
    pub(super) async fn update_with_event(
        &self,
        update: UpdateItemFluentBuilder,
        pending: Option<&PendingEvent>,
    ) -> Result<Option<Item>, StoreError> {
        let put = match pending {
            Some(pending) => self.put_event(pending)?.zip(Some(pending)),
            None => None,
        };
        let Some((put, pending)) = put else {
            return super::presence::refused(send_past_transactions(update).await.map(drop));
        };
        let items = vec![in_transaction(&update)?, put];
        match self.transact(IMPATIENT, |_| items.clone().into()).await? {
            Transaction::Done => {
                Box::pin(self.start_delivery(&pending.subject())).await;
                Ok(None)
            }
            Transaction::Refused(conditions) => match conditions.into_iter().next() {
                Some(Condition::Failed(item)) => Ok(Some(item.unwrap_or_default())),
                _ => Err(failed(TRANSACTION, "an event has no condition")),
            },
        }
    }

    fn query_hooks(&self, shard: u8) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.tables.state)
            .expression_attribute_values(":shard", text(state::hooks_pk(shard)))
    }

    /// The subjects of a shard. A page continues after the last subject of the
    /// one before, however many events that has: `$` is the character after `#`.
    async fn waiting_in(&self, shard: u8) -> Result<Vec<WaitingSubject>, StoreError> {
        let mut waiting = Vec::new();
        let mut after = String::new();
        for _ in 0..MAX_PAGES {
            let page = self
                .query_hooks(shard)
                .key_condition_expression("pk = :shard AND sk > :after")
                .expression_attribute_values(":after", text(format!("{after}$")))
                .send()
                .await
                .map_err(|error| sdk_failed(QUERY, &error))?;
            for item in page.items() {
                let sk = string(item, "sk").map_err(|_| malformed())?;
                let (subject, _) = sk.split_once('#').ok_or_else(malformed)?;
                if subject != after {
                    subject.clone_into(&mut after);
                    let oldest = read(item).ok_or_else(malformed)?;
                    waiting.push(WaitingSubject {
                        subject: oldest.subject(),
                        since: oldest.at,
                    });
                }
            }
            if page.last_evaluated_key.is_none() {
                break;
            }
        }
        Ok(waiting)
    }
}

/// An update as a part of a transaction.
fn in_transaction(update: &UpdateItemFluentBuilder) -> Result<TransactWriteItem, StoreError> {
    let input = update.as_input();
    let update = Update::builder()
        .set_table_name(input.get_table_name().clone())
        .set_key(input.get_key().clone())
        .set_update_expression(input.get_update_expression().clone())
        .set_condition_expression(input.get_condition_expression().clone())
        .set_expression_attribute_names(input.get_expression_attribute_names().clone())
        .set_expression_attribute_values(input.get_expression_attribute_values().clone())
        .set_return_values_on_condition_check_failure(
            input.get_return_values_on_condition_check_failure().clone(),
        )
        .build()
        .map_err(|error| failed(TRANSACTION, error))?;
    Ok(TransactWriteItem::builder().update(update).build())
}

/// The shard of a subject. It never changes, not even in another build of
/// Belfry.
fn shard_of(subject: &HookSubject) -> u8 {
    subject.key().as_bytes()[0] % SHARDS
}

fn key_of(pending: &PendingEvent) -> Item {
    let subject = pending.subject();
    let (key, kind) = (subject.key(), pending.event.type_name());
    let sk = format!("{}#{:013}#{kind}", key.simple(), pending.at.0);
    state::hooks(shard_of(&subject), &sk)
}

fn read(item: &Item) -> Option<PendingEvent> {
    Some(PendingEvent {
        at: UnixMillis(integer(item, "at").ok()?),
        event: serde_json::from_str(string(item, "event").ok()?).ok()?,
    })
}

fn malformed() -> StoreError {
    failed(QUERY, "an event is malformed")
}
