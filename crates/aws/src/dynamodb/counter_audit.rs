//! Compares the shards' counters with their rows.
//!
//! Counters and rows change in one transaction, so they differ only if somebody
//! else changed one of them: an operator, or DynamoDB, which removed an expired
//! row before a sweep did.
//!
//! A shard's rows are counted in the due index, which lags. So a counter is
//! noted first and compared at least [`LAG_MS`] later: by then, every row that
//! existed when it was noted is in the index. Changes since then may be in the
//! index or not, and the counter is believed either way.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, Select};
use belfry_core::UnixMillis;
use belfry_core::ports::StoreError;
use belfry_protocol::ConnectionId;

use super::due_connections::DUE_INDEX;
use super::row::{self, Item, SHARD, number};
use super::shard_counters::{Counter, Note, SHARDS, Shard};
use super::transaction::send_past_transactions;
use super::{BATCH, Consistency, DynamoDb, key, sdk_failed, state, wanted, written};

/// More than the index ever lags, in milliseconds. (AWS: changes are propagated
/// "within a fraction of a second, under normal conditions".)
const LAG_MS: u64 = 30_000;

/// How long a note or a suspicion says something of now, in milliseconds: a few
/// rounds of audits.
const VALID_MS: u64 = 3_600_000;

/// Counters in an audit. With one audit a minute, each counter is compared
/// every quarter of an hour.
const AT_A_TIME: usize = SHARDS as usize / 16;

impl DynamoDb {
    /// Compares the counters that were noted with their rows, corrects those
    /// that are wrong, and notes the next ones. A correct counter stays
    /// correct.
    ///
    /// # Errors
    /// [`StoreError`]; the next audit continues.
    pub async fn audit_counters(&self, now: UnixMillis) -> Result<(), StoreError> {
        let shards = self.shards(Consistency::Eventual).await?;
        let age_of_note = |shard: &Shard| shard.note.map(|note| Age::of(note.at, now));
        if shards
            .iter()
            .any(|shard| age_of_note(shard) == Some(Age::Young))
        {
            return Ok(());
        }
        let (noted, mut others): (Vec<&Shard>, Vec<&Shard>) = shards
            .iter()
            .partition(|shard| age_of_note(shard) == Some(Age::Valid));
        for shard in noted {
            self.compare(shard.number, now).await?;
        }
        others.sort_by_key(|shard| shard.audited_at);
        for next in others.into_iter().take(AT_A_TIME) {
            self.note(next.number, now).await?;
        }
        Ok(())
    }

    /// Copies the counter in one write. A counter that was never used, or was
    /// lost, gets the numbers that one has.
    async fn note(&self, shard: u32, now: UnixMillis) -> Result<(), StoreError> {
        let copies = [
            "connections = if_not_exists(connections, :zero)",
            "inserted = if_not_exists(inserted, :zero)",
            "notedConnections = if_not_exists(connections, :zero)",
            "notedInserted = if_not_exists(inserted, :zero)",
        ];
        let update = self
            .counter_update(shard)
            .update_expression(format!("SET {}, notedAt = :now", copies.join(", ")))
            .expression_attribute_values(":zero", number(0))
            .expression_attribute_values(":now", number(now.0));
        let sent = send_past_transactions(update).await;
        sent.map(drop)
            .map_err(|error| sdk_failed("UpdateItem", &error))
    }

