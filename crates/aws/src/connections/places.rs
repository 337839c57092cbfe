//! Places: how many connections there may be in all.
//!
//! One counter would be one item that every connect and disconnect of the
//! stack writes. There are several, each with its share of the places; a
//! connection begins with the one that its id points to.

use belfry_core::ports::{PARTS, StoreError};

use super::{DynamoConnections, failed};
use crate::row::{Item, integer};
use crate::state;

/// How many counters there are. A row's counter is also its part of the index
/// on time, so that counting a part of the index counts what a counter counts.
pub(super) const SLOTS: u32 = PARTS;

/// A counter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counter {
    /// How many places are taken.
    pub(super) connections: u64,
    /// How many were ever taken.
    pub(super) inserted: u64,
}

/// A counter's item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) number: u32,
    pub(super) counter: Counter,
    /// What the audit noted, and when: see `audit.rs`.
    pub(super) noted: Option<(Counter, u64)>,
    pub(super) audited_at: u64,
    /// Whether the last audit found more places taken than rows.
    pub(super) is_suspected: bool,
}

/// A counter's share of the places.
pub(super) fn capacity(total: u64, slot: u32) -> u64 {
    total / u64::from(SLOTS) + u64::from(u64::from(slot) < total % u64::from(SLOTS))
}

impl DynamoConnections {
    /// Every counter, as it is at this moment, in the order of their numbers.
    pub(super) async fn slots(&self) -> Result<Vec<Slot>, StoreError> {
        let keys = (0..SLOTS).map(state::slot).collect();
        let attributes = "pk, connections, inserted, notedConnections, notedInserted, notedAt, auditedAt, suspected";
        let items = self.batch(&self.tables.state, keys, attributes).await?;
        let mut slots: Vec<_> = (0..SLOTS).map(Slot::empty).collect();
        for item in &items {
            let slot = read(item)?;
            if let Some(place) = slots.get_mut(slot.number as usize) {
                *place = slot;
            }
        }
        Ok(slots)
    }

    /// One counter, as it is at this moment.
    pub(super) async fn slot(&self, number: u32) -> Result<Slot, StoreError> {
        let item = self.item(&self.tables.state, state::slot(number)).await?;
        item.as_ref().map_or_else(|| Ok(Slot::empty(number)), read)
    }

    /// Counters with a free place, in no particular order, so that many who
    /// look for the last places do not all try the same one.
    pub(super) async fn slots_with_room(&self, total: u64) -> Result<Vec<u32>, StoreError> {
        let has_room = |slot: &Slot| slot.counter.connections < capacity(total, slot.number);
        let slots = self.slots().await?;
        let with_room = slots.iter().filter(|slot| has_room(slot));
        let mut free: Vec<_> = with_room.map(|slot| slot.number).collect();
        fastrand::shuffle(&mut free);
        Ok(free)
    }
}

impl Slot {
    fn empty(number: u32) -> Self {
        Self {
            number,
            counter: Counter::default(),
            noted: None,
            audited_at: 0,
            is_suspected: false,
        }
    }
}

fn read(item: &Item) -> Result<Slot, StoreError> {
    let number = item.get("pk").and_then(|pk| pk.as_s().ok());
    let number = number
        .and_then(|pk| pk.strip_prefix("slot#"))
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| failed("BatchGetItem", "a counter without a number"))?;
    let field = |name| integer(item, name).unwrap_or(0);
    let noted = integer(item, "notedAt").ok().map(|at| {
        let counter = Counter {
            connections: field("notedConnections"),
            inserted: field("notedInserted"),
        };
        (counter, at)
    });
    Ok(Slot {
        number,
        counter: Counter {
            connections: field("connections"),
            inserted: field("inserted"),
        },
        noted,
        audited_at: field("auditedAt"),
        is_suspected: item.contains_key("suspected"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_the_whole() {
        for total in [0, 1, 15, 16, 17, 100, 12_345] {
            let shares: u64 = (0..SLOTS).map(|slot| capacity(total, slot)).sum();
            assert_eq!(shares, total);
        }
    }
}
