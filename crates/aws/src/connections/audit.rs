//! Comparing the counters with the rows.
//!
//! Counters and rows change in one transaction, so they differ only where
//! somebody else changed one of them: DynamoDB removed a row whose time was
//! over before a sweeper could, or an operator did.
//!
//! The rows of a counter are counted in the index, which is a moment behind.
//! So a counter is noted first, and compared at least [`LAG`] later: every row
//! that was there when it was noted is in the index by then. What was taken or
//! given back since may be in the index or not, and is believed either way.

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, Select};
use belfry_core::UnixMillis;
use belfry_core::ports::StoreError;

use super::places::{Counter, Slot};
use super::sweeping::DUE_INDEX;
use super::transaction::past_transactions;
use super::{DynamoConnections, condition_failed, sdk_failed};
use crate::row::{CONNECTION_ID, number};
use crate::state;

/// Longer than the index is ever behind, in milliseconds. (AWS: changes are
/// propagated "within a fraction of a second, under normal conditions".)
const LAG_MS: u64 = 30_000;

impl DynamoConnections {
    /// Compares the counter that was noted the longest ago, and notes the next
    /// one, to be compared next time.
    pub(super) async fn compare_a_counter(&self, now: UnixMillis) -> Result<(), StoreError> {
        let slots = self.slots().await?;
        let noted = slots.iter().filter_map(|slot| Some((slot.noted?.1, slot)));
        match noted.min_by_key(|(at, _)| *at) {
            Some((at, _)) if at.saturating_add(LAG_MS) > now.0 => return Ok(()),
            Some((_, slot)) => self.compare(slot.number, now).await?,
            None => {}
        }
        let unnoted = slots.iter().filter(|slot| slot.noted.is_none());
        match unnoted.min_by_key(|slot| slot.audited_at) {
            Some(next) => self.note(next, now).await,
            None => Ok(()),
        }
    }

    async fn note(&self, slot: &Slot, now: UnixMillis) -> Result<(), StoreError> {
        let update = self
            .of_counter(slot.number)
            .update_expression(
                "SET notedConnections = :connections, notedInserted = :inserted, notedAt = :now",
            )
            .expression_attribute_values(":connections", number(slot.counter.connections))
            .expression_attribute_values(":inserted", number(slot.counter.inserted))
            .expression_attribute_values(":now", number(now.0));
        let written = past_transactions(update).await;
        written
            .map(drop)
            .map_err(|error| sdk_failed("UpdateItem", &error))
    }

    /// A counter that says too little is corrected at once, since it lets too
    /// many in. One that says too much is corrected if it did so the last time
    /// it was compared, too: while a connection takes over another one's
    /// place the index may show neither of the two.
    async fn compare(&self, number: u32, now: UnixMillis) -> Result<(), StoreError> {
        // The rows first: what comes between the two reads counts as taken or
        // given back since the counter was noted.
        let rows = self.rows_in(number).await?;
        let slot = self.slot(number).await?;
        let Some((noted, _)) = slot.noted else {
            return Ok(());
        };
        let says = slot.counter.connections;
        let mut right = corrected(slot.counter, noted, rows);
        if right > says {
            // Rows without a place are in the index, too. They are few, and to
            // read all of them only for those would be dear.
            right = says;
            if rows > noted.connections + noted.connections / 8 {
                let holders = self.holders_in(number).await?;
                right = corrected(slot.counter, noted, holders).max(says);
            }
        }
        let is_suspected = right < says;
        if is_suspected && !slot.is_suspected {
            right = says;
        }
        if right != says {
            tracing::warn!(
                slot = number,
                rows,
                connections = right,
                "a counter differed from its rows and was corrected"
            );
        }
        self.set_right(&slot, right, is_suspected, now).await
    }