    /// Corrects the counter, or keeps what it was suspected of for the next
    /// comparison.
    async fn compare(&self, number: u32, now: UnixMillis) -> Result<(), StoreError> {
        // The rows first: changes between the two reads count as changes since
        // the counter was noted.
        let rows = self.rows_in(number).await?;
        let shard = self.shard(number).await?;
        // Another audit may have noted the counter after the rows were listed.
        let note = shard
            .note
            .filter(|note| Age::of(note.at, now) == Age::Valid);
        let Some(Note { counter: noted, .. }) = note else {
            return Ok(());
        };
        let suspected = match Age::of(shard.audited_at, now) {
            Age::Valid => shard.suspected,
            // What the last comparison saw may be under way still, or is long over.
            Age::Young | Age::Void => 0,
        };
        let mut raise = too_low(shard.counter, noted, rows);
        if raise > 0 {
            raise = self.missing(&shard, noted).await?;
        }
        let excess = too_high(shard.counter, noted, rows);
        let correction = Correction::new(raise, excess, suspected);
        if !self.end_comparison(&shard, correction, now).await? {
            // Whatever prevented the write, the difference is no longer known.
            self.end_comparison(&shard, Correction::default(), now)
                .await?;
        } else if correction.raise > 0 || correction.lower > 0 {
            tracing::warn!(
                event = "counters.corrected",
                shard = number,
                rows,
                connections = shard.counter.connections + correction.raise - correction.lower,
                "a counter differed from its rows and was corrected"
            );
        }
        Ok(())
    }

    /// By how much the counter is too low if the rows are read one by one:
    /// connections that were replaced are in the index but do not count.
    async fn missing(&self, shard: &Shard, noted: Counter) -> Result<u64, StoreError> {
        // The rows first, again.
        let counted = self.counted_in(shard.number).await?;
        let shard = self.shard(shard.number).await?;
        Ok(too_low(shard.counter, noted, counted))
    }

    /// Ends a comparison. Writes nothing if another audit ended it, or if the
    /// counter is too small to be lowered so far.
    ///
    /// Connections may come and go meanwhile: they change the counter and its
    /// rows alike, and leave the difference as it is.
    async fn end_comparison(
        &self,
        shard: &Shard,
        correction: Correction,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let Some(note) = shard.note else {
            return Ok(false);
        };
        let update = self
            .counter_update(shard.number)
            // Raised connections count as inserted, so that a correction
            // changes the counter as connections would.
            .update_expression(
                "SET connections = connections + :change, inserted = inserted + :raise, \
                 suspected = :suspected, auditedAt = :now \
                 REMOVE notedConnections, notedInserted, notedAt",
            )
            .condition_expression("notedAt = :notedAt AND connections >= :lower")
            .expression_attribute_values(":change", correction.change())
            .expression_attribute_values(":raise", number(correction.raise))
            .expression_attribute_values(":lower", number(correction.lower))
            .expression_attribute_values(":suspected", number(correction.suspected))
            .expression_attribute_values(":now", number(now.0))
            .expression_attribute_values(":notedAt", number(note.at));
        written("UpdateItem", send_past_transactions(update).await)
    }

    fn counter_update(&self, shard: u32) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::shard(shard)))
    }

    /// The number of a shard's rows in the index.
    async fn rows_in(&self, shard: u32) -> Result<u64, StoreError> {
        let mut pages = self
            .rows_of(shard)
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

    /// The number of a shard's connections that count, by reading every row.
    ///
    /// The listing ends before the first row is read. If a connection was listed
    /// that replaced another, the other one's row says so by now, and the two
    /// count once.
    async fn counted_in(&self, shard: u32) -> Result<u64, StoreError> {
        let ids: Vec<_> = self.ids_in(shard).await?.into_iter().collect();
        let mut counted = 0;
        for ids in ids.chunks(BATCH) {
            let keys = ids.iter().map(key).collect();
            let attributes = "connectionId, replacedAt, #shard";
            let mut wanted = wanted(keys, attributes, Consistency::Strong)?;
            wanted.expression_attribute_names =
                Some(HashMap::from([("#shard".into(), SHARD.into())]));
            let rows = self.batch(&self.tables.connections, wanted).await?;
            let counts = |row: &&Item| {
                !row.contains_key("replacedAt") && row.get(SHARD) == Some(&number(shard.into()))
            };
            counted += rows.iter().filter(counts).count() as u64;
        }
        Ok(counted)
    }

    /// The ids in a shard of the index, each once: the index may show a row
    /// twice whose `dueAt` has just changed.
    async fn ids_in(&self, shard: u32) -> Result<BTreeSet<ConnectionId>, StoreError> {
        let mut pages = self.rows_of(shard).into_paginator().send();
        let mut ids = BTreeSet::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| sdk_failed("Query", &error))?;
            ids.extend(page.items().iter().filter_map(|item| row::id(item).ok()));
        }
        Ok(ids)
    }

    fn rows_of(&self, shard: u32) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.tables.connections)
            .index_name(DUE_INDEX)
            .key_condition_expression("#shard = :shard")
            .expression_attribute_names("#shard", SHARD)
            .expression_attribute_values(":shard", number(shard.into()))
    }
}

/// How old a note or a suspicion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    /// Changes that it does not know may not be in the index yet.
    Young,
    Valid,
    /// Too old, or from a clock that was wrong.
    Void,
}

impl Age {
    fn of(at: u64, now: UnixMillis) -> Self {
        match (now.0.checked_sub(at), at.abs_diff(now.0)) {
            (_, ..LAG_MS) => Self::Young,
            (Some(_), ..=VALID_MS) => Self::Valid,
            _ => Self::Void,
        }
    }
}

/// By how much a counter is too low at least, if so many rows that count were
/// found since it was noted: all of them count now but those that went since.
fn too_low(now: Counter, noted: Counter, counted: u64) -> u64 {
    let inserted = now.inserted.saturating_sub(noted.inserted);
    let released = (noted.connections + inserted).saturating_sub(now.connections);
    counted.saturating_sub(released + now.connections)
}

/// By how much a counter is too high at least, if so many rows were found since
/// it was noted: no others count now but those that came since.
fn too_high(now: Counter, noted: Counter, rows: u64) -> u64 {
    let inserted = now.inserted.saturating_sub(noted.inserted);
    now.connections.saturating_sub(rows + inserted)
}

/// Result of a comparison.
#[derive(Debug, Clone, Copy, Default)]
struct Correction {
    raise: u64,
    lower: u64,
    /// By how much the counter may still be too high.
    suspected: u64,
}

impl Correction {
    /// A counter that is too low is corrected at once, because it admits too
    /// many. One that is too high is corrected by as much as two comparisons in
    /// a row saw: while a connection replaces another or `dueAt` moves, the
    /// index may show fewer rows than there are.
    fn new(raise: u64, excess: u64, suspected: u64) -> Self {
        let lower = excess.min(suspected);
        Self {
            raise,
            lower,
            suspected: excess - lower,
        }
    }

    fn change(self) -> AttributeValue {
        let Self { raise, lower, .. } = self;
        AttributeValue::N(if lower > 0 {
            format!("-{lower}")
        } else {
            raise.to_string()
        })
    }
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
    fn a_note_is_valid_after_the_lag_and_for_an_hour() {
        let now = UnixMillis(100 * VALID_MS);
        let before = |ms| Age::of(now.0 - ms, now);
        assert_eq!([before(0), before(LAG_MS - 1)], [Age::Young; 2]);
        assert_eq!([before(LAG_MS), before(VALID_MS)], [Age::Valid; 2]);
        assert_eq!([before(VALID_MS + 1), before(now.0)], [Age::Void; 2]);
        assert_eq!(Age::of(now.0 + LAG_MS - 1, now), Age::Young);
        for ahead in [LAG_MS, VALID_MS + 1] {
            assert_eq!(Age::of(now.0 + ahead, now), Age::Void);
        }
    }

    #[test]
    fn without_changes_the_rows_are_right() {
        let counter = counter(10, 50);
        for rows in [0, 7, 10, 13] {
            assert_eq!(too_low(counter, counter, rows), rows.saturating_sub(10));
            assert_eq!(too_high(counter, counter, rows), 10u64.saturating_sub(rows));
        }
    }

    proptest! {
        /// However far the index lags, a correct counter stays, and a wrong one
        /// is never corrected beyond the truth.
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
            let excess = too_high(now, noted, rows);
            prop_assert!(excess <= now.connections.saturating_sub(truth));
            let missing = too_low(now, noted, rows);
            prop_assert!(missing <= truth.saturating_sub(now.connections));
        }
    }
}