    /// Under the condition that nothing was taken or given back meanwhile.
    /// Otherwise the next time does it, since this counter's turn is over.
    async fn set_right(
        &self,
        slot: &Slot,
        right: u64,
        is_suspected: bool,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let forget_note = "REMOVE notedConnections, notedInserted, notedAt";
        let suspect = if is_suspected {
            format!("SET connections = :right, auditedAt = :now, suspected = :yes {forget_note}")
        } else {
            format!("SET connections = :right, auditedAt = :now {forget_note}, suspected")
        };
        let mut update = self
            .of_counter(slot.number)
            .update_expression(suspect)
            // A counter that was never used has no numbers.
            .condition_expression(
                "attribute_not_exists(connections) OR (connections = :says AND inserted = :inserted)",
            )
            .expression_attribute_values(":right", number(right))
            .expression_attribute_values(":now", number(now.0))
            .expression_attribute_values(":says", number(slot.counter.connections))
            .expression_attribute_values(":inserted", number(slot.counter.inserted));
        if is_suspected {
            update = update.expression_attribute_values(":yes", AttributeValue::Bool(true));
        }
        match past_transactions(update).await {
            Ok(_) => return Ok(()),
            Err(error) if condition_failed(&error) => {}
            Err(error) => return Err(sdk_failed("UpdateItem", &error)),
        }
        let update = self
            .of_counter(slot.number)
            .update_expression(format!("SET auditedAt = :now {forget_note}"))
            .expression_attribute_values(":now", number(now.0));
        let written = past_transactions(update).await;
        written
            .map(drop)
            .map_err(|error| sdk_failed("UpdateItem", &error))
    }

    fn of_counter(&self, slot: u32) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::slot(slot)))
    }

    /// How many rows the index has for a counter.
    async fn rows_in(&self, slot: u32) -> Result<u64, StoreError> {
        let mut pages = self
            .of_slot(slot)
            .select(Select::Count)
            .into_paginator()
            .send();
        let mut rows = 0;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| sdk_failed("Query", &error))?;
            rows += u64::try_from(page.count()).unwrap_or(0);
        }
        Ok(rows)
    }

    /// How many of them hold a place, read one by one.
    async fn holders_in(&self, slot: u32) -> Result<u64, StoreError> {
        let mut pages = self.of_slot(slot).limit(100).into_paginator().send();
        let mut holders = 0;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| sdk_failed("Query", &error))?;
            let keys = page.items.into_iter().flatten().map(|mut item| {
                item.retain(|name, _| name == CONNECTION_ID);
                item
            });
            let attributes = "connectionId, replacedAt";
            let rows = self
                .batch(&self.tables.connections, keys.collect(), attributes)
                .await?;
            let holding = rows.iter().filter(|row| !row.contains_key("replacedAt"));
            holders += holding.count() as u64;
        }
        Ok(holders)
    }

    fn of_slot(&self, slot: u32) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.tables.connections)
            .index_name(DUE_INDEX)
            .key_condition_expression("slot = :slot")
            .expression_attribute_values(":slot", number(slot.into()))
    }
}

/// What a counter should say, given what it said when it was noted, long
/// enough ago, and how many rows were found since then.
///
/// Rows there may be now: at most those found and all that came since the
/// note; at least those found without all that went since. A counter between
/// the two is left alone.
fn corrected(now: Counter, noted: Counter, rows: u64) -> u64 {
    let inserted = now.inserted.saturating_sub(noted.inserted);
    let released = (noted.connections + inserted).saturating_sub(now.connections);
    let (least, most) = (rows.saturating_sub(released), rows + inserted);
    now.connections.clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counter(connections: u64, inserted: u64) -> Counter {
        Counter {
            connections,
            inserted,
        }
    }

    #[test]
    fn at_rest_the_rows_are_right() {
        let counter = counter(10, 50);
        for rows in [0, 7, 10, 13] {
            assert_eq!(corrected(counter, counter, rows), rows);
        }
    }

    proptest! {
        /// However far the index is behind, a counter that is right stays, and
        /// one that is wrong is never corrected past what is right.
        #[test]
        fn it_never_makes_a_counter_worse(
            begin in 0u64..50,
            inserted in 0u64..20,
            released in 0u64..20,
            // Which of the changes since the note the index shows.
            shown_inserted in 0u64..20,
            shown_released in 0u64..20,
            drift in -20i64..20,
        ) {
            let released = released.min(begin + inserted);
            let (shown_inserted, shown_released) =
                (shown_inserted.min(inserted), shown_released.min(released));
            prop_assume!(begin + shown_inserted >= shown_released);
            let truth = begin + inserted - released;
            let rows = begin + shown_inserted - shown_released;
            prop_assume!(begin.checked_add_signed(drift).is_some());
            prop_assume!(truth.checked_add_signed(drift).is_some());
            let noted = counter(begin.strict_add_signed(drift), 100);
            let now = counter(truth.strict_add_signed(drift), 100 + inserted);
            let right = corrected(now, noted, rows);
            prop_assert!(right.abs_diff(truth) <= now.connections.abs_diff(truth));
            if drift >= 0 {
                prop_assert!(right >= truth, "more rows than places");
            }
        }
    }
}
